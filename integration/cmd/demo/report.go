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
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

const (
	// none stands for a metric that the server feeds but that has counted nothing.
	none = "none so far"
	// absent stands for a metric that the server does not feed, which differs from zero.
	absent = "absent, since no attached hook feeds it"
	// pageSize is the page size of the kernels that the probes support, in bytes.
	pageSize = 4096
	barWidth = 48
)

// reads are the operations that make up the read latency.
var reads = []string{"read", "pread", "readv", "preadv"}

// writeReport prints the figures, all counted since the server started.
func writeReport(out *screen, f figures, queries []ask.Receipt, stats load.Stats) {
	total := stats.Total()
	fmt.Fprintf(out, "%s\n", out.paint(bold, "What the kernel did for banyand, as told by banyand's own group _monitoring"))
	fmt.Fprintf(out, "%s points written (measure %s, stream %s, trace %s), %s queries answered in %.0f s\n",
		count(total.Written), count(stats.Measure.Written), count(stats.Stream.Written), count(stats.Trace.Written),
		count(total.Queries), stats.Elapsed.Seconds())
	if failed := total.WriteErrors + total.QueryErrors; failed > 0 {
		fmt.Fprintf(out, "%s points or queries failed, the first with: %v\n", count(failed), stats.FirstError)
	}
	writeOperations(out, f)
	writeWork(out, f)
	writeFiles(out, f)
	writeQueries(out, queries)
	writeReadLatency(out, f)
	writeFadvise(out, f)
	writeCache(out, f)
	writeReclaim(out, f)
	writeProbes(out, f)
}

func writeOperations(out *screen, f figures) {
	out.heading("System calls", "p99 is interpolated within its bucket, as histogram_quantile does")
	ops := labelValues(f[operations], "op")
	slices.SortFunc(ops, func(a, b string) int {
		return int(f[operations].With("op", b).Sum() - f[operations].With("op", a).Sum())
	})
	rows := [][]string{{"op", "ok", "error", "bytes", "mean", "p99"}}
	for _, op := range ops {
		calls := f[operations].With("op", op)
		moved := "-"
		if b := f[bytesMoved].With("op", op); len(b) > 0 {
			moved = size(b.Sum())
		}
		p99 := "-"
		if h, err := histogramOf(f[durationBucket].With("op", op)); err == nil {
			p99 = span(h.quantile(0.99))
		}
		mean := f[durationSum].With("op", op).Sum() / f[durationCount].With("op", op).Sum()
		rows = append(rows, []string{
			op, count(calls.With("result", "ok").Sum()), count(calls.With("result", "error").Sum()), moved, span(mean), p99,
		})
	}
	out.table(false, rows...)
}

// classes are the classes of system calls by work.
var classes = []string{"read", "write", "sync", "fadvise", "other"}

// part is a work, or a kind of file, of a catalog.
type part struct{ name, catalog string }

// of returns the samples of a part, whose name is the value of a label.
func (p part) of(samples ask.Samples, label string) ask.Samples {
	return samples.With(label, p.name).With("catalog", p.catalog)
}

// partsOf returns the parts that a metric has, those with the most of another metric first.
func partsOf(f figures, metric, label, most string) []part {
	var parts []part
	for _, s := range f[metric] {
		if p := (part{s.Labels[label], s.Labels["catalog"]}); !slices.Contains(parts, p) {
			parts = append(parts, p)
		}
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Compare(b.of(f[most], label).Sum(), a.of(f[most], label).Sum())
	})
	return parts
}

