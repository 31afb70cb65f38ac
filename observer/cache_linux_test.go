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
	"embed"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	fileSize = 64 << 20
	// cachedCalls are reads of a page that is in the cache.
	cachedCalls = 10_000
	// forcedCharges is the most that was seen in a run of the reclaim test.
	forcedCharges = 2
)

// readAll reads a file from its start to its end, a MiB at a time. It does not read past the end: Linux 5.10 allocates
// a page for that.
func readAll(t testing.TB, fd int) {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	buf := make([]byte, 1<<20)
	for off := int64(0); off < stat.Size; {
		n, err := unix.Pread(fd, buf, off)
		require.NoError(t, err)
		require.Positive(t, n)
		off += int64(n)
	}
}

// TestCacheExact: a cold read fills the file's pages, counted as pages, not folios; a warm one fills only what the
// kernel has evicted meanwhile, none unless memory is short; DONTNEED deletes what was there, by mincore(2).
func TestCacheExact(t *testing.T) {
	eachAttach(t, "cache", []string{"fill", "delete"}, testCacheExact)
}

func testCacheExact(t *testing.T, o *observer.Observer) {
	fd := cold(t, fileSize)
	readAll(t, fd)
	evict(t, fd, fileSize)
	pages := uint64(fileSize / pageSize)
	quiet(t)

	// Evicted parts of the file system or of this program may have to be read again too: the kernel's account of the
	// thread shows it, and the test retries.
	var before, got counts
	for range skipTries {
		evict(t, fd, fileSize)
		before = count(t, o)
		read := threadReads(t)
		readAll(t, fd)
		read = threadReads(t) - read
		got = count(t, o).since(before)
		if read == fileSize {
			break
		}
		t.Logf("read %d bytes, want %d", read, fileSize)
	}
	require.Equal(t, counts{"ebpf_cache_filled_pages_total{}": pages}, got.without("lookups", "regret"))

	missing := pages - uint64(residentPages(t, fd, fileSize))
	before = count(t, o)
	readAll(t, fd)
	require.Equal(t, missing, count(t, o).since(before)["ebpf_cache_filled_pages_total{}"])

	resident := residentPages(t, fd, fileSize)
	before = count(t, o)
	require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
	got = count(t, o).since(before)
	resident -= residentPages(t, fd, fileSize)
	require.Positive(t, resident)
	want := counts{"ebpf_cache_deleted_pages_total{}": uint64(resident)}
	if o.Health().Modules[0].Plan.Attached("dirty") {
		want["ebpf_cache_dropped_pages_total{}"] = uint64(resident)
	}
	require.Equal(t, want, got.without("regret"))
}

// TestCacheLookups: one for each read of a cached page.
func TestCacheLookups(t *testing.T) {
	if health := open(t, "cache").Health().Modules[0]; !health.Plan.Attached("lookup") {
		t.Skipf("this kernel has no such hook: %v", health.Plan.Refusals())
	}
	eachAttach(t, "cache", []string{"lookup"}, func(t *testing.T, o *observer.Observer) {
		fd := cold(t, pageSize)
		readAll(t, fd)
		buf := make([]byte, 100)
		quiet(t)
		before := count(t, o)
		for range cachedCalls {
			_, err := unix.Pread(fd, buf, 0)
			require.NoError(t, err)
		}
		require.Equal(t, counts{"ebpf_cache_lookups_total{}": cachedCalls}, count(t, o).since(before))
	})
}

