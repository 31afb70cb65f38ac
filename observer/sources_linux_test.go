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
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const userProgram, userMetrics = "call__tp_btf", "metrics"

// userObject returns a valid user module.
func userObject(t testing.TB) []byte {
	t.Helper()
	object, err := testModules.ReadFile("testdata/" + runtime.GOARCH + "/sdk.bpf.o")
	require.NoError(t, err)
	return object
}

// userSpec returns the same, changed.
func userSpec(t testing.TB, change func(*ebpf.CollectionSpec)) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(userObject(t)))
	require.NoError(t, err)
	if change != nil {
		change(spec)
	}
	return spec
}

// members returns the metrics that a module declares.
func members(spec *ebpf.CollectionSpec) []btf.Member {
	return spec.Maps[userMetrics].Value.(*btf.Struct).Members
}

// begin inserts instructions at the beginning of the program.
func begin(spec *ebpf.CollectionSpec, with ...asm.Instruction) {
	prog := spec.Programs[userProgram]
	// The first instruction has the metadata of the function.
	prog.Instructions = append(append(prog.Instructions[:1:1], with...), prog.Instructions[1:]...)
}

// attachAs gives the program another section.
func attachAs(typ ebpf.ProgramType, attach ebpf.AttachType, section string) func(*ebpf.CollectionSpec) {
	return func(spec *ebpf.CollectionSpec) {
		prog := spec.Programs[userProgram]
		prog.Type, prog.AttachType, prog.SectionName = typ, attach, section
	}
}

// aMap adds a map to the module.
func aMap(m ebpf.MapSpec) func(*ebpf.CollectionSpec) {
	return func(spec *ebpf.CollectionSpec) { spec.Maps["more"] = &m }
}

// helper adds a call of a helper function to the program.
func helper(fn asm.BuiltinFunc) func(*ebpf.CollectionSpec) {
	return func(spec *ebpf.CollectionSpec) { begin(spec, fn.Call()) }
}

// requireCounts requires that the good module counts one call, whatever other modules there are.
func requireCounts(t *testing.T, o *observer.Observer, module string) {
	t.Helper()
	quiet(t)
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	before := count(t, o)
	_, err := unix.Pread(fd, make([]byte, 100), 0)
	require.NoError(t, err)
	got := count(t, o).since(before)
	require.Equal(t, uint64(1), got["ebpf_"+module+"_calls_total{ok}"], got)
}

// healthOf returns a module's health.
func healthOf(t *testing.T, h observer.Health, module string) observer.ModuleHealth {
	t.Helper()
	for _, m := range h.Modules {
		if m.Name == module {
			return m
		}
	}
	require.Failf(t, "not in the health", "%s: %s", module, h)
	return observer.ModuleHealth{}
}

