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

// Package fake has a source with given counters, to test readers of an observer on machines without eBPF.
package fake

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// Source has the built-in modules' schema and counters that a test sets.
type Source struct {
	// Receipts is the source's ledger. Set it before the source is used.
	Receipts *observer.Ledger

	tb        testing.TB
	err       error // of all snapshots
	stale     error // of all refreshes
	schema    []observer.Metric
	words     []uint64
	health    observer.Health
	refreshes int
	mu        sync.Mutex
}

// New returns a source of modules that are up and have counted nothing.
func New(tb testing.TB, modules ...string) *Source {
	tb.Helper()
	s := &Source{tb: tb}
	s.Modules(modules...)
	return s
}

// Modules changes which modules there are. All counters start at 0.
func (s *Source) Modules(modules ...string) {
	s.tb.Helper()
	schema, err := observer.BuiltIn().Describe(modules...)
	require.NoError(s.tb, err)
	health := observer.Health{}
	for _, name := range modules {
		health.Modules = append(health.Modules, observer.ModuleHealth{Name: name, Up: true})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schema, s.words, s.health = schema, make([]uint64, observertest.Words(schema)), health
}

// SetHealth replaces the state of the modules.
func (s *Source) SetHealth(modules ...observer.ModuleHealth) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = observer.Health{Modules: modules}
}

// Warn replaces the warnings.
func (s *Source) Warn(warnings ...observer.Warning) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.Warnings = warnings
}

// Fail makes snapshots and refreshes fail from now on; nil makes them succeed.
func (s *Source) Fail(snapshot, refresh error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.stale = snapshot, refresh
}

// Refreshes returns how often Refresh has been called.
func (s *Source) Refreshes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refreshes
}

// Set gives the series of a counter or gauge a value.
func (s *Source) Set(name string, value uint64, labelValues ...string) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	*observertest.Word(s.find(name, labelValues)) = value
}

// Observe sets the sum and the given slots of a histogram's series; other slots keep their values.
func (s *Source) Observe(name string, sum uint64, slots map[int]uint64, labelValues ...string) {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	series := s.find(name, labelValues)
	all := series.Buckets()
	for slot, n := range slots {
		all[slot] = n
	}
	*observertest.Word(series) = sum
}

func (s *Source) find(name string, labelValues []string) observer.Series {
	s.tb.Helper()
	snapshot := observertest.Snapshot(s.schema, s.words)
	for series := range snapshot.All() {
		if series.Metric.Name == name && slices.Equal(series.Labels, labelValues) {
			return series
		}
	}
	s.tb.Fatalf("no series %s%v", name, labelValues)
	return observer.Series{}
}

// Refresh counts that it was called.
func (s *Source) Refresh() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refreshes++
	return s.stale
}

// Ledger returns the ledger that a test has filled, or nil.
func (s *Source) Ledger() *observer.Ledger { return s.Receipts }

// Snapshot copies the counters.
func (s *Source) Snapshot(snapshot *observer.Snapshot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	*snapshot = observertest.Snapshot(s.schema, slices.Clone(s.words))
	return nil
}

// Health returns the state of the modules.
func (s *Source) Health() observer.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}
