// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.

package banyandtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range lies below the kernel's ephemeral ports: an outgoing connection could otherwise take a port between our
// choice and the server's start.
const (
	firstPort = 20000
	lastPort  = 31999
	portTries = 1000
)

// FreeAddress returns a loopback address, as host:port, that nobody listens on.
func FreeAddress() (string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(loopback, strconv.Itoa(ports[0])), nil
}

// freePorts returns n loopback ports that nobody listens on. They are chosen at random, so that servers that start at
// the same time do not collide.
func freePorts(n int) ([]int, error) {
	var (
		ports []int
		held  []net.Listener
		last  error
	)
	defer func() {
		for _, l := range held {
			_ = l.Close()
		}
	}()
	for range portTries {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		// Held until all are chosen, so that no port is chosen twice.
		listener, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		held = append(held, listener)
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("found fewer than %d free ports from %d to %d: %w", n, firstPort, lastPort, last)
}
