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
	"bytes"
	"context"
	"encoding/binary"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	unusedPages    = "ebpf_cache_unused_pages_total{}"
	regretPages    = "ebpf_cache_regret_pages_total{}"
	forgottenPages = "ebpf_cache_regret_forgotten_pages_total{}"
	dirtiedPages   = "ebpf_cache_dirtied_pages_total{}"
	filledPages    = "ebpf_cache_filled_pages_total{}"
	deletedPages   = "ebpf_cache_deleted_pages_total{}"

	// droppedPages is the size of the files that these tests drop and read again, a multiple of what readAll reads at once.
	droppedPages = 256
)

// eachDropAttach runs a test that needs the hooks that see the pages themselves.
func eachDropAttach(t *testing.T, test func(*testing.T, *observer.Observer)) {
	t.Helper()
	eachAttach(t, "cache", []string{"fill", "delete", "dirty"}, test)
}

// closedFile makes a file that no one has open for writing, whose pages are on disk and not in the page cache.
func closedFile(t *testing.T, pages int) (fd int, name string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, make([]byte, pages*pageSize), 0o600))
	fd = openFile(t, name, unix.O_RDONLY)
	require.NoError(t, unix.Fsync(fd))
	evict(t, fd, pages*pageSize)
	return fd, name
}

// hole makes a file that takes no space on disk and has never been in the page cache. Reading it does not read
// neighbors.
func hole(t *testing.T, pages int) int {
	t.Helper()
	fd := openFile(t, filepath.Join(t.TempDir(), "hole"), unix.O_RDWR|unix.O_CREAT)
	require.NoError(t, unix.Ftruncate(fd, int64(pages*pageSize)))
	require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM))
	return fd
}

func readPage(t *testing.T, fd, page int) {
	t.Helper()
	n, err := unix.Pread(fd, make([]byte, 100), int64(page*pageSize))
	require.NoError(t, err)
	require.Positive(t, n)
}

func writePages(t *testing.T, fd, from, pages int) {
	t.Helper()
	chunk := make([]byte, pageSize)
	for page := from; page < from+pages; page++ {
		n, err := unix.Pwrite(fd, chunk, int64(page*pageSize))
		require.NoError(t, err)
		require.Equal(t, pageSize, n)
	}
}

// willNeed makes the kernel read a file ahead, and waits until it has, by mincore(2).
func willNeed(t *testing.T, fd, pages int) {
	t.Helper()
	const step = 16
	for page := 0; page < pages; page += step {
		require.NoError(t, unix.Fadvise(fd, int64(page*pageSize), int64(min(step, pages-page)*pageSize), unix.FADV_WILLNEED))
	}
	require.Eventually(t, func() bool { return residentPages(t, fd, pages*pageSize) == pages }, patience, time.Millisecond)
}

// TestCacheUnused: of the pages that the kernel was told to read ahead, those that were not read before they were
// dropped are unused, however often the others were read.
func TestCacheUnused(t *testing.T) {
	eachDropAttach(t, testCacheUnused)
}

