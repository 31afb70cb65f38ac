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

// keptHead lists what is not traced because the kernel counts it.
const keptHead = `## What is not traced because the kernel counts it

The kernel keeps these totals for each task, traced or not. An iterator reads them at each collection; between two
collections they have no cost:

| what | where the kernel keeps it | what tracing it would cost |
|---|---|---|
| wait for a CPU | task_struct.sched_info | sched_wakeup and sched_switch: 9% of every process's pipe round trip [1] |
| CPU time | task_struct.se, signal_struct | sched_switch, as above |
| switches, voluntary and not | task_struct, signal_struct | sched_switch, as above |
| page faults, major and minor | task_struct, signal_struct | 126 ns for each fault, which takes about 12 us [1]; 19,197 in 20 s of ingest [2] |
| resident pages, by kind | mm_struct | a program on each change of the counters, for which there is no stable hook: not measured |

[1] Measured once on the development machine, Linux 6.18, with tracing programs attached; not part of this run.
[2] Counted once on the same machine, in the server under load; not part of this run.

The kernel does not keep the duration of each page fault or of each wait. Their distribution needs a module that traces
them, at the cost in the table.

`

// kept writes the section on what iterators read, with the cost of a pass.
func kept(r *results) string {
	var b strings.Builder
	b.WriteString(keptHead)
	if s := spreadOf(r.of(quantity{refreshName(ownThreads, 100), nsPerOp})); s.N > 0 {
		fmt.Fprintf(&b, "One pass over a process of 100 threads takes %s (quartiles %s to %s, n=%d), once per collection.\n"+
			"To repeat the measurement on any machine: `go test -bench Refresh ./observer`.\n\n", us(s.Median), us(s.P25), us(s.P75), s.N)
	}
	return b.String()
}

// us formats nanoseconds in a suitable unit.
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

// scaling writes the sections on how the cost grows.
func scaling(r *results) string {
	sections := []string{scaleCPUs(r), scaleThreads(r), scaleCollisions(r), scaleModules(r)}
	sections = slices.DeleteFunc(sections, func(s string) bool { return s == "" })
	if len(sections) == 0 {
		return ""
	}
	return "## How the cost grows\n\n" + strings.Join(sections, "\n") + "\n"
}

// scaleCPUs writes the section on the snapshot, which reads the counters of each CPU.
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

The programs count on the CPU that they run on and share nothing, so a call costs the same on any number of CPUs. The
maps grow by the same amount for each CPU, see the table of results. Only the snapshot has more to read. It skips
histograms that are empty on a CPU, so both extremes are measured:

| CPUs | snapshot, all counters nonzero (quartiles) | per counter and CPU | snapshot, all counters zero | allocations |
|---|---|---|---|---|
` + b.String() + "\nEntries of CPUs that this machine does not have are simulated. They are not written during the measurement.\n"
}

// scaleThreads writes the section on the pass over the threads.
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

A call costs the same in any thread. Only the pass of the iterators takes longer: the kernel runs them over all tasks of
the host. Here a process starts threads that sleep:

| threads of the process | pass, this process observed (quartiles) | pass, another one observed | untracked threads |
|---|---|---|---|
%s
A linear fit gives %s plus %s for each thread.`, b.String(), us(start), us(each))
	if last := manyThreads[len(manyThreads)-1]; counts[len(counts)-1] < float64(last) {
		text += fmt.Sprintf(" This machine allows no more threads; by the fit, a pass over %d takes %s.", last, us(start+each*float64(last)))
	}
	return text + `
For an untracked thread, the pass could not determine the wait for a CPU, because the module sched tracks 1,024 threads.
ebpf_sched_run_queue_wait_skipped_total counts these. All other metrics of the module are exact for any number of
threads.
`
}

// fit returns the least-squares line through points.
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

// scaleCollisions writes the section on what the tables of start times lose.
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

The start time of a call is kept in a table of %d slots, by the low bits of the thread id. If another thread with the
same slot starts a call meanwhile, the first call loses its duration, but not its count. ebpf_events_lost_total counts
these. The figures are from a simulation with calls at random times, %d for each figure:

| threads | in a traced call at once | lost, consecutive ids | lost, random ids |
|---|---|---|---|
%s
A process that starts its threads one after the other has consecutive ids. These do not collide unless there are more
threads than slots. Otherwise the part that is lost is about the number of threads in a call at once divided by the
number of slots, for any number of threads. At most as many calls as there are CPUs use a CPU at once; calls that wait
for a device or a peer come on top.
`, slots, simulated, b.String())
}

func percent(part float64) string {
	if part == 0 {
		return "0"
	}
	return strconv.FormatFloat(100*part, 'f', 2, 64) + "%"
}

// scaleModules writes the section on the cost of more modules and series.
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

The last two columns are the CPU time of one collection of the bridge in which every series changes, and the time per
series. A server pays less: a series that does not change costs one comparison, and a series that has never changed does
not exist.

| modules | start | maps, per CPU | snapshot | series at most | native instruments (per series) | Prometheus instruments (per series) |
|---|---|---|---|---|---|---|
%s
A module adds to the cost of a call only if one of its hooks is on the path of the call. The rows of single modules in
the table of results show the two that are on the path of a pread.
`, b.String())
}

// ownCost writes the section on the metric of the observer's own cost.
func ownCost(r *results) string {
	text := `## ebpf_overhead_seconds_total

This metric is the server's own estimate of what a module costs it: the number of events times the cost of an event. The
cost of an event is measured during verification, on this machine, by known work with and without the module's programs:
a call that reads a cached page, a page that enters the page cache, a fault on new memory. The time of the iterators is
measured at each run. The estimate does not need the kernel's statistics of programs, which slow down all eBPF programs
of the host. It does not include what other processes pay, nor events of a kind for which there is no such work.
--ebpf-max-overhead uses it to limit each module to its part of the server's CPU time.

`
	both := spreadOf(r.of(quantity{overheadName, "ratio"}))
	if both.N == 0 {
		return text
	}
	return text + fmt.Sprintf(`A test (TestOverhead) compares it with the kernel's own statistics of the programs, which the test enables. In this run,
the estimate was %.2f times the statistics (quartiles %.2f to %.2f, n=%d); 0.7 to 1.3 is allowed. The statistics only
include the programs, not the cost of calling them, and have a cost of their own.

`, both.Median, both.P25, both.P75, both.N)
}
