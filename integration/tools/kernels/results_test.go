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
	"errors"
	"slices"
	"strings"
	"testing"
)

// goodConsole is a guest's output, with serial line ends, marks of test2json, and tests that do not end their lines.
const goodConsole = "SeaBIOS\r\n\r\n@@fact release 6.12.1-cloud\r\n\r\n@@fact machine x86_64\r\n\r\n@@fact lockdown none\r\n" +
	"\r\n@@begin kprobe\r\n" +
	"\x16=== RUN   TestAttach\r\n\x16=== RUN   TestAttach/multi\r\n    attach_test.go:9: starting\r\n" +
	"    attach_test.go:12: no kprobe.multi:\r\n        ask for it\r\n    \x16--- SKIP: TestAttach/multi (0.00s)\r\n" +
	"\x16=== NAME  TestAttach\r\nMATRIX\tio/syscall\tfentry\r\nno newline    attach_test.go:20: MATRIX\tio/page|s\t16384\r\nMATRIX\tio/none\t\r\n" +
	"no newline\x16--- PASS: TestAttach (0.25s)\r\n\x16=== NAME  \r\nPASS\r\n\r\n@@end kprobe 0\r\n" +
	"\r\n@@begin observer\r\n\x16=== RUN   TestOpen\r\n\x16--- PASS: TestOpen (1.00s)\r\nPASS\r\n\r\n@@end observer 0\r\n[ 3.2] reboot: Restarting system\r\n"

func TestParseConsole(t *testing.T) {
	got := parseConsole(goodConsole)
	if got.facts["release"] != "6.12.1-cloud" || got.facts["machine"] != "x86_64" || got.facts["lockdown"] != "none" {
		t.Errorf("got facts %v", got.facts)
	}
	if !slices.Equal(got.matrix["io/syscall"], []string{"fentry"}) || !slices.Equal(got.matrix["io/page|s"], []string{"16384"}) || len(got.matrix) != 2 {
		t.Errorf("got matrix %v", got.matrix)
	}
	if passed, failed := got.tests("PASS"), got.tests("FAIL"); len(passed) != 2 || len(failed) != 0 || passed[1].name != "TestOpen" || passed[1].binary != "observer" {
		t.Errorf("got passed %v and failed %v", passed, failed)
	}
	skipped := got.tests("SKIP")
	if len(skipped) != 1 || skipped[0].name != "TestAttach/multi" || skipped[0].reason() != "no kprobe.multi: ask for it" {
		t.Errorf("got skipped %v", skipped)
	}
}

func TestJudge(t *testing.T) {
	plain := row{name: "6.12"}
	for name, test := range map[string]struct {
		console, exit string
		row           row
		binaries      int
		selected      bool
		err           error
		want          []string
	}{
		"good":     {console: goodConsole, exit: "EXIT=0\r\n", binaries: 2, row: plain},
		"no exit":  {console: goodConsole, binaries: 2, row: plain, want: []string{"no exit line"}},
		"bad exit": {console: goodConsole, exit: "EXIT=3", binaries: 2, row: plain, want: []string{"code 3"}},
		"no boot":  {console: "Kernel panic", exit: "", binaries: 2, row: plain, want: []string{"did not boot"}},
		"timeout":  {console: goodConsole, exit: "", err: errors.New("not done"), binaries: 2, row: plain, want: []string{"not done", "no exit line"}},
		"one lost": {console: goodConsole, exit: "EXIT=0", binaries: 3, row: plain, want: []string{"2 of 3"}},
		"no lock":  {console: goodConsole, exit: "EXIT=0", binaries: 2, row: row{lockdown: "integrity"}, want: []string{`lockdown is "none"`}},
		"cut off":  {console: strings.Split(goodConsole, "@@end observer")[0], binaries: 2, row: plain, want: []string{"observer did not end", "no exit line"}},
		"test bad": {console: strings.ReplaceAll(goodConsole, "PASS: TestOpen", "FAIL: TestOpen"), exit: "EXIT=1", binaries: 2, row: plain, want: []string{"observer: 1 failed"}},
		"main bad": {console: strings.ReplaceAll(goodConsole, "@@end observer 0", "@@end observer 99"), exit: "EXIT=99", binaries: 2, row: plain, want: []string{"code 99 and no failed"}},
		"skip":     {console: strings.ReplaceAll(goodConsole, "PASS: TestOpen", "SKIP: TestOpen"), exit: "EXIT=0", binaries: 2, row: plain, want: []string{"observer executed no test"}},
		"skip, -run": {
			console: strings.ReplaceAll(goodConsole, "PASS: TestOpen", "SKIP: TestOpen"), exit: "EXIT=0", binaries: 2, selected: true, row: plain,
		},
		"none": {
			console: strings.ReplaceAll(goodConsole, "--- PASS: Test", "--- SKIP: Test"), exit: "EXIT=0", binaries: 2, selected: true, row: plain,
			want: []string{"no test was executed"},
		},
		"setup": {console: goodConsole + "@@trouble no disk", exit: "EXIT=125", binaries: 2, row: plain, want: []string{"no disk"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(test.row, parseConsole(test.console), test.binaries, test.selected, test.exit, test.err)
			if len(got) != len(test.want) {
				t.Fatalf("got problems %q, want %q", got, test.want)
			}
			for i := range got {
				if !strings.Contains(got[i], test.want[i]) {
					t.Errorf("got problem %q, want %q", got[i], test.want[i])
				}
			}
		})
	}
}

