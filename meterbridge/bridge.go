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
	instruments map[string]series      // by the name that they share
	made        map[string]*series     // of all metrics that there have ever been
	schema      []observer.Metric      // of the snapshot that series are of
	series      []*series              // in the order of the snapshot
	state       map[string]stateSeries // of the observer itself, as reported last
	counted     map[string]float64     // what has been pushed of its counters
	snapshot    observer.Snapshot
}

// stateSeries is one series of the observer's own state.
type stateSeries struct {
	gauge  meter.Gauge // nil if it is a counter's
	values []string    // label values
}

// series is one series of a snapshot with its instruments.
type series struct {
	push func(s *series, now observer.Series)

	value, sum, count, bucket meter.Counter
	gauge                     meter.Gauge

	values  []string   // label values
	les     [][]string // label values with le, one for each bucket of a histogram
	buckets []uint64   // what has been pushed of a histogram, cumulative
	last    float64    // what has been pushed: the value
	shown   float64    // what the counter of the value or the sum comes to, by what has been added to it
	live    bool       // something has been pushed
	back    bool       // the series has been taken back, and nothing has been pushed since
}

// New makes the instruments for a schema and for the observer's own state; those of metrics that come later are made when a
// snapshot first has them. Making one twice panics in a Prometheus provider, so there is one Bridge for a provider. BanyanDB
// wants it made in PreRun, after its metric service's own.
func New(factory Factory, schema []observer.Metric) *Bridge {
	b := &Bridge{
		factory:     factory,
		instruments: make(map[string]series),
		made:        make(map[string]*series),
		counted:     make(map[string]float64),
	}
	// The modules that lose events of their own accord have a metric of these in their schema too.
	for _, m := range observer.StateMetrics() {
		b.instruments[m.Name] = instrumentsOf(factory, &m)
	}
	b.prepare(schema)
	return b
}

// prepare makes the instruments of a schema that there are none of yet.
func (b *Bridge) prepare(schema []observer.Metric) {
	for i := range schema {
		if m := &schema[i]; b.instruments[m.Name].push == nil {
			b.instruments[m.Name] = instrumentsOf(b.factory, m)
		}
	}
}

// follow finds the series of a snapshot, and takes back those that are not part of it any more. These begin with all that was
// counted, should they come again.
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
	b.follow()
	i := 0
	for now := range b.snapshot.All() {
		b.series[i].push(b.series[i], now)
		i++
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
		// The first time, all buckets are made: a reader wants the empty ones too.
		if cumulative != s.buckets[i] || !s.live {
			s.bucket.Inc(float64(cumulative-s.buckets[i]), s.les[i]...)
			s.buckets[i] = cumulative
		}
	}
	s.live = true
	s.count.Inc(float64(count-before), s.values...)
	s.grow(s.sum, now)
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
	clear(s.buckets)
	s.last, s.live, s.back = 0, false, true
}

// roundingMargin is more than adding up can round, relative to the sum.
const roundingMargin = 1.0 / (1 << 40)

// grow brings a counter to a value, and notes it as pushed. Each addition of fractions rounds, in an order that is the
// provider's secret. A series that comes back is added in one piece, and could be the last digit lower than it was, which a
// reader would take for a start from nothing: it begins a trifle above.
func (s *series) grow(counter meter.Counter, now observer.Series) {
	total := now.Value()
	if s.back {
		if now.Metric.Unit() == "seconds" {
			total = max(total, s.shown*(1+roundingMargin))
		}
		s.shown, s.back = 0, false
	}
	// A sum of nothing is made, too.
	grown := max(0, total-s.shown)
	counter.Inc(grown, s.values...)
	s.shown += grown
	s.last = now.Value()
}
