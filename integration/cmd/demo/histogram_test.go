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
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
)

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for name, tc := range map[string]struct {
		buckets histogram
		q       float64
		want    float64
	}{
		"in the first bucket, from zero":       {histogram{{1, 10}, {2, 20}, {inf, 20}}, 0.25, 0.5},
		"at a bound":                           {histogram{{1, 10}, {2, 20}, {inf, 20}}, 0.5, 1},
		"within a bucket":                      {histogram{{1, 10}, {2, 20}, {inf, 20}}, 0.75, 1.5},
		"at the last bound":                    {histogram{{1, 10}, {2, 20}, {inf, 20}}, 1, 2},
		"above the last finite bound":          {histogram{{1, 10}, {2, 20}, {inf, 40}}, 0.99, 2},
		"buckets without observations between": {histogram{{1, 1}, {2, 1}, {4, 1}, {8, 2}, {inf, 2}}, 0.75, 6},
		"zero takes the lowest bound":          {histogram{{1, 0}, {2, 4}, {inf, 4}}, 0, 0},
		"no observation":                       {histogram{{1, 0}, {inf, 0}}, 0.99, math.NaN()},
		"no bucket":                            {nil, 0.99, math.NaN()},
		"only the last bucket":                 {histogram{{inf, 3}}, 0.99, math.NaN()},
	} {
		t.Run(name, func(t *testing.T) {
			got := tc.buckets.quantile(tc.q)
			if math.IsNaN(tc.want) {
				assert.True(t, math.IsNaN(got), got)
				return
			}
			assert.InDelta(t, tc.want, got, 1e-12)
		})
	}
}

func TestHistogramOfAddsSeries(t *testing.T) {
	sample := func(op, le string, value float64) ask.Sample {
		return ask.Sample{Labels: map[string]string{"op": op, "le": le}, Value: value}
	}
	h, err := histogramOf(ask.Samples{
		sample("read", "+Inf", 4), sample("read", "2.048e-06", 3), sample("read", "1.024e-06", 1),
		sample("pread", "1.024e-06", 2), sample("pread", "2.048e-06", 2), sample("pread", "+Inf", 2),
	})
	require.NoError(t, err)
	assert.Equal(t, histogram{{1.024e-06, 3}, {2.048e-06, 5}, {math.Inf(1), 6}}, h)
	assert.InDelta(t, 6, h.total(), 0)

	_, err = histogramOf(ask.Samples{sample("read", "fast", 1)})
	require.ErrorContains(t, err, `"fast"`)
}

func TestRowsLeaveOutEmptyEnds(t *testing.T) {
	h := histogram{{1, 0}, {2, 3}, {4, 3}, {8, 7}, {16, 7}, {math.Inf(1), 7}}
	assert.Equal(t, []row{{1, 2, 3}, {2, 4, 0}, {4, 8, 4}}, h.rows())
	assert.Empty(t, histogram{{1, 0}, {math.Inf(1), 0}}.rows())
	assert.Empty(t, histogram(nil).rows())
}
