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
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// calibrated opens modules with measured costs.
func calibrated(t *testing.T, modules ...string) *observer.Observer {
	t.Helper()
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: modules}, Verify: true, ScratchDirs: []string{t.TempDir()}})
	require.NoError(t, err)
	closeAfter(t, o)
	require.NoError(t, o.Refresh())
	return o
}

// preads reads a cached page n times.
func preads(t *testing.T, fd, n int) {
	t.Helper()
	buf := make([]byte, 100)
	for range n {
		_, err := unix.Pread(fd, buf, 0)
		require.NoError(t, err)
	}
}

// TestOverhead: Health alone brings the overhead up to date: the cost of one call, times the calls that were counted.
// How near that comes to the kernel's own statistics of the programs is measured by the benchmarks, since it takes an
// idle machine.
func TestOverhead(t *testing.T) {
	anyKernel(t)
	for _, verify := range []bool{true, false} {
		kprobetest.Require(t)
		o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io"}}, Verify: verify, ScratchDirs: []string{t.TempDir()}})
		require.NoError(t, err)
		closeAfter(t, o)
		const reads = 20_000
		fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
		each := o.CostOf("ebpf_io_operations_total")
		require.Positive(t, each)
		before := count(t, o)
		overhead := healthOf(t, o.Health(), "io").Overhead
		preads(t, fd, reads)
		after := healthOf(t, o.Health(), "io")
		grown := count(t, o).since(before)
		require.GreaterOrEqual(t, after.Overhead-overhead, reads*each)
		// The runtime's own calls may come between the counts and the health, at either end.
		all := uint64(0)
		for key, n := range grown {
			if strings.HasPrefix(key, "ebpf_io_operations_total{") {
				all += n
			}
		}
		require.LessOrEqual(t, after.Overhead-overhead, time.Duration(all)*each)
		require.Zero(t, (after.Overhead-overhead)%each)
		if !verify {
			require.True(t, after.OverheadAssumed, "nothing was measured")
		}
	}
}

// restore restores a module by one level.
func restore(t *testing.T, o *observer.Observer, module string) observer.Level {
	t.Helper()
	level, err := o.Restore(module)
	require.NoError(t, err)
	return level
}

// TestRefreshCosts: the CPU time of an iterator is part of its module's overhead, and at most the elapsed time. The two
// have different clocks: where the scheduler's is not stable, as on an emulated machine, the kernel corrects it once
// per tick.
func TestRefreshCosts(t *testing.T) {
	// This process makes no disk requests here, so the first module costs nothing.
	o := open(t, "block", "sched")
	before := o.Health().Modules
	start := time.Now()
	require.NoError(t, o.Refresh())
	took := time.Since(start)
	after := o.Health().Modules
	require.Equal(t, before[0].Overhead, after[0].Overhead)
	require.Positive(t, after[1].Overhead-before[1].Overhead)
	const tick = 10 * time.Millisecond
	require.LessOrEqual(t, after[1].Overhead-before[1].Overhead, took+tick)
}

