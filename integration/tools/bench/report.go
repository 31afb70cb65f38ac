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
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The page and its charts.
const (
	page          = "performance.md"
	callsChart    = "performance-calls.svg"
	snapshotChart = "performance-snapshot.svg"
	serverChart   = "performance-server.svg"
)

const pageHead = `# Performance

This page is written by ` + "`make bench`" + `, which measures all of it in one run (` + "`make bench-quick`" + ` takes under three
minutes, prints the same table, and proves nothing). Do not edit it. The samples are in
[bench.txt](../integration/tools/bench/results/bench.txt), for benchstat.

Times do not carry over from one machine to another; ratios of one run do better. So in each round all contestants take
their turns in random order, each between two measurements with nothing attached, and only samples of the same round are
compared. The table has the median, the quartiles and the number of rounds; the median decides.
`

const pageMethod = `## How it is measured

- **Calls.** A worker is pinned to one CPU under the real-time scheduler and makes the call in a tight loop, thirty times over;
  the median of the thirty counts. It is added what a tool's turn has more than the mean of those before and after it. The
  server's own call is made by a process that the tool observes and that is named as KTM wants it, a stranger's by another. A
  turn of the observer or of KTM counts only if the tool has counted every single call of its process.
- **Pages.** The kernel reads a hole of a file ahead: each page enters the cache, and no device has a part in it.
- **KTM** is the eBPF module of BanyanDB's sidecar agent: its prebuilt programs, attached and collected by the agent's own code.
- **The empty pair** is two programs that return at once, on the entry and the exit of every system call: no tool on these
  hooks can be cheaper.
- **More CPUs** are simulated: the counters get more entries, which nobody writes meanwhile.
- **Start and maps.** Each start is that of a new process, with nothing cached. Verification has its scratch folder on the disk that
  holds the system's temporary files. Maps are counted as the kernel accounts them.
- **Instructions** are those of an emulated CPU of a machine with Linux 6.12, whose clock goes on by one nanosecond for each. The
  calls are timed by that clock, the least of many parts counts, since an interrupt only adds, and the same measured twice must not
  differ by more than the tenth of an instruction which the table calls within.
- **The server** is the real one, with --ebpf-max-overhead=0, since a module that is shed during the measurement would look
  cheaper than it is, and else as it comes, verification included. Three writers and three queriers that never pause, on the
  same machine, have it do the same work in each turn, a few batches and queries at a time: a query costs more, the more was
  written before it. In each round there are as many new servers as kinds, and each server has a turn of each kind, in another
  order: with the default modules, with all modules switched off, and with KTM while ours are off. A kind has the geometric
  mean of its turns, so that neither the speed of one server nor what it has stored already is part of a quotient of two kinds.
  The data is on a file system of its own, ext4 with a journal: without one the kernel passes over the numbers of all files that
  were deleted in the last minutes when it creates one (fs/ext4/ialloc.c), which on the development machine took 20 us in one
  folder and 800 us in the next, and made servers run at one of two speeds.
- **Resident memory** is compared with that of a server without the observer.
`

// writeDocs writes the page and the charts into a folder.
func writeDocs(r *results, docs string) error {
	files := map[string]func(io.Writer) error{
		page:          func(w io.Writer) error { return writePage(w, r) },
		callsChart:    func(w io.Writer) error { return drawCalls(w, r) },
		snapshotChart: func(w io.Writer) error { return drawSnapshots(w, r) },
		serverChart:   func(w io.Writer) error { return drawServers(w, r) },
	}
	var errs []error
	for name, write := range files {
		f, err := os.Create(filepath.Join(docs, name))
		if err != nil {
			return err
		}
		errs = append(errs, write(f), f.Close())
	}
	return errors.Join(errs...)
}