// writeWork prints system calls and pages by work, the work with the most time first.
func writeWork(out *screen, f figures) {
	out.heading("Attribution", "system calls, filled pages and regret (pages dropped too early), by the server's work")
	if len(f[workOperations]) == 0 {
		fmt.Fprintln(out, "  "+state(f, workOperations))
		return
	}
	of := func(metric string, w part) ask.Samples { return w.of(f[metric], "work") }
	rows := [][]string{append(append([]string{"work"}, classes...), "time", "filled", "regret")}
	for _, w := range partsOf(f, workOperations, "work", workSeconds) {
		row := []string{strings.TrimSpace(w.name + " " + w.catalog)}
		for _, class := range classes {
			row = append(row, count(of(workOperations, w).With("class", class).Sum()))
		}
		rows = append(rows, append(row, span(of(workSeconds, w).Sum()), count(of(workFilled, w).Sum()), count(of(workRegret, w).Sum())))
	}
	out.table(false, rows...)
}

// writeFiles prints calls, bytes and pages by kind of file, the kind with the most bytes first.
func writeFiles(out *screen, f figures) {
	const shown = 10
	out.heading("Files", fmt.Sprintf("the %d kinds with the most bytes; filled, dropped and regret are pages", shown))
	if len(f[fileBytes]) == 0 {
		fmt.Fprintln(out, "  nothing is counted by file")
		return
	}
	of := func(metric string, k part) ask.Samples { return k.of(f[metric], "kind") }
	kinds := partsOf(f, fileBytes, "kind", fileBytes)
	rows := [][]string{{"file", "reads", "writes", "fadvise", "read", "written", "filled", "dropped", "regret"}}
	for _, k := range kinds[:min(shown, len(kinds))] {
		row := []string{strings.TrimSpace(k.catalog + " " + k.name)}
		for _, class := range []string{"read", "write", "fadvise"} {
			row = append(row, count(of(fileOperations, k).With("class", class).Sum()))
		}
		for _, direction := range []string{"read", "write"} {
			row = append(row, size(of(fileBytes, k).With("direction", direction).Sum()))
		}
		rows = append(rows, append(row, count(of(fileFilled, k).Sum()), count(of(fileDropped, k).Sum()), count(of(fileRegret, k).Sum())))
	}
	out.table(false, rows...)
}

// writeQueries prints the first queries, which waited longest.
func writeQueries(out *screen, queries []ask.Receipt) {
	const shown = 5
	out.heading("Queries", fmt.Sprintf("the %d that waited longest in the kernel, and what it did for each", shown))
	if len(queries) == 0 {
		fmt.Fprintln(out, "  none with a receipt")
		return
	}
	rows := [][]string{{"query", "took", "waited", "reads", "read", "filled", "major faults"}}
	for _, q := range queries[:min(shown, len(queries))] {
		amount := func(field string, format func(float64) string) string {
			if value, ok := q.Fields[field]; ok {
				return format(value)
			}
			return "-"
		}
		rows = append(rows, []string{
			q.Catalog + " " + q.Group + "/" + q.Name, span(q.Duration), span(q.Waited),
			amount("io_reads", count[float64]), amount("io_read_bytes", size), amount("cache_filled_pages", count[float64]), amount("memory_major_faults", count[float64]),
		})
	}
	out.table(false, rows...)
}

func writeReadLatency(out *screen, f figures) {
	var (
		samples ask.Samples
		calls   []string
	)
	for _, op := range reads {
		if s := f[durationBucket].With("op", op); len(s) > 0 {
			samples = append(samples, s...)
			calls = append(calls, op)
		}
	}
	out.heading("Read latency", strings.Join(calls, " + "))
	h, err := histogramOf(samples)
	if err != nil || h.total() == 0 {
		fmt.Fprintln(out, "  "+state(f, durationBucket))
		return
	}
	rows := h.rows()
	greatest := 0.0
	for _, r := range rows {
		greatest = max(greatest, r.count)
	}
	for _, r := range rows {
		bound := "≤ " + span(r.to)
		if math.IsInf(r.to, 1) {
			bound = "> " + span(r.from)
		}
		b := bar(r.count, greatest, barWidth)
		fmt.Fprintf(out, "  %9s  %s%s %12s %7s\n", bound, out.paint(green, b),
			strings.Repeat(" ", barWidth-len([]rune(b))), count(r.count), percent(r.count/h.total()))
	}
}

