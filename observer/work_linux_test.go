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
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

var (
	query = observer.NewWorkLabel(observer.Work{Name: "query", Catalog: "measure"})
	write = observer.NewWorkLabel(observer.Work{Name: "write"})
	// testWorks are works like those of a server.
	testWorks = &observer.Works{
		Labels:    []*observer.WorkLabel{query, write},
		Loops:     []observer.WorkRule{{Function: "observer_test.(*tsTable).mergeLoop", Work: observer.Work{Name: "merge", Catalog: "trace"}}},
		Functions: []observer.WorkRule{{Function: "observer_test.(*tsTable).flushLoop", Work: observer.Work{Name: "flush", Catalog: "trace"}}},
		Files:     holds,
	}
)

// tsTable has loops like those of a server.
type tsTable struct {
	t    testing.TB
	file string
}

// advise makes calls that nothing else in this process makes.
func (s *tsTable) advise(n int) {
	fd, err := unix.Open(s.file, unix.O_RDONLY, 0)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer unix.Close(fd)
	for i := range n {
		if err := unix.Fadvise(fd, 0, 0, unix.FADV_NORMAL); err != nil {
			s.t.Error(err)
			return
		}
		switch i % 16 {
		case 3:
			runtime.Gosched()
		case 7:
			time.Sleep(time.Microsecond)
		}
	}
}

func (s *tsTable) mergeLoop(done *sync.WaitGroup, n int) { defer done.Done(); s.advise(n) }
func (s *tsTable) flushLoop(done *sync.WaitGroup, n int) { defer done.Done(); s.advise(n) }

// TestWork checks that each call is attributed to the work of its goroutine, exactly: by labels, inherited labels,
// loops that inherit labels, and functions, for thousands of goroutines that are locked to a thread, change it, or
// sleep, while the garbage collector runs. In every snapshot that is taken in the meantime, and after the module has
// been switched off and on, the parts add up to the whole.
func TestWork(t *testing.T) {
	for _, kind := range []kprobe.Attachment{kprobe.Fentry, kprobe.TPBTF, kprobe.Tracepoint, kprobe.Kprobe} {
		t.Run(string(kind), func(t *testing.T) { testWork(t, kind) })
	}
}

func testWork(t *testing.T, kind kprobe.Attachment) {
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{
		Config: observer.Config{Modules: []string{"io"}}, Works: testWorks, Attachment: kind, Verify: true, ScratchDirs: []string{t.TempDir()},
	})
	if refused := (*observer.DownError)(nil); errors.As(err, &refused) && !errors.Is(err, kprobe.ErrInvalidModule) {
		t.Skipf("refused: %v", err)
	}
	require.NoError(t, err)
	closeAfter(t, o)
	require.Empty(t, o.Health().Warnings)
	for _, m := range o.Health().Modules[0].Metrics {
		require.Truef(t, m.Verified, "%s: %s", m.Name, m.Reason)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	file := t.TempDir() + "/file"
	openFile(t, file, unix.O_CREAT|unix.O_WRONLY)
	table := &tsTable{t: t, file: file}
	// Ten thousand goroutines, each of which may change its thread at any call; a thirtieth of that on an emulated machine.
	const each, children = 10, 3
	goroutines := uint64(1500)
	if os.Getenv(guest) != "" {
		goroutines = 50
	}

	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				t.Logf("%d snapshots", n)
				return
			default:
				requireWhole(t, o)
			}
		}
	})
	before := fadvised(t, o)
	var done sync.WaitGroup
	for i := range goroutines {
		run := func(f func()) {
			done.Go(func() {
				if i%3 == 0 {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
				}
				f()
			})
		}
		run(func() {
			query.Do(context.Background(), func() {
				for range children {
					done.Go(func() { table.advise(each) })
				}
				table.advise(each)
			})
		})
		run(func() {
			write.Do(context.Background(), func() {
				done.Add(1)
				go table.mergeLoop(&done, each)
				table.advise(each)
			})
			// The goroutine has no labels anymore.
			table.advise(1)
		})
		done.Add(1)
		go table.flushLoop(&done, each)
	}
	done.Wait()
	close(stop)
	watching.Wait()
	after := fadvised(t, o)
	got := make(map[observer.Work]uint64)
	for work, n := range after {
		if n != before[work] {
			got[work] = n - before[work]
		}
	}
	want := map[observer.Work]uint64{
		{Name: "query", Catalog: "measure"}: goroutines * each * (1 + children),
		{Name: "write"}:                     goroutines * each,
		{Name: "merge", Catalog: "trace"}:   goroutines * each,
		{Name: "flush", Catalog: "trace"}:   goroutines * each,
		observer.WorkOther:                  goroutines,
	}
	if missed := o.Health().Modules[0].Missed; missed > 0 {
		// Linux 7 skips a run while a thread is preempted in another one, and counts the skipped runs.
		t.Logf("%d runs skipped", missed)
		for work, n := range want {
			require.LessOrEqualf(t, got[work], n, "%v", work)
			require.LessOrEqualf(t, n-got[work], missed, "%v", work)
			missed -= n - got[work]
			delete(got, work)
		}
		require.Empty(t, got)
	} else {
		require.Equal(t, want, got)
	}
	require.Contains(t, o.UnnamedWork(), "sync.(*WaitGroup).Go.func1", "the function of goroutines that WaitGroup.Go starts")
	require.NoError(t, o.Disable("io"))
	require.NoError(t, o.Enable(t.Context(), "io"))
	query.Do(context.Background(), func() { table.advise(5) })
	require.Equal(t, after[observer.Work{Name: "query", Catalog: "measure"}]+5, fadvised(t, o)[observer.Work{Name: "query", Catalog: "measure"}])
	requireWhole(t, o)
}

