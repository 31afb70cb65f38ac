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

//go:build linux

package observer_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	waitCount = "ebpf_sched_trace_run_queue_wait_seconds_count{}"
	waitSum   = "ebpf_sched_trace_run_queue_wait_seconds_sum{}"
)

func offCPU(part, state string) string {
	return "ebpf_sched_trace_off_cpu_seconds_" + part + "{" + state + "}"
}

// offCPUTotal adds up all off-CPU states.
func (c counts) offCPUTotal(part string) uint64 {
	return c[offCPU(part, "sleep")] + c[offCPU(part, "uninterruptible")] + c[offCPU(part, "preempted")]
}

// standstill stops a worker, and returns what is counted and what the kernel has for it at that moment.
func (w *worker) standstill(o *observer.Observer) (got, truth counts) {
	w.t.Helper()
	pid := strconv.Itoa(w.process.Pid)
	require.NoError(w.t, w.process.Signal(syscall.SIGSTOP))
	require.Eventually(w.t, func() bool {
		truth, got = usage(w.t, pid, "*"), count(w.t, o)
		return reflect.DeepEqual(truth, usage(w.t, pid, "*")) && w.stopped()
	}, patience, time.Millisecond)
	require.NoError(w.t, w.process.Signal(syscall.SIGCONT))
	return got, truth
}

// TestSchedTraceExact observes a process whose threads are stopped before and after, and so off a CPU: in between each
// of their waits is one of those in /proc, and each time off a CPU is one of the switches in /proc. A new thread has
// waited, but was not off a CPU before.
func TestSchedTraceExact(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	got, truth := traceWorker(t)
	waits := truth["ebpf_sched_run_queue_waits_total{}"]
	voluntary, involuntary := truth["ebpf_sched_switches_total{voluntary}"], truth["ebpf_sched_switches_total{involuntary}"]
	// A thread that is off a CPU eventually waits for one. The kernel's account has no wait of a thread that was
	// preempted when it was about to sleep: sched_info_depart checks its state.
	require.LessOrEqual(t, got[waitCount], voluntary+involuntary+2)
	require.LessOrEqual(t, float64(waits)-float64(got[waitCount]), math.Ceil(float64(waits)*untraced()))
	// The kernel's clock of a run queue does not advance while its lock is held.
	wait := truth["ebpf_sched_run_queue_wait_seconds_total{}"]
	require.InDelta(t, wait, got[waitSum], float64(waits)*perWait()+float64(wait)*(0.1+untraced()))
	requireTraced(t, voluntary+involuntary-truth["ebpf_sched_threads{}"], got.offCPUTotal("count"))
	requireKind(t, involuntary, got[offCPU("count", "preempted")])
	require.Zero(t, got["ebpf_events_lost_total{sched_trace,collision}"])
	require.LessOrEqual(t, float64(got["ebpf_events_lost_total{sched_trace,no_start}"]), float64(waits)*untraced())
}

// untraced is the share of switches that a kernel may not trace. The kernel of the machine that this was written on
// leaves out a few percent: a program that only counts switches was compared with ctxt of /proc/stat. Those of the
// matrix leave out none.
func untraced() float64 {
	if os.Getenv(guest) != "" {
		return 0
	}
	return 0.1
}

// requireTraced tolerates two more than the truth: the thread that is stopped last may still be switching when that is
// read.
func requireTraced(t *testing.T, want, got uint64) {
	t.Helper()
	require.LessOrEqual(t, got, want+2)
	require.LessOrEqual(t, float64(want)-float64(got), math.Ceil(float64(want)*untraced()))
}

// requireKind compares one kind of switches. If a signal keeps a thread from sleeping, such as the one that stops a
// process or those of the runtime, it was preempted for us, and gave up the CPU for the kernel.
func requireKind(t *testing.T, want, got uint64) {
	t.Helper()
	const signals = 2
	require.InDelta(t, want, got, signals+float64(want)*untraced())
}

