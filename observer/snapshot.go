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

import "github.com/apache/skywalking-banyandb/ebpf/observer/internal/layout"

// Snapshot holds the counters of one moment. It may be used again for the next one, and then costs no allocation. A
// zero Snapshot is ready for use. Its methods take metrics of the schema that the snapshot was made with.
type Snapshot struct {
	words  []uint64
	schema []Metric
}

// Schema returns the metrics that counted when the snapshot was taken. The slice stays the Observer's own; it is another one
// after each change of what is enabled.
func (s *Snapshot) Schema() []Metric { return s.schema }

// Value returns series i of a counter or gauge, as it was counted: multiply with the metric's Scale.
func (s *Snapshot) Value(m *Metric, i int) uint64 {
	return s.words[m.offset+i*m.width]
}

// Slots returns the slots of series i of a histogram: how many values fell between each bound and the one before it; the
// last slot is without bound. Their sum is the count. The slice stays the snapshot's own.
func (s *Snapshot) Slots(m *Metric, i int) []uint64 {
	first := m.offset + i*m.width
	return s.words[first+1 : first+m.width]
}

// Sum returns the sum of all values of series i of a histogram, as it was counted: multiply with the metric's Scale.
func (s *Snapshot) Sum(m *Metric, i int) uint64 {
	return s.words[m.offset+i*m.width]
}

func init() {
	layout.Words = func(schema any) int {
		const line = 8 // the counters of a module fill whole cache lines
		words := 0
		for _, m := range schema.([]Metric) {
			words = max(words, m.offset+m.Series()*m.width)
		}
		return (words + line - 1) / line * line
	}
	layout.Snapshot = func(schema any, words []uint64) any { return Snapshot{words: words, schema: schema.([]Metric)} }
}