// TestAbsent: a metric whose hook is refused is listed in the health and is in no schema; the others are not listed.
func TestAbsent(t *testing.T) {
	kprobetest.Require(t)
	observer.Steps(t, func(what string) error {
		if strings.Contains(what, "lookup__") {
			return errors.New("refused")
		}
		return nil
	})
	o, err := observer.Open(context.Background(), observer.Options{Works: testWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	absent := map[string]bool{}
	for _, m := range o.Health().Modules {
		schema, err := observer.BuiltIn().Describe(m.Name)
		require.NoError(t, err)
		for _, metric := range schema {
			fed := len(metric.Hooks) == 0 || slices.ContainsFunc(metric.Hooks, m.Plan.Attached)
			require.Equal(t, !fed, slices.Contains(m.Absent, metric.Name), metric.Name)
			absent[metric.Name] = !fed
		}
	}
	require.True(t, absent["ebpf_cache_lookups_total"])
	for _, m := range o.Schema() {
		require.False(t, absent[m.Name], m.Name)
	}
	// The cache module has no kprobe variants.
	_, err = observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"cache"}}, Attachment: kprobe.Kprobe})
	require.ErrorIs(t, err, kprobe.ErrNotSupported)
	var refused *kprobe.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Len(t, refused.Plan, 9)
}

// memoryCgroup is a cgroup with a memory limit, of version 1 or 2, whichever the machine has.
type memoryCgroup struct {
	dir string
	v2  bool
}

// cgroupRoom is what there is for the page cache in a full cgroup, in bytes: less than half of a file of fileSize.
const cgroupRoom = 24 << 20

// fullMemoryCgroup moves the caller into a cgroup without room for a whole file of fileSize beside the memory that the
// process itself takes on first use, which is more with the race detector. The process must not free that memory while
// it is in there.
func fullMemoryCgroup(t *testing.T, fd int, do func()) memoryCgroup {
	t.Helper()
	group := emptyMemoryCgroup(t, unlimited)
	group.join(t, 0)
	do()
	evict(t, fd, fileSize)
	own := group.used(t)
	t.Logf("%d KiB are the process's own", own>>10)
	group.limit(t, int(own)+cgroupRoom)
	return group
}

// unlimited is more than any machine has.
const unlimited = 1 << 50

// emptyMemoryCgroup makes a cgroup that may use limit bytes. A caller that is in it when the test ends is moved out.
func emptyMemoryCgroup(t *testing.T, limit int) memoryCgroup {
	t.Helper()
	roots := []memoryCgroup{{"/sys/fs/cgroup/memory", false}, {"/sys/fs/cgroup", true}, {"/sys/fs/cgroup/unified", true}}
	for _, root := range roots {
		if root.v2 {
			controllers, err := os.ReadFile(filepath.Join(root.dir, "cgroup.controllers"))
			if err != nil || !strings.Contains(string(controllers), "memory") {
				continue
			}
			require.NoError(t, os.WriteFile(filepath.Join(root.dir, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		} else if _, err := os.Stat(filepath.Join(root.dir, root.limitFile())); err != nil {
			continue
		}
		group := memoryCgroup{filepath.Join(root.dir, "observer-test-"+strconv.Itoa(os.Getpid())), root.v2}
		require.NoError(t, os.Mkdir(group.dir, 0o755))
		t.Cleanup(func() {
			require.NoError(t, os.WriteFile(filepath.Join(root.dir, "cgroup.procs"), []byte("0"), 0o600))
			require.NoError(t, os.Remove(group.dir))
		})
		group.limit(t, limit)
		return group
	}
	t.Skip("no memory cgroup, neither of version 1 nor of version 2")
	return memoryCgroup{}
}

func (g memoryCgroup) limitFile() string {
	if g.v2 {
		return "memory.max"
	}
	return "memory.limit_in_bytes"
}

// limit sets how many bytes the cgroup may use.
func (g memoryCgroup) limit(t *testing.T, limit int) {
	t.Helper()
	g.write(t, g.limitFile(), strconv.Itoa(limit))
}

// used returns how many bytes it uses.
func (g memoryCgroup) used(t *testing.T) uint64 {
	t.Helper()
	if !g.v2 {
		return g.number(t, "memory.usage_in_bytes", "")
	}
	return g.number(t, "memory.current", "")
}

// join moves a process in, 0 for the caller.
func (g memoryCgroup) join(t *testing.T, pid int) {
	t.Helper()
	g.write(t, "cgroup.procs", strconv.Itoa(pid))
}

// killed returns how many processes the kernel killed because the cgroup was full.
func (g memoryCgroup) killed(t *testing.T) uint64 {
	t.Helper()
	if !g.v2 {
		return g.number(t, "memory.oom_control", "oom_kill")
	}
	return g.number(t, "memory.events", "oom_kill")
}

func (g memoryCgroup) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0o600))
}

