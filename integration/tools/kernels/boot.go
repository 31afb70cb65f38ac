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

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ext4"
	"github.com/apache/skywalking-banyandb/ebpf/integration/tools/kernels/guest"
)

// row is one kernel of the matrix.
type row struct {
	name string
	// suite is the Debian suite that the kernel comes from.
	suite string
	// arch is the architecture, as Go and Debian name it.
	arch string
	// lockdown is the mode to set on the kernel's command line, and to expect in the guest. Empty is none.
	lockdown string
	// memory of the guest, in MiB.
	memory int
}

// The page cache and reclaim tests read 64 MiB, and the test binaries are in memory as well.
var rows = []row{
	{name: "5.10", suite: "bullseye", arch: "amd64", memory: 512},
	{name: "6.1", suite: "bookworm", arch: "amd64", memory: 512},
	{name: "6.12", suite: "trixie", arch: "amd64", memory: 512},
	{name: "newest", suite: "sid", arch: "amd64", memory: 512},
	{name: "6.12-lockdown", suite: "trixie", arch: "amd64", lockdown: "confidentiality", memory: 512},
	{name: "newest-lockdown", suite: "sid", arch: "amd64", lockdown: "confidentiality", memory: 512},
	{name: "6.12-arm64", suite: "trixie", arch: "arm64", memory: 512},
}

// machine is the virtual hardware of an architecture.
type machine struct {
	command, pkg string
	machine, cpu string
	console      string
	// exitSerial is QEMU's name of the serial port for the exit line, exitDevice the guest's.
	exitSerial, exitDevice string
}

// The machine microvm hangs every other time. On arm64, full pointer authentication would take half of the time.
var machines = map[string]machine{
	"amd64": {
		command: "qemu-system-x86_64", pkg: "qemu-system-x86", machine: "q35", cpu: "max",
		console: "ttyS0", exitSerial: "isa-serial", exitDevice: "/dev/ttyS1",
	},
	"arm64": {
		command: "qemu-system-aarch64", pkg: "qemu-system-arm", machine: "virt", cpu: "max,pauth-impdef=on",
		console: "ttyAMA0", exitSerial: "pci-serial", exitDevice: "/dev/ttyS0",
	},
}

// suite is what every guest of one architecture runs.
type suite struct {
	// init is the path of the init binary.
	init  string
	tests []testBinary
	// args are given to each test binary.
	args []string
	// instructionClock makes the guest's clock count instructions.
	instructionClock bool
}

// testBinary is a test binary built for a guest, and the folder of its package.
type testBinary struct {
	name, path, dir string
}

// boot runs the tests in a virtual machine with the kernel and returns the console's text and the exit line.
// It keeps its files in dir and copies the console to watch as it is written. When ctx is done, QEMU is killed.
func (r row) boot(ctx context.Context, k kernel, s suite, budget time.Duration, dir string, watch io.Writer) (console, exit string, err error) {
	m := machines[r.arch]
	initrd, disk, exitFile := filepath.Join(dir, "initrd"), filepath.Join(dir, "disk"), filepath.Join(dir, "exit")
	if err := packInitrd(initrd, k, s, guest.Job{ExitDevice: m.exitDevice, Budget: budget, InstructionClock: s.instructionClock}); err != nil {
		return "", "", fmt.Errorf("packing the initramfs of %s: %w", r.name, err)
	}
	if err := ext4.Make(ctx, disk, 1<<30); err != nil {
		return "", "", err
	}
	// Hardening takes a quarter of an emulated machine's time, and there is nothing to protect here.
	cmdline := "console=" + m.console + " panic=-1 quiet loglevel=1 mitigations=off init_on_alloc=0"
	if r.lockdown != "" {
		cmdline += " lockdown=" + r.lockdown
	}
	// One CPU: with two, multi-threaded emulation makes kernels fail in ways that hardware does not.
	qemu := exec.CommandContext(ctx, m.command, "-machine", m.machine, "-accel", "tcg", "-cpu", m.cpu, "-smp", "1",
		"-m", fmt.Sprintf("%dM", r.memory), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "stdio", "-chardev", "file,id=exit,path="+exitFile, "-device", m.exitSerial+",chardev=exit",
		"-drive", "file="+disk+",format=raw,if=none,id=disk,cache=unsafe", "-device", "virtio-blk-pci,drive=disk",
		"-kernel", k.image, "-initrd", initrd, "-append", cmdline)
	if s.instructionClock {
		// One instruction takes one nanosecond, and idling takes no time.
		qemu.Args = append(qemu.Args, "-icount", "shift=0,sleep=off")
	}
	// A machine must not outlive the runner, however the runner ends. Pdeathsig is tied to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var text, stderr bytes.Buffer
	qemu.Stdout, qemu.Stderr = io.MultiWriter(&text, watch), &stderr
	if err = qemu.Run(); err != nil {
		err = fmt.Errorf("running %s: %w%s", m.command, err, strings.TrimRight("\n"+stderr.String(), "\n"))
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return text.String(), "", err
	}
	line, err := os.ReadFile(exitFile)
	return text.String(), string(line), err
}