// fadvised returns the number of fadvise calls by work.
func fadvised(t *testing.T, o *observer.Observer) map[observer.Work]uint64 {
	t.Helper()
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	calls := make(map[observer.Work]uint64)
	for series := range s.All() {
		if series.Metric.Name == "ebpf_io_attributed_operations_total" && series.Labels[2] == "fadvise" {
			calls[observer.Work{Name: series.Labels[0], Catalog: series.Labels[1]}] = *observertest.Word(series)
		}
	}
	return calls
}

// wholes maps metrics by work to the metrics that they break down.
var wholes = map[string][]string{
	"ebpf_io_attributed_operations_total": {"ebpf_io_operations_total"},
	"ebpf_io_attributed_bytes_total":      {"ebpf_io_bytes_total"},
	"ebpf_io_attributed_seconds_total":    {"ebpf_io_duration_seconds", "ebpf_io_operation_seconds_total"},
}

// requireWhole takes a snapshot, in which the parts must add up to the whole.
func requireWhole(t *testing.T, o *observer.Observer) {
	t.Helper()
	var s observer.Snapshot
	if err := o.Snapshot(&s); err != nil {
		t.Error(err)
		return
	}
	sums := make(map[string]uint64)
	for series := range s.All() {
		sums[series.Metric.Name] += *observertest.Word(series)
	}
	for part, whole := range wholes {
		var sum uint64
		for _, name := range whole {
			sum += sums[name]
		}
		if sums[part] != sum {
			t.Errorf("%s: the parts add up to %d, the whole is %d", part, sums[part], sum)
		}
	}
	files := make(map[string]uint64)
	for series := range s.Files() {
		files[series.Metric.Name] += *observertest.Word(series)
	}
	for i := range s.Schema() {
		if m := &s.Schema()[i]; m.ByFile != "" && files[m.ByFile] != sums[m.Name] {
			t.Errorf("%s: %d by file, %d by work", m.Name, files[m.ByFile], sums[m.Name])
		}
	}
}

// TestVerifierEffort checks how many instructions the kernel's verifier goes through for each program. It is what an Open
// takes longest for. A branch that the compiler moves before a call multiplies it, which no other test notices.
func TestVerifierEffort(t *testing.T) {
	kprobetest.Require(t)
	const most, mostOfAll = 60_000, 800_000
	o, err := observer.Open(t.Context(), observer.Options{Works: testWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	programs, err := filepath.Glob("/proc/self/fdinfo/*")
	require.NoError(t, err)
	effort := regexp.MustCompile(`(?m)^verified_insns:\s+(\d+)$`)
	n, sum, largest := 0, 0, 0
	for _, name := range programs {
		info, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // It has just been closed.
		}
		require.NoError(t, err)
		if m := effort.FindSubmatch(info); m != nil {
			instructions, err := strconv.Atoi(string(m[1]))
			require.NoError(t, err)
			n, sum, largest = n+1, sum+instructions, max(largest, instructions)
		}
	}
	if n == 0 {
		t.Skip("this kernel does not tell: it needs Linux 5.16")
	}
	t.Logf("%d programs, %d instructions, at most %d", n, sum, largest)
	require.Less(t, largest, most)
	require.Less(t, sum, mostOfAll)
}

// TestWorksInvalid checks that invalid works are rejected with an error that names the cause.
func TestWorksInvalid(t *testing.T) {
	labels := make([]*observer.WorkLabel, 33)
	for i := range labels {
		labels[i] = observer.NewWorkLabel(observer.Work{Name: fmt.Sprintf("w%d", i)})
	}
	rules := make([]observer.WorkRule, 63)
	for i := range rules {
		rules[i] = observer.WorkRule{Function: "f", Work: observer.Work{Name: fmt.Sprintf("w%d", i)}}
	}
	for want, works := range map[string]*observer.Works{
		"65 works, at most 64":  {Functions: rules},
		"33 labels, at most 32": {Labels: labels},
		"Big Work":              {Loops: []observer.WorkRule{{Function: "f", Work: observer.Work{Name: "Big Work"}}}},
	} {
		_, err := observer.Open(t.Context(), observer.Options{Works: works})
		require.ErrorIs(t, err, observer.ErrInvalidWorks)
		require.ErrorContains(t, err, want)
	}
}

// TestWorkOfRuntime checks that what the runtime does on the system stack is attributed to the goroutine that it is
// done for.
func TestWorkOfRuntime(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"io"}}, Works: testWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	require.Zero(t, mapped(t, o))
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	var held []byte
	query.Do(context.Background(), func() {
		// More than the heap has free after other tests, so that the runtime must map new memory.
		held = make([]byte, memory.HeapIdle+64<<20)
	})
	require.Positive(t, mapped(t, o))
	runtime.KeepAlive(held)
}

