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

package kprobe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	kernelBTF = "/sys/kernel/btf/vmlinux"
	tracefs   = "/sys/kernel/tracing"
)

// errNoTracefs is why a classic tracepoint cannot be found.
var errNoTracefs = errors.New("no tracefs")

// place is the step that failed. The remedy depends on it, since the same error has different meanings in different
// steps.
type place int

const (
	elsewhere place = iota // outside of this package
	atStart                // running a first program
	atBTF                  // reading the kernel's BTF
	atMaps                 // making the maps
	atLoad                 // loading programs
	atAttach               // attaching them
	atIterate              // opening and reading an iterator
)

// failure is an error and the step in which it occurred.
type failure struct {
	err     error
	attach  Attachment
	targets []string // of the programs
	at      place
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// is reports whether the error is one of the errnos. For a few errors the eBPF library keeps only the text.
func (f *failure) is(errnos ...unix.Errno) bool {
	return slices.ContainsFunc(errnos, func(errno unix.Errno) bool {
		return errors.Is(f.err, errno) || f.at != elsewhere && strings.HasSuffix(f.err.Error(), ": "+errno.Error())
	})
}

// failures returns all failures in an error tree.
func failures(err error) []*failure {
	switch e := err.(type) { //nolint:errorlint // it walks the error tree
	case *failure:
		return []*failure{e}
	case interface{ Unwrap() error }:
		return failures(e.Unwrap())
	case interface{ Unwrap() []error }:
		var all []*failure
		for _, err := range e.Unwrap() {
			all = append(all, failures(err)...)
		}
		return all
	}
	return nil
}

// finding is the cause of a failure. Its kind may be nil.
type finding struct {
	kind          error
	cause, remedy string
}

// findings look for the cause of a failure, the most general causes first.
var findings = [...]func(*failure) *finding{
	noFilesystem, noDescriptors, noMemory, noBTF, tracefsDenied, perfDenied, bpfDenied, noTracefs, otherArchitecture, noRoom, busy, noSuchField,
	refusedByVerifier, unsupported,
}

// kernelWords drops the eBPF library's guess about EPERM: diagnose determines the cause.
func kernelWords(err error) error {
	if errors.Is(err, unix.EPERM) && !errors.Is(err, errMemlock) {
		return unix.EPERM
	}
	return err
}

// diagnose adds kind, cause and remedy to an error. Of several failures in it, the one with the most general cause
// counts.
func diagnose(err error) error {
	var known *remediable
	if errors.Is(err, ErrInvalidModule) || errors.As(err, &known) {
		return err
	}
	all := failures(err)
	for _, find := range findings {
		for _, f := range all {
			found := find(f)
			if found == nil {
				continue
			}
			if found.kind != nil && !errors.Is(err, found.kind) {
				err = fmt.Errorf("%w: %w", found.kind, err)
			}
			if found.cause != "" {
				err = fmt.Errorf("%s: %w", found.cause, err)
			}
			return &remediable{err, found.remedy}
		}
	}
	return err
}

// remedyElsewhere returns the remedy for an error of another package.
func remedyElsewhere(err error) string {
	var known *remediable
	if errors.As(diagnose(&failure{err: err}), &known) {
		return known.remedy
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// mounted reports whether a file system of a type is mounted at path.
func mounted(path string, magic int64) bool {
	var stat unix.Statfs_t
	return unix.Statfs(path, &stat) == nil && int64(stat.Type) == magic //nolint:unconvert // 32 bits on other architectures
}

// noFilesystem finds that /proc or /sys is not mounted, as in a chroot.
func noFilesystem(f *failure) *finding {
	path := ""
	var missing *fs.PathError
	if errors.As(f.err, &missing) && errors.Is(missing, fs.ErrNotExist) {
		path = missing.Path
	}
	switch {
	case strings.HasPrefix(path, "/proc/") && !mounted("/proc", unix.PROC_SUPER_MAGIC):
		return &finding{ErrNotSupported, "/proc is not mounted", "mount it, in a chroot or container too: `mount -t proc proc /proc`"}
	case (strings.HasPrefix(path, "/sys/") || f.at == atBTF) && !mounted("/sys", unix.SYSFS_MAGIC):
		return &finding{ErrNotSupported, "/sys is not mounted", "mount it, in a chroot or container too: `mount -t sysfs sysfs /sys`"}
	}
	return nil
}

// noDescriptors finds that there are too many open files.
func noDescriptors(f *failure) *finding {
	switch {
	case f.is(unix.EMFILE):
		cause := "the process has too many open files"
		var limit unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
			cause += fmt.Sprintf(" (RLIMIT_NOFILE is %d)", limit.Cur)
		}
		return &finding{nil, cause, "raise RLIMIT_NOFILE, and start the server again: LimitNOFILE= of systemd, or `ulimit -n`"}
	case f.is(unix.ENFILE):
		return &finding{nil, "the host has too many open files", "raise fs.file-max, and start the server again: `sysctl fs.file-max`"}
	}
	return nil
}

func noMemory(f *failure) *finding {
	if !f.is(unix.ENOMEM) {
		return nil
	}
	return &finding{
		nil, "the kernel has no memory for it",
		"raise the memory limit (limits.memory of Kubernetes, MemoryMax= of systemd), or leave modules out; the host itself may be short of memory too",
	}
}

func noBTF(f *failure) *finding {
	switch {
	case f.at != atBTF:
		return nil
	case !exists(kernelBTF):
		return &finding{
			ErrNotSupported, "no kernel BTF",
			"use a kernel with CONFIG_DEBUG_INFO_BTF, and in a container mount /sys: " + kernelBTF + " is missing",
		}
	}
	return &finding{
		ErrNotSupported, kernelBTF + " has no BTF that can be read",
		"check what is mounted over it, and let the server's user read it: a container's runtime may mask paths of /sys " +
			"(securityContext.procMount, --security-opt systempaths=unconfined), or mount the host's /sys/kernel/btf into the container",
	}
}

// tracefsDenied finds that tracefs is mounted but the server's user may not open it.
func tracefsDenied(f *failure) *finding {
	var denied *fs.PathError
	if f.at != atAttach || !errors.As(f.err, &denied) || !errors.Is(denied, fs.ErrPermission) {
		return nil
	}
	return &finding{
		ErrPermission, "user " + fmt.Sprint(os.Geteuid()) + " may not open " + denied.Path,
		"let the server's user read tracefs (`mount -o remount,gid=<group>,mode=750 " + tracefs + "`), or use another kind of attachment",
	}
}

// perfDenied finds that perf_event_open(2) is refused by a filter.
func perfDenied(f *failure) *finding {
	if f.at != atAttach || f.attach != Kprobe && f.attach != Tracepoint || !f.is(unix.EPERM, unix.EACCES, unix.ENOSYS) {
		return nil
	}
	// These flags are invalid: the kernel itself returns EINVAL.
	_, _, errno := unix.Syscall6(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, ^uintptr(0), 0)
	if errno != unix.EPERM && errno != unix.EACCES && errno != unix.ENOSYS {
		return nil
	}
	return &finding{
		ErrPermission, fmt.Sprintf("perf_event_open(2) is refused with %q", errno),
		"a seccomp filter or security module blocks it: allow perf_event_open(2) in the container's seccomp profile, " +
			"or use another kind of attachment",
	}
}

// bpfDenied finds out what refuses bpf(2): the kernel, for lack of capabilities, or something in between. The verifier
// also returns EACCES, but with a log.
func bpfDenied(f *failure) *finding {
	var verifier *ebpf.VerifierError
	switch {
	case f.at == elsewhere || f.at == atBTF:
		return nil
	case !f.is(unix.EPERM, unix.ENOSYS) && (!f.is(unix.EACCES) || errors.As(f.err, &verifier) && len(verifier.Log) > 0):
		return nil
	}
	const both = capBPF + " and " + capPerfmon
	if inUserNamespace() {
		return &finding{
			ErrPermission, "the process is in a user namespace, where " + both + " do not count",
			"run it in the host's user namespace: hostUsers: true of a Kubernetes pod, a container runtime that is not rootless. Or, since Linux 6.9, " +
				"delegate eBPF to it with a BPF token: a bpffs with delegate_cmds, delegate_maps, delegate_progs and delegate_attachs",
		}
	}
	missing, err := missingCapabilities()
	if err != nil {
		return &finding{ErrPermission, err.Error(), "give the process " + both}
	}
	if len(missing) > 0 {
		names := strings.Join(missing, " and ")
		cause := names + " missing"
		if level, err := os.ReadFile("/proc/sys/kernel/unprivileged_bpf_disabled"); err == nil && missing[0] == capBPF {
			cause += " (kernel.unprivileged_bpf_disabled is " + strings.TrimSpace(string(level)) + ")"
		}
		return &finding{
			ErrPermission, cause,
			fmt.Sprintf("give the process %s: `setcap cap_bpf,cap_perfmon+ep` on the binary, AmbientCapabilities= of systemd, "+
				"or capabilities.add of a Kubernetes securityContext", names),
		}
	}
	// This command does not exist: the kernel itself returns EINVAL.
	if _, _, errno := unix.Syscall(unix.SYS_BPF, ^uintptr(0)>>33, 0, 0); errno == unix.EPERM || errno == unix.ENOSYS {
		return &finding{
			ErrPermission, fmt.Sprintf("bpf(2) is refused with %q although no capability is missing", errno),
			"a seccomp filter or security module blocks it, or the kernel has no bpf(2): allow bpf(2) and perf_event_open(2) in the " +
				"container's seccomp profile",
		}
	}
	if errors.Is(f.err, errMemlock) {
		return &finding{
			ErrPermission, "",
			"before Linux 5.11 eBPF maps count as locked memory: start the server with `ulimit -l unlimited`, LimitMEMLOCK=infinity of systemd, " +
				"or CAP_SYS_RESOURCE",
		}
	}
	return &finding{
		ErrPermission, "",
		"the process has " + both + ", but this kernel does not permit it: check kernel lockdown (/sys/kernel/security/lockdown) " +
			"and security modules, or use another kind of attachment",
	}
}

// inUserNamespace reports whether the process is in a user namespace other than the host's, whose inode number is
// always PROC_USER_INIT_INO.
func inUserNamespace() bool {
	const initial = 0xEFFFFFFD
	var stat unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &stat) == nil && stat.Ino != initial
}

func noTracefs(f *failure) *finding {
	if !errors.Is(f.err, errNoTracefs) {
		return nil
	}
	return &finding{
		ErrNotSupported, "",
		"mount tracefs (`mount -t tracefs tracefs " + tracefs + "`), or use another kind of attachment; a locked down kernel has no events there",
	}
}

// otherArchitecture finds that a missing function exists only on another architecture. checkArchitecture checks the
// registers before a module is loaded.
func otherArchitecture(f *failure) *finding {
	if f.at != atLoad && f.at != atAttach || !missing(f.err) {
		return nil
	}
	for _, target := range f.targets {
		if arch := architectureOf(target); arch != "" && arch != runtime.GOARCH {
			return &finding{ErrNotSupported, "the program asks for " + target + ", which only " + arch + " has", compileFor(arch)}
		}
	}
	return nil
}

// noRoom finds that a limit of the kernel is exceeded.
func noRoom(f *failure) *finding {
	switch {
	case f.at == atAttach && f.is(unix.E2BIG):
		return &finding{
			nil, "the kernel allows no more programs to be attached to " + strings.Join(f.targets, ", "),
			"detach other tracing tools from it (`bpftool link`, `bpftool perf`), or use another kind of attachment",
		}
	case f.at == atMaps && f.is(unix.E2BIG):
		return &finding{nil, "a map is larger than the kernel allows", "give the module's maps fewer entries"}
	case f.at == atIterate && f.is(unix.E2BIG):
		return &finding{nil, "the iterator's program writes more than the kernel allows", "have it count into a map, and write nothing"}
	case f.is(unix.ENOSPC):
		return &finding{
			nil, "a kernel table is full",
			"detach other tracing tools (`bpftool prog`, `bpftool link`, " + tracefs + "/kprobe_events), or leave modules out",
		}
	}
	return nil
}

// busy finds that other tools use the target.
func busy(f *failure) *finding {
	if f.at != atAttach || !f.is(unix.EBUSY, unix.EAGAIN, unix.EINTR) {
		return nil
	}
	return &finding{
		nil, "another tool is changing, or has changed, " + strings.Join(f.targets, ", "),
		"try again; if that does not help, remove live patches and other tracing tools from it, or use another kind of attachment",
	}
}

// noSuchField finds a program that uses a type or field that the kernel lacks. The library reports this only as text.
func noSuchField(f *failure) *finding {
	if f.at != atLoad || !strings.Contains(f.err.Error(), "bad CO-RE relocation") {
		return nil
	}
	return &finding{
		ErrNotSupported, "the kernel lacks a type, field or constant that the program uses",
		"use another kind of attachment, or use a kernel that has it; the module can check bpf_core_field_exists first",
	}
}

func refusedByVerifier(f *failure) *finding {
	var verifier *ebpf.VerifierError
	if f.at == elsewhere || !errors.As(f.err, &verifier) {
		return nil
	}
	return &finding{nil, "", "the kernel's verifier refuses the program: report it with the kernel's version and the verifier's log"}
}

// missing reports whether an error means that the kernel lacks something.
func missing(err error) bool {
	return errors.Is(err, ErrNotSupported) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrNotExist)
}

func unsupported(f *failure) *finding {
	if f.at == elsewhere || !missing(f.err) {
		return nil
	}
	return &finding{ErrNotSupported, "", "use another kind of attachment, or use Linux 5.10 or newer"}
}

const (
	capBPF     = "CAP_BPF"
	capPerfmon = "CAP_PERFMON"
)

// missingCapabilities returns those of CAP_BPF and CAP_PERFMON that the calling thread lacks. CAP_SYS_ADMIN implies
// both.
func missingCapabilities() ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, fmt.Errorf("reading the capabilities of the process: %w", err)
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	if has(unix.CAP_SYS_ADMIN) {
		return nil, nil
	}
	var missing []string
	if !has(unix.CAP_BPF) {
		missing = append(missing, capBPF)
	}
	if !has(unix.CAP_PERFMON) {
		missing = append(missing, capPerfmon)
	}
	return missing, nil
}
