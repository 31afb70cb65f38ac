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
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestSpread(t *testing.T) {
	require.Equal(t, spread{Median: 3, P25: 2, P75: 4, N: 5}, spreadOf([]float64{5, 1, 3, 2, 4}))
	require.Equal(t, spread{Median: 1.5, P25: 1.25, P75: 1.75, N: 2}, spreadOf([]float64{2, 1}))
	require.Equal(t, spread{Median: 7, P25: 7, P75: 7, N: 1}, spreadOf([]float64{7}))
	require.Zero(t, spreadOf(nil))
	samples := []float64{3, 1, 2}
	spreadOf(samples)
	require.Equal(t, []float64{3, 1, 2}, samples, "the order of the rounds must not change")
}

func TestAdded(t *testing.T) {
	// A machine that gets slower by 10 in each turn does not make the tool look more expensive.
	require.InDelta(t, 50, added(100, 160, 120), 1e-9)
	require.InDelta(t, -5, added(100, 95, 100), 1e-9)
}

// TestMeanOf: neither a server that is twice as fast nor a turn that is half as fast changes the ratio of two kinds.
func TestMeanOf(t *testing.T) {
	on := meanOf([][]value{{{"points/s", 90}, {"p99-ns", 8}}, {{"points/s", 2 * 45}, {"p99-ns", 2}}})
	off := meanOf([][]value{{{"points/s", 50}, {"p99-ns", 4}}, {{"points/s", 2 * 100}, {"p99-ns", 4}}})
	require.InDelta(t, 0.9, on[0].is/off[0].is, 1e-9)
	require.InDelta(t, 1, on[1].is/off[1].is, 1e-9)
	require.Equal(t, []string{"points/s", "p99-ns"}, []string{on[0].unit, on[1].unit})
}

func TestRatiosPairRounds(t *testing.T) {
	require.Equal(t, []float64{2, 0.5}, ratios([]float64{4, 1, 9}, []float64{2, 2}))
	require.Equal(t, []float64{3}, ratios([]float64{1, 3}, []float64{0, 1}), "nothing can be divided by zero")
	require.Empty(t, ratios(nil, []float64{1}))
}

// sample returns results with four rounds of the default modules.
func sample() *results {
	r := &results{}
	r.fact("kernel", "6.1")
	r.skip(bpftrace, errors.New("no such\nprogram"))
	for _, v := range []float64{400, 500, 300, 400} {
		r.add("Added/call=own-pread/tool=default", 10, value{nsAdded, v}, value{nsPerOp, v + 1000})
		r.add("Added/call=own-pread/tool=empty-tracepoint-pread64", 10, value{nsAdded, 300})
		r.add("Added/call=own-pread/tool=empty-tp_btf", 10, value{nsAdded, 200})
		r.add("Added/call=own-pread/tool=ktm", 10, value{nsAdded, 800})
		r.add("Added/call=stranger-getppid/tool=empty-tp_btf", 10, value{nsAdded, 150})
		r.add("Added/call=stranger-getppid/tool=empty-tracepoint", 10, value{nsAdded, 300})
		r.add("Added/call=stranger-getppid/tool=empty-tracepoint-pread64", 10, value{nsAdded, 50})
	}
	r.add(snapshotHere, 9, value{nsPerOp, 1200}, value{"allocs/op", 0})
	r.add(snapshotName(128), 9, value{nsPerOp, 12_000}, value{"words", 300})
	r.add(instructionsBy("fentry", strangerCall).name, 1, value{instructionsAdded, 0.04})
	r.add(mixCallName+"pread64", 9, value{"of-own", 0.6}, value{"traced", 1})
	r.add(mixCallName+"futex", 9, value{"of-own", 0.1}, value{"traced", 0})
	r.add(refreshName(ownThreads, 100), 5, value{nsPerOp, 50_000}, value{"seen-threads", 100})
	r.add(refreshName(ownThreads, 1000), 5, value{nsPerOp, 140_000}, value{"seen-threads", 1000}, value{"without-place/op", 3})
	r.add(modulesName+"io,cache", 1, value{"series", 500}, value{"native-cpu-ns", 100_000})
	r.add(overheadName, 1, value{"ratio", 1.1}, value{"off", 0.1})
	r.add(mixName+"full", 9, value{"traced-of-own", 0.6}, value{"traced-of-host", 0.4})
	r.add(serverName(serverOff), 9, value{"points/s", 1000}, value{"p99-ns", 1e6})
	r.add(serverName(serverOn), 9, value{"points/s", 980}, value{"p99-ns", 1.02e6})
	return r
}