func testCacheUnused(t *testing.T, o *observer.Observer) {
	const pages = 64
	fd, name := closedFile(t, pages)
	quiet(t)
	for _, used := range [][]int{nil, {0}, {3, 5, 3, 5}, {3, 5, 3, 5, 3, 5}, {0, 8, 16, 24, 32, 40, 48, 56, 63}} {
		different := map[int]bool{}
		before := count(t, o)
		willNeed(t, fd, pages)
		for _, page := range used {
			readPage(t, fd, page)
			different[page] = true
		}
		evict(t, fd, pages*pageSize)
		got := count(t, o).since(before)
		require.EqualValues(t, pages, got[filledPages])
		require.EqualValues(t, pages, got[deletedPages])
		require.EqualValues(t, pages-len(different), got[unusedPages], "used: %v", used)
	}

	// Pages used through a mapping are used. The kernel maps neighbors too, which count as used.
	before := count(t, o)
	willNeed(t, fd, pages)
	mem, err := unix.Mmap(fd, 0, pages*pageSize, unix.PROT_READ, unix.MAP_SHARED)
	require.NoError(t, err)
	for page := range pages {
		require.Zero(t, mem[page*pageSize])
	}
	require.NoError(t, unix.Munmap(mem))
	evict(t, fd, pages*pageSize)
	got := count(t, o).since(before)
	require.EqualValues(t, pages, got[deletedPages])
	require.Zero(t, got[unusedPages])

	// Pages that a writer drops after it has written them are not unused, nor are those of a removed file.
	writer := openFile(t, name, unix.O_RDWR)
	before = count(t, o)
	writePages(t, writer, 0, pages)
	require.NoError(t, unix.Fsync(writer))
	evict(t, writer, pages*pageSize)
	got = count(t, o).since(before)
	require.EqualValues(t, pages, got[deletedPages])
	require.Zero(t, got[unusedPages])

	name = filepath.Join(t.TempDir(), "gone")
	require.NoError(t, os.WriteFile(name, make([]byte, pages*pageSize), 0o600))
	reader, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Fsync(reader))
	before = count(t, o)
	require.NoError(t, os.Remove(name))
	require.NoError(t, unix.Close(reader))
	got = count(t, o).since(before)
	require.EqualValues(t, pages, got[deletedPages])
	require.Zero(t, got[unusedPages])
}

// TestCacheDirtied: each page that is written to counts once each time that it was clean, as the kernel accounts it in
// /proc/thread-self/io.
func TestCacheDirtied(t *testing.T) {
	eachAttach(t, "cache", []string{"dirty"}, testCacheDirtied)
}

func testCacheDirtied(t *testing.T, o *observer.Observer) {
	// A file system without a journal sometimes dirties pages with its metadata.
	const pages, metadata = 200, 4
	fd := openFile(t, filepath.Join(t.TempDir(), "file"), unix.O_RDWR|unix.O_CREAT)
	require.NoError(t, unix.Ftruncate(fd, 2*int64(pages*pageSize)))
	quiet(t)
	dirtied := func(what string, want int, do func()) {
		t.Helper()
		// Pages that another thread of the test dirties between two readings are in only one of them.
		first, before, second := written(t), count(t, o), written(t)
		do()
		third, got, fourth := written(t), count(t, o).since(before), written(t)
		require.GreaterOrEqual(t, got[dirtiedPages], (third-second)/uint64(pageSize), what)
		require.LessOrEqual(t, got[dirtiedPages], (fourth-first)/uint64(pageSize), what)
		require.GreaterOrEqual(t, got[dirtiedPages], uint64(want), what)
		require.LessOrEqual(t, got[dirtiedPages], uint64(want+metadata), what)
	}
	write := func() { writePages(t, fd, 0, pages) }
	chunk := make([]byte, pages*pageSize)
	dirtied("one write", pages, func() {
		n, err := unix.Pwrite(fd, chunk, 2*int64(pages*pageSize))
		require.NoError(t, err)
		require.Equal(t, len(chunk), n)
	})
	dirtied("clean pages", pages, write)
	dirtied("dirty pages", 0, write)
	require.NoError(t, unix.Fsync(fd))
	dirtied("pages that were written back", pages, write)

	mem, err := unix.Mmap(fd, int64(pages*pageSize), pages*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mem)) }()
	dirtied("pages of a mapping", pages/10, func() {
		for page := 0; page < pages; page += 10 {
			mem[page*pageSize] = 1
		}
	})

	// What the file system itself writes is accounted in the same way.
	accounted, before := written(t), count(t, o)
	require.NoError(t, unix.Fsync(fd))
	got, after := count(t, o).since(before), written(t)
	require.Equal(t, (after-accounted)/uint64(pageSize), got[dirtiedPages])
}