// TestShed: a module is shed level by level until it is off, and restored; no counter decreases, and the counts at each
// level are exact.
func TestShed(t *testing.T) {
	anyKernel(t)
	o := calibrated(t, "io", "cache")
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	preads(t, fd, 1)
	quiet(t)
	// Not a multiple of 16: a sampled count cannot be equal by chance.
	const reads = 2001
	pread, timed, lookups := "ebpf_io_operations_total{pread,ok}", "ebpf_io_duration_seconds_count{pread}", "ebpf_cache_lookups_total{}"
	hasLookups := count(t, o)[lookups] > 0
	done := func() counts {
		before := count(t, o)
		preads(t, fd, reads)
		after := count(t, o)
		for key, n := range before {
			if now, ok := after[key]; ok {
				require.GreaterOrEqual(t, now, n, key)
			}
		}
		return after.since(before)
	}
	got := done()
	require.EqualValues(t, reads, got[pread])
	require.EqualValues(t, reads, got[timed])

	level, err := o.Shed("io")
	require.NoError(t, err)
	require.Equal(t, observer.LevelSampled, level)
	got = done()
	require.EqualValues(t, reads, got[pread])
	require.NotEqual(t, uint64(reads), got[timed])
	require.Zero(t, got[timed]%16)

	// A request to time all takes effect when the module is fully restored.
	timeAll(t, o)
	require.NotEqual(t, uint64(reads), done()[timed])

	// It has only one hook, so LevelReduced is skipped.
	level, err = o.Shed("io")
	require.NoError(t, err)
	require.Equal(t, observer.LevelOff, level)
	got = done()
	require.NotContains(t, got, pread)
	health := healthOf(t, o.Health(), "io")
	require.False(t, health.Up)
	require.NotEmpty(t, health.Cause)
	require.NotEmpty(t, health.Remedy)
	require.Equal(t, health.Plan.Names(), health.ShedHooks)
	for _, m := range o.Schema() {
		require.NotEqual(t, "io", m.Module, "a module that is off has no series")
	}
	if hasLookups {
		require.EqualValues(t, reads, got[lookups], "the other module")
		level, err = o.Shed("cache")
		require.NoError(t, err)
		require.Equal(t, observer.LevelReduced, level)
		require.NotContains(t, done(), lookups)
		require.Equal(t, []string{"lookup"}, healthOf(t, o.Health(), "cache").ShedHooks)
		require.True(t, healthOf(t, o.Health(), "cache").Up)
		evict(t, cold(t, pageSize), pageSize)
		require.Equal(t, observer.LevelFull, restore(t, o, "cache"))
		require.EqualValues(t, reads, done()[lookups])
	}
	level, err = o.Shed("io")
	require.NoError(t, err)
	require.Equal(t, observer.LevelOff, level)
	for _, want := range []observer.Level{observer.LevelSampled, observer.LevelFull, observer.LevelFull} {
		require.Equal(t, want, restore(t, o, "io"))
	}
	got = done()
	require.EqualValues(t, reads, got[pread])
	require.EqualValues(t, reads, got[timed])
	require.Less(t, time.Duration(got["ebpf_io_duration_seconds_sum{pread}"]), time.Second)
}

