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
	"strconv"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// Calls whose cost is measured.
const (
	ownPread      = "own-pread"
	strangerPread = "stranger-pread"
	strangerCall  = "stranger-getppid"
	ownFill       = "own-page-added"
)

// Tools that are measured.
const (
	emptyTPBTF      = "empty-tp_btf"
	emptyTracepoint = "empty-tracepoint"
	emptyPread      = "empty-tracepoint-pread64" // the tracepoints of this one system call
	emptyHooks      = "empty-hooks"              // all hooks of the default modules that a pread passes
	emptyFill       = "empty-fill"
	whoseFill       = "whose-fill"
	clockPair       = "clock"
	ioModule        = "io"
	cacheModule     = "cache"
	defaults        = "default"
	defaultsClassic = "default-tracepoint"
	// With the hooks too that are not attached unless they are asked for.
	defaultsComplete = "default-all-hooks"
	// Latency of one call in 16.
	defaultsSampled = "default-sampled"
	// Only its start is measured.
	defaultsVerified = "default-verified"
	ktm              = "ktm"
	bpftrace         = "bpftrace"
)

// Units of the results.
const (
	nsAdded           = "added-ns/op"
	instructionsAdded = "added-instructions/op"
	nsPerOp           = "ns/op"
	bytes             = "B"
	overheadOfCPU     = "overhead/cpu"
)

// Servers that are measured.
const (
	serverOff = "off"
	serverOn  = "on"
	serverKTM = "ktm"
)

func addedBy(tool, call string) quantity {
	return quantity{name: "Added/call=" + call + "/tool=" + tool, unit: nsAdded}
}

func instructionsBy(tool, call string) quantity {
	return quantity{name: "Instructions/call=" + call + "/tool=" + tool, unit: instructionsAdded}
}

func serverName(server string) string { return "Server/ebpf=" + server }

// serverTurnName is one turn of those that serverName has the mean of.
func serverTurnName(server string, turn int) string {
	return "ServerTurn/ebpf=" + server + "/turn=" + strconv.Itoa(turn)
}

// snapshotName is a snapshot of counters that all have counted on each CPU, idleSnapshotName of such that have not.
func snapshotName(cpus int) string { return "SnapshotCPUs/cpus=" + strconv.Itoa(cpus) + "/counted=all" }

func idleSnapshotName(cpus int) string {
	return "SnapshotCPUs/cpus=" + strconv.Itoa(cpus) + "/counted=none"
}

const (
	snapshotHere = "Snapshot/tool=" + defaults
	collectKTM   = "Snapshot/tool=" + ktm
	startName    = "Start/tool="
	memoryName   = "MapMemory/tool="
	residentName = "Resident"
	bridgeName   = "Bridge/provider="
	mixName      = "Mix/load="
	mixCallName  = mixName + "full/call="
	modulesName  = "Modules/set="
	overheadName = "Overhead"
)

// bar is what must be reached: a quantity, alone or as a multiple of another, against a limit.
type bar struct {
	what string
	of   quantity
	per  quantity // none: the quantity alone
	unit string   // in which the limit is, empty for a ratio
	// why tells what bounds a bar that is not reached; it is printed only then.
	why     string
	limit   float64
	within  float64 // what the measurement cannot tell apart
	scale   float64 // from the samples' unit to that of the limit; zero means 1
	atLeast bool    // the limit is a lower one
	beside  bool    // no bar: measured to stand beside the one above
}

