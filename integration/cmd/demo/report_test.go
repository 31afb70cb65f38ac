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
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

func TestFigures(t *testing.T) {
	assert.Equal(t, "0", count(0.0))
	assert.Equal(t, "999", count(uint64(999)))
	assert.Equal(t, "1,234,567", count(1234567.0))

	assert.Equal(t, "0 B", size(0))
	assert.Equal(t, "1,023 B", size(1023))
	assert.Equal(t, "1.50 KiB", size(1536))
	assert.Equal(t, "20.5 MiB", size(20.5*1024*1024))
	assert.Equal(t, "2.00 TiB", size(math.Pow(1024, 4)*2))

	assert.Equal(t, "-", span(math.NaN()))
	assert.Equal(t, "∞", span(math.Inf(1)))
	assert.Equal(t, "512 ns", span(512e-9))
	assert.Equal(t, "1.02 µs", span(1.024e-6))
	assert.Equal(t, "16.4 ms", span(0.016384))
	assert.Equal(t, "2.50 s", span(2.5))

	assert.Equal(t, "0.0 %", percent(0))
	assert.Equal(t, "<0.1 %", percent(0.0004))
	assert.Equal(t, "0.1 %", percent(0.0005))
	assert.Equal(t, "100.0 %", percent(1))
}

func TestBar(t *testing.T) {
	assert.Equal(t, "████", bar(2, 2, 4))
	assert.Equal(t, "██▌", bar(5, 8, 4))
	assert.Equal(t, "▏", bar(1, 1e9, 4), "a value above zero must be visible")
	assert.Empty(t, bar(0, 8, 4))
	assert.Empty(t, bar(0, 0, 4))
}

func TestTableAligns(t *testing.T) {
	var text strings.Builder
	out := &screen{Writer: &text}
	out.table(false, []string{"op", "mean"}, []string{"read", "1 µs"}, []string{"fadvise", "-"})
	out.table(true, []string{"module", "hook"}, []string{"io", "read"})
	assert.Equal(t, "  op        mean\n  read      1 µs\n  fadvise      -\n  module  hook\n  io      read\n", text.String())
}

// samples makes the samples of a metric out of label=value pairs and a value, such as "op=read result=ok 3".
func samples(t *testing.T, lines ...string) ask.Samples {
	t.Helper()
	list := ask.Samples{}
	for _, line := range lines {
		s := ask.Sample{Labels: map[string]string{}}
		for _, word := range strings.Fields(line) {
			if name, value, ok := strings.Cut(word, "="); ok {
				s.Labels[name] = value
				continue
			}
			_, err := fmt.Sscan(word, &s.Value)
			require.NoError(t, err)
		}
		list = append(list, s)
	}
	return list
}

func exampleFigures(t *testing.T) figures {
	t.Helper()
	return figures{
		operations:     samples(t, "op=pread result=ok 8", "op=pread result=error 2", "op=read result=ok 40", "op=fsync result=ok 1"),
		bytesMoved:     samples(t, "op=pread 4096", "op=read 1048576"),
		durationBucket: samples(t, "op=pread le=2e-06 10", "op=pread le=+Inf 10", "op=read le=1e-06 20", "op=read le=2e-06 40", "op=read le=+Inf 40", "op=fsync le=+Inf 1"),
		durationSum:    samples(t, "op=pread 0.000005", "op=read 0.00008", "op=fsync 0.01"),
		durationCount:  samples(t, "op=pread 10", "op=read 40", "op=fsync 1"),
		fadvise:        samples(t, "advice=dontneed 7"),
		cacheFilled:    samples(t, "256"),
		cacheDeleted:   samples(t),
		workOperations: samples(t, "work=merge catalog=trace class=fadvise 7", "work=merge catalog=trace class=read 2", "work=query catalog=trace class=read 48", "work=runtime catalog= class=other 1"),
		workSeconds:    samples(t, "work=merge catalog=trace class=fadvise 0.00001", "work=query catalog=trace class=read 0.01", "work=runtime catalog= class=other 0.000001"),
		workFilled:     samples(t, "work=query catalog=trace 256"),
		workRegret:     samples(t),
		fileOperations: samples(t, "catalog=trace kind=spans class=read 48", "catalog=trace kind=tags class=fadvise 7", "catalog= kind=socket class=write 2"),
		fileBytes:      samples(t, "catalog= kind=socket direction=write 100", "catalog=trace kind=spans direction=read 4096", "catalog=trace kind=spans direction=write 1024"),
		fileFilled:     samples(t, "catalog=trace kind=spans 256"),
		fileDropped:    samples(t, "work=merge catalog=trace kind=spans 64"),
		fileRegret:     samples(t),
		reclaims:       samples(t, "kind=kswapd 2"),
		reclaimSum:     samples(t),
		reclaimCount:   samples(t),
		reclaimScanned: samples(t, "kind=kswapd 64"),
		moduleUp:       samples(t, "module=io 1", "module=memory 0"),
		probeInfo:      samples(t, "module=memory hook=scan attach=tracepoint 1", "module=memory hook=direct attach=tp_btf 1", "module=io hook=syscall attach=tp_btf 1"),
		eventsLost:     samples(t),
	}
}

