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

// Package collector exports an observer's metrics to a Prometheus registry: those of its modules, as they are at the
// scrape, and the observer's own state.
package collector

import (
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/histogram"
)

// Source is what is collected. *observer.Observer implements it.
type Source interface {
	Refresh() error
	Snapshot(s *observer.Snapshot) error
	Health() observer.Health
}

// New returns a collector of a source, to be registered once. It refreshes the source when it is collected, but at most
// once a second. What could not be refreshed keeps its old value, and ebpf_collect_success is then 0; a scrape fails
// only if no snapshot can be taken. The set of metrics may change from one scrape to the next, so the collector is
// unchecked. A counter or histogram that has counted nothing has no series. What is counted by file is exported too, and
// if the source has a Ledger, its distributions.
func New(source Source) prometheus.Collector {
	c := &collector{source: Limit(source), state: make(map[string]observer.Metric)}
	for _, m := range observer.StateMetrics() {
		c.state[m.Name] = m
	}
	return c
}

type collector struct {
	source Source
	state  map[string]observer.Metric

	mu       sync.Mutex // guards the snapshot
	snapshot observer.Snapshot
}

// Describe sends nothing: the metrics are not known before they are collected.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends all series.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	start := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	success := 1.0
	if c.source.Refresh() != nil {
		success = 0
	}
	if err := c.source.Snapshot(&c.snapshot); err != nil {
		err = fmt.Errorf("taking a snapshot: %w", err)
		out <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		return
	}
	// Modules may share a metric's name, and a family has only one help text: that of the first.
	help := make(map[string]string)
	var of *observer.Metric
	var desc *prometheus.Desc
	for _, all := range []iter.Seq[observer.Series]{c.snapshot.All(), c.snapshot.Files()} {
		for s := range all {
			if m := s.Metric; m != of {
				if _, ok := help[m.Name]; !ok {
					help[m.Name] = m.Help
				}
				of, desc = m, prometheus.NewDesc(m.Name, help[m.Name], m.LabelNames(), nil)
			}
			if !s.Empty() {
				out <- constant(desc, s)
			}
		}
	}
	if ledger := Ledger(c.source); ledger != nil {
		for s := range ledger.All() {
			out <- constant(prometheus.NewDesc(s.Metric.Name, s.Metric.Help, s.Metric.LabelNames(), nil), s)
		}
	}
	c.source.Health().Each(func(name string, value float64, labelValues ...string) {
		m := c.state[name]
		if shared, ok := help[name]; ok {
			m.Help = shared
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, m.Help, m.LabelNames(), nil), valueType(m.Kind), value, labelValues...)
	})
	for name, value := range map[string]float64{observer.CollectSuccess: success, observer.CollectDuration: time.Since(start).Seconds()} {
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, c.state[name].Help, nil, nil), prometheus.GaugeValue, value)
	}
}

// constant returns one series as a Prometheus metric.
func constant(desc *prometheus.Desc, s observer.Series) prometheus.Metric {
	if s.Metric.Kind != observer.Histogram {
		return prometheus.MustNewConstMetric(desc, valueType(s.Metric.Kind), s.Value(), s.Labels...)
	}
	count, buckets := histogram.Cumulative(s.Buckets())
	byBound := make(map[float64]uint64, len(s.Metric.Bounds))
	for i, bound := range s.Metric.Bounds {
		byBound[bound] = buckets[i]
	}
	return prometheus.MustNewConstHistogram(desc, count, s.Value(), byBound, s.Labels...)
}

func valueType(k observer.Kind) prometheus.ValueType {
	if k == observer.Gauge {
		return prometheus.GaugeValue
	}
	return prometheus.CounterValue
}
