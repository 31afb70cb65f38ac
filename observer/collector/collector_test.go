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

package collector_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

func register(t *testing.T, source collector.Source) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(collector.New(source)))
	return registry
}

func gather(t *testing.T, registry *prometheus.Registry) []*dto.MetricFamily {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	return families
}

// values returns counters and gauges as "name{label=value}", without the duration of the collection.
func values(families []*dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[key] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				all[key] = m.GetGauge().GetValue()
			}
		}
	}
	delete(all, "ebpf_collect_duration_seconds{}")
	return all
}

func find(families []*dto.MetricFamily, name string) *dto.MetricFamily {
	if i := slices.IndexFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == name }); i >= 0 {
		return families[i]
	}
	return nil
}

func TestCounters(t *testing.T) {
	source := fake.New(t, "io")
	registry := register(t, source)
	// The state of a module that is up.
	state := map[string]float64{
		"ebpf_module_up{module=io}": 1, "ebpf_shed_level{module=io}": 0, "ebpf_map_memory_bytes{module=io}": 0, "ebpf_collect_success{}": 1,
	}
	require.Equal(t, state, values(gather(t, registry)), "a series that has counted nothing is left out")

	source.Set("ebpf_io_operations_total", 5, "pread", "ok")
	source.Set("ebpf_io_operation_seconds_total", 1_500_000_000, "munmap")
	state["ebpf_io_operations_total{op=pread,result=ok}"] = 5
	state["ebpf_io_operation_seconds_total{op=munmap}"] = 1.5
	families := gather(t, registry)
	require.Equal(t, state, values(families))
	schema, err := observer.BuiltIn().Describe("io")
	require.NoError(t, err)
	i := slices.IndexFunc(schema, func(m observer.Metric) bool { return m.Name == "ebpf_io_operations_total" })
	require.Equal(t, schema[i].Help, find(families, "ebpf_io_operations_total").GetHelp())
}

// TestGauge: a gauge of 0 is exported.
func TestGauge(t *testing.T) {
	source := fake.New(t, "memory")
	source.Set("ebpf_memory_resident_pages", 7, "anon")
	got := values(gather(t, register(t, source)))
	require.InDelta(t, 7, got["ebpf_memory_resident_pages{kind=anon}"], 0)
	require.Contains(t, got, "ebpf_memory_resident_pages{kind=file}")
	require.InDelta(t, 0, got["ebpf_memory_resident_pages{kind=file}"], 0)
}

func TestHistogram(t *testing.T) {
	source := fake.New(t, "io")
	registry := register(t, source)
	schema, err := observer.BuiltIn().Describe("io")
	require.NoError(t, err)
	m := schema[slices.IndexFunc(schema, func(m observer.Metric) bool { return m.Name == "ebpf_io_duration_seconds" })]
	last := len(m.Bounds)
	source.Observe(m.Name, 2_500_000_000, map[int]uint64{0: 3, 4: 1, last: 2}, "fsync")
	families := gather(t, registry)
	family := find(families, m.Name)
	require.Equal(t, dto.MetricType_HISTOGRAM, family.GetType())
	require.Len(t, family.GetMetric(), 1)
	h := family.GetMetric()[0].GetHistogram()
	require.Equal(t, uint64(6), h.GetSampleCount())
	require.InDelta(t, 2.5, h.GetSampleSum(), 0)
	require.Len(t, h.GetBucket(), len(m.Bounds), "Prometheus adds +Inf when it writes them")
	for i, b := range h.GetBucket() {
		want := uint64(3)
		if i >= 4 {
			want = 4
		}
		require.Equal(t, want, b.GetCumulativeCount(), "le %v", b.GetUpperBound())
		require.InDelta(t, m.Bounds[i], b.GetUpperBound(), 0)
	}
}

// TestState: the observer's own state, and the losses in the modules' metric.
func TestState(t *testing.T) {
	source := fake.New(t, "io")
	source.Set("ebpf_events_lost_total", 2, "io", "collision")
	source.SetHealth(
		observer.ModuleHealth{
			Name: "io", Up: true, MapMemory: 4096, Missed: 3, Overhead: 1500 * time.Millisecond, Level: observer.LevelSampled,
			Plan: kprobe.Plan{
				{Name: "syscall", Variant: "tp_btf", Attachment: kprobe.TPBTF}, {Name: "other"}, {Name: "rx", Variant: "v", Attachment: kprobe.Kprobe},
			},
			DisabledHooks: []string{"rx"},
			Metrics:       []observer.MetricHealth{{Name: "right", Verified: true}, {Name: "wrong", LeftOut: true}},
		},
		observer.ModuleHealth{Name: "memory", Cause: "not permitted"},
		observer.ModuleHealth{
			Name: "cache", Disabled: true, MapMemory: 1, Missed: 1, Overhead: time.Second, Plan: kprobe.Plan{{Name: "fill", Variant: "v", Attachment: kprobe.TPBTF}},
		},
	)
	require.Equal(t, map[string]float64{
		"ebpf_module_up{module=io}":                             1,
		"ebpf_module_up{module=memory}":                         0,
		"ebpf_module_up{module=cache}":                          0,
		"ebpf_map_memory_bytes{module=cache}":                   1,
		"ebpf_shed_level{module=cache}":                         0,
		"ebpf_overhead_seconds_total{module=cache}":             1,
		"ebpf_events_lost_total{module=cache,reason=missed}":    1,
		"ebpf_map_memory_bytes{module=io}":                      4096,
		"ebpf_overhead_seconds_total{module=io}":                1.5,
		"ebpf_shed_level{module=io}":                            1,
		"ebpf_metric_verified{metric=right,module=io}":          1,
		"ebpf_metric_verified{metric=wrong,module=io}":          0,
		"ebpf_events_lost_total{module=io,reason=collision}":    2,
		"ebpf_events_lost_total{module=io,reason=missed}":       3,
		"ebpf_probe_info{attach=tp_btf,hook=syscall,module=io}": 1,
		"ebpf_collect_success{}":                                1,
	}, values(gather(t, register(t, source))))
}