// written returns what the kernel has accounted as written by the calling thread, in bytes.
func written(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/io")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Skip("the kernel does not account what a thread writes")
	return 0
}

// TestCacheRegret: pages that were dropped and are read again are regretted, each once, and no others.
func TestCacheRegret(t *testing.T) {
	eachDropAttach(t, testCacheRegret)
}

func testCacheRegret(t *testing.T, o *observer.Observer) {
	fd, name := closedFile(t, droppedPages)
	readAll(t, fd)
	evict(t, fd, droppedPages*pageSize)
	quiet(t)
	grown := func(do func()) counts {
		t.Helper()
		before := count(t, o)
		do()
		got := count(t, o).since(before)
		require.Zero(t, got[forgottenPages])
		return got
	}
	nothing := func(what string, filled int, do func()) {
		t.Helper()
		got := grown(do)
		// The file system may have to read its metadata.
		require.GreaterOrEqual(t, got[filledPages], uint64(filled), what)
		require.Zero(t, got[regretPages], what)
	}

	got := grown(func() { readAll(t, fd) })
	require.EqualValues(t, droppedPages, got[filledPages])
	require.EqualValues(t, droppedPages, got[regretPages])
	nothing("pages that are there", 0, func() { readAll(t, fd) })

	// Half of the file, as far as the kernel drops it, by mincore(2).
	got = grown(func() {
		require.NoError(t, unix.Fadvise(fd, 0, int64(droppedPages/2*pageSize), unix.FADV_DONTNEED))
	})
	missing := droppedPages - residentPages(t, fd, droppedPages*pageSize)
	require.Positive(t, missing)
	require.EqualValues(t, missing, got[deletedPages])
	got = grown(func() { readAll(t, fd) })
	require.EqualValues(t, missing, got[filledPages])
	require.EqualValues(t, missing, got[regretPages])

	// Pages between the dropped ones, which were not in the page cache.
	sparse := hole(t, droppedPages)
	for page := 0; page < droppedPages; page += 7 {
		readPage(t, sparse, page)
	}
	dropped := residentPages(t, sparse, droppedPages*pageSize)
	require.Less(t, dropped, droppedPages/2)
	evict(t, sparse, droppedPages*pageSize)
	got = grown(func() { readAll(t, sparse) })
	require.EqualValues(t, droppedPages, got[filledPages])
	require.EqualValues(t, dropped, got[regretPages])

	evict(t, fd, droppedPages*pageSize)
	other := hole(t, droppedPages)
	nothing("another file", droppedPages, func() { readAll(t, other) })

	writer := openFile(t, filepath.Join(t.TempDir(), "log"), unix.O_RDWR|unix.O_CREAT)
	for n := range 3 {
		nothing("a file that grows", droppedPages, func() { writePages(t, writer, n*droppedPages, droppedPages) })
		require.NoError(t, unix.Fsync(writer))
		evict(t, writer, (n+1)*droppedPages*pageSize)
	}
	// One write may fill larger folios than reading.
	got = grown(func() {
		n, err := unix.Pwrite(writer, make([]byte, droppedPages*pageSize), 0)
		require.NoError(t, err)
		require.Equal(t, droppedPages*pageSize, n)
	})
	require.GreaterOrEqual(t, got[filledPages], uint64(droppedPages))
	require.EqualValues(t, droppedPages, got[regretPages])
	require.NoError(t, unix.Fsync(writer))
	evict(t, writer, 3*droppedPages*pageSize)
	got = grown(func() { readAll(t, writer) })
	require.EqualValues(t, 3*droppedPages, got[regretPages])

	evict(t, writer, 3*droppedPages*pageSize)
	nothing("dropped, truncated and written anew", droppedPages, func() {
		require.NoError(t, unix.Ftruncate(writer, 0))
		writePages(t, writer, 0, droppedPages)
	})
	nothing("truncated and written anew", droppedPages, func() {
		require.NoError(t, unix.Ftruncate(writer, 0))
		writePages(t, writer, 0, droppedPages)
	})
	sparse = hole(t, droppedPages)
	readAll(t, sparse)
	nothing("truncated, made longer and read", droppedPages, func() {
		require.NoError(t, unix.Ftruncate(sparse, 0))
		require.NoError(t, unix.Ftruncate(sparse, int64(droppedPages*pageSize)))
		readAll(t, sparse)
	})
	nothing("removed and made anew", droppedPages, func() {
		require.NoError(t, os.Remove(name))
		writePages(t, openFile(t, name, unix.O_RDWR|unix.O_CREAT), 0, droppedPages)
	})
}

