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

// Command gen compiles a probe module (*.bpf.c), or each of a folder (by default the current one), for amd64 and arm64, with
// bpf2go's compiler driver, into <out>/<arch>/<module>.bpf.o (by default beside the sources). The objects must come out
// the same on every machine, so it insists on one version of clang.
//
//	gen [-arch ARCH,...] [folder or file [out]]
package main

import (
	"flag"
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
	archs := flag.String("arch", "amd64,arm64", "the architectures to compile for")
	flag.Parse()
	if err := run(strings.Split(*archs, ","), flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(archs, args []string) error {
	dir := "."
	if len(args) > 0 {
		dir = args[0]
	}
	pattern, out := filepath.Join(dir, "*.bpf.c"), dir
	if strings.HasSuffix(dir, ".bpf.c") {
		pattern, out = dir, filepath.Dir(dir)
	}
	if len(args) > 1 {
		out = args[1]
	}
	if _, err := exec.LookPath(clang); err != nil {
		return fmt.Errorf("%w: install clang-14, llvm-14 and libbpf-dev", err)
	}
	sources, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("no *.bpf.c in %q", dir)
	}
	for _, arch := range archs {
		target, ok := gen.TargetsByGoArch()[gen.GoArch(arch)]
		if !ok {
			return fmt.Errorf("unknown architecture %q", arch)
		}
		folder := filepath.Join(out, arch)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		for _, source := range sources {
			if err := compile(source, folder, target); err != nil {
				return fmt.Errorf("compiling %s for %s: %w", source, arch, err)
			}
		}
	}
	return nil
}

func compile(source, folder string, target gen.Target) error {
	source, err := filepath.Abs(source)
	if err != nil {
		return err
	}
	folder, err = filepath.Abs(folder)
	if err != nil {
		return err
	}
	return gen.Compile(gen.CompileArgs{
		CC: clang, Strip: "llvm-strip-14",
		// v3 has 32-bit arithmetic and jumps; Linux 5.10 knows it.
		Flags:   []string{"-mcpu=v3", "-Wall", "-Werror"},
		Workdir: filepath.Dir(source), Source: source,
		Dest:   filepath.Join(folder, strings.TrimSuffix(filepath.Base(source), ".c")+".o"),
		Target: target,
	})
}
