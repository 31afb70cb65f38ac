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
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	hugePage = 2 << 20
	// anonPages and filePages are what the tests of page faults touch.
	anonPages = 2000
	filePages = 300
)

// settled asks the observer between two readings of the ground truth, until both are equal: then it did not change in
// between. First it faults in memory for the runtime, so that the runtime need not fault meanwhile.
func settled(t *testing.T, look, ask func() counts) (counts, counts) {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector's own memory comes and goes; the virtual machines run it without")
	}
	warm := make([]byte, 4<<20)
	touch(warm)
	runtime.KeepAlive(warm)
	runtime.GC()
	for start := time.Now(); time.Since(start) < patience; {
		truth, got := look(), ask()
		if maps.Equal(truth, look()) {
			return truth, got
		}
	}
	t.Fatal("the ground truth never stopped changing")
	return nil, nil
}

// processFaults returns this process's faults by /proc, including those of threads that have ended.
func processFaults(t *testing.T) counts {
	t.Helper()
	stat, err := os.ReadFile("/proc/self/stat")
	require.NoError(t, err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return faultCounts(t, fields[7], fields[9])
}

// threadFaults returns the calling thread's faults by rusage.
func threadFaults(t *testing.T) counts {
	t.Helper()
	var usage unix.Rusage
	require.NoError(t, unix.Getrusage(unix.RUSAGE_THREAD, &usage))
	return faultCounts(t, strconv.FormatInt(usage.Minflt, 10), strconv.FormatInt(usage.Majflt, 10))
}

func faultCounts(t *testing.T, minor, major string) counts {
	t.Helper()
	c := counts{}
	for kind, text := range map[string]string{"minor": minor, "major": major} {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		c["ebpf_memory_page_faults_total{"+kind+"}"] = n
	}
	return c
}

// onlyFaults keeps what threadFaults and processFaults have.
func onlyFaults(c counts) counts {
	const name = "ebpf_memory_page_faults_total"
	return counts{name + "{minor}": c[name+"{minor}"], name + "{major}": c[name+"{major}"]}
}

// mapping maps anonymous memory (fd -1) or a file in small pages that are read one by one.
func mapping(t *testing.T, fd, size, flags int) []byte {
	t.Helper()
	if fd < 0 {
		flags |= unix.MAP_ANON
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(mem)) })
	require.NoError(t, unix.Madvise(mem, unix.MADV_RANDOM))
	if err := unix.Madvise(mem, unix.MADV_NOHUGEPAGE); err != unix.EINVAL {
		require.NoError(t, err)
	}
	return mem
}

// touch writes to each page, without reading it.
func touch(mem []byte) {
	for i := 0; i < len(mem); i += pageSize {
		mem[i] = 1
	}
}

// read reads each page.
func read(mem []byte) {
	for i := 0; i < len(mem); i += pageSize {
		sink = mem[i]
	}
}

// requireFaults does something that must make this thread fault a given number of times, by the kernel's count: the
// ground truth. It returns the minor faults, of which there may be more: the kernel takes a page from a thread to move
// it, for example. It blocks the runtime's signals: a fault that is interrupted while it waits for a disk is retried,
// finds its page, and is a minor one.
func requireFaults(t *testing.T, minor, major int64, do func()) uint64 {
	t.Helper()
	var all, old unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	require.NoError(t, unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old))
	var usage [2]unix.Rusage
	errs := [2]error{unix.Getrusage(unix.RUSAGE_THREAD, &usage[1]), unix.Getrusage(unix.RUSAGE_THREAD, &usage[0])}
	do()
	errs[1] = unix.Getrusage(unix.RUSAGE_THREAD, &usage[1])
	require.NoError(t, unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil))
	require.NoError(t, errors.Join(errs[:]...))
	grown := [2]int64{usage[1].Minflt - usage[0].Minflt, usage[1].Majflt - usage[0].Majflt}
	require.Equal(t, major, grown[1], "major faults, beside %d minor ones", grown[0])
	require.GreaterOrEqual(t, grown[0], minor)
	return uint64(grown[0])
}

// sink keeps the compiler from removing the reads.
var sink byte