// traceWorker returns what was counted for a busy worker, and what /proc has for it.
func traceWorker(t *testing.T) (got, truth counts) {
	t.Helper()
	// The runtime's signals would wake threads that are about to sleep.
	t.Setenv("GODEBUG", "asyncpreemptoff=1")
	w := newWorker(t)
	o := openOn(t, "sched_trace", w)
	w.do(startThreads)
	// If a thread of the runtime ends, what /proc has for it is gone.
	for range 5 {
		before, truthBefore := w.standstill(o)
		w.do(useThreads)
		w.do(startThreads)
		w.do(useThreads)
		after, truthAfter := w.standstill(o)
		got, truth = after.since(before), truthAfter.since(truthBefore)
		if truth["ebpf_sched_threads{}"] >= someThreads {
			break
		}
	}
	t.Logf("MATRIX\tsched_trace switch: chosen\t%s", o.Health().Modules[0].Plan[0].Attachment)
	require.Greater(t, truth["ebpf_sched_run_queue_waits_total{}"], uint64(someThreads))
	require.GreaterOrEqual(t, truth["ebpf_sched_threads{}"], uint64(someThreads))
	return got, truth
}

// perWait is the tolerance for the time of a wait, in nanoseconds.
func perWait() float64 {
	if os.Getenv(guest) != "" {
		return 200_000
	}
	return 20_000
}

// onCPU pins the calling thread, and what it starts, to one CPU.
func onCPU(t testing.TB, cpu int) {
	t.Helper()
	runtime.LockOSThread()
	var all, one unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &all))
	one.Set(cpu)
	require.NoError(t, unix.SchedSetaffinity(0, &one))
	t.Cleanup(func() {
		require.NoError(t, unix.SchedSetaffinity(0, &all))
		runtime.UnlockOSThread()
	})
}

