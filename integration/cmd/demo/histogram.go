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
	"math"
	"slices"
	"strconv"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
)

// bucket counts the observations up to and including its bound.
type bucket struct {
	le    float64 // In seconds. The last is +Inf.
	count float64
}

// histogram is a list of cumulative buckets in the order of their bounds.
type histogram []bucket

// histogramOf sums the bucket samples of one or more series by bound. A series may lack the buckets below its fastest
// observation, which would be zero.
func histogramOf(samples ask.Samples) (histogram, error) {
	byBound := make(map[float64]float64)
	for _, s := range samples {
		le, err := strconv.ParseFloat(s.Labels["le"], 64)
		if err != nil {
			return nil, fmt.Errorf("bucket bound %q: %w", s.Labels["le"], err)
		}
		byBound[le] += s.Value
	}
	h := make(histogram, 0, len(byBound))
	for le, n := range byBound {
		h = append(h, bucket{le: le, count: n})
	}
	slices.SortFunc(h, func(a, b bucket) int {
		if a.le < b.le {
			return -1
		}
		return 1
	})
	return h, nil
}

// total is the number of observations.
func (h histogram) total() float64 {
	if len(h) == 0 {
		return 0
	}
	return h[len(h)-1].count
}

// quantile estimates the q-quantile in seconds as Prometheus does: it assumes that the observations of a bucket are
// spread evenly between its bounds, and takes those above the last finite bound to be at that bound. It is NaN without
// observations.
func (h histogram) quantile(q float64) float64 {
	total := h.total()
	if total == 0 {
		return math.NaN()
	}
	rank := q * total
	i := slices.IndexFunc(h, func(b bucket) bool { return b.count >= rank })
	if math.IsInf(h[i].le, 1) {
		if i == 0 {
			return math.NaN()
		}
		return h[i-1].le
	}
	lower, below := 0.0, 0.0
	if i > 0 {
		lower, below = h[i-1].le, h[i-1].count
	}
	inside := h[i].count - below
	if inside == 0 {
		return lower
	}
	return lower + (h[i].le-lower)*(rank-below)/inside
}

// row is one bucket on its own.
type row struct {
	from, to float64 // In seconds, from exclusive, to inclusive.
	count    float64
}

// rows returns the buckets from the first to the last that is not empty.
func (h histogram) rows() []row {
	var rows []row
	lower, below := 0.0, 0.0
	filled := 0
	for _, b := range h {
		r := row{from: lower, to: b.le, count: b.count - below}
		lower, below = b.le, b.count
		if r.count == 0 && len(rows) == 0 {
			continue
		}
		rows = append(rows, r)
		if r.count != 0 {
			filled = len(rows)
		}
	}
	return rows[:filled]
}
