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

package guide_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/checkout"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// code returns all blocks in a language, concatenated.
func code(guide, language string) string {
	var all strings.Builder
	for _, part := range strings.Split(guide, "\n```"+language+"\n")[1:] {
		text, _, _ := strings.Cut(part, "\n```")
		all.WriteString(text + "\n")
	}
	return all.String()
}

// session runs a script in a folder and returns its output. The script stops at its first error. It runs in its own
// network namespace, where the default ports are free, and its own pid namespace, whose processes end with it.
func session(t *testing.T, dir, script string, env ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c",
		"set -eu\nip link set lo up\n"+script)
	cmd.Dir, cmd.Env, cmd.WaitDelay = dir, append(os.Environ(), env...), 10*time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestSDK follows docs/sdk.md with only the tarball, in an empty folder, as one shell session in its own network
// namespace, where the server's default ports are free.
func TestSDK(t *testing.T) {
	kprobetest.Require(t)
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(root, "docs", "sdk.md"))
	require.NoError(t, err)
	guide := string(content)
	example, err := os.ReadFile(filepath.Join(root, "bpf", "sdk", "listen.bpf.c"))
	require.NoError(t, err)
	require.Equal(t, string(example), block(t, guide, "c", `#include "probe.bpf.h"`), "the SDK's example must be the guide's")

	pack := func() []byte {
		_, runErr := checkout.Run(root, "make", "sdk")
		require.NoError(t, runErr)
		packed, readErr := os.ReadFile(filepath.Join(root, "integration", "out", "banyandb-ebpf-sdk.tar.gz"))
		require.NoError(t, readErr)
		return packed
	}
	tarball := pack()
	require.Equal(t, tarball, pack(), "the tarball must be reproducible")
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "banyandb-ebpf-sdk.tar.gz"), tarball, 0o600))

	// The guide's file is moved into place as soon as its folder exists.
	sdk := filepath.Join(dir, "banyandb-ebpf-sdk")
	unpack, rest, found := strings.Cut(code(guide, "sh"), "cd banyandb-ebpf-sdk\n")
	require.True(t, found)
	require.Contains(t, guide, "Write `listen.bpf.c`:")
	source := filepath.Join(dir, "listen.bpf.c")
	require.NoError(t, os.WriteFile(source, []byte(block(t, guide, "c", `#include "probe.bpf.h"`)), 0o600))
	script := "set -x\n" + unpack + "cd banyandb-ebpf-sdk\nmv " + source + " .\n" + rest
	binary, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	require.NoError(t, err)
	require.FileExists(t, banyandtest.DefaultBinary())
	shown, err := session(t, dir, script, "PATH="+binary+":"+os.Getenv("PATH"))
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(sdk, "banyand.log"))
		t.Logf("%s", log)
	}
	require.NoErrorf(t, err, "%s", shown)
	require.Regexp(t, `(?m)^listen +queue +iter *$`, shown)
	require.Regexp(t, `(?m)^listen +accept +(tracepoint|tp_btf)`, shown)
	require.Regexp(t, `(?m)^"listen":"queue by iter, accept by (tracepoint|tp_btf)"$`, shown)
	require.Regexp(t, `(?m)^banyandb_ebpf_listen_accepts_total\{result="taken"\} [1-9]`, shown)
	require.Regexp(t, `(?m)^banyandb_ebpf_listen_waiting_limit_connections [1-9]`, shown)
	// The bars add up to the growth of the measure from its first point to its last. A busy server stores the first
	// point later.
	bars := 0
	for line := range strings.Lines(shown) {
		if _, bar, ok := strings.Cut(line, " #"); ok && strings.Trim(bar, "#\n") == "" {
			bars += len(bar)
		}
	}
	grown, err := checkout.Run(sdk, "jq", `[.. | .dataPoints? // empty | .[] | select(any(.tagFamilies[].tags[]; .value.str.value? == "taken"))
		| .fields[0].value.float.value] | max - min`, "answer.json")
	require.NoError(t, err)
	require.Positive(t, bars, shown)
	require.Equal(t, strings.TrimSpace(grown), strconv.Itoa(bars), shown)
	require.FileExists(t, filepath.Join(sdk, "example", "listen.bpf.c"))

	// The module's own test, as the guide describes it.
	require.Contains(t, guide, "write `test/listen_test.go`:")
	require.NoError(t, os.Mkdir(filepath.Join(sdk, "test"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(sdk, "test", "listen_test.go"), []byte(block(t, guide, "go", "package listen")), 0o600))
	passed, err := checkout.Run(sdk, "env", "EBPF="+root, "bash", "-ec", code(guide, "bash"))
	require.NoError(t, err)
	require.Contains(t, passed, "--- PASS: TestListen")
}

// TestSDKTools checks that the Makefile reports what is missing.
func TestSDKTools(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"Makefile", "listen.bpf.c"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "bpf", "sdk", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	for want, args := range map[string][]string{
		"nosuch is missing; on Debian and Ubuntu: apt-get install clang llvm libbpf-dev": {"CLANG=nosuch"},
		"modules run on x86_64 and arm64, not on riscv64":                                {"ARCH=riscv64"},
		// Without the SDK's include/kernel.h the check for libbpf's headers fails.
		"the headers of libbpf are missing (bpf/bpf_helpers.h)": {"CLANG=clang-14"},
	} {
		cmd := exec.Command("make", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), want)
	}
}
