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
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// manyThreads are the numbers of threads for which a pass is measured.
var manyThreads = []int{10, 100, 1000, 2000, 5000, 10_000}

func refreshName(whose string, threads int) string {
	return "Refresh/threads=" + strconv.Itoa(threads) + "/whose=" + whose
}

// Which process has many threads when the iterators run: the observed one or another.
const (
	ownThreads   = "own"
	otherThreads = "stranger"
)

// runThreads is the main function of a process with many threads: it reads numbers and starts that many threads, which
// sleep.
func runThreads() error {
	debug.SetGCPercent(-1)
	// Enough for these threads and those of the runtime.
	debug.SetMaxThreads(2 * manyThreads[len(manyThreads)-1])
	scope, err := kprobe.Self()
	if err != nil {
		return err
	}
	fmt.Println(scope.TGID)
	running := 0
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		want, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		ready := make(chan struct{})
		for ; running < want; running++ {
			go func() {
				runtime.LockOSThread()
				ready <- struct{}{}
				for {
					// Sleeps until a signal arrives.
					_, _ = unix.Ppoll(nil, nil, nil)
				}
			}()
			<-ready
		}
		fmt.Println(running)
	}
	return nil
}

// threads measures a pass of the iterators that observe a process with many threads, and one that observe another
// process.
func (b *bench) threads(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	many, err := startChild(exec.Command(self, "-threads"))
	if err != nil {
		return err
	}
	defer many.close()
	answer, err := many.ask("")
	if err != nil {
		return err
	}
	one, err := startWorker("stranger", b.dir)
	if err != nil {
		return err
	}
	defer one.close()
	scopes := map[string]kprobe.Scope{ownThreads: {TGID: uint32(answer[0])}, otherThreads: one.scope}
	for _, n := range manyThreads {
		// On a machine that does not allow this many threads, the child ends, and this part with it.
		if _, err = many.ask(strconv.Itoa(n)); err != nil {
			return fmt.Errorf("%d threads: %w", n, err)
		}
		for whose, scope := range scopes {
			if err = b.passes(ctx, refreshName(whose, n), scope); err != nil {
				return err
			}
		}
	}
	b.collisions()
	return nil
}

// passes measures the iterators of the default modules.
func (b *bench) passes(ctx context.Context, name string, scope kprobe.Scope) error {
	o, err := observer.Open(ctx, b.scoped(scope))
	if err != nil {
		return err
	}
	defer o.Close()
	for range b.rounds {
		const times = 5
		before, err := valueOf(o, "ebpf_sched_run_queue_wait_skipped_total")
		if err != nil {
			return err
		}
		start := time.Now()
		for range times {
			if err = o.Refresh(); err != nil {
				return err
			}
		}
		took := time.Since(start)
		after, err := valueOf(o, "ebpf_sched_run_queue_wait_skipped_total")
		if err != nil {
			return err
		}
		seen, err := valueOf(o, "ebpf_sched_threads")
		if err != nil {
			return err
		}
		b.results.add(name, times, value{nsPerOp, float64(took.Nanoseconds()) / times},
			value{"without-place/op", float64(after-before) / times}, value{"seen-threads", float64(seen)})
	}
	return nil
}

