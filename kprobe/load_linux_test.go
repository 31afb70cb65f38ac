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

package kprobe

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

//go:embed testdata/*/*.bpf.o
var testModules embed.FS

// testSpec returns a module of testdata.
func testSpec(t *testing.T, module string) *ebpf.CollectionSpec {
	t.Helper()
	object, err := testModules.ReadFile("testdata/" + runtime.GOARCH + "/" + module + ".bpf.o")
	require.NoError(t, err)
	return parse(t, object)
}

func parse(t *testing.T, object []byte) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	return spec
}

// mustLoad attaches a module to this process.
func mustLoad(t *testing.T, spec *ebpf.CollectionSpec, opts Options) *Probes {
	t.Helper()
	if opts.Scope.TGID == 0 {
		var err error
		opts.Scope, err = Self()
		require.NoError(t, err)
	}
	p, err := Load(spec, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// maxIterObjects is how many objects without output one read of an iterator visits: MAX_ITER_OBJECTS.
const maxIterObjects = 1_000_000

// TestIterateBeyondAMillion checks that an iterator finds every descriptor of a file if there are more than one read
// visits.
func TestIterateBeyondAMillion(t *testing.T) {
	kprobetest.Require(t)
	if !kprobetest.InChild(t, nil) {
		return
	}
	name := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(name, nil, 0o600))
	// Raise the limit if permitted.
	limit := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	}
	first, err := unix.Open(name, unix.O_RDONLY, 0)
	require.NoError(t, err)
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(first, &stat))
	// Leave some descriptors for everything else.
	each := min(int(limit.Cur)-500, maxIterObjects+100)
	for range each - 1 {
		_, err = unix.FcntlInt(uintptr(first), unix.F_DUPFD, 0)
		require.NoError(t, err)
	}
	processes := maxIterObjects/each + 1
	for range processes - 1 {
		// It inherits the descriptors, and holds them until its input ends.
		cmd := exec.Command("cat")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { require.NoError(t, errors.Join(stdin.Close(), cmd.Wait())) })
	}
	spec := testSpec(t, "files")
	require.NoError(t, spec.Variables["wanted_inode"].Set(stat.Ino))
	p := mustLoad(t, spec, Options{})
	ran, err := p.Iterate()
	require.NoError(t, err)
	require.Equal(t, 1, ran)
	var found uint64
	require.NoError(t, p.Map("found").Lookup(uint32(0), &found))
	require.Greater(t, each*processes, maxIterObjects)
	require.Equal(t, uint64(each*processes), found)
	t.Logf("%d processes with %d descriptors each", processes, each)
}

// TestIterateWithoutEnd checks that an iterator whose program asks for the same object forever is not read forever.
func TestIterateWithoutEnd(t *testing.T) {
	kprobetest.Require(t)
	spec := testSpec(t, "files")
	prog := spec.Programs["files__iter"]
	prog.Instructions = asm.Instructions{btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 1), btf.FuncMetadata(&prog.Instructions[0])), asm.Return()}
	_, err := mustLoad(t, spec, Options{}).Iterate()
	require.ErrorIs(t, err, unix.EAGAIN)
	require.ErrorContains(t, err, "it has asked to be read again 1000 times")
	require.Contains(t, Remedy(err), "have the iterator's program return 0")
}

// TestAttachAgain checks that attaching is retried when the kernel asks for it, but not forever.
func TestAttachAgain(t *testing.T) {
	kprobetest.Require(t)
	for _, errno := range []unix.Errno{unix.EINTR, unix.EAGAIN} {
		for _, c := range []struct {
			times    int
			attached bool
		}{{1, true}, {9, true}, {10, false}, {1 << 20, false}} {
			asked := 0
			kprobetest.Steps(t, func(what string) error {
				if what != "attaching files__iter" {
					return nil
				}
				if asked++; asked <= c.times {
					return fmt.Errorf("creating the link: %w", errno)
				}
				return nil
			})
			self, err := Self()
			require.NoError(t, err)
			p, err := Load(testSpec(t, "files"), Options{Scope: self})
			require.Equal(t, min(c.times+1, 10), asked)
			if !c.attached {
				require.ErrorIs(t, err, errno)
				continue
			}
			require.NoError(t, err)
			require.True(t, p.Plan().Attached("files"))
			require.NoError(t, p.Close())
		}
	}
}