// TestSchedTraceOffCPU: a thread that sleeps, waits for a process that it starts, and shares its CPU with another. How
// it left the CPU is as the kernel counts it, and the time off the CPU is all the time that it was not on it.
func TestSchedTraceOffCPU(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	const naps, nap, starts, losses = 50, 2 * time.Millisecond, 10, 5
	quiet(t)
	onCPU(t, 0)
	w := newWorker(t)
	w.do(startThreads)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"sched_trace"}}, Scope: kprobe.Scope{TGID: uint32(os.Getpid()), TID: uint32(unix.Gettid())}})
	require.NoError(t, err)
	closeAfter(t, o)
	// A time off the CPU that began before the module was opened is lost, once.
	require.NoError(t, unix.Nanosleep(&unix.Timespec{Nsec: 1}, nil))
	type now struct {
		counts, usage counts
		on, all       time.Duration
	}
	look := func() (n now) {
		// Retry until there is no switch in between.
		for {
			n.usage = usage(t, "self", strconv.Itoa(unix.Gettid())).without("cpu")
			n.counts = count(t, o)
			var cpu, clock unix.Timespec
			require.NoError(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &cpu))
			require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock))
			n.on, n.all = time.Duration(cpu.Nano()), time.Duration(clock.Nano())
			if reflect.DeepEqual(n.usage, usage(t, "self", strconv.Itoa(unix.Gettid())).without("cpu")) {
				return n
			}
		}
	}
	during := func(do func()) (got, truth counts) {
		before := look()
		do()
		after := look()
		got, truth = after.counts.since(before.counts), after.usage.since(before.usage)
		all, on := after.all-before.all, after.on-before.on
		// Whether interrupts are charged to the thread depends on how the kernel is built.
		tolerance := all*15/100 + time.Millisecond
		require.LessOrEqual(t, time.Duration(got.offCPUTotal("sum")), all-on+tolerance)
		if untraced() == 0 {
			// CPU time that a host takes away, and untraced switches, look like time off the CPU too.
			require.GreaterOrEqual(t, time.Duration(got.offCPUTotal("sum")), all-on-tolerance)
		}
		// With each switch the thread leaves the CPU, and waits for it once.
		involuntary := truth["ebpf_sched_switches_total{involuntary}"]
		requireTraced(t, truth["ebpf_sched_switches_total{voluntary}"]+involuntary, got[waitCount])
		// A switch that is not traced ends one of the two, and does not begin the other.
		require.InDelta(t, got[waitCount], got.offCPUTotal("count"), math.Ceil(float64(got[waitCount])*untraced()))
		// A thread that is preempted when it is about to sleep waits like all others, and the kernel does not count
		// that as a wait.
		waits := truth["ebpf_sched_run_queue_waits_total{}"]
		requireTraced(t, waits, min(got[waitCount], waits))
		require.LessOrEqual(t, got[waitCount], waits+involuntary)
		return got, truth
	}

	got, truth := during(func() {
		for range naps {
			// The runtime's signals may cut a nap short.
			left := unix.Timespec{Nsec: int64(nap)}
			for unix.Nanosleep(&left, &left) == unix.EINTR {
				continue
			}
		}
	})
	requireKind(t, truth["ebpf_sched_switches_total{voluntary}"], got[offCPU("count", "sleep")])
	require.GreaterOrEqual(t, time.Duration(got[offCPU("sum", "sleep")]), naps*nap*9/10)
	requireKind(t, truth["ebpf_sched_switches_total{involuntary}"], got[offCPU("count", "preempted")])
	require.Zero(t, got[offCPU("count", "uninterruptible")])

	// A process that starts another by vfork(2), as Go does, waits until the child calls exec. On this one CPU the
	// child cannot run before its parent leaves it.
	self, err := os.Executable()
	require.NoError(t, err)
	got, truth = during(func() {
		for range starts {
			pid, err := syscall.ForkExec(self, []string{self, "-test.run=^$"}, &syscall.ProcAttr{})
			require.NoError(t, err)
			for err = unix.EINTR; errors.Is(err, unix.EINTR); {
				_, err = unix.Wait4(pid, nil, 0, nil)
			}
			require.NoError(t, err)
		}
	})
	// If the child calls exec before its parent sleeps, the parent does not wait.
	require.Positive(t, got[offCPU("count", "uninterruptible")])
	require.Positive(t, got[offCPU("sum", "uninterruptible")])
	requireKind(t, truth["ebpf_sched_switches_total{voluntary}"],
		got[offCPU("count", "uninterruptible")]+got[offCPU("count", "sleep")])

	got, truth = during(func() {
		_, err := fmt.Fprintln(w.orders, useThreads)
		require.NoError(t, err)
		var before, now unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &before))
		for start := time.Now(); now.Nivcsw < before.Nivcsw+losses && time.Since(start) < patience; {
			require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &now))
		}
	})
	require.GreaterOrEqual(t, truth["ebpf_sched_switches_total{involuntary}"], uint64(losses))
	requireKind(t, truth["ebpf_sched_switches_total{involuntary}"], got[offCPU("count", "preempted")])
	require.Positive(t, got[offCPU("count", "preempted")])
	require.Positive(t, got[offCPU("sum", "preempted")])
	_, err = w.answers.ReadString('\n')
	require.NoError(t, err)
}

// TestSchedTraceMigrations: a thread that is moved from one CPU to the other a known number of times.
func TestSchedTraceMigrations(t *testing.T) {
	kprobetest.Require(t)
	const moves = 1000
	if runtime.NumCPU() < 2 {
		t.Skip("one CPU")
	}
	quiet(t)
	onCPU(t, 0)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"sched_trace"}}, Scope: kprobe.Scope{TGID: uint32(os.Getpid()), TID: uint32(unix.Gettid())}})
	require.NoError(t, err)
	closeAfter(t, o)
	before, truthBefore := count(t, o), migrations(t)
	for i := range moves {
		var cpu unix.CPUSet
		cpu.Set(1 - i%2)
		require.NoError(t, unix.SchedSetaffinity(0, &cpu))
	}
	got := count(t, o).since(before)
	require.Equal(t, uint64(moves), migrations(t)-truthBefore)
	require.Equal(t, uint64(moves), got["ebpf_sched_trace_migrations_total{}"])
	t.Logf("MATRIX\tsched_trace migrate: chosen\t%s", o.Health().Modules[0].Plan[1].Attachment)
}

// migrations returns how often the kernel has moved the calling thread, by its own count.
func migrations(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/sched")
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(text), "se.nr_migrations")
	require.True(t, ok)
	return number(t, after, ":")
}
