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
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// pathsSeen are all paths that holds was asked about.
var pathsSeen = struct {
	all []string
	mu  sync.Mutex
}{}

// holds says of the files of these tests what they hold: the name of the folder is the group, and that of the file
// without its extension the kind.
func holds(name string) observer.File {
	pathsSeen.mu.Lock()
	defer pathsSeen.mu.Unlock()
	pathsSeen.all = append(pathsSeen.all, name)
	kind, _, _ := strings.Cut(path.Base(name), ".")
	return observer.File{Catalog: "test", Kind: strings.ReplaceAll(kind, "#", "number"), Group: path.Base(path.Dir(name))}
}

// byFile returns the counts of one metric by file, by its labels.
func byFile(t testing.TB, o *observer.Observer, metric string) counts {
	t.Helper()
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	c := counts{}
	for series := range s.Files() {
		if series.Metric.Name == metric {
			require.Len(t, series.Labels, len(series.Metric.Labels))
			c[strings.Join(series.Labels, " ")] += *observertest.Word(series)
		}
	}
	return c
}

// eachFiles runs a test of a module with each of some kinds of attachment that tells files apart.
func eachFiles(t *testing.T, module, hook string, kinds []kprobe.Attachment, test func(t *testing.T, o *observer.Observer)) {
	t.Helper()
	kprobetest.Require(t)
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{module}}, Works: testWorks, Attachment: kind})
			if errors.Is(err, kprobe.ErrNotSupported) || errors.Is(err, kprobe.ErrPermission) {
				t.Skipf("refused: %v", err)
			}
			require.NoError(t, err)
			closeAfter(t, o)
			if warnings := o.Health().Warnings; len(warnings) > 0 {
				require.Contains(t, warnings[0].Cause, "no metric is counted by file")
				t.Skip(warnings[0].Cause)
			}
			if plan := o.Health().Modules[0].Plan; !plan.Attached(hook) {
				t.Skip(plan.Refusals())
			}
			test(t, o)
		})
	}
}

// eachCalls is eachFiles for system calls.
func eachCalls(t *testing.T, test func(t *testing.T, o *observer.Observer)) {
	t.Helper()
	eachFiles(t, "io", "syscall", []kprobe.Attachment{kprobe.Fentry, kprobe.TPBTF}, test)
}

// folderOf makes a folder whose name is not that of a folder of another test, and returns it and that name.
func folderOf(t testing.TB, name string) (dir, group string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), name)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	return dir, name
}

// TestFiles checks that calls are counted for the file of their descriptor, exactly, whatever has become of the file: opened
// before the Observer, renamed, unlinked, with a duplicated descriptor, or with a long name.
func TestFiles(t *testing.T) {
	dir, group := folderOf(t, "files")
	long := strings.Repeat("l", 200)
	early := openFile(t, filepath.Join(dir, "early.bin"), unix.O_RDWR|unix.O_CREAT)
	_, err := unix.Write(early, make([]byte, 100))
	require.NoError(t, err)
	eachCalls(t, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		before := byFile(t, o, "ebpf_io_file_operations_total")
		bytesBefore := byFile(t, o, "ebpf_io_file_bytes_total")
		preads(t, early, 3)
		duplicate, err := unix.FcntlInt(uintptr(early), unix.F_DUPFD_CLOEXEC, 500)
		require.NoError(t, err)
		preads(t, duplicate, 4)
		require.NoError(t, unix.Close(duplicate))

		old := filepath.Join(dir, "old.bin")
		fd := openFile(t, old, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC)
		_, err = unix.Write(fd, make([]byte, 70))
		require.NoError(t, err)
		preads(t, fd, 5)
		require.NoError(t, os.Rename(old, filepath.Join(dir, "renamed.bin")))
		preads(t, fd, 6)
		require.NoError(t, unix.Unlink(filepath.Join(dir, "renamed.bin")))
		preads(t, fd, 7)
		require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_NORMAL))

		// Names are compared by their first 32 bytes.
		for i := range 2 {
			preads(t, openFile(t, filepath.Join(dir, long+fmt.Sprint(i)), unix.O_RDWR|unix.O_CREAT), 8)
		}
		sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		var pipes [2]int
		require.NoError(t, unix.Pipe(pipes[:]))
		for range 9 {
			for _, fd := range []int{sockets[0], pipes[1]} {
				_, err = unix.Write(fd, make([]byte, 11))
				require.NoError(t, err)
			}
		}
		for _, fd := range append(sockets[:], pipes[:]...) {
			require.NoError(t, unix.Close(fd))
		}

		got := byFile(t, o, "ebpf_io_file_operations_total").since(before)
		gotBytes := byFile(t, o, "ebpf_io_file_bytes_total").since(bytesBefore)
		want := counts{
			"test early " + group + " read": 3 + 4,
			"test old " + group + " read":   5, "test old " + group + " write": 1, "test old " + group + " other": 1,
			"test renamed " + group + " read": 6 + 7, "test renamed " + group + " fadvise": 1,
			"test " + long[:32] + " " + group + " read": 2 * 8, "test " + long[:32] + " " + group + " other": 2,
		}
		for key, n := range got {
			if strings.HasPrefix(key, "test ") && strings.Contains(key, " "+group+" ") {
				require.Equal(t, want[key], n, key)
				delete(want, key)
			}
		}
		require.Empty(t, want)
		require.EqualValues(t, 100*(3+4), gotBytes["test early "+group+" read"])
		require.EqualValues(t, 70, gotBytes["test old "+group+" write"])
		require.EqualValues(t, 9*11, gotBytes[" pipe  write"])
		require.EqualValues(t, 9*11, gotBytes[" socket  write"])
		requireWhole(t, o)
	})
}

