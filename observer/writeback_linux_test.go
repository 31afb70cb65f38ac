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
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	writebackWaits    = "ebpf_cache_writeback_waits_total{}"
	writebackWaitTime = "ebpf_cache_writeback_wait_seconds"
	throttlePauses    = "ebpf_cache_throttle_pauses_total{}"
	throttleTime      = "ebpf_cache_throttle_seconds_total{}"
	refaults          = "ebpf_cache_refaults_total{}"
)

// requireHook skips the test if the kernel refuses a hook of the module cache.
func requireHook(t *testing.T, hook string) {
	t.Helper()
	if health := open(t, "cache").Health().Modules[0]; !health.Plan.Attached(hook) {
		t.Skipf("this kernel has no such hook: %v", health.Plan.Refusals())
	}
}

// tracepointCounter returns a function that reads how often the calling thread has passed one of some tracepoints, the
// last that exists, by the kernel's perf events.
func tracepointCounter(t *testing.T, names ...string) func() uint64 {
	t.Helper()
	name := names[0]
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(tracefs, "events", n)); err == nil {
			name = n
		}
	}
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type: unix.PERF_TYPE_TRACEPOINT, Config: tracepointID(t, name), Size: unix.PERF_ATTR_SIZE_VER0,
	}, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
	return func() uint64 {
		buf := make([]byte, 8)
		_, err := unix.Read(fd, buf)
		require.NoError(t, err)
		return binary.NativeEndian.Uint64(buf)
	}
}

// waitForWriteback makes the calling thread wait for pages that are being written back. It returns how often it did, by
// the kernel's own count, and for how long at most.
func waitForWriteback(t *testing.T) (uint64, time.Duration) {
	t.Helper()
	const rounds, tries, pages = 20, 20, 64
	fd := openFile(t, filepath.Join(t.TempDir(), "file"), unix.O_RDWR|unix.O_CREAT)
	waits := tracepointCounter(t, "writeback/folio_wait_writeback", "writeback/wait_on_page_writeback")
	start := time.Now()
	for range tries {
		for range rounds {
			writePages(t, fd, 0, pages)
			require.NoError(t, unix.Fsync(fd))
		}
		if n := waits(); n > 0 {
			return n, time.Since(start)
		}
	}
	t.Fatal("fsync never waited")
	return 0, 0
}

// TestCacheWritebackWaits: as many waits as perf counts at the same place.
func TestCacheWritebackWaits(t *testing.T) {
	eachAttach(t, "cache", []string{"wait"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		before := count(t, o)
		waits, _ := waitForWriteback(t)
		require.Equal(t, waits, count(t, o).since(before)[writebackWaits])
	})
}

// TestCacheWritebackWaitTime: each of the waits has a duration, and all together are part of the time that it took.
func TestCacheWritebackWaitTime(t *testing.T) {
	requireHook(t, "wait_time")
	eachAttach(t, "cache", []string{"wait_time"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		before := count(t, o)
		waits, took := waitForWriteback(t)
		got := count(t, o).since(before)
		require.Equal(t, waits, got[writebackWaitTime+"_count{}"])
		sum := time.Duration(got[writebackWaitTime+"_sum{}"])
		require.Greater(t, sum, time.Duration(waits)*time.Microsecond)
		require.Less(t, sum, took)
		t.Logf("%d waits, %s of %s", waits, sum, took)
	})
}

// limitDirty limits the machine's dirty pages to some bytes until the test is over. At the end the old limit by a ratio
// is restored, which lifts that by bytes.
func limitDirty(t *testing.T, background, limit int) {
	t.Helper()
	for name, bytes := range map[string]int{"dirty_background": background, "dirty": limit} {
		ratio := "/proc/sys/vm/" + name + "_ratio"
		old, err := os.ReadFile(ratio)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile("/proc/sys/vm/"+name+"_bytes", []byte(strconv.Itoa(bytes)), 0o600))
		t.Cleanup(func() { require.NoError(t, os.WriteFile(ratio, old, 0o600)) })
	}
}

// pauseRecord makes the kernel record in tracefs the pauses of the calling thread, and when it is off the CPU. It
// returns a function that reads how many pauses there were, and for how long the thread slept in them.
func pauseRecord(t *testing.T) func() (pauses uint64, slept time.Duration) {
	t.Helper()
	instance := filepath.Join(tracefs, "instances", "observer-test-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(instance, 0o700); err != nil {
		t.Skipf("no tracefs to record pauses with: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, unix.Rmdir(instance)) })
	tid := strconv.Itoa(unix.Gettid())
	require.NoError(t, os.WriteFile(filepath.Join(instance, "buffer_size_kb"), []byte("8192"), 0o600))
	// That of the programs. An emulated machine that starts while its host is busy measures the other one wrong.
	require.NoError(t, os.WriteFile(filepath.Join(instance, "trace_clock"), []byte("mono"), 0o600))
	for event, filter := range map[string]string{
		"writeback/balance_dirty_pages": "common_pid == " + tid,
		"sched/sched_switch":            "prev_pid == " + tid + " || next_pid == " + tid,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(instance, "events", event, "filter"), []byte(filter), 0o600))
		enable := filepath.Join(instance, "events", event, "enable")
		require.NoError(t, os.WriteFile(enable, []byte("1"), 0o600))
		t.Cleanup(func() { require.NoError(t, os.WriteFile(enable, []byte("0"), 0o600)) })
	}
	return func() (uint64, time.Duration) {
		text, err := os.ReadFile(filepath.Join(instance, "trace"))
		require.NoError(t, err)
		return parsePauses(t, string(text), tid)
	}
}