const (
	whyPread = "two things stand above the empty pair: two readings of the clock, see the row of a pair that does nothing else, and no cheaper clock is allowed in " +
		"tracing programs; and the counting itself. Latency sampling is there for who cannot afford the clock."
	whyStranger = "the module asks on each call which one it is, which is a look into a table in each of two programs; an empty program asks nothing. Nothing else is done for a call that is not traced."
	whyServer   = "the load never pauses, so that each call which is traced takes away from it what the rows above say that it costs, and what the server says of " +
		"itself stands below: most of what is missing here. The rest is the load's own calls, which pass the same hooks, and chance: see the quartiles."
	whyFill = "whose page it is only a function of the kernel can tell, and a program that asks it and does nothing else, which has a row of its own, is at the bar " +
		"or above it where calls are as expensive as the mitigations above make them; a program cannot do without. The rest is the counter, and a look whether the page " +
		"was dropped of late, by its file and place in it: regret is what the pages of a database cost that gives them back too early. Here every page was, " +
		"which is the most expensive case."
	whyMemory = "nearly all of it are tables that are there once, for all CPUs together: the threads' start times and what the scheduler had kept of each " +
		"thread. This machine has few CPUs to divide them by; the next row has what grows with them."
	whyNative = "a native instrument of the server makes its tag values and their hash anew at each addition, which is nearly all of this time and no part " +
		"of the bridge: the same collection into Prometheus instruments has the row below. Here each series moves; the section on scaling has " +
		"the cost of each, and those that do not move cost next to nothing."
	whySnapshot = "each counter of each CPU is read by a load that cannot tear, and added, four CPUs at a time; a histogram that has counted nothing on these four is passed over " +
		"at its sum. A server is between this row and the next, since not every CPU has seen every call, and no call has taken every time. The section on " +
		"scaling has the time of one counter; the bar was set by measurements of 300 of them."
)

