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

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/apache/skywalking-banyandb/ebpf/integration/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// idle is how long a server is left alone before its memory is read.
const idle = 2 * time.Second

// timedConn notes how long each query takes.
type timedConn struct {
	grpc.ClientConnInterface
	took []time.Duration
	mu   sync.Mutex
}

// Invoke makes a call that is no stream: a query is one.
func (c *timedConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	start := time.Now()
	err := c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	if err == nil && strings.HasSuffix(method, "/Query") {
		c.mu.Lock()
		c.took = append(c.took, time.Since(start))
		c.mu.Unlock()
	}
	return err
}

// p99 is the 99th percentile of the queries since the last call, in nanoseconds.
func (c *timedConn) p99() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sorted := make([]float64, 0, len(c.took))
	for _, d := range c.took {
		sorted = append(sorted, float64(d.Nanoseconds()))
	}
	c.took = nil
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return quantile(sorted, 0.99)
}

// servers measures new servers under full load, with and without the observer and beside KTM, in random order.
func (b *bench) servers(ctx context.Context) error {
	kinds := []string{serverOff, serverOn}
	if b.peer != nil {
		kinds = append(kinds, serverKTM)
	}
	return b.eachRound(ctx, "servers", func() error {
		rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		resident := make(map[string]float64)
		for _, kind := range kinds {
			memory, err := b.server(ctx, kind)
			if err != nil {
				return fmt.Errorf("server with eBPF %s: %w", kind, err)
			}
			resident[kind] = memory
		}
		b.results.add(residentName, 1, value{"added-" + bytes, resident[serverOn] - resident[serverOff]}, value{"off-" + bytes, resident[serverOff]})
		return nil
	})
}

// server runs one server under load and returns its resident memory before that.
func (b *bench) server(ctx context.Context, kind string) (resident float64, err error) {
	flags := slices.Clone(load.ServerFlags)
	if kind == serverOn {
		// A module that is shed meanwhile would look cheaper than it is.
		flags = append(flags, "--ebpf-enabled", "--ebpf-max-overhead=0")
	}
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: flags, Dir: b.dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	time.Sleep(idle)
	if resident, err = residentMemory(server.PID()); err != nil {
		return 0, err
	}
	if kind == serverKTM {
		a, err := ktmTool(b.peer).attach(kprobe.Scope{})
		if err != nil {
			return 0, err
		}
		defer a.close()
	}
	stats, p99, err := drive(ctx, server, b.warm, b.window)
	if err != nil {
		return 0, err
	}
	total, seconds := stats.Total(), stats.Elapsed.Seconds()
	if total.WriteErrors+total.QueryErrors > 0 {
		return 0, fmt.Errorf("%d points refused, %d queries failed: %w", total.WriteErrors, total.QueryErrors, stats.FirstError)
	}
	b.results.add(serverName(kind), int(total.Queries), value{"points/s", float64(total.Written) / seconds},
		value{"queries/s", float64(total.Queries) / seconds}, value{"p99-ns", p99})
	return resident, nil
}

// drive puts full load on a server and returns what the second part of it came to.
func drive(ctx context.Context, server *banyandtest.Server, warm, window time.Duration) (load.Stats, float64, error) {
	dialed, err := server.Dial()
	if err != nil {
		return load.Stats{}, 0, err
	}
	defer dialed.Close()
	conn := &timedConn{ClientConnInterface: dialed}
	if _, err = load.Run(ctx, conn, load.Options{Duration: warm, Pause: -1}); err != nil {
		return load.Stats{}, 0, err
	}
	conn.p99()
	stats, err := load.Run(ctx, conn, load.Options{Duration: window, Pause: -1})
	if err == nil {
		err = ctx.Err()
	}
	return stats, conn.p99(), err
}

// throughput is what a window came to.
type throughput struct{ points, queries, p99 float64 }

