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
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/integration/tools/kernels/guest"
)

// result is the result of one row.
type result struct {
	row row
	// version is the version of the kernel's package.
	version string
	transcript
	// problems lists what is wrong. The row is good if it is empty.
	problems []string
	console  string
	elapsed  time.Duration
}

// transcript is the parsed console of a guest.
type transcript struct {
	// facts are the facts that init writes.
	facts map[string]string
	// matrix has the values that tests reported with lines of MATRIX, key and value, separated by tabs.
	matrix   map[string][]string
	binaries []*binaryRun
	trouble  []string
}

// binaryRun is the run of one test binary.
type binaryRun struct {
	name  string
	tests []testRun
	exit  int
	ended bool
}

// testRun is the run of one test or subtest.
type testRun struct {
	binary, name string
	// outcome is PASS, FAIL or SKIP.
	outcome string
	output  []string
}

const matrixPrefix = "MATRIX\t"

var (
	testStarts = regexp.MustCompile(`^=== (?:RUN|CONT|NAME|PAUSE)\s+(\S*)`)
	testEnds   = regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): (\S+) \(`)
	logLine    = regexp.MustCompile(`^\s*[^\s:]+\.go:\d+: (.*)`)
)

// parseConsole parses the frames of init and the output of tests that ran with -test.v=test2json.
func parseConsole(console string) transcript {
	t := transcript{facts: map[string]string{}, matrix: map[string][]string{}}
	var binary *binaryRun
	var current string
	outputs := map[string][]string{}
	// The mark of test2json starts a new line, even if a test did not end its line.
	for line := range strings.Lines(strings.ReplaceAll(console, "\x16", "\n")) {
		line = strings.TrimRight(line, "\r\n")
		if _, rest, ok := strings.Cut(line, matrixPrefix); ok {
			key, value, _ := strings.Cut(rest, "\t")
			if value = strings.TrimSpace(value); value != "" && !slices.Contains(t.matrix[key], value) {
				t.matrix[key] = append(t.matrix[key], value)
				slices.Sort(t.matrix[key])
			}
			continue
		}
		frame, rest, _ := strings.Cut(line, " ")
		switch frame += " "; {
		case frame == guest.Fact:
			key, value, _ := strings.Cut(rest, " ")
			t.facts[key] = value
		case frame == guest.Trouble:
			t.trouble = append(t.trouble, rest)
		case frame == guest.Begin:
			binary = &binaryRun{name: rest}
			t.binaries = append(t.binaries, binary)
			current = ""
			clear(outputs)
		case binary == nil:
			continue
		case frame == guest.End:
			code, err := strconv.Atoi(strings.TrimPrefix(rest, binary.name+" "))
			binary.exit, binary.ended = code, err == nil
			binary = nil
		case testStarts.MatchString(line):
			current = testStarts.FindStringSubmatch(line)[1]
		case testEnds.MatchString(line):
			match := testEnds.FindStringSubmatch(line)
			binary.tests = append(binary.tests, testRun{binary: binary.name, name: match[2], outcome: match[1], output: outputs[match[2]]})
		case strings.TrimSpace(line) != "":
			outputs[current] = append(outputs[current], line)
		}
	}
	return t
}

// reason returns why a test was skipped: the last thing that it logged.
func (t testRun) reason() string {
	for i := len(t.output) - 1; i >= 0; i-- {
		if match := logLine.FindStringSubmatch(t.output[i]); match != nil {
			words := match[1]
			for _, more := range t.output[i+1:] {
				words += " " + strings.TrimSpace(more)
			}
			return words
		}
	}
	return "no reason given"
}

// tests returns the runs with an outcome, of all test binaries.
func (t transcript) tests(outcome string) []testRun {
	var runs []testRun
	for _, binary := range t.binaries {
		for _, test := range binary.tests {
			if test.outcome == outcome {
				runs = append(runs, test)
			}
		}
	}
	return runs
}

// judge returns what is wrong with a run. Each binary must have executed a test, unless only some tests were selected.
func judge(r row, t transcript, binaries int, selected bool, exit string, err error) []string {
	var problems []string
	complain := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if err != nil {
		complain("%v", err)
	}
	for _, trouble := range t.trouble {
		complain("the guest could not be set up: %s", trouble)
	}
	if t.facts[guest.Release] == "" {
		complain("the kernel did not boot")
		return problems
	}
	if want := cmp.Or(r.lockdown, "none"); t.facts[guest.Lockdown] != want {
		complain("lockdown is %q, want %q", t.facts[guest.Lockdown], want)
	}
	for _, binary := range t.binaries {
		failed, executed := 0, 0
		for _, test := range binary.tests {
			if test.outcome != "SKIP" {
				executed++
			}
			if test.outcome == "FAIL" {
				failed++
			}
		}
		switch {
		case !binary.ended:
			complain("%s did not end", binary.name)
		case failed > 0:
			complain("%s: %d failed", binary.name, failed)
		case binary.exit != 0:
			complain("%s exited with code %d and no failed test", binary.name, binary.exit)
		case executed == 0 && !selected:
			complain("%s executed no test", binary.name)
		}
	}
	if len(t.tests("PASS"))+len(t.tests("FAIL")) == 0 {
		complain("no test was executed")
	}
	if len(t.binaries) != binaries {
		complain("%d of %d test binaries ran", len(t.binaries), binaries)
	}
	code, found := strings.CutPrefix(strings.TrimSpace(exit), guest.Exit)
	if !found {
		complain("the guest gave no exit line")
	} else if code != "0" && len(problems) == 0 {
		complain("the guest ended with code %s", code)
	}
	return problems
}

// failure returns what is needed to understand a bad row: the failed tests' output, and the end of the console unless
// tests failed and each test binary ended regularly.
func (r result) failure() string {
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s:\n", r.row.name)
	for _, problem := range r.problems {
		fmt.Fprintf(&b, "    %s\n", problem)
	}
	failed := r.tests("FAIL")
	for _, test := range failed {
		fmt.Fprintf(&b, "%s %s\n%s\n", test.binary, test.name, lastLines(strings.Join(test.output, "\n"), 40))
	}
	// The test framework exits with 1 if tests failed.
	irregular := slices.ContainsFunc(r.binaries, func(binary *binaryRun) bool { return !binary.ended || binary.exit > 1 || binary.exit < 0 })
	if r.console != "" && (irregular || len(failed) == 0) {
		fmt.Fprintf(&b, "The console's end:\n%s\n", lastLines(strings.NewReplacer("\r", "", "\x16", "").Replace(r.console), 60))
	}
	return b.String()
}

// writeSummary writes one line per row, and why tests were skipped.
func writeSummary(w io.Writer, results []result) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "row\tkernel\tpackage\tpassed\tfailed\tskipped\tseconds\tproblems")
	for _, r := range results {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%d\t%.0f\t%.80s\n", r.row.name, cmp.Or(r.facts[guest.Release], "-"), cmp.Or(r.version, "-"),
			len(r.tests("PASS")), len(r.tests("FAIL")), len(r.tests("SKIP")), r.elapsed.Seconds(), cmp.Or(r.headline(), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range skips(results) {
		if _, err := fmt.Fprintf(w, "skipped: %s\n", s); err != nil {
			return err
		}
	}
	return nil
}

// skips returns a line per skipped test and reason, with its rows.
func skips(results []result) []string {
	where := map[string][]string{}
	for _, r := range results {
		for _, test := range r.tests("SKIP") {
			line := fmt.Sprintf("%s %s: %s", test.binary, test.name, test.reason())
			where[line] = append(where[line], r.row.name)
		}
	}
	var lines []string
	for _, line := range slices.Sorted(maps.Keys(where)) {
		lines = append(lines, fmt.Sprintf("%s (%s)", line, strings.Join(where[line], ", ")))
	}
	return lines
}

// writeDocument writes the matrix as Markdown: a column per kernel, a line per key. Its output is deterministic.
func writeDocument(w io.Writer, command, modules string, results []result) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# Kernels

This page is written by

    %s

which boots each kernel in a virtual machine and runs the test binaries inside. Do not edit it. Below "chosen" stands how each
hook is attached there. The probe modules that were tested are

    %s

of bpf/*.bpf.c, bpf/*.h and the objects. If they have changed since, `+"`make test`"+` fails until the page is written anew.

`, command, modules)
	line := func(title string, cell func(r result) string) {
		escape := strings.NewReplacer("|", `\|`)
		fmt.Fprintf(&b, "| %s |", escape.Replace(title))
		for _, r := range results {
			fmt.Fprintf(&b, " %s |", escape.Replace(cell(r)))
		}
		b.WriteString("\n")
	}
	line("", func(r result) string { return r.row.name })
	b.WriteString("|" + strings.Repeat("---|", len(results)+1) + "\n")
	line("release", func(r result) string { return cmp.Or(r.facts[guest.Release], "did not boot") })
	line("package", func(r result) string { return cmp.Or(r.version, "-") })
	line("architecture", func(r result) string { return r.facts[guest.Machine] })
	line("lockdown", func(r result) string { return r.facts[guest.Lockdown] })
	line("tests", result.outcome)
	keys := map[string]bool{}
	for _, r := range results {
		for key := range r.matrix {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		line(key, func(r result) string { return cmp.Or(strings.Join(r.matrix[key], ", "), "-") })
	}
	if skipped := skips(results); len(skipped) > 0 {
		b.WriteString("\n## Skipped tests\n\n")
		for _, s := range skipped {
			fmt.Fprintf(&b, "- %s\n", s)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// outcome returns one cell of the document, without the problems, since these contain this machine's file names.
func (r result) outcome() string {
	text := fmt.Sprintf("%d passed", len(r.tests("PASS")))
	if failed := len(r.tests("FAIL")); failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	if skipped := len(r.tests("SKIP")); skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	if len(r.problems) > 0 {
		return "**bad**: " + text
	}
	return text
}

// headline is the first line of the first problem.
func (r result) headline() string {
	line, _, _ := strings.Cut(strings.Join(r.problems, "\n"), "\n")
	return line
}
