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
	// With all hooks, including those that are off by default.
	defaultsComplete = "default-all-hooks"
	// Times one call in 16.
	defaultsSampled = "default-sampled"
	// The process observes itself, and its calls are attributed to works and files.
	defaultsAttributed = "default-attributed"
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

// serverTurnName names one of the turns whose mean is under serverName.
func serverTurnName(server string, turn int) string {
	return "ServerTurn/ebpf=" + server + "/turn=" + strconv.Itoa(turn)
}

// snapshotName names a snapshot with all counters nonzero, idleSnapshotName one with all counters zero.
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

// bar is a target: a limit for a quantity, or for the ratio of two quantities.
type bar struct {
	what string
	of   quantity
	per  quantity // none: the quantity alone
	unit string   // of the limit, empty for a ratio
	// why is the reason, printed only if the target is not reached.
	why     string
	limit   float64
	within  float64 // the resolution of the measurement
	scale   float64 // from the unit of the samples to the unit of the limit; zero means 1
	atLeast bool    // the limit is a lower bound
	beside  bool    // no target: measured for comparison with the row above
}

const (
	whyPread = "the cost above the empty pair has two parts. One is reading the clock twice, see the row of a pair that only reads it; " +
		"tracing programs may not use a cheaper clock. The other is the counting itself. Latency sampling reduces the cost of the clock."
	whyAttributed = "a program finds the goroutine with two reads of user memory, and its work with two table lookups. Each read takes about as long as " +
		"reading the clock, mostly because the kernel has to enable access to user memory first."
	whyStranger = "each of the module's two programs looks up the system call in a table; an empty program does not. Nothing else is done " +
		"for a call that is not traced."
	whyServer = "the load never pauses, so the cost of each traced call, see the rows above, reduces the throughput. The overhead that the " +
		"server reports, in a row below, is most of the difference. The rest is the system calls of the load generator, which pass the same " +
		"hooks, and noise, see the quartiles."
	whyFill = "only a kernel helper can tell which process adds the page, and the module cannot do without it. A program that only calls this " +
		"helper (see its row) is at the target or above it where calls are as expensive as with the mitigations above. The rest is the counter, " +
		"and a lookup of whether the page was dropped recently, by its file and offset. It is needed for regret, which counts pages that a " +
		"database drops too early. Here every page was dropped recently, which is the most expensive case."
	whyMemory = "nearly all of it is tables that exist once for all CPUs: the start times of the threads' calls, and the scheduler's previous " +
		"totals of each thread. This machine has few CPUs to divide them by. The next row has the part that grows with the number of CPUs."
	whyNative = "a native instrument of the server builds its tag values and their hash again at each addition. This takes nearly all of the time and " +
		"is not part of the bridge: the row below is the same collection into Prometheus instruments. Here each series changes. The section on " +
		"scaling has the cost of each series; those that do not change cost almost nothing."
	whySnapshot = "each counter of each CPU is read by an atomic load and added, four CPUs at a time. A histogram whose sum is zero on these four is " +
		"skipped. A real server is between this row and the next, since not every CPU runs every call, and no call fills every bucket. The section " +
		"on scaling has the time per counter. The target was set by measurements with 300 counters."
)

