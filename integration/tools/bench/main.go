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

// Command bench measures the cost of the observer and of alternatives to it, and compares the results with the
// observer's targets.
//
//	bench -docs ../docs -results bench/results/bench.txt
//	bench -quick
//	bench -report -docs ../docs -results bench/results/bench.txt
//
// Every comparison is made within one run: each round measures all tools in random order, and only samples of the same
// round are compared. It needs root, and an otherwise idle machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/cilium/ebpf"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	testing.Init()
	var (
		worker      = flag.String("worker", "", "run as a worker whose thread has this name; internal")
		dir         = flag.String("dir", "", "folder for the files that are read; empty for a temporary one")
		open        = flag.String("open", "", "open these modules once; internal")
		scratch     = flag.String("scratch", "", "with -open, verify them in this folder")
		threads     = flag.Bool("threads", false, "run as a process with many threads; internal")
		quick       = flag.Bool("quick", false, "few rounds and short loads, to check that it works; the results are not reliable")
		rounds      = flag.Int("rounds", 0, "rounds of each measurement except the servers; 0 for 11, or 3 with -quick")
		serverTurns = flag.Int("server-rounds", 0, "rounds of servers under load; 0 for 9, or 1 with -quick")
		only        = flag.String("only", "", "run only these parts, separated by commas: "+strings.Join(partNames(), ", "))
		resultsFile = flag.String("results", "", "file of the results")
		docs        = flag.String("docs", "", "folder for performance.md and the charts")
		report      = flag.Bool("report", false, "do not measure: write the page from the file of the results")
	)
	flag.Parse()
	switch {
	case *worker != "":
		return runWorker(*worker, *dir)
	case *open != "":
		return openOnce(strings.Split(*open, ","), *scratch)
	case *threads:
		return runThreads()
	case *report:
		r, err := readResults(*resultsFile)
		if err != nil {
			return err
		}
		return publish(r, *docs)
	}
	b := &bench{
		results: &results{}, modules: runservice.DefaultModules(), rounds: 11, serverRounds: 9, quick: *quick,
		warm: load.Options{Pause: -1, Batches: 30, Queries: 20}, work: load.Options{Pause: -1, Batches: 5, Queries: 3, Rounds: 20},
	}
	if *quick {
		b.rounds, b.serverRounds = 3, 1
		b.warm.Batches, b.warm.Queries, b.work.Rounds = 15, 10, 8
	}
	if *rounds > 0 {
		b.rounds = *rounds
	}
	if *serverTurns > 0 {
		b.serverRounds = *serverTurns
	}
	if err := flag.Set("test.benchtime", "200ms"); err != nil {
		return err
	}
	measureErr := b.measure(ctx, *dir, *only)
	if measureErr != nil && ctx.Err() != nil {
		return measureErr
	}
	if err := keepResults(b.results, *resultsFile); err != nil {
		return errors.Join(measureErr, err)
	}
	return errors.Join(measureErr, publish(b.results, *docs))
}

// bench is the state of a run.
type bench struct {
	results *results
	// peer runs KTM, nil if it cannot be built.
	peer         *child
	modules      []string
	dir          string
	integration  string
	tests        string // the binary of the observer's tests, once it is built
	rounds       int
	serverRounds int
	warm, work   load.Options // what a new server does before it is measured, and while it is
	quick        bool
}

// options returns the server's default options.
func (b *bench) options() observer.Options {
	return observer.Options{Config: observer.Config{Modules: b.modules, DisabledHooks: runservice.DefaultDisabledHooks()}}
}

// scoped returns the same options for another process.
func (b *bench) scoped(scope kprobe.Scope) observer.Options {
	options := b.options()
	options.Scope = scope
	return options
}

// part is a measurement that can be run alone.
type part struct {
	name string
	run  func(*bench, context.Context) error
}

func allParts() []part {
	return []part{
		{"calls", (*bench).callCosts},
		{"collections", (*bench).collections},
		{"starts", (*bench).starts},
		{"bridge", (*bench).bridges},
		{"modules", (*bench).moduleSets},
		{"threads", (*bench).threads},
		{"overhead", (*bench).overhead},
		{"instructions", (*bench).instructions},
		{"servers", (*bench).servers},
		{"mix", (*bench).mix},
	}
}

func partNames() []string {
	var names []string
	for _, p := range allParts() {
		names = append(names, p.name)
	}
	return names
}

