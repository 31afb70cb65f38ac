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

// Package meterbridge carries an observer's counters into the instruments of BanyanDB's meter package, and so into
// whatever the meter provider writes to: the _monitoring group, /metrics, or both.
//
// The instruments of a native provider keep sums in memory and have no histogram, so a histogram goes over as three
// counters, <name>_bucket with the label le, <name>_sum and <name>_count, which is what Prometheus makes of one too.
package meterbridge

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/meter"
)

// Factory makes instruments. BanyanDB's observability.Factory is one.
type Factory interface {
	NewCounter(name string, labelNames ...string) meter.Counter
	NewGauge(name string, labelNames ...string) meter.Gauge
}

// Source gives snapshots. *observer.Observer is one.
type Source interface {
	Refresh() error
	Snapshot(s *observer.Snapshot) error
}

// Bridge owns the instruments of one observer. It must be used by one goroutine at a time.
type Bridge struct {
	factory     Factory
	instruments map[string]series     // by the name that they share
	made        map[metricID][]series // of all metrics that there have ever been
	schema      []observer.Metric     // that series are of
	series      [][]series
	state       map[string]stateSeries // of the observer itself, as reported last
	counted     map[string]float64     // what has been pushed of its counters
	snapshot    observer.Snapshot
}

// stateSeries is one series of the observer's own state.
type stateSeries struct {
	gauge  meter.Gauge // nil if it is a counter's
	values []string    // label values
}

// metricID tells metrics apart, of which modules may share a name.
type metricID struct{ module, name string }

// series is one series of the schema with its instruments.
type series struct {
	metric *observer.Metric
	push   func(s *series, snapshot *observer.Snapshot)

	value, sum, count, bucket meter.Counter
	gauge                     meter.Gauge

	values []string   // label values
	les    [][]string // label values with le, one for each slot of a histogram
	last   []uint64   // what has been pushed: the value, or the slots, cumulative, and the sum
	shown  float64    // what the counter of the value or the sum comes to, by what has been added to it
	index  int
	live   bool // something has been pushed
	back   bool // the series has been taken back, and nothing has been pushed since
}

// New makes the instruments for a schema and for the observer's own state; those of metrics that come later are made when a
// snapshot first has them. Making one twice panics in a Prometheus provider, so there is one Bridge for a provider. BanyanDB
// wants it made in PreRun, after its metric service's own.
func New(factory Factory, schema []observer.Metric) *Bridge {
	b := &Bridge{
		factory:     factory,
		instruments: make(map[string]series),
		made:        make(map[metricID][]series),
		counted:     make(map[string]float64),
	}
	// The modules that lose events of their own accord have a metric of these in their schema too.
	for _, m := range observer.StateMetrics() {
		b.instruments[m.Name] = instrumentsOf(factory, &m)
	}
	b.follow(schema)
	return b
}

// follow makes the instruments of a schema that there are none of yet, and takes back the series of what is not part of it any
// more. These begin with all that was counted, should they come again.
func (b *Bridge) follow(schema []observer.Metric) {
	if len(schema) == len(b.schema) && (len(schema) == 0 || &schema[0] == &b.schema[0]) {
		return
	}
	b.schema, b.series = schema, nil
	gone := maps.Clone(b.made)
	for i := range schema {
		m := &schema[i]
		id := metricID{m.Module, m.Name}
		all, ok := b.made[id]
		if !ok {
			template, known := b.instruments[m.Name]
			if !known {
				template = instrumentsOf(b.factory, m)
				b.instruments[m.Name] = template
			}
			for j := range m.Series() {
				all = append(all, newSeries(template, m, j))
			}
			b.made[id] = all
		}
		delete(gone, id)
		b.series = append(b.series, all)
	}
	for _, all := range gone {
		for i := range all {
			all[i].takeBack()
		}
	}
}

// instrumentsOf makes the instruments that all series of one name share.
func instrumentsOf(factory Factory, m *observer.Metric) series {
	names := m.LabelNames()
	switch m.Kind {
	case observer.Gauge:
		return series{push: (*series).pushGauge, gauge: factory.NewGauge(m.Name, names...)}
	case observer.Histogram:
		return series{
			push:   (*series).pushHistogram,
			bucket: factory.NewCounter(m.Name+"_bucket", append(names, "le")...),
			sum:    factory.NewCounter(m.Name+"_sum", names...),
			count:  factory.NewCounter(m.Name+"_count", names...),
		}
	default:
		return series{push: (*series).pushCounter, value: factory.NewCounter(m.Name, names...)}
	}
}

func newSeries(s series, m *observer.Metric, i int) series {
	s.metric, s.index, s.values = m, i, m.LabelValues(i)
	s.last = make([]uint64, 1)
	if m.Kind == observer.Histogram {
		for _, bound := range m.Bounds {
			s.les = append(s.les, withLE(s.values, strconv.FormatFloat(bound, 'g', -1, 64)))
		}
		s.les = append(s.les, withLE(s.values, "+Inf"))
		s.last = make([]uint64, len(s.les)+1)
	}
	return s
}

