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

// Command kernels boots kernels in virtual machines, runs Go test binaries inside and reports the results of each
// kernel. It runs in the folder integration:
//
//	go run ./tools/kernels [-only ROW,...] [-run REGEX] [-short] [-out FILE] [-icount]
//
// The kernels are Debian's cloud kernels, the newest of each suite. They are downloaded, not installed, and kept in a
// cache. QEMU emulates the machines; neither KVM nor root is needed. A guest has one CPU, the usual file systems
// including tracefs, bpffs and a cgroup2 with the memory controller, and ext4 on a virtio disk at /data, which TMPDIR
// points to. BANYANDB_EBPF_GUEST=1 tells a test that it runs in a guest. A package's testdata is copied too.
//
// A test adds a line to the matrix by printing MATRIX, a key and a value, separated by tabs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// options are the command line options.
type options struct {
	cache, out, run string
	rows            []row
	packages        []string
	parallel        int
	timeout         time.Duration
	list, fetch     bool
	verbose         bool
	icount          bool
	short           bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	opts, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err == nil {
		err = run(ctx, opts, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "kernels: %v\n", err)
		os.Exit(1)
	}
}

const defaultPackages = "../kprobe,../observer,../bpf"

func parseOptions(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	only := flags.String("only", "", "comma-separated `rows` to run; default all")
	packages := flags.String("pkgs", defaultPackages, "comma-separated `folders` of the packages to test; those without tests are left out")
	// The name starts with a dot, so that ./... of another go command does not walk the folder while it changes.
	flags.StringVar(&o.cache, "cache", "tools/kernels/.cache", "`folder` for downloaded kernels")
	flags.StringVar(&o.out, "out", "", "Markdown `file` to write the matrix to")
	flags.StringVar(&o.run, "run", "", "run only the tests that match this regular `expression`")
	flags.BoolVar(&o.short, "short", false, "leave out the tests that do not depend on the kernel")
	flags.IntVar(&o.parallel, "j", 3, "how many virtual machines run at once")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Hour, "how long one row may take before it is taken to hang")
	flags.BoolVar(&o.icount, "icount", false, "have the machines' clocks count instructions, one per nanosecond, and tell the tests that they do")
	flags.BoolVar(&o.list, "list", false, "print the rows and exit")
	flags.BoolVar(&o.fetch, "fetch", false, "fetch the kernels into the cache and exit")
	flags.BoolVar(&o.verbose, "test.v", false, "show the consoles as they come")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.parallel < 1 {
		return options{}, fmt.Errorf("bad -j %d: at least one machine must run", o.parallel)
	}
	o.packages = strings.Split(*packages, ",")
	o.rows = rows
	if *only != "" {
		o.rows = nil
		for name := range strings.SplitSeq(*only, ",") {
			i := slices.IndexFunc(rows, func(r row) bool { return r.name == name })
			if i < 0 {
				return options{}, fmt.Errorf("unknown row %q in -only: want some of %s", name, rowNames(rows))
			}
			o.rows = append(o.rows, rows[i])
		}
	}
	return o, nil
}

func rowNames(rows []row) string {
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	return strings.Join(names, ",")
}

// run reports everything, then returns an error if anything failed.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if o.list {
		for _, r := range o.rows {
			fmt.Fprintf(stdout, "%s\t%s\t%s\t%s\n", r.name, r.suite, r.arch, r.lockdown)
		}
		return nil
	}
	started := time.Now()
	shared := &lockedWriter{w: stderr}
	say := func(format string, args ...any) {
		fmt.Fprintf(shared, "%5.1fs "+format+"\n", append([]any{time.Since(started).Seconds()}, args...)...)
	}
	if err := tools(ctx, o, say); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "kernels-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)

	modules, err := digest("../bpf")
	if err != nil {
		return fmt.Errorf("reading the probe modules: %w", err)
	}
	results := make([]result, len(o.rows))
	kernels := fetchAll(ctx, o, results, say)
	if !o.fetch && ctx.Err() == nil {
		suites, err := buildAll(ctx, o, results, tmp, say)
		if err != nil {
			return err
		}
		atOnce(o.parallel, len(o.rows), func(i int) {
			// The last row takes the longest, so it starts first.
			i = len(results) - 1 - i
			r := &results[i]
			defer func() {
				if len(r.problems) > 0 {
					fmt.Fprint(shared, r.failure())
				}
			}()
			if len(r.problems) > 0 || ctx.Err() != nil {
				return
			}
			watch := io.Discard
			if o.verbose {
				watch = &linePrefix{w: shared, prefix: r.row.name + "| "}
			}
			r.runIn(ctx, kernels[i], suites[r.row.arch], o, filepath.Join(tmp, r.row.name), watch)
			say("%s: %s in %.0fs", r.row.name, r.outcome(), r.elapsed.Seconds())
		})
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return report(o, modules, results, stdout)
}