var (
	pauseEvent  = regexp.MustCompile(`-(\d+) .* balance_dirty_pages: .* pause=(-?\d+)`)
	switchEvent = regexp.MustCompile(` (\d+\.\d+): sched_switch: .* prev_pid=(\d+) .* next_pid=(\d+)`)
)

func parsePauses(t *testing.T, text, tid string) (pauses uint64, slept time.Duration) {
	t.Helper()
	var off time.Duration
	pausing := false
	for line := range strings.Lines(text) {
		if m := pauseEvent.FindStringSubmatch(line); len(m) > 2 && m[1] == tid && m[2] != "0" && m[2][0] != '-' {
			pauses++
			pausing = true
		}
		m := switchEvent.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		at, err := time.ParseDuration(m[1] + "s")
		require.NoError(t, err, line)
		switch {
		case m[2] == tid && pausing:
			off, pausing = at, false
		case m[3] == tid && off != 0:
			slept += at - off
			off = 0
		}
	}
	return pauses, slept
}

// throttled lets the calling thread write more than may be dirty, until the kernel has put it to sleep. It returns how
// often and for how long, by the kernel's own record, and how long everything took.
func throttled(t *testing.T) (pauses uint64, slept, took time.Duration) {
	t.Helper()
	fd := openFile(t, filepath.Join(t.TempDir(), "file"), unix.O_RDWR|unix.O_CREAT)
	limitDirty(t, 256<<10, 512<<10)
	record := pauseRecord(t)
	// The kernel lowers the limit gradually, and how soon it makes the writer pause depends on the disk.
	const size = 32 << 20
	chunk := make([]byte, 1<<20)
	start := time.Now()
	for took < patience {
		for off := int64(0); off < size; off += int64(len(chunk)) {
			_, err := unix.Pwrite(fd, chunk, off)
			require.NoError(t, err)
		}
		took = time.Since(start)
		if pauses, slept = record(); pauses > 0 {
			return pauses, slept, took
		}
	}
	t.Fatal("the kernel never put the writer to sleep")
	return 0, 0, 0
}

// TestCacheThrottle: as many pauses as tracefs records. Only in a virtual machine of the kernel matrix, since it leaves
// the whole machine hardly any dirty pages.
func TestCacheThrottle(t *testing.T) {
	if os.Getenv(guest) == "" {
		t.Skip("slows down all writers of the machine; the kernel matrix runs it in one of its own")
	}
	eachAttach(t, "cache", []string{"throttle"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		before := count(t, o)
		pauses, _, _ := throttled(t)
		require.Equal(t, pauses, count(t, o).since(before)[throttlePauses])
	})
}

// TestCacheThrottleTime: no less than the writer slept in pauses, and no more than the writes took.
func TestCacheThrottleTime(t *testing.T) {
	if os.Getenv(guest) == "" {
		t.Skip("slows down all writers of the machine; the kernel matrix runs it in one of its own")
	}
	requireHook(t, "throttle_time")
	eachAttach(t, "cache", []string{"throttle_time"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		before := count(t, o)
		pauses, slept, took := throttled(t)
		got := time.Duration(count(t, o).since(before)[throttleTime])
		require.Positive(t, slept)
		require.GreaterOrEqual(t, got, slept)
		require.Less(t, got, took)
		t.Logf("%d pauses, slept %s, %s of %s", pauses, slept, got, took)
	})
}

// TestCacheRefaults: as many pages as the kernel's statistics count.
func TestCacheRefaults(t *testing.T) {
	requireHook(t, "refault")
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	eachAttach(t, "cache", []string{"refault"}, testCacheRefaults)
}

func testCacheRefaults(t *testing.T, o *observer.Observer) {
	fd := cold(t, fileSize)
	quiet(t)
	fullMemoryCgroup(t, fd, func() {
		machineRefaults(t)
		count(t, o)
		readAll(t, fd)
	})
	// The truth is machine-wide: another process's refault voids a try.
	const tries = 5
	var got, want uint64
	for range tries {
		machine, before := machineRefaults(t), count(t, o)
		readAll(t, fd)
		readAll(t, fd)
		got, want = count(t, o).since(before)[refaults], machineRefaults(t)-machine
		require.LessOrEqual(t, got, want)
		if got == want && got > 0 {
			t.Logf("%d pages", got)
			return
		}
	}
	t.Fatalf("counted %d refaults, want the machine's %d", got, want)
}

// machineRefaults returns the pages of files that came back to the page cache of the machine.
func machineRefaults(t *testing.T) uint64 {
	t.Helper()
	// This makes each CPU add what it has counted to the sum.
	if err := os.WriteFile("/proc/sys/vm/stat_refresh", []byte("1"), 0o600); err != nil && !errors.Is(err, os.ErrInvalid) {
		t.Logf("refreshing the statistics: %v", err)
	}
	return vmstat(t)["workingset_refault_file"]
}
