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
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// usage returns what /proc has for a process's current threads, by the names of the metrics. The pattern selects
// threads.
func usage(t testing.TB, pid, pattern string) counts {
	t.Helper()
	tasks, err := filepath.Glob(filepath.Join("/proc", pid, "task", pattern))
	require.NoError(t, err)
	sum := counts{}
	for _, task := range tasks {
		schedstat, err := os.ReadFile(task + "/schedstat")
		require.NoError(t, err)
		status, err := os.ReadFile(task + "/status")
		require.NoError(t, err)
		var runtime, wait, waits uint64
		_, err = fmt.Sscan(string(schedstat), &runtime, &wait, &waits)
		require.NoError(t, err)
		sum["ebpf_sched_cpu_seconds_total{}"] += runtime
		sum["ebpf_sched_run_queue_wait_seconds_total{}"] += wait
		sum["ebpf_sched_run_queue_waits_total{}"] += waits
		sum["ebpf_sched_switches_total{voluntary}"] += number(t, string(status), "\nvoluntary_ctxt_switches:")
		sum["ebpf_sched_switches_total{involuntary}"] += number(t, string(status), "\nnonvoluntary_ctxt_switches:")
		sum["ebpf_sched_threads{}"]++
	}
	return sum
}

// elapsed is the time that something took.
type elapsed struct {
	all time.Duration
	// asleep is the part in which the calling thread was neither on a CPU nor waiting for one, by the kernel's account,
	// or less: on a busy machine no more than on an idle one.
	asleep time.Duration
}

// timed does something, with the goroutine locked to its thread.
func timed(t testing.TB, do func()) elapsed {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	notAsleep := func() time.Duration {
		text, err := os.ReadFile("/proc/thread-self/schedstat")
		require.NoError(t, err)
		var runtime, wait int64
		_, err = fmt.Sscan(string(text), &runtime, &wait)
		require.NoError(t, err)
		var cpu unix.Timespec
		require.NoError(t, unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &cpu))
		return time.Duration(cpu.Nano() + wait)
	}
	begin := notAsleep()
	start := time.Now()
	do()
	all := time.Since(start)
	return elapsed{all, all - (notAsleep() - begin)}
}

// number returns the number behind a key.
func number(t testing.TB, text, key string) uint64 {
	t.Helper()
	_, after, ok := strings.Cut(text, key)
	require.True(t, ok, key)
	n, err := strconv.ParseUint(strings.Fields(after)[0], 10, 64)
	require.NoError(t, err)
	return n
}

func refreshed(t testing.TB, o *observer.Observer) counts {
	t.Helper()
	require.NoError(t, o.Refresh())
	return count(t, o)
}

// worker is a process whose threads work on request.
type worker struct {
	t       *testing.T
	orders  *os.File
	answers *bufio.Reader
	process *os.Process
}

// workerEnv tells a test that it runs as a worker: it has to call work.
const workerEnv = "OBSERVER_TEST_WORKER"

func newWorker(t *testing.T) *worker {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	theirOrders, orders, err := os.Pipe()
	require.NoError(t, err)
	answers, theirAnswers, err := os.Pipe()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), workerEnv+"=1")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{theirOrders, theirAnswers}
	require.NoError(t, cmd.Start())
	require.NoError(t, errors.Join(theirOrders.Close(), theirAnswers.Close()))
	t.Cleanup(func() {
		require.NoError(t, errors.Join(orders.Close(), answers.Close(), cmd.Process.Kill()))
		_ = cmd.Wait()
	})
	require.NoError(t, answers.SetReadDeadline(time.Now().Add(patience)))
	return &worker{t, orders, bufio.NewReader(answers), cmd.Process}
}

// The orders to a worker.
const (
	startThreads = "start" // Start some more threads.
	useThreads   = "use"   // They run, sleep, and compete for CPUs.
	endThreads   = "end"   // All of them end.
	doNothing    = "nothing"
)

// someThreads are more than a test machine has CPUs.
const someThreads = 20

// answer is the worker's report.
type answer struct {
	switches [2]uint64 // of its threads, including those that have ended: voluntary and not
	thread   int       // one that ends when it is told to, 0 if there is none
}

// do makes the worker carry out an order.
func (w *worker) do(order string) (a answer) {
	w.t.Helper()
	_, err := fmt.Fprintln(w.orders, order)
	require.NoError(w.t, err)
	text, err := w.answers.ReadString('\n')
	require.NoError(w.t, err)
	_, err = fmt.Sscan(text, &a.switches[0], &a.switches[1], &a.thread)
	require.NoError(w.t, err)
	return a
}