// exampleQueries are more than are shown.
var exampleQueries = []ask.Receipt{
	{Catalog: "trace", Group: "g", Name: "spans", Duration: 0.02, Waited: 0.01, Fields: map[string]float64{"io_reads": 48, "io_read_bytes": 4096, "cache_filled_pages": 256, "memory_major_faults": 2}},
	{Catalog: "stream", Group: "g", Name: "logs", Duration: 0.002, Waited: 0.001, Fields: map[string]float64{"io_reads": 3, "io_read_bytes": 100}},
	{Catalog: "stream", Group: "g", Name: "a", Duration: 0.002, Waited: 0.001},
	{Catalog: "stream", Group: "g", Name: "b", Duration: 0.002, Waited: 0.001},
	{Catalog: "stream", Group: "g", Name: "c", Duration: 0.002, Waited: 0.001},
	{Catalog: "not shown"},
}

func TestReport(t *testing.T) {
	var text strings.Builder
	writeReport(&screen{Writer: &text}, exampleFigures(t), exampleQueries, load.Stats{
		Measure: load.Counts{Written: 1000, Queries: 2}, Stream: load.Counts{Written: 234}, Elapsed: 20 * time.Second,
		Trace: load.Counts{QueryErrors: 1}, FirstError: errors.New("no such tag"),
	})
	assert.Equal(t, `What the kernel did for banyand, as told by banyand's own group _monitoring
1,234 points written (measure 1,000, stream 234, trace 0), 2 queries answered in 20 s
1 points or queries failed, the first with: no such tag

System calls  p99 is interpolated within its bucket, as histogram_quantile does
  op      ok   error      bytes      mean       p99
  read    40       0   1.00 MiB   2.00 µs   1.98 µs
  pread    8       2   4.00 KiB    500 ns   1.98 µs
  fsync    1       0          -   10.0 ms         -

Attribution  system calls, filled pages and regret (pages dropped too early), by the server's work
  work          read   write   sync   fadvise   other      time   filled   regret
  query trace     48       0      0         0       0   10.0 ms      256        0
  merge trace      2       0      0         7       0   10.0 µs        0        0
  runtime          0       0      0         0       1   1.00 µs        0        0

Files  the 10 kinds with the most bytes; filled, dropped and regret are pages
  file          reads   writes   fadvise       read    written   filled   dropped   regret
  trace spans      48        0         0   4.00 KiB   1.00 KiB      256        64        0
  socket            0        2         0        0 B      100 B        0         0        0

Queries  the 5 that waited longest in the kernel, and what it did for each
  query              took    waited   reads       read   filled   major faults
  trace g/spans   20.0 ms   10.0 ms      48   4.00 KiB      256              2
  stream g/logs   2.00 ms   1.00 ms       3      100 B        -              -
  stream g/a      2.00 ms   1.00 ms       -          -        -              -
  stream g/b      2.00 ms   1.00 ms       -          -        -              -
  stream g/c      2.00 ms   1.00 ms       -          -        -              -

Read latency  read + pread
  ≤ 1.00 µs  ████████████████████████████████                           20  40.0 %
  ≤ 2.00 µs  ████████████████████████████████████████████████           30  60.0 %

fadvise  calls by advice
  advice     calls
  dontneed       7

Page cache
           pages       size
  filled     256   1.00 MiB
  deleted: none so far
  lookups by buffered reads: absent, since no attached hook feeds it

Memory reclaim  direct and memcg stall the server's own threads, kswapd works for the whole host
  kind     events   stalled   mean stall   scanned pages   reclaimed pages
  kswapd        2         -            -              64                 -

Probes  how each hook of a module is attached
  module  hooks
  io      syscall by tp_btf
  memory  direct by tp_btf, scan by tracepoint
  module memory is not up
  no event lost
`, text.String())
	for _, line := range strings.Split(text.String(), "\n") {
		assert.LessOrEqual(t, utf8.RuneCountInString(line), columns, line)
	}
}

func TestGatherAsksAgainUntilTheFiguresAgree(t *testing.T) {
	settled := exampleFigures(t)
	maps.DeleteFunc(settled, func(metric string, _ ask.Samples) bool { return slices.Contains(fileMetrics, metric) })
	require.True(t, settled.agree())
	unsettled := exampleFigures(t)
	unsettled[durationCount] = samples(t, "op=pread 10", "op=read 39", "op=fsync 1")
	require.False(t, unsettled.agree())

	asked := 0
	found, err := gather(t.Context(), func(_ context.Context, metric string) (ask.Samples, error) {
		asked++
		from := settled
		if asked <= len(metrics) {
			from = unsettled
		}
		if !from.has(metric) {
			return nil, fmt.Errorf("looking for %s: %w", metric, ask.ErrAbsent)
		}
		return from[metric], nil
	})
	require.NoError(t, err)
	assert.Equal(t, 2*len(metrics), asked)
	assert.Equal(t, settled, found)
	assert.False(t, found.has(cacheLookups), "an absent metric is not one without samples")
	assert.True(t, found.has(cacheDeleted))

	_, err = gather(t.Context(), func(context.Context, string) (ask.Samples, error) { return nil, errors.New("no route") })
	require.ErrorContains(t, err, "no route")
}
