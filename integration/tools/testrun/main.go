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

// Command testrun runs go test in several folders, one after the other, and lists at the end the skipped tests with
// their reasons, which go test alone hides.
//
//	testrun folder[:package,package] ... -- flags of go test
//
// The packages of a folder are ./... if none are named. A folder without a go.work is not part of a workspace above it.
//
// It never uses cached results: go test would reuse one as long as nothing changed inside the package's own module, but
// tests here read other modules' files too.
//
// A failed test is not rerun, except for a short list (again.go): if only listed tests failed, they are rerun once by
// themselves, count as passed if they pass, and are named with their reasons at the end. A data race, a panic or a
// package that does not build is always a failure.
//
// Its last line counts the tests, without subtests. It exits with 1 if one failed, if a package did not build, or if no
// test ran.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// results collects the events.
type results struct {
	out     io.Writer
	list    []unsteady          // the tests that may run again
	output  map[string][]string // of each test, and of each package
	failing map[string][]string // the tests of each package that failed in this run of go test
	skipped []string
	again   []string // tests that passed only when rerun
	passed  int
	failed  int
	firm    bool // something failed that a rerun does not excuse
}

func main() {
	folders, args := os.Args[1:], []string(nil)
	if i := slices.Index(folders, "--"); i >= 0 {
		folders, args = folders[:i], folders[i+1:]
	}
	if err := run(folders, args, again, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
}

func run(folders, args []string, list []unsteady, out io.Writer) error {
	r := &results{out: out, list: list, output: map[string][]string{}}
	var errs []error
	for _, folder := range folders {
		name, packages, ok := strings.Cut(folder, ":")
		if !ok {
			packages = "./..."
		}
		if err := r.test(name, args, strings.Split(packages, ",")); err != nil {
			errs = append(errs, fmt.Errorf("go test in %s: %w", name, err))
		}
	}
	if len(r.skipped) > 0 {
		fmt.Fprintln(out, "\nNot run on this machine:")
		for _, s := range r.skipped {
			fmt.Fprintln(out, "  "+s)
		}
	}
	if len(r.again) > 0 {
		fmt.Fprintln(out, "\nFailed at first, then passed alone:")
		for _, s := range r.again {
			fmt.Fprintln(out, "  "+s)
		}
	}
	if r.passed+r.failed == 0 {
		errs = append(errs, errors.New("no test ran"))
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d skipped\n", r.passed, r.failed, len(r.skipped))
	return errors.Join(errs...)
}

// test runs the packages' tests, and reruns those that failed if all of them are on the list.
func (r *results) test(folder string, flags, packages []string) error {
	err := r.goTest(folder, slices.Concat(flags, packages))
	if err == nil || r.firm || len(r.failing) == 0 {
		return err
	}
	failing := r.failing
	for of, tests := range failing {
		for _, test := range tests {
			if r.reason(of, test) == "" {
				return err
			}
		}
	}
	for _, of := range slices.Sorted(maps.Keys(failing)) {
		if err := r.goTest(folder, slices.Concat(flags, []string{"-run=^(" + strings.Join(failing[of], "|") + ")$", of})); err != nil {
			return err
		}
		for _, test := range failing[of] {
			r.failed--
			r.again = append(r.again, fmt.Sprintf("%s %s: %s", of, test, r.reason(of, test)))
		}
	}
	return nil
}

// reason returns why a test may be rerun, or "" if it may not.
func (r *results) reason(of, test string) string {
	for _, u := range r.list {
		if u.pkg == of && u.test == test {
			return u.reason
		}
	}
	return ""
}

func (r *results) goTest(folder string, args []string) error {
	// First, so that another -count among the flags overrides it.
	args = append([]string{"-count=1"}, args...)
	fmt.Fprintf(r.out, "== in %s: go test %s\n", folder, strings.Join(args, " "))
	r.failing = map[string][]string{}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Dir, cmd.Stderr = folder, os.Stderr
	if _, err := os.Stat(filepath.Join(folder, "go.work")); errors.Is(err, os.ErrNotExist) {
		cmd.Env = append(os.Environ(), "GOWORK=off")
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err = cmd.Start(); err != nil {
		return err
	}
	return errors.Join(r.read(pipe), cmd.Wait())
}

// read reads events until the stream ends.
func (r *results) read(stream io.Reader) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// Anything that is not an event is a message of the go command.
			fmt.Fprintln(r.out, lines.Text())
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *results) add(e event) {
	key := e.Package + " " + e.Test
	top := e.Test != "" && !strings.Contains(e.Test, "/")
	switch e.Action {
	case "output", "build-output":
		r.output[key] = append(r.output[key], e.Output)
		if strings.HasPrefix(e.Output, "panic: ") || strings.HasPrefix(e.Output, "fatal error: ") || strings.Contains(e.Output, "DATA RACE") {
			r.firm = true
		}
	case "pass":
		if top {
			r.passed++
		}
		if e.Test == "" {
			fmt.Fprintf(r.out, "ok    %s (%.1f s)\n", e.Package, e.Elapsed)
		}
	case "skip":
		if e.Test != "" {
			r.skipped = append(r.skipped, fmt.Sprintf("%s: %s", e.Test, whySkipped(r.output[key])))
		}
	case "fail":
		switch {
		case top:
			r.failed++
			r.failing[e.Package] = append(r.failing[e.Package], e.Test)
		case e.Test == "" && len(r.failing[e.Package]) == 0:
			r.firm = true
		}
		fmt.Fprintf(r.out, "FAIL  %s\n%s", key, strings.Join(r.output[key], ""))
		// It may be rerun. Then only the output of the rerun counts.
		delete(r.output, key)
	case "build-fail":
		r.firm = true
		fmt.Fprintf(r.out, "FAIL  %s\n%s", e.Package, strings.Join(r.output[key], ""))
	}
}

// whySkipped returns the reason from the line in which a test logged it: "file.go:12: reason".
func whySkipped(output []string) string {
	for _, line := range slices.Backward(output) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "no reason given"
}
