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
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestRefusals provokes each refusal by the kernel, or by what restricts access to it, and requires its cause by name,
// with a remedy.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name          string
		provoke       func(*testing.T)
		options       observer.Options
		is            error
		cause, remedy string
		flags         uintptr // of the namespaces
	}{
		{
			name:    "no capability at all",
			provoke: func(t *testing.T) { dropCapabilities(t, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON) },
			is:      kprobe.ErrPermission, cause: "CAP_BPF and CAP_PERFMON missing", remedy: "setcap cap_bpf,cap_perfmon+ep",
		},
		{
			name:    "no CAP_BPF",
			provoke: func(t *testing.T) { dropCapabilities(t, unix.CAP_SYS_ADMIN, unix.CAP_BPF) },
			is:      kprobe.ErrPermission, cause: "CAP_BPF missing", remedy: "give the process CAP_BPF:",
		},
		{
			name:    "no CAP_PERFMON",
			provoke: func(t *testing.T) { dropCapabilities(t, unix.CAP_SYS_ADMIN, unix.CAP_PERFMON) },
			is:      kprobe.ErrPermission, cause: "CAP_PERFMON missing", remedy: "give the process CAP_PERFMON:",
		},
		{
			name:    "unprivileged eBPF is disabled",
			provoke: func(t *testing.T) { dropCapabilities(t, unix.CAP_SYS_ADMIN, unix.CAP_BPF) },
			is:      kprobe.ErrPermission, cause: "kernel.unprivileged_bpf_disabled is " + sysctl("unprivileged_bpf_disabled"), remedy: "CAP_BPF",
		},
		{
			name:    "no BTF",
			provoke: func(t *testing.T) { hide(t, "/sys/kernel/btf") },
			is:      kprobe.ErrNotSupported, cause: "no kernel BTF", remedy: "CONFIG_DEBUG_INFO_BTF",
		},
		{
			name:    "no sysfs",
			provoke: func(t *testing.T) { hide(t, "/sys") },
			is:      os.ErrNotExist, cause: "/sys/devices/system/cpu/possible", remedy: "mount -t sysfs sysfs /sys",
		},
		{
			name:    "no procfs",
			provoke: func(t *testing.T) { hide(t, "/proc") },
			is:      kprobe.ErrNotSupported, cause: "/proc is not mounted", remedy: "mount -t proc proc /proc",
		},
		{
			name: "empty BTF",
			provoke: func(t *testing.T) {
				hide(t, "/sys/kernel/btf")
				require.NoError(t, os.WriteFile("/sys/kernel/btf/vmlinux", nil, 0o644))
			},
			is: kprobe.ErrNotSupported, cause: "/sys/kernel/btf/vmlinux has no BTF that can be read", remedy: "check what is mounted over it",
		},
		{
			name: "a user namespace", flags: syscall.CLONE_NEWUSER,
			provoke: func(*testing.T) {},
			is:      kprobe.ErrPermission, cause: "the process is in a user namespace", remedy: "hostUsers: true",
		},
		{
			name: "too many open files",
			provoke: func(t *testing.T) {
				next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
				require.NoError(t, err)
				require.NoError(t, unix.Close(next))
				require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: uint64(next)}))
			},
			is: unix.EMFILE, cause: "the process has too many open files", remedy: "LimitNOFILE=",
		},
		{
			name:    "no tracefs",
			provoke: func(t *testing.T) { hide(t, "/sys/kernel/tracing", "/sys/kernel/debug") },
			options: observer.Options{Attachment: kprobe.Tracepoint},
			is:      kprobe.ErrNotSupported, cause: "no tracefs", remedy: "mount -t tracefs",
		},
		{
			name:    "a seccomp filter",
			provoke: func(t *testing.T) { require.NoError(t, kprobetest.DenyBPF(unix.EPERM)) },
			is:      kprobe.ErrPermission, cause: "bpf(2) is refused", remedy: "seccomp profile",
		},
		{
			name:    "a seccomp filter that hides it",
			provoke: func(t *testing.T) { require.NoError(t, kprobetest.DenyBPF(unix.ENOSYS)) },
			is:      kprobe.ErrPermission, cause: "bpf(2) is refused", remedy: "seccomp profile",
		},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			kprobetest.Require(t)
			if !kprobetest.InChild(t, func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | c.flags}
				if c.flags&syscall.CLONE_NEWUSER != 0 {
					cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
					cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
				}
			}) {
				return
			}
			// Capabilities and filters are per thread. The process ends with the test.
			runtime.LockOSThread()
			c.provoke(t)
			// Modules without an iterator: iterators attach whatever Attachment is.
			c.options.Modules = []string{"io", "cache"}
			_, err := observer.Open(context.Background(), c.options)
			var down *observer.DownError
			require.ErrorAs(t, err, &down)
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.cause)
			require.Contains(t, down.Remedy(), c.remedy)
			require.Len(t, down.Health.Modules, 2)
			for _, m := range down.Health.Modules {
				require.False(t, m.Up)
				require.Contains(t, m.Cause, c.cause)
			}
		})
	}
}