// TestBadModules: each fault of a module is refused with its own reason, without asking the kernel if possible, and the
// good module beside it counts.
func TestBadModules(t *testing.T) {
	anyKernel(t)
	for name, c := range map[string]struct {
		change        func(*ebpf.CollectionSpec)
		bytes         func([]byte) []byte // instead of change
		cause, remedy string
	}{
		"too many programs": {change: func(spec *ebpf.CollectionSpec) {
			for i := range 256 {
				spec.Programs[fmt.Sprintf("call__more__%d", i)] = spec.Programs[userProgram].Copy()
			}
		}, cause: "257 programs, at most 256 are allowed"},
		"fmod_ret": {
			change: attachAs(ebpf.Tracing, ebpf.AttachModifyReturn, "fmod_ret/bpf_modify_return_test"),
			cause:  `program "call__tp_btf": section "fmod_ret/bpf_modify_return_test": unknown kind of attachment`,
		},
		"lsm":          {change: attachAs(ebpf.LSM, ebpf.AttachLSMMac, "lsm/file_open"), cause: `section "lsm/file_open": unknown kind of attachment`},
		"xdp":          {change: attachAs(ebpf.XDP, ebpf.AttachXDP, "xdp"), cause: `section "xdp": unknown kind of attachment`},
		"struct_ops":   {change: attachAs(ebpf.StructOps, ebpf.AttachStructOps, "struct_ops/x"), cause: `section "struct_ops/x": unknown kind of attachment`},
		"uprobe":       {change: attachAs(ebpf.Kprobe, 0, "uprobe//bin/sh:main"), cause: `section "uprobe//bin/sh:main": unknown kind of attachment`},
		"kprobe.multi": {change: attachAs(ebpf.Kprobe, ebpf.AttachTraceKprobeMulti, "kprobe.multi/vfs_*"), cause: `section "kprobe.multi/vfs_*": unknown kind of attachment`},
		"sleepable": {change: func(spec *ebpf.CollectionSpec) {
			spec.Programs[userProgram].Flags |= unix.BPF_F_SLEEPABLE
		}, cause: "a module may not have sleepable programs"},
		"no program":   {change: func(spec *ebpf.CollectionSpec) { clear(spec.Programs) }, cause: "no program"},
		"program name": {change: func(spec *ebpf.CollectionSpec) { spec.Programs["call"] = spec.Programs[userProgram] }, cause: "2 programs, but BTF for 1"},
		"prog_array":   {change: aMap(ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1}), cause: `map "more": type ProgramArray is not allowed in a module`},
		"sockmap":      {change: aMap(ebpf.MapSpec{Type: ebpf.SockMap, KeySize: 4, ValueSize: 4, MaxEntries: 1}), cause: `map "more": type SockMap is not allowed`},
		"ring buffer":  {change: aMap(ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096}), cause: `map "more": type RingBuf is not allowed`},
		"perf buffer":  {change: aMap(ebpf.MapSpec{Type: ebpf.PerfEventArray, KeySize: 4, ValueSize: 4}), cause: `map "more": type PerfEventArray is not allowed`},
		"map of maps":  {change: aMap(ebpf.MapSpec{Type: ebpf.HashOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1}), cause: `map "more": type HashOfMaps is not allowed`},
		"pinned map":   {change: aMap(ebpf.MapSpec{Type: ebpf.Hash, KeySize: 4, ValueSize: 4, MaxEntries: 1, Pinning: ebpf.PinByName}), cause: `map "more": it is pinned`},
		"large map":    {change: aMap(ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1 << 20}), cause: "bytes, at most 16777216 are allowed"},
		"larger map":   {change: aMap(ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 1 << 31, MaxEntries: 1 << 31}), cause: `map "more": 2147483648 entries with 4-byte keys and 2147483648-byte values are too many`},
		"too many maps": {change: func(spec *ebpf.CollectionSpec) {
			for i := range 16 {
				spec.Maps[fmt.Sprint("more", i)] = &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1}
			}
		}, cause: "18 maps, at most 16 are allowed"},
		"another's map": {
			change: func(spec *ebpf.CollectionSpec) { begin(spec, asm.LoadMapPtr(asm.R1, 7)) },
			cause:  `it uses a map "" that the object does not have`,
		},
		"probe_write_user": {change: helper(asm.FnProbeWriteUser), cause: "it calls FnProbeWriteUser, but a module may only observe"},
		"override_return":  {change: helper(asm.FnOverrideReturn), cause: "it calls FnOverrideReturn"},
		"send_signal":      {change: helper(asm.FnSendSignal), cause: "it calls FnSendSignal,"},
		"send_signal_thread": {
			change: helper(asm.FnSendSignalThread), cause: "it calls FnSendSignalThread",
		},
		"kernel function": {change: func(spec *ebpf.CollectionSpec) {
			begin(spec, asm.Instruction{OpCode: asm.OpCode(asm.JumpClass).SetJumpOp(asm.Call), Src: asm.PseudoKfuncCall, Constant: -1}.WithReference("crash_kexec"))
		}, cause: `it calls the kernel function "crash_kexec" (allowed: bpf_preempt_disable`},
		"refused by the verifier": {
			change: func(spec *ebpf.CollectionSpec) { begin(spec, asm.Mov.Reg(asm.R0, asm.R9)) },
			cause:  "R9 !read_ok", remedy: "the kernel's verifier refuses the program",
		},
		"no counters":        {change: func(spec *ebpf.CollectionSpec) { delete(spec.Maps, userMetrics) }, cause: `no map "metrics"`},
		"counters of a hash": {change: func(spec *ebpf.CollectionSpec) { spec.Maps[userMetrics].Type = ebpf.Hash }, cause: "is not a memory-mappable array"},
		"wrong BTF": {change: func(spec *ebpf.CollectionSpec) {
			spec.Maps[userMetrics].Value = &btf.Int{Name: "long", Size: 8}
		}, cause: `the value of map "metrics" is not a struct`},
		"no BTF":     {bytes: func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(".BTF\x00"), []byte(".BTX\x00")) }, cause: "missing BTF"},
		"no types":   {change: func(spec *ebpf.CollectionSpec) { spec.Types = nil }, cause: "no BTF in the object: compile it with -g"},
		"broken BTF": {bytes: breakBTF, cause: "parsing the object"},
		"truncated":  {bytes: func(b []byte) []byte { return b[:len(b)/2] }, cause: "parsing the object"},
		"no object":  {bytes: func([]byte) []byte { return []byte("#!/bin/sh\n") }, cause: "parsing the object"},
		"empty":      {bytes: func([]byte) []byte { return nil }, cause: "parsing the object"},
		"too large":  {bytes: func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }, cause: "the object has more than 1048576 bytes"},
		"unbounded labels": {change: func(spec *ebpf.CollectionSpec) {
			var enum *btf.Enum
			require.NoError(t, spec.Types.TypeByName("sdk_result", &enum))
			enum.Values = nil
			for i := range 2000 {
				enum.Values = append(enum.Values, btf.EnumValue{Name: fmt.Sprint("SDK_RESULT_", i), Value: uint64(i)})
			}
			members(spec)[0].Type.(*btf.Array).Nelems = 2000
		}, cause: `metric "calls_total": its labels have more than 1024 series`},
		"too many words": {change: func(spec *ebpf.CollectionSpec) { spec.Maps[userMetrics].ValueSize = 1 << 20 }, cause: "131072 words to count into, at most 32768 are allowed"},
		"beyond the counters": {change: func(spec *ebpf.CollectionSpec) {
			members(spec)[1].Offset = 1 << 20
		}, cause: `metric "call_bytes": it lies beyond the map's value`},
		"labels without array": {change: func(spec *ebpf.CollectionSpec) {
			members(spec)[0].Type = members(spec)[0].Type.(*btf.Array).Type
		}, cause: `metric "calls_total": 1 labels for an array of 0 dimensions`},
		"label of a histogram": {change: func(spec *ebpf.CollectionSpec) {
			members(spec)[0].Tags[1] = "labels:le=sdk_result"
		}, cause: `metric "calls_total": label "le" is a duplicate, or is reserved`},
		"metric name":   {change: func(spec *ebpf.CollectionSpec) { members(spec)[0].Name = "Calls-Total" }, cause: `metric "Calls-Total": its name must be lower-case`},
		"no help":       {change: func(spec *ebpf.CollectionSpec) { members(spec)[1].Tags = nil }, cause: `metric "call_bytes": no HELP`},
		"unknown tag":   {change: func(spec *ebpf.CollectionSpec) { members(spec)[1].Tags[0] = "helpp:x" }, cause: `metric "call_bytes": unknown tag "helpp:x"`},
		"unknown hook":  {change: func(spec *ebpf.CollectionSpec) { members(spec)[1].Tags = []string{"help:x", "hooks:nosuch"} }, cause: `no program has hook "nosuch"`},
		"shared metric": {change: func(spec *ebpf.CollectionSpec) { members(spec)[1].Tags = append(members(spec)[1].Tags, "common") }, cause: "declare it with EVENTS_LOST"},
		"unknown type":  {change: func(spec *ebpf.CollectionSpec) { members(spec)[1].Type = &btf.Int{Name: "long", Size: 8} }, cause: `unknown type "long" (known: counter_t`},
		"a name twice": {change: func(spec *ebpf.CollectionSpec) {
			members(spec)[0].Name = "call_bytes_sum"
		}, cause: `metric "ebpf_bad_call_bytes_sum" already belongs to module bad`},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			good := observer.Spec("good", userSpec(t, nil))
			var bad observer.Source
			if c.bytes != nil {
				bad = observer.Files(fstest.MapFS{"bad.bpf.o": {Data: c.bytes(userObject(t))}})
			} else {
				bad = observer.Spec("bad", userSpec(t, c.change))
			}
			o, err := observer.Open(context.Background(), observer.Options{Sources: []observer.Source{observer.Files(fstest.MapFS{}), bad, good}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, o.Close()) })
			h := healthOf(t, o.Health(), "bad")
			require.False(t, h.Up)
			require.Contains(t, h.Cause, c.cause)
			require.Contains(t, h.Remedy, c.remedy)
			require.True(t, healthOf(t, o.Health(), "good").Up)
			requireCounts(t, o, "good")
		})
	}
}

