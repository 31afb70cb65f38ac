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
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// calibrated opens modules that know what they cost.
func calibrated(t *testing.T, modules ...string) *observer.Observer {
	t.Helper()
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Modules: modules, Verify: true, ScratchDir: t.TempDir()})
	require.NoError(t, err)
	closeAfter(t, o)
	require.NoError(t, o.Refresh())
	require.NoError(t, o.Account())
	return o
}

// overheadOf returns the estimate of one module.
func overheadOf(t *testing.T, o *observer.Observer, module string) time.Duration {
	t.Helper()
	require.NoError(t, o.Account())
	for _, m := range o.Health().Modules {
		if m.Name == module {
			return m.Overhead
		}
	}
	t.Fatalf("no module %s", module)
	return 0
}

// preads reads a cached page, so many times.
func preads(t *testing.T, fd, n int) {
	t.Helper()
	buf := make([]byte, 100)
	for range n {
		_, err := unix.Pread(fd, buf, 0)
		require.NoError(t, err)
	}
}

// TestOverhead: the estimate is what the kernel's own statistics of the programs say, within 30 parts in a hundred. They
// cost something themselves, and do not see what it takes to call a program.
func TestOverhead(t *testing.T) {
	if os.Getenv(guest) != "" {
		t.Skip("an emulated CPU")
	}
	const reads = 200_000
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	var ratios []float64
	for range 5 {
		o := calibrated(t, "io")
		programs := map[string]bool{}
		for object := range kernelObjects(t) {
			if strings.HasPrefix(object, "prog_id ") {
				programs[object] = true
			}
		}
		quiet(t)
		stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
		require.NoError(t, err)
		before, ran := overheadOf(t, o, "io"), runTime(t, programs)
		preads(t, fd, reads)
		estimate, measured := overheadOf(t, o, "io")-before, runTime(t, programs)-ran
		require.NoError(t, stats.Close())
		// The programs of this try are not to be among those of the next.
		require.NoError(t, o.Close())
		t.Logf("estimated %s, by the kernel's statistics %s", estimate, measured)
		require.Positive(t, estimate)
		ratio := float64(estimate) / float64(measured)
		ratios = append(ratios, ratio)
		if ratio > 0.7 && ratio < 1.3 {
			return
		}
	}
	t.Fatalf("in none of %v is the estimate within 30 of a hundred", ratios)
}

// runTime is how long programs have run, by the kernel's statistics.
func runTime(t *testing.T, programs map[string]bool) time.Duration {
	t.Helper()
	var sum time.Duration
	for object := range programs {
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(objectID(t, object)))
		require.NoError(t, err)
		s, err := prog.Stats()
		require.NoError(t, err)
		require.NoError(t, prog.Close())
		sum += s.Runtime
	}
	return sum
}

// restore puts a module back by one level.
func restore(t *testing.T, o *observer.Observer, module string) observer.Level {
	t.Helper()
	level, err := o.Restore(module)
	require.NoError(t, err)
	return level
}

// TestRefreshCosts: what an iterator takes is part of its module's overhead, and no more than all of it.
func TestRefreshCosts(t *testing.T) {
	o := open(t, "io", "sched")
	before := o.Health().Modules
	start := time.Now()
	require.NoError(t, o.Refresh())
	took := time.Since(start)
	after := o.Health().Modules
	require.Equal(t, before[0].Overhead, after[0].Overhead)
	require.Positive(t, after[1].Overhead-before[1].Overhead)
	require.LessOrEqual(t, after[1].Overhead-before[1].Overhead, took)
}

// TestShed: level by level a module costs less, down to nothing, and back; no count falls, and what is counted at a level is
// exact.
func TestShed(t *testing.T) {
	o := calibrated(t, "io", "cache")
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	preads(t, fd, 1)
	quiet(t)
	// No multiple of 16: what is sampled cannot come to it by chance.
	const reads = 2001
	pread, timed, lookups := "ebpf_io_operations_total{pread,ok}", "ebpf_io_duration_seconds_count{pread}", "ebpf_cache_lookups_total{}"
	hasLookups := count(t, o)[lookups] > 0
	done := func() counts {
		before := count(t, o)
		preads(t, fd, reads)
		require.NoError(t, o.Account())
		after := count(t, o)
		for key, n := range before {
			require.GreaterOrEqual(t, after[key], n, key)
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

	// Who asks for more gets it when the module is whole again.
	require.NoError(t, o.Sample(1))
	require.NotEqual(t, uint64(reads), done()[timed])

	// It has one hook alone, of which none can be spared.
	level, err = o.Shed("io")
	require.NoError(t, err)
	require.Equal(t, observer.LevelOff, level)
	got = done()
	require.Zero(t, got[pread])
	if hasLookups {
		require.EqualValues(t, reads, got[lookups], "the other module")
		level, err = o.Shed("cache")
		require.NoError(t, err)
		require.Equal(t, observer.LevelReduced, level)
		require.Zero(t, done()[lookups])
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
	_, err = o.Shed("nosuch")
	require.ErrorIs(t, err, observer.ErrUnknownModule)
}

// TestShedForgetsTheBegun: a call that is under way while its module is detached has no duration after.
func TestShedForgetsTheBegun(t *testing.T) {
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
	// By fentry nobody sees the return of what was called before.
	if o.Health().Modules[0].Plan[0].Attach != kprobe.Fentry {
		require.EqualValues(t, 1, got["ebpf_events_lost_total{io,no_start}"])
	}
	require.Less(t, time.Duration(got["ebpf_io_duration_seconds_sum{read}"]), 20*time.Millisecond)
	require.NoError(t, unix.Close(pipe[0]))
	require.NoError(t, unix.Close(pipe[1]))
}