// windows measures one server under load while tools are attached to it and detached, in random order.
func (b *bench) windows(ctx context.Context) (err error) {
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: load.ServerFlags, Dir: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	dialed, err := server.Dial()
	if err != nil {
		return err
	}
	defer dialed.Close()
	conn := &timedConn{ClientConnInterface: dialed}
	if _, err = load.Run(ctx, conn, load.Options{Duration: b.warm, Pause: -1}); err != nil {
		return err
	}
	tools := []tool{ours(defaults, b.options())}
	if b.peer != nil {
		tools = append(tools, ktmTool(b.peer))
	}
	// The server is our child: in the initial pid namespace, where this runs, its process id is the scope.
	scope := kprobe.Scope{TGID: uint32(server.PID())}
	return b.eachRound(ctx, "windows", func() error {
		rand.Shuffle(len(tools), func(i, j int) { tools[i], tools[j] = tools[j], tools[i] })
		before, err := window(ctx, conn, b.short)
		if err != nil {
			return err
		}
		for _, t := range tools {
			with, err := windowWith(ctx, conn, b.short, t, scope)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			after, err := window(ctx, conn, b.short)
			if err != nil {
				return err
			}
			b.results.add(windowName(t.name), 1, with.values()...)
			off := throughput{(before.points + after.points) / 2, (before.queries + after.queries) / 2, (before.p99 + after.p99) / 2}
			b.results.add(withoutName(t.name), 1, off.values()...)
			before = after
		}
		return nil
	})
}

func (t throughput) values() []value {
	return []value{{"points/s", t.points}, {"queries/s", t.queries}, {"p99-ns", t.p99}}
}

func windowWith(ctx context.Context, conn *timedConn, length time.Duration, t tool, scope kprobe.Scope) (throughput, error) {
	a, err := t.attach(scope)
	if err != nil {
		return throughput{}, err
	}
	with, err := window(ctx, conn, length)
	if err == nil {
		var counted uint64
		if counted, err = a.preads(); err == nil && counted == 0 {
			err = errors.New("nothing was counted: is this the initial pid namespace?")
		}
	}
	return with, errors.Join(err, a.close())
}

func window(ctx context.Context, conn *timedConn, length time.Duration) (throughput, error) {
	conn.p99()
	stats, err := load.Run(ctx, conn, load.Options{Duration: length, Pause: -1})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return throughput{}, err
	}
	total, seconds := stats.Total(), stats.Elapsed.Seconds()
	if total.WriteErrors+total.QueryErrors > 0 {
		return throughput{}, fmt.Errorf("%d points refused, %d queries failed: %w", total.WriteErrors, total.QueryErrors, stats.FirstError)
	}
	return throughput{points: float64(total.Written) / seconds, queries: float64(total.Queries) / seconds, p99: conn.p99()}, nil
}

func residentMemory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(fields[1], 64)
			return kib * 1024, err
		}
	}
	return 0, fmt.Errorf("process %d has no resident memory", pid)
}

// mix counts which part of all system calls under load the module io traces, on a server that nothing else observes.
func (b *bench) mix(ctx context.Context) (err error) {
	traced, err := tracedCalls()
	if err != nil {
		return err
	}
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: load.ServerFlags, Dir: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	// A child has the same process id in the initial namespace only if we are there; a wrong one counts nothing.
	m, err := newMixer(kprobe.Scope{TGID: uint32(server.PID())})
	if err != nil {
		return err
	}
	defer m.close()
	if _, _, err = drive(ctx, server, b.warm, b.window); err != nil {
		return err
	}
	own, others, err := m.counts()
	if err != nil {
		return err
	}
	var ownAll, ownTraced, othersAll uint64
	for i := range own {
		ownAll += own[i]
		othersAll += others[i]
	}
	for number, is := range traced {
		if is {
			ownTraced += own[number]
		}
	}
	if ownAll == 0 {
		b.results.skip("mix", errors.New("the server's calls are not found: not in the initial pid namespace"))
		return nil
	}
	b.results.add(mixName+"full", int(ownAll), value{"traced-of-own", float64(ownTraced) / float64(ownAll)},
		value{"traced-of-host", float64(ownTraced) / float64(ownAll+othersAll)})
	b.mixByCall(own[:], ownAll, traced)
	return nil
}
