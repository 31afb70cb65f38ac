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

// Command testrun runs go test in several folders, one after the other, and tells at the end what could not be run and
// why, which `go test` alone buries.
//
//	testrun folder[:package,package] ... -- flags of go test
//
// The packages of a folder are ./... if none are named. A folder without a go.work is not part of a workspace above it.
//
// The tests compare what the kernel did with what it was told to do, exactly, in a process whose runtime acts too, on a
// machine that others may use. So one or two that fail are run once more by themselves, and named at the end: who passes
// then has passed. A data race, a panic, a package that does not build, and more failures than that stand.
//
// Its last line counts the tests, those with subtests once. It exits with 1 if one failed, if a package did not build,
// or if no test ran at all.
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

// mostAgain is how many tests of a folder are run once more.
const mostAgain = 2

// results collect what the events tell.
type results struct {
	out     io.Writer
	output  map[string][]string // of each test, and of each package by itself
	failing map[string][]string // the tests of each package that failed in this run of go test
	skipped []string
	again   []string // who passed by itself only
	passed  int
	failed  int
	firm    bool // something failed that no second run excuses
}

func main() {
	folders, args := os.Args[1:], []string(nil)
	if i := slices.Index(folders, "--"); i >= 0 {
		folders, args = folders[:i], folders[i+1:]
	}
	if err := run(folders, args, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
}

func run(folders, args []string, out io.Writer) error {
	r := &results{out: out, output: map[string][]string{}}
	var errs []error
	for _, folder := range folders {
		folder, packages, ok := strings.Cut(folder, ":")
		if !ok {
			packages = "./..."
		}
		if err := r.test(folder, args, strings.Split(packages, ",")); err != nil {
			errs = append(errs, fmt.Errorf("go test in %s: %w", folder, err))
		}
	}
	if len(r.skipped) > 0 {
		fmt.Fprintln(out, "\nNot run on this machine:")
		for _, s := range r.skipped {
			fmt.Fprintln(out, "  "+s)
		}
	}
	if len(r.again) > 0 {
		fmt.Fprintln(out, "\nFailed first, and passed by itself:")
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

// test runs the packages' tests, and those that fail once more.
func (r *results) test(folder string, flags, packages []string) error {
	err := r.goTest(folder, slices.Concat(flags, packages))
	failing := r.failing
	if err == nil || !r.mayRunAgain() {
		return err
	}
	for _, of := range slices.Sorted(maps.Keys(failing)) {
		if err := r.goTest(folder, slices.Concat(flags, []string{"-count=1", "-run=^(" + strings.Join(failing[of], "|") + ")$", of})); err != nil {
			return err
		}
		for _, test := range failing[of] {
			r.failed--
			r.again = append(r.again, of+" "+test)
		}
	}
	return nil
}

// mayRunAgain tells whether all that failed was one or two tests.
func (r *results) mayRunAgain() bool {
	n := 0
	for _, tests := range r.failing {
		n += len(tests)
	}
	return !r.firm && 0 < n && n <= mostAgain
}

func (r *results) goTest(folder string, args []string) error {
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

// read takes events until the stream ends.
func (r *results) read(stream io.Reader) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// What is no event is the go command's own word, and worth reading.
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
			r.skipped = append(r.skipped, fmt.Sprintf("%s: %s", e.Test, reason(r.output[key])))
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
		// It may run again, and is to say then only what it says then.
		delete(r.output, key)
	case "build-fail":
		r.firm = true
		fmt.Fprintf(r.out, "FAIL  %s\n%s", e.Package, strings.Join(r.output[key], ""))
	}
}

// reason finds the line in which a test said why it skips: "file.go:12: reason".
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			_, text, _ = strings.Cut(text, ": ")
			return strings.TrimSpace(text)
		}
	}
	return "no reason given"
}
