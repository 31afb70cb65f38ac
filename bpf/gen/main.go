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

//go:build !windows

// Command gen compiles every probe module (*.bpf.c) of the current folder for amd64 and arm64, with bpf2go's compiler
// driver, into <arch>/<module>.bpf.o. The objects must come out the same on every machine, so it insists on one
// version of clang.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf/cmd/bpf2go/gen"
)

// clang is the compiler whose output is committed.
const clang = "clang-14"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run compiles the modules of the current folder into the folder args[0], by default the current one.
func run(args []string) error {
	out := "."
	if len(args) > 0 {
		out = args[0]
	}
	if _, err := exec.LookPath(clang); err != nil {
		return fmt.Errorf("%w: install clang-14, llvm-14 and libbpf-dev", err)
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	sources, err := filepath.Glob("*.bpf.c")
	if err != nil {
		return err
	}
	for _, arch := range []gen.GoArch{"amd64", "arm64"} {
		target := gen.TargetsByGoArch()[arch]
		if err := os.MkdirAll(filepath.Join(out, string(arch)), 0o755); err != nil {
			return err
		}
		for _, source := range sources {
			dest, err := filepath.Abs(filepath.Join(out, string(arch), strings.TrimSuffix(source, ".c")+".o"))
			if err != nil {
				return err
			}
			err = gen.Compile(gen.CompileArgs{
				CC: clang, Strip: "llvm-strip-14",
				// v3 has 32-bit arithmetic and jumps; Linux 5.10 knows it.
				Flags:   []string{"-mcpu=v3", "-Wall", "-Werror"},
				Workdir: dir, Source: filepath.Join(dir, source), Dest: dest,
				Target: target,
			})
			if err != nil {
				return fmt.Errorf("compiling %s for %s: %w", source, arch, err)
			}
		}
	}
	return nil
}
