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

// Package guide_test follows the guides in docs, such as docs/adding-a-module.md, literally.
package guide_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/checkout"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// block returns the guide's only code block in a language that contains the text.
func block(t *testing.T, guide, language, text string) string {
	t.Helper()
	var found []string
	for _, part := range strings.Split(guide, "\n```"+language+"\n")[1:] {
		if code, _, _ := strings.Cut(part, "\n```"); strings.Contains(code, text) {
			found = append(found, code+"\n")
		}
	}
	require.Lenf(t, found, 1, "%s blocks with %q", language, text)
	return found[0]
}

// TestGuide adds the guide's module to a copy of the repository, with one C file and one command. It checks that the
// metric is exact, by the guide's own test, and is in the group _monitoring of the real server.
func TestGuide(t *testing.T) {
	kprobetest.Require(t)
	content, err := os.ReadFile("../../../docs/adding-a-module.md")
	require.NoError(t, err)
	guide := string(content)
	dir := t.TempDir()
	require.NoError(t, checkout.Copy(dir))
	write := func(name, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	run := func(folder string, args ...string) string {
		out, err := checkout.Run(filepath.Join(dir, folder), args[0], args[1:]...)
		require.NoError(t, err)
		return out
	}

	require.Contains(t, guide, "Write `bpf/task.bpf.c`:")
	write("bpf/task.bpf.c", block(t, guide, "c", `#include "probe.bpf.h"`))
	require.Contains(t, guide, "make generate")
	run(".", "go", "generate", "./bpf")
	require.Contains(t, guide, "Write `observer/task_linux_test.go`")
	write("observer/task_linux_test.go", block(t, guide, "go", "package observer_test"))
	require.Contains(t, guide, "go test -count=1 -run TestTaskExact -v ./observer")
	require.Contains(t, run(".", "go", "test", "-count=1", "-run", "TestTaskExact", "-v", "./observer"), "--- PASS: TestTaskExact")

	// Build the copy's server with the existing copy of upstream.
	upstream, err := filepath.Abs("../../banyandb")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(upstream, filepath.Join(dir, "integration", "banyandb")))
	run("integration", "env", "GOWORK="+filepath.Join(dir, "integration", "go.work"), "go", "build", "-o", "bin/banyand", "./cmd/banyand")
	binary := filepath.Join(dir, "integration", "bin", "banyand")
	plan := run(".", binary, "ebpf", "plan", "--ebpf-modules=task")
	require.Regexp(t, `(?m)^task +start +tp_btf`, plan)

	server, err := banyandtest.Start(t.Context(), banyandtest.Options{Binary: binary, Flags: append([]string{
		"--ebpf-enabled", "--ebpf-modules=io,task", "--ebpf-collect-interval=1s",
		"--observability-modes=native,prometheus", "--observability-native-flush-interval=1s",
	}, load.ServerFlags...)})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	conn, err := server.Dial()
	require.NoError(t, err)
	defer conn.Close()
	_, err = load.Run(t.Context(), conn, load.Options{Duration: 3 * time.Second})
	require.NoError(t, err)
	var samples ask.Samples
	for deadline := time.Now().Add(5 * time.Minute); len(samples) == 0 && time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		samples, err = ask.BydbQL(server.HTTP)(t.Context(), "ebpf_task_started_total")
		require.NoError(t, err)
	}
	require.Positive(t, samples.With("kind", "thread").Sum())
}