// breakBTF makes the BTF say that its strings begin beyond its end.
func breakBTF(object []byte) []byte {
	// magic, version, flags, length of the header, then offset and length of types and of strings.
	header := []byte{0x9f, 0xeb, 1, 0, 24, 0, 0, 0}
	i := bytes.Index(object, header)
	copy(object[i+16:], []byte{0xff, 0xff, 0xff, 0x7f})
	return object
}

// TestCollisions: the first module of a name counts.
func TestCollisions(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	named := func(metric string) *ebpf.CollectionSpec {
		return userSpec(t, func(spec *ebpf.CollectionSpec) { members(spec)[0].Name = metric })
	}
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "good", "x", "x_y", "module", "Not-A-Name", "sched_cpu"}}, Sources: []observer.Source{
		observer.BuiltIn(),
		observer.Spec("io", userSpec(t, nil)),         // a built-in module's name
		observer.Spec("net", userSpec(t, nil)),        // one that is not even requested
		observer.Spec("good", userSpec(t, nil)),       //
		observer.Spec("good", userSpec(t, nil)),       // another user's
		observer.Spec("x", named("y_calls_total")),    //
		observer.Spec("x_y", userSpec(t, nil)),        // ebpf_x_y_calls_total, and so is x's
		observer.Spec("module", named("up")),          // the observer's own
		observer.Spec("Not-A-Name", userSpec(t, nil)), //
		observer.Spec("sched_cpu", named("seconds_total")),
	}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	var up []string
	causes := make(map[string]string)
	for _, m := range o.Health().Modules {
		if m.Up {
			up = append(up, m.Name)
			continue
		}
		causes[m.Name] = m.Cause
	}
	require.ElementsMatch(t, []string{"io", "good", "x"}, up)
	require.Equal(t, map[string]string{
		"io of source 2":   `invalid probe module: module "io" already exists`,
		"net of source 3":  `invalid probe module: module "net" already exists`,
		"good of source 5": `invalid probe module: module "good" already exists`,
		"x_y":              `invalid probe module: metric "ebpf_x_y_calls_total" already belongs to module x`,
		"module":           `invalid probe module: metric "ebpf_module_up" already belongs to the observer`,
		"Not-A-Name":       `invalid probe module: module name "Not-A-Name" must be lower-case letters, digits and underscores, at most 64`,
		"sched_cpu":        `invalid probe module: metric "ebpf_sched_cpu_seconds_total" already belongs to module sched`,
	}, causes)
	require.Contains(t, healthOf(t, o.Health(), "x_y").Remedy, "give the module's file, or the metric, another name")
	requireCounts(t, o, "good")
}

