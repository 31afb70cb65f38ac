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
	"iter"
	"slices"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/layout"
)

// Snapshot holds the counters of one moment. It may be reused for the next one, without allocation. A zero Snapshot is
// ready for use, and has no series.
type Snapshot struct {
	words  []uint64
	schema []Metric
	files  []fileMetric
	places *filePlaces
}

// Schema returns the metrics that counted when the snapshot was taken. The slice belongs to the Observer; each change
// of what is enabled makes a new one.
func (s *Snapshot) Schema() []Metric { return s.schema }

// All iterates over the series of all metrics, in the order of the schema, without allocation. What it yields is valid
// until the snapshot is reused.
func (s *Snapshot) All() iter.Seq[Series] {
	return func(yield func(Series) bool) {
		for i := range s.schema {
			m := &s.schema[i]
			for j, labels := range m.values {
				one := s.series(m, j)
				one.Labels = labels
				if !yield(one) {
					return
				}
			}
		}
	}
}

// Series is one series of a snapshot.
type Series struct {
	// Metric that the series belongs to.
	Metric *Metric
	// Labels are the values of the metric's labels, in their order. The slice belongs to the schema.
	Labels []string

	words []uint64
}

// Empty reports whether nothing has been counted yet, so that there is no series to show. A gauge is never empty: its 0
// is a value.
func (s Series) Empty() bool {
	switch s.Metric.Kind {
	case Gauge:
		return false
	case Histogram:
		return s.Count() == 0
	default:
		return s.words[0] == 0
	}
}

// Value returns the value of a counter or gauge, or the sum of a histogram's values, in the metric's unit.
func (s Series) Value() float64 { return float64(s.words[0]) * s.Metric.scale }

// Buckets returns how many values of a histogram fell between each of the metric's Bounds and the one before it; the
// last bucket has no bound. The slice belongs to the snapshot. It is empty for a counter and a gauge.
func (s Series) Buckets() []uint64 { return s.words[1:] }

// Count returns how many values a histogram has.
func (s Series) Count() uint64 {
	var n uint64
	for _, bucket := range s.Buckets() {
		n += bucket
	}
	return n
}

// series returns series i of a metric, without its labels.
func (s *Snapshot) series(m *Metric, i int) Series {
	first := m.offset + i*m.width
	return Series{Metric: m, words: s.words[first : first+m.width]}
}

func init() {
	layout.Words = func(schema any) int {
		const line = 8 // the counters of a module fill whole cache lines
		words := 0
		for _, m := range schema.([]Metric) {
			words = max(words, m.offset+m.series()*m.width)
		}
		return (words + line - 1) / line * line
	}
	layout.Word = func(series any) *uint64 { return &series.(Series).words[0] }
	layout.Receipt = func(fields any, values []uint64) any {
		of := &receiptRows{fields: slices.Clone(fields.([]ReceiptField))}
		for i := range of.fields {
			if of.fields[i].scale = 1; of.fields[i].Unit == unitSeconds {
				of.fields[i].scale = nanosecond
			}
		}
		r := Receipt{of: of}
		copy(r.values[:], values)
		return r
	}
	layout.Snapshot = func(schema any, words []uint64) any { return Snapshot{words: words, schema: schema.([]Metric)} }
}
