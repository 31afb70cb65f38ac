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
	"bufio"
	gobytes "bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/meterbridge"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/meter/native"
	"github.com/apache/skywalking-banyandb/pkg/meter/prom"
)

// collections measures the snapshot of the default modules, KTM's collection, and the snapshot for more CPUs.
func (b *bench) collections(ctx context.Context) error {
	simulated, err := b.buildTests(ctx)
	if err != nil {
		b.results.skip("snapshot-cpus", err)
	}
	own, err := startWorker("banyand", b.dir)
	if err != nil {
		return err
	}
	defer own.close()
	o, err := observer.Open(ctx, b.scoped(own.scope))
	if err != nil {
		return err
	}
	defer o.Close()
	steps := []func() error{func() error { return b.snapshot(o) }}
	if b.peer != nil {
		a, err := ktmTool(b.peer).attach(own.scope)
		if err != nil {
			return err
		}
		defer a.close()
		steps = append(steps, b.collectByKTM)
	}
	if simulated != "" {
		steps = append(steps, func() error { return b.simulatedSnapshots(ctx, simulated) })
	}
	// KTM's maps are empty until something is counted.
	if _, err = own.time(ownPread); err != nil {
		return err
	}
	return b.eachRound(ctx, "collections", func() error {
		rand.Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *bench) snapshot(o *observer.Observer) error {
	var s observer.Snapshot
	r := testing.Benchmark(func(tb *testing.B) {
		tb.ReportAllocs()
		for tb.Loop() {
			if err := o.Snapshot(&s); err != nil {
				tb.Fatal(err)
			}
		}
	})
	if r.N == 0 {
		return errors.New("the snapshot fails")
	}
	const times = 1000
	made, err := systemCalls(func() error {
		for range times {
			if err := o.Snapshot(&s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("counting the snapshot's system calls: %w", err)
	}
	b.results.add(snapshotHere, r.N, value{nsPerOp, float64(r.T.Nanoseconds()) / float64(r.N)},
		value{"allocs/op", float64(r.AllocsPerOp())}, value{"syscalls/op", float64(made) / times})
	return nil
}

func (b *bench) collectByKTM() error {
	answer, err := b.peer.ask("collect")
	if err != nil {
		return err
	}
	if len(answer) != 4 {
		return fmt.Errorf("KTM's collection: %v", answer)
	}
	b.results.add(collectKTM, int(answer[0]), value{nsPerOp, answer[1]}, value{"allocs/op", answer[2]})
	return nil
}

// mixer counts all system calls.
type mixer struct {
	coll *ebpf.Collection
	link link.Link
}

func newMixer(scope kprobe.Scope) (*mixer, error) {
	coll, err := loadObject("mix", func(spec *ebpf.CollectionSpec) error {
		return spec.Variables["scope_tgid"].Set(scope.TGID)
	})
	if err != nil {
		return nil, err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: coll.Programs["mix"]})
	if err != nil {
		coll.Close()
		return nil, err
	}
	return &mixer{coll: coll, link: l}, nil
}

// counts returns the calls so far, by number.
func (m *mixer) counts() (own, others [512]uint64, err error) {
	err = errors.Join(m.coll.Variables["own"].Get(&own), m.coll.Variables["others"].Get(&others))
	return own, others, err
}

func (m *mixer) close() error {
	err := m.link.Close()
	m.coll.Close()
	return err
}

// systemCalls counts the system calls of this process during a function. It returns the minimum of several tries, since
// the threads of the runtime make calls too.
func systemCalls(f func() error) (uint64, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	scope, err := kprobe.Self()
	if err != nil {
		return 0, err
	}
	m, err := newMixer(scope)
	if err != nil {
		return 0, err
	}
	defer m.close()
	total := func() (sum uint64) {
		own, _, countErr := m.counts()
		err = errors.Join(err, countErr)
		for _, n := range own {
			sum += n
		}
		return sum
	}
	least := ^uint64(0)
	for range 5 {
		before := total()
		nothing := total() - before
		start := total()
		if err = errors.Join(err, f()); err != nil {
			return 0, err
		}
		made := total() - start
		least = min(least, made-min(made, nothing))
	}
	return least, err
}

// overlay makes the go command see a file of this folder as part of the agent, since it needs the agent's internal
// packages.
func (b *bench) overlay() (string, error) {
	to := filepath.Join(b.integration, "banyandb/fodc/agent/internal/ktm/peer/main.go")
	from := filepath.Join(b.integration, "tools/bench/testdata/ktm/main.go")
	path := filepath.Join(b.dir, "overlay.json")
	return path, os.WriteFile(path, []byte(`{"Replace":{`+strconv.Quote(to)+":"+strconv.Quote(from)+`}}`), 0o600)
}

// goBuild runs the go command with the overlay.
func (b *bench) goBuild(ctx context.Context, out, pkg string, command ...string) (string, error) {
	overlay, err := b.overlay()
	if err != nil {
		return "", err
	}
	out = filepath.Join(b.dir, out)
	cmd := exec.CommandContext(ctx, "go", append(command, "-overlay", overlay, "-o", out, pkg)...)
	cmd.Dir = b.integration
	if said, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w: %s", pkg, err, said)
	}
	return out, nil
}

// buildTests builds the observer's own tests and benchmarks.
func (b *bench) buildTests(ctx context.Context) (string, error) {
	if b.tests != "" {
		return b.tests, nil
	}
	var err error
	b.tests, err = b.goBuild(ctx, "observer.test", "../observer", "test", "-c")
	return b.tests, err
}

func (b *bench) simulatedSnapshots(ctx context.Context, binary string) error {
	schema, err := observer.BuiltIn().Describe(b.modules...)
	if err != nil {
		return err
	}
	words := observertest.Words(schema)
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.bench=SnapshotCPUs", "-test.benchtime=50ms", "-test.cpu=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("the snapshot for more CPUs: %w: %s", err, out)
	}
	for scanner := bufio.NewScanner(gobytes.NewReader(out)); scanner.Scan(); {
		if fields := strings.Fields(scanner.Text()); strings.HasPrefix(scanner.Text(), prefix) {
			l, err := parseLine(fields)
			if err != nil {
				return err
			}
			if !slices.Contains(l.values, value{"words", float64(words)}) {
				return fmt.Errorf("the snapshot for more CPUs has other modules than %s", strings.Join(b.modules, ","))
			}
			b.results.add(l.name, l.n, l.values...)
		}
	}
	return nil
}

// openOnce is the main function of a process that opens modules once, as a server does at its start. It prints how long
// that took, and the memory of the maps in bytes per CPU. With a scratch folder, the modules are verified too.
func openOnce(modules []string, scratch string) error {
	start := time.Now()
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: modules}, Verify: scratch != "", ScratchDirs: []string{scratch}})
	took := time.Since(start)
	if err != nil {
		return err
	}
	defer o.Close()
	memory, err := mapMemory(os.Getpid())
	if err != nil {
		return err
	}
	fmt.Println(took.Nanoseconds(), memory)
	return nil
}

