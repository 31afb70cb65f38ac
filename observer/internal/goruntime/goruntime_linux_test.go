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

//go:build linux && (amd64 || arm64)

package goruntime

import (
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestFind checks the layout on 1000 goroutines that took no part in the experiments, while the garbage collector runs.
// Half of them lock themselves to their thread at times; their children inherit their labels.
func TestFind(t *testing.T) {
	l, err := Find()
	require.NoError(t, err)
	t.Logf("%s %s: %+v", runtime.Version(), runtime.GOARCH, l)
	ctx := pprof.WithLabels(t.Context(), pprof.Labels("k", "v"))
	labels, err := l.LabelsOf(ctx)
	require.NoError(t, err)
	other, err := l.LabelsOf(pprof.WithLabels(t.Context(), pprof.Labels("k", "w")))
	require.NoError(t, err)
	require.NotEqual(t, labels, other)
	const goroutines, each = 1000, 20
	var group sync.WaitGroup
	for i := range goroutines {
		group.Go(func() {
			pprof.SetGoroutineLabels(ctx)
			for range each {
				g := getg()
				got := read(g, gWords)[l.Labels/8]
				child := elsewhere(func() uint64 { return read(getg(), gWords)[l.Labels/8] })
				if got != labels || child != labels {
					t.Errorf("labels %#x, labels of a child %#x, want %#x", got, child, labels)
				}
				if i%2 == 0 {
					continue
				}
				runtime.LockOSThread()
				m := read(uintptr(read(g, gWords)[l.M/8]), mWords)
				if curg := m[l.CurG/8]; curg != uint64(g) {
					t.Errorf("curg of the thread is %#x, want %#x", curg, g)
				}
				if runtime.GOARCH == "amd64" {
					if tls := read(uintptr(int64(fsBase())+l.TLS), 1)[0]; tls != uint64(g) {
						t.Errorf("the thread-local pointer to g is %#x, want %#x", tls, g)
					}
				}
				runtime.UnlockOSThread()
			}
		})
		if i%100 == 0 {
			runtime.GC()
		}
	}
	group.Wait()
	after, err := l.LabelsOf(ctx)
	require.NoError(t, err)
	require.Equal(t, labels, after, "the labels have moved")
	runtime.KeepAlive(ctx)
}

// TestFindUnderGC checks that the experiments have the same result while the garbage collector and other goroutines
// run.
func TestFindUnderGC(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	done := make(chan struct{})
	defer close(done)
	for range 8 {
		go func() {
			var keep [][]byte
			for {
				select {
				case <-done:
					return
				default:
					keep = append(keep[:len(keep)%64], make([]byte, 4096))
					runtime.Gosched()
				}
			}
		}()
	}
	want, err := Find()
	require.NoError(t, err)
	for range 10 {
		got, err := Find()
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

// TestFindWithC checks Find in a process whose C code has thread-local variables, linked dynamically and statically.
func TestFindWithC(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler: " + err.Error())
	}
	for name, flags := range map[string][]string{"dynamic": nil, "static": {"-ldflags=-linkmode=external -extldflags=-static"}} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("go", append(append([]string{"run"}, flags...), "./testdata/cgo")...)
			cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1")
			out, err := cmd.CombinedOutput()
			require.NoErrorf(t, err, "%s", out)
			t.Logf("%s", out)
		})
	}
}

// TestReadUnmapped checks that read returns no words, and readBelow zeros, for memory that is not mapped.
func TestReadUnmapped(t *testing.T) {
	require.Empty(t, read(8, 4))
	require.Equal(t, make([]uint64, 16), readBelow(4096, 16))
}

type server struct{}

func (*server) mergeLoop(ch chan uintptr, _ int) { ch <- getg(); <-ch }

//go:noinline
func (*server) flushLoop(ch chan uintptr, _ int) { ch <- getg(); <-ch }

// TestName checks that Name returns a function's own name if it was started with arguments, whether or not it is
// inlined into the wrapper, and if it is a function literal.
func TestName(t *testing.T) {
	const pkg = "github.com/apache/skywalking-banyandb/ebpf/observer/internal/goruntime."
	l, err := Find()
	require.NoError(t, err)
	s, ch := &server{}, make(chan uintptr)
	for want, start := range map[string]func(){
		pkg + "(*server).mergeLoop": func() { go s.mergeLoop(ch, 1) },
		pkg + "(*server).flushLoop": func() { go s.flushLoop(ch, 1) },
		pkg + "TestName.func3.1":    func() { go func() { ch <- getg(); <-ch }() },
	} {
		start()
		pc := uintptr(read(<-ch, gWords)[l.StartPC/8])
		ch <- 0
		require.Equal(t, want, Name(pc), runtime.FuncForPC(pc).Name())
	}
	require.Empty(t, Name(8))
}
