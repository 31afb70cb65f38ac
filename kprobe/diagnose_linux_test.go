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
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

func TestMain(m *testing.M) {
	kprobetest.MountTracefs()
	os.Exit(m.Run())
}

// Commands of bpf(2).
const (
	mapCreate         = 0
	progLoad          = 5
	rawTracepointOpen = 17
	linkCreate        = 28
	iterCreate        = 33
)

// cover mounts something else over a file or folder, for this process only.
func cover(t *testing.T, path, with string) {
	t.Helper()
	require.NoError(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	if with == "" {
		require.NoError(t, unix.Mount("none", path, "tmpfs", 0, ""))
		return
	}
	require.NoError(t, unix.Mount(with, path, "", unix.MS_BIND, ""))
}

func coverBTF(text string) func(*testing.T) {
	return func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "vmlinux")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		cover(t, kernelBTF, file)
		t.Cleanup(func() { require.NoError(t, unix.Unmount(kernelBTF, 0)) })
	}
}

func deny(errno unix.Errno, commands ...uint32) func(*testing.T) {
	return func(t *testing.T) { require.NoError(t, kprobetest.DenyBPF(errno, commands...)) }
}

// drop takes capabilities from the calling thread.
func drop(names ...uint) func(*testing.T) {
	return func(t *testing.T) {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		require.NoError(t, unix.Capget(&header, &data[0]))
		for _, c := range names {
			data[c/32].Effective &^= 1 << (c % 32)
			data[c/32].Permitted &^= 1 << (c % 32)
		}
		require.NoError(t, unix.Capset(&header, &data[0]))
	}
}

// crowd attaches as many programs to a tracepoint as the kernel accepts.
func crowd(t *testing.T) {
	for {
		prog, err := withMemory(btf.LoadKernelSpec, func() (*ebpf.Program, error) {
			return ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.TracePoint, License: "Dual MIT/GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
			})
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, prog.Close()) })
		l, err := link.Tracepoint("sched", "sched_process_exit", prog, nil)
		if err != nil {
			require.ErrorContains(t, err, unix.E2BIG.Error())
			return
		}
		t.Cleanup(func() { require.NoError(t, l.Close()) })
	}
}

// only returns a module of testdata with only the given programs.
func only(module string, programs ...string) func(*testing.T) *ebpf.CollectionSpec {
	return func(t *testing.T) *ebpf.CollectionSpec {
		spec := testSpec(t, module)
		all := spec.Programs
		spec.Programs = make(map[string]*ebpf.ProgramSpec)
		for _, name := range programs {
			require.NotNil(t, all[name], name)
			spec.Programs[name] = all[name]
		}
		return spec
	}
}

// with returns an iterator whose program has the given instructions.
func with(instructions ...asm.Instruction) func(*testing.T) *ebpf.CollectionSpec {
	return func(t *testing.T) *ebpf.CollectionSpec {
		spec := only("files", "files__iter")(t)
		prog := spec.Programs["files__iter"]
		instructions[0] = btf.WithFuncMetadata(instructions[0], btf.FuncMetadata(&prog.Instructions[0]))
		prog.Instructions = instructions
		return spec
	}
}