// mapMemory returns the memory of the maps of a process, in bytes per possible CPU.
func mapMemory(pid int) (float64, error) {
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		return 0, err
	}
	var sum float64
	for _, info := range infos {
		content, err := os.ReadFile(info)
		if err != nil {
			continue // Closed in the meantime.
		}
		sum += memlock(string(content))
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, err
	}
	return sum / float64(cpus), nil
}

// memlock returns the bytes of a map from the fdinfo of its descriptor; 0 for another descriptor.
func memlock(info string) float64 {
	if !strings.Contains(info, "map_type:") {
		return 0
	}
	for line := range strings.Lines(info) {
		if size, ok := strings.CutPrefix(line, "memlock:"); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(size), 64)
			if err == nil {
				return n
			}
		}
	}
	return 0
}

// opened runs openOnce in a new process and returns what it prints.
func opened(ctx context.Context, modules []string, scratch string) (ns, memory float64, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	names := strings.Join(modules, ",")
	out, err := exec.CommandContext(ctx, self, "-open", names, "-scratch", scratch).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("opening the modules %s: %w", names, err)
	}
	answer, err := numbers(string(out))
	if err != nil || len(answer) != 2 {
		return 0, 0, fmt.Errorf("opening the modules %s: %q: %w", names, out, err)
	}
	return answer[0], answer[1], nil
}

// starts measures the start of the default modules, with and without verification, and of KTM, each in a new process.
func (b *bench) starts(ctx context.Context) error {
	schema, err := observer.BuiltIn().Describe(b.modules...)
	if err != nil {
		return err
	}
	words := observertest.Words(schema)
	return b.eachRound(ctx, "starts", func() error {
		ns, memory, err := opened(ctx, b.modules, "")
		if err != nil {
			return err
		}
		b.results.add(startName+defaults, 1, value{nsPerOp, ns})
		b.results.add(memoryName+defaults, 1, value{"B/cpu", memory}, value{"grows-B/cpu", float64(8 * words)})
		if ns, _, err = opened(ctx, b.modules, b.dir); err != nil {
			return err
		}
		b.results.add(startName+defaultsVerified, 1, value{nsPerOp, ns})
		if b.peer == nil {
			return nil
		}
		took, err := b.peer.ask("start")
		if err != nil {
			return err
		}
		memory, err = mapMemory(b.peer.cmd.Process.Pid)
		_, stopErr := b.peer.ask("stop")
		if err = errors.Join(err, stopErr); err != nil {
			return err
		}
		b.results.add(startName+ktm, 1, value{nsPerOp, took[0]})
		b.results.add(memoryName+ktm, 1, value{"B/cpu", memory})
		return nil
	})
}