// cacheAnd returns the module cache and those of a folder, if it can be read.
func cacheAnd(dir string) []string {
	names, err := observer.ModuleDir(dir).Modules()
	if err != nil {
		names = nil
	}
	return append([]string{"cache"}, names...)
}

// TestModuleDir: what somebody else could have changed is not loaded.
func TestModuleDir(t *testing.T) {
	anyKernel(t)
	const stranger = 4242
	chown := func(t *testing.T, path string) { require.NoError(t, os.Chown(path, stranger, -1)) }
	for _, c := range []struct {
		name          string
		prepare       func(t *testing.T, dir, bad string)
		cause, remedy string
		whole         bool // the folder is refused
	}{
		{name: "folder of a stranger", whole: true, prepare: func(t *testing.T, dir, _ string) { chown(t, dir) }, cause: "belongs to user 4242, neither to root nor to the server's user 0", remedy: "chown 0 "},
		{name: "folder for the group", whole: true, prepare: func(t *testing.T, dir, _ string) { require.NoError(t, os.Chmod(dir, 0o770)) }, cause: "can be written to by users other than its owner, its mode is 0770", remedy: "chmod go-w "},
		{name: "folder for all", whole: true, prepare: func(t *testing.T, dir, _ string) { require.NoError(t, os.Chmod(dir, 0o702)) }, cause: "can be written to by users other", remedy: "chmod go-w "},
		{name: "no folder", whole: true, prepare: func(t *testing.T, dir, _ string) { require.NoError(t, os.RemoveAll(dir)) }, cause: "no such file or directory", remedy: "make the folder "},
		{name: "a file", whole: true, prepare: func(t *testing.T, dir, _ string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, cause: "not a directory", remedy: "make the folder "},
		{name: "file of a stranger", prepare: func(t *testing.T, _, bad string) { chown(t, bad) }, cause: "belongs to user 4242", remedy: "chown 0 "},
		{name: "file for the group", prepare: func(t *testing.T, _, bad string) { require.NoError(t, os.Chmod(bad, 0o620)) }, cause: "its mode is 0620", remedy: "chmod go-w "},
		{name: "file for all", prepare: func(t *testing.T, _, bad string) { require.NoError(t, os.Chmod(bad, 0o602)) }, cause: "its mode is 0602", remedy: "chmod go-w "},
		{name: "link to outside", prepare: func(t *testing.T, dir, bad string) {
			outside := filepath.Join(filepath.Dir(dir), "outside.bpf.o")
			require.NoError(t, os.Rename(bad, outside))
			require.NoError(t, os.Symlink(outside, bad))
		}, cause: "is a link that leads out of the folder", remedy: "put the object itself into the folder"},
		{name: "link up", prepare: func(t *testing.T, dir, bad string) {
			require.NoError(t, os.Rename(bad, filepath.Join(filepath.Dir(dir), "outside.bpf.o")))
			require.NoError(t, os.Symlink("../outside.bpf.o", bad))
		}, cause: "is a link that leads out of the folder", remedy: "put the object itself"},
		{name: "link to itself", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, os.Symlink(filepath.Base(bad), bad))
		}, cause: "is a link to itself", remedy: "put the object itself"},
		{name: "link to a stranger's", prepare: func(t *testing.T, dir, bad string) {
			inside := filepath.Join(dir, "inside")
			require.NoError(t, os.Rename(bad, inside))
			chown(t, inside)
			require.NoError(t, os.Symlink("inside", bad))
		}, cause: "belongs to user 4242", remedy: "chown 0 "},
		{name: "pipe", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, unix.Mkfifo(bad, 0o600))
		}, cause: "is not a regular file", remedy: "put the object itself"},
		{name: "folder in it", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, os.Mkdir(bad, 0o700))
		}, cause: "is not a regular file", remedy: "put the object itself"},
		{name: "too large", prepare: func(t *testing.T, _, bad string) { require.NoError(t, os.Truncate(bad, 1<<20+1)) }, cause: "has 1048577 bytes, at most 1048576 are allowed", remedy: "llvm-strip -g"},
		{name: "may not be read", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, os.Symlink("gone", bad))
		}, cause: "no such file or directory", remedy: "put the object into the folder"},
		{name: "link to the folder", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, os.Symlink(".", bad))
		}, cause: "is not a regular file", remedy: "put the object itself"},
		{name: "link up from a folder in it", prepare: func(t *testing.T, dir, bad string) {
			require.NoError(t, os.Rename(bad, filepath.Join(filepath.Dir(dir), "outside.bpf.o")))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "in"), 0o700))
			require.NoError(t, os.Symlink("in/./..//../outside.bpf.o", bad))
		}, cause: "is a link that leads out of the folder", remedy: "put the object itself"},
		{name: "link to a link up", prepare: func(t *testing.T, dir, bad string) {
			require.NoError(t, os.Rename(bad, filepath.Join(filepath.Dir(dir), "outside.bpf.o")))
			require.NoError(t, os.Symlink("..", filepath.Join(dir, "up")))
			require.NoError(t, os.Symlink("up/outside.bpf.o", bad))
		}, cause: "is a link that leads out of the folder", remedy: "put the object itself"},
		{name: "link through a file", prepare: func(t *testing.T, _, bad string) {
			require.NoError(t, os.Remove(bad))
			require.NoError(t, os.Symlink("README/x", bad))
		}, cause: "not a directory"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			dir := filepath.Join(t.TempDir(), "modules")
			require.NoError(t, os.Mkdir(dir, 0o755))
			bad := filepath.Join(dir, "bad.bpf.o")
			for _, name := range []string{bad, filepath.Join(dir, "good.bpf.o"), filepath.Join(dir, "README")} {
				require.NoError(t, os.WriteFile(name, userObject(t), 0o644))
			}
			c.prepare(t, dir, bad)
			o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: cacheAnd(dir)}, Sources: []observer.Source{observer.BuiltIn(), observer.ModuleDir(dir)}})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, o.Close()) })
			require.True(t, healthOf(t, o.Health(), "cache").Up)
			refused := "bad"
			if c.whole {
				refused = dir
				require.Len(t, o.Health().Modules, 2)
			} else {
				require.Len(t, o.Health().Modules, 3)
				requireCounts(t, o, "good")
			}
			h := healthOf(t, o.Health(), refused)
			require.False(t, h.Up)
			require.Contains(t, h.Cause, c.cause)
			require.Contains(t, h.Remedy, c.remedy)
		})
	}
}

