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

	"golang.org/x/sys/unix"
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
	d, err := drive(ctx, server, b.warm, b.work)
	if err != nil {
		return 0, err
	}
	total := d.stats.Total()
	if total.WriteErrors+total.QueryErrors > 0 {
		return 0, fmt.Errorf("%d points refused, %d queries failed: %w", total.WriteErrors, total.QueryErrors, d.stats.FirstError)
	}
	b.results.add(serverName(kind), int(total.Queries), value{"points/s", float64(total.Written) / d.stats.Elapsed.Seconds()},
		value{"points/cpu-s", float64(total.Written) / d.cpu.Seconds()}, value{"p99-ns", d.p99})
	return resident, nil
}

// driven is what a server's work took.
type driven struct {
	stats load.Stats
	p99   float64       // of the queries, in nanoseconds
	cpu   time.Duration // of the server
}

// drive has a server do the same work as any other one.
func drive(ctx context.Context, server *banyandtest.Server, warm, work load.Options) (d driven, err error) {
	dialed, err := server.Dial()
	if err != nil {
		return d, err
	}
	defer dialed.Close()
	conn := &timedConn{ClientConnInterface: dialed}
	if _, err = load.Run(ctx, conn, warm); err != nil {
		return d, err
	}
	conn.p99()
	before, err := cpuTime(server.PID())
	if err != nil {
		return d, err
	}
	if d.stats, err = load.Run(ctx, conn, work); err != nil {
		return d, err
	}
	after, err := cpuTime(server.PID())
	d.p99, d.cpu = conn.p99(), after-before
	return d, errors.Join(err, ctx.Err())
}

// cpuTime is what a process has used of the CPUs, by its own clock: see clock_getcpuclockid(3).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
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
	if _, err = drive(ctx, server, b.warm, b.work); err != nil {
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
