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
	clockPair       = "clock"
	ioModule        = "io"
	cacheModule     = "cache"
	defaults        = "default"
	defaultsClassic = "default-tracepoint"
	ktm             = "ktm"
	bpftrace        = "bpftrace"
)

// Units of the results.
const (
	nsAdded = "added-ns/op"
	nsPerOp = "ns/op"
	bytes   = "B"
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

func serverName(server string) string { return "Server/ebpf=" + server }

// windowName is a stretch of time on one server, in which a tool is attached; withoutName the mean of those before and after.
func windowName(tool string) string  { return "Window/tool=" + tool }
func withoutName(tool string) string { return "Window/tool=" + tool + "/off" }

func snapshotName(cpus int) string { return "SnapshotCPUs/cpus=" + strconv.Itoa(cpus) }

const (
	snapshotHere = "Snapshot/tool=" + defaults
	collectKTM   = "Snapshot/tool=" + ktm
	startName    = "Start/tool="
	memoryName   = "MapMemory/tool="
	residentName = "Resident"
	bridgeName   = "Bridge/provider="
	mixName      = "Mix/load="
)

// bar is what must be reached: a quantity, alone or as a multiple of another, against a limit.
type bar struct {
	what string
	of   quantity
	per  quantity // none: the quantity alone
	unit string   // in which the limit is, empty for a ratio
	// absent tells why there can be no measurement yet.
	absent  string
	limit   float64
	scale   float64 // from the samples' unit to that of the limit; zero means 1
	atLeast bool    // the limit is a lower one
	beside  bool    // no bar: measured to stand beside the one above
}

// bars are all that the observer has to reach.
var bars = []bar{
	{
		what: "added to the server's own cached 4 KiB pread, default modules, against KTM",
		of:   addedBy(defaults, ownPread), per: addedBy(ktm, ownPread), limit: 0.45,
	},
	{
		what: "the same against an empty pair of programs",
		of:   addedBy(defaults, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 1.9,
	},
	{
		what: "the same against empty programs on every hook that a pread passes",
		of:   addedBy(defaults, ownPread), per: addedBy(emptyHooks, ownPread), beside: true,
	},
	{what: "a pair that reads the clock, and does nothing else, against an empty pair", of: addedBy(clockPair, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "the module io alone against an empty pair", of: addedBy(ioModule, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "bpftrace's latency histogram of pread against an empty pair", of: addedBy(bpftrace, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{what: "KTM against an empty pair", of: addedBy(ktm, ownPread), per: addedBy(emptyTPBTF, ownPread), beside: true},
	{
		what:  "default modules, latency sampled 1 in 16, against an empty pair",
		limit: 1.25, absent: "latency is not sampled yet",
	},
	{
		what: "added to a stranger's pread, default modules, against KTM",
		of:   addedBy(defaults, strangerPread), per: addedBy(ktm, strangerPread), limit: 0.6,
	},
	{
		what: "added to a stranger's getppid, default modules by tp_btf, against an empty pair by tp_btf",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyTPBTF, strangerCall), limit: 1.1,
	},
	{
		what: "the same by classic tracepoints, against an empty pair of these",
		of:   addedBy(defaultsClassic, strangerCall), per: addedBy(emptyTracepoint, strangerCall), limit: 1.1,
	},
	{
		what: "default modules by tp_btf, against an empty pair on the classic tracepoints of another system call",
		of:   addedBy(defaults, strangerCall), per: addedBy(emptyPread, strangerCall), beside: true,
	},
	{
		what:   "instructions added to a stranger's getppid by fentry",
		absent: "counted in an emulated machine, not in this run",
	},
	{
		what: "per page added to the page cache, module cache, against an empty program",
		of:   addedBy(cacheModule, ownFill), per: addedBy(emptyFill, ownFill), limit: 1.15,
	},
	{what: "the same, default modules", of: addedBy(defaults, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "the same, KTM", of: addedBy(ktm, ownFill), per: addedBy(emptyFill, ownFill), beside: true},
	{what: "snapshot of the default modules, here", of: quantity{snapshotHere, nsPerOp}, limit: 1000, unit: "ns"},
	{what: "its allocations", of: quantity{snapshotHere, "allocs/op"}, unit: "allocations"},
	{what: "its system calls", of: quantity{snapshotHere, "syscalls/op"}, unit: "system calls"},
	{
		what: "KTM's collection against that snapshot",
		of:   quantity{collectKTM, nsPerOp}, per: quantity{snapshotHere, nsPerOp}, limit: 80, atLeast: true,
	},
	{what: "the snapshot with the entries of 128 CPUs", of: quantity{snapshotName(128), nsPerOp}, limit: 15, unit: "us", scale: 1e-3},
	{what: "memory of the maps, per CPU", of: quantity{memoryName + defaults, "B/cpu"}, limit: 64, unit: "KiB", scale: 1.0 / 1024},
	{what: "the same, KTM", of: quantity{memoryName + ktm, "B/cpu"}, unit: "KiB", scale: 1.0 / 1024, beside: true},
	{what: "resident memory of the server, on more than off", of: quantity{residentName, "added-" + bytes}, limit: 8, unit: "MB", scale: 1e-6},
	{what: "start of the default modules", of: quantity{startName + defaults, nsPerOp}, limit: 250, unit: "ms", scale: 1e-6},
	{what: "the same with verification", limit: 700, unit: "ms", absent: "metrics are not verified at the start yet"},
	{what: "the same, KTM", of: quantity{startName + ktm, nsPerOp}, unit: "ms", scale: 1e-6, beside: true},
	{
		what: "CPU of one collection into native instruments, every series moving",
		of:   quantity{bridgeName + "native", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6,
	},
	{
		what: "the same into Prometheus instruments",
		of:   quantity{bridgeName + "prometheus", "cpu-ns/op"}, limit: 1, unit: "ms", scale: 1e-6,
	},
	{
		what: "points that the server takes under full load, on against off",
		of:   quantity{serverName(serverOn), "points/s"}, per: quantity{serverName(serverOff), "points/s"}, limit: 0.985, atLeast: true,
	},
	{
		what: "queries that it answers meanwhile, on against off",
		of:   quantity{serverName(serverOn), "queries/s"}, per: quantity{serverName(serverOff), "queries/s"}, limit: 0.985, atLeast: true,
	},
	{
		what: "their 99th percentile, on against off",
		of:   quantity{serverName(serverOn), "p99-ns"}, per: quantity{serverName(serverOff), "p99-ns"}, limit: 1.03,
	},
	{
		what: "points within one server, programs attached against detached",
		of:   quantity{windowName(defaults), "points/s"}, per: quantity{withoutName(defaults), "points/s"}, limit: 0.985, atLeast: true,
	},
	{
		what: "queries within one server",
		of:   quantity{windowName(defaults), "queries/s"}, per: quantity{withoutName(defaults), "queries/s"}, limit: 0.985, atLeast: true,
	},
	{
		what: "99th percentile within one server",
		of:   quantity{windowName(defaults), "p99-ns"}, per: quantity{withoutName(defaults), "p99-ns"}, limit: 1.03,
	},
	{
		what: "points within one server, KTM", beside: true,
		of: quantity{windowName(ktm), "points/s"}, per: quantity{withoutName(ktm), "points/s"},
	},
	{
		what: "queries within one server, KTM", beside: true,
		of: quantity{windowName(ktm), "queries/s"}, per: quantity{withoutName(ktm), "queries/s"},
	},
	{
		what: "99th percentile within one server, KTM", beside: true,
		of: quantity{windowName(ktm), "p99-ns"}, per: quantity{withoutName(ktm), "p99-ns"},
	},
	{
		what: "points, KTM against off", beside: true,
		of: quantity{serverName(serverKTM), "points/s"}, per: quantity{serverName(serverOff), "points/s"},
	},
	{
		what: "queries, KTM against off", beside: true,
		of: quantity{serverName(serverKTM), "queries/s"}, per: quantity{serverName(serverOff), "queries/s"},
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

func (b bar) judge(r *results) row {
	out := row{what: b.what, limit: b.limitText(), measured: "", verdict: notMeasured}
	if b.absent != "" {
		out.measured = b.absent
		return out
	}
	s := spreadOf(b.samples(r))
	if s.N == 0 {
		out.measured = "no samples"
		return out
	}
	out.measured = fmt.Sprintf("%s (%s to %s, n=%d)", b.text(s.Median), b.text(s.P25), b.text(s.P75), s.N)
	switch {
	case b.beside:
		out.verdict = noBar
	case b.atLeast && s.Median >= b.limit, !b.atLeast && s.Median <= b.limit:
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
