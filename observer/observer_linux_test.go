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
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

func TestSnapshotAllocatesNothing(t *testing.T) {
	anyKernel(t)
	o := open(t, "io", "cache", "memory", "sched")
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if err := o.Snapshot(&s); err != nil {
			panic(err)
		}
	}))
}

func TestSnapshotMakesNoSystemCall(t *testing.T) {
	anyKernel(t)
	o := open(t, "io", "cache", "memory", "sched")
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	requireNoSystemCall(t, callCounter(t), func() error { return o.Snapshot(&s) })
}

// callCounter returns a function that counts the thread's system calls by perf events.
func callCounter(t *testing.T) func(during func()) uint64 {
	t.Helper()
	id := tracepointID(t, "raw_syscalls/sys_enter")
	quiet(t)
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: unix.PERF_ATTR_SIZE_VER0}, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	buf := make([]byte, 8)
	calls := func(during func()) uint64 {
		_, err := unix.Read(fd, buf)
		require.NoError(t, err)
		before := binary.NativeEndian.Uint64(buf)
		during()
		_, err = unix.Read(fd, buf)
		require.NoError(t, err)
		// The second read itself is a system call.
		return binary.NativeEndian.Uint64(buf) - before - 1
	}
	require.GreaterOrEqual(t, calls(func() { unix.Getppid() }), uint64(1), "the ground truth counts nothing")
	return calls
}

// requireNoSystemCall requires that f makes none in a thousand calls. The runtime preempts a goroutine that has run for
// 10 ms by a signal or a wait, and so by a system call: each part is shorter and begins a new time slice, and the
// minimum of some tries counts.
func requireNoSystemCall(t *testing.T, calls func(during func()) uint64, f func() error) {
	t.Helper()
	require.Zero(t, leastCalls(calls, f))
}

// leastCalls returns how many system calls a thousand calls of f make.
func leastCalls(calls func(during func()) uint64, f func() error) uint64 {
	least := ^uint64(0)
	for range 20 {
		made := uint64(0)
		for range 10 {
			runtime.Gosched()
			made += calls(func() {
				for range 100 {
					if err := f(); err != nil {
						panic(err)
					}
				}
			})
		}
		least = min(least, made)
	}
	return least
}

// tracepointID reads the id of a tracepoint from tracefs.
func tracepointID(t *testing.T, name string) uint64 {
	t.Helper()
	file := filepath.Join(tracefs, "events", name, "id")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Skipf("no tracefs to count system calls with: %v", err)
	}
	id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	require.NoError(t, err)
	return id
}

// kernelObjects returns the maps, programs and links that this process's descriptors hold, as "map_id 7".
func kernelObjects(t *testing.T) map[string]bool {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	require.NoError(t, err)
	held := map[string]bool{}
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if errors.Is(err, os.ErrNotExist) {
			// The descriptor of the listing itself.
			continue
		}
		require.NoError(t, err)
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			if key == "map_id" || key == "prog_id" || key == "link_id" {
				held[key+" "+strings.TrimSpace(value)] = true
			}
		}
	}
	return held
}

// objectID returns the kernel's id of an object.
func objectID(t *testing.T, object string) uint32 {
	t.Helper()
	_, text, _ := strings.Cut(object, " ")
	id, err := strconv.ParseUint(text, 10, 32)
	require.NoError(t, err)
	return uint32(id)
}

// existing returns which of the objects the kernel still has.
func existing(t *testing.T, objects map[string]bool) []string {
	t.Helper()
	var found []string
	for object := range objects {
		kind, _, _ := strings.Cut(object, " ")
		id := objectID(t, object)
		var err error
		var held interface{ Close() error }
		switch kind {
		case "map_id":
			held, err = ebpf.NewMapFromID(ebpf.MapID(id))
		case "prog_id":
			held, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
		case "link_id":
			held, err = link.NewFromID(link.ID(id))
		}
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, held.Close())
		found = append(found, object)
	}
	return found
}

