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

// Package meterbridge copies an observer's counters to the instruments of BanyanDB's meter package, and thus to
// whatever the meter provider writes to: the _monitoring group, /metrics, or both.
//
// The instruments of a native provider keep sums in memory and have no histogram, so a histogram is exported as three
// counters, <name>_bucket with the label le, <name>_sum and <name>_count, like the series of a Prometheus histogram.
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

// Factory makes instruments. BanyanDB's observability.Factory implements it.
type Factory interface {
	NewCounter(name string, labelNames ...string) meter.Counter
	NewGauge(name string, labelNames ...string) meter.Gauge
}

// Source provides snapshots. *observer.Observer implements it.
type Source interface {
	Refresh() error
	Snapshot(s *observer.Snapshot) error
}

// Bridge owns the instruments of one observer. It must be used by one goroutine at a time.
type Bridge struct {
	factory     Factory
	instruments map[string]series      // by metric name
	made        map[string]*series     // all that have ever existed
	schema      []observer.Metric      // of the snapshot that series belongs to
	series      []*series              // in the order of the snapshot
	state       map[string]stateSeries // of the observer itself, as last reported
	counted     map[string]float64     // pushed values of its counters
	snapshot    observer.Snapshot
}

// stateSeries is one series of the observer's own state.
type stateSeries struct {
	gauge  meter.Gauge // nil for a counter
	values []string    // label values
}

// series is one series of a snapshot with its instruments.
type series struct {
	push func(s *series, now observer.Series)

	value, sum, count, bucket meter.Counter
	gauge                     meter.Gauge

	values  []string   // label values
	les     [][]string // label values with le, one for each bucket of a histogram
	buckets []uint64   // pushed counts of a histogram, cumulative
	last    float64    // pushed value
	shown   float64    // the counter of the value or the sum, as the sum of what was added to it
	live    bool       // something has been pushed
	back    bool       // the series has been deleted, and nothing has been pushed since
}

// New makes the instruments for a schema and for the observer's own state; those of later metrics are made when a
// snapshot first has them. A Prometheus provider panics if an instrument is made twice, so make one Bridge per
// provider. In BanyanDB call New in PreRun, after the PreRun of the metric service.
func New(factory Factory, schema []observer.Metric) *Bridge {
	b := &Bridge{
		factory:     factory,
		instruments: make(map[string]series),
		made:        make(map[string]*series),
		counted:     make(map[string]float64),
	}
	// Modules that report lost events have one of these metrics in their schema too.
	for _, m := range observer.StateMetrics() {
		b.instruments[m.Name] = instrumentsOf(factory, &m)
	}
	b.prepare(schema)
	return b
}

// prepare makes the missing instruments of a schema.
func (b *Bridge) prepare(schema []observer.Metric) {
	for i := range schema {
		if m := &schema[i]; b.instruments[m.Name].push == nil {
			b.instruments[m.Name] = instrumentsOf(b.factory, m)
		}
	}
}

// follow finds the series of a snapshot, and deletes those that are no longer part of it. If they return, they start
// with their full counts.
func (b *Bridge) follow() {
	schema := b.snapshot.Schema()
	if len(schema) == len(b.schema) && (len(schema) == 0 || &schema[0] == &b.schema[0]) {
		return
	}
	b.prepare(schema)
	b.schema, b.series = schema, nil
	gone := maps.Clone(b.made)
	for s := range b.snapshot.All() {
		// Modules may share a metric's name.
		key := s.Metric.Module + " " + s.Metric.Name + " " + strings.Join(s.Labels, " ")
		if b.made[key] == nil {
			b.made[key] = newSeries(b.instruments[s.Metric.Name], s)
		}
		b.series = append(b.series, b.made[key])
		delete(gone, key)
	}
	for _, s := range gone {
		s.takeBack()
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

func newSeries(s series, of observer.Series) *series {
	s.values = of.Labels
	if of.Metric.Kind == observer.Histogram {
		for _, bound := range of.Metric.Bounds {
			s.les = append(s.les, withLE(s.values, strconv.FormatFloat(bound, 'g', -1, 64)))
		}
		s.les = append(s.les, withLE(s.values, "+Inf"))
		s.buckets = make([]uint64, len(s.les))
	}
	return &s
}

func withLE(values []string, le string) []string {
	return append(append(make([]string, 0, len(values)+1), values...), le)
}

// Collect refreshes the source, takes a snapshot and pushes what has changed since the last one. A series that has
// never counted anything is not created. Nothing is pushed if the snapshot fails. Values that could not be refreshed
// stay as they were; the rest is pushed, and the error is returned. Either failure sets ebpf_collect_success to 0.
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
	b.follow()
	i := 0
	for now := range b.snapshot.All() {
		b.series[i].push(b.series[i], now)
		i++
	}
	return refreshErr
}

// Report pushes the state of the observer itself: which modules are up, how their hooks are attached, their memory,
// lost events, overhead and level of shedding, and which metrics are verified. Gauges that no longer apply are deleted.
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

func (s *series) pushCounter(now observer.Series) {
	if now.Value() != s.last {
		s.grow(s.value, now)
	}
}

func (s *series) pushGauge(now observer.Series) {
	if value := now.Value(); value != s.last {
		s.last = value
		s.gauge.Set(value, s.values...)
	}
}

func (s *series) pushHistogram(now observer.Series) {
	count, inf := now.Count(), len(s.buckets)-1
	if count == s.buckets[inf] {
		return
	}
	before := s.buckets[inf]
	var cumulative uint64
	for i, n := range now.Buckets() {
		cumulative += n
		// The first time, create all buckets: readers need the empty ones too.
		if cumulative != s.buckets[i] || !s.live {
			s.bucket.Inc(float64(cumulative-s.buckets[i]), s.les[i]...)
			s.buckets[i] = cumulative
		}
	}
	s.live = true
	s.count.Inc(float64(count-before), s.values...)
	s.grow(s.sum, now)
}

// takeBack deletes the series, as if it had never been pushed.
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
	clear(s.buckets)
	s.last, s.live, s.back = 0, false, true
}

// roundingMargin is an upper bound of the relative rounding error of a sum.
const roundingMargin = 1.0 / (1 << 40)

// grow raises a counter to a value, and records it as pushed. Each addition of fractions rounds, in an order that only
// the provider knows. A series that returns is added at once, and could be lower than before in the last digit, which a
// reader would take for a counter reset. So it starts slightly higher.
func (s *series) grow(counter meter.Counter, now observer.Series) {
	total := now.Value()
	if s.back {
		if now.Metric.Unit() == "seconds" {
			total = max(total, s.shown*(1+roundingMargin))
		}
		s.shown, s.back = 0, false
	}
	// A sum of 0 is created, too.
	grown := max(0, total-s.shown)
	counter.Inc(grown, s.values...)
	s.shown += grown
	s.last = now.Value()
}
