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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ext4"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// idle is how long a server is idle before its memory is read.
const idle = 2 * time.Second

// timedConn records how long each query takes.
type timedConn struct {
	grpc.ClientConnInterface

	mu   sync.Mutex // guards took
	took []time.Duration
}

// Invoke makes a unary call, such as a query.
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

// p99 is the 99th percentile of the queries, in nanoseconds.
func (c *timedConn) p99() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sorted := make([]float64, 0, len(c.took))
	for _, d := range c.took {
		sorted = append(sorted, float64(d.Nanoseconds()))
	}
	if len(sorted) == 0 {
		return 0
	}
	slices.Sort(sorted)
	return quantile(sorted, 0.99)
}

// collectInterval is how often a server collects: its default.
const collectInterval = 5 * time.Second

// diskSize is the size of the servers' file system, of which little is used.
const diskSize = 4 << 30

// serverDisk makes a file system with a journal for the servers' data, as in production. ext4 without a journal does
// not reuse the inode number of a deleted file for minutes, and skips all of these when it creates a file. Here that
// took 20 us in one directory and 800 us in the next, depending on what had been deleted near it, and a server that
// creates and deletes files all the time ran at one of two speeds.
func (b *bench) serverDisk(ctx context.Context) (dir string, undo func() error, err error) {
	image, dir := filepath.Join(b.dir, "disk.img"), filepath.Join(b.dir, "disk")
	if err = errors.Join(os.Mkdir(dir, 0o755), ext4.Make(ctx, image, diskSize)); err != nil {
		return "", nil, err
	}
	if out, err := exec.CommandContext(ctx, "mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("mounting the servers' file system: %w: %s", err, out)
	}
	return dir, func() error { return errors.Join(unix.Unmount(dir, 0), os.Remove(image)) }, nil
}

// servers measures the server under full load with the observer, without it, and with KTM, in a crossover design. The
// speed of two servers that do the same work differs by a quarter, and a server gets slower with each turn, since
// it has more data to search. So each round has as many servers as kinds; each server runs every kind, and each kind is
// once the first, second and so on. The result of a kind in a round is the geometric mean of its turns. The ratio of
// two kinds is then the geometric mean of the ratios within each server, and depends neither on the speed of a server
// nor on the order.
func (b *bench) servers(ctx context.Context) (err error) {
	disk, undo, err := b.serverDisk(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, undo()) }()
	kinds := []string{serverOff, serverOn}
	if b.peer != nil {
		kinds = append(kinds, serverKTM)
	}
	return b.eachRound(ctx, "servers", func() error {
		rand.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		turns := make(map[string][][]value)
		var resident []float64
		for i := range kinds {
			memory, err := b.server(ctx, disk, slices.Concat(kinds[i:], kinds[:i]), turns)
			if err != nil {
				return fmt.Errorf("server %d: %w", i+1, err)
			}
			resident = append(resident, memory)
		}
		off, err := residentWithout(ctx, disk)
		if err != nil {
			return err
		}
		b.results.add(residentName, 1, value{"added-" + bytes, median(resident) - off}, value{"off-" + bytes, off})
		for kind, of := range turns {
			b.results.add(serverName(kind), len(of), meanOf(of)...)
		}
		return nil
	})
}

// meanOf returns the geometric mean of the turns, unit by unit.
func meanOf(turns [][]value) []value {
	mean := slices.Clone(turns[0])
	for i := range mean {
		var sum float64
		for _, t := range turns {
			sum += math.Log(t[i].is)
		}
		mean[i].is = math.Exp(sum / float64(len(turns)))
	}
	return mean
}

// residentWithout returns the resident memory of a server without the observer.
func residentWithout(ctx context.Context, dir string) (resident float64, err error) {
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: load.ServerFlags, Dir: dir})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	time.Sleep(idle)
	return residentMemory(server.PID())
}

// server runs the same work on one server once for each kind, one after the other. It adds the results to turns, and
// returns the resident memory before the work.
func (b *bench) server(ctx context.Context, disk string, kinds []string, turns map[string][][]value) (resident float64, err error) {
	api, err := banyandtest.FreeAddress()
	if err != nil {
		return 0, err
	}
	// A module that is shed during the measurement would look cheaper than it is.
	flags := append(slices.Clone(load.ServerFlags), "--ebpf-enabled", "--ebpf-max-overhead=0", "--ebpf-http-addr="+api,
		"--ebpf-collect-interval="+collectInterval.String())
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: flags, Dir: disk})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	time.Sleep(idle)
	if resident, err = residentMemory(server.PID()); err != nil {
		return 0, err
	}
	conn, err := server.Dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err = load.Run(ctx, conn, b.warm); err != nil {
		return 0, err
	}
	for i, kind := range kinds {
		t, err := b.serverTurn(ctx, server.PID(), conn, api, kind)
		if err != nil {
			return 0, fmt.Errorf("with eBPF %s: %w", kind, err)
		}
		turns[kind] = append(turns[kind], t)
		b.results.add(serverTurnName(kind, i+1), 1, t...)
	}
	return resident, nil
}

