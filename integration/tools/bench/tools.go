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
	gobytes "bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

//go:embed bpf/*/*.bpf.o
var objects embed.FS

// attached is a tool that is attached. It must be closed.
type attached struct {
	close func() error
	// preads returns how many pread calls the tool has counted, nil if it does not count them.
	preads func() (uint64, error)
}

// tool is something that can be attached to the kernel to observe a process.
type tool struct {
	name   string
	attach func(scope kprobe.Scope) (*attached, error)
}

// loadObject loads one of our own objects.
func loadObject(name string, configure func(*ebpf.CollectionSpec) error) (*ebpf.Collection, error) {
	object, err := objects.ReadFile("bpf/" + runtime.GOARCH + "/" + name + ".bpf.o")
	if err != nil {
		return nil, err
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(gobytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	if configure != nil {
		if err = configure(spec); err != nil {
			return nil, err
		}
	}
	return ebpf.NewCollection(spec)
}

// attachProgram attaches one of our own programs, as its section says.
func attachProgram(spec *ebpf.ProgramSpec, program *ebpf.Program) (link.Link, error) {
	if group, name, classic := strings.Cut(spec.AttachTo, "/"); classic {
		return link.Tracepoint(group, name, program, nil)
	}
	return link.AttachTracing(link.TracingOptions{Program: program})
}

// empty attaches programs that do nothing or almost nothing.
func empty(name string, programs ...string) tool {
	return tool{name: name, attach: func(scope kprobe.Scope) (*attached, error) {
		only := make(map[string]*ebpf.ProgramSpec)
		coll, err := loadObject("empty", func(spec *ebpf.CollectionSpec) error {
			if err := spec.Variables["scope_tgid"].Set(scope.TGID); err != nil {
				return err
			}
			for _, p := range programs {
				only[p] = spec.Programs[p]
			}
			spec.Programs = only
			return nil
		})
		if err != nil {
			return nil, err
		}
		var links []link.Link
		closeAll := func() error {
			var errs []error
			for _, l := range links {
				errs = append(errs, l.Close())
			}
			coll.Close()
			return errors.Join(errs...)
		}
		for _, p := range programs {
			l, err := attachProgram(only[p], coll.Programs[p])
			if err != nil {
				return nil, errors.Join(fmt.Errorf("attaching %s: %w", p, err), closeAll())
			}
			links = append(links, l)
		}
		return &attached{close: closeAll}, nil
	}}
}

// ours attaches modules of the observer.
func ours(name string, opts observer.Options) tool {
	return tool{name: name, attach: func(scope kprobe.Scope) (*attached, error) {
		opts.Scope = scope
		o, err := observer.Open(context.Background(), opts)
		if err != nil {
			return nil, err
		}
		a := &attached{close: o.Close}
		if slices.ContainsFunc(o.Schema(), func(m observer.Metric) bool { return m.Name == operations }) {
			a.preads = func() (uint64, error) { return countOf(o, operations, "pread") }
		}
		return a, nil
	}}
}

// attributedTool makes a worker observe itself, since only the process itself can attribute events to its goroutines.
func attributedTool(own *worker, modules []string) tool {
	return tool{name: defaultsAttributed, attach: func(kprobe.Scope) (*attached, error) {
		if _, err := own.ask(observeSelf + strings.Join(modules, ",")); err != nil {
			return nil, err
		}
		return &attached{
			close: func() error { _, err := own.ask(observeNot); return err },
			preads: func() (uint64, error) {
				answer, err := own.ask(observed)
				if err != nil {
					return 0, err
				}
				return uint64(answer[0]), nil
			},
		}, nil
	}}
}

// operations is the metric with the number of counted calls.
const operations = "ebpf_io_operations_total"

// countOf adds up the series of a counter whose first label has the value.
func countOf(o *observer.Observer, name, first string) (uint64, error) {
	var s observer.Snapshot
	if err := o.Snapshot(&s); err != nil {
		return 0, err
	}
	var sum float64
	for one := range s.All() {
		if one.Metric.Name == name && one.Labels[0] == first {
			sum += one.Value()
		}
	}
	return uint64(sum), nil
}

// ktmTool attaches what BanyanDB's sidecar agent attaches, by the agent's own code in a separate process.
func ktmTool(peer *child) tool {
	return tool{name: ktm, attach: func(kprobe.Scope) (*attached, error) {
		if _, err := peer.ask("start"); err != nil {
			return nil, err
		}
		return &attached{
			close: func() error { _, err := peer.ask("stop"); return err },
			preads: func() (uint64, error) {
				answer, err := peer.ask("count")
				if err != nil {
					return 0, err
				}
				return uint64(answer[0]), nil
			},
		}, nil
	}}
}

// bpftraceProgram is the latency histogram of bpftrace's tutorial.
const bpftraceProgram = `tracepoint:syscalls:sys_enter_pread64 /pid == %[1]d/ { @start[tid] = nsecs; }
tracepoint:syscalls:sys_exit_pread64 /@start[tid]/ { @ns = hist(nsecs - @start[tid]); delete(@start[tid]); }`

// bpftraceSettle is how long bpftrace takes to attach after it has printed "Attaching".
const bpftraceSettle = 700 * time.Millisecond

func bpftraceTool() tool {
	return tool{name: bpftrace, attach: func(scope kprobe.Scope) (*attached, error) {
		cmd := exec.Command("bpftrace", "-e", fmt.Sprintf(bpftraceProgram, scope.TGID))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		cmd.Stderr = cmd.Stdout
		// Pdeathsig fires when the thread that starts the child ends.
		runtime.LockOSThread()
		if err = cmd.Start(); err != nil {
			runtime.UnlockOSThread()
			return nil, err
		}
		end := func() error {
			defer runtime.UnlockOSThread()
			return endBpftrace(cmd, out)
		}
		if err = attaching(out); err != nil {
			return nil, errors.Join(err, end())
		}
		time.Sleep(bpftraceSettle)
		return &attached{close: end}, nil
	}}
}

// attaching reads the output of bpftrace until it attaches. It may first print a warning about a limit that no longer
// matters.
func attaching(out io.Reader) error {
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "Attaching") {
			return nil
		}
		said = append(said, lines.Text())
	}
	return fmt.Errorf("bpftrace does not attach: %s", strings.Join(said, "; "))
}

// endBpftrace sends signals until bpftrace ends: one that arrives just before bpftrace waits for events is lost. One
// that arrives during its cleanup ends it at once, which is fine.
func endBpftrace(cmd *exec.Cmd, out io.Reader) error {
	said := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, out)
		said <- err
	}()
	for range 20 {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case err := <-said:
			waitErr := cmd.Wait()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGINT {
				waitErr = nil
			}
			return errors.Join(err, waitErr)
		case <-time.After(500 * time.Millisecond):
		}
	}
	return errors.Join(errors.New("bpftrace had to be killed"), cmd.Process.Kill(), <-said, cmd.Wait())
}
