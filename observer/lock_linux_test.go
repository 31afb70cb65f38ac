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
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// From the kernel's user-space API.
const (
	futexWait       = 0
	futexWake       = 1
	futexLockPI     = 6
	futexUnlockPI   = 7
	futexWaitBitset = 9
	futexPrivate    = 128
)

// futexWord is a futex that nothing else waits on.
type futexWord [1]uint32

// call bypasses the runtime, which would hand off the thread's processor, and wait on a futex to get it back.
func (w *futexWord) call(op int, value uint32, timeout time.Duration) unix.Errno {
	var ts *unix.Timespec
	if timeout != 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(w)), uintptr(op|futexPrivate), uintptr(value),
		uintptr(unsafe.Pointer(ts)), 0, 0xffffffff)
	return errno
}

func futexWaits(result string) string { return "ebpf_lock_futex_waits_total{" + result + "}" }

// TestLockExact: a known number of waits of the calling thread, of each kind and result, and how long they took. Calls
// that do not wait are not counted.
func TestLockExact(t *testing.T) {
	eachAttach(t, "lock", []string{"futex"}, testLockExact)
}

func testLockExact(t *testing.T, auto *observer.Observer) {
	const timeouts, retries, errors, locks = 50, 1000, 37, 20
	quiet(t)
	o := openThread(t, "lock", auto.Health().Modules[0].Plan[0].Attachment)
	var word futexWord
	interrupted := uint64(0)
	start := time.Now()
	before := count(t, o)
	waited := timed(t, func() {
		for done := 0; done < timeouts; {
			op := futexWait
			timeout := time.Millisecond
			if done%2 == 1 {
				// Its timeout is absolute.
				op = futexWaitBitset
				var now unix.Timespec
				require.NoError(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
				timeout += time.Duration(now.Nano())
			}
			switch errno := word.call(op, 0, timeout); errno {
			case unix.ETIMEDOUT:
				done++
			case unix.EINTR:
				// One of the runtime's signals.
				interrupted++
			default:
				require.Zero(t, errno)
			}
		}
	})
	for range retries {
		require.Equal(t, unix.EAGAIN, word.call(futexWait, 1, 0))
		require.Zero(t, word.call(futexWake, 1, 0))
	}
	for range errors {
		require.Equal(t, unix.EINVAL, (*futexWord)(unsafe.Add(unsafe.Pointer(&word), 1)).call(futexWait, 0, 0))
	}
	for range locks {
		require.Zero(t, word.call(futexLockPI, 0, 0))
		require.Zero(t, word.call(futexUnlockPI, 0, 0))
	}
	got := count(t, o).since(before)
	took := time.Since(start)
	sum := time.Duration(got["ebpf_lock_futex_wait_seconds_sum{}"])
	require.GreaterOrEqual(t, sum, timeouts*time.Millisecond)
	require.LessOrEqual(t, sum, took)
	require.GreaterOrEqual(t, sum, waited.asleep)
	want := counts{futexWaits("timeout"): timeouts, futexWaits("error"): errors}
	require.Equal(t, want, got.without("_sum", "_slot", "_count", "woken", "again", "interrupted"))
	// The runtime preempts a goroutine that has run for 10 ms, and its thread waits to run again. It does so by a
	// signal, which may interrupt that wait too.
	woken, again, broken := got[futexWaits("woken")], got[futexWaits("again")], got[futexWaits("interrupted")]
	require.GreaterOrEqual(t, woken, uint64(locks))
	require.GreaterOrEqual(t, again, uint64(retries))
	require.GreaterOrEqual(t, broken, interrupted)
	require.LessOrEqual(t, woken+again+broken, locks+retries+interrupted+2*(uint64(took/(10*time.Millisecond))+1))
	require.Equal(t, woken+again+broken+timeouts+errors, got["ebpf_lock_futex_wait_seconds_count{}"])
}

// TestLockWoken: a thread that is woken by another, each time after it began to wait.
func TestLockWoken(t *testing.T) {
	kprobetest.Require(t)
	const wakes, pause = 20, 2 * time.Millisecond
	// The waiting thread keeps its processor, and cannot be stopped to collect garbage.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	var word futexWord
	tid := make(chan int)
	begin, done := make(chan struct{}), make(chan uint64)
	var waited elapsed
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		<-begin
		var woken uint64
		waited = timed(t, func() {
			for woken < wakes {
				if word.call(futexWait, 0, 0) == 0 {
					woken++
				}
			}
		})
		done <- woken
	}()
	waiter, start := <-tid, time.Now()
	o := openOther(t, "lock", "", waiter)
	close(begin)
	var woken uint64
	for woken == 0 {
		time.Sleep(pause)
		n, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), futexWake|futexPrivate, 1, 0, 0, 0)
		require.Zero(t, errno)
		require.LessOrEqual(t, n, uintptr(1))
		select {
		case woken = <-done:
		default:
		}
	}
	got := count(t, o)
	took := time.Since(start)
	// As above, the preempted thread waits too.
	require.GreaterOrEqual(t, got[futexWaits("woken")], woken)
	require.LessOrEqual(t, got[futexWaits("woken")], woken+uint64(took/(10*time.Millisecond))+1)
	require.Positive(t, waited.asleep)
	require.GreaterOrEqual(t, time.Duration(got["ebpf_lock_futex_wait_seconds_sum{}"]), waited.asleep)
	require.LessOrEqual(t, time.Duration(got["ebpf_lock_futex_wait_seconds_sum{}"]), took)
}

// TestLockOthers: waits of this process are not counted for another one.
func TestLockOthers(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	o := openOn(t, "lock", newWorker(t))
	before := count(t, o)
	var word futexWord
	for range 1000 {
		require.Equal(t, unix.EAGAIN, word.call(futexWait, 1, 0))
		require.Contains(t, []unix.Errno{unix.ETIMEDOUT, unix.EINTR}, word.call(futexWait, 0, time.Microsecond))
	}
	// The worker's own runtime may wait.
	require.Less(t, count(t, o).since(before)["ebpf_lock_futex_wait_seconds_count{}"], uint64(1000))
}

// openThread attaches a module to the calling thread.
func openThread(t *testing.T, module string, attach kprobe.Attachment) *observer.Observer {
	t.Helper()
	return openOther(t, module, attach, unix.Gettid())
}

func openOther(t *testing.T, module string, attach kprobe.Attachment, tid int) *observer.Observer {
	t.Helper()
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{module}}, Attachment: attach, Scope: kprobe.Scope{TGID: uint32(os.Getpid()), TID: uint32(tid)}})
	require.NoError(t, err)
	closeAfter(t, o)
	return o
}
