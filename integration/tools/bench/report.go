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

` + "`make bench`" + ` measures everything in one run and generates this page. Do not edit it. ` + "`make bench-quick`" + ` prints
the same table in under three minutes, but its results are not reliable. The samples are in
[bench.txt](../integration/tools/bench/results/bench.txt), in the format of benchstat.

Times cannot be compared between machines. Ratios within one run are more portable. In each round, all tools are
measured in random order, each between two measurements with nothing attached, and only samples of the same round are
compared. The table has the median, the quartiles and the number of rounds. The median decides whether a target is
reached.
`

const pageMethod = `## How it is measured

- **Calls.** A worker is pinned to one CPU under the real-time scheduler. It makes the call in a tight loop, thirty
  times; the median of the thirty is used. The time added by a tool is the time with the tool minus the mean of the
  times before and after it. The server's own call is made by a process that the tool observes and that has the name
  that KTM expects. Another process's call is made by a second worker. A measurement of the observer or of KTM is valid
  only if the tool has counted every call of its process.
- **Pages.** The kernel reads ahead in a hole of a file: each page enters the page cache without any device I/O.
- **KTM** is the eBPF module of BanyanDB's sidecar agent: its prebuilt programs, attached and collected by the agent's
  own code.
- **The empty pair** is two programs that return at once, on the entry and the exit of every system call: no tool on
  these hooks can be cheaper.
- **More CPUs** are simulated: the counters get more entries, which are not written during the measurement.
- **Start and maps.** Each start is in a new process, with nothing cached. The scratch folder of the verification is on
  the disk that holds the system's temporary files. The memory of maps is what the kernel accounts for.
- **Instructions** are counted on an emulated CPU with Linux 6.12, whose clock advances by one nanosecond per
  instruction. The calls are timed by that clock in many parts. The minimum is used, since an interrupt only adds. Two
  measurements of the same call must not differ by more than a tenth of an instruction, the tolerance in the table.
- **The server** is the real one with default settings, including verification, except for --ebpf-max-overhead=0: a
  module that is shed during the measurement would look cheaper than it is. Three writers and three query clients on
  the same machine never pause. They do the same work in each turn, in rounds of a few batches and queries, since a
  query costs more the more was written before it. There are three configurations: the default modules, all modules
  switched off, and KTM with our modules off. Each round starts as many new servers as there are configurations, and
  each server runs every configuration, in a different order. The result of a configuration is the geometric mean of
  its turns. So the ratio of two configurations depends neither on the speed of one server nor on what it has already
  stored. The data is on a separate ext4 file system with a journal. Without a journal, the kernel skips the inode
  numbers of all files that were deleted in the last minutes when it creates a file (fs/ext4/ialloc.c). On the
  development machine, that took 20 us in one folder and 800 us in the next, and servers ran at one of two speeds.
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
	b.WriteString("\n## Results\n\n| measurement | target | result: median (quartiles) | |\n|---|---|---|---|\n")
	for _, row := range table(r, bars) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.what, row.limit, cell(row.measured), row.verdict)
	}
	if lines := reasons(r, bars); len(lines) > 0 {
		b.WriteString("\nWhy these targets are not reached:\n\n")
		for _, l := range lines {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	for _, f := range r.facts {
		if part, ok := strings.CutPrefix(f.key, skipped); ok {
			fmt.Fprintf(&b, "\nLeft out: %s, because: %s\n", part, f.value)
		}
	}
	fmt.Fprintf(&b, "\n## Charts\n\n![Time that each tool adds to a call](%s)\n\n![Time of a snapshot by number of CPUs](%s)\n\n![Throughput and latency of the server in each round](%s)\n\n",
		callsChart, snapshotChart, serverChart)
	for _, section := range []string{attachChoice(r), kept(r), scaling(r), ownCost(r), pageMethod} {
		b.WriteString(section)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// breakEven returns the part of all system calls above which tp_btf is the cheaper attachment. Compared with classic
// tracepoints of single system calls, tp_btf costs more on every call of the host and less on a traced one. It returns
// false if one of the two is always cheaper.
func breakEven(r *results) (part float64, ok bool) {
	untraced, tracedCall := attachDifferences(r)
	if untraced <= 0 || tracedCall <= 0 {
		return 0, false
	}
	return untraced / (untraced + tracedCall), true
}

// attachDifferences returns how much more tp_btf costs on an untraced call, and how much less on a traced one, in
// nanoseconds.
func attachDifferences(r *results) (untraced, traced float64) {
	return median(r.of(addedBy(emptyTPBTF, strangerCall))) - median(r.of(addedBy(emptyPread, strangerCall))),
		median(r.of(addedBy(emptyPread, ownPread))) - median(r.of(addedBy(emptyTPBTF, ownPread)))
}

// attachChoice writes the section on the kind of attachment, from the measured mix of system calls.
func attachChoice(r *results) string {
	part, ok := breakEven(r)
	mixed := r.of(quantity{mixName + "full", "traced-of-host"})
	if !ok || len(mixed) == 0 {
		return ""
	}
	own := median(r.of(quantity{mixName + "full", "traced-of-own"}))
	cheaper, follows := "classic tracepoints of single system calls are", `The module still does not use them: it traces about thirty system calls, each of which would
need two, and the kernel attaches them only where tracefs is mounted and readable.`
	if mixed[0] >= part {
		cheaper, follows = "tp_btf is", "So the module does not use tracepoints of single system calls."
	}
	untraced, traced := attachDifferences(r)
	both := ratios(r.of(addedBy(emptyTracepoint, strangerCall)), r.of(addedBy(emptyTPBTF, strangerCall)))
	return fmt.Sprintf(`## tp_btf or classic tracepoints

A hook on all system calls also slows down calls that are not traced. With a classic tracepoint on one system call,
other calls only pay for the kernel's slower entry. Which is cheaper depends on the mix of calls. The mix was measured
on the real server, with nothing else observing it:

%s
Under that load, the module io traces %.0f%% of the server's own system calls and %.0f%% of all on the host. According to
the empty pairs of this run, tp_btf is the cheaper of the two if more than %.0f%% are traced: here %s cheaper.
With this mix, they differ by %.0f ns for each system call of the host.
%s
On a call that is not traced, the classic tracepoints of all system calls (raw_syscalls) cost %.2f times as much as
tp_btf.

The module therefore tries fentry on the functions of the traced calls first, where the kernel allows it: it has no cost
for other calls. Then come tp_btf, raw_syscalls for kernels that refuse the others, and a kprobe (a breakpoint). The
flag --ebpf-attach overrides this order.

`, mixTable(r), 100*own, 100*mixed[0], 100*part, cheaper, math.Abs(untraced*(1-mixed[0])-traced*mixed[0]), follows, median(both))
}

// mixTable lists the calls by their share.
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
	b.WriteString("| system call of the server | share | traced by io |\n|---|---|---|\n")
	for _, c := range all {
		fmt.Fprintf(&b, "| %s | %.1f%% | %s |\n", c.name, 100*c.part, map[bool]string{true: "yes", false: "no"}[c.traced])
	}
	return b.String()
}