// TestCacheSameNumber: a file with the inode number of a removed file, whose pages were dropped, is another file.
func TestCacheSameNumber(t *testing.T) {
	o := open(t, "cache")
	name := filepath.Join(t.TempDir(), "file")
	var last uint64
	reused := false
	for range 20 {
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		require.NoError(t, err)
		var stat unix.Stat_t
		require.NoError(t, unix.Fstat(fd, &stat))
		reused = reused || stat.Ino == last
		last = stat.Ino
		require.NoError(t, unix.Ftruncate(fd, int64(droppedPages*pageSize)))
		before := count(t, o)
		readAll(t, fd)
		got := count(t, o).since(before)
		require.GreaterOrEqual(t, got[filledPages], uint64(droppedPages))
		require.Zero(t, got[regretPages])
		evict(t, fd, droppedPages*pageSize)
		require.NoError(t, unix.Close(fd))
		require.NoError(t, os.Remove(name))
	}
	t.Logf("an inode number was reused: %v", reused)
}

// TestCacheForgotten: dropped pages without a place in the table are counted, so that none goes unnoticed.
func TestCacheForgotten(t *testing.T) {
	const runPages, runs, places = 64, 2048, 1024
	o := open(t, "cache")
	fd, other := hole(t, runs*runPages), hole(t, runs*runPages)
	read := func(fd int) {
		for run := range runs {
			readPage(t, fd, run*runPages)
		}
	}
	quiet(t)
	before := count(t, o)
	read(fd)
	evict(t, fd, runs*runPages*pageSize)
	read(other)
	require.Zero(t, count(t, o).since(before)[regretPages])
	read(fd)
	got := count(t, o).since(before)
	dropped := got[deletedPages]
	require.EqualValues(t, runs, dropped)
	require.Equal(t, dropped, got[regretPages]+got[forgottenPages])
	require.GreaterOrEqual(t, got[forgottenPages], uint64(runs-places))
	require.Greater(t, got[regretPages], uint64(places*3/4), "most places are taken")
}

// TestCacheReclaimed: pages taken by reclaim, also in our own threads, were not dropped: they are neither regretted nor
// unused.
func TestCacheReclaimed(t *testing.T) {
	kprobetest.Require(t)
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	o := open(t, "cache")
	fd, _ := closedFile(t, fileSize/pageSize)
	quiet(t)
	fullMemoryCgroup(t, fd, func() {
		count(t, o)
		readAll(t, fd)
	})
	before := count(t, o)
	readAll(t, fd)
	got := count(t, o).since(before)
	require.EqualValues(t, fileSize/pageSize, got[regretPages])
	require.GreaterOrEqual(t, got[deletedPages], uint64(fileSize/2/pageSize))
	require.Zero(t, got[unusedPages])

	// By now the file's pages have come back, each once.
	before = count(t, o)
	readAll(t, fd)
	got = count(t, o).since(before)
	require.GreaterOrEqual(t, got[filledPages], uint64(fileSize/2/pageSize))
	require.Zero(t, got[regretPages])
	require.Zero(t, got[unusedPages])
}