// tools installs what is missing.
func tools(ctx context.Context, o options, say func(format string, args ...any)) error {
	needed := [][2]string{{"xz", "xz-utils"}, {"dpkg-deb", "dpkg"}}
	if !o.fetch {
		needed = append(needed, [2]string{"mkfs.ext4", "e2fsprogs"})
		for _, r := range o.rows {
			m := machines[r.arch]
			needed = append(needed, [2]string{m.command, m.pkg})
		}
	}
	for _, t := range needed {
		if err := tool(ctx, t[0], t[1], say); err != nil {
			return err
		}
	}
	return nil
}

// fetchAll returns a kernel for each row, and records in the results which could not be fetched.
func fetchAll(ctx context.Context, o options, results []result, say func(format string, args ...any)) []kernel {
	type source struct{ suite, arch string }
	var sources []source
	for _, r := range o.rows {
		if s := (source{r.suite, r.arch}); !slices.Contains(sources, s) {
			sources = append(sources, s)
		}
	}
	fetched := make([]kernel, len(sources))
	errs := make([]error, len(sources))
	atOnce(o.parallel, len(sources), func(i int) {
		var note string
		fetched[i], note, errs[i] = fetch(ctx, o.cache, sources[i].suite, sources[i].arch)
		if note != "" {
			say("%s %s: %s", sources[i].suite, sources[i].arch, note)
		}
		if errs[i] == nil {
			say("%s %s: kernel %s", sources[i].suite, sources[i].arch, fetched[i].version)
		}
	})
	kernels := make([]kernel, len(o.rows))
	for i, r := range o.rows {
		from := slices.Index(sources, source{r.suite, r.arch})
		kernels[i] = fetched[from]
		results[i] = result{row: r, version: fetched[from].version}
		if errs[from] != nil {
			results[i].problems = []string{errs[from].Error()}
		}
	}
	return kernels
}

// buildAll builds init and the tests for each architecture for which a row has a kernel.
func buildAll(ctx context.Context, o options, results []result, dir string, say func(format string, args ...any)) (map[string]suite, error) {
	suites := map[string]suite{}
	for _, result := range results {
		r := result.row
		if _, built := suites[r.arch]; built || len(result.problems) > 0 {
			continue
		}
		say("building the test binaries for %s", r.arch)
		s, err := build(ctx, r.arch, o.packages, filepath.Join(dir, "build-"+r.arch))
		if err != nil {
			return nil, err
		}
		// test2json marks the lines of the test framework, even if a test did not end its line before.
		s.args = []string{"-test.v=test2json"}
		if o.run != "" {
			s.args = append(s.args, "-test.run="+o.run)
		}
		if o.short {
			s.args = append(s.args, "-test.short")
		}
		s.instructionClock = o.icount
		suites[r.arch] = s
	}
	return suites, nil
}

// runIn boots the row's kernel and evaluates the run.
func (r *result) runIn(ctx context.Context, k kernel, s suite, o options, dir string, watch io.Writer) {
	started := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %v", o.timeout))
	defer cancel()
	var exit string
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		// Tests that take too long must time out, with their goroutines' stacks, before the machine is killed.
		r.console, exit, err = r.row.boot(ctx, k, s, o.timeout*7/8, dir, watch)
	}
	r.transcript = parseConsole(r.console)
	r.problems = judge(r.row, r.transcript, len(s.tests), o.run != "", exit, err)
	r.elapsed = time.Since(started)
	// Do not keep the row's disk while other rows run.
	_ = os.RemoveAll(dir)
}

// report writes the summary and the document. modules is the digest of the tested modules.
func report(o options, modules string, results []result, stdout io.Writer) error {
	bad := 0
	for _, r := range results {
		if len(r.problems) > 0 {
			bad++
		}
	}
	if !o.fetch {
		if err := writeSummary(stdout, results); err != nil {
			return err
		}
	}
	if o.out != "" && !o.fetch {
		if err := writeFile(o.out, documentCommand(o), modules, results); err != nil {
			return err
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d of %d rows are bad", bad, len(results))
	}
	return nil
}

func writeFile(name, command, modules string, results []result) error {
	var b strings.Builder
	if err := writeDocument(&b, command, modules, results); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(b.String()), 0o644)
}

// documentCommand returns the command line that produces the same document.
func documentCommand(o options) string {
	command := "cd integration && go run ./tools/kernels"
	if len(o.rows) != len(rows) {
		command += " -only " + rowNames(o.rows)
	}
	if packages := strings.Join(o.packages, ","); packages != defaultPackages {
		command += " -pkgs " + packages
	}
	if o.run != "" {
		command += fmt.Sprintf(" -run %q", o.run)
	}
	return command + " -out " + filepath.ToSlash(o.out)
}

// atOnce calls do for 0 to n-1, at most limit at once, and waits for all.
func atOnce(limit, n int, do func(i int)) {
	slots := make(chan struct{}, limit)
	var wait sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		wait.Go(func() {
			do(i)
			<-slots
		})
	}
	wait.Wait()
}

// lockedWriter lets several goroutines write whole lines.
type lockedWriter struct {
	w io.Writer
	sync.Mutex
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.w.Write(b)
}