func writeFadvise(out *screen, f figures) {
	out.heading("fadvise", "calls by advice")
	if len(f[fadvise]) == 0 {
		fmt.Fprintln(out, "  "+state(f, fadvise))
		return
	}
	rows := [][]string{{"advice", "calls"}}
	for _, s := range f[fadvise] {
		rows = append(rows, []string{s.Labels["advice"], count(s.Value)})
	}
	out.table(false, rows...)
}

func writeCache(out *screen, f figures) {
	out.heading("Page cache", "")
	rows := [][]string{{"", "pages", "size"}}
	var missing []string
	for _, line := range []struct{ name, metric string }{{"filled", cacheFilled}, {"deleted", cacheDeleted}} {
		if len(f[line.metric]) == 0 {
			missing = append(missing, line.name+": "+state(f, line.metric))
			continue
		}
		pages := f[line.metric].Sum()
		rows = append(rows, []string{line.name, count(pages), size(pages * pageSize)})
	}
	if len(rows) > 1 {
		out.table(false, rows...)
	}
	for _, m := range missing {
		fmt.Fprintln(out, "  "+m)
	}
	// One lookup can serve any number of pages, so lookups cannot be compared with the pages above.
	lookups := state(f, cacheLookups)
	if len(f[cacheLookups]) > 0 {
		lookups = count(f[cacheLookups].Sum()) + ", each for a run of pages"
	}
	fmt.Fprintln(out, "  lookups by buffered reads: "+lookups)
}

func writeReclaim(out *screen, f figures) {
	out.heading("Memory reclaim", "direct and memcg stall the server's own threads, kswapd works for the whole host")
	kinds := labelValues(f[reclaims], "kind")
	if len(kinds) == 0 {
		fmt.Fprintln(out, "  "+state(f, reclaims))
		return
	}
	cell := func(metric, kind string, write func(float64) string) string {
		s := f[metric].With("kind", kind)
		if len(s) == 0 {
			return "-"
		}
		return write(s.Sum())
	}
	rows := [][]string{{"kind", "events", "stalled", "mean stall", "scanned pages", "reclaimed pages"}}
	for _, kind := range kinds {
		mean := f[reclaimSum].With("kind", kind).Sum() / f[reclaimCount].With("kind", kind).Sum()
		rows = append(rows, []string{
			kind, cell(reclaims, kind, count), cell(reclaimSum, kind, span), span(mean),
			cell(reclaimScanned, kind, count), cell(reclaimFreed, kind, count),
		})
	}
	out.table(false, rows...)
}

func writeProbes(out *screen, f figures) {
	out.heading("Probes", "how each hook of a module is attached")
	modules := labelValues(f[probeInfo], "module")
	slices.Sort(modules)
	rows := [][]string{{"module", "hooks"}}
	for _, module := range modules {
		var hooks []string
		for _, s := range f[probeInfo].With("module", module) {
			hooks = append(hooks, s.Labels["hook"]+" by "+s.Labels["attach"])
		}
		slices.Sort(hooks)
		rows = append(rows, []string{module, strings.Join(hooks, ", ")})
	}
	out.table(true, rows...)
	for _, s := range f[moduleUp] {
		if s.Value != 1 {
			fmt.Fprintf(out, "  module %s is not up\n", s.Labels["module"])
		}
	}
	var facts []string
	if len(f[collectDuration]) > 0 {
		facts = append(facts, "last collection "+span(f[collectDuration].Sum()))
	}
	if len(f[mapMemory]) > 0 {
		facts = append(facts, "maps "+size(f[mapMemory].Sum()))
	}
	switch lost := f[eventsLost]; {
	case len(lost) > 0:
		facts = append(facts, count(lost.Sum())+" events lost")
	case f.has(eventsLost):
		facts = append(facts, "no event lost")
	}
	if len(facts) > 0 {
		fmt.Fprintln(out, "  "+strings.Join(facts, ", "))
	}
}

// state returns why a metric has no value.
func state(f figures, metric string) string {
	if f.has(metric) {
		return none
	}
	return absent
}
