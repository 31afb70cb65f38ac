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
	"html"
	"io"
	"math"
	"strconv"
	"strings"
)

// The dimensions of a chart, in pixels.
const (
	chartWidth = 760
	chartLeft  = 190
	chartRight = 70
	rowHeight  = 26
	chartTop   = 56
	plotHeight = 240
)

const (
	accent = "#2563eb"
	muted  = "#94a3b8"
	ink    = "#1f2937"
	faint  = "#cbd5e1"
)

// picture builds an SVG.
type picture struct {
	strings.Builder
	height int
}

func newPicture(title, subtitle string, height int) *picture {
	p := &picture{height: height}
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s" font-family="sans-serif">
<rect width="%[1]d" height="%[2]d" fill="#ffffff"/>
`, chartWidth, height, html.EscapeString(title))
	p.text(12, 22, 15, "start", ink, title)
	p.text(12, 40, 11, "start", "#64748b", subtitle)
	return p
}

func (p *picture) text(x, y float64, size int, anchor, color, s string) {
	fmt.Fprintf(p, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" text-anchor=\"%s\" fill=\"%s\">%s</text>\n", x, y, size, anchor, color, html.EscapeString(s))
}

func (p *picture) line(x1, y1, x2, y2 float64, color, dash string) {
	fmt.Fprintf(p, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-dasharray=\"%s\"/>\n", x1, y1, x2, y2, color, dash)
}

func (p *picture) bar(x, y, width, height float64, color string) {
	fmt.Fprintf(p, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, y, width, height, color)
}

func (p *picture) dot(x, y float64, color string) {
	fmt.Fprintf(p, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" fill-opacity=\"0.75\"/>\n", x, y, color)
}

func (p *picture) writeTo(w io.Writer) error {
	p.WriteString("</svg>\n")
	_, err := io.WriteString(w, p.String())
	return err
}

// drawCalls draws what each tool adds to a call, as a multiple of what an empty pair adds to the server's own pread.
func drawCalls(w io.Writer, r *results) error {
	type entry struct {
		label, color string
		s            spread
	}
	tools := []struct{ name, label, color string }{
		{emptyTPBTF, "empty pair, tp_btf", faint},
		{emptyTracepoint, "empty pair, raw_syscalls", faint},
		{emptyPread, "empty pair, sys_*_pread64", faint},
		{clockPair, "clock read twice, tp_btf", faint},
		{ioModule, "module io", accent},
		{defaults, "default modules", accent},
		{defaultsSampled, "default, 1 in 16 timed", accent},
		{defaultsClassic, "default, raw_syscalls", accent},
		{bpftrace, "bpftrace, pread only", muted},
		{ktm, "KTM", muted},
	}
	groups := []struct{ call, label string }{
		{ownPread, "the server's own pread"}, {strangerPread, "another process's pread"}, {strangerCall, "another process's getppid"},
	}
	per := r.of(addedBy(emptyTPBTF, ownPread))
	var rows []entry
	most := 1.0
	for _, g := range groups {
		rows = append(rows, entry{label: g.label})
		for _, t := range tools {
			s := spreadOf(ratios(r.of(addedBy(t.name, g.call)), per))
			if s.N == 0 {
				continue
			}
			rows = append(rows, entry{label: t.label, color: t.color, s: s})
			most = max(most, s.P75)
		}
	}
	p := newPicture("Time that a tool adds to one system call", "in multiples of the time that an empty pair adds to the server's own pread; whiskers: quartiles", chartTop+rowHeight*len(rows)+12)
	scale := float64(chartWidth-chartLeft-chartRight) / most
	for i, e := range rows {
		y := float64(chartTop + rowHeight*i)
		if e.s.N == 0 {
			p.text(12, y+17, 13, "start", ink, e.label)
			continue
		}
		p.text(chartLeft-8, y+16, 12, "end", ink, e.label)
		p.bar(chartLeft, y+4, max(0, e.s.Median*scale), rowHeight-9, e.color)
		middle := y + rowHeight/2
		p.line(chartLeft+max(0, e.s.P25*scale), middle, chartLeft+max(0, e.s.P75*scale), middle, ink, "none")
		p.text(chartLeft+max(0, max(e.s.P75, e.s.Median)*scale)+6, y+16, 11, "start", ink, fmt.Sprintf("%.2f", e.s.Median))
	}
	return p.writeTo(w)
}

// drawSnapshots draws the time of a snapshot over the number of CPUs, both logarithmic, and the time of KTM's
// collection.
func drawSnapshots(w io.Writer, r *results) error {
	type point struct{ cpus, us float64 }
	var points []point
	for cpus := 1; cpus <= 256; cpus *= 2 {
		if s := spreadOf(r.of(quantity{snapshotName(cpus), nsPerOp})); s.N > 0 {
			points = append(points, point{float64(cpus), s.Median / 1000})
		}
	}
	p := newPicture("A snapshot of the default modules", "microseconds by number of CPUs, medians, all counters nonzero; both axes logarithmic", chartTop+plotHeight+40)
	least, most := 0.1, 1000.0
	x := func(cpus float64) float64 {
		return chartLeft + (chartWidth-chartLeft-chartRight)*math.Log2(max(cpus, 1))/8
	}
	y := func(us float64) float64 {
		return chartTop + plotHeight*(1-math.Log10(min(max(us, least), most)/least)/math.Log10(most/least))
	}
	for _, us := range []float64{least, 1, 10, 100, most} {
		p.line(chartLeft, y(us), chartWidth-chartRight, y(us), faint, "none")
		p.text(chartLeft-8, y(us)+4, 11, "end", ink, strconv.FormatFloat(us, 'f', -1, 64)+" us")
	}
	p.level(y(15), "target at 128 CPUs: 15 us", "#dc2626")
	if s := spreadOf(r.of(quantity{collectKTM, nsPerOp})); s.N > 0 {
		p.level(y(s.Median/1000), "KTM's collection on this machine", muted)
	}
	for i, at := range points {
		if i > 0 {
			p.line(x(points[i-1].cpus), y(points[i-1].us), x(at.cpus), y(at.us), accent, "none")
		}
		p.dot(x(at.cpus), y(at.us), accent)
		p.text(x(at.cpus), y(at.us)-9, 11, "middle", ink, fmt.Sprintf("%.1f", at.us))
		p.text(x(at.cpus), chartTop+plotHeight+18, 11, "middle", ink, fmt.Sprintf("%.0f", at.cpus))
	}
	p.text(chartLeft, chartTop+plotHeight+34, 11, "start", "#64748b", "CPUs")
	return p.writeTo(w)
}

// level draws a horizontal line with a label.
func (p *picture) level(y float64, label, color string) {
	p.line(chartLeft, y, chartWidth-chartRight, y, color, "5 4")
	p.text(chartLeft+6, y-4, 11, "start", color, label)
}

// drawServers draws the server's throughput and latency in each round, divided by those of the server without eBPF.
func drawServers(w io.Writer, r *results) error {
	p := newPicture("The server under full load, relative to the same server without eBPF", "each dot is one round, the line is the median; throughput: higher is better, latency: lower is better", chartTop+plotHeight+40)
	columns := []struct {
		label, unit, server, color string
	}{
		{"throughput", "points/s", serverOn, accent},
		{"per CPU time", "points/cpu-s", serverOn, accent},
		{"p99", "p99-ns", serverOn, accent},
		{"throughput", "points/s", serverKTM, muted},
		{"per CPU time", "points/cpu-s", serverKTM, muted},
		{"p99", "p99-ns", serverKTM, muted},
	}
	far := 0.1
	all := make([][]float64, len(columns))
	for i, c := range columns {
		all[i] = ratios(r.of(quantity{serverName(c.server), c.unit}), r.of(quantity{serverName(serverOff), c.unit}))
		for _, v := range all[i] {
			far = max(far, math.Abs(v-1))
		}
	}
	far *= 1.1
	y := func(v float64) float64 { return chartTop + plotHeight/2 - (v-1)/far*plotHeight/2 }
	for _, v := range []float64{1 - far, 1 - far/2, 1, 1 + far/2, 1 + far} {
		p.line(70, y(v), chartWidth-20, y(v), faint, "none")
		p.text(62, y(v)+4, 11, "end", ink, fmt.Sprintf("%.2f", v))
	}
	step := float64(chartWidth-90) / float64(len(columns))
	for i, c := range columns {
		middle := 70 + step*(float64(i)+0.5)
		for j, v := range all[i] {
			p.dot(middle+float64(j-len(all[i])/2)*5, y(v), c.color)
		}
		if len(all[i]) > 0 {
			m := median(all[i])
			p.bar(middle-30, y(m)-1, 60, 2, ink)
			p.text(middle+34, y(m)+4, 11, "start", ink, fmt.Sprintf("%.3f", m))
		}
		whose := "observer"
		if c.server == serverKTM {
			whose = "KTM"
		}
		p.text(middle, chartTop+plotHeight+18, 11, "middle", ink, whose+", "+c.label)
	}
	return p.writeTo(w)
}