// TestShedForgetsTheBegun: a call in progress while its module is detached has no duration afterwards.
func TestShedForgetsTheBegun(t *testing.T) {
	anyKernel(t)
	o := calibrated(t, "io")
	var pipe [2]int
	require.NoError(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	read := make(chan error)
	go func() {
		_, err := unix.Read(pipe[0], make([]byte, 1))
		read <- err
	}()
	time.Sleep(20 * time.Millisecond)
	for range 2 {
		_, err := o.Shed("io")
		require.NoError(t, err)
	}
	for range 2 {
		restore(t, o, "io")
	}
	before := count(t, o)
	_, err := unix.Write(pipe[1], []byte("x"))
	require.NoError(t, err)
	require.NoError(t, <-read)
	got := count(t, o).since(before)
	// With fentry the return of a call that began before attaching is not seen.
	if o.Health().Modules[0].Plan[0].Attachment != kprobe.Fentry {
		require.EqualValues(t, 1, got["ebpf_events_lost_total{io,no_start}"])
	}
	require.Less(t, time.Duration(got["ebpf_io_duration_seconds_sum{read}"]), 20*time.Millisecond)
	require.NoError(t, unix.Close(pipe[0]))
	require.NoError(t, unix.Close(pipe[1]))
}

// TestBudgetSheds: a module that exceeds its budget for a minute is shed by Refresh, step by step; then it is not
// healthy, it is restored at once when the process gets busy, and no counter decreases.
func TestBudgetSheds(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "sched"}, MaxOverheadPercent: 1}})
	require.NoError(t, err)
	closeAfter(t, o)
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	preads(t, fd, 1)
	now, cpu := time.Now(), time.Duration(0)
	// after lets some time pass, in which the process used some CPU time.
	after := func(wall, used time.Duration) {
		now, cpu = now.Add(wall), cpu+used
		require.NoError(t, o.KeepBudget(now, cpu))
	}
	level := func() observer.Level { return healthOf(t, o.Health(), "io").Level }
	const minute = time.Minute
	after(0, 0)
	// An idle server sheds nothing, however large the share of its CPU time is.
	for range 10 {
		o.Spend("sched", 6*time.Millisecond)
		o.Spend("io", 6*time.Millisecond)
		after(minute, 20*time.Millisecond)
		require.Equal(t, observer.LevelFull, level())
		require.Equal(t, observer.LevelFull, healthOf(t, o.Health(), "sched").Level)
	}
	spend := func() {
		o.Spend("io", time.Second)
		after(minute, 6*time.Second)
	}
	before := count(t, o)
	spend()
	require.Equal(t, observer.LevelSampled, level())
	require.True(t, healthOf(t, o.Health(), "io").Up)
	require.Contains(t, healthOf(t, o.Health(), "io").Shed, " of the 6s of CPU time that the process used in 1m0s, but at most 60ms is allowed")
	spend()
	require.Equal(t, observer.LevelOff, level())
	require.Equal(t, observer.LevelFull, healthOf(t, o.Health(), "sched").Level, "the other module")
	require.False(t, healthOf(t, o.Health(), "io").Up)
	// The process continues as before: the module waits for four minutes, since it was shed twice.
	for range 3 {
		after(minute, 6*time.Second)
		require.Equal(t, observer.LevelOff, level())
	}
	after(minute, 6*time.Second)
	require.Equal(t, observer.LevelSampled, level())
	spend()
	require.Equal(t, observer.LevelOff, level())
	// The process gets busy.
	after(time.Second, 199*time.Millisecond)
	require.Equal(t, observer.LevelOff, level())
	after(time.Second, 200*time.Millisecond)
	require.Equal(t, observer.LevelFull, level())
	require.True(t, healthOf(t, o.Health(), "io").Up)
	preads(t, fd, 5)
	got := count(t, o)
	require.EqualValues(t, 5, got.since(before)["ebpf_io_operations_total{pread,ok}"])
	for key, n := range before {
		require.GreaterOrEqual(t, got[key], n, key)
	}
	// Without a limit nothing is shed, and what is shed is restored.
	spend()
	require.Equal(t, observer.LevelSampled, level())
	c := o.Config()
	c.MaxOverheadPercent = 0
	require.NoError(t, o.Configure(context.Background(), to(c)))
	after(minute, 6*time.Second)
	require.Equal(t, observer.LevelFull, level())
}

// TestShedIterators: before a module is turned off for the cost of its iterators, they run less often; what they read
// is still complete.
func TestShedIterators(t *testing.T) {
	o := open(t, "sched")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// The CPU time of an iterator proves nothing: it may be 0 by the clock of a busy emulated CPU.
	switches := func() uint64 { return count(t, o)["ebpf_sched_switches_total{voluntary}"] }
	refresh := func() (ran bool) {
		before := switches()
		nap := unix.NsecToTimespec(int64(time.Millisecond))
		for unix.Nanosleep(&nap, &nap) == unix.EINTR {
		}
		require.NoError(t, o.Refresh())
		return switches() > before
	}
	require.True(t, refresh())
	level, err := o.Shed("sched")
	require.NoError(t, err)
	require.Equal(t, observer.LevelSampled, level)
	before, ran := switches(), 0
	for range 16 {
		if refresh() {
			ran++
		}
	}
	require.Equal(t, 2, ran)
	require.GreaterOrEqual(t, switches()-before, uint64(16))
	require.Equal(t, observer.LevelFull, restore(t, o, "sched"))
	require.True(t, refresh())
	level, err = o.Shed("sched")
	require.NoError(t, err)
	require.Equal(t, observer.LevelSampled, level)
	level, err = o.Shed("sched")
	require.NoError(t, err)
	require.Equal(t, observer.LevelOff, level)
}
