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
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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

// TestBlockExact: a cold read of a file reads exactly its bytes from the device, a warm one none, and a synced write
// writes at least its bytes. The kernel's account of the thread says the same, and so do the device's own statistics,
// also of requests, if nothing else uses the device. Each request waits in the queue once, for a part of its duration.
func TestBlockExact(t *testing.T) {
	eachAttach(t, "block", []string{"start", "issue", "complete"}, testBlockExact)
}

func testBlockExact(t *testing.T, o *observer.Observer) {
	fd := cold(t, fileSize)
	quiet(t)
	// The file system may first have to read a block of its own, with the location of the file, and then not again.
	var before, got counts
	skips := skippedCompletions(t)
	for range skipTries {
		skipped := skips()
		evict(t, fd, fileSize)
		before = count(t, o)
		statBefore, threadBefore := deviceReads(t, fd), threadReads(t)
		readAll(t, fd)
		got = count(t, o).since(before)
		if skips() != skipped {
			continue
		}
		threadRead := threadReads(t) - threadBefore
		stat := deviceReads(t, fd)
		requests, read := stat.requests-statBefore.requests, stat.bytes-statBefore.bytes
		require.Equal(t, threadRead, got["ebpf_block_bytes_total{read,true}"])
		require.GreaterOrEqual(t, got["ebpf_block_bytes_total{read,true}"], uint64(fileSize))
		if os.Getenv(guest) != "" {
			// Nobody else uses the device.
			require.Equal(t, read, got["ebpf_block_bytes_total{read,true}"])
			require.Equal(t, requests, got["ebpf_block_requests_total{read,true}"])
		}
		require.LessOrEqual(t, got["ebpf_block_requests_total{read,true}"], requests)
		require.LessOrEqual(t, got["ebpf_block_bytes_total{read,true}"], read)
		if got["ebpf_block_bytes_total{read,true}"] == fileSize {
			break
		}
	}
	require.Equal(t, uint64(fileSize), got["ebpf_block_bytes_total{read,true}"])
	require.Positive(t, got["ebpf_block_requests_total{read,true}"])
	require.Equal(t, got["ebpf_block_requests_total{read,true}"], got["ebpf_block_duration_seconds_count{read}"])
	require.Equal(t, got["ebpf_block_requests_total{read,true}"], got["ebpf_block_queue_seconds_count{read}"])
	require.Positive(t, got["ebpf_block_queue_seconds_sum{read}"])
	require.Less(t, got["ebpf_block_queue_seconds_sum{read}"], got["ebpf_block_duration_seconds_sum{read}"])

	// Nothing is read again, except for what the kernel has evicted meanwhile, by its account of the thread.
	for range skipTries {
		skipped, read := skips(), threadReads(t)
		before = count(t, o)
		readAll(t, fd)
		got, read = count(t, o).since(before), threadReads(t)-read
		if skips() == skipped && read == 0 {
			break
		}
	}
	require.Zero(t, got["ebpf_block_bytes_total{read,true}"])

	for range skipTries {
		skipped := skips()
		before = count(t, o)
		_, err := unix.Pwrite(fd, make([]byte, 1<<20), 0)
		require.NoError(t, err)
		require.NoError(t, unix.Fsync(fd))
		got = count(t, o).since(before)
		if skips() == skipped {
			break
		}
	}
	require.GreaterOrEqual(t, got["ebpf_block_bytes_total{write,false}"]+got["ebpf_block_bytes_total{write,true}"], uint64(1<<20))
}

// skipTries is how often something is tried if the kernel disturbs it, or skips a part of its events.
const skipTries = 20