// TestFileShapes checks what is left out of a path, and that more folders than groups are counted as one.
func TestFileShapes(t *testing.T) {
	root := t.TempDir()
	eachCalls(t, func(t *testing.T, o *observer.Observer) {
		touch := func(name string) {
			name = filepath.Join(root, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
			preads(t, openFile(t, name, unix.O_RDWR|unix.O_CREAT), 1)
		}
		for name, want := range map[string]string{
			"measure/data/sw/seg-20260101/shard-3/000000000000002a/primary.bin": "measure/data/sw/seg-#/shard-#/#/primary.bin",
			"stream/data/sw/seg-2026010112/shard-0/0001/searchable.tf":          "stream/data/sw/seg-#/shard-#/#/*.tf",
			"trace/data/sw/seg-20260101/shard-0/0001/http.tfm":                  "trace/data/sw/seg-#/shard-#/#/*.tfm",
			"stream/data/sw/seg-20260101/sidx/000000001f.seg":                   "stream/data/sw/seg-#/sidx/#.seg",
			"measure/data/folders/seg-20260101":                                 "measure/data/folders/seg-#",
			"measure/data/folders/seg-20260102/shard-12":                        "measure/data/folders/seg-#/shard-#",
			"data/a-folder.with.dots/metadata":                                  "data/a-folder.with.dots/metadata",
			"data/exactly-eight/12345678":                                       "data/exactly-eight/#",
			"data/exactly-eight/abcdefgh.bin":                                   "data/exactly-eight/abcdefgh.bin",
			"data/far/" + strings.Repeat("n", 23) + ".tm":                       "data/far/*.tm",
			"data/far/" + strings.Repeat("n", 24) + ".tm":                       "data/far/" + strings.Repeat("n", 24) + ".tm",
		} {
			pathsSeen.mu.Lock()
			before := len(pathsSeen.all)
			pathsSeen.mu.Unlock()
			touch(name)
			byFile(t, o, "ebpf_io_file_operations_total")
			pathsSeen.mu.Lock()
			paths := pathsSeen.all[before:]
			pathsSeen.mu.Unlock()
			require.True(t, slices.ContainsFunc(paths, func(path string) bool { return strings.HasSuffix(path, "/"+want) }), "%s: %q", name, paths)
		}
		for i := range 70 {
			touch(fmt.Sprintf("groups/group%d/many.bin", i))
		}
		groups := make(map[string]uint64)
		for key, n := range byFile(t, o, "ebpf_io_file_operations_total") {
			fields := strings.Fields(key)
			if fields[1] == "many" && fields[3] == "read" {
				groups[fields[2]] += n
			}
		}
		require.Less(t, len(groups), 66)
		var sum uint64
		for n := range maps.Values(groups) {
			sum += n
		}
		require.EqualValues(t, 70, sum)
		require.Greater(t, groups["other"], uint64(5))
	})
}

// TestFilesFull checks that with more shapes and cells than numbers, nothing is lost, and no work has what another did.
func TestFilesFull(t *testing.T) {
	dir, _ := folderOf(t, "full")
	eachCalls(t, func(t *testing.T, o *observer.Observer) {
		const shapes = 700
		for i := range shapes {
			fd, err := unix.Open(filepath.Join(dir, fmt.Sprintf("f%d", i)), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			require.NoError(t, err)
			for _, label := range []*observer.WorkLabel{query, write} {
				label.Do(t.Context(), func() { preads(t, fd, 1) })
			}
			require.NoError(t, unix.Close(fd))
		}
		var kinds []string
		for key := range byFile(t, o, "ebpf_io_file_operations_total") {
			kinds = append(kinds, strings.Fields(key)[0])
		}
		require.True(t, slices.Contains(kinds, "other"))
		all := count(t, o)
		require.EqualValues(t, shapes, all["ebpf_io_attributed_operations_total{query,measure,read}"])
		require.EqualValues(t, shapes, all["ebpf_io_attributed_operations_total{write,,read}"])
		requireWhole(t, o)
	})
}

// TestFilePages checks pages by file against mincore(2): a cold read, what fadvise drops, and what is read again.
func TestFilePages(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"cache"}}, Works: testWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	requireHook(t, "dirty")
	if warnings := o.Health().Warnings; len(warnings) > 0 {
		t.Skip(warnings[0].Cause)
	}
	// Its folder is numbered.
	fd := cold(t, fileSize)
	quiet(t)
	of := func(metric, prefix string) uint64 {
		return byFile(t, o, "ebpf_cache_file_"+metric+"_pages_total")[prefix+"test file #"]
	}
	filled, deleted := of("filled", ""), of("deleted", "")
	readAll(t, fd)
	pages := uint64(residentPages(t, fd, fileSize))
	require.Equal(t, pages, of("filled", "")-filled)
	query.Do(t.Context(), func() { evict(t, fd, fileSize) })
	require.Zero(t, residentPages(t, fd, fileSize))
	require.Equal(t, pages, of("deleted", "")-deleted)
	require.Equal(t, pages, of("dropped", "query "))
	regret := of("regret", "")
	readAll(t, fd)
	again := uint64(residentPages(t, fd, fileSize))
	require.Equal(t, again, of("regret", "")-regret)
	require.Equal(t, again, of("dropped_early", "query "))
	requireWhole(t, o)
}

