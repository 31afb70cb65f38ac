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
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// keptHead lists what no module traces, since the kernel keeps it anyway.
const keptHead = `## What is not traced because the kernel keeps it

The kernel adds these up for each task, traced or not. An iterator reads them when they are collected, and between two
collections they have no cost:

| what | how it is kept | what tracing it would cost |
|---|---|---|
| wait for a CPU | task_struct.sched_info | sched_wakeup and sched_switch: 9% of every process's pipe round trip [1] |
| CPU time | task_struct.se, signal_struct | sched_switch, as above |
| switches, voluntary and not | task_struct, signal_struct | sched_switch, as above |
| page faults, major and minor | task_struct, signal_struct | 126 ns for each, of the some 12 us that one takes [1]; 19,197 in 20 s of ingest [2] |
| resident pages, by kind | mm_struct | a program on each change of the counters, for which there is no stable hook: not measured |

[1] Measured once on the development machine, Linux 6.18, with programs that trace it attached; not part of this run.
[2] Counted there once in the server under load, likewise.

The times of page faults, and of each wait, are not kept by the kernel. Who wants their distribution loads a module that traces
them and costs what the table says.

`

// kept tells what a pass costs in place of the tracing.
func kept(r *results) string {
	var b strings.Builder
	b.WriteString(keptHead)
	if s := spreadOf(r.of(quantity{refreshName(ownThreads, 100), nsPerOp})); s.N > 0 {
		fmt.Fprintf(&b, "One pass over a process of 100 threads takes %s (quartiles %s to %s, n=%d), once for each collection; "+
			"`go test -bench Refresh ./observer` repeats it on any machine.\n\n", us(s.Median), us(s.P25), us(s.P75), s.N)
	}
	return b.String()
}

// us is a time of so many nanoseconds, in a unit that fits.
func us(ns float64) string {
	switch {
	case ns < 1000:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 1e6:
		return fmt.Sprintf("%.1f us", ns/1e3)
	default:
		return fmt.Sprintf("%.1f ms", ns/1e6)
	}
}

// scaling tells how the cost grows, each with the measurement that supports it.
func scaling(r *results) string {
	sections := []string{scaleCPUs(r), scaleThreads(r), scaleCollisions(r), scaleModules(r)}
	sections = slices.DeleteFunc(sections, func(s string) bool { return s == "" })
	if len(sections) == 0 {
		return ""
	}
	return "## How the cost grows\n\n" + strings.Join(sections, "\n") + "\n"
}

// scaleCPUs tells of the snapshot, which reads the counters of each CPU.
func scaleCPUs(r *results) string {
	var b strings.Builder
	for cpus := 1; cpus <= 256; cpus *= 2 {
		s := spreadOf(r.of(quantity{snapshotName(cpus), nsPerOp}))
		words := median(r.of(quantity{snapshotName(cpus), "words"}))
		if s.N == 0 || words == 0 {
			continue
		}
		fmt.Fprintf(&b, "| %d | %s (%s to %s) | %.2f ns | %s | %.0f |\n", cpus, us(s.Median), us(s.P25), us(s.P75), s.Median/float64(cpus)/words,
			us(median(r.of(quantity{idleSnapshotName(cpus), nsPerOp}))), median(r.of(quantity{snapshotName(cpus), "allocs/op"})))
	}
	if b.Len() == 0 {
		return ""
	}
	return `### With CPUs

The programs count on the CPU that they run on and share nothing, so that a call costs the same on any number of CPUs. The
maps grow by the same for each CPU; the table of bars has it. Only the snapshot has more to read. It passes over histograms
that have counted nothing on a CPU, so both ends are measured:

| CPUs | snapshot, if everything has counted everywhere (quartiles) | for each counter and CPU | if nothing has | allocations |
|---|---|---|---|---|
` + b.String() + "\nEntries of CPUs that are not there are simulated; nobody writes them meanwhile.\n"
}

// scaleThreads tells of the pass over the threads.
func scaleThreads(r *results) string {
	var b strings.Builder
	var counts, own []float64
	for _, n := range manyThreads {
		mine := spreadOf(r.of(quantity{refreshName(ownThreads, n), nsPerOp}))
		if mine.N == 0 {
			continue
		}
		theirs := median(r.of(quantity{refreshName(otherThreads, n), nsPerOp}))
		seen := median(r.of(quantity{refreshName(ownThreads, n), "seen-threads"}))
		without := median(r.of(quantity{refreshName(ownThreads, n), "without-place/op"}))
		counts, own = append(counts, seen), append(own, mine.Median)
		fmt.Fprintf(&b, "| %.0f | %s (%s to %s) | %s | %.0f |\n", seen, us(mine.Median), us(mine.P25), us(mine.P75), us(theirs), without)
	}
	if b.Len() == 0 {
		return ""
	}
	start, each := fit(counts, own)
	text := fmt.Sprintf(`### With threads

A call costs the same in any thread. What grows is the pass of the iterators, which the kernel makes over all tasks of the host.
Here a process starts threads that sleep:

| threads of the process | a pass, if it is observed (quartiles) | if another one is | threads without a place |
|---|---|---|---|
%s
The line through these points is %s and %s for each thread.`, b.String(), us(start), us(each))
	if last := manyThreads[len(manyThreads)-1]; counts[len(counts)-1] < float64(last) {
		text += fmt.Sprintf(" This machine allows no more threads; by that line a pass over %d takes %s.", last, us(start+each*float64(last)))
	}
	return text + `
A thread without a place is one whose waits for a CPU that pass could not tell, because the module sched remembers 1,024 threads;
ebpf_sched_run_queue_wait_skipped_total counts them, and all its other metrics are exact with any number.
`
}