// work is the worker's side. It does not return.
func work() {
	orders, answers := bufio.NewScanner(os.NewFile(3, "orders")), os.NewFile(4, "answers")
	var threads spenders
	for orders.Scan() {
		switch orders.Text() {
		case startThreads:
			threads.start(someThreads)
		case useThreads:
			threads.use()
		case endThreads:
			threads.end()
		}
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			panic(err)
		}
		thread := 0
		for _, one := range threads {
			if one.tid != os.Getpid() {
				thread = one.tid
			}
		}
		fmt.Fprintln(answers, usage.Nvcsw, usage.Nivcsw, thread)
	}
	os.Exit(0)
}

// spenders are threads that call spend on request.
type spenders []spender

type spender struct {
	tell chan struct{}
	tid  int
}

func (s *spenders) start(n int) {
	ids := make(chan int)
	for range n {
		tell := make(chan struct{})
		go func() {
			// Not unlocked: the thread ends with the goroutine.
			runtime.LockOSThread()
			ids <- unix.Gettid()
			for range tell {
				spend()
				tell <- struct{}{}
			}
		}()
		*s = append(*s, spender{tell, <-ids})
	}
}

func (s *spenders) use() {
	for _, one := range *s {
		one.tell <- struct{}{}
	}
	for _, one := range *s {
		<-one.tell
	}
}

// end waits until the threads are gone, except for a process's first thread, which the runtime keeps.
func (s *spenders) end() {
	for _, one := range *s {
		close(one.tell)
	}
	for _, one := range *s {
		for one.tid != os.Getpid() && unix.Tgkill(os.Getpid(), one.tid, 0) == nil {
			time.Sleep(time.Millisecond)
		}
	}
	*s = nil
}

// spend uses a CPU and sleeps, several times.
func spend() {
	for range 5 {
		for start := time.Now(); time.Since(start) < time.Millisecond; {
			unix.Getppid()
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 50_000}, nil)
	}
}

// look is what is known about a stopped process.
type look struct {
	all     counts // all threads that it has
	one     counts // one of them
	cpuTime uint64 // including threads that have ended, in nanoseconds
}

// still stops the worker, and returns what the observers and the kernel have for it at that moment.
func (w *worker) still(all, one *observer.Observer, tid int) (look, look) {
	w.t.Helper()
	// As in clock_getcpuclockid(3): what the scheduler keeps for a process.
	const schedClock = 2
	pid := w.process.Pid
	ask := func() (l look) {
		l.all, l.one = usage(w.t, strconv.Itoa(pid), "*"), usage(w.t, strconv.Itoa(pid), strconv.Itoa(tid))
		var cpu unix.Timespec
		require.NoError(w.t, unix.ClockGettime(int32(^pid<<3|schedClock), &cpu))
		l.cpuTime = uint64(cpu.Nano())
		return l
	}
	require.NoError(w.t, w.process.Signal(syscall.SIGSTOP))
	var got, truth look
	// Stopping takes a while. Two equal readings are not enough if all threads sleep.
	require.Eventually(w.t, func() bool {
		truth = ask()
		got = look{all: refreshed(w.t, all), one: refreshed(w.t, one)}
		return reflect.DeepEqual(truth, ask()) && w.stopped()
	}, patience, time.Millisecond)
	require.NoError(w.t, w.process.Signal(syscall.SIGCONT))
	return got, truth
}

func (w *worker) stopped() bool {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", w.process.Pid))
	require.NoError(w.t, err)
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		require.NoError(w.t, err)
		if !strings.Contains(string(text), ") T ") {
			return false
		}
	}
	return true
}