// packInitrd writes an archive with init, its job and the files that the job names.
func packInitrd(name string, k kernel, s suite, job guest.Job) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	archive := newNewcWriter(file)
	add := func(target, source string) error {
		content, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		archive.file(target, content)
		return nil
	}
	if err := add("/init", s.init); err != nil {
		return err
	}
	for _, module := range k.modules {
		target := "/modules/" + filepath.Base(module)
		if err := add(target, module); err != nil {
			return err
		}
		job.Modules = append(job.Modules, target)
	}
	for _, test := range s.tests {
		dir := "/tests/" + test.name
		program := path.Join(dir, test.name+".test")
		if err := add(program, test.path); err != nil {
			return err
		}
		if err := addTree(add, filepath.Join(test.dir, "testdata"), path.Join(dir, "testdata")); err != nil {
			return err
		}
		job.Tests = append(job.Tests, guest.Test{Name: test.name, Dir: dir, Path: program, Args: s.args})
	}
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	archive.file(guest.JobFile, text)
	return archive.close()
}

// addTree adds the files of a folder, if it exists.
func addTree(add func(target, source string) error, source, target string) error {
	return filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && name == source {
			return nil
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		inside, err := filepath.Rel(source, name)
		if err != nil {
			return err
		}
		return add(path.Join(target, filepath.ToSlash(inside)), name)
	})
}

// build builds init and the tests of the packages for an architecture into dir. Packages without tests are left out.
func build(ctx context.Context, arch string, packages []string, dir string) (suite, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return suite{}, err
	}
	s := suite{init: filepath.Join(dir, "init")}
	if err := goTool(ctx, arch, ".", "build", "-o", s.init, "github.com/apache/skywalking-banyandb/ebpf/integration/tools/kernels/init"); err != nil {
		return suite{}, err
	}
	for _, pkg := range packages {
		test := testBinary{name: testName(pkg), dir: pkg}
		test.path = filepath.Join(dir, test.name+".test")
		// Run in the package's folder, so that it is built in its own module.
		if err := goTool(ctx, arch, pkg, "test", "-c", "-o", test.path, "."); err != nil {
			return suite{}, err
		}
		if _, err := os.Stat(test.path); err == nil {
			s.tests = append(s.tests, test)
		}
	}
	if len(s.tests) == 0 {
		return suite{}, fmt.Errorf("none of the packages %s has tests", strings.Join(packages, ", "))
	}
	return s, nil
}

// testName names the test binary of a package by its folder.
func testName(pkg string) string {
	name := strings.TrimLeft(filepath.ToSlash(filepath.Clean(pkg)), "./")
	return strings.ReplaceAll(name, "/", "-")
}

func goTool(ctx context.Context, arch, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("running %s in %s: %w\n%s", strings.Join(cmd.Args, " "), dir, err, bytes.TrimSpace(text))
	}
	return nil
}

// linePrefix writes each line with a prefix.
type linePrefix struct {
	w      io.Writer
	prefix string
	rest   []byte
}

func (p *linePrefix) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	for {
		line, rest, found := bytes.Cut(p.rest, []byte("\n"))
		if !found {
			return len(b), nil
		}
		if _, err := fmt.Fprintf(p.w, "%s%s\n", p.prefix, bytes.TrimRight(line, "\r")); err != nil {
			return 0, err
		}
		p.rest = bytes.Clone(rest)
	}
}