// bars are all that the observer has to reach.
var bars = []bar{
	{
		what: "added to the server's own cached 4 KiB pread, default modules, against KTM",
		of:   addedBy(defaults, ownPread), per: addedBy(ktm, ownPread), limit: 0.45, why: whyPread,
	},
	{
		what: "the same against an empty pair of programs",
		of:   addedBy(defaults, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 1.9, why: whyPread,
	},
	{
		what: "default modules with all their hooks, of which a pread passes one more, against an empty pair",
		of:   addedBy(defaultsComplete, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true,
	},
	{
		what: "the same against empty programs on each of these hooks",
		of:   addedBy(defaultsComplete, ownPread), per: addedBy(emptyHooks, ownPread), beside: true,
	},
	{what: "a pair that reads the clock, and does nothing else, against an empty pair", of: addedBy(clockPair, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "the module io alone against an empty pair", of: addedBy(ioModule, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "bpftrace's latency histogram of pread against an empty pair", of: addedBy(bpftrace, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "KTM against an empty pair", of: addedBy(ktm, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{
		what: "default modules, latency sampled 1 in 16, against an empty pair",
		of:   addedBy(defaultsSampled, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 1.25,
		why: "with hardly a clock read left, what stands above the empty pair is the work that sampling leaves exact: finding the operation of the call, " +
			"the count by operation and result, the bytes and their histogram, and one random number.",
	},
	{
		what: "added to a stranger's pread, default modules, against KTM",
		of:   addedBy(defaults, strangerPread), per: addedBy(ktm, strangerPread), limit: 0.6,
	},
	{
		what: "added to a stranger's getppid, default modules by tp_btf, against an empty pair by tp_btf",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyTPBTF, strangerCall), limit: 1.1, why: whyStranger,
	},
	{
		what: "the same by classic tracepoints, against an empty pair of these",
		of:   addedBy(defaultsClassic, strangerCall), per: addedBy(emptyTracepoint, strangerCall), limit: 1.1, why: whyStranger,
	},
	{
		what: "default modules by tp_btf, against an empty pair on the classic tracepoints of another system call",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyPread, strangerCall), beside: true,
	},
	{
		what: "instructions added to a stranger's getppid by fentry, module io, in an emulated machine",
		of:   instructionsBy(string(kprobe.Fentry), strangerCall), unit: "instructions", within: 0.1,
	},
	{
		what: "the same by tp_btf, which the method does see", beside: true,
		of: instructionsBy(string(kprobe.TPBTF), strangerCall), unit: "instructions",
	},
	{
		what: "the same by classic tracepoints", beside: true,
		of: instructionsBy(string(kprobe.Tracepoint), strangerCall), unit: "instructions",
	},
	{
		what: "instructions added to a stranger's pread by fentry", beside: true,
		of: instructionsBy(string(kprobe.Fentry), strangerPread), unit: "instructions",
	},
	{
		what: "instructions added to the server's own pread by fentry", beside: true,
		of: instructionsBy(string(kprobe.Fentry), ownPread), unit: "instructions",
	},
	{
		what: "the same by tp_btf", beside: true,
		of: instructionsBy(string(kprobe.TPBTF), ownPread), unit: "instructions",
	},
	{
		what: "per page added to the page cache, module cache, against an empty program",
		of:   addedBy(cacheModule, ownFill), per: addedBy(emptyFill, ownFill), limit: 1.15, why: whyFill,
	},
	{what: "the same, default modules", of: addedBy(defaults, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "the same, KTM", of: addedBy(ktm, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "the same, a program that asks whose page it is and does nothing else", of: addedBy(whoseFill, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "snapshot of the default modules, here", of: quantity{snapshotHere, nsPerOp}, limit: 1000, unit: "ns"},
	{what: "its allocations", of: quantity{snapshotHere, "allocs/op"}, unit: "allocations"},
	{what: "its system calls", of: quantity{snapshotHere, "syscalls/op"}, unit: "system calls"},
	{
		what: "KTM's collection against that snapshot",
		of:   quantity{collectKTM, nsPerOp}, per: quantity{snapshotHere, nsPerOp}, limit: 80, atLeast: true,
	},
	{what: "the snapshot with the entries of 128 CPUs, in all of which everything has counted", of: quantity{snapshotName(128), nsPerOp}, limit: 15, unit: "us", scale: 1e-3, why: whySnapshot},
	{what: "the same, of which nothing has counted", of: quantity{idleSnapshotName(128), nsPerOp}, unit: "us", scale: 1e-3, beside: true},
	{what: "memory of the maps, per CPU", of: quantity{memoryName + defaults, "B/cpu"}, limit: 64, unit: "KiB", scale: 1.0 / 1024, why: whyMemory},
	{what: "what of that one more CPU adds", of: quantity{memoryName + defaults, "grows-B/cpu"}, unit: "KiB", scale: 1.0 / 1024, beside: true},
	{what: "the same, KTM", of: quantity{memoryName + ktm, "B/cpu"}, unit: "KiB", scale: 1.0 / 1024, beside: true},
	{what: "resident memory of the server, on more than off", of: quantity{residentName, "added-" + bytes}, limit: 8, unit: "MB", scale: 1e-6},
	{what: "start of the default modules", of: quantity{startName + defaults, nsPerOp}, limit: 250, unit: "ms", scale: 1e-6},
	{what: "the same with verification", of: quantity{startName + defaultsVerified, nsPerOp}, limit: 700, unit: "ms", scale: 1e-6},
	{what: "the same, KTM", of: quantity{startName + ktm, nsPerOp}, unit: "ms", scale: 1e-6, beside: true},
	{
		what: "CPU of one collection into native instruments, of a server under full load",
		of:   quantity{bridgeName + "native-loaded", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6, why: whyNative,
	},
	{
		what: "the same into Prometheus instruments",
		of:   quantity{bridgeName + "prometheus-loaded", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6,
	},
	{
		what: "the same into native instruments, with all series that the default modules can have, moving all at once",
		of:   quantity{bridgeName + "native", "cpu-ns/op"}, unit: "ms", scale: 1e-6, beside: true,
	},
	{
		what: "the same into Prometheus instruments, likewise",
		of:   quantity{bridgeName + "prometheus", "cpu-ns/op"}, unit: "ms", scale: 1e-6, beside: true,
	},
	{
		what: "how far ebpf_overhead_seconds_total is from the kernel's own statistics",
		of:   quantity{overheadName, "off"}, limit: 30, unit: "%", scale: 100,
	},
	{
		what: "throughput of the server under full load, on against off",
		of:   quantity{serverName(serverOn), "points/s"}, per: quantity{serverName(serverOff), "points/s"}, limit: 0.985, atLeast: true, why: whyServer,
	},
	{
		what: "the same for a second of the server's CPU time", beside: true,
		of: quantity{serverName(serverOn), "points/cpu-s"}, per: quantity{serverName(serverOff), "points/cpu-s"},
	},
	{
		what: "what the server says that it costs, of the CPU time that it takes", beside: true,
		of: quantity{serverName(serverOn), overheadOfCPU}, unit: "%", scale: 100,
	},
	{
		what: "99th percentile of the queries, on against off",
		of:   quantity{serverName(serverOn), "p99-ns"}, per: quantity{serverName(serverOff), "p99-ns"}, limit: 1.03, why: whyServer,
	},
	{
		what: "throughput, KTM against off", beside: true,
		of: quantity{serverName(serverKTM), "points/s"}, per: quantity{serverName(serverOff), "points/s"},
	},
	{
		what: "the same for a second of the server's CPU time, KTM", beside: true,
		of: quantity{serverName(serverKTM), "points/cpu-s"}, per: quantity{serverName(serverOff), "points/cpu-s"},
	},
	{
		what: "99th percentile, KTM against off", beside: true,
		of: quantity{serverName(serverKTM), "p99-ns"}, per: quantity{serverName(serverOff), "p99-ns"},
	},
}

// The verdicts on a bar.
const (
	reached     = "reached"
	notReached  = "**not reached**"
	notMeasured = "not measured"
	noBar       = "-"
)

// row is a bar with what was measured.
type row struct {
	what, limit, measured, verdict string
}

// table judges each bar by the median.
func table(r *results, of []bar) []row {
	rows := make([]row, 0, len(of))
	for _, b := range of {
		rows = append(rows, b.judge(r))
	}
	return rows
}

// reasons tell of each bar that is not reached what bounds it.
func reasons(r *results, of []bar) []string {
	var lines []string
	for _, b := range of {
		if b.judge(r).verdict != notReached {
			continue
		}
		why := b.why
		if why == "" {
			why = "what bounds it is not known yet."
		}
		lines = append(lines, "**"+b.what+"**: "+why)
	}
	return lines
}

func (b bar) judge(r *results) row {
	out := row{what: b.what, limit: b.limitText(), measured: "", verdict: notMeasured}
	s := spreadOf(b.samples(r))
	if s.N == 0 {
		out.measured = "no samples"
		return out
	}
	out.measured = fmt.Sprintf("%s (%s to %s, n=%d)", b.text(s.Median), b.text(s.P25), b.text(s.P75), s.N)
	switch {
	case b.beside:
		out.verdict = noBar
	case b.atLeast && s.Median >= b.limit, !b.atLeast && s.Median <= b.limit+b.within:
		out.verdict = reached
	default:
		out.verdict = notReached
	}
	return out
}

// samples are what the limit is about, in its unit.
func (b bar) samples(r *results) []float64 {
	if b.per != (quantity{}) {
		return ratios(r.of(b.of), r.of(b.per))
	}
	scale := b.scale
	if scale == 0 {
		scale = 1
	}
	var samples []float64
	for _, v := range r.of(b.of) {
		samples = append(samples, v*scale)
	}
	return samples
}

func (b bar) limitText() string {
	switch {
	case b.beside:
		return noBar
	case b.limit == 0 && b.within > 0:
		return "0, within " + b.text(b.within)
	case b.limit == 0:
		return "0"
	case b.atLeast:
		return ">= " + b.text(b.limit)
	default:
		return "<= " + b.text(b.limit)
	}
}

// text is a value in the bar's unit. Near 1 the third decimal matters.
func (b bar) text(v float64) string {
	switch {
	case b.unit != "":
		return strconv.FormatFloat(v, 'f', decimals(v), 64) + " " + b.unit
	case v > 0.9 && v < 1.2:
		return strconv.FormatFloat(v, 'f', 3, 64) + " x"
	default:
		return strconv.FormatFloat(v, 'f', decimals(v), 64) + " x"
	}
}

func decimals(v float64) int {
	switch {
	case v == float64(int64(v)), v >= 100, v <= -100:
		return 0
	case v >= 10, v <= -10:
		return 1
	default:
		return 2
	}
}