// withRegret opens the module with another time limit for regretting a page.
func withRegret(t *testing.T, within time.Duration) *observer.Observer {
	t.Helper()
	kprobetest.Require(t)
	object, err := fs.ReadFile(bpf.Modules(runtime.GOARCH), "cache.bpf.o")
	require.NoError(t, err)
	minute := binary.LittleEndian.AppendUint64(nil, uint64(time.Minute))
	require.Equal(t, 1, bytes.Count(object, minute), "the time is in the object once")
	object = bytes.Replace(object, minute, binary.LittleEndian.AppendUint64(nil, uint64(within)), 1)
	o, err := observer.Open(context.Background(), observer.Options{Sources: []observer.Source{observer.Files(fstest.MapFS{"cache.bpf.o": {Data: object}})}})
	require.NoError(t, err)
	closeAfter(t, o)
	return o
}

// TestCacheRegretInTime: a page that is read again after the time limit is not regretted.
func TestCacheRegretInTime(t *testing.T) {
	t.Run("short", func(t *testing.T) {
		// A machine that takes longer to read than that gets more time.
		within, inTime := 2*time.Second, false
		for ; !inTime && within < patience; within *= 2 {
			o := withRegret(t, within)
			fd, _ := closedFile(t, droppedPages)
			evicting := time.Now()
			evict(t, fd, droppedPages*pageSize)
			time.Sleep(within / 4)
			regretted := regretOf(t, o, fd)
			if inTime = time.Since(evicting) < within; inTime {
				require.EqualValues(t, droppedPages, regretted)
			}
			evict(t, fd, droppedPages*pageSize)
			time.Sleep(within + within/50)
			require.Zero(t, regretOf(t, o, fd))
		}
		require.True(t, inTime, "no read came in time")
	})
	t.Run("minute", func(t *testing.T) {
		if os.Getenv(guest) == "" {
			t.Skip("waits for more than a minute; the kernel matrix runs it")
		}
		o := open(t, "cache")
		fd, _ := closedFile(t, droppedPages)
		time.Sleep(61 * time.Second)
		require.Zero(t, regretOf(t, o, fd))
	})
}

// regretOf reads a file whose pages have been dropped, and returns how many are regretted.
func regretOf(t *testing.T, o *observer.Observer, fd int) uint64 {
	t.Helper()
	before := count(t, o)
	readAll(t, fd)
	got := count(t, o).since(before)
	require.GreaterOrEqual(t, got[filledPages], uint64(droppedPages))
	return got[regretPages]
}

// TestCacheOthers: what another process reads, drops and writes is not counted, even if it is the same file.
func TestCacheOthers(t *testing.T) {
	const stranger = "OBSERVER_TEST_STRANGER_FILE"
	kprobetest.Require(t)
	if name := os.Getenv(stranger); name != "" {
		fd := openFile(t, name, unix.O_RDWR)
		readAll(t, fd)
		evict(t, fd, droppedPages*pageSize)
		writePages(t, fd, 0, droppedPages)
		require.NoError(t, unix.Fsync(fd))
		evict(t, fd, droppedPages*pageSize)
		return
	}
	self, err := os.Executable()
	require.NoError(t, err)
	o := open(t, "cache")
	fd, name := closedFile(t, droppedPages)
	quiet(t)
	cmd := exec.Command(self, "-test.run=^TestCacheOthers$")
	cmd.Env = append(os.Environ(), stranger+"="+name)
	before := count(t, o)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	got := count(t, o).since(before)
	require.Zero(t, got[regretPages])
	require.Zero(t, got[unusedPages])
	require.Zero(t, got[dirtiedPages])
	require.Zero(t, got["ebpf_cache_writeback_waits_total{}"])
	// Pages that this process has dropped are regretted only if it reads them, and the other process has not changed
	// that.
	before = count(t, o)
	readAll(t, fd)
	require.EqualValues(t, droppedPages, count(t, o).since(before)[regretPages])
}