// inThread does something in a thread that ends with it, and waits until the thread is gone.
func inThread(do func()) {
	tid := make(chan int)
	go func() {
		// Not unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		do()
		tid <- unix.Gettid()
	}()
	id := <-tid
	for id != os.Getpid() && unix.Tgkill(os.Getpid(), id, 0) == nil {
		time.Sleep(time.Millisecond)
	}
}

// TestPageFaults: as many as in /proc, including those of threads that have ended, but not of child processes. A page
// of fresh memory is one minor fault, a page of a file that has to be read one major fault.
func TestPageFaults(t *testing.T) {
	eachAttach(t, "memory", []string{"task"}, testPageFaults)
}

func testPageFaults(t *testing.T, o *observer.Observer) {
	fd := cold(t, filePages*pageSize)
	anon, ended, file := mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE), mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE),
		mapping(t, fd, filePages*pageSize, unix.MAP_SHARED)
	quiet(t)
	ask := func() counts { return onlyFaults(refreshed(t, o)) }
	look := func() counts { return processFaults(t) }
	truth, before := settled(t, look, ask)

	requireFaults(t, anonPages, filePages, func() {
		touch(anon)
		read(file)
	})
	inThread(func() { touch(ended) })
	middle := ask()
	require.NoError(t, exec.Command(os.Args[0], "-test.run=^$").Run())

	after, got := settled(t, look, ask)
	require.Equal(t, after.since(truth), got.since(before))
	for _, kind := range []string{"{minor}", "{major}"} {
		name := "ebpf_memory_page_faults_total" + kind
		require.GreaterOrEqual(t, got[name], middle[name])
	}
	require.GreaterOrEqual(t, middle.since(before)["ebpf_memory_page_faults_total{minor}"], uint64(2*anonPages))
}

// thisThread locks the goroutine to its thread, and returns the thread as a scope.
func thisThread(t *testing.T) kprobe.Scope {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	scope, err := kprobe.Self()
	require.NoError(t, err)
	scope.TID = uint32(unix.Gettid())
	return scope
}

// TestPageFaultsOfThread: with the scope of a thread, only that thread's faults.
func TestPageFaultsOfThread(t *testing.T) {
	kprobetest.Require(t)
	o := openScope(t, thisThread(t), "memory")
	quiet(t)
	anon, other := mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE), mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE)
	ask := func() counts { return onlyFaults(refreshed(t, o)) }
	look := func() counts { return threadFaults(t) }
	truth, before := settled(t, look, ask)
	touch(anon)
	inThread(func() { touch(other) })
	after, got := settled(t, look, ask)
	require.Equal(t, after.since(truth), got.since(before))
	require.GreaterOrEqual(t, got.since(before)["ebpf_memory_page_faults_total{minor}"], uint64(anonPages))
}

// resident returns this process's resident pages by /proc.
func resident(t *testing.T) counts {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	c := counts{}
	for kind, key := range map[string]string{"file": "\nRssFile:", "anon": "\nRssAnon:", "shmem": "\nRssShmem:"} {
		c["ebpf_memory_resident_pages{"+kind+"}"] = number(t, string(status), key) << 10 / uint64(pageSize)
	}
	return c
}

