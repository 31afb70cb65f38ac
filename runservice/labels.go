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

package runservice

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	"github.com/apache/skywalking-banyandb/banyand/metadata"
	"github.com/apache/skywalking-banyandb/banyand/metadata/schema"
	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/ebpf/meterbridge"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/logger"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/meter/native"
	"github.com/apache/skywalking-banyandb/pkg/run"
)

// A point in the database has its label values by position. The label names are in the measure, which BanyanDB creates
// once and does not change. A metric whose labels have changed since would be stored with wrong ones. So values to be
// stored are held here until the measure has been compared, and are dropped if its labels differ.

var _ meterbridge.Factory = (*labelCheck)(nil)

// byMode is a factory with a separate factory per observability mode, nil for one that is off. BanyanDB's is one.
type byMode interface {
	ByMode() (prom, native observability.Factory)
}

const (
	firstPause  = 200 * time.Millisecond
	maxPause    = 30 * time.Second
	listTimeout = 10 * time.Second

	// The points must be deleted too: they would get the labels of the new measure.
	remedyLabels = `when all nodes run this version with the same modules, "bydbctl group delete -g ` + native.ObservabilityGroupName +
		` --force" removes the stored metrics, at most a day's; then start the nodes again at once`
)

// WithSchemas makes the service compare the labels of stored metrics (observability mode native) with those of their
// measures. Without it, metrics whose labels have changed since their measures were created are stored with wrong ones.
func (s *Service) WithSchemas(schemas metadata.Repo) *Service {
	s.schemas = schemas
	return s
}

// factory returns the factory of the instruments.
func (s *Service) factory() meterbridge.Factory {
	f := s.registry.With(observability.RootScope)
	split, ok := f.(byMode)
	if !ok || s.schemas == nil {
		return f
	}
	prom, stored := split.ByMode()
	if stored == nil {
		return f
	}
	if prom == nil {
		prom = observability.BypassRegistry.With(observability.RootScope)
	}
	s.labels = &labelCheck{prom: prom, native: stored, schemas: s.schemas, log: s.log, added: make(chan struct{}, 1)}
	return s.labels
}

// checkLabels compares labels in the background until the service is stopped. Schemas can be read only once other
// services serve.
func (s *Service) checkLabels() {
	if s.labels == nil || !s.closer.AddRunning() {
		return
	}
	go func() {
		defer s.closer.Done()
		defer func() {
			if p := recover(); p != nil {
				s.log.Error().Interface("panic", p).Msg("eBPF metrics are not stored, except those that have been compared")
			}
		}()
		s.labels.run(s.closer)
	}()
}

// labelCheck makes instruments that store nothing until their labels are known to match the stored measure.
type labelCheck struct {
	prom, native meterbridge.Factory
	schemas      metadata.Repo
	log          *logger.Logger
	added        chan struct{}
	differ       meter.Gauge // nil until it is created

	mu      sync.Mutex // guards waiting
	waiting []*gate
}

// NewCounter makes a counter.
func (c *labelCheck) NewCounter(name string, labelNames ...string) meter.Counter {
	n := &counter{prom: c.prom.NewCounter(name, labelNames...), native: c.native.NewCounter(name, labelNames...)}
	n.gate = newGate(name, labelNames, n.native.Inc)
	c.add(n.gate)
	return n
}

// NewGauge makes a gauge.
func (c *labelCheck) NewGauge(name string, labelNames ...string) meter.Gauge {
	if name == observer.MetricVerified {
		// It has one series per metric, and none of them changes: storing them at each flush would be wasteful.
		return c.prom.NewGauge(name, labelNames...)
	}
	n := &gauge{prom: c.prom.NewGauge(name, labelNames...), native: c.native.NewGauge(name, labelNames...)}
	n.gate = newGate(name, labelNames, n.native.Set)
	c.add(n.gate)
	if name == observer.LabelsDiffer {
		c.differ = n
	}
	return n
}

func (c *labelCheck) add(g *gate) {
	c.mu.Lock()
	c.waiting = append(c.waiting, g)
	c.mu.Unlock()
	select {
	case c.added <- struct{}{}:
	default:
		// A notification is already pending.
	}
}

// run compares new instruments after a short pause, and retries those without a measure or an answer after increasing
// pauses.
func (c *labelCheck) run(closer *run.Closer) {
	pause, told := firstPause, false
	var again <-chan time.Time
	for {
		select {
		case <-closer.CloseNotify():
			return
		case <-c.added:
			pause = firstPause
			again = time.After(pause)
		case <-again:
			left, err := c.compare(closer.Ctx())
			if left == 0 {
				again = nil
				continue
			}
			if pause = min(2*pause, maxPause); pause == maxPause && !told {
				told = true
				c.log.Warn().Err(err).Int("metrics", left).Msg("eBPF metrics are not stored yet: the database does not have their measures")
			}
			again = time.After(pause)
		}
	}
}