// valueOf reads a metric of one series.
func valueOf(o *observer.Observer, name string) (uint64, error) {
	var s observer.Snapshot
	if err := o.Snapshot(&s); err != nil {
		return 0, err
	}
	for one := range s.All() {
		if one.Metric.Name == name {
			return uint64(one.Value()), nil
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// moduleSets measures the cost of more modules: the default modules, added one by one, and then all modules.
func (b *bench) moduleSets(ctx context.Context) error {
	all, err := observer.BuiltIn().Modules()
	if err != nil {
		return err
	}
	var sets [][]string
	for n := range b.modules {
		sets = append(sets, b.modules[:n+1])
	}
	sets = append(sets, all)
	targets := make([]map[string]target, len(sets))
	schemas := make([][]observer.Metric, len(sets))
	for i, set := range sets {
		schema, err := observer.BuiltIn().Describe(set...)
		if err != nil {
			return err
		}
		schemas[i], targets[i] = schema, newTargets(schema)
	}
	return b.eachRound(ctx, "modules", func() error {
		for i, set := range sets {
			if err := b.moduleSet(ctx, set, schemas[i], targets[i]); err != nil {
				return fmt.Errorf("%s: %w", strings.Join(set, ","), err)
			}
		}
		return nil
	})
}

func (b *bench) moduleSet(ctx context.Context, set []string, schema []observer.Metric, targets map[string]target) error {
	name := modulesName + strings.Join(set, ",")
	start, memory, err := opened(ctx, set, "")
	if err != nil {
		return err
	}
	o, err := observer.Open(ctx, observer.Options{Config: observer.Config{Modules: set}})
	if err != nil {
		return err
	}
	defer o.Close()
	const times = 1000
	var s observer.Snapshot
	began := time.Now()
	for range times {
		if err = o.Snapshot(&s); err != nil {
			return err
		}
	}
	snapshot := float64(time.Since(began).Nanoseconds()) / times
	began = time.Now()
	if err = o.Refresh(); err != nil {
		return err
	}
	pass := float64(time.Since(began).Nanoseconds())
	native, err := targets["native"].cost()
	if err != nil {
		return err
	}
	prometheus, err := targets["prometheus"].cost()
	if err != nil {
		return err
	}
	b.results.add(name, 1, value{"modules", float64(len(set))}, value{"series", float64(seriesStored(schema))}, value{"start-ns", start},
		value{"B/cpu", memory}, value{"snapshot-ns", snapshot}, value{"pass-ns", pass}, value{"native-cpu-ns", native},
		value{"prometheus-cpu-ns", prometheus})
	return nil
}

// seriesStored returns how many series a schema can have: a histogram has one for each bucket, and its sum and count.
func seriesStored(schema []observer.Metric) int {
	n := 0
	for i := range schema {
		each := 1
		if schema[i].Kind == observer.Histogram {
			each = len(schema[i].Bounds) + 3
		}
		for _, label := range schema[i].Labels {
			each *= len(label.Values)
		}
		n += each
	}
	return n
}

// bothSaid matches the figures in the output of TestOverhead.
var bothSaid = regexp.MustCompile(`estimated (\S+), by the kernel's statistics (\S+)`)

// overhead runs the observer's own test, which compares its estimate with the kernel's statistics of the programs. The
// test enables these while it needs them.
func (b *bench) overhead(ctx context.Context) error {
	binary, err := b.buildTests(ctx)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, binary, "-test.run=^TestOverhead$", "-test.v", "-test.count="+strconv.Itoa(min(b.rounds, 5)))
	cmd.Dir = filepath.Join(b.integration, "..", "observer")
	out, runErr := cmd.CombinedOutput()
	found := bothSaid.FindAllSubmatch(out, -1)
	if len(found) == 0 {
		return fmt.Errorf("no figures: %w: %s", runErr, out)
	}
	for _, f := range found {
		estimate, err := time.ParseDuration(string(f[1]))
		if err != nil {
			return err
		}
		measured, err := time.ParseDuration(string(f[2]))
		if err != nil {
			return err
		}
		ratio := float64(estimate) / float64(measured)
		b.results.add(overheadName, 1, value{"estimate-ns", float64(estimate)}, value{"statistics-ns", float64(measured)},
			value{"ratio", ratio}, value{"off", max(ratio-1, 1-ratio)})
	}
	return nil
}

// emulator counts instructions, and emulated is the kernel that it boots.
const (
	emulator = "qemu-system-x86_64"
	emulated = "6.12"
)

// instructions runs the kernel runner, which counts what a module adds to a call, on a machine whose clock counts
// instructions.
func (b *bench) instructions(ctx context.Context) error {
	if b.quick {
		b.results.skip("instructions", errors.New("a quick run does not boot a machine"))
		return nil
	}
	if _, err := exec.LookPath(emulator); err != nil {
		b.results.skip("instructions", fmt.Errorf("no %s: %w", emulator, err))
		return nil
	}
	runner, err := b.goBuild(ctx, "kernels", "./tools/kernels", "build")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, runner, "-only", emulated, "-icount", "-pkgs", "./tools/kernels/instructions", "-timeout", "10m", "-test.v")
	cmd.Dir = b.integration
	// The runner cleans up if it is interrupted.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.CombinedOutput()
	counted := parseInstructions(out)
	for _, l := range counted {
		b.results.add(l.name, l.n, l.values...)
	}
	if err != nil {
		return fmt.Errorf("counting instructions: %w: %s", err, out[max(0, len(out)-2000):])
	}
	if len(counted) == 0 {
		return errors.New("the emulated machine reported no instructions")
	}
	return nil
}

// parseInstructions finds the reports of the test in the machine: a key of "instructions", the call and the tool, and a
// value.
func parseInstructions(console []byte) []line {
	var lines []line
	for text := range gobytes.Lines(console) {
		_, report, ok := strings.Cut(string(text), "MATRIX\tinstructions ")
		if !ok {
			continue
		}
		key, number, _ := strings.Cut(report, "\t")
		call, tool, _ := strings.Cut(key, " ")
		is, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || tool == "" {
			continue
		}
		unit := instructionsAdded
		if tool == "nothing" {
			unit = "instructions/op" // of the call itself
		}
		lines = append(lines, line{name: instructionsBy(tool, call).name, n: 1, values: []value{{unit, is}}})
	}
	return lines
}

// tracedCalls returns for each system call number whether the module io counts it, according to its object.
func tracedCalls() ([]bool, error) {
	object, err := bpf.Modules(runtime.GOARCH).Open(ioModule + bpf.Suffix)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	var content gobytes.Buffer
	if _, err = content.ReadFrom(object); err != nil {
		return nil, err
	}
	f, err := elf.NewFile(gobytes.NewReader(content.Bytes()))
	if err != nil {
		return nil, err
	}
	symbols, err := f.Symbols()
	if err != nil {
		return nil, err
	}
	for _, s := range symbols {
		if s.Name != "op_of" || int(s.Section) >= len(f.Sections) {
			continue
		}
		data, err := f.Sections[s.Section].Data()
		if err != nil {
			return nil, err
		}
		if s.Value+s.Size > uint64(len(data)) {
			break
		}
		traced := make([]bool, s.Size)
		for i, op := range data[s.Value : s.Value+s.Size] {
			traced[i] = op != 0
		}
		return traced, nil
	}
	return nil, errors.New("the module io has no table op_of")
}

// callNames are the system calls that a server makes often. Others are named by their number.
var callNames = map[int]string{
	unix.SYS_READ: "read", unix.SYS_PREAD64: "pread64", unix.SYS_READV: "readv", unix.SYS_WRITE: "write", unix.SYS_PWRITE64: "pwrite64",
	unix.SYS_WRITEV: "writev", unix.SYS_FSYNC: "fsync", unix.SYS_FDATASYNC: "fdatasync", unix.SYS_FADVISE64: "fadvise64",
	unix.SYS_OPENAT: "openat", unix.SYS_CLOSE: "close", unix.SYS_FTRUNCATE: "ftruncate", unix.SYS_FALLOCATE: "fallocate",
	unix.SYS_UNLINKAT: "unlinkat", unix.SYS_RENAMEAT: "renameat", unix.SYS_RENAMEAT2: "renameat2", unix.SYS_MKDIRAT: "mkdirat", unix.SYS_FLOCK: "flock",
	unix.SYS_GETDENTS64: "getdents64", unix.SYS_MMAP: "mmap", unix.SYS_MUNMAP: "munmap", unix.SYS_MADVISE: "madvise", unix.SYS_BRK: "brk",
	unix.SYS_NANOSLEEP: "nanosleep", unix.SYS_FUTEX: "futex", unix.SYS_EPOLL_PWAIT: "epoll_pwait", unix.SYS_EPOLL_CTL: "epoll_ctl",
	unix.SYS_FCNTL: "fcntl", unix.SYS_FSTAT: "fstat", sysFstatat: "fstatat", unix.SYS_GETPID: "getpid", unix.SYS_TGKILL: "tgkill", unix.SYS_LSEEK: "lseek",
	unix.SYS_SCHED_YIELD: "sched_yield", unix.SYS_RT_SIGRETURN: "rt_sigreturn", unix.SYS_ACCEPT4: "accept4", unix.SYS_MPROTECT: "mprotect",
	unix.SYS_SENDTO: "sendto", unix.SYS_RECVFROM: "recvfrom", unix.SYS_GETRUSAGE: "getrusage", unix.SYS_STATFS: "statfs", unix.SYS_TIMERFD_SETTIME: "timerfd_settime",
}

// mixByCall records the share of each call, if it is 0.5 % or more.
func (b *bench) mixByCall(own []uint64, all uint64, traced []bool) {
	for number, n := range own {
		part := float64(n) / float64(all)
		if part < 0.005 {
			continue
		}
		name, known := callNames[number]
		if !known {
			name = "number-" + strconv.Itoa(number)
		}
		is := 0.0
		if number < len(traced) && traced[number] {
			is = 1
		}
		b.results.add(mixCallName+name, int(n), value{"of-own", part}, value{"traced", is})
	}
}