func sysctl(name string) string {
	text, _ := os.ReadFile("/proc/sys/kernel/" + name)
	return strings.TrimSpace(string(text))
}

// dropCapabilities takes capabilities from the calling thread.
func dropCapabilities(t *testing.T, names ...uint) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	for _, c := range names {
		data[c/32].Effective &^= 1 << (c % 32)
		data[c/32].Permitted &^= 1 << (c % 32)
	}
	require.NoError(t, unix.Capset(&header, &data[0]))
}

// hide covers folders, in the mount namespace of this process alone.
func hide(t *testing.T, folders ...string) {
	t.Helper()
	require.NoError(t, unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""))
	for _, folder := range folders {
		if _, err := os.Stat(folder); err == nil {
			require.NoError(t, unix.Mount("none", folder, "tmpfs", 0, ""))
		}
	}
}

// TestMemlock: if eBPF is charged to RLIMIT_MEMLOCK, Open lifts the limit, or names it in the error if the process may
// not lift it. Otherwise the limit does not matter and stays as it is.
func TestMemlock(t *testing.T) {
	for _, may := range []bool{true, false} {
		t.Run(fmt.Sprint("may_lift_", may), func(t *testing.T) {
			kprobetest.Require(t)
			if !kprobetest.InChild(t, nil) {
				return
			}
			runtime.LockOSThread()
			small := unix.Rlimit{Cur: 64 << 10, Max: 64 << 10}
			if !may {
				small = unix.Rlimit{}
			}
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &small))
			dropCapabilities(t, unix.CAP_SYS_ADMIN)
			if !may {
				dropCapabilities(t, unix.CAP_SYS_RESOURCE)
			}
			kernel, err := btf.LoadKernelSpec()
			require.NoError(t, err)
			_, err = kernel.AnyTypeByName("bpf_map_memory")
			charged := err == nil
			resource := hasCapability(t, unix.CAP_SYS_RESOURCE)

			o, err := observer.Open(context.Background(), observer.Options{})
			var limit unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
			if charged && !resource {
				var down *observer.DownError
				require.ErrorAs(t, err, &down)
				require.ErrorIs(t, err, kprobe.ErrPermission)
				require.ErrorContains(t, err, "RLIMIT_MEMLOCK is too small and cannot be lifted")
				require.Contains(t, down.Remedy(), "LimitMEMLOCK=infinity")
				require.Equal(t, small, limit)
				return
			}
			require.NoError(t, err)
			closeAfter(t, o)
			require.Equal(t, charged, limit != small)
		})
	}
}

func hasCapability(t *testing.T, c uint) bool {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	return data[c/32].Effective&(1<<(c%32)) != 0
}

