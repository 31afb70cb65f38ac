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

package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResults(t *testing.T) {
	var out strings.Builder
	r := &results{out: &out, output: map[string][]string{}, failing: map[string][]string{}}
	require.NoError(t, r.read(strings.NewReader(`
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestGood/sub"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestAway","Output":"    a_test.go:7: no such kernel: really\n"}
{"Action":"output","Package":"p","Test":"TestAway","Output":"--- SKIP: TestAway (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestAway"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"it broke\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"fail","Package":"p"}
not an event`)))
	require.Equal(t, 1, r.passed)
	require.Equal(t, 1, r.failed)
	require.Equal(t, []string{"TestAway: no such kernel: really"}, r.skipped)
	require.Contains(t, out.String(), "it broke")
	require.Contains(t, out.String(), "not an event")
	require.NotContains(t, out.String(), "quiet")
}

// TestAgain runs real tests. A listed test that fails once is rerun and named, one that fails twice is a failure. A
// test that is not listed is not rerun, nor is any test after a panic, a data race or a build failure.
func TestAgain(t *testing.T) {
	const head = "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\n"
	// once returns code that runs do only the first time.
	once := func(name, do string) string {
		return `if _, err := os.Stat("` + name + `"); err != nil { os.WriteFile("` + name + `", nil, 0o600); ` + do + " }\n"
	}
	failsOnce := func(name string) string {
		return "func " + name + "(t *testing.T) {\n" + once(name, `t.Fatal("once")`) + "}\n"
	}
	const good = "func TestGood(t *testing.T) { os.Getpid() }\n"
	const bad = "func TestBad(t *testing.T) { t.Fatal(os.Getpid()) }\n"
	list := []unsteady{
		{"p", "TestOnce", "first"},
		{"p", "TestTwice", "second"},
		{"p", "TestBad", "bad"},
		{"p", "TestPanic", "panics"},
		{"p", "TestRace", "races"},
		{"q", "TestOfP", "of another package"},
	}
	for name, want := range map[string]struct{ tests, end string }{
		"once":            {failsOnce("TestOnce") + good, "\nFailed at first, then passed alone:\n  p TestOnce: first\n\n2 passed, 0 failed, 0 skipped\n"},
		"two":             {failsOnce("TestOnce") + failsOnce("TestTwice"), "  p TestOnce: first\n  p TestTwice: second\n\n2 passed, 0 failed, 0 skipped\n"},
		"bad":             {bad + good, ""},
		"on no list":      {failsOnce("TestOther") + good, ""},
		"one on no list":  {failsOnce("TestOnce") + failsOnce("TestOther"), ""},
		"another package": {failsOnce("TestOfP"), ""},
		"panic":           {good + "func TestPanic(t *testing.T) {\n" + once("TestPanic", "panic(1)") + "}\n", ""},
		"data race":       {good + "func TestRace(t *testing.T) {\n" + once("TestRace", `t.Fatal("WARNING: DATA RACE")`) + "}\n", ""},
		"no build":        {good + "func TestGood() {}\n", ""},
		"test binary":     {good + "func TestMain(m *testing.M) {\nm.Run()\n" + once("TestMain", "os.Exit(1)") + "}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "go.mod"), "module p\n")
			write(t, filepath.Join(dir, "p_test.go"), head+want.tests)
			var out strings.Builder
			err := run([]string{dir}, nil, list, &out)
			if want.end == "" {
				require.Error(t, err, out.String())
				require.NotContains(t, out.String(), "passed alone")
				return
			}
			require.NoError(t, err, out.String())
			require.True(t, strings.HasSuffix(out.String(), want.end), out.String())
		})
	}
}

// TestListed checks that each listed test exists and has a reason.
func TestListed(t *testing.T) {
	require.Empty(t, unknown(t, again))
	const observer = "github.com/apache/skywalking-banyandb/ebpf/observer"
	wrong := []unsteady{{observer, "TestIOExact", ""}, {observer, "TestNoSuch", "a"}, {observer + "/none", "TestIOExact", "a"}, {"p", "TestIOExact", "a"}}
	require.Equal(t, wrong, unknown(t, append(wrong, unsteady{observer, "TestIOExact", "a"})))
}

// unknown returns the entries without a reason or without an existing test.
func unknown(t *testing.T, list []unsteady) (wrong []unsteady) {
	t.Helper()
	for _, u := range list {
		folder, ours := strings.CutPrefix(u.pkg, "github.com/apache/skywalking-banyandb/ebpf/")
		files, err := filepath.Glob(filepath.Join("..", "..", "..", filepath.FromSlash(folder), "*_test.go"))
		require.NoError(t, err)
		exists := slices.ContainsFunc(files, func(file string) bool {
			return strings.Contains(read(t, file), "\nfunc "+u.test+"(t *testing.T) {\n")
		})
		if !ours || !exists || u.reason == "" {
			wrong = append(wrong, u)
		}
	}
	return wrong
}

// TestOtherModulesFiles checks that a test that reads another module's file fails once that file is wrong, although go
// test would show its cached result.
func TestOtherModulesFiles(t *testing.T) {
	// GOFLAGS may set -count.
	t.Setenv("GOFLAGS", "")
	dir := t.TempDir()
	for _, module := range []string{"p", "q"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, module), 0o700))
		write(t, filepath.Join(dir, module, "go.mod"), "module "+module+"\n")
	}
	other := filepath.Join(dir, "q", "text")
	write(t, other, "right")
	write(t, filepath.Join(dir, "p", "p_test.go"), `package p

import (
	"os"
	"testing"
)

func TestText(t *testing.T) {
	if text, err := os.ReadFile("../q/text"); err != nil || string(text) != "right" {
		t.Fatal(string(text), err)
	}
}
`)
	gate := func() error {
		return run([]string{filepath.Join(dir, "p")}, []string{"-timeout", "20m"}, again, io.Discard)
	}
	require.NoError(t, gate())
	write(t, other, "wrong")
	require.Error(t, gate())
}

// TestNothingKept checks that the Makefile's other test commands do not use cached results either. Benchmarks are never
// cached.
func TestNothingKept(t *testing.T) {
	found := 0
	for _, file := range []string{"../../../Makefile", "../../integration.mk"} {
		for line := range strings.Lines(read(t, file)) {
			if strings.Contains(line, "go test") {
				found++
				require.Regexp(t, " -count=1 | -bench ", line)
			}
		}
	}
	require.Positive(t, found)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}
