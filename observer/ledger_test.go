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

package observer_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// ledgerFields are those of receipts in tests of the ledger.
var ledgerFields = []observer.ReceiptField{
	{Name: "io_reads", Help: "Reads."}, {Name: "io_read_bytes", Unit: "bytes"}, {Name: "io_read_seconds", Unit: "seconds"},
}

func ledgerEntry(begun time.Time, name string, reads, bytes, ns uint64) *observer.Entry {
	return &observer.Entry{
		Begun: begun, Took: time.Duration(2 * ns), Work: observer.Work{Name: "query", Catalog: "stream"}, Subject: observer.Subject{Group: "g", Name: name},
		Receipt: observertest.Receipt(ledgerFields, reads, bytes, ns),
	}
}

func namesOf(entries []observer.Entry) (names []string) {
	for _, e := range entries {
		names = append(names, e.Subject.Name)
	}
	return names
}

// TestLedger adds 1000 entries, whose order by cost differs from that by time, and checks which ones are kept.
func TestLedger(t *testing.T) {
	var l observer.Ledger
	require.Empty(t, l.Newest())
	require.Empty(t, l.MostExpensive(time.Now()))
	begun := time.Date(2026, 1, 2, 3, 0, 1, 0, time.UTC)
	var newest, expensive []string
	for i := range 1000 {
		cost := uint64(i*337%1000 + 1)
		l.Add(ledgerEntry(begun, fmt.Sprintf("q%d", i), 1, 2, cost))
		if i >= 1000-256 {
			newest = append(newest, fmt.Sprintf("q%d", i))
		}
	}
	slices.Reverse(newest)
	require.Equal(t, newest, namesOf(l.Newest()))
	for cost := 1000; cost > 1000-32; cost-- {
		for i := range 1000 {
			if i*337%1000+1 == cost {
				expensive = append(expensive, fmt.Sprintf("q%d", i))
			}
		}
	}
	require.Equal(t, expensive, namesOf(l.MostExpensive(begun.Add(time.Minute))))
	require.Equal(t, 1000*time.Nanosecond, l.MostExpensive(begun)[0].Waited())

	// Later one cheap entry is the most expensive one of the hour, although the others are still among the newest.
	later := begun.Add(65 * time.Minute)
	l.Add(ledgerEntry(later, "later", 1, 2, 1))
	require.Equal(t, []string{"later"}, namesOf(l.MostExpensive(later)))
	require.Equal(t, "later", l.Newest()[0].Subject.Name)
	require.Len(t, l.Newest(), 256)

	e := ledgerEntry(later, "again", 1, 2, 1)
	require.Zero(t, testing.AllocsPerRun(1000, func() { l.Add(e) }))
}

// TestLedgerDistributions checks the buckets of values at the bounds, and the sums.
func TestLedgerDistributions(t *testing.T) {
	var l observer.Ledger
	begun := time.Now()
	for _, reads := range []uint64{0, 1, 2, 4, 5, 1 << 26, 1<<26 + 1} {
		l.Add(ledgerEntry(begun, "q", reads, reads<<10, reads<<10))
	}
	other := ledgerEntry(begun, "q", 3, 0, 0)
	other.Work.Catalog = "measure"
	l.Add(other)
	got := make(map[string][]uint64)
	for s := range l.All() {
		name := s.Metric.Name + " " + s.Labels[0]
		require.Equal(t, observer.Histogram, s.Metric.Kind)
		require.Equal(t, []string{"catalog"}, s.Metric.LabelNames())
		require.Len(t, s.Metric.Bounds, 14)
		got[name] = s.Buckets()
		switch name {
		case "ebpf_query_io_reads stream":
			require.InDelta(t, 0+1+2+4+5+2*(1<<26)+1, s.Value(), 0)
			require.InDelta(t, 1, s.Metric.Bounds[0], 0)
			require.InDelta(t, 1<<26, s.Metric.Bounds[13], 0)
			require.Equal(t, "Per query: Reads.", s.Metric.Help)
		case "ebpf_query_io_read_seconds stream":
			require.InDelta(t, 1.024e-6, s.Metric.Bounds[0], 0)
			require.InDelta(t, float64((12+2*(1<<26)+1)<<10)/1e9, s.Value(), 1e-6)
		}
	}
	want := []uint64{2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}
	require.Equal(t, map[string][]uint64{
		"ebpf_query_io_reads stream": want, "ebpf_query_io_read_bytes stream": want, "ebpf_query_io_read_seconds stream": want,
		"ebpf_query_duration_seconds stream":  {1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
		"ebpf_query_io_reads measure":         {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"ebpf_query_io_read_bytes measure":    {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"ebpf_query_io_read_seconds measure":  {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"ebpf_query_duration_seconds measure": {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
	}, got)
}