// TestRemedies provokes each way in which loading can fail, and requires that the error names the cause and has the
// remedy, which depend on the step that failed.
func TestRemedies(t *testing.T) {
	foreign := map[string]string{"amd64": "arm64", "arm64": "amd64"}[runtime.GOARCH]
	foreignHook := map[string]string{"amd64": "arm__kprobe", "arm64": "x86__kprobe"}[runtime.GOARCH]
	noCapability := drop(unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON)
	iterator, event := only("files", "files__iter"), only("order", "first__tp_btf")
	tracepoint := only("lacking", "exit__tracepoint")
	for _, c := range []struct {
		provoke       func(*testing.T)
		module        func(*testing.T) *ebpf.CollectionSpec
		is            error
		name          string
		cause, remedy string
		flags         uintptr
		tracepoints   bool // it needs classic tracepoints
	}{
		{name: "no sysfs", provoke: func(t *testing.T) { cover(t, "/sys", "") }, is: ErrNotSupported, cause: "/sys is not mounted", remedy: "mount -t sysfs"},
		{name: "no procfs", provoke: func(t *testing.T) { cover(t, "/proc", "") }, is: ErrNotSupported, cause: "/proc is not mounted", remedy: "mount -t proc"},
		{
			name: "a chroot", provoke: func(t *testing.T) { require.NoError(t, unix.Chroot(t.TempDir())) },
			is: ErrNotSupported, cause: "/proc is not mounted", remedy: "mount -t proc",
		},
		{name: "no BTF", provoke: func(t *testing.T) { cover(t, "/sys/kernel/btf", "") }, is: ErrNotSupported, cause: "no kernel BTF", remedy: "CONFIG_DEBUG_INFO_BTF"},
		{name: "empty BTF", provoke: coverBTF(""), is: ErrNotSupported, cause: "has no BTF that can be read", remedy: "check what is mounted over it"},
		{name: "broken BTF", provoke: coverBTF("no BTF"), is: ErrNotSupported, cause: "has no BTF that can be read", remedy: "check what is mounted over it"},
		{name: "masked BTF", provoke: func(t *testing.T) { cover(t, kernelBTF, "/dev/null") }, is: ErrNotSupported, cause: "has no BTF that can be read", remedy: "check what is mounted over it"},

		{name: "a user namespace", flags: unix.CLONE_NEWUSER, is: ErrPermission, cause: "the process is in a user namespace", remedy: "hostUsers: true"},
		{name: "a user namespace without capabilities", flags: unix.CLONE_NEWUSER, provoke: noCapability, is: ErrPermission, cause: "the process is in a user namespace", remedy: "a BPF token"},
		{name: "no capability", provoke: noCapability, is: ErrPermission, cause: "CAP_BPF and CAP_PERFMON missing", remedy: "setcap cap_bpf,cap_perfmon+ep"},
		{
			// Before Linux 5.11 the limit is too small as well, but raising it would not help.
			name: "neither a capability nor locked memory", is: ErrPermission, cause: "CAP_BPF and CAP_PERFMON missing", remedy: "setcap cap_bpf,cap_perfmon+ep",
			provoke: func(t *testing.T) {
				require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}))
				drop(unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_RESOURCE)(t)
			},
		},
		{name: "no CAP_PERFMON", provoke: drop(unix.CAP_SYS_ADMIN, unix.CAP_PERFMON), is: ErrPermission, cause: "CAP_PERFMON missing", remedy: "give the process CAP_PERFMON:"},
		{name: "a filter of bpf", provoke: deny(unix.EPERM), is: ErrPermission, cause: "bpf(2) is refused", remedy: "allow bpf(2)"},
		{name: "a filter that hides bpf", provoke: deny(unix.ENOSYS), is: ErrPermission, cause: "bpf(2) is refused", remedy: "allow bpf(2)"},
		{name: "attaching is denied", provoke: deny(unix.EPERM, rawTracepointOpen, linkCreate), is: ErrPermission, cause: `attaching first__tp_btf to "sys_enter": operation not permitted`, remedy: "kernel lockdown"},
		{
			name: "a filter of perf_event_open", module: tracepoint, tracepoints: true, is: ErrPermission, cause: "perf_event_open(2) is refused", remedy: "allow perf_event_open(2)",
			provoke: func(t *testing.T) { require.NoError(t, kprobetest.Deny(unix.SYS_PERF_EVENT_OPEN, unix.EPERM)) },
		},
		{
			name: "tracefs of another user", module: tracepoint, is: ErrPermission, cause: "user 0 may not open /sys/kernel/", remedy: "let the server's user read tracefs",
			// This also drops the file system capabilities.
			provoke: func(t *testing.T) { _, err := unix.SetfsuidRetUid(65534); require.NoError(t, err) },
		},
		{
			name: "no tracefs", module: tracepoint, is: ErrNotSupported, cause: "no tracefs", remedy: "mount -t tracefs",
			provoke: func(t *testing.T) { cover(t, tracefs, ""); cover(t, "/sys/kernel/debug", "") },
		},

		{name: "no descriptor for maps", provoke: deny(unix.EMFILE, mapCreate), is: unix.EMFILE, cause: "making the maps", remedy: "LimitNOFILE="},
		{name: "no descriptor for a program", provoke: deny(unix.EMFILE, progLoad), is: unix.EMFILE, cause: "RLIMIT_NOFILE is ", remedy: "LimitNOFILE="},
		{name: "no descriptor for a link", provoke: deny(unix.EMFILE, rawTracepointOpen, linkCreate), is: unix.EMFILE, cause: "RLIMIT_NOFILE is ", remedy: "LimitNOFILE="},
		{name: "no descriptor for an iterator", module: iterator, provoke: deny(unix.EMFILE, iterCreate), is: unix.EMFILE, cause: "RLIMIT_NOFILE is ", remedy: "LimitNOFILE="},
		{name: "no file on the host", provoke: deny(unix.ENFILE, mapCreate), is: unix.ENFILE, cause: "the host has too many open files", remedy: "fs.file-max"},
		{name: "no memory for maps", provoke: deny(unix.ENOMEM, mapCreate), is: unix.ENOMEM, cause: "the kernel has no memory", remedy: "MemoryMax="},
		{
			name: "no memory for what old kernels do not know", provoke: deny(unix.ENOMEM, mapCreate), is: unix.ENOMEM, cause: "the kernel has no memory", remedy: "MemoryMax=",
			module: func(t *testing.T) *ebpf.CollectionSpec {
				spec := event(t)
				for _, m := range spec.Maps {
					m.Flags |= unix.BPF_F_MMAPABLE
				}
				return spec
			},
		},
		{name: "no memory for an iterator", module: iterator, provoke: deny(unix.ENOMEM, iterCreate), is: unix.ENOMEM, cause: "opening the iterator", remedy: "MemoryMax="},
		{name: "no room for maps", provoke: deny(unix.ENOSPC, mapCreate), is: unix.ENOSPC, cause: "a kernel table is full", remedy: "bpftool prog"},
		{name: "no room for a link", provoke: deny(unix.ENOSPC, rawTracepointOpen, linkCreate), is: unix.ENOSPC, cause: "a kernel table is full", remedy: "bpftool link"},
		{name: "too large a map", provoke: deny(unix.E2BIG, mapCreate), is: unix.E2BIG, cause: "a map is larger than the kernel allows", remedy: "fewer entries"},
		{name: "too many programs", module: tracepoint, tracepoints: true, provoke: crowd, cause: "the kernel allows no more programs to be attached to sched/sched_process_exit", remedy: "bpftool perf"},
		{name: "busy", provoke: deny(unix.EBUSY, rawTracepointOpen, linkCreate), is: unix.EBUSY, cause: "another tool is changing, or has changed, sys_enter", remedy: "try again"},
		{name: "busy for ever", provoke: deny(unix.EAGAIN, rawTracepointOpen, linkCreate), is: unix.EAGAIN, cause: "another tool is changing, or has changed, sys_enter", remedy: "try again"},

		{name: "a field that is lacking", module: only("lacking", "field__iter"), is: ErrNotSupported, cause: "the kernel lacks a type, field or constant", remedy: "bpf_core_field_exists"},
		{name: "a function that is lacking", module: only("lacking", "function__kprobe"), is: ErrNotSupported, cause: "no_such_function", remedy: "use another kind of attachment"},
		{name: "an event that is lacking", module: only("lacking", "event__tracepoint"), is: ErrNotSupported, cause: "no_such/event", remedy: "use another kind of attachment"},
		{name: "a function of another architecture", module: only("lacking", foreignHook), is: ErrNotSupported, cause: "which only " + foreign + " has", remedy: "-D__TARGET_ARCH_"},
		{
			name: "an object for another architecture", is: ErrInvalidModule, cause: "it was compiled for " + foreign + ", but this machine is " + runtime.GOARCH, remedy: "use its object for " + runtime.GOARCH,
			module: func(t *testing.T) *ebpf.CollectionSpec {
				object, err := fs.ReadFile(bpf.Modules(foreign), "io.bpf.o")
				require.NoError(t, err)
				return parse(t, object)
			},
		},
		{name: "a program that the verifier refuses", module: with(asm.Mov.Reg(asm.R0, asm.R9), asm.Return()), cause: "R9 !read_ok", remedy: "the kernel's verifier refuses the program"},
		{name: "an iterator without end", module: with(asm.Mov.Imm(asm.R0, 1), asm.Return()), is: unix.EAGAIN, cause: "it has asked to be read again", remedy: "have the iterator's program return 0"},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			if c.tracepoints {
				requireTracepoints(t)
			}
			if !kprobetest.InChild(t, func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | c.flags}
				if c.flags&unix.CLONE_NEWUSER != 0 {
					cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
					cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
				}
			}) {
				return
			}
			module := event
			if c.module != nil {
				module = c.module
			}
			spec := module(t)
			// Capabilities and filters are per thread. The process ends with the test.
			runtime.LockOSThread()
			if c.provoke != nil {
				c.provoke(t)
			}
			err := loadAndIterate(spec)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			require.ErrorContains(t, err, c.cause)
			require.Contains(t, Remedy(err), c.remedy)
			t.Logf("%v\n%s", err, Remedy(err))
		})
	}
}