// TestSchedExact observes another process, and one thread of it, and stops it to compare: everything has grown as in
// /proc, to the nanosecond. When threads end nothing decreases, and what the kernel keeps of them is still exact.
func TestSchedExact(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	w := newWorker(t)
	tid := w.do(startThreads).thread
	openScope := func(tid int) *observer.Observer {
		scope := kprobe.Scope{TGID: uint32(w.process.Pid), TID: uint32(tid)}
		o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"sched"}}, Scope: scope})
		require.NoError(t, err)
		closeAfter(t, o)
		require.Equal(t, []string{"ebpf_sched_threads{}"}, slices.Collect(maps.Keys(count(t, o))), "counting starts at 0")
		return o
	}
	all, one := openScope(0), openScope(tid)

	switched := [4][2]uint64{w.do(useThreads).switches}
	first, truthFirst := w.still(all, one, tid)
	switched[1] = w.do(doNothing).switches
	// Known threads, and new ones.
	w.do(startThreads)
	w.do(useThreads)
	second, truthSecond := w.still(all, one, tid)
	grown := truthSecond.all.since(truthFirst.all)
	require.Len(t, grown, 6, "not everything has grown")
	require.Equal(t, grown, second.all.since(first.all))
	require.Equal(t, truthSecond.all["ebpf_sched_threads{}"], second.all["ebpf_sched_threads{}"])
	require.NotEmpty(t, second.one.since(first.one))
	require.Equal(t, truthSecond.one.since(truthFirst.one), second.one.since(first.one))
	require.Equal(t, uint64(1), second.one["ebpf_sched_threads{}"])

	switched[2] = w.do(endThreads).switches
	third, truthThird := w.still(all, one, tid)
	switched[3] = w.do(doNothing).switches
	grown = third.all.since(first.all)
	require.Equal(t, truthThird.cpuTime-truthFirst.cpuTime, grown["ebpf_sched_cpu_seconds_total{}"])
	for i, kind := range []string{"voluntary", "involuntary"} {
		n := grown["ebpf_sched_switches_total{"+kind+"}"]
		require.GreaterOrEqual(t, n, switched[2][i]-switched[1][i], kind)
		require.LessOrEqual(t, n, switched[3][i]-switched[0][i], kind)
	}
	for _, name := range []string{"ebpf_sched_run_queue_wait_seconds_total{}", "ebpf_sched_run_queue_waits_total{}"} {
		require.Greater(t, third.all[name], second.all[name], name)
	}
	require.Equal(t, truthThird.all["ebpf_sched_threads{}"], third.all["ebpf_sched_threads{}"])
	require.LessOrEqual(t, third.all["ebpf_sched_threads{}"], second.all["ebpf_sched_threads{}"]-someThreads)
	require.Equal(t, second.one.without("threads"), third.one, "the thread has ended")
	require.Equal(t, kprobe.Iter, all.Health().Modules[0].Plan[0].Attachment)
}

// TestSched: the growth while this process works is between that of /proc read before and after.
func TestSched(t *testing.T) {
	eachAttach(t, "sched", []string{"task"}, func(t *testing.T, o *observer.Observer) { testSched(t, o, spend) })
}

func testSched(t *testing.T, o *observer.Observer, during func()) {
	quiet(t)
	type bracket struct{ before, got, after counts }
	ask := func() bracket {
		return bracket{usage(t, "self", "*"), refreshed(t, o), usage(t, "self", "*")}
	}
	begin := ask()
	during()
	end := ask()
	for name := range begin.after {
		if name == "ebpf_sched_threads{}" {
			continue
		}
		grown := end.got[name] - begin.got[name]
		require.GreaterOrEqual(t, grown, end.before[name]-begin.after[name], name)
		require.LessOrEqual(t, grown, end.after[name]-begin.before[name], name)
	}
	require.Positive(t, end.got.since(begin.got)["ebpf_sched_cpu_seconds_total{}"])
	require.GreaterOrEqual(t, end.got["ebpf_sched_threads{}"], end.before["ebpf_sched_threads{}"])
	require.LessOrEqual(t, end.got["ebpf_sched_threads{}"], end.after["ebpf_sched_threads{}"])
}

// TestSchedOthers: the threads of another process change nothing.
func TestSchedOthers(t *testing.T) {
	kprobetest.Require(t)
	if os.Getenv(workerEnv) != "" {
		work()
	}
	w := newWorker(t)
	testSched(t, open(t, "sched"), func() {
		spend()
		w.do(startThreads)
		w.do(useThreads)
	})
}

// tids lists the threads of this process.
func tids(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	var all []int
	for _, entry := range entries {
		tid, err := strconv.Atoi(entry.Name())
		require.NoError(t, err)
		all = append(all, tid)
	}
	slices.Sort(all)
	return all
}

// withoutPlace returns how many threads find all eight places from their id on taken by others, with the threads of
// each pass in the order of their ids.
func withoutPlace(places int, passes ...[]int) int {
	taken := make(map[int]int)
	skipped := 0
	for _, threads := range passes {
		skipped = 0
		for _, tid := range threads {
			place := tid
			for place < tid+8 && taken[place%places] != 0 && taken[place%places] != tid {
				place++
			}
			if place == tid+8 {
				skipped++
				continue
			}
			taken[place%places] = tid
		}
	}
	return skipped
}