// moving is a source in which every series of the default modules grows from one snapshot to the next.
type moving struct {
	schema []observer.Metric
	words  []uint64
}

func (*moving) Refresh() error { return nil }

func (m *moving) Snapshot(s *observer.Snapshot) error {
	for i := range m.words {
		m.words[i]++
	}
	*s = observertest.Snapshot(m.schema, m.words)
	return nil
}

// factory makes instruments of a provider, like the server's own factory.
type factory struct{ meter.Provider }

func (f factory) NewCounter(name string, labels ...string) meter.Counter {
	return f.Counter(name, labels...)
}

func (f factory) NewGauge(name string, labels ...string) meter.Gauge { return f.Gauge(name, labels...) }

// bridges measures the CPU time of a collection in which every series moves, garbage collection included.
func (b *bench) bridges(ctx context.Context) error {
	schema, err := observer.BuiltIn().Describe(b.modules...)
	if err != nil {
		return err
	}
	if err = b.loadedBridges(ctx); err != nil {
		return err
	}
	targets := newTargets(schema)
	return b.eachRound(ctx, "bridge", func() error {
		for name, t := range targets { // In the random order of a Go map.
			each, err := t.cost()
			if err != nil {
				return err
			}
			b.results.add(bridgeName+name, bridgeTimes, value{"cpu-ns/op", each}, value{"words", float64(observertest.Words(schema))})
		}
		return nil
	})
}

// loadedBridges measures the collections of an observer that is attached to a server under full load, and so has the
// series of a real server. The cost is the CPU time of the collecting thread.
func (b *bench) loadedBridges(ctx context.Context) (err error) {
	server, err := banyandtest.Start(ctx, banyandtest.Options{Flags: load.ServerFlags, Dir: b.dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	conn, err := server.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	o, err := observer.Open(ctx, b.scoped(kprobe.Scope{TGID: uint32(server.PID())}))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	ctx, stop := context.WithCancel(ctx)
	loaded := make(chan error, 1)
	go func() {
		_, err := load.Run(ctx, conn, load.Options{Duration: time.Hour, Pause: -1})
		loaded <- err
	}()
	// The error of the canceled load is ignored.
	defer func() { stop(); <-loaded }()
	targets := newTargets(o.Schema())
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i := range b.rounds + 1 {
		time.Sleep(loadedInterval)
		for name, t := range targets {
			before, err := threadTime()
			if err != nil {
				return err
			}
			if err = t.bridge.Collect(o); err != nil {
				return err
			}
			after, err := threadTime()
			if err != nil {
				return err
			}
			// The first collection makes the series.
			if i > 0 {
				b.results.add(bridgeName+name+"-loaded", 1, value{"cpu-ns/op", float64((after - before).Nanoseconds())})
			}
		}
	}
	return nil
}

// loadedInterval is the time between two collections under load. The server's own interval is longer.
const loadedInterval = time.Second

// threadTime returns the CPU time of this thread.
func threadTime() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts)
	return time.Duration(ts.Nano()), err
}

// bridgeTimes is how many collections are measured at once.
const bridgeTimes = 50

// target is a provider, its bridge and its source.
type target struct {
	bridge *meterbridge.Bridge
	source *moving
}

// newTargets makes a target for each provider that a server can have.
func newTargets(schema []observer.Metric) map[string]target {
	node := native.NodeInfo{Type: "standalone", NodeID: "127.0.0.1:17912", GrpcAddress: "127.0.0.1:17912", HTTPAddress: "127.0.0.1:17913"}
	providers := map[string]meter.Provider{
		"native":     native.NewProvider(observability.RootScope, nil, node),
		"prometheus": prom.NewProvider(observability.RootScope, prometheus.NewRegistry()),
	}
	targets := make(map[string]target)
	for name, p := range providers {
		targets[name] = target{bridge: meterbridge.New(factory{p}, schema), source: &moving{schema: schema, words: make([]uint64, observertest.Words(schema))}}
	}
	return targets
}

// cost returns the CPU time of one collection, in nanoseconds.
func (t target) cost() (float64, error) {
	// The first collection makes the series.
	if err := t.bridge.Collect(t.source); err != nil {
		return 0, err
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		return 0, err
	}
	for range bridgeTimes {
		if err = t.bridge.Collect(t.source); err != nil {
			return 0, err
		}
	}
	after, err := cpuTime(os.Getpid())
	return float64((after - before).Nanoseconds()) / bridgeTimes, err
}
