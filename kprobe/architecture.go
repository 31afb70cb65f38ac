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
	"fmt"
	"runtime"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// architectures are the target architectures of modules, by their Go names. An object's ELF header does not name its
// target: the machine is always eBPF. The fields of struct pt_regs and the names of system call functions reveal it.
var architectures = map[string]struct {
	compiler  string // its name in __TARGET_ARCH_
	function  string // prefix of system call functions
	registers []string
}{
	"amd64": {"x86", "__x64_sys_", []string{"orig_ax", "orig_rax", "di", "rdi"}},
	"arm64": {"arm64", "__arm64_sys_", []string{"syscallno", "orig_x0", "regs"}},
}

// checkArchitecture refuses a module that was compiled for an architecture other than this process's: system call
// numbers are constants in it, so a module that loads anyway would count something else.
func checkArchitecture(spec *ebpf.CollectionSpec) error {
	var registers *btf.Struct
	if err := spec.Types.TypeByName("pt_regs", &registers); err != nil {
		return nil
	}
	for arch, of := range architectures {
		for _, name := range of.registers {
			if arch != runtime.GOARCH && hasMember(registers, name) {
				return WithRemedy(
					fmt.Errorf("%w: it was compiled for %s, but this machine is %s: its struct pt_regs has %s", ErrInvalidModule, arch, runtime.GOARCH, name),
					compileFor(arch),
				)
			}
		}
	}
	return nil
}

func hasMember(s *btf.Struct, name string) bool {
	for _, m := range s.Members {
		if m.Name == name {
			return true
		}
	}
	return false
}

// architectureOf returns the only architecture that has a function, empty if unknown.
func architectureOf(function string) string {
	for arch, of := range architectures {
		if strings.HasPrefix(function, of.function) {
			return arch
		}
	}
	return ""
}

// compileFor returns the remedy for a module that was compiled for arch.
func compileFor(arch string) string {
	return fmt.Sprintf("compile the module for this machine, with -D__TARGET_ARCH_%s in place of -D__TARGET_ARCH_%s, or use its object for %s",
		architectures[runtime.GOARCH].compiler, architectures[arch].compiler, runtime.GOARCH)
}