// loadAndIterate loads a module, runs its iterators and closes it.
func loadAndIterate(spec *ebpf.CollectionSpec) error {
	scope, err := Self()
	if err != nil {
		return err
	}
	p, err := Load(spec, Options{Scope: scope})
	if err != nil {
		return err
	}
	_, err = p.Iterate()
	return errors.Join(err, p.Close())
}

// requireTracepoints skips a test if the kernel has no classic tracepoints, because it is locked down.
func requireTracepoints(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(tracefs + "/events/sched"); err != nil {
		t.Skipf("no classic tracepoints: %v", err)
	}
}

// TestDescriptors checks that a lack of descriptors is reported as the cause, whichever step fails.
func TestDescriptors(t *testing.T) {
	for name, spec := range map[string]*ebpf.CollectionSpec{
		"iterator": testSpec(t, "files"), "event": testSpec(t, "order"), "tracepoint": only("lacking", "exit__tracepoint")(t),
	} {
		t.Run(name, func(t *testing.T) {
			kprobetest.Require(t)
			if name == "tracepoint" {
				requireTracepoints(t)
			}
			if kprobetest.InChild(t, nil) {
				testDescriptors(t, spec)
			}
		})
	}
}

func testDescriptors(t *testing.T, spec *ebpf.CollectionSpec) {
	// Open everything that is opened once and kept.
	require.NoError(t, loadAndIterate(spec))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	for left := range uint64(100) {
		next, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		require.NoError(t, unix.Close(next))
		few := unix.Rlimit{Cur: uint64(next) + left, Max: limit.Max}
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
		err = loadAndIterate(spec)
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		if err == nil {
			require.Positive(t, left)
			return
		}
		require.ErrorContains(t, err, fmt.Sprintf("the process has too many open files (RLIMIT_NOFILE is %d)", few.Cur), "%d descriptors left", left)
		require.Contains(t, Remedy(err), "LimitNOFILE=", "%d descriptors left", left)
	}
	require.Fail(t, "the module was never attached")
}

// TestArchitecture checks that the architecture is detected of every built-in module that reads registers.
func TestArchitecture(t *testing.T) {
	for arch := range architectures {
		for _, module := range []string{"io", "lock", "memory"} {
			object, err := fs.ReadFile(bpf.Modules(arch), module+bpf.Suffix)
			require.NoError(t, err)
			err = checkArchitecture(parse(t, object))
			if arch == runtime.GOARCH {
				require.NoError(t, err)
				continue
			}
			require.ErrorIs(t, err, ErrInvalidModule)
			require.ErrorContains(t, err, "it was compiled for "+arch)
		}
	}
}