// TestSchemaChanges: modules come and go between two scrapes.
func TestSchemaChanges(t *testing.T) {
	source := fake.New(t, "io")
	registry := register(t, source)
	source.Set("ebpf_io_operations_total", 5, "pread", "ok")
	require.NotNil(t, find(gather(t, registry), "ebpf_io_operations_total"))
	source.Modules("cache", "memory")
	source.Set("ebpf_cache_lookups_total", 6)
	families := gather(t, registry)
	require.Nil(t, find(families, "ebpf_io_operations_total"))
	require.InDelta(t, 6, values(families)["ebpf_cache_lookups_total{}"], 0)
	source.Modules()
	require.Equal(t, map[string]float64{"ebpf_collect_success{}": 1}, values(gather(t, registry)))
}

// TestRefreshes: the source is refreshed once a second, however many readers it has, by a clock that only the test
// moves.
func TestRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := fake.New(t, "io")
		shared := collector.Limit(source)
		require.Same(t, shared, collector.Limit(shared))
		registry := register(t, shared)
		for range 10 {
			gather(t, registry)
			require.NoError(t, shared.Refresh())
		}
		require.Equal(t, 1, source.Refreshes())
		time.Sleep(time.Second - time.Nanosecond)
		gather(t, registry)
		require.Equal(t, 1, source.Refreshes())
		time.Sleep(time.Nanosecond)
		gather(t, registry)
		require.Equal(t, 2, source.Refreshes())
	})
}

var errBroken = errors.New("broken")

func TestErrors(t *testing.T) {
	source := fake.New(t, "io")
	source.Set("ebpf_io_operations_total", 5, "pread", "ok")
	source.Fail(nil, errBroken)
	registry := register(t, source)
	got := values(gather(t, registry))
	require.InDelta(t, 0, got["ebpf_collect_success{}"], 0)
	require.InDelta(t, 5, got["ebpf_io_operations_total{op=pread,result=ok}"], 0, "a failed refresh does not affect the rest")

	source.Fail(errBroken, nil)
	_, err := registry.Gather()
	require.ErrorContains(t, err, "taking a snapshot: broken")
}

// TestLint lets each series of all built-in modules count, and runs the linter of Prometheus on them.
func TestLint(t *testing.T) {
	modules, err := observer.BuiltIn().Modules()
	require.NoError(t, err)
	schema, err := observer.BuiltIn().Describe(modules...)
	require.NoError(t, err)
	counted := everything{schema: schema, words: make([]uint64, observertest.Words(schema))}
	for i := range counted.words {
		counted.words[i] = 1
	}
	families := gather(t, register(t, counted))
	names := map[string]bool{}
	for _, m := range schema {
		names[m.Name] = true
	}
	for _, m := range observer.StateMetrics() {
		names[m.Name] = true
	}
	// This one depends on the database, not on the scrape.
	delete(names, observer.LabelsDiffer)
	require.Len(t, families, len(names))
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)

	// The linter does find faults.
	name := "ebpf_wrong"
	problems, err = promlint.NewWithMetricFamilies([]*dto.MetricFamily{{Name: &name, Type: dto.MetricType_COUNTER.Enum()}}).Lint()
	require.NoError(t, err)
	require.NotEmpty(t, problems)
}

type everything struct {
	schema []observer.Metric
	words  []uint64
}

func (everything) Refresh() error { return nil }

func (e everything) Snapshot(s *observer.Snapshot) error {
	*s = observertest.Snapshot(e.schema, e.words)
	return nil
}

func (everything) Health() observer.Health {
	return observer.Health{Modules: []observer.ModuleHealth{{
		Name: "io", Up: true, MapMemory: 1, Overhead: time.Second, Missed: 1, Plan: kprobe.Plan{{Name: "syscall", Variant: "v", Attachment: kprobe.TPBTF}},
		Metrics: []observer.MetricHealth{{Name: "m", Verified: true}},
	}}}
}