// bars are the targets of the observer, and measurements to compare them with.
var bars = []bar{
	{
		what: "time added to the server's own cached 4 KiB pread, default modules, relative to KTM",
		of:   addedBy(defaults, ownPread), per: addedBy(ktm, ownPread), limit: 0.45, why: whyPread,
	},
	{
		what: "the same, relative to an empty pair of programs",
		of:   addedBy(defaults, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 1.9, why: whyPread,
	},
	{
		what: "default modules with all hooks (one more on the path of a pread), relative to an empty pair",
		of:   addedBy(defaultsComplete, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true,
	},
	{
		what: "the same, relative to empty programs on each of these hooks",
		of:   addedBy(defaultsComplete, ownPread), per: addedBy(emptyHooks, ownPread), beside: true,
	},
	{
		what: "default modules with attribution of each call to a work, relative to KTM",
		of:   addedBy(defaultsAttributed, ownPread), per: addedBy(ktm, ownPread), limit: 0.5, why: whyAttributed,
	},
	{
		what: "the same, relative to an empty pair",
		of:   addedBy(defaultsAttributed, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 2, why: whyAttributed,
	},
	{what: "a pair that only reads the clock, relative to an empty pair", of: addedBy(clockPair, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "module io alone, relative to an empty pair", of: addedBy(ioModule, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "bpftrace's latency histogram of pread, relative to an empty pair", of: addedBy(bpftrace, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "KTM, relative to an empty pair", of: addedBy(ktm, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{
		what: "default modules, latency sampled 1 in 16, relative to an empty pair",
		of:   addedBy(defaultsSampled, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 1.25,
		why: "the clock is rarely read. The cost above the empty pair is the work that is still done for each call: finding the operation, " +
			"the count by operation and result, the bytes and their histogram, and one random number.",
	},
	{
		what: "time added to another process's pread, default modules, relative to KTM",
		of:   addedBy(defaults, strangerPread), per: addedBy(ktm, strangerPread), limit: 0.6,
	},
	{
		what: "time added to another process's getppid, default modules by tp_btf, relative to an empty pair by tp_btf",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyTPBTF, strangerCall), limit: 1.1, why: whyStranger,
	},
	{
		what: "the same by classic tracepoints, relative to an empty pair by classic tracepoints",
		of:   addedBy(defaultsClassic, strangerCall), per: addedBy(emptyTracepoint, strangerCall), limit: 1.1, why: whyStranger,
	},
	{
		what: "default modules by tp_btf, relative to an empty pair on the classic tracepoints of another system call",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyPread, strangerCall), beside: true,
	},
	{
		what: "instructions added to another process's getppid by fentry, module io, on an emulated machine",
		of:   instructionsBy(string(kprobe.Fentry), strangerCall), unit: "instructions", within: 0.1,
	},
	{
		what: "the same by tp_btf, as a check of the method", beside: true,
		of: instructionsBy(string(kprobe.TPBTF), strangerCall), unit: "instructions",
	},
	{
		what: "the same by classic tracepoints", beside: true,
		of: instructionsBy(string(kprobe.Tracepoint), strangerCall), unit: "instructions",
	},
	{
		what: "instructions added to another process's pread by fentry", beside: true,
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
		what: "time added per page that enters the page cache, module cache, relative to an empty program",
		of:   addedBy(cacheModule, ownFill), per: addedBy(emptyFill, ownFill), limit: 1.15, why: whyFill,
	},
	{what: "the same, default modules", of: addedBy(defaults, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "the same, KTM", of: addedBy(ktm, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "the same, a program that only checks which process adds the page", of: addedBy(whoseFill, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "snapshot of the default modules on this machine", of: quantity{snapshotHere, nsPerOp}, limit: 1000, unit: "ns"},
	{what: "allocations of a snapshot", of: quantity{snapshotHere, "allocs/op"}, unit: "allocations"},
	{what: "system calls of a snapshot", of: quantity{snapshotHere, "syscalls/op"}, unit: "system calls"},
	{
		what: "KTM's collection, relative to that snapshot",
		of:   quantity{collectKTM, nsPerOp}, per: quantity{snapshotHere, nsPerOp}, limit: 80, atLeast: true,
	},
	{what: "snapshot with the entries of 128 CPUs, all counters nonzero", of: quantity{snapshotName(128), nsPerOp}, limit: 15, unit: "us", scale: 1e-3, why: whySnapshot},
	{what: "the same, all counters zero", of: quantity{idleSnapshotName(128), nsPerOp}, unit: "us", scale: 1e-3, beside: true},
	{what: "memory of the maps, per CPU", of: quantity{memoryName + defaults, "B/cpu"}, limit: 64, unit: "KiB", scale: 1.0 / 1024, why: whyMemory},
	{what: "the part of it that each further CPU adds", of: quantity{memoryName + defaults, "grows-B/cpu"}, unit: "KiB", scale: 1.0 / 1024, beside: true},
	{what: "the same, KTM", of: quantity{memoryName + ktm, "B/cpu"}, unit: "KiB", scale: 1.0 / 1024, beside: true},
	{what: "resident memory of the server, on minus off", of: quantity{residentName, "added-" + bytes}, limit: 8, unit: "MB", scale: 1e-6},
	{what: "start time of the default modules", of: quantity{startName + defaults, nsPerOp}, limit: 250, unit: "ms", scale: 1e-6},
	{what: "the same with verification", of: quantity{startName + defaultsVerified, nsPerOp}, limit: 700, unit: "ms", scale: 1e-6},
	{what: "the same, KTM", of: quantity{startName + ktm, nsPerOp}, unit: "ms", scale: 1e-6, beside: true},
	{
		what: "CPU time of one collection into native instruments, server under full load",
		of:   quantity{bridgeName + "native-loaded", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6, why: whyNative,
	},
	{
		what: "the same into Prometheus instruments",
		of:   quantity{bridgeName + "prometheus-loaded", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6,
	},
	{
		what: "the same into native instruments, all possible series of the default modules changing at once",
		of:   quantity{bridgeName + "native", "cpu-ns/op"}, unit: "ms", scale: 1e-6, beside: true,
	},
	{
		what: "the same into Prometheus instruments, all possible series changing at once",
		of:   quantity{bridgeName + "prometheus", "cpu-ns/op"}, unit: "ms", scale: 1e-6, beside: true,
	},
	{
		what: "deviation of ebpf_overhead_seconds_total from the kernel's own statistics",
		of:   quantity{overheadName, "off"}, limit: 30, unit: "%", scale: 100,
	},
	{
		what: "throughput of the server under full load, on relative to off",
		of:   quantity{serverName(serverOn), "points/s"}, per: quantity{serverName(serverOff), "points/s"}, limit: 0.985, atLeast: true, why: whyServer,
	},
	{
		what: "the same, per second of the server's CPU time", beside: true,
		of: quantity{serverName(serverOn), "points/cpu-s"}, per: quantity{serverName(serverOff), "points/cpu-s"},
	},
	{
		what: "overhead that the server reports, as part of its CPU time", beside: true,
		of: quantity{serverName(serverOn), overheadOfCPU}, unit: "%", scale: 100,
	},
	{
		what: "99th percentile of query latency, on relative to off",
		of:   quantity{serverName(serverOn), "p99-ns"}, per: quantity{serverName(serverOff), "p99-ns"}, limit: 1.03, why: whyServer,
	},
	{
		what: "throughput, KTM relative to off", beside: true,
		of: quantity{serverName(serverKTM), "points/s"}, per: quantity{serverName(serverOff), "points/s"},
	},
	{
		what: "the same, per second of the server's CPU time, KTM", beside: true,
		of: quantity{serverName(serverKTM), "points/cpu-s"}, per: quantity{serverName(serverOff), "points/cpu-s"},
	},
	{
		what: "99th percentile of query latency, KTM relative to off", beside: true,
		of: quantity{serverName(serverKTM), "p99-ns"}, per: quantity{serverName(serverOff), "p99-ns"},
	},
}

// The verdicts on a target.
const (
	reached     = "reached"
	notReached  = "**not reached**"
	notMeasured = "not measured"
	noBar       = "-"
)

// row is a target with its result.
type row struct {
	what, limit, measured, verdict string
}

// table compares the median with each target.
func table(r *results, of []bar) []row {
	rows := make([]row, 0, len(of))
	for _, b := range of {
		rows = append(rows, b.judge(r))
	}
	return rows
}

// reasons returns why targets are not reached, one line each.
func reasons(r *results, of []bar) []string {
	var lines []string
	for _, b := range of {
		if b.judge(r).verdict != notReached {
			continue
		}
		why := b.why
		if why == "" {
			why = "the reason is not known yet."
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

// samples returns the samples to compare with the limit, in its unit.
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

// text formats a value in the unit of the limit. Ratios near 1 have three decimals.
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
