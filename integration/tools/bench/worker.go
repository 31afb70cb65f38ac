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

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	blockSize = 4096
	// fillStep is the size of one readahead. The kernel's default limit is at least that.
	fillStep = 128 << 10
	fillFile = 8 << 20
	// parts are timed one by one: their median is not affected by single interruptions.
	parts    = 30
	priority = 10
	workCPU  = 1
)

// workSizes are the operations of one part. It takes some milliseconds, so that the real-time scheduler does not
// throttle us.
var workSizes = map[string]int{ownPread: 2000, strangerPread: 2000, strangerCall: 4000, ownFill: fillFile / blockSize}

// work runs n operations, one after the other, and returns how long they took.
type work func(n int) (time.Duration, error)

// runWorker is the main function of a worker: it reads the name of a kind of work from each line, and answers with the
// nanoseconds of one operation.
func runWorker(name, dir string) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	comm, err := unix.BytePtrFromString(name)
	if err != nil {
		return err
	}
	if err = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(comm)), 0, 0, 0); err != nil {
		return fmt.Errorf("naming the thread: %w", err)
	}
	var cpus unix.CPUSet
	cpus.Set(min(workCPU, runtime.NumCPU()-1))
	if err = unix.SchedSetaffinity(0, &cpus); err != nil {
		return fmt.Errorf("pinning the thread: %w", err)
	}
	fifo := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}, 0) == nil
	scope, err := kprobe.Self()
	if err != nil {
		return err
	}
	works, err := newWorks(dir)
	if err != nil {
		return err
	}
	self := &selfObserver{label: observer.NewWorkLabel(observer.Work{Name: "query"})}
	// Returns free memory to the kernel before anything is timed.
	debug.FreeOSMemory()
	fmt.Println(scope.TGID, fifo)
	// All timed work runs under a label, so that the programs look it up.
	self.label.Do(context.Background(), func() { err = answer(works, self) })
	return err
}

// answer executes the command in each line of standard input, and prints a number or an error.
func answer(works map[string]work, self *selfObserver) error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		n, observes, err := self.answer(lines.Text())
		switch {
		case observes && err != nil:
			// The answer must be a single line.
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		case !observes:
			if n, err = timeWork(works, lines.Text()); err != nil {
				return err
			}
		}
		fmt.Println(n)
	}
	return nil
}

// Commands by which a worker observes itself. The first is followed by the modules, separated by commas.
const (
	observeSelf = "observe "
	observeNot  = "observe-not"
	observed    = "observed"
)

// selfObserver is a worker's observer of itself. Observer is nil before it is opened.
type selfObserver struct {
	*observer.Observer
	label *observer.WorkLabel
}

// answer executes a line if it is one of the commands above; observes reports whether it is. n is the number of counted
// preads for the command observed, otherwise 0.
func (s *selfObserver) answer(line string) (n float64, observes bool, err error) {
	modules, open := strings.CutPrefix(line, observeSelf)
	switch {
	case open:
		s.Observer, err = observer.Open(context.Background(), observer.Options{
			Config: observer.Config{Modules: strings.Split(modules, ",")},
			Works: &observer.Works{
				Labels: []*observer.WorkLabel{s.label},
				Files:  func(string) observer.File { return observer.File{Kind: "data"} },
			},
		})
	case line == observeNot:
		err = s.Close()
	case line == observed:
		var preads uint64
		preads, err = countOf(s.Observer, operations, "pread")
		n = float64(preads)
	default:
		return 0, false, nil
	}
	return n, true, err
}

func timeWork(works map[string]work, command string) (float64, error) {
	do, n := works[command], workSizes[command]
	if do == nil {
		return 0, fmt.Errorf("unknown work %q", command)
	}
	var perOp []float64
	for range parts {
		took, err := do(n)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", command, err)
		}
		perOp = append(perOp, float64(took.Nanoseconds())/float64(n))
	}
	return median(perOp), nil
}

func newWorks(dir string) (map[string]work, error) {
	small, err := os.CreateTemp(dir, "cached-")
	if err != nil {
		return nil, err
	}
	if _, err = small.Write(make([]byte, blockSize)); err != nil {
		return nil, err
	}
	// A hole needs no device: only the page cache is timed.
	large, err := os.CreateTemp(dir, "hole-")
	if err != nil {
		return nil, err
	}
	if err = large.Truncate(fillFile); err != nil {
		return nil, err
	}
	pread := preadWork(small)
	return map[string]work{ownPread: pread, strangerPread: pread, strangerCall: getppid, ownFill: fillWork(large)}, nil
}

