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

// Command init is the first and only process of a virtual machine in which the kernel runner runs test binaries.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/apache/skywalking-banyandb/ebpf/integration/tools/kernels/guest"
)

const (
	disk = "/dev/vda"
	data = "/data"
	// setupFailed is the exit code when no test could be run.
	setupFailed = 125
)

func main() {
	job, err := setUp()
	code := setupFailed
	if err != nil {
		say(guest.Trouble + err.Error())
	} else {
		code = run(job)
	}
	syscall.Sync()
	if err := report(job.ExitDevice, code); err != nil {
		say(guest.Trouble + err.Error())
	}
	drain(os.Stdout)
	// The virtual machine ends here: QEMU runs with -no-reboot.
	err = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
	say(guest.Trouble + "restarting: " + err.Error())
}

// say writes a frame on its own line, even if a test's output did not end its line.
func say(frame string) {
	fmt.Printf("\n%s\n", frame)
}

func setUp() (guest.Job, error) {
	var job guest.Job
	text, err := os.ReadFile(guest.JobFile)
	if err != nil {
		return job, err
	}
	if err := json.Unmarshal(text, &job); err != nil {
		return job, fmt.Errorf("reading %s: %w", guest.JobFile, err)
	}
	for _, m := range []struct{ kind, target, options string }{
		{"proc", "/proc", ""},
		{"sysfs", "/sys", ""},
		{"devtmpfs", "/dev", ""},
		{"securityfs", "/sys/kernel/security", ""},
		{"tracefs", "/sys/kernel/tracing", ""},
		{"bpf", "/sys/fs/bpf", ""},
		{"cgroup2", "/sys/fs/cgroup", ""},
		{"tmpfs", "/tmp", "mode=1777"},
	} {
		if err := mount(m.kind, m.kind, m.target, m.options); err != nil {
			return job, err
		}
	}
	if err := os.WriteFile("/sys/fs/cgroup/cgroup.subtree_control", []byte("+memory"), 0); err != nil {
		return job, fmt.Errorf("enabling the memory controller: %w", err)
	}
	for _, path := range job.Modules {
		if err := loadModule(path); err != nil {
			return job, err
		}
	}
	if err := mountData(); err != nil {
		return job, err
	}
	if err := loopbackUp(); err != nil {
		return job, fmt.Errorf("bringing up lo: %w", err)
	}
	return job, stateFacts()
}

func mount(device, kind, target, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(device, target, kind, 0, options); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", kind, target, err)
	}
	return nil
}

// mountData mounts the disk once the driver has found it, which may be some time after the module was loaded.
func mountData() error {
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(disk); err == nil {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s: the virtio disk was not found", disk)
		}
	}
	if err := mount(disk, "ext4", data, ""); err != nil {
		return err
	}
	// Tests that drop root write here as well.
	return os.Chmod(data, 0o777|os.ModeSticky)
}

func loadModule(path string) error {
	image, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	params := []byte{0}
	_, _, errno := syscall.Syscall(syscall.SYS_INIT_MODULE, uintptr(unsafe.Pointer(&image[0])), uintptr(len(image)), uintptr(unsafe.Pointer(&params[0])))
	if errno != 0 {
		return fmt.Errorf("loading module %s: %w", filepath.Base(path), errno)
	}
	return nil
}

func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	// struct ifreq
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

func stateFacts() error {
	var name syscall.Utsname
	if err := syscall.Uname(&name); err != nil {
		return fmt.Errorf("asking for the kernel's release: %w", err)
	}
	lockdown := "none"
	modes, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, rest, ok := strings.Cut(string(modes), "["); ok {
		lockdown, _, _ = strings.Cut(rest, "]")
	}
	say(guest.Fact + guest.Release + " " + text(name.Release[:]))
	say(guest.Fact + guest.Machine + " " + text(name.Machine[:]))
	say(guest.Fact + guest.Lockdown + " " + lockdown)
	return nil
}

// text converts a C string. Whether char is signed depends on the architecture.
func text[C int8 | uint8](chars []C) string {
	var b strings.Builder
	for _, c := range chars {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

// run returns the exit code of the last test binary that failed, or 0.
func run(job guest.Job) int {
	deadline := time.Now().Add(job.Budget)
	code := 0
	for _, test := range job.Tests {
		say(guest.Begin + test.Name)
		// A timeout of 0 would mean no timeout.
		left := max(time.Until(deadline), time.Second)
		cmd := exec.Command(test.Path, append([]string{"-test.timeout=" + left.String()}, test.Args...)...)
		cmd.Dir = test.Dir
		cmd.Env = []string{"PATH=/", "HOME=/tmp", "TMPDIR=" + data, "BANYANDB_EBPF_GUEST=1"}
		if job.InstructionClock {
			cmd.Env = append(cmd.Env, guest.InstructionClock+"=1")
		}
		// Directly to the console, so that no goroutine of init copies output while a test counts.
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		exit := 0
		if err := cmd.Run(); err != nil {
			exit = setupFailed
			if cmd.ProcessState != nil {
				// -1 if a signal ended it.
				exit = cmd.ProcessState.ExitCode()
			}
			say(fmt.Sprintf("%s: %v", test.Name, err))
			code = exit
		}
		say(fmt.Sprintf("%s%s %d", guest.End, test.Name, exit))
	}
	return code
}

func report(device string, code int) error {
	serial, err := os.OpenFile(device, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(serial, "%s%d\n", guest.Exit, code)
	drain(serial)
	return errors.Join(err, serial.Close())
}

// drain waits until the serial line has sent everything: a restart would discard the rest.
func drain(serial *os.File) {
	const tcsbrk = 0x5409
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, serial.Fd(), tcsbrk, 1)
}