// mappings counts the maps that are mapped into memory.
func mappings(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(text), "bpf-map")
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// TestOpenCloseLeavesNothing: no descriptor, map, program, link, mapping or goroutine remains after opening and closing
// 60 times, or fewer on an emulated CPU.
func TestOpenCloseLeavesNothing(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	times := 60
	var modules []string
	if os.Getenv(guest) != "" {
		// A machine with little memory, and an emulated CPU.
		times, modules = 4, []string{"cache", "memory", "sched"}
	}
	made := map[string]bool{}
	once := func() {
		// What only the garbage collector would close has leaked, so it is off.
		defer debug.SetGCPercent(debug.SetGCPercent(-1))
		fds := descriptors(t)
		o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: modules}})
		require.NoError(t, err)
		var s observer.Snapshot
		require.NoError(t, o.Snapshot(&s))
		maps.Copy(made, kernelObjects(t))
		require.GreaterOrEqual(t, mappings(t), 3, "a mapping for each module")
		require.NoError(t, o.Close())
		require.NoError(t, o.Close())
		require.ErrorIs(t, o.Snapshot(&s), observer.ErrClosed)
		require.Equal(t, fds, descriptors(t))
	}
	once()
	perOpen := len(made)
	require.Greater(t, perOpen, 20, "maps, programs and links of three modules")
	goroutines := runtime.NumGoroutine()
	for range times {
		once()
	}
	require.Equal(t, goroutines, runtime.NumGoroutine())
	require.Greater(t, len(made), times*(perOpen-1), "each time new objects were made")
	requireGone(t, made, "after closing")
}

// TestSnapshotDuringClose: readers in any number of goroutines get a snapshot or ErrClosed, never a fault.
func TestSnapshotDuringClose(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	for range 5 {
		o, err := observer.Open(context.Background(), observer.Options{})
		require.NoError(t, err)
		var readers sync.WaitGroup
		for range 4 {
			readers.Go(func() {
				var s observer.Snapshot
				for {
					if err := o.Snapshot(&s); err != nil {
						if !errors.Is(err, observer.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		require.NoError(t, o.Close())
		readers.Wait()
	}
}

// TestBrokenModule: one that cannot be parsed is down with its cause, and the others count.
func TestBrokenModule(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	builtIn := bpf.Modules(runtime.GOARCH)
	good, err := fs.ReadFile(builtIn, "io.bpf.o")
	require.NoError(t, err)
	objects := fstest.MapFS{
		"io.bpf.o":     {Data: good},
		"broken.bpf.o": {Data: []byte("not an object")},
		"half.bpf.o":   {Data: good[:len(good)/2]},
	}
	o, err := observer.Open(context.Background(), observer.Options{Sources: []observer.Source{observer.Files(objects)}})
	require.NoError(t, err)
	defer o.Close()
	health := o.Health()
	require.Len(t, health.Modules, 3)
	for _, m := range health.Modules {
		require.Equal(t, m.Name == "io", m.Up, m.Name)
		if !m.Up {
			require.Contains(t, m.Cause, "invalid probe module: parsing the object")
		}
	}
	require.Contains(t, health.String(), "broken: down: invalid probe module")

	_, err = observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"broken", "half"}}, Sources: []observer.Source{observer.Files(objects)}})
	var down *observer.DownError
	require.ErrorAs(t, err, &down)
	require.Len(t, down.Health.Modules, 2)

	_, err = observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "nosuch"}}, Sources: []observer.Source{observer.Files(objects)}})
	require.ErrorIs(t, err, observer.ErrUnknownModule)
	require.ErrorContains(t, err, "broken, half, io")

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = observer.Open(ended, observer.Options{})
	require.ErrorIs(t, err, context.Canceled)
}

func BenchmarkSnapshot(b *testing.B) {
	o := open(b)
	var s observer.Snapshot
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Snapshot(&s); err != nil {
			b.Fatal(err)
		}
	}
}