func TestTables(t *testing.T) {
	results := []result{
		{row: row{name: "6.12"}, version: "6.12.1-1", transcript: parseConsole(goodConsole), elapsed: 12e9},
		{row: row{name: "newest"}, transcript: parseConsole(""), problems: []string{"running qemu: in /tmp/x\nmore"}},
	}
	var summary, document strings.Builder
	if err := writeSummary(&summary, results); err != nil {
		t.Fatal(err)
	}
	wantSummary := `row     kernel        package   passed  failed  skipped  seconds  problems
6.12    6.12.1-cloud  6.12.1-1  2       0       1        12       -
newest  -             -         0       0       0        0        running qemu: in /tmp/x
skipped: kprobe TestAttach/multi: no kprobe.multi: ask for it (6.12)
`
	if summary.String() != wantSummary {
		t.Errorf("got summary\n%s\nwant\n%s", summary.String(), wantSummary)
	}
	if err := writeDocument(&document, "the command", "sha256:0123", results); err != nil {
		t.Fatal(err)
	}
	wantDocument := `# Kernels

This page is written by

    the command

which boots each kernel in a virtual machine and runs the test binaries inside. Do not edit it. Below "chosen" stands how each
hook is attached there. The probe modules that were tested are

    sha256:0123

of bpf/*.bpf.c, bpf/*.h and the objects. If they have changed since, ` + "`make test`" + ` fails until the page is written anew.

|  | 6.12 | newest |
|---|---|---|
| release | 6.12.1-cloud | did not boot |
| package | 6.12.1-1 | - |
| architecture | x86_64 |  |
| lockdown | none |  |
| tests | 2 passed, 1 skipped | **bad**: 0 passed |
| io/page\|s | 16384 | - |
| io/syscall | fentry | - |

## Skipped tests

- kprobe TestAttach/multi: no kprobe.multi: ask for it (6.12)
`
	if document.String() != wantDocument {
		t.Errorf("got document\n%s\nwant\n%s", document.String(), wantDocument)
	}
}

func TestFailureShowsTheTestsOrTheConsole(t *testing.T) {
	bad := parseConsole(strings.ReplaceAll(goodConsole, "SKIP: TestAttach/multi", "FAIL: TestAttach/multi"))
	text := result{row: row{name: "6.12"}, transcript: bad, problems: []string{"kprobe: 1 failed"}, console: goodConsole}.failure()
	if !strings.Contains(text, "kprobe TestAttach/multi\n    attach_test.go:9: starting") || strings.Contains(text, "Restarting") {
		t.Errorf("got %s", text)
	}
	text = result{problems: []string{"the kernel did not boot"}, console: "Kernel panic\r\n"}.failure()
	if !strings.HasSuffix(text, "Kernel panic\n") {
		t.Errorf("got %s", text)
	}
}

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"-only", "newest,5.10", "-run", "Test"})
	if err != nil {
		t.Fatal(err)
	}
	if got := rowNames(o.rows); got != "newest,5.10" {
		t.Errorf("got rows %s", got)
	}
	o.out = "../docs/kernels.md"
	if got, want := documentCommand(o), `cd integration && go run ./tools/kernels -only newest,5.10 -run "Test" -out ../docs/kernels.md`; got != want {
		t.Errorf("got command %s, want %s", got, want)
	}
	for _, args := range [][]string{{"-only", "4.4"}, {"-j", "0"}, {"more"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestNamesOfTestBinaries(t *testing.T) {
	for pkg, want := range map[string]string{"../kprobe": "kprobe", "./tests/e2e/": "tests-e2e", "../bpf/internal/x": "bpf-internal-x"} {
		if got := testName(pkg); got != want {
			t.Errorf("%s: got %s, want %s", pkg, got, want)
		}
	}
}