// skippedCompletions returns for how many completions of requests the kernel did not run our program, by its own
// accounts: how many there were, less how often the program ran. One that interrupts another is skipped and counted as
// missed; Linux 6.18 skips some on a busy machine, and does not count them. Without access to the event, it returns 0.
func skippedCompletions(t *testing.T) func() uint64 {
	t.Helper()
	const event, program = "block/block_rq_complete", "complete__"
	if _, err := os.Stat(filepath.Join(tracefs, "events", event)); err != nil {
		return func() uint64 { return 0 }
	}
	id := tracepointID(t, event)
	var events []int
	for cpu := range runtime.NumCPU() {
		fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Size: unix.PERF_ATTR_SIZE_VER0}, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(fd)) })
		events = append(events, fd)
	}
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stats.Close()) })
	var programs []*ebpf.Program
	for object := range kernelObjects(t) {
		if !strings.HasPrefix(object, "prog_id ") {
			continue
		}
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(objectID(t, object)))
		require.NoError(t, err)
		info, err := prog.Info()
		require.NoError(t, err)
		if !strings.HasPrefix(info.Name, program) {
			require.NoError(t, prog.Close())
			continue
		}
		t.Cleanup(func() { require.NoError(t, prog.Close()) })
		programs = append(programs, prog)
	}
	require.NotEmpty(t, programs)
	return func() uint64 {
		var skipped uint64
		buf := make([]byte, 8)
		for _, fd := range events {
			_, err := unix.Read(fd, buf)
			require.NoError(t, err)
			skipped += binary.NativeEndian.Uint64(buf)
		}
		for _, prog := range programs {
			s, err := prog.Stats()
			require.NoError(t, err)
			skipped -= s.RunCount
		}
		return skipped
	}
}

// directReader returns a function that reads a file from its device, by one request.
func directReader(t *testing.T, size int) (read func()) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	fd := openFile(t, name, unix.O_RDWR|unix.O_CREAT)
	// One extent: what is not contiguous would take two requests.
	require.NoError(t, unix.Fallocate(fd, 0, 0, int64(size)))
	_, err := unix.Pwrite(fd, make([]byte, size), 0)
	require.NoError(t, err)
	require.NoError(t, unix.Fsync(fd))
	direct := openFile(t, name, unix.O_RDONLY|unix.O_DIRECT)
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(buf)) })
	return func() {
		_, err := unix.Pread(direct, buf, 0)
		require.NoError(t, err)
	}
}

// TestBlockDirect: a known number of requests of a known size, which wait for no others, so that each duration is part
// of the time that the read took.
func TestBlockDirect(t *testing.T) {
	eachAttach(t, "block", []string{"start", "issue", "complete"}, testBlockDirect)
}

func testBlockDirect(t *testing.T, o *observer.Observer) {
	const reads, size = 100, 64 << 10
	read := directReader(t, size)
	read()
	quiet(t)
	var got counts
	var took time.Duration
	skips := skippedCompletions(t)
	for range skipTries {
		skipped := skips()
		before := count(t, o)
		start := time.Now()
		for range reads {
			read()
		}
		took = time.Since(start)
		got = count(t, o).since(before)
		if skips() == skipped {
			break
		}
	}
	require.Equal(t, counts{
		"ebpf_block_requests_total{read,true}":    reads,
		"ebpf_block_bytes_total{read,true}":       reads * size,
		"ebpf_block_duration_seconds_count{read}": reads,
		"ebpf_block_queue_seconds_count{read}":    reads,
	}, got.without("_sum", "_slot"))
	require.Less(t, time.Duration(got["ebpf_block_duration_seconds_sum{read}"]), took)
	require.Less(t, got["ebpf_block_queue_seconds_sum{read}"], got["ebpf_block_duration_seconds_sum{read}"])
}

// TestBlockOthers: reads of this process are not counted for another one.
func TestBlockOthers(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	other := openOn(t, "block", newWorker(t))
	fd := cold(t, fileSize)
	readAll(t, fd)
	require.Empty(t, count(t, other))
}

// openOn attaches a module to a worker.
func openOn(t *testing.T, module string, w *worker) *observer.Observer {
	t.Helper()
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{module}}, Scope: kprobe.Scope{TGID: uint32(w.process.Pid)}})
	require.NoError(t, err)
	closeAfter(t, o)
	return o
}

// deviceStat is what a device has read according to its own statistics.
type deviceStat struct{ requests, bytes uint64 }

func deviceReads(t *testing.T, fd int) deviceStat {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	require.NoError(t, err)
	var reads, merges, sectors uint64
	_, err = fmt.Sscan(string(text), &reads, &merges, &sectors)
	require.NoError(t, err)
	return deviceStat{requests: reads, bytes: sectors * 512}
}

// threadReads returns the bytes that the calling thread has read from devices, by the kernel's account.
func threadReads(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/io")
	require.NoError(t, err)
	return number(t, string(text), "\nread_bytes:")
}