// serverTurn measures one kind on a server.
func (b *bench) serverTurn(ctx context.Context, pid int, conn grpc.ClientConnInterface, api, kind string) ([]value, error) {
	modules := []string{}
	if kind == serverOn {
		modules = b.modules
	}
	if err := configure(ctx, api, "modules", modules); err != nil {
		return nil, err
	}
	if kind == serverKTM {
		a, err := ktmTool(b.peer).attach(kprobe.Scope{})
		if err != nil {
			return nil, err
		}
		defer a.close()
	}
	before, err := ownOverhead(ctx, api)
	if err != nil {
		return nil, err
	}
	d, err := drive(ctx, pid, conn, b.work)
	if err != nil {
		return nil, err
	}
	after, err := ownOverhead(ctx, api)
	if err != nil {
		return nil, err
	}
	total := d.stats.Total()
	if total.WriteErrors+total.QueryErrors > 0 {
		return nil, fmt.Errorf("%d points refused, %d queries failed: %w", total.WriteErrors, total.QueryErrors, d.stats.FirstError)
	}
	values := []value{
		{"points/s", float64(total.Written) / d.stats.Elapsed.Seconds()},
		{"points/cpu-s", float64(total.Written) / d.cpu.Seconds()},
		{"p99-ns", d.p99},
		{"rows", float64(total.Rows)},
	}
	if kind == serverOn {
		if after <= before {
			return nil, errors.New("the server reports no overhead of its modules")
		}
		values = append(values, value{overheadOfCPU, (after - before) / d.cpu.Seconds()})
	}
	return values, nil
}

// ownOverhead returns the overhead that a server reports for its modules, in seconds of CPU time. It is updated at each
// collection.
func ownOverhead(ctx context.Context, api string) (seconds float64, err error) {
	const soon = 100 * time.Millisecond
	if err = configure(ctx, api, "collect_interval", soon.String()); err != nil {
		return 0, err
	}
	time.Sleep(5 * soon)
	if err = configure(ctx, api, "collect_interval", collectInterval.String()); err != nil {
		return 0, err
	}
	families, err := ask.Scrape(ctx, api)
	if err != nil {
		return 0, err
	}
	for _, of := range families["ebpf_overhead_seconds_total"].GetMetric() {
		seconds += of.GetCounter().GetValue()
	}
	return seconds, nil
}

// configure changes one field of the configuration of a server's observer.
func configure(ctx context.Context, api, field string, is any) error {
	body, err := json.Marshal(map[string]any{field: is})
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+api+"/api/v1/config", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("setting %s: %s: %s", field, response.Status, answer)
	}
	return err
}

// driven is the cost of a server's work.
type driven struct {
	stats load.Stats
	p99   float64       // of the queries, in nanoseconds
	cpu   time.Duration // of the server
}

// drive runs some work on a server.
func drive(ctx context.Context, pid int, dialed grpc.ClientConnInterface, work load.Options) (d driven, err error) {
	conn := &timedConn{ClientConnInterface: dialed}
	before, err := cpuTime(pid)
	if err != nil {
		return d, err
	}
	if d.stats, err = load.Run(ctx, conn, work); err != nil {
		return d, err
	}
	after, err := cpuTime(pid)
	d.p99, d.cpu = conn.p99(), after-before
	return d, errors.Join(err, ctx.Err())
}

// cpuTime returns the CPU time of a process, by its own clock: see clock_getcpuclockid(3).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduler), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

func residentMemory(pid int) (float64, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return 0, err
	}
	status, err := process.NewStatus()
	return float64(status.VmRSS), err
}

// mix counts which part of all system calls under load the module io traces, on a server that is not observed
// otherwise.
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
	// The process id is that of the initial namespace only if we run there; with a wrong one, nothing is counted.
	m, err := newMixer(kprobe.Scope{TGID: uint32(server.PID())})
	if err != nil {
		return err
	}
	defer m.close()
	conn, err := server.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err = load.Run(ctx, conn, b.work); err != nil {
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