func withLE(values []string, le string) []string {
	return append(append(make([]string, 0, len(values)+1), values...), le)
}

// Collect refreshes the source, takes a snapshot and pushes what has changed since the last one. A series that has never
// counted anything is not made. Nothing is pushed if the snapshot fails. What could not be refreshed stays as it was; the
// rest is pushed, and the error returned. ebpf_collect_success tells of either.
func (b *Bridge) Collect(source Source) (err error) {
	start := time.Now()
	defer func() {
		success := 1.0
		if err != nil {
			success = 0
		}
		b.instruments[observer.CollectSuccess].gauge.Set(success)
		b.instruments[observer.CollectDuration].gauge.Set(time.Since(start).Seconds())
	}()
	refreshErr := source.Refresh()
	if refreshErr != nil {
		refreshErr = fmt.Errorf("refreshing: %w", refreshErr)
	}
	if err = source.Snapshot(&b.snapshot); err != nil {
		return errors.Join(refreshErr, fmt.Errorf("taking a snapshot: %w", err))
	}
	b.follow(b.snapshot.Schema())
	for _, all := range b.series {
		for i := range all {
			all[i].push(&all[i], &b.snapshot)
		}
	}
	return refreshErr
}

// Report pushes the state of the observer itself: which modules are up, how their hooks are attached, what they hold, what
// the kernel has kept from them, which of their metrics have proved to be right, and what they cost. What is not so any more
// is taken back.
func (b *Bridge) Report(health observer.Health) {
	gone := b.state
	b.state = make(map[string]stateSeries, len(gone))
	health.Each(func(metric string, value float64, labelValues ...string) {
		key := metric + " " + strings.Join(labelValues, " ")
		instruments := b.instruments[metric]
		if instruments.gauge != nil {
			instruments.gauge.Set(value, labelValues...)
		} else if grown := value - b.counted[key]; grown > 0 {
			instruments.value.Inc(grown, labelValues...)
			b.counted[key] = value
		}
		b.state[key] = stateSeries{gauge: instruments.gauge, values: labelValues}
		delete(gone, key)
	})
	for _, s := range gone {
		if s.gauge != nil {
			s.gauge.Delete(s.values...)
		}
	}
}

func (s *series) pushCounter(snapshot *observer.Snapshot) {
	value := snapshot.Value(s.metric, s.index)
	if value == s.last[0] {
		return
	}
	s.grow(s.value, 0, value)
}

func (s *series) pushGauge(snapshot *observer.Snapshot) {
	value := snapshot.Value(s.metric, s.index)
	if value == s.last[0] {
		return
	}
	s.last[0] = value
	s.gauge.Set(float64(value)*s.metric.Scale, s.values...)
}

func (s *series) pushHistogram(snapshot *observer.Snapshot) {
	slots := snapshot.Slots(s.metric, s.index)
	var count uint64
	for _, n := range slots {
		count += n
	}
	inf := len(slots) - 1
	if count == s.last[inf] {
		return
	}
	before := s.last[inf]
	var cumulative uint64
	for i, n := range slots {
		cumulative += n
		// The first time, all buckets are made: a reader wants the empty ones too.
		if cumulative != s.last[i] || !s.live {
			s.bucket.Inc(float64(cumulative-s.last[i]), s.les[i]...)
			s.last[i] = cumulative
		}
	}
	s.live = true
	s.count.Inc(float64(count-before), s.values...)
	s.grow(s.sum, inf+1, snapshot.Sum(s.metric, s.index))
}

// takeBack has the series be no more, as if it had never been pushed.
func (s *series) takeBack() {
	for _, counter := range []meter.Counter{s.value, s.sum, s.count} {
		if counter != nil {
			counter.Delete(s.values...)
		}
	}
	if s.gauge != nil {
		s.gauge.Delete(s.values...)
	}
	for _, values := range s.les {
		s.bucket.Delete(values...)
	}
	clear(s.last)
	s.live, s.back = false, true
}

// roundingMargin is more than adding up can round, relative to the sum.
const roundingMargin = 1.0 / (1 << 40)

// grow brings a counter to a value, and notes it as pushed. Each addition of fractions rounds, in an order that is the
// provider's secret. A series that comes back is added in one piece, and could be the last digit lower than it was, which a
// reader would take for a start from nothing: it begins a trifle above.
func (s *series) grow(counter meter.Counter, i int, value uint64) {
	total := float64(value) * s.metric.Scale
	if s.back {
		if s.metric.Scale != 1 {
			total = max(total, s.shown*(1+roundingMargin))
		}
		s.shown, s.back = 0, false
	}
	// A sum of nothing is made, too.
	grown := max(0, total-s.shown)
	counter.Inc(grown, s.values...)
	s.shown += grown
	s.last[i] = value
}