// mapped returns the number of calls on the address space that queries have made.
func mapped(t *testing.T, o *observer.Observer) uint64 {
	t.Helper()
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	for series := range s.All() {
		if series.Metric.Name == "ebpf_io_attributed_operations_total" && slices.Equal(series.Labels, []string{"query", "measure", "other"}) {
			return *observertest.Word(series)
		}
	}
	return 0
}

// TestWorkOfRegret checks that pages that one work drops and another needs again are attributed to both, exactly.
func TestWorkOfRegret(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"cache"}}, Works: testWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	if !slices.ContainsFunc(o.Schema(), func(m observer.Metric) bool { return m.Name == "ebpf_cache_attributed_regret_pages_total" }) {
		t.Skip("this kernel does not show pages to the module")
	}
	const pages = 100
	file := t.TempDir() + "/file"
	content := make([]byte, pages*os.Getpagesize())
	require.NoError(t, os.WriteFile(file, content, 0o600))
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	fd := int(f.Fd())
	require.NoError(t, unix.Fsync(fd))
	require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM))
	write.Do(context.Background(), func() { require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)) })
	query.Do(context.Background(), func() {
		n, err := unix.Pread(fd, content, 0)
		require.NoError(t, err)
		require.Len(t, content, n)
	})
	got := make(map[string]uint64)
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	for series := range s.All() {
		name := strings.TrimPrefix(series.Metric.Name, "ebpf_cache_attributed_")
		if n := *observertest.Word(series); n > 0 && slices.Contains([]string{"dropped_early_pages_total", "regret_pages_total", "deleted_pages_total"}, name) {
			got[name+" "+series.Labels[0]] = n
		}
	}
	require.Equal(t, map[string]uint64{"deleted_pages_total write": pages, "dropped_early_pages_total write": pages, "regret_pages_total query": pages}, got)
}

// TestWorksAbsent checks that metrics by work are absent without works, and for another process.
func TestWorksAbsent(t *testing.T) {
	kprobetest.Require(t)
	for name, options := range map[string]observer.Options{
		"no works":        {},
		"another process": {Works: testWorks, Scope: kprobe.Scope{TGID: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			options.Modules = []string{"io"}
			o, err := observer.Open(t.Context(), options)
			require.NoError(t, err)
			closeAfter(t, o)
			for _, m := range o.Schema() {
				require.Nil(t, m.PartOf, m.Name)
			}
			require.Contains(t, o.Health().Modules[0].Absent, "ebpf_io_attributed_operations_total")
			require.Empty(t, o.Health().Warnings)
			require.Empty(t, o.UnnamedWork())
		})
	}
}

// BenchmarkSnapshotWorks takes snapshots of the default modules, without works and with two works that caused events.
func BenchmarkSnapshotWorks(b *testing.B) {
	for _, works := range []*observer.Works{nil, testWorks} {
		b.Run(fmt.Sprintf("works=%t", works != nil), func(b *testing.B) {
			o, err := observer.Open(b.Context(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache", "memory", "sched"}}, Works: works})
			if err != nil {
				b.Skip(err)
			}
			closeAfter(b, o)
			table := &tsTable{t: b, file: os.DevNull}
			query.Do(context.Background(), func() { table.advise(100) })
			write.Do(context.Background(), func() { table.advise(100) })
			var s observer.Snapshot
			b.ReportAllocs()
			for b.Loop() {
				if err := o.Snapshot(&s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