// TestResidentPages: as in /proc. Since Linux 6.2 a CPU collects up to a batch before it adds it to the total. Since a
// fix of 2025 /proc includes what the CPUs have collected, which an iterator cannot.
func TestResidentPages(t *testing.T) {
	o := open(t, "memory")
	kernel, err := btf.LoadKernelSpec()
	require.NoError(t, err)
	cpus := runtime.NumCPU()
	tolerance := max(32, 2*cpus) * cpus
	if _, err = kernel.AnyTypeByName("mm_rss_stat"); err == nil {
		tolerance = 0
	}
	fd := cold(t, filePages*pageSize)
	quiet(t)
	furthest := 0
	compare := func() counts {
		truth, got := settled(t, func() counts { return resident(t) }, func() counts { return refreshed(t, o) })
		for name, n := range truth {
			off := max(int(n)-int(got[name]), int(got[name])-int(n))
			require.LessOrEqualf(t, off, tolerance, "%s: got %d, /proc has %d", name, got[name], n)
			furthest = max(furthest, off)
		}
		return truth
	}
	before := compare()
	const shmemPages = 1000
	const anonPages = 10_000
	anon, shmem := mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE), mapping(t, -1, shmemPages*pageSize, unix.MAP_SHARED)
	touch(anon)
	touch(shmem)
	read(mapping(t, fd, filePages*pageSize, unix.MAP_SHARED))
	full := compare()
	grown := full.since(before)
	// What CPUs, and before Linux 6.2 threads, have not added yet is missing in /proc too.
	for kind, n := range map[string]uint64{"anon": anonPages, "file": filePages, "shmem": shmemPages} {
		require.GreaterOrEqual(t, grown["ebpf_memory_resident_pages{"+kind+"}"], n/2, kind)
	}
	require.NoError(t, unix.Madvise(anon, unix.MADV_DONTNEED))
	require.Less(t, compare()["ebpf_memory_resident_pages{anon}"], full["ebpf_memory_resident_pages{anon}"]-anonPages/2)
	t.Logf("MATRIX\tresident pages: furthest from /proc, of %d allowed\t%d", tolerance, furthest)
}

// faultDuration is the name of a series of the durations of page faults.
func faultDuration(labels string) string {
	return "ebpf_memory_page_fault_duration_seconds_count{" + labels + "}"
}

// TestPageFaultDurations: each fault of the thread is timed, by its kind and area, as often as rusage counts it. The
// time of a fault that is retried begins with the first try: the thread does nothing but read a file by page faults, so
// all its sleep is in them.
func TestPageFaultDurations(t *testing.T) {
	if health := open(t, "memory").Health().Modules[0]; !health.Plan.Attached("fault") {
		t.Skipf("this kernel has no such hook: %v", health.Plan.Refusals())
	}
	for _, kind := range []kprobe.Attachment{"", kprobe.Fentry, kprobe.Kprobe} {
		t.Run("attach_"+string(kind), func(t *testing.T) {
			o, plan := openAttach(t, thisThread(t), kind, "memory")
			if o == nil || !plan.Attached("fault") {
				t.Logf("refused: %v", plan)
				return
			}
			testPageFaultDurations(t, o)
			for _, h := range plan {
				if h.Name == "fault" && kind == "" {
					t.Logf("MATRIX\tmemory fault: chosen\t%s", h.Attachment)
				} else if h.Name == "fault" {
					t.Logf("MATRIX\tmemory fault: exact by\t%s", h.Attachment)
				}
			}
		})
	}
}

