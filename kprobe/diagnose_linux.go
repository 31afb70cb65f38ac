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
	"os"
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

// kernelWords drops what the eBPF library guesses about EPERM: diagnose knows better.
func kernelWords(err error) error {
	var known *remediable
	if errors.Is(err, unix.EPERM) && !errors.As(err, &known) {
		return unix.EPERM
	}
	return err
}

// diagnose gives an error of the kernel its kind, and says what to do about it.
func diagnose(err error) error {
	var known *remediable
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, ErrInvalidModule), errors.As(err, &known):
		return err
	case !exists(kernelBTF):
		return &remediable{
			fmt.Errorf("no BTF of the kernel: %w: %w", ErrNotSupported, err),
			"use a kernel with CONFIG_DEBUG_INFO_BTF, and in a container mount /sys: " + kernelBTF + " is missing",
		}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, &verifier):
		return notPermitted(err)
	case errors.Is(err, unix.ENOSYS):
		return notPermitted(fmt.Errorf("the kernel has no bpf(2), or hides it: %w", err))
	case errors.As(err, &verifier):
		return &remediable{err, "the kernel's verifier refuses the program: report it with the kernel's version and the verifier's log"}
	case errors.Is(err, errNoTracefs):
		return &remediable{
			fmt.Errorf("%w: %w", ErrNotSupported, err),
			"mount tracefs (`mount -t tracefs tracefs " + tracefs + "`), or let another kind of attachment be chosen; a locked down kernel has no events there",
		}
	case errors.Is(err, ErrNotSupported), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, os.ErrNotExist):
		return &remediable{fmt.Errorf("%w: %w", ErrNotSupported, err), "let another kind of attachment be chosen, or use Linux 5.10 or newer"}
	}
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// notPermitted finds out who refuses: the kernel to a process without capabilities, or something in between.
func notPermitted(err error) error {
	missing, capErr := missingCapabilities()
	if capErr != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrPermission, err), capErr)
	}
	if len(missing) > 0 {
		names := strings.Join(missing, " and ")
		cause := names + " missing"
		if level, readErr := os.ReadFile("/proc/sys/kernel/unprivileged_bpf_disabled"); readErr == nil && missing[0] == capBPF {
			cause += " (kernel.unprivileged_bpf_disabled is " + strings.TrimSpace(string(level)) + ")"
		}
		return &remediable{
			fmt.Errorf("%s: %w: %w", cause, ErrPermission, err),
			fmt.Sprintf("give the process %s: `setcap cap_bpf,cap_perfmon+ep` on the binary, AmbientCapabilities= of systemd, "+
				"or capabilities.add of a Kubernetes securityContext", names),
		}
	}
	// A command that no kernel knows: the kernel itself answers that it is invalid.
	if _, _, errno := unix.Syscall(unix.SYS_BPF, ^uintptr(0)>>33, 0, 0); errno == unix.EPERM || errno == unix.ENOSYS {
		return &remediable{
			fmt.Errorf("bpf(2) is refused with %q although no capability is missing: %w: %w", errno, ErrPermission, err),
			"a seccomp filter or security module stands in between: allow bpf(2) and perf_event_open(2) in the container's seccomp profile",
		}
	}
	return &remediable{
		fmt.Errorf("%w: %w", ErrPermission, err),
		"the process has CAP_BPF and CAP_PERFMON, but this kernel does not permit it: look at kernel lockdown (/sys/kernel/security/lockdown) " +
			"and security modules, or let another kind of attachment be chosen",
	}
}

const (
	capBPF     = "CAP_BPF"
	capPerfmon = "CAP_PERFMON"
)

// missingCapabilities returns those of CAP_BPF and CAP_PERFMON that the calling thread lacks. CAP_SYS_ADMIN implies both.
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
