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
	"slices"
)

// spread is the median and the quartiles of samples. golang.org/x/perf/benchmath is not used: it returns the confidence
// of a median, and the tables show how much the samples differ.
type spread struct {
	Median, P25, P75 float64
	N                int
}

// spreadOf summarizes samples. Without samples it is zero.
func spreadOf(samples []float64) spread {
	if len(samples) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	return spread{Median: quantile(sorted, 0.5), P25: quantile(sorted, 0.25), P75: quantile(sorted, 0.75), N: len(sorted)}
}

// quantile interpolates between the two nearest samples, as most statistics programs do by default.
func quantile(sorted []float64, q float64) float64 {
	place := q * float64(len(sorted)-1)
	low := int(math.Floor(place))
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(place-float64(low))
}

func median(samples []float64) float64 { return spreadOf(samples).Median }

// added returns the difference between a measurement and the mean of those before and after it, which cancels a drift
// of the machine.
func added(before, with, after float64) float64 { return with - (before+after)/2 }

// ratios divides the samples of the same round. It skips samples without a partner, and divisions by zero.
func ratios(of, per []float64) []float64 {
	var quotients []float64
	for i := range min(len(of), len(per)) {
		if per[i] > 0 {
			quotients = append(quotients, of[i]/per[i])
		}
	}
	return quotients
}