func testPageFaultDurations(t *testing.T, o *observer.Observer) {
	fd := cold(t, filePages*pageSize)
	behind := mapping(t, fd, (filePages+1)*pageSize, unix.MAP_SHARED)[filePages*pageSize:]
	anon, file, shared := mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE), mapping(t, fd, filePages*pageSize, unix.MAP_SHARED),
		mapping(t, -1, filePages*pageSize, unix.MAP_SHARED)
	other := mapping(t, -1, anonPages*pageSize, unix.MAP_PRIVATE)
	quiet(t)
	var before, after observer.Snapshot
	require.NoError(t, o.Snapshot(&before))
	// Two snapshots, with as little as possible in between. Faults of taking the time are counted too, and are within
	// took.all.
	during := func(do func()) (counts, elapsed) {
		require.NoError(t, o.Snapshot(&after))
		start := time.Now()
		require.NoError(t, o.Snapshot(&before))
		took := timed(t, do)
		require.NoError(t, o.Snapshot(&after))
		took.all = time.Since(start)
		return countsOf(&after).since(countsOf(&before)), took
	}
	for _, c := range []struct {
		labels       string
		do           func()
		minor, major int64
	}{
		{"minor,anon", func() { touch(anon) }, anonPages, 0},
		{"major,file", func() { read(file) }, 0, filePages},
		{"minor,file", func() { read(shared) }, filePages, 0},
	} {
		var minor uint64
		got, took := during(func() { minor = requireFaults(t, c.minor, c.major, c.do) })
		want, n, missed := uint64(c.minor+c.major), got[faultDuration(c.labels)], o.Health().Modules[0].Missed
		require.GreaterOrEqual(t, n+missed, want, c.labels)
		// The test itself sometimes touches fresh memory.
		const own = "minor,anon"
		switch {
		case c.major > 0:
			require.LessOrEqual(t, n, want, c.labels)
		case c.labels != own:
			require.LessOrEqual(t, n, minor, c.labels)
		}
		require.LessOrEqual(t, got[faultDuration(own)], uint64(anonPages+20))
		sum := time.Duration(got[strings.Replace(faultDuration(c.labels), "_count", "_sum", 1)])
		require.Positive(t, sum)
		require.LessOrEqual(t, sum, took.all)
		if c.major > 0 {
			require.GreaterOrEqual(t, sum, took.asleep, "the time of the first try is missing")
		}
		t.Logf("%s: %d faults, %s of %s, %s asleep, %d missed", c.labels, n, sum, took.all, took.asleep, missed)
	}

	// All of them together, compared with all that rusage counts.
	ask := func() counts { return count(t, o) }
	truth, begin := settled(t, func() counts { return threadFaults(t) }, ask)
	require.NoError(t, unix.Madvise(anon, unix.MADV_DONTNEED))
	touch(anon)
	// Linux 5.10 counts the first write to a page of shared memory as a major fault.
	touch(shared)
	// The kernel writes behind the end of the file: a fault that fails is not counted.
	_, err := unix.Pread(fd, behind, 0)
	require.ErrorIs(t, err, unix.EFAULT)
	inThread(func() { touch(other) })
	end, got := settled(t, func() counts { return threadFaults(t) }, ask)
	got = got.since(begin)
	if missed := o.Health().Modules[0].Missed; missed > 0 {
		t.Logf("MATRIX\tmemory fault: runs missed\t%d", missed)
		return
	}
	require.Equal(t, end.since(truth)["ebpf_memory_page_faults_total{minor}"], got[faultDuration("minor,anon")]+got[faultDuration("minor,file")])
	require.Equal(t, end.since(truth)["ebpf_memory_page_faults_total{major}"], got[faultDuration("major,anon")]+got[faultDuration("major,file")])
	require.Empty(t, got["ebpf_events_lost_total{memory,collision}"])
}

// populatedZones counts the zones of memory that have pages.
func populatedZones(t *testing.T) (zones uint64) {
	t.Helper()
	text, err := os.ReadFile("/proc/zoneinfo")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "present" && fields[1] != "0" {
			zones++
		}
	}
	return zones
}

func compactMemory(t *testing.T) {
	t.Helper()
	require.NoError(t, os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0o600))
}

// TestCompactions: a process that tells the kernel to compact memory does it itself, once for each zone that has pages.
// Compactions by another process are not counted.
func TestCompactions(t *testing.T) {
	if !stranger(t, func() { compactMemory(t) }) {
		return
	}
	eachAttach(t, "memory", []string{"compaction"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		const times = 2
		stat, before := vmstat(t), count(t, o)
		start := time.Now()
		for range times {
			compactMemory(t)
		}
		took := time.Since(start)
		got := count(t, o).since(before)
		zones := populatedZones(t)
		require.Positive(t, zones)
		require.Equal(t, times*zones, got["ebpf_memory_compactions_total{}"])
		require.Equal(t, times*zones, got["ebpf_memory_compaction_duration_seconds_count{}"])
		stall := time.Duration(got["ebpf_memory_compaction_duration_seconds_sum{}"])
		require.Positive(t, stall)
		require.LessOrEqual(t, stall, took)
		require.Greater(t, vmstat(t)["compact_migrate_scanned"], stat["compact_migrate_scanned"])

		before = count(t, o)
		askStranger(t)
		require.Empty(t, count(t, o).since(before)["ebpf_memory_compactions_total{}"])
		t.Logf("%d zones, %s of %s", zones, stall, took)
	})
}

// strangerEnv tells a test that it runs as another process.
const strangerEnv = "OBSERVER_TEST_OTHER"

// stranger must be called first by a test that lets another process do something. It returns false in that process.
func stranger(t *testing.T, do func()) bool {
	t.Helper()
	if os.Getenv(strangerEnv) == "" {
		return true
	}
	_, err := io.ReadAll(os.Stdin)
	require.NoError(t, err)
	do()
	return false
}

