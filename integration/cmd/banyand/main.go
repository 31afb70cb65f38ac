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

// Command banyand is the BanyanDB server with eBPF self-observation, see --ebpf-enabled.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
	"github.com/apache/skywalking-banyandb/pkg/bus"
	"github.com/apache/skywalking-banyandb/pkg/cmdsetup"
	"github.com/apache/skywalking-banyandb/pkg/signal"
)

func main() {
	if err := execute(os.Args[1:]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func execute(args []string) error {
	ebpf := runservice.Command(observer.Options{})
	if len(args) > 0 && args[0] == ebpf.Name() {
		// Before the roles are set up, which logs many lines that are irrelevant here.
		ebpf.SetArgs(args[1:])
		return ebpf.Execute()
	}
	bus.Interceptor = runservice.Intercept
	var root *cobra.Command
	root = cmdsetup.NewRootWithUnits(runservice.Units(func() *cobra.Command { return root }), new(signal.Handler))
	root.AddCommand(ebpf)
	root.SetArgs(args)
	return root.Execute()
}
