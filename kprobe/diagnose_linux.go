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

	"golang.org/x/sys/unix"

	"github.com/cilium/ebpf"
)

// diagnose gives an error of the kernel its kind, and what to do about it.
func diagnose(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, ErrInvalidModule):
		return err
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, &verifier):
		return notPermitted(err)
	case errors.Is(err, unix.ENOSYS):
		return &remediable{
			fmt.Errorf("%w: %w", ErrNotSupported, err),
			"the kernel has no bpf system call, or a seccomp filter hides it: allow bpf(2), or use a kernel with CONFIG_BPF_SYSCALL",
		}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, ErrNotSupported):
		if _, statErr := os.Stat("/sys/kernel/btf/vmlinux"); statErr != nil {
			return &remediable{
				fmt.Errorf("%w: %w", ErrNotSupported, err),
				"the kernel has no BTF at /sys/kernel/btf/vmlinux: use one with CONFIG_DEBUG_INFO_BTF, and mount /sys in the container",
			}
		}
		return &remediable{fmt.Errorf("%w: %w", ErrNotSupported, err), "use Linux 5.10 or newer"}
	case errors.As(err, &verifier):
		return &remediable{err, "the kernel's verifier refuses the program: report it with the kernel's version and the log of the verifier"}
	}
	return err
}

// notPermitted names the capabilities that are missing.
func notPermitted(err error) error {
	err = fmt.Errorf("%w: %w", ErrPermission, err)
	missing, capErr := missingCapabilities()
	switch {
	case capErr != nil:
		return errors.Join(err, capErr)
	case len(missing) > 0:
		return &remediable{
			fmt.Errorf("%s missing: %w", strings.Join(missing, " and "), err),
			fmt.Sprintf("give the process %s, for example with `setcap cap_bpf,cap_perfmon+ep` on the binary, AmbientCapabilities= of systemd "+
				"or capabilities.add of a Kubernetes securityContext", strings.Join(missing, " and ")),
		}
	default:
		return &remediable{err, "the process has CAP_BPF and CAP_PERFMON: look for a seccomp filter, a security module or kernel lockdown that refuses bpf(2)"}
	}
}

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
	for _, c := range []struct {
		name string
		bit  uint
	}{{"CAP_BPF", unix.CAP_BPF}, {"CAP_PERFMON", unix.CAP_PERFMON}} {
		if !has(c.bit) {
			missing = append(missing, c.name)
		}
	}
	return missing, nil
}