// full returns how often the kernel found the cgroup full, which is how often it had to reclaim.
func (g memoryCgroup) full(t *testing.T) uint64 {
	t.Helper()
	if !g.v2 {
		return g.number(t, "memory.failcnt", "")
	}
	return g.number(t, "memory.events", "max")
}

// number reads a file of one number, or of lines with a key before it.
func (g memoryCgroup) number(t *testing.T, file, key string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, key)
		if ok && (key == "" || value[0] == ' ') {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("no %q in %s", key, file)
	return 0
}

// TestMemcgReclaim: a reader in a full cgroup has to reclaim, as often as the cgroup was found full, and its stall is
// part of the time it took.
func TestMemcgReclaim(t *testing.T) {
	kprobetest.Require(t)
	// A separate process, so that the cgroup's limit affects nothing else.
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	eachAttach(t, "memory", []string{"memcg", "scan"}, testMemcgReclaim)
}

func testMemcgReclaim(t *testing.T, o *observer.Observer) {
	fd := cold(t, fileSize)
	quiet(t)
	group := fullMemoryCgroup(t, fd, func() {
		count(t, o)
		readAll(t, fd)
	})
	full := group.full(t)
	before := count(t, o)
	start := time.Now()
	readAll(t, fd)
	took := time.Since(start)
	got := count(t, o).since(before)
	full = group.full(t) - full

	runs := got["ebpf_memory_reclaim_total{memcg}"]
	require.Positive(t, runs)
	// A charge that must not fail and may not wait is forced in without reclaim; the kernel counts it as full too.
	// Version 1 also counts a charge for several pages at once, which is retried for fewer before any reclaim.
	require.LessOrEqual(t, runs, full)
	if group.v2 {
		require.LessOrEqual(t, full-runs, uint64(forcedCharges))
	}
	require.Equal(t, runs, got["ebpf_memory_reclaim_duration_seconds_count{memcg}"])
	stall := time.Duration(got["ebpf_memory_reclaim_duration_seconds_sum{memcg}"])
	require.Positive(t, stall)
	require.Less(t, stall, took)
	scanned, reclaimed := got["ebpf_memory_reclaim_scanned_pages_total{memcg}"], got["ebpf_memory_reclaim_reclaimed_pages_total{memcg}"]
	require.Positive(t, reclaimed)
	require.GreaterOrEqual(t, scanned, reclaimed)
	// At least half of the file had to be reclaimed, and at most all of it.
	require.GreaterOrEqual(t, reclaimed, uint64(fileSize/2/pageSize))
	require.LessOrEqual(t, reclaimed, uint64(fileSize/pageSize))
	// The host's kswapd may have run for any process.
	require.Empty(t, got.without("{memcg}", "{kswapd}", "page_fault_duration"))
	t.Logf("%d runs, %d times full, %d of %d pages, %s of %s", runs, full, reclaimed, scanned, stall, took)
}

//go:embed testdata/*/*.bpf.o
var testModules embed.FS

// TestArgumentsChangedPlaces: a module with a flavour for each order of a tracepoint's arguments gets the one of this
// kernel. The other one would take the flags of an allocation, a large number, for its order.
func TestArgumentsChangedPlaces(t *testing.T) {
	const largestOrder = 10
	kprobetest.Require(t)
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	objects, err := fs.Sub(testModules, "testdata/"+runtime.GOARCH)
	require.NoError(t, err)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"flavour"}}, Sources: []observer.Source{observer.Files(objects)}})
	require.NoError(t, err)
	closeAfter(t, o)
	fd := cold(t, fileSize)
	quiet(t)
	fullMemoryCgroup(t, fd, func() {
		count(t, o)
		readAll(t, fd)
	})
	before := count(t, o)
	readAll(t, fd)
	after := count(t, o)
	require.Positive(t, after.since(before)["ebpf_flavour_runs_total{}"])
	require.LessOrEqual(t, after["ebpf_flavour_max_order{}"], uint64(largestOrder))
	t.Logf("MATRIX\treclaim's arguments\t%s", o.Health().Modules[0].Plan[0].Variant)
}