// newStranger starts another process, which waits for its end of the pipe to be closed.
func newStranger(t *testing.T) (*exec.Cmd, io.Closer) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.Command(os.Args[0], "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), strangerEnv+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return cmd, in
}

// askStranger lets another process do it.
func askStranger(t *testing.T) {
	t.Helper()
	cmd, in := newStranger(t)
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
}

// TestOOMKills: a process that exceeds its cgroup's limit is killed, as often as the cgroup counts it, whatever the
// number of its threads. Its own observer counts one self, others count one other.
func TestOOMKills(t *testing.T) {
	const limit = 32 << 20
	kprobetest.Require(t)
	if !stranger(t, func() { takeTooMuch(2 * limit) }) {
		return
	}
	eachAttach(t, "memory", []string{"oom"}, func(t *testing.T, o *observer.Observer) {
		group := emptyMemoryCgroup(t, limit)
		const times = 3
		before, selves := count(t, o), uint64(0)
		for range times {
			victim, in := newStranger(t)
			group.join(t, victim.Process.Pid)
			own, plan := openAttach(t, kprobe.Scope{TGID: uint32(victim.Process.Pid)}, o.Health().Modules[0].Plan[0].Attachment, "memory")
			require.True(t, plan.Attached("oom"))
			require.NoError(t, in.Close())
			var killed *exec.ExitError
			require.ErrorAs(t, victim.Wait(), &killed)
			require.Equal(t, syscall.SIGKILL, killed.Sys().(syscall.WaitStatus).Signal())
			got := count(t, own)
			require.Empty(t, got["ebpf_memory_oom_kills_total{other}"])
			selves += got["ebpf_memory_oom_kills_total{self}"]
			require.NoError(t, own.Close())
		}
		got := count(t, o).since(before)
		require.Equal(t, uint64(times), group.killed(t), "the ground truth")
		require.Equal(t, uint64(times), selves)
		require.Equal(t, uint64(times), got["ebpf_memory_oom_kills_total{other}"])
		require.Empty(t, got["ebpf_memory_oom_kills_total{self}"])
	})
}

// takeTooMuch lets some threads take memory. It does not return.
func takeTooMuch(size int) {
	for range 4 {
		go func() {
			runtime.LockOSThread()
			mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
			if err != nil {
				panic(err)
			}
			touch(mem)
		}()
	}
	time.Sleep(patience)
}

// hugePages returns how many huge pages of anonymous memory this process has.
func hugePages(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	require.NoError(t, err)
	return number(t, string(text), "\nAnonHugePages:") << 10 / hugePage
}

// smallPages maps room for some huge pages, and fills it with small ones.
func smallPages(t *testing.T, n int) []byte {
	t.Helper()
	mem := mapping(t, -1, (n+1)*hugePage, unix.MAP_PRIVATE)
	mem = mem[(hugePage-int(uintptrOf(mem))%hugePage)%hugePage:][:n*hugePage]
	touch(mem)
	require.NoError(t, unix.Madvise(mem, unix.MADV_HUGEPAGE))
	return mem
}

// requireCollapse skips a test on a kernel that does not make huge pages on demand.
func requireCollapse(t *testing.T) {
	t.Helper()
	kprobetest.Require(t)
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skipf("no transparent huge pages: %v", err)
	}
	page := mapping(t, -1, pageSize, unix.MAP_PRIVATE)
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptrOf(page), 0, unix.MADV_COLLAPSE); errno == unix.EINVAL {
		t.Skip("madvise cannot make huge pages before Linux 6.1")
	}
}

// TestTHPCollapsesOthers: what another process does is not counted.
func TestTHPCollapsesOthers(t *testing.T) {
	requireCollapse(t)
	if !stranger(t, func() { require.NoError(t, unix.Madvise(smallPages(t, 1), unix.MADV_COLLAPSE)) }) {
		return
	}
	o := open(t, "memory")
	others := func(got counts) counts { return got.without("{kswapd}", "page_fault_duration") }
	// The kernel may make a huge page of our own memory meanwhile.
	got := undisturbed(t, o, func() { askStranger(t) }, func(got counts) bool { return len(others(got)) == 0 })
	require.Empty(t, others(got))
}