// TestLeastPrivilege simulates a container: a non-root user with only the two capabilities, in its own pid and mount
// namespaces, without tracefs. All modules are up, and exact.
func TestLeastPrivilege(t *testing.T) {
	const level = "OBSERVER_TEST_USER"
	const nobody = 65534
	kprobetest.Require(t)
	if os.Getenv(level) != "" {
		require.Equal(t, nobody, os.Geteuid())
		require.False(t, hasCapability(t, unix.CAP_SYS_ADMIN))
		_, err := os.Stat(tracefs + "/events")
		require.ErrorIs(t, err, os.ErrNotExist)
		for _, m := range open(t).Health().Modules {
			for _, h := range m.Plan {
				t.Logf("MATRIX\t%s %s: least privilege\t%s", m.Name, h.Name, h.Attachment)
			}
		}
		testIOExact(t, open(t, "io"))
		testCacheExact(t, open(t, "cache"))
		testSched(t, open(t, "sched"), spend)
		return
	}
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	}) {
		return
	}
	require.Equal(t, 1, os.Getpid())
	hide(t, tracefs, "/sys/kernel/debug")
	// Before Linux 5.11 the process that starts the container has to lift the limit of memory.
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); !errors.Is(err, unix.EPERM) {
		require.NoError(t, err)
	}
	// Other users can access neither the folder of the test binary nor that of t.TempDir.
	temp, err := os.MkdirTemp("", "least-privilege")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(temp)) })
	require.NoError(t, os.Chmod(temp, 0o777))
	self, err := os.Executable()
	require.NoError(t, err)
	binary, err := os.ReadFile(self)
	require.NoError(t, err)
	self = filepath.Join(temp, "observer.test")
	require.NoError(t, os.WriteFile(self, binary, 0o755))
	cmd := exec.Command(self, "-test.run=^TestLeastPrivilege$", "-test.v")
	cmd.Env = append(os.Environ(), level+"=1", "TMPDIR="+temp)
	cmd.Dir = temp
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential:  &syscall.Credential{Uid: nobody, Gid: nobody},
		AmbientCaps: []uintptr{unix.CAP_BPF, unix.CAP_PERFMON},
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	require.NoError(t, err)
	require.Contains(t, string(out), "--- PASS: TestLeastPrivilege")
}

// requireGone waits until the kernel has freed what was held: the garbage collector releases the loader's own mappings,
// and the rest follows a little later.
func requireGone(t *testing.T, held map[string]bool, what string) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return mappings(t) == 0 && len(existing(t, held)) == 0
	}, time.Minute, 20*time.Millisecond, what)
}

// TestFaults fails each step of opening all modules once. Nothing leaks, the failed step is named, and an alternative
// is used if there is one.
func TestFaults(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	modules, err := observer.BuiltIn().Modules()
	require.NoError(t, err)
	stride := 1
	if os.Getenv(guest) != "" {
		// On an emulated CPU the sixty programs of io take a second each time, and those of memory half of one.
		modules, stride = []string{"cache", "memory"}, 3
	}
	for _, module := range modules {
		t.Run(module, func(t *testing.T) { testFaults(t, module, stride) })
	}
}

// testFaults fails every stride-th step of opening a module, one at a time. Another module is opened after it.
func testFaults(t *testing.T, module string, stride int) {
	beside := "lock"
	if module == beside {
		beside = "sched"
	}
	open := func(step func(what string) error) (*observer.Observer, error) {
		observer.Steps(t, step)
		return observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{module, beside}}})
	}
	var steps []string
	o, err := open(func(what string) error {
		steps = append(steps, what)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, o.Close())
	others := slices.Index(steps[1:], steps[0])
	require.Positive(t, others)
	steps = steps[:1+others]
	for _, want := range []string{"opening the object", "making the maps", "loading ", "attaching ", "mapping the counters"} {
		require.Contains(t, strings.Join(steps, "\n"), want)
	}
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	for n := 0; n < len(steps); n += stride {
		fault := errors.New("injected")
		at, failed := 0, ""
		o, err := open(func(what string) error {
			at++
			if at == n+1 {
				failed = what
				return fault
			}
			return nil
		})
		// One fault never takes down all modules.
		require.NoError(t, err, failed)
		require.Equal(t, steps[n], failed)
		health := o.Health()
		require.True(t, healthOf(t, health, beside).Up, failed)
		named := false
		m := healthOf(t, health, module)
		if !m.Up {
			require.Contains(t, m.Cause, fault.Error(), failed)
			named = true
		}
		for _, h := range m.Plan {
			for _, r := range h.Refused {
				if errors.Is(r.Err, fault) {
					kind, _, _ := strings.Cut(failed, " ")
					require.Contains(t, r.Err.Error(), kind, failed)
					named = true
				}
			}
		}
		require.True(t, named, failed)
		var s observer.Snapshot
		require.NoError(t, o.Snapshot(&s), failed)
		held := kernelObjects(t)
		require.NoError(t, o.Close(), failed)
		require.Equal(t, fds, descriptors(t), failed)
		require.Equal(t, goroutines, runtime.NumGoroutine(), failed)
		requireGone(t, held, failed)
	}
	t.Logf("%d steps", len(steps))
}