// TestSchedFull: threads beyond the places of the table are counted as skipped, and the places are free again when the
// threads have ended.
func TestSchedFull(t *testing.T) {
	const places = 1024
	const skipped = "ebpf_sched_run_queue_wait_skipped_total{}"
	kprobetest.Require(t)
	if !kprobetest.InChild(t, nil) {
		return
	}
	o := open(t, "sched")
	first := tids(t)
	var threads spenders
	threads.start(places + 100)
	before, was, got, after := usage(t, "self", "*"), tids(t), refreshed(t, o), usage(t, "self", "*")
	require.GreaterOrEqual(t, got["ebpf_sched_threads{}"], before["ebpf_sched_threads{}"])
	require.LessOrEqual(t, got["ebpf_sched_threads{}"], after["ebpf_sched_threads{}"])
	require.GreaterOrEqual(t, got[skipped], before["ebpf_sched_threads{}"]-places)
	self, err := kprobe.Self()
	require.NoError(t, err)
	if slices.Equal(was, tids(t)) && int(self.TGID) == os.Getpid() {
		// Ids of other processes in between spread those of the threads.
		require.EqualValues(t, withoutPlace(places, first, was), got[skipped])
	}
	require.LessOrEqual(t, got["ebpf_sched_run_queue_waits_total{}"], after["ebpf_sched_run_queue_waits_total{}"])

	threads.end()
	// One pass to miss them, and one to reuse their places.
	refreshed(t, o)
	before = refreshed(t, o)
	threads.start(someThreads)
	got = refreshed(t, o)
	threads.end()
	require.Equal(t, before[skipped], got[skipped])
	require.Greater(t, got["ebpf_sched_run_queue_waits_total{}"], before["ebpf_sched_run_queue_waits_total{}"]+someThreads)
}

// TestRefreshCallsNothing: Refresh makes no system call for a module without an iterator.
func TestRefreshCallsNothing(t *testing.T) {
	o, iterating := open(t, "io", "cache"), open(t, "sched")
	calls := callCounter(t)
	require.GreaterOrEqual(t, calls(func() { require.NoError(t, iterating.Refresh()) }), uint64(3), "open, read, close")
	// On some machines reading the budget's clock takes a system call.
	clock := leastCalls(calls, func() error {
		_ = time.Now()
		return nil
	})
	require.Equal(t, clock, leastCalls(calls, o.Refresh))
}

// TestRefreshFails: an iterator that cannot run is reported, and affects neither other modules nor snapshots. The next
// Refresh catches up.
func TestRefreshFails(t *testing.T) {
	kprobetest.Require(t)
	if !kprobetest.InChild(t, nil) {
		return
	}
	object, err := fs.ReadFile(bpf.Modules(runtime.GOARCH), "sched.bpf.o")
	require.NoError(t, err)
	o, err := observer.Open(context.Background(), observer.Options{Sources: []observer.Source{observer.Files(fstest.MapFS{
		"one.bpf.o": {Data: object}, "two.bpf.o": {Data: object},
	})}})
	require.NoError(t, err)
	closeAfter(t, o)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	none := unix.Rlimit{Max: limit.Max}
	before := refreshed(t, o)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &none))
	spend()
	err = o.Refresh()
	require.Equal(t, before, count(t, o))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
	for _, module := range []string{"one", "two"} {
		require.ErrorContains(t, err, "module "+module+": the process has too many open files (RLIMIT_NOFILE is 0): opening the iterator")
	}
	require.Contains(t, kprobe.Remedy(err), "RLIMIT_NOFILE")
	grown := refreshed(t, o).since(before)
	require.Positive(t, grown["ebpf_one_cpu_seconds_total{}"])
	require.Positive(t, grown["ebpf_two_cpu_seconds_total{}"])
}

// TestRefreshDuringClose: any number of concurrent calls of Refresh succeed or return ErrClosed, and totals grow.
func TestRefreshDuringClose(t *testing.T) {
	kprobetest.Require(t)
	for range 5 {
		o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"sched", "cache"}}})
		require.NoError(t, err)
		var callers sync.WaitGroup
		var passes atomic.Int64
		for range 4 {
			callers.Go(func() {
				for {
					err := o.Refresh()
					if errors.Is(err, observer.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					passes.Add(1)
				}
			})
		}
		before := count(t, o)
		require.Eventually(t, func() bool { return passes.Load() > 100 }, patience, time.Millisecond)
		after := count(t, o)
		for name, n := range before.without("threads") {
			require.GreaterOrEqual(t, after[name], n, name)
		}
		require.NoError(t, o.Close())
		require.ErrorIs(t, o.Refresh(), observer.ErrClosed)
		callers.Wait()
	}
}

// BenchmarkRefresh runs the iterators of the modules that have one.
func BenchmarkRefresh(b *testing.B) {
	o := open(b, "memory", "sched")
	b.ReportAllocs()
	for b.Loop() {
		if err := o.Refresh(); err != nil {
			b.Fatal(err)
		}
	}
}
