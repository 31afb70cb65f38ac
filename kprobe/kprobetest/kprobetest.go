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

// Package kprobetest helps tests that need the kernel.
package kprobetest

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/internal/step"
)

// Require skips a test if this machine does not have Linux, BTF, or the capabilities. These are the only reasons to
// skip a kernel test without asking the kernel; if they do not apply, every other error is a failure.
func Require(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("eBPF needs Linux")
	}
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		t.Skipf("no kernel BTF: %v", err)
	}
	if !capable() {
		t.Skip("loading eBPF needs CAP_BPF and CAP_PERFMON")
	}
}

// Steps makes each step of loading that the kernel may refuse call f first, with a description of the step, until the
// test ends or Steps is called again. If f returns an error, the step fails with it. Nothing may be loaded
// concurrently.
func Steps(t testing.TB, f func(what string) error) {
	step.Test = f
	t.Cleanup(func() { step.Test = nil })
}

// capable reports whether this process has CAP_PERFMON (38) and CAP_BPF (39).
func capable() bool {
	const both = 1<<38 | 1<<39
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(status), "CapEff:\t")
	effective, err := strconv.ParseUint(strings.SplitN(after, "\n", 2)[0], 16, 64)
	return err == nil && effective&both == both
}

// childEnv names the test that a child process is to run.
const childEnv = "KPROBETEST_CHILD"

// InChild reports whether the test runs in its own child process. In the parent it starts that child, which is this
// test binary with only the calling test, modified by configure (which may be nil). It fails the test if the child
// fails, and returns false: the parent must then return.
func InChild(t *testing.T, configure func(*exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m")
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name())
	if configure != nil {
		configure(cmd)
	}
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "the test in a child process:\n%s", out)
	require.Contains(t, string(out), "--- PASS: "+t.Name(), "the test in a child process did not run")
	t.Logf("in a child process:\n%s", out)
	return false
}
