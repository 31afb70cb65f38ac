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
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	if part := os.Getenv(loadEnv); part != "" {
		_ = load(part)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// repository makes a repository with a Makefile and an uncommitted change.
func repository(t *testing.T, recipe string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte("demo:\n\t@echo demo\ntest:\n\t"+recipe+"\n"), 0o600))
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"}} {
		out, err := exec.Command("git", append([]string{"-C", dir}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Makefile"), []byte("test:\n\tfalse\n"), 0o600))
	return dir
}

// children returns this process's children, which are the load.
func children(t *testing.T) (pids []int) {
	t.Helper()
	found, err := filepath.Glob("/proc/self/task/*/children")
	require.NoError(t, err)
	for _, file := range found {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, field := range strings.Fields(string(text)) {
			pid, err := strconv.Atoi(field)
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestRun checks that make demo and make test of the commit run the given number of times, with an initially empty
// build cache and three load processes, that a failed run is reported and counted, and that nothing is left behind.
func TestRun(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	dir := repository(t, "@ls $$GOCACHE; pgrep -c -P $$(ps -o ppid= -p $$PPID); until test -s ../written; do sleep 0.1; done; "+
		"echo >>$$GOCACHE/runs; test $$(wc -l <$$GOCACHE/runs) != 2")
	var out strings.Builder
	err := run(t.Context(), dir, 3, &out)
	require.EqualError(t, err, "1 of 6 failed", out.String())
	require.Regexp(t, `(?s)\nrun 1: make demo passed in \d+s\nrun 1: make test passed in .*run 2: make test FAILED: exit status 2 in .*run 3: make test passed in \d+s\n$`, out.String())
	first, err := os.ReadFile(filepath.Join(dir, "integration", "out", "busy", "1-test.log"))
	require.NoError(t, err)
	require.Equal(t, "4\n", string(first), "want an empty cache, and make and three load processes running")
	require.Empty(t, children(t))
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestInterrupted checks that make's child processes end too.
func TestInterrupted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	pidFile := filepath.Join(t.TempDir(), "pid")
	dir := repository(t, "@sleep 1000 & echo $$! >"+pidFile+"; wait")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- run(ctx, dir, 5, &strings.Builder{}) }()
	var pid int
	require.Eventually(t, func() bool {
		text, _ := os.ReadFile(pidFile)
		var err error
		pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	cancel()
	require.EqualError(t, <-done, "interrupted")
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, time.Minute, 10*time.Millisecond)
	require.Empty(t, children(t))
	left, err := os.ReadDir(temp)
	require.NoError(t, err)
	require.Empty(t, left)
}