func writePage(w io.Writer, r *results) error {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("\n| machine and run | |\n|---|---|\n")
	for _, f := range r.facts {
		if !slices.Contains([]string{"goos", "pkg"}, f.key) && !strings.HasPrefix(f.key, skipped) {
			fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(f.key, "-", " "), cell(f.value))
		}
	}
	b.WriteString("\n## Against the bars\n\n| what | bar | measured: median (quartiles) | |\n|---|---|---|---|\n")
	for _, row := range table(r, bars) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.what, row.limit, cell(row.measured), row.verdict)
	}
	if lines := reasons(r, bars); len(lines) > 0 {
		b.WriteString("\nWhat bounds those that are not reached:\n\n")
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, f := range r.facts {
		if part, ok := strings.CutPrefix(f.key, skipped); ok {
			fmt.Fprintf(&b, "\nLeft out: %s, because: %s\n", part, f.value)
		}
	}
	fmt.Fprintf(&b, "\n## Pictures\n\n![What each tool adds to a call](%s)\n\n![The snapshot by number of CPUs](%s)\n\n![The server's throughput, pair by pair](%s)\n\n",
		callsChart, snapshotChart, serverChart)
	for _, section := range []string{attachChoice(r), kept(r), scaling(r), ownCost(r), pageMethod} {
		b.WriteString(section)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// breakEven is the part of all system calls that has to be traced for tp_btf to be the cheaper attachment: it costs every
// call of the host more than classic tracepoints of single system calls do, and each traced one less. Not ok if one of the
// two is never cheaper.
func breakEven(r *results) (part float64, ok bool) {
	untraced, tracedCall := attachDifferences(r)
	if untraced <= 0 || tracedCall <= 0 {
		return 0, false
	}
	return untraced / (untraced + tracedCall), true
}

// attachDifferences are what tp_btf costs more on a call that nobody traces, and less on a traced one, in nanoseconds.
func attachDifferences(r *results) (untraced, traced float64) {
	return median(r.of(addedBy(emptyTPBTF, strangerCall))) - median(r.of(addedBy(emptyPread, strangerCall))),
		median(r.of(addedBy(emptyPread, ownPread))) - median(r.of(addedBy(emptyTPBTF, ownPread)))
}

// attachChoice tells what the measured mix of system calls says about the kind of attachment.
func attachChoice(r *results) string {
	part, ok := breakEven(r)
	mixed := r.of(quantity{mixName + "full", "traced-of-host"})
	if !ok || len(mixed) == 0 {
		return ""
	}
	own := median(r.of(quantity{mixName + "full", "traced-of-own"}))
	cheaper, follows := "classic tracepoints of single system calls are", `The module does not have these all the same: it traces some thirty system calls, of which each would
need two, and the kernel attaches them only where tracefs is mounted and readable.`
	if mixed[0] >= part {
		cheaper, follows = "tp_btf is", "So the module has no tracepoints of single system calls."
	}
	untraced, traced := attachDifferences(r)
	both := ratios(r.of(addedBy(emptyTracepoint, strangerCall)), r.of(addedBy(emptyTPBTF, strangerCall)))
	return fmt.Sprintf(`## tp_btf or classic tracepoints

A hook on all system calls costs those that nobody traces too; a classic tracepoint of one system call costs the others
only the kernel's slower entry. Which is cheaper depends on the mix of calls, so the mix of the real server is measured,
on a server that nothing else observes:

%s
Under that load the module io traces %.0f%% of the server's own system calls and %.0f%% of all on the host. By the empty
pairs of this run tp_btf is the cheaper of these two if more than %.0f%% are traced: here %s cheaper.
With this mix they differ by %.0f ns for each system call of the host. %s
The classic tracepoints of all system calls, raw_syscalls, cost a call that nobody traces %.2f times what tp_btf does.

Hence the order in which the module tries: fentry on the functions of the traced calls first, which costs others nothing, where
the kernel lets programs attach there; then tp_btf; raw_syscalls after it, for kernels that refuse the others; a breakpoint
last. The flag --ebpf-attach leaves the operator the choice.

`, mixTable(r), 100*own, 100*mixed[0], 100*part, cheaper, math.Abs(untraced*(1-mixed[0])-traced*mixed[0]), follows, median(both))
}

// mixTable lists the calls by their part of all.
func mixTable(r *results) string {
	type call struct {
		name   string
		part   float64
		traced bool
	}
	var all []call
	for _, l := range r.lines {
		if name, ok := strings.CutPrefix(l.name, mixCallName); ok {
			part, _ := l.value("of-own")
			is, _ := l.value("traced")
			all = append(all, call{name, part, is > 0})
		}
	}
	slices.SortStableFunc(all, func(a, b call) int { return cmp.Compare(b.part, a.part) })
	var b strings.Builder
	b.WriteString("| system call of the server | part of all of its | traced by io |\n|---|---|---|\n")
	for _, c := range all {
		fmt.Fprintf(&b, "| %s | %.1f%% | %s |\n", c.name, 100*c.part, map[bool]string{true: "yes", false: "no"}[c.traced])
	}
	return b.String()
}
