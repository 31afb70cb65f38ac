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

package api

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// connections is a listener with a bounded number of open connections. For each one above the bound, another is closed:
// the oldest that has never passed the guard, whatever it does, or else the longest idle. One that has passed the guard
// and is being answered is not closed; if all are such, the new one is closed.
//
// netutil.LimitListener and the like make the new one wait instead: clients without the token could lock out those that
// have it.
type connections struct {
	net.Listener
	max int

	mu     sync.Mutex // guards what follows, and the mutable fields of each connection
	open   map[*connection]struct{}
	closed bool
}

// connection is an accepted connection.
type connection struct {
	net.Conn
	all      *connections
	since    time.Time // it was accepted or, once it has passed the guard, a request last began or ended
	requests int       // being answered
	admitted bool      // one of its requests has passed the guard
}

// localAddr leads from what the servers expose of a connection, with or without TLS, to the connection itself.
type localAddr struct {
	net.Addr
	connection *connection
}

// LocalAddr returns a localAddr.
func (c *connection) LocalAddr() net.Addr { return localAddr{c.Conn.LocalAddr(), c} }

// Accept returns the next connection, and closes another one if there are too many.
func (l *connections) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &connection{Conn: conn, all: l, since: time.Now()}
		out := l.add(c)
		if out != nil {
			// It is evicted: an error from closing it does not matter.
			_ = out.Close()
		}
		if out != c {
			return c, nil
		}
	}
}

// add registers a new connection, and returns the one to close for it: nil if there is room, itself if it is refused.
func (l *connections) add(c *connection) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return c
	}
	var out *connection
	if len(l.open) >= l.max {
		out = slices.MinFunc(slices.Collect(maps.Keys(l.open)), func(a, b *connection) int {
			return cmp.Or(a.worth()-b.worth(), a.since.Compare(b.since))
		})
		if out.worth() == answered {
			return c
		}
		delete(l.open, out)
	}
	l.open[c] = struct{}{}
	return out
}

// What a connection is worth, least first.
const (
	stranger = iota
	idle
	answered
)

func (c *connection) worth() int {
	switch {
	case !c.admitted:
		return stranger
	case c.requests == 0:
		return idle
	}
	return answered
}

// admit records that a request has passed the guard, begin and end record that one starts and stops being answered.
func (c *connection) admit() { c.change(func() { c.admitted = true }) }
func (c *connection) begin() { c.change(func() { c.requests++ }) }
func (c *connection) end()   { c.change(func() { c.requests-- }) }

func (c *connection) change(change func()) {
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	if change(); c.admitted {
		c.since = time.Now()
	}
}

// Close may be called again.
func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// refuse closes the connections that have not passed the guard, and accepts no more.
func (l *connections) refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		if !c.admitted {
			_ = c.Conn.Close()
		}
	}
}