func TestResultsSurviveWriting(t *testing.T) {
	r := sample()
	var b strings.Builder
	require.NoError(t, r.write(&b))
	require.Contains(t, b.String(), "kernel: 6.1\nskipped-bpftrace: no such program\n\nBenchmarkAdded/call=own-pread/tool=default\t10\t400 added-ns/op\t1400 ns/op\n")
	again, err := parseResults(strings.NewReader(b.String()))
	require.NoError(t, err)
	require.Equal(t, r, again)
	require.Equal(t, "6.1", again.get("kernel"))
	require.Empty(t, again.get("none"))
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"what is this", "BenchmarkX", "BenchmarkX 1 2", "BenchmarkX x 2 ns/op", "BenchmarkX 1 x ns/op"} {
		_, err := parseResults(strings.NewReader(text))
		require.Errorf(t, err, "%q", text)
	}
}

func TestTable(t *testing.T) {
	onOff := bar{
		what: "points", of: quantity{serverName(serverOn), "points/s"}, per: quantity{serverName(serverOff), "points/s"},
		limit: 0.985, atLeast: true,
	}
	worse := bar{what: "us", of: quantity{snapshotHere, nsPerOp}, limit: 1, unit: "us", scale: 1e-3}
	beside := worse
	beside.beside = true
	require.Equal(t, []row{
		{"a", "<= 0.45 x", "0.50 x (0.47 x to 0.53 x, n=4)", notReached},
		{"b", "<= 2 x", "2 x (1.88 x to 2.12 x, n=4)", reached},
		{"points", ">= 0.985 x", "0.980 x (0.980 x to 0.980 x, n=1)", notReached},
		{"us", "<= 1 us", "1.20 us (1.20 us to 1.20 us, n=1)", notReached},
		{"us", "-", "1.20 us (1.20 us to 1.20 us, n=1)", noBar},
		{"allocations", "0", "0 allocations (0 allocations to 0 allocations, n=1)", reached},
		{"none", "0, within 0.10 instructions", "0.04 instructions (0.04 instructions to 0.04 instructions, n=1)", reached},
		{"lost", "<= 3 x", "no samples", notMeasured},
	}, table(sample(), []bar{
		{what: "a", of: addedBy(defaults, ownPread), per: addedBy(ktm, ownPread), limit: 0.45},
		{what: "b", of: addedBy(defaults, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 2},
		onOff, worse, beside,
		{what: "allocations", of: quantity{snapshotHere, "allocs/op"}, unit: "allocations"},
		{what: "none", of: instructionsBy("fentry", strangerCall), unit: "instructions", within: 0.1},
		{what: "lost", of: quantity{"Lost", nsPerOp}, limit: 3},
	}))
}

func TestEveryBarIsMeasured(t *testing.T) {
	for _, b := range bars {
		require.NotEmpty(t, b.what)
		require.NotZerof(t, b.of, "%s: no quantity", b.what)
		require.Falsef(t, b.per != quantity{} && b.unit != "", "%s: a ratio has no unit", b.what)
	}
}

func TestBreakEven(t *testing.T) {
	part, ok := breakEven(sample())
	require.True(t, ok)
	require.InDelta(t, 0.5, part, 1e-9, "100 more on each call, 100 less on each traced one")
	require.Contains(t, attachChoice(sample()), "here classic tracepoints of single system calls are cheaper")
	require.Contains(t, attachChoice(sample()), "differ by 20 ns for each system call of the host")
	require.Contains(t, attachChoice(sample()), "cost 2.00 times as much as")
	_, ok = breakEven(&results{})
	require.False(t, ok)
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	for name, r := range map[string]*results{"full": sample(), "empty": {}} {
		require.NoError(t, writeDocs(r, dir), name)
		for _, chart := range []string{callsChart, snapshotChart, serverChart} {
			wellFormed(t, filepath.Join(dir, chart))
		}
	}
	require.NoError(t, writeDocs(sample(), dir))
	content, err := os.ReadFile(filepath.Join(dir, page))
	require.NoError(t, err)
	require.Contains(t, string(content), "| kernel | 6.1 |")
	require.Contains(t, string(content), "| <= 0.45 x | 0.50 x (0.47 x to 0.53 x, n=4) | **not reached** |")
	require.Contains(t, string(content), "Left out: bpftrace, because: no such program")
	require.Contains(t, string(content), "| pread64 | 60.0% | yes |")
	require.Contains(t, string(content), "40.0 us plus 100 ns for each thread. This machine allows no more threads; by the fit, a pass over 10000 takes 1.0 ms.")
	require.Contains(t, string(content), "| io,cache | 0 ns | 0.0 KiB | 0 ns | 500 | 100.0 us (200 ns) |")
	require.Contains(t, string(content), "the estimate was 1.10 times the statistics")
	require.Contains(t, string(content), "- **time added to the server's own cached 4 KiB pread, default modules, relative to KTM**: the cost above the empty pair")
	calls, err := os.ReadFile(filepath.Join(dir, callsChart))
	require.NoError(t, err)
	require.Contains(t, string(calls), ">2.00</text>", "the default modules against the empty pair")
	require.Contains(t, string(calls), ">4.00</text>", "KTM against the empty pair")
}

func wellFormed(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return
		}
		require.NoErrorf(t, err, path)
	}
}