func preadWork(file *os.File) work {
	fd, buffer := file.Fd(), make([]byte, blockSize)
	at := uintptr(unsafe.Pointer(&buffer[0]))
	return func(n int) (time.Duration, error) {
		start := time.Now()
		for range n {
			got, _, errno := syscall.RawSyscall6(unix.SYS_PREAD64, fd, at, blockSize, 0, 0, 0)
			if errno != 0 || got != blockSize {
				return 0, fmt.Errorf("%d bytes: %w", got, errno)
			}
		}
		took := time.Since(start)
		runtime.KeepAlive(buffer)
		runtime.KeepAlive(file)
		return took, nil
	}
}

func getppid(n int) (time.Duration, error) {
	start := time.Now()
	for range n {
		syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	}
	return time.Since(start), nil
}

// fillWork adds n pages to the page cache. Dropping them before that is not timed.
func fillWork(file *os.File) work {
	fd := int(file.Fd())
	return func(n int) (time.Duration, error) {
		defer runtime.KeepAlive(file)
		if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
			return 0, err
		}
		start := time.Now()
		for at := 0; at < n*blockSize; at += fillStep {
			if _, _, errno := syscall.RawSyscall(unix.SYS_READAHEAD, uintptr(fd), uintptr(at), fillStep); errno != 0 {
				return 0, errno
			}
		}
		return time.Since(start), nil
	}
}

// child is a process that answers lines with lines. It must be closed.
type child struct {
	cmd     *exec.Cmd
	in      *os.File
	out     *bufio.Scanner
	outFile *os.File
}

func startChild(cmd *exec.Cmd) (*child, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, in.Close(), theirIn.Close())
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = errors.Join(cmd.Start(), theirIn.Close(), theirOut.Close())
	c := &child{cmd: cmd, in: in, out: bufio.NewScanner(out), outFile: out}
	if err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	return c, nil
}

// ask sends a line, unless it is empty, and returns the numbers of the answer.
func (c *child) ask(command string) ([]float64, error) {
	if command != "" {
		if _, err := fmt.Fprintln(c.in, command); err != nil {
			return nil, err
		}
	}
	if !c.out.Scan() {
		return nil, fmt.Errorf("%s ended: %w", filepath.Base(c.cmd.Path), errors.Join(errors.New("no answer to "+strconv.Quote(command)), c.out.Err()))
	}
	return numbers(c.out.Text())
}

func numbers(answer string) ([]float64, error) {
	if what, failed := strings.CutPrefix(answer, "error "); failed {
		return nil, errors.New(what)
	}
	var all []float64
	for _, field := range strings.Fields(answer) {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return nil, fmt.Errorf("no number in the answer %q", answer)
		}
		all = append(all, v)
	}
	if len(all) == 0 {
		return nil, errors.New("an empty answer")
	}
	return all, nil
}

// close ends the child by closing its input.
func (c *child) close() error {
	return errors.Join(c.in.Close(), c.cmd.Wait(), c.outFile.Close())
}

// worker is a process that makes the calls to be timed.
type worker struct {
	*child
	scope kprobe.Scope
	fifo  bool
}

func startWorker(name, dir string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-worker", name, "-dir", dir)
	// Otherwise Go interrupts a long-running goroutine with a signal, and sometimes reads the limits of its cgroup with
	// pread.
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0")
	c, err := startChild(cmd)
	if err != nil {
		return nil, err
	}
	if !c.out.Scan() {
		return nil, errors.Join(fmt.Errorf("worker %s does not start", name), c.close())
	}
	fields := strings.Fields(c.out.Text())
	if len(fields) != 2 {
		return nil, errors.Join(fmt.Errorf("worker %s says %q", name, c.out.Text()), c.close())
	}
	tgid, err := strconv.ParseUint(fields[0], 10, 32)
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	return &worker{child: c, scope: kprobe.Scope{TGID: uint32(tgid)}, fifo: fields[1] == "true"}, nil
}

// time returns the nanoseconds of one operation.
func (w *worker) time(call string) (float64, error) {
	answer, err := w.ask(call)
	if err != nil {
		return 0, err
	}
	return answer[0], nil
}