// TestTHPCollapses: each huge page that is made from small ones on demand counts as ok, and one that the cgroup has no
// room for as failed.
func TestTHPCollapses(t *testing.T) {
	const pages = 3
	requireCollapse(t)
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	eachAttach(t, "memory", []string{"collapse"}, func(t *testing.T, o *observer.Observer) {
		mem := smallPages(t, pages)
		quiet(t)
		have, before := hugePages(t), count(t, o)
		require.NoError(t, unix.Madvise(mem, unix.MADV_COLLAPSE))
		// These are huge already.
		require.NoError(t, unix.Madvise(mem, unix.MADV_COLLAPSE))
		have = hugePages(t) - have
		require.Equal(t, uint64(pages), have, "the ground truth")
		require.Equal(t, counts{"ebpf_memory_thp_collapses_total{ok}": have}, count(t, o).since(before).without("{kswapd}", "page_fault_duration"))
	})
	eachAttach(t, "memory", []string{"collapse"}, func(t *testing.T, o *observer.Observer) {
		mem := smallPages(t, 1)
		quiet(t)
		group := emptyMemoryCgroup(t, unlimited)
		group.join(t, 0)
		before := count(t, o)
		group.limit(t, int(group.used(t))+hugePage/2)
		err := unix.Madvise(mem, unix.MADV_COLLAPSE)
		group.limit(t, unlimited)
		require.Error(t, err)
		got := count(t, o).since(before)
		require.Empty(t, got["ebpf_memory_thp_collapses_total{ok}"])
		require.Equal(t, uint64(1), got["ebpf_memory_thp_collapses_total{failed}"])
	})
}

// TestTHPCollapsesByKernel: huge pages that khugepaged makes for this process are counted for it. The test speeds
// khugepaged up, so it runs only in a virtual machine of the kernel matrix.
func TestTHPCollapsesByKernel(t *testing.T) {
	const pages = 3
	if os.Getenv(guest) == "" {
		t.Skip("changes settings of the whole machine; the kernel matrix runs it in one of its own")
	}
	const settings = "/sys/kernel/mm/transparent_hugepage"
	if _, err := os.Stat(settings); err != nil {
		t.Skipf("no transparent huge pages: %v", err)
	}
	for file, value := range map[string]string{"enabled": "madvise", "khugepaged/scan_sleep_millisecs": "10", "khugepaged/pages_to_scan": "4096"} {
		file = filepath.Join(settings, file)
		old, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(value), 0o600))
		_, chosen, ok := strings.Cut(string(old), "[")
		if ok {
			old = []byte(chosen[:strings.IndexByte(chosen, ']')])
		}
		t.Cleanup(func() { require.NoError(t, os.WriteFile(file, old, 0o600)) })
	}
	eachAttach(t, "memory", []string{"collapse"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		have, before := hugePages(t), count(t, o)
		smallPages(t, pages)
		// The event comes a moment after the huge page, and the kernel may be making the next one.
		require.Eventually(t, func() bool {
			there, told := hugePages(t)-have, count(t, o).since(before)["ebpf_memory_thp_collapses_total{ok}"]
			return told >= pages && there == told
		}, patience, 10*time.Millisecond)
	})
}

// openAttach opens a module on a scope with one kind of attachment. It returns nil if the kernel refuses that.
func openAttach(t *testing.T, scope kprobe.Scope, kind kprobe.Attachment, module string) (*observer.Observer, kprobe.Plan) {
	t.Helper()
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{module}}, Attachment: kind, Scope: scope})
	var down *observer.DownError
	if kind != "" && errors.As(err, &down) {
		return nil, nil
	}
	require.NoError(t, err)
	closeAfter(t, o)
	return o, o.Health().Modules[0].Plan
}

// openScope opens a module on a scope. It must be up.
func openScope(t *testing.T, scope kprobe.Scope, module string) *observer.Observer {
	t.Helper()
	o, _ := openAttach(t, scope, "", module)
	require.NotNil(t, o)
	return o
}
