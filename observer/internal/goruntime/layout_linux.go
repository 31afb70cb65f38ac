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
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/pprof"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getg returns the address of the current g.
func getg() uintptr

// How many words of g, of m, and below the FS base are searched. Without cgo, the pointer to g is directly below the FS
// base. With cgo, it is below the thread-local variables of C.
const (
	gWords, mWords = 64, 64
	tlsWords       = 512
)

// read returns n words of this process's memory, or fewer if not all of it is mapped. The kernel reads it, so that an
// invalid address does not cause a fault.
func read(addr uintptr, n int) []uint64 {
	b := make([]byte, 8*n)
	local := []unix.Iovec{{Base: &b[0]}}
	local[0].SetLen(len(b))
	got, err := unix.ProcessVMReadv(os.Getpid(), local, []unix.RemoteIovec{{Base: addr, Len: len(b)}}, 0)
	if err != nil {
		return nil
	}
	words := make([]uint64, got/8)
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return words
}

// readBelow returns the n words below an address. Words that are not mapped are 0.
func readBelow(addr uintptr, n int) []uint64 {
	const step = 8
	words := make([]uint64, n)
	for i := 0; i < n; i += step {
		copy(words[i:i+step], read(addr-uintptr(n-i)*8, step))
	}
	return words
}

// places are the indices that have passed all experiments so far; nil means all indices.
type places map[int]bool

func (p places) keep(n int, passes func(int) bool) places {
	kept := places{}
	for i := range n {
		if (p == nil || p[i]) && passes(i) {
			kept[i] = true
		}
	}
	return kept
}

// only returns the single remaining index, or ErrNotFound.
func (p places) only(what string) (int, error) {
	if len(p) == 1 {
		for i := range p {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%s: %w: %d places pass the experiment", what, ErrNotFound, len(p))
}

// Find determines the layout. It takes a few milliseconds. It starts goroutines and threads, which end, and does not
// change the caller's labels. It returns ErrNotFound or ErrDenied if it does not succeed.
func Find() (l Layout, err error) {
	if got := read(getg(), 1); len(got) != 1 {
		return l, ErrDenied
	}
	if runtime.GOARCH == "amd64" {
		if l.TLS, err = findTLS(); err != nil {
			return l, err
		}
	}
	if l.Labels, err = findLabels(); err != nil {
		return l, err
	}
	if l.StartPC, err = findStartPC(); err != nil {
		return l, err
	}
	l.M, l.CurG, err = findM(l.TLS)
	return l, err
}

// elsewhere runs f in a new goroutine and returns its result.
func elsewhere[T any](f func() T) T {
	ch := make(chan T)
	go func() { ch <- f() }()
	return <-ch
}

// fsBase returns the FS base of the current thread. Unless the goroutine is locked to the thread, it may already run on
// another one when fsBase returns.
func fsBase() (base uintptr) {
	const archPrctl, getFS = 158, 0x1003
	if _, _, errno := unix.RawSyscall(archPrctl, getFS, uintptr(unsafe.Pointer(&base)), 0); errno != 0 {
		return 0
	}
	return base
}

// findTLS searches for the pointer to g below the FS base, in several goroutines and threads. With cgo, the thread's
// stack is below its thread-local variables, and the scheduler leaves pointers to g there, too: the topmost one is the
// variable.
func findTLS() (int64, error) {
	var p places
	for round := range 16 {
		p = elsewhere(func() places {
			runtime.LockOSThread()
			if round%4 != 0 {
				defer runtime.UnlockOSThread() // otherwise the thread ends with the goroutine
			}
			words, g := readBelow(fsBase(), tlsWords), getg()
			return p.keep(len(words), func(i int) bool { return words[i] == uint64(g) })
		})
	}
	for i := tlsWords - 1; i >= 0; i-- {
		if p[i] {
			return int64(i-tlsWords) * 8, nil
		}
	}
	return 0, fmt.Errorf("the pointer to g: %w below the FS base", ErrNotFound)
}

// findLabels sets the labels none, a, b, a, none in turn, and searches for the word that changes with them.
func findLabels() (uint32, error) {
	none := context.Background()
	a, b := pprof.WithLabels(none, pprof.Labels("is", "a")), pprof.WithLabels(none, pprof.Labels("is", "b"))
	seen := elsewhere(func() (seen [][]uint64) {
		for _, ctx := range []context.Context{none, a, b, a, none} {
			pprof.SetGoroutineLabels(ctx) //nolint:contextcheck // its labels are set
			seen = append(seen, read(getg(), gWords))
		}
		return seen
	})
	i, err := places(nil).keep(gWords, func(i int) bool {
		word := func(step int) uint64 {
			if i >= len(seen[step]) {
				return 0
			}
			return seen[step][i]
		}
		return word(0) == 0 && word(4) == 0 && word(1) != 0 && word(1) == word(3) && word(2) != 0 && word(2) != word(1)
	}).only("the labels of a goroutine")
	return uint32(i * 8), err
}

// started passes the g of entryA or entryB to findStartPC, and then a signal to end.
var started = make(chan uintptr)

func entryA() { started <- getg(); <-started }
func entryB() { started <- getg(); <-started }

// findStartPC starts goroutines with known functions, and searches their g for the functions' addresses.
func findStartPC() (uint32, error) {
	var p places
	for _, f := range []func(){entryA, entryB} {
		go f()
		words, pc := read(<-started, gWords), reflect.ValueOf(f).Pointer()
		started <- 0
		p = p.keep(len(words), func(i int) bool { return words[i] == uint64(pc) })
	}
	i, err := p.only("the function that a goroutine was started with")
	return uint32(i * 8), err
}

// findM searches g for a pointer to an m. An m begins with a pointer to a g0, which points back to it, and contains a
// pointer to g. A goroutine that changes its thread during the search finds nothing. The goroutine must not be locked
// to its thread, because more than one place would match then.
func findM(tls int64) (m, curg uint32, err error) {
	var p places
	for range 16 {
		found := elsewhere(func() places {
			g := getg()
			// The m of the first thread contains its thread-local variables. The pointer to g among them does not
			// count, because it may point to g0.
			var own uint64
			if tls != 0 {
				own = uint64(int64(fsBase()) + tls)
			}
			words := read(g, gWords)
			ms := make([][]uint64, len(words)) // by the word of g that points to it
			for at, word := range words {
				m := read(uintptr(word), mWords)
				if len(m) == 0 || m[0] == uint64(g) {
					continue
				}
				if g0 := read(uintptr(m[0]), gWords); at < len(g0) && g0[at] == word {
					ms[at] = m
				}
			}
			return p.keep(len(words)*mWords, func(i int) bool {
				at, in := i/mWords, i%mWords
				return in < len(ms[at]) && ms[at][in] == uint64(g) && words[at]+uint64(in)*8 != own
			})
		})
		if len(found) > 0 {
			p = found
		}
	}
	i, err := p.only("the thread of a goroutine")
	return uint32(i / mWords * 8), uint32(i % mWords * 8), err
}

// LabelsOf returns the label pointer of goroutines with the labels of ctx. It does not change as long as ctx is
// reachable, because Go does not move heap objects.
func (l Layout) LabelsOf(ctx context.Context) (uint64, error) {
	words := elsewhere(func() []uint64 {
		pprof.SetGoroutineLabels(ctx)
		return read(getg()+uintptr(l.Labels), 1)
	})
	if len(words) != 1 || words[0] == 0 {
		return 0, fmt.Errorf("the labels of a goroutine: %w: %v", ErrNotFound, words)
	}
	return words[0], nil
}
