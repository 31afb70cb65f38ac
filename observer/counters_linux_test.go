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

package observer

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCountersSum: the counts of all CPUs are added up, however many CPUs there are.
func TestCountersSum(t *testing.T) {
	for cpus := range 10 {
		var all, sum []uint64
		for cpu := range cpus {
			all = append(all, 1<<cpu, 2<<cpu, 3<<cpu)
		}
		n := uint64(1)<<cpus - 1
		sum = append(sum, n, 2*n, 3*n, 7)
		c := counters{words: 3, rest: []span{{0, 3}}, entries: entriesOf(all, 3)}
		dst := []uint64{7, 7, 7, 7}
		c.sum(dst)
		require.Equalf(t, sum, dst, "%d CPUs", cpus)
	}
}

// TestCountersSumHistograms: an empty histogram is skipped, one that has counted only zeros is not, on whichever CPU.
func TestCountersSumHistograms(t *testing.T) {
	metrics := []Metric{
		{Kind: Counter, width: 1, offset: 0},
		{Kind: Histogram, width: 3, offset: 1, Labels: []Label{{Values: []string{"a", "b"}}}},
		{Kind: Counter, width: 1, offset: 7},
	}
	entries := [][]uint64{
		{1, 40, 2, 3, 0, 0, 0, 5, 0}, // a has values, b has none
		{1, 0, 6, 0, 3, 1, 2, 5, 0},  // a has zeros only, b has values
		{1, 0, 0, 0, 0, 0, 0, 5, 0},
		{1, 0, 0, 0, 0, 0, 0, 5, 0},
		{1, 0, 0, 0, 0, 9, 0, 5, 0}, // b has zeros only
	}
	for first := range entries {
		c := counters{words: 9, entries: entriesOf(slices.Concat(slices.Concat(entries[first:], entries[:first])...), 9)}
		c.histograms, c.rest = spansOf(metrics, 9)
		dst := []uint64{7, 7, 7, 7, 7, 7, 7, 7, 7}
		c.sum(dst)
		require.Equal(t, []uint64{5, 40, 8, 3, 3, 10, 2, 25, 0}, dst)
	}
}