func TestMemlock(t *testing.T) {
	require.InDelta(t, 8192, memlock("pos:\t0\nmap_type:\t2\nmemlock:\t8192\nmap_id:\t7\n"), 0)
	require.Zero(t, memlock("pos:\t0\nprog_type:\t26\nmemlock:\t4096\n"))
	require.Zero(t, memlock("map_type:\t2\n"))
}

func TestNumbers(t *testing.T) {
	all, err := numbers("1 2.5")
	require.NoError(t, err)
	require.Equal(t, []float64{1, 2.5}, all)
	for _, answer := range []string{"", "x", "error it broke"} {
		_, err = numbers(answer)
		require.Errorf(t, err, "%q", answer)
	}
	_, err = numbers("error it broke")
	require.EqualError(t, err, "it broke")
}

func TestP99(t *testing.T) {
	c := &timedConn{}
	require.Zero(t, c.p99())
	for i := range 101 {
		c.took = append(c.took, time.Duration(100-i))
	}
	require.InDelta(t, 99, c.p99(), 1e-9)
}

// TestCPUTime compares a process's clock with getrusage(2), which cuts off fractions of microseconds.
func TestCPUTime(t *testing.T) {
	used := func() time.Duration {
		var usage unix.Rusage
		require.NoError(t, unix.Getrusage(unix.RUSAGE_SELF, &usage))
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	for start := time.Now(); time.Since(start) < 20*time.Millisecond; {
		continue
	}
	before := used()
	cpu, err := cpuTime(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, before)
	require.GreaterOrEqual(t, cpu, before)
	require.LessOrEqual(t, cpu, used()+2*time.Microsecond)
	_, err = cpuTime(1 << 22) // PID_MAX_LIMIT: there is none.
	require.ErrorContains(t, err, "reading the CPU time of process")
}

func TestReasons(t *testing.T) {
	lines := reasons(sample(), []bar{
		{what: "a", of: addedBy(defaults, ownPread), per: addedBy(ktm, ownPread), limit: 0.45, why: "clocks."},
		{what: "b", of: addedBy(defaults, ownPread), per: addedBy(emptyTPBTF, ownPread), limit: 2, why: "reached, so never printed"},
		{what: "c", of: quantity{snapshotHere, nsPerOp}, limit: 1, unit: "us", scale: 1e-3},
	})
	require.Equal(t, []string{"**a**: clocks.", "**c**: the reason is not known yet."}, lines)
}

func TestTracedCalls(t *testing.T) {
	traced, err := tracedCalls()
	require.NoError(t, err)
	for number, want := range map[int]bool{
		unix.SYS_READ: true, unix.SYS_PREAD64: true, unix.SYS_FADVISE64: true, unix.SYS_MADVISE: true,
		unix.SYS_GETPPID: false, unix.SYS_FUTEX: false, unix.SYS_EPOLL_PWAIT: false,
	} {
		require.Equalf(t, want, traced[number], "%d", number)
	}
}

func TestSimulate(t *testing.T) {
	random := func() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
	require.Zero(t, simulate(slots, 64, idsInARow, random()), "each thread has its own slot")
	// Each thread begins one call per 10,000/64 of its own call times. With an even distribution, 2.44 threads share a
	// slot.
	require.InDelta(t, 64.0/slots, simulate(10_000, 64, idsAtWill, random()), 0.1*64/slots)
	require.InDelta(t, 64.0/slots*(1-slots/10_000.0), simulate(10_000, 64, idsInARow, random()), 0.2*64/slots)
}

func TestFit(t *testing.T) {
	start, each := fit([]float64{1, 2, 4}, []float64{12, 14, 18})
	require.InDelta(t, 10, start, 1e-9)
	require.InDelta(t, 2, each, 1e-9)
}

func TestParseInstructions(t *testing.T) {
	lines := parseInstructions([]byte("6.12| === RUN x\n6.12| MATRIX\tinstructions stranger-getppid fentry\t-0.01\n6.12| MATRIX\tother\t1\n"))
	require.Equal(t, []line{{name: "Instructions/call=stranger-getppid/tool=fentry", n: 1, values: []value{{instructionsAdded, -0.01}}}}, lines)
}