// TestFileFaults checks that the time of all page faults in mappings of files is that of the files, and that a file that
// nothing else maps has some.
func TestFileFaults(t *testing.T) {
	eachFiles(t, "memory", "fault", []kprobe.Attachment{kprobe.Fentry, kprobe.Kprobe}, func(t *testing.T, o *observer.Observer) {
		file := filepath.Join(t.TempDir(), "mapped.seg")
		require.NoError(t, os.WriteFile(file, make([]byte, 64*pageSize), 0o600))
		memory, err := unix.Mmap(openFile(t, file, unix.O_RDONLY), 0, 64*pageSize, unix.PROT_READ, unix.MAP_SHARED)
		require.NoError(t, err)
		defer func() { require.NoError(t, unix.Munmap(memory)) }()
		for at := 0; at < len(memory); at += pageSize {
			require.Zero(t, memory[at])
		}
		var s observer.Snapshot
		require.NoError(t, o.Snapshot(&s))
		var ofFiles, ofMappings, mapped uint64
		for series := range s.All() {
			if series.Metric.Name == "ebpf_memory_page_fault_duration_seconds" && series.Labels[1] == "file" {
				ofMappings += *observertest.Word(series)
			}
		}
		for series := range s.Files() {
			switch {
			case series.Metric.Name != "ebpf_memory_file_page_fault_seconds_total" || series.Labels[1] == "none":
			case series.Labels[1] == "mapped":
				mapped += *observertest.Word(series)
				fallthrough
			default:
				ofFiles += *observertest.Word(series)
			}
		}
		require.Equal(t, ofMappings, ofFiles)
		require.Positive(t, mapped)
		requireWhole(t, o)
	})
}