// TestDirectReclaim: with the page cache full of clean pages, a real-time thread touches more memory than is free. It
// has to reclaim itself unless kswapd is first, and /proc/vmstat counts the same runs and pages. Only in a virtual
// machine of the kernel matrix, where nothing else needs memory.
func TestDirectReclaim(t *testing.T) {
	if os.Getenv(guest) == "" {
		t.Skip("takes all the memory of the machine; the kernel matrix runs it in one of its own")
	}
	eachAttach(t, "memory", []string{"direct", "scan"}, testDirectReclaim)
}

func testDirectReclaim(t *testing.T, o *observer.Observer) {
	fd := cold(t, memTotal(t)*6/10)
	quiet(t)
	require.NoError(t, unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 50}, 0))
	t.Cleanup(func() {
		require.NoError(t, unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0))
	})
	// /proc/vmstat is machine-wide, so a try is void if a thread of the kernel had to reclaim.
	const tries = 20
	for try := range tries {
		readAll(t, fd)
		runs, stalls := reclaimDirectly(t, o)
		if runs > 0 && runs == stalls {
			return
		}
		t.Logf("try %d: counted %d runs, the machine %d", try, runs, stalls)
	}
	t.Fatalf("in %d tries this thread never was the only one to reclaim", tries)
}

// reclaimDirectly returns the runs that the observer and that the kernel counted. If they are equal, it requires equal
// pages too.
func reclaimDirectly(t *testing.T, o *observer.Observer) (runs, stalls uint64) {
	t.Helper()
	vm, before := vmstat(t), count(t, o)
	start := time.Now()
	mem, err := unix.Mmap(-1, 0, memTotal(t)*6/10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	took := time.Since(start)
	got, after := count(t, o).since(before), vmstat(t)
	require.NoError(t, err)
	require.NoError(t, unix.Munmap(mem))

	grown := func(prefix string) (sum uint64) {
		for key, n := range after {
			if strings.HasPrefix(key, prefix) {
				sum += n - vm[key]
			}
		}
		return sum
	}
	runs, stalls = got["ebpf_memory_reclaim_total{direct}"], grown("allocstall")
	require.LessOrEqual(t, runs, stalls)
	require.Equal(t, runs, got["ebpf_memory_reclaim_duration_seconds_count{direct}"])
	stall := time.Duration(got["ebpf_memory_reclaim_duration_seconds_sum{direct}"])
	require.Equal(t, runs > 0, stall > 0)
	require.Less(t, stall, took)
	// The kernel has no event for a pass that took no page off the list, though it scanned some.
	scanned, all := got["ebpf_memory_reclaim_scanned_pages_total{direct}"], grown("pgscan_direct")
	reclaimed := got["ebpf_memory_reclaim_reclaimed_pages_total{direct}"]
	require.LessOrEqual(t, scanned, all)
	require.GreaterOrEqual(t, scanned, reclaimed)
	require.LessOrEqual(t, reclaimed, grown("pgsteal_direct"))
	if runs == stalls {
		require.Equal(t, grown("pgsteal_direct"), reclaimed)
	}
	t.Logf("%d runs, %d pages, %s of %s", runs, reclaimed, stall, took)
	return runs, stalls
}

// vmstat reads /proc/vmstat.
func vmstat(t *testing.T) map[string]uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/vmstat")
	require.NoError(t, err)
	values := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		values[key], err = strconv.ParseUint(value, 10, 64)
		require.NoError(t, err)
	}
	return values
}

func memTotal(t *testing.T) int {
	t.Helper()
	var info unix.Sysinfo_t
	require.NoError(t, unix.Sysinfo(&info))
	return int(info.Totalram) * int(info.Unit)
}