// TestAttachOrder checks that the programs of an event run in the order of the module's source, in whatever parts and
// however often they were detached and reattached.
func TestAttachOrder(t *testing.T) {
	kprobetest.Require(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	spec := testSpec(t, "order")
	tid, err := Thread()
	require.NoError(t, err)
	scope, err := Self()
	require.NoError(t, err)
	opts := Options{Scope: Scope{TGID: scope.TGID, TID: tid}}
	p := mustLoad(t, spec, opts)
	hooks := p.Plan().Names()
	require.Equal(t, []string{"first", "second", "third", "fourth", "fifth", "sixth"}, hooks)
	requireOrder := func(what string) {
		t.Helper()
		var times struct {
			Ran uint64
			At  [6]uint64
		}
		// The kernel skips a program that would interrupt another run of it, and counts this. Then try the next event.
		for missed := uint64(1); missed > 0; {
			before, err := p.Missed()
			require.NoError(t, err)
			require.NoError(t, p.Map("times").Lookup(uint32(0), &times))
			missed, err = p.Missed()
			require.NoError(t, err)
			missed -= before
		}
		for i, at := range times.At {
			require.Equalf(t, times.Ran-uint64(len(hooks)-1-i), at, "%s: hook %s ran out of order: %v", what, hooks[i], times)
		}
	}
	requireOrder("loaded")
	for range 5 {
		require.NoError(t, p.Detach())
		require.NoError(t, p.Attach())
		requireOrder("all")
	}
	for _, some := range [][]string{{"first"}, {"sixth"}, {"third"}, {"fifth", "second"}, {"fourth", "first"}} {
		require.NoError(t, p.Detach(some...))
		require.NoError(t, p.Attach(some...))
		requireOrder(fmt.Sprint(some))
		require.NoError(t, p.Detach(some...))
		require.NoError(t, p.Reload(spec, opts, some...))
		requireOrder(fmt.Sprint("reloaded ", some))
	}
}

// TestReloadAnother checks that reloading a different module is refused, and leaves the loaded one unchanged.
func TestReloadAnother(t *testing.T) {
	kprobetest.Require(t)
	times := func(spec *ebpf.CollectionSpec) *btf.Struct { return spec.Maps["times"].Value.(*btf.Struct) }
	for name, c := range map[string]struct {
		change func(*ebpf.CollectionSpec)
		cause  string
	}{
		"a hook less":        {func(spec *ebpf.CollectionSpec) { delete(spec.Programs, "third__tp_btf") }, "its hooks are first, second, fourth, fifth, sixth, not first, second, third"},
		"another module":     {func(spec *ebpf.CollectionSpec) { *spec = *testSpec(t, "files") }, "its hooks are files, not first"},
		"a map less":         {func(spec *ebpf.CollectionSpec) { delete(spec.Maps, ".data.unused") }, "its maps are .rodata, times, not .data.unused, .rodata, times"},
		"a map that is used": {func(spec *ebpf.CollectionSpec) { delete(spec.Maps, "times") }, `it uses a map "times" that the object does not have`},
		"a map more":         {func(spec *ebpf.CollectionSpec) { spec.Maps["more"] = spec.Maps["times"].Copy() }, "its maps are .data.unused, .rodata, more, times, not"},
		"a map by another name": {func(spec *ebpf.CollectionSpec) {
			spec.Maps["unused"] = spec.Maps[".data.unused"]
			delete(spec.Maps, ".data.unused")
		}, "its maps are .rodata, times, unused, not .data.unused, .rodata, times"},
		"larger values":    {func(spec *ebpf.CollectionSpec) { spec.Maps["times"].ValueSize += 8 }, `map "times" has keys and values of 4 and 64 bytes, not 4 and 56`},
		"smaller values":   {func(spec *ebpf.CollectionSpec) { spec.Maps["times"].ValueSize -= 8 }, `map "times" has keys and values of 4 and 48 bytes, not 4 and 56`},
		"larger keys":      {func(spec *ebpf.CollectionSpec) { spec.Maps["times"].KeySize = 8 }, `map "times" has keys and values of 8 and 56 bytes, not 4 and 56`},
		"another type":     {func(spec *ebpf.CollectionSpec) { spec.Maps["times"].Type = ebpf.Hash }, `map "times" is of type Hash, not Array`},
		"other flags":      {func(spec *ebpf.CollectionSpec) { spec.Maps["times"].Flags ^= unix.BPF_F_MMAPABLE }, `the contents of map "times" differ`},
		"another name":     {func(spec *ebpf.CollectionSpec) { times(spec).Members[0].Name = "run" }, `the contents of map "times" differ`},
		"another place":    {func(spec *ebpf.CollectionSpec) { times(spec).Members[0].Offset = 6 * 64 }, `the contents of map "times" differ`},
		"another meaning":  {func(spec *ebpf.CollectionSpec) { times(spec).Members[0].Tags = []string{"labels:hook=hook"} }, `the contents of map "times" differ`},
		"another constant": {func(spec *ebpf.CollectionSpec) { require.NoError(t, spec.Variables["step"].Set(uint64(7))) }, `the contents of map ".rodata" differ`},
		"too many programs": {func(spec *ebpf.CollectionSpec) {
			for i := range 256 {
				spec.Programs[fmt.Sprint("first__more__", i)] = spec.Programs["first__tp_btf"].Copy()
			}
		}, "262 programs, at most 256 are allowed"},
		"meddling": {func(spec *ebpf.CollectionSpec) {
			prog := spec.Programs["first__tp_btf"]
			prog.Instructions = append(prog.Instructions[:1:1], append(asm.Instructions{asm.FnSendSignal.Call()}, prog.Instructions[1:]...)...)
		}, "it calls FnSendSignal"},
		"no types": {func(spec *ebpf.CollectionSpec) { spec.Types = nil }, "no BTF in the object"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			p := mustLoad(t, testSpec(t, "order"), Options{})
			opts := Options{}
			var err error
			opts.Scope, err = Self()
			require.NoError(t, err)
			plan := p.Plan()
			programs := slices.Clone(p.programs)
			require.NoError(t, p.Detach("third", "fifth"))
			var before, after [7]uint64
			// On Linux 7.2 a run in progress may end after Detach.
			require.Eventually(t, func() bool {
				last := before
				require.NoError(t, p.Map("times").Lookup(uint32(0), &before))
				return before[3] == last[3]
			}, time.Minute, 10*time.Millisecond)
			require.Positive(t, before[3])
			spec := testSpec(t, "order")
			c.change(spec)
			err = p.Reload(spec, opts)
			require.ErrorIs(t, err, ErrInvalidModule)
			require.ErrorContains(t, err, c.cause)
			require.Equal(t, plan, p.Plan())
			require.NoError(t, p.Map("times").Lookup(uint32(0), &after))
			require.Equal(t, before[3], after[3])
			require.Greater(t, after[0], before[0])
			for i := range programs {
				require.Same(t, programs[i].prog, p.programs[i].prog)
				require.Equal(t, programs[i].hook == "third" || programs[i].hook == "fifth", p.programs[i].link == nil)
			}
			require.NoError(t, p.Reload(testSpec(t, "order"), opts))
			require.NoError(t, p.Map("times").Lookup(uint32(0), &after))
			require.Greater(t, after[3], before[3])
		})
	}
}