// measure runs the parts. If a part fails, the results say so, and its error is returned at the end.
func (b *bench) measure(ctx context.Context, dir, only string) (err error) {
	_, file, _, _ := runtime.Caller(0)
	b.integration = filepath.Join(filepath.Dir(file), "..", "..")
	if b.dir, err = os.MkdirTemp(dir, "bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if err = b.describe(); err != nil {
		return err
	}
	unmount, err := mountTracefs()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	if peerErr := b.startPeer(ctx); peerErr != nil {
		b.results.skip(ktm, peerErr)
	} else {
		defer func() { err = errors.Join(err, b.peer.close()) }()
	}
	statsBefore := bpfStats()
	var errs []error
	for _, p := range allParts() {
		if only != "" && !slices.Contains(strings.Split(only, ","), p.name) {
			continue
		}
		start := time.Now()
		if partErr := p.run(b, ctx); partErr != nil {
			b.results.skip(p.name, partErr)
			errs = append(errs, fmt.Errorf("%s: %w", p.name, partErr))
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %s\n", p.name, time.Since(start).Round(time.Second))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if left := leftovers(); left > 0 {
		errs = append(errs, fmt.Errorf("%d programs, links or maps are still open", left))
	}
	if after := bpfStats(); after != statsBefore {
		errs = append(errs, fmt.Errorf("kernel.bpf_stats_enabled was %q and is %q", statsBefore, after))
	}
	return errors.Join(errs...)
}

// eachRound runs a step once per round, until the context ends.
func (b *bench) eachRound(ctx context.Context, what string, step func() error) error {
	rounds := b.rounds
	switch what {
	case "servers":
		rounds = b.serverRounds
	case "modules":
		rounds = min(rounds, 5)
	}
	for i := range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "bench: %s, round %d of %d\n", what, i+1, rounds)
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mountTracefs mounts tracefs, which KTM and classic tracepoints need, unless it is mounted. It returns a function to
// undo it.
func mountTracefs() (undo func() error, err error) {
	const tracing = "/sys/kernel/tracing"
	if _, err = os.Stat(tracing + "/events"); err == nil {
		return func() error { return nil }, nil
	}
	if err = unix.Mount("tracefs", tracing, "tracefs", 0, ""); err != nil {
		return nil, fmt.Errorf("mounting tracefs on %s (this needs root): %w", tracing, err)
	}
	return func() error { return unix.Unmount(tracing, 0) }, nil
}

// startPeer builds and starts the process that runs KTM.
func (b *bench) startPeer(ctx context.Context) error {
	binary, err := b.goBuild(ctx, "ktm-peer", "./banyandb/fodc/agent/internal/ktm/peer", "build")
	if err != nil {
		return err
	}
	b.peer, err = startChild(exec.Command(binary))
	return err
}

// describe records facts about the machine.
func (b *bench) describe() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	foreign, err := loadedPrograms()
	if err != nil {
		return fmt.Errorf("listing the loaded programs (this needs root): %w", err)
	}
	b.results.fact("goos", runtime.GOOS)
	b.results.fact("goarch", runtime.GOARCH)
	b.results.fact("pkg", "github.com/apache/skywalking-banyandb/ebpf/integration/tools/bench")
	b.results.fact("cpu", cpuModel())
	b.results.fact("cpus", fmt.Sprint(runtime.NumCPU()))
	b.results.fact("mitigations", mitigations())
	b.results.fact("kernel", unix.ByteSliceToString(name.Release[:]))
	b.results.fact("go", runtime.Version())
	b.results.fact("date", time.Now().UTC().Format("2006-01-02 15:04 MST"))
	b.results.fact("modules", strings.Join(b.modules, ","))
	b.results.fact("rounds", fmt.Sprintf("%d, servers %d", b.rounds, b.serverRounds))
	b.results.fact("load", fmt.Sprintf("%d times %d batches and %d queries of each catalog, after a warm-up of %d batches and %d queries", b.work.Rounds, b.work.Batches, b.work.Queries, b.warm.Batches, b.warm.Queries))
	b.results.fact("loaded-before", fmt.Sprintf("%d other eBPF programs", foreign))
	b.results.fact("load-average-before", loadAverage())
	return nil
}

func loadAverage() string {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return unknown
	}
	load, err := proc.LoadAvg()
	if err != nil {
		return unknown
	}
	return fmt.Sprintf("%.2f %.2f %.2f", load.Load1, load.Load5, load.Load15)
}

func cpuModel() string {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return unknown
	}
	cpus, err := proc.CPUInfo()
	if err != nil || len(cpus) == 0 || cpus[0].ModelName == "" {
		return unknown
	}
	return cpus[0].ModelName
}

// unknown is the value of a fact that cannot be read.
const unknown = "unknown"

// mitigations returns the mitigations that make calls and returns in the kernel expensive.
func mitigations() string {
	var all []string
	for _, of := range []string{"spectre_v2", "retbleed", "spec_rstack_overflow"} {
		if content, err := os.ReadFile("/sys/devices/system/cpu/vulnerabilities/" + of); err == nil {
			all = append(all, of+" "+strings.TrimSpace(string(content)))
		}
	}
	return strings.Join(all, "; ")
}

func loadedPrograms() (int, error) {
	n := 0
	for id := ebpf.ProgramID(0); ; n++ {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		id = next
	}
}

// leftovers counts the eBPF descriptors of this process.
func leftovers() int {
	infos, _ := filepath.Glob("/proc/self/fdinfo/*")
	n := 0
	for _, info := range infos {
		content, err := os.ReadFile(info)
		if err == nil && (strings.Contains(string(content), "prog_id:") || strings.Contains(string(content), "map_id:")) {
			n++
		}
	}
	return n
}

func bpfStats() string {
	content, err := os.ReadFile("/proc/sys/kernel/bpf_stats_enabled")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content))
}

func readResults(path string) (*results, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := parseResults(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return r, nil
}

func keepResults(r *results, path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(r.write(f), f.Close())
}

// publish prints the table and, if docs is not empty, writes the page into that folder.
func publish(r *results, docs string) error {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range table(r, bars) {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", row.what, row.limit, row.measured, strings.Trim(row.verdict, "*"))
	}
	if err := out.Flush(); err != nil || docs == "" {
		return err
	}
	return writeDocs(r, docs)
}