// compare decides about the waiting instruments whose measures exist. It returns how many are left.
func (c *labelCheck) compare(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	measures, err := c.schemas.MeasureRegistry().ListMeasure(ctx, schema.ListOpt{Group: native.ObservabilityGroupName})
	stored := make(map[string]*databasev1.Measure, len(measures))
	for _, m := range measures {
		stored[m.GetMetadata().GetName()] = m
	}
	c.mu.Lock()
	var refused []string
	c.waiting = slices.DeleteFunc(c.waiting, func(g *gate) bool {
		m, ok := stored[g.name]
		if !ok {
			return false
		}
		want := measureOf(g.name, g.labels)
		same := sameLabels(m, want)
		g.decide(same)
		if !same {
			refused = append(refused, g.name)
			c.log.Error().Str("measure", g.name).Strs("stored_labels", m.GetEntity().GetTagNames()).Strs("labels", want.GetEntity().GetTagNames()).
				Str("remedy", remedyLabels).Msg("an eBPF metric is not stored: the database has its measure with other labels")
		}
		return true
	})
	left := len(c.waiting)
	c.mu.Unlock()
	for _, metric := range refused {
		if c.differ == nil {
			c.NewGauge(observer.LabelsDiffer, "metric")
		}
		c.differ.Set(1, metric)
	}
	return left, err
}

// sameLabels reports whether two measures have the same labels at the same positions.
func sameLabels(a, b *databasev1.Measure) bool {
	return slices.Equal(a.GetEntity().GetTagNames(), b.GetEntity().GetTagNames()) &&
		slices.EqualFunc(a.GetTagFamilies(), b.GetTagFamilies(), func(x, y *databasev1.TagFamilySpec) bool {
			return slices.EqualFunc(x.GetTags(), y.GetTags(), func(v, w *databasev1.TagSpec) bool { return v.GetName() == w.GetName() })
		})
}

// measureOf returns the measure that BanyanDB creates for a metric, including the labels that it adds to each, by
// letting it create one.
func measureOf(name string, labels []string) *databasev1.Measure {
	n := &notedMeasure{}
	provider := native.NewProvider(observability.RootScope, n, native.NodeInfo{})
	native.InitSchema(context.Background(), provider)
	provider.Counter(name, labels...)
	return n.measure
}

// notedMeasure is a repository that has only the measure that was created last.
type notedMeasure struct {
	metadata.Repo
	schema.Group
	schema.Measure
	measure *databasev1.Measure
}

func (n *notedMeasure) GroupRegistry() schema.Group { return n }

func (n *notedMeasure) CreateGroup(context.Context, *commonv1.Group) error { return nil }

func (n *notedMeasure) MeasureRegistry() schema.Measure { return n }

func (n *notedMeasure) CreateMeasure(_ context.Context, measure *databasev1.Measure) (int64, error) {
	n.measure = measure
	return 0, nil
}

// counter and gauge are instruments of both modes.
type counter struct {
	*gate
	prom, native meter.Counter
}

type gauge struct {
	*gate
	prom, native meter.Gauge
}

func (c *counter) Inc(delta float64, labelValues ...string) {
	c.prom.Inc(delta, labelValues...)
	c.pass(labelValues, func() { c.native.Inc(delta, labelValues...) }, func(held float64) float64 { return held + delta })
}

func (c *counter) Delete(labelValues ...string) bool {
	return c.remove(c.native, labelValues) && c.prom.Delete(labelValues...)
}

func (g *gauge) Set(value float64, labelValues ...string) {
	g.prom.Set(value, labelValues...)
	g.pass(labelValues, func() { g.native.Set(value, labelValues...) }, func(float64) float64 { return value })
}

func (g *gauge) Add(delta float64, labelValues ...string) {
	g.prom.Add(delta, labelValues...)
	g.pass(labelValues, func() { g.native.Add(delta, labelValues...) }, func(held float64) float64 { return held + delta })
}

func (g *gauge) Delete(labelValues ...string) bool {
	return g.remove(g.native, labelValues) && g.prom.Delete(labelValues...)
}

// gate controls a native instrument. While it is closed, it holds the values of the series. Open, it passes all values
// through; shut, it drops them. Open and shut are final.
type gate struct {
	write  func(value float64, labelValues ...string)
	name   string
	labels []string

	mu    sync.Mutex            // guards the fields below
	held  map[string]heldSeries // by label values
	state gateState
}

type heldSeries struct {
	labelValues []string
	value       float64
}

type gateState int

const (
	gateClosed gateState = iota
	gateOpen
	gateShut
)

func newGate(name string, labels []string, write func(value float64, labelValues ...string)) *gate {
	return &gate{name: name, labels: slices.Clone(labels), write: write, held: make(map[string]heldSeries)}
}

func keyOf(labelValues []string) string { return strings.Join(labelValues, "\x00") }

// pass calls through if the gate is open, or changes the held value if it is closed.
func (g *gate) pass(labelValues []string, through func(), change func(held float64) float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.state {
	case gateOpen:
		through()
	case gateClosed:
		key := keyOf(labelValues)
		g.held[key] = heldSeries{slices.Clone(labelValues), change(g.held[key].value)}
	case gateShut:
	}
}

func (g *gate) remove(instrument meter.Instrument, labelValues []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, keyOf(labelValues))
	return g.state != gateOpen || instrument.Delete(labelValues...)
}

// decide opens the gate and writes the held values, or shuts it and drops them.
func (g *gate) decide(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = gateShut
	if open {
		g.state = gateOpen
		for _, s := range g.held {
			g.write(s.value, s.labelValues...)
		}
	}
	g.held = nil
}
