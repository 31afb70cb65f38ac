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
	"os"
	"path/filepath"
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

// TestAgain runs real tests: who fails once is run again and named, who fails twice has failed, and what is no test's own
// failure is not tried again.
func TestAgain(t *testing.T) {
	const head = "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\n"
	// What is done the first time only.
	once := func(name, do string) string {
		return `if _, err := os.Stat("` + name + `"); err != nil { os.WriteFile("` + name + `", nil, 0o600); ` + do + " }\n"
	}
	failsOnce := func(name string) string {
		return "func " + name + "(t *testing.T) {\n" + once(name, `t.Fatal("once")`) + "}\n"
	}
	const good = "func TestGood(t *testing.T) { os.Getpid() }\n"
	const bad = "func TestBad(t *testing.T) { t.Fatal(os.Getpid()) }\n"
	for name, want := range map[string]struct{ tests, end string }{
		"once":        {failsOnce("TestOnce") + good, "\nFailed first, and passed by itself:\n  p TestOnce\n\n2 passed, 0 failed, 0 skipped\n"},
		"bad":         {bad + good, ""},
		"panic":       {good + "func TestPanic(t *testing.T) {\n" + once("TestPanic", "panic(1)") + "}\n", ""},
		"data race":   {good + "func TestRace(t *testing.T) {\n" + once("TestRace", `t.Fatal("WARNING: DATA RACE")`) + "}\n", ""},
		"too many":    {failsOnce("TestOnce") + failsOnce("TestTwice") + failsOnce("TestThrice"), ""},
		"no build":    {good + "func TestGood() {}\n", ""},
		"test binary": {good + "func TestMain(m *testing.M) {\nm.Run()\n" + once("TestMain", "os.Exit(1)") + "}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module p\n"), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "p_test.go"), []byte(head+want.tests), 0o600))
			var out strings.Builder
			err := run([]string{dir}, nil, &out)
			if want.end == "" {
				require.Error(t, err, out.String())
				require.NotContains(t, out.String(), "passed by itself")
				return
			}
			require.NoError(t, err, out.String())
			require.True(t, strings.HasSuffix(out.String(), want.end), out.String())
		})
	}
}
