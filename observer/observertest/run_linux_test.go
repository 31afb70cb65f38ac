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

package observertest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// recorder records what a test would report.
type recorder struct{ failures, skips []string }

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Skipf(format string, args ...any) {
	r.skips = append(r.skips, fmt.Sprintf(format, args...))
}

// The module's faults, numbered as in its source.
const (
	doubled = iota + 1
	silent
	everybody
	allThreads
	series
)

// sdkModule returns the test's own module, changed.
func sdkModule(t *testing.T, change func(*ebpf.CollectionSpec)) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpec(filepath.Join("..", "testdata", runtime.GOARCH, "sdk.bpf.o"))
	require.NoError(t, err)
	if change != nil {
		change(spec)
	}
	return spec
}

func faulty(t *testing.T, fault uint32) func(*ebpf.CollectionSpec) {
	return func(spec *ebpf.CollectionSpec) { require.NoError(t, spec.Variables["fault"].Set(fault)) }
}

// preads reads three times, and fails twice.
func preads() (map[string]uint64, error) {
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	buf := make([]byte, 100)
	for range 3 {
		if _, err = unix.Pread(int(file.Fd()), buf, 0); err != nil {
			return nil, err
		}
	}
	for range 2 {
		if _, err = unix.Pread(-1, buf, 0); err == nil {
			return nil, fmt.Errorf("a read of descriptor -1 succeeded")
		}
	}
	return map[string]uint64{
		`ebpf_sdk_calls_total{result="ok"}`: 3, `ebpf_sdk_calls_total{result="error"}`: 2, "ebpf_sdk_call_bytes": 3,
	}, nil
}

func firstMember(spec *ebpf.CollectionSpec) *btf.Member {
	return &spec.Maps["metrics"].Value.(*btf.Struct).Members[0]
}

// TestRunBites: a correct module passes, and each wrong one fails with its fault, and with nothing else.
func TestRunBites(t *testing.T) {
	var kept []*ebpf.Program
	defer func() {
		for _, prog := range kept {
			require.NoError(t, prog.Close())
		}
	}()
	stop := make(chan struct{})
	defer close(stop)
	var files []*os.File
	defer func() {
		for _, file := range files {
			require.NoError(t, file.Close())
		}
	}()
	for _, c := range []struct {
		name   string
		change func(*ebpf.CollectionSpec)
		do     func() (map[string]uint64, error)
		undo   func() error
		want   []string
		like   []string // the same as regular expressions, where a number is not known
	}{
		{name: "right"},
		{name: "doubled", change: faulty(t, doubled), want: []string{
			"counts: ebpf_sdk_calls_total{result=\"error\"} counted 4, want 2\nebpf_sdk_calls_total{result=\"ok\"} counted 6, want 3",
		}},
		{name: "silent", change: faulty(t, silent), want: []string{"counts: ebpf_sdk_call_bytes counted 0, want 3"}},
		{name: "wrong series", change: faulty(t, series), want: []string{"counts: ebpf_sdk_calls_total{result=\"error\"} counted 0, want 2"}},
		// Other processes read too.
		{name: "everybody", change: faulty(t, everybody), like: []string{
			"^scope: this process's work was counted although another process was observed: ebpf_sdk_call_bytes counted ([3-9]|[0-9]{2,}), want 0",
			"^scope: this thread's work was counted although another thread was observed: ebpf_sdk_call_bytes counted ([3-9]|[0-9]{2,}), want 0",
		}},
		{name: "all threads", change: faulty(t, allThreads), want: []string{"scope: this thread's work was counted although another thread was observed"}},
		{name: "refused by the verifier", change: func(spec *ebpf.CollectionSpec) {
			prog := spec.Programs["call__tp_btf"]
			prog.Instructions = append(append(prog.Instructions[:1:1], asm.Mov.Reg(asm.R0, asm.R9)), prog.Instructions[1:]...)
		}, want: []string{"loading: no module could be attached: sdk: hook call by tp_btf"}},
		{name: "no such tracepoint", change: func(spec *ebpf.CollectionSpec) { spec.Programs["call__tp_btf"].AttachTo = "nosuch" }, want: []string{
			"no tracepoint nosuch in this kernel; remedy: use another kind of attachment",
		}},
		{name: "no help", change: func(spec *ebpf.CollectionSpec) { firstMember(spec).Tags = nil }, want: []string{`schema: module sdk: invalid probe module: metric "calls_total": no HELP`}},
		{name: "no total", change: func(spec *ebpf.CollectionSpec) { firstMember(spec).Name = "calls" }, want: []string{
			"schema: metric ebpf_sdk_calls: a counter's name ends with _total",
		}},
		{name: "a metric that is not there", do: func() (map[string]uint64, error) { return map[string]uint64{"ebpf_sdk_nosuch": 1}, nil }, want: []string{
			`counts: ebpf_sdk_nosuch does not exist; there are ebpf_sdk_call_bytes, ebpf_sdk_calls_total{result="error"}`,
		}},
		{name: "work that fails", do: func() (map[string]uint64, error) { return nil, unix.EIO }, want: []string{"the work itself: input/output error"}},
		{name: "undoing that fails", undo: func() error { return unix.EIO }, want: []string{"undoing the work: input/output error"}},
		{name: "descriptor left open", do: func() (map[string]uint64, error) {
			file, err := os.Open("/proc/self/exe")
			files = append(files, file)
			if err != nil {
				return nil, err
			}
			return preads()
		}, want: []string{"leak: "}},
		{name: "goroutine left running", do: func() (map[string]uint64, error) {
			go func() { <-stop }()
			return preads()
		}, want: []string{"goroutines are running, "}},
		{name: "program kept", do: func() (map[string]uint64, error) {
			prog, err := latestProgram()
			if err != nil {
				return nil, err
			}
			kept = append(kept, prog)
			return preads()
		}, want: []string{"the kernel still has "}},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			if c.do == nil {
				c.do = preads
			}
			var r recorder
			observertest.Run(&r, observer.Spec("sdk", sdkModule(t, c.change)), "sdk", observertest.Work{Do: c.do, Undo: c.undo})
			require.Empty(t, r.skips)
			require.Len(t, r.failures, len(c.want)+len(c.like), r.failures)
			for i, want := range c.want {
				require.Contains(t, r.failures[i], want)
			}
			for i, like := range c.like {
				require.Regexp(t, like, r.failures[i])
			}
		})
	}
}

// latestProgram returns the program that was loaded last.
func latestProgram() (*ebpf.Program, error) {
	var id ebpf.ProgramID
	for {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return ebpf.NewProgramFromID(id)
		}
		id = next
	}
}

// TestBuiltIn: the rules hold for the built-in modules.
func TestBuiltIn(t *testing.T) {
	modules, err := observer.BuiltIn().Modules()
	require.NoError(t, err)
	require.NotEmpty(t, modules)
	for _, module := range modules {
		var r recorder
		observertest.CheckSchema(&r, observer.BuiltIn(), module)
		require.Empty(t, r.failures, module)
	}
}

// The author of a module tests it.
func ExampleRun() {
	var t testing.TB // that of a test
	if t == nil {
		return
	}
	observertest.Run(t, observer.ModuleDir("."), "sdk", observertest.Work{Do: preads})
}