// fit is the line through points with the least squares.
func fit(x, y []float64) (start, each float64) {
	n := float64(len(x))
	var sx, sy, sxx, sxy float64
	for i := range x {
		sx, sy, sxx, sxy = sx+x[i], sy+y[i], sxx+x[i]*x[i], sxy+x[i]*y[i]
	}
	if d := n*sxx - sx*sx; d > 0 {
		each = (n*sxy - sx*sy) / d
	}
	return (sy - each*sx) / n, each
}

// scaleCollisions tells what the tables of start times lose.
func scaleCollisions(r *results) string {
	var b strings.Builder
	for _, threads := range collisionThreads {
		for _, busy := range collisionBusy {
			inRow := r.of(quantity{collisionsName(idsInARow, threads, busy), lostPart})
			atWill := r.of(quantity{collisionsName(idsAtWill, threads, busy), lostPart})
			if len(inRow) > 0 && len(atWill) > 0 {
				fmt.Fprintf(&b, "| %d | %d | %s | %s |\n", threads, busy, percent(inRow[0]), percent(atWill[0]))
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return fmt.Sprintf(`### The tables of start times

A call's start is kept in a table of %d slots, by the low bits of the thread's id. A call loses its duration, not its count, if
another thread of its slot begins one meanwhile, and ebpf_events_lost_total counts that. Simulated, with calls at random times, %d of
them for each figure:

| threads | of these in a traced call at once | lost, ids in a row | lost, ids at random |
|---|---|---|---|
%s
Ids in a row are what a process has that starts its threads one after the other. Up to as many threads as there are slots these
never meet. Otherwise the part that is lost is about the number of threads in a call at once divided by the slots, however
many threads there are. Calls that use a CPU are no more at once than there are CPUs; those that wait for a device or a peer add
to these.
`, slots, simulated, b.String())
}

func percent(part float64) string {
	if part == 0 {
		return "0"
	}
	return strconv.FormatFloat(100*part, 'f', 2, 64) + "%"
}

// scaleModules tells what more modules, and so more series, cost.
func scaleModules(r *results) string {
	var names []string
	for _, l := range r.lines {
		if strings.HasPrefix(l.name, modulesName) && !slices.Contains(names, l.name) {
			names = append(names, l.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range names {
		of := func(unit string) float64 { return median(r.of(quantity{name, unit})) }
		fmt.Fprintf(&b, "| %s | %s | %.1f KiB | %s | %.0f | %s (%.0f ns) | %s (%.0f ns) |\n", strings.TrimPrefix(name, modulesName), us(of("start-ns")),
			of("B/cpu")/1024, us(of("snapshot-ns")), of("series"), us(of("native-cpu-ns")), of("native-cpu-ns")/of("series"),
			us(of("prometheus-cpu-ns")), of("prometheus-cpu-ns")/of("series"))
	}
	return fmt.Sprintf(`### With modules and series

The bridge's times are CPU time of one collection in which every series moves; beside them what one series takes. A series that does
not move costs a comparison, one that never has moved is not even there, so that a server pays for less than this:

| modules | start | maps, per CPU | snapshot here | series at most | native instruments (each) | Prometheus instruments (each) |
|---|---|---|---|---|---|---|
%s
A module costs a call only where it has a hook that the
call passes: the rows of the modules alone, above, have the two of the path of a pread.
`, b.String())
}

// ownCost tells what the metric of the observer's own cost is.
func ownCost(r *results) string {
	text := `## ebpf_overhead_seconds_total

What a module costs the server, as the server itself tells it: events times what one costs. What one costs is measured when the
modules are verified, on this machine, by known work with the module's programs and without: a call that reads a cached page, a
page that comes into the page cache, a fault on new memory. How long the iterators run is measured as they run. It needs no
statistics of the kernel and no switch that others would pay for. It leaves out what other processes pay, and events of a kind
that has no such work. --ebpf-max-overhead holds each module to its part of the server's CPU time by it.

`
	both := spreadOf(r.of(quantity{overheadName, "ratio"}))
	if both.N == 0 {
		return text
	}
	return text + fmt.Sprintf(`A test (TestOverhead) holds it against the kernel's own statistics of the programs, which are switched on for that: in this run
it was %.2f times these (quartiles %.2f to %.2f, n=%d), where 0.7 to 1.3 is allowed. The statistics see the programs alone, not what
it takes to call them, and cost something themselves.

`, both.Median, both.P25, both.P75, both.N)
}