// TestModuleDirOfAUser: a non-root server trusts root and its own user, and a link that stays in the folder, and opens
// nothing by another name.
func TestModuleDirOfAUser(t *testing.T) {
	kprobetest.Require(t)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "inside"), userObject(t), 0o644))
	require.NoError(t, os.Symlink("inside", filepath.Join(dir, "linked.bpf.o")))
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: cacheAnd(dir)}, Sources: []observer.Source{observer.BuiltIn(), observer.ModuleDir(dir)}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	requireCounts(t, o, "linked")
	for _, name := range []string{"inside", "../outside.bpf.o", "/etc/x.bpf.o", "sub/x.bpf.o", "..", ""} {
		_, err = observer.OpenObject(dir, name)
		require.ErrorIs(t, err, fs.ErrNotExist, name)
	}
	require.NoError(t, os.Chmod(filepath.Join(dir, "inside"), 0o666))
	_, err = observer.OpenObject(dir, "linked.bpf.o")
	require.ErrorIs(t, err, observer.ErrUntrusted)
	require.NotEmpty(t, kprobe.Remedy(err))
}

// TestModuleDirOfLinks: a folder as Kubernetes makes it from a ConfigMap, where each file is a link through the link
// ..data, and other paths that stay in the folder, also if a filter refuses openat2(2).
func TestModuleDirOfLinks(t *testing.T) {
	for name, provoke := range map[string]func() error{
		"plain":           func() error { return nil },
		"openat2 refused": func() error { return kprobetest.Deny(unix.SYS_OPENAT2, unix.EPERM) },
		"openat2 hidden":  func() error { return kprobetest.Deny(unix.SYS_OPENAT2, unix.ENOSYS) },
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			if !kprobetest.InChild(t, nil) {
				return
			}
			runtime.LockOSThread()
			require.NoError(t, provoke())
			dir := t.TempDir()
			require.NoError(t, os.Chmod(dir, 0o755))
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "..2024/deep"), 0o755))
			for _, file := range []string{"..2024/config.bpf.o", "..2024/deep/object"} {
				require.NoError(t, os.WriteFile(filepath.Join(dir, file), userObject(t), 0o644))
			}
			for link, to := range map[string]string{
				"..data":         "..2024",
				"config.bpf.o":   "..data/config.bpf.o",
				"deep.bpf.o":     "./..data//deep/../deep/up/deep/object",
				"..2024/deep/up": "../../..data",
				"link40.bpf.o":   "..data/config.bpf.o",
			} {
				require.NoError(t, os.Symlink(to, filepath.Join(dir, link)))
			}
			// A chain of as many links as the kernel follows, and of one more: ..data is one of them.
			for i := 39; i > 0; i-- {
				require.NoError(t, os.Symlink(fmt.Sprintf("link%d.bpf.o", i+1), filepath.Join(dir, fmt.Sprintf("link%d.bpf.o", i))))
			}
			for _, c := range []struct {
				name string
				ok   bool
			}{{"config", true}, {"deep", true}, {"link2", true}, {"link1", false}} {
				_, err := os.Stat(filepath.Join(dir, c.name+".bpf.o"))
				require.Equal(t, c.ok, err == nil, "%s: the kernel says %v", c.name, err)
				file, err := observer.OpenObject(dir, c.name+".bpf.o")
				if !c.ok {
					require.ErrorIs(t, err, observer.ErrUntrusted)
					require.ErrorContains(t, err, "through more than 40 links")
					continue
				}
				require.NoError(t, err, c.name)
				object, err := io.ReadAll(file)
				require.NoError(t, err)
				require.NoError(t, file.Close())
				require.True(t, bytes.Equal(userObject(t), object), c.name)
			}
			held := descriptors(t)
			for range 100 {
				_, err := observer.OpenObject(dir, "link1.bpf.o")
				require.Error(t, err)
				file, err := observer.OpenObject(dir, "deep.bpf.o")
				require.NoError(t, err)
				require.NoError(t, file.Close())
			}
			require.Equal(t, held, descriptors(t))
		})
	}
}

// TestSwitchUserModule: a user's module is available, and can be disabled and enabled like any other.
func TestSwitchUserModule(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"cache", "good"}}, Sources: []observer.Source{observer.BuiltIn(), observer.Spec("good", userSpec(t, nil))}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	require.Contains(t, o.Available(), "good")
	require.Equal(t, []string{"cache", "good"}, o.Config().Modules)
	requireCounts(t, o, "good")
	before := count(t, o)
	require.NoError(t, o.Disable("good"))
	require.True(t, healthOf(t, o.Health(), "good").Disabled)
	_, err = unix.Pread(openFile(t, "/proc/self/exe", unix.O_RDONLY), make([]byte, 100), 0)
	require.NoError(t, err)
	require.NoError(t, o.Enable(context.Background(), "good"))
	require.Equal(t, before["ebpf_good_calls_total{ok}"], count(t, o)["ebpf_good_calls_total{ok}"])
	requireCounts(t, o, "good")
}
