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

package meterbridge_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/meterbridge"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/meter/prom"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// provider is BanyanDB's Prometheus provider, as its observability package returns it.
type provider struct{ meter.Provider }

func (p provider) NewCounter(name string, labels ...string) meter.Counter {
	return p.Counter(name, labels...)
}

func (p provider) NewGauge(name string, labels ...string) meter.Gauge {
	return p.Gauge(name, labels...)
}

func newProvider() (provider, *prometheus.Registry) {
	registry := prometheus.NewRegistry()
	return provider{prom.NewProvider(meter.NewHierarchicalScope("banyandb", "_"), registry)}, registry
}

// words is a source with given counters.
type words struct {
	schema []observer.Metric
	all    []uint64
}

func (words) Refresh() error { return nil }

func (w words) Snapshot(s *observer.Snapshot) error {
	*s = observertest.Snapshot(w.schema, slices.Clone(w.all))
	return nil
}

// broken is a source that fails.
type broken struct{}

func (broken) Refresh() error { return observer.ErrClosed }

func (broken) Snapshot(*observer.Snapshot) error { return observer.ErrClosed }

// stale is a source that cannot be refreshed.
type stale struct{ words }

var errStale = errors.New("stale")

func (stale) Refresh() error { return errStale }

// defaults is the schema of the default modules with all counters zero.
func defaults(t testing.TB) ([]observer.Metric, words) {
	t.Helper()
	schema, err := observer.BuiltIn().Describe("io", "cache", "memory", "sched")
	require.NoError(t, err)
	return schema, words{schema, make([]uint64, observertest.Words(schema))}
}

func find(t *testing.T, schema []observer.Metric, name string) *observer.Metric {
	t.Helper()
	i := slices.IndexFunc(schema, func(m observer.Metric) bool { return m.Name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return &schema[i]
}

// of returns the metrics of one module.
func of(schema []observer.Metric, module string) []observer.Metric {
	return slices.DeleteFunc(slices.Clone(schema), func(m observer.Metric) bool { return m.Module != module })
}

// gather returns all series as "name{label="value"} value", except those of the collection itself.
func gather(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	values := gatherAll(t, registry)
	delete(values, observer.CollectDuration+"{}")
	delete(values, observer.CollectSuccess+"{}")
	return values
}

func gatherAll(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			value := m.GetCounter().GetValue()
			if f.GetType() == dto.MetricType_GAUGE {
				value = m.GetGauge().GetValue()
			}
			values[strings.TrimPrefix(f.GetName(), "banyandb_")+"{"+strings.Join(labels, ",")+"}"] = value
		}
	}
	return values
}

// seriesOf returns series n of a metric, whether or not it is in the source's schema.
func seriesOf(w words, m *observer.Metric, n int) observer.Series {
	s := observertest.Snapshot([]observer.Metric{*m}, w.all)
	all := slices.Collect(s.All())
	return all[n]
}

// set sets the value of a series, or of one bucket of a histogram's series.
func set(w words, m *observer.Metric, series int, bucket int, value uint64) {
	if s := seriesOf(w, m, series); m.Kind == observer.Histogram {
		s.Buckets()[bucket] = value
	} else {
		*observertest.Word(s) = value
	}
}

func TestCollect(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	require.NoError(t, b.Collect(w))
	require.Empty(t, gather(t, registry), "a series that has counted nothing must not exist")

	ops := find(t, schema, "ebpf_io_operations_total")
	set(w, ops, 2, 0, 5) // pread, ok
	require.NoError(t, b.Collect(w))
	require.NoError(t, b.Collect(w))
	require.Equal(t, map[string]float64{"ebpf_io_operations_total{op=pread,result=ok}": 5}, gather(t, registry))
	set(w, ops, 2, 0, 12)
	set(w, ops, 3, 0, 1)
	require.NoError(t, b.Collect(w))
	require.Equal(t, map[string]float64{
		"ebpf_io_operations_total{op=pread,result=ok}":    12,
		"ebpf_io_operations_total{op=pread,result=error}": 1,
	}, gather(t, registry))

	err := b.Collect(broken{})
	require.ErrorIs(t, err, observer.ErrClosed)
	require.Len(t, gather(t, registry), 2)
}

// TestCollectSuccess checks the metric for whether the last collection was complete.
func TestCollectSuccess(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	for _, c := range []struct {
		source  meterbridge.Source
		success float64
	}{{w, 1}, {stale{w}, 0}, {w, 1}, {broken{}, 0}} {
		require.Equal(t, c.success == 1, b.Collect(c.source) == nil)
		require.InDelta(t, c.success, gatherAll(t, registry)[observer.CollectSuccess+"{}"], 0)
	}
}

// TestCollectStale checks that a failed refresh is returned as an error, and the rest is pushed.
func TestCollectStale(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	set(w, find(t, schema, "ebpf_io_operations_total"), 2, 0, 5)
	require.ErrorIs(t, b.Collect(stale{w}), errStale)
	require.Equal(t, map[string]float64{"ebpf_io_operations_total{op=pread,result=ok}": 5}, gather(t, registry))
}

// TestCollectNanoseconds checks that a counter of nanoseconds is exported in seconds.
func TestCollectNanoseconds(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	cpu := find(t, schema, "ebpf_sched_cpu_seconds_total")
	require.Equal(t, observer.Counter, cpu.Kind)
	for _, ns := range []uint64{1_500_000_000, 4_000_000_000} {
		set(w, cpu, 0, 0, ns)
		require.NoError(t, b.Collect(w))
		require.InDelta(t, float64(ns)/1e9, gather(t, registry)["ebpf_sched_cpu_seconds_total{}"], 1e-12)
	}
}

func TestCollectHistogram(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	h := find(t, schema, "ebpf_io_duration_seconds")
	series := seriesOf(w, h, slices.Index(h.Labels[0].Values, "fsync"))
	slots, sum := series.Buckets(), observertest.Word(series)
	for round := range uint64(3) {
		slots[0], slots[4], slots[len(slots)-1] = 3*round, round, 2*round
		*sum = 1_500_000_000 * round
		require.NoError(t, b.Collect(w))
		got := gather(t, registry)
		if round == 0 {
			require.Empty(t, got)
			continue
		}
		require.Len(t, got, len(slots)+2)
		for i, bound := range h.Bounds {
			want := 3 * round
			if i >= 4 {
				want += round
			}
			require.InDelta(t, want, got[fmt.Sprintf("ebpf_io_duration_seconds_bucket{le=%v,op=fsync}", bound)], 0, "le %v", bound)
		}
		require.InDelta(t, 6*round, got["ebpf_io_duration_seconds_bucket{le=+Inf,op=fsync}"], 0)
		require.InDelta(t, 6*round, got["ebpf_io_duration_seconds_count{op=fsync}"], 0)
		require.InDelta(t, 1.5*float64(round), got["ebpf_io_duration_seconds_sum{op=fsync}"], 1e-12)
	}
}

// TestCollectChange checks that the series of a disabled module are deleted, continue when they return, and that new
// ones are created.
func TestCollectChange(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	w.schema = of(schema, "cache")
	b := meterbridge.New(p, w.schema)
	ops, deleted := find(t, schema, "ebpf_io_operations_total"), find(t, schema, "ebpf_cache_deleted_pages_total")
	set(w, ops, 2, 0, 5)
	set(w, deleted, 0, 0, 7)
	histogram := find(t, schema, "ebpf_io_duration_seconds")
	set(w, histogram, 0, 3, 2)
	cached := map[string]float64{"ebpf_cache_deleted_pages_total{}": 7}
	require.NoError(t, b.Collect(w))
	require.Equal(t, cached, gather(t, registry))

	w.schema = schema
	require.NoError(t, b.Collect(w))
	all := gather(t, registry)
	require.Len(t, all, 2+len(histogram.Bounds)+1+2)
	require.InDelta(t, 5, all["ebpf_io_operations_total{op=pread,result=ok}"], 0)

	w.schema = of(schema, "cache")
	require.NoError(t, b.Collect(w))
	require.Equal(t, cached, gather(t, registry), "the series of a disabled module must be gone")

	w.schema = slices.Clone(schema)
	set(w, ops, 2, 0, 6)
	require.NoError(t, b.Collect(w))
	all["ebpf_io_operations_total{op=pread,result=ok}"] = 6
	require.Equal(t, all, gather(t, registry), "the series of an enabled module must continue")

	w.schema = nil
	require.NoError(t, b.Collect(w))
	require.Empty(t, gather(t, registry))
}

// TestCollectNeverFalls checks that rounding does not make a returning series lower than it was.
func TestCollectNeverFalls(t *testing.T) {
	schema, w := defaults(t)
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	cpu, duration := find(t, schema, "ebpf_sched_cpu_seconds_total"), find(t, schema, "ebpf_io_duration_seconds")
	series := seriesOf(w, duration, 0)
	random := rand.New(rand.NewPCG(1, 2))
	var ns uint64
	for round := range 1000 {
		before := gather(t, registry)
		if w.schema = schema; round%10 == 9 {
			w.schema = nil
			require.NoError(t, b.Collect(w))
			require.Empty(t, gather(t, registry))
			w.schema = slices.Clone(schema)
		} else {
			// Some providers add whole numbers separately from fractions.
			grown := random.Uint64N(1e6)
			if round%7 == 0 {
				grown = 1e9
			}
			ns += grown
			*observertest.Word(series) += grown
			series.Buckets()[2]++
			set(w, cpu, 0, 0, ns)
		}
		require.NoError(t, b.Collect(w))
		got := gather(t, registry)
		for key, value := range before {
			require.GreaterOrEqual(t, got[key], value, "%s in round %d", key, round)
		}
		require.InEpsilon(t, float64(ns)/1e9, got["ebpf_sched_cpu_seconds_total{}"], 1e-9)
		require.InEpsilon(t, float64(ns)/1e9, got["ebpf_io_duration_seconds_sum{op=read}"], 1e-9)
	}
}

func TestReport(t *testing.T) {
	p, registry := newProvider()
	b := meterbridge.New(p, nil)
	b.Report(observer.Health{Modules: []observer.ModuleHealth{
		{Name: "io", Up: true, Missed: 1, Overhead: time.Second},
		{Name: "net", Up: true, MapMemory: 1, Plan: kprobe.Plan{{Name: "tcp", Variant: "v", Attachment: kprobe.TPBTF}}},
	}})
	b.Report(observer.Health{Modules: []observer.ModuleHealth{
		{
			Name: "io", Up: true, MapMemory: 4096, Missed: 3, Overhead: 1500 * time.Millisecond, Level: observer.LevelSampled,
			Plan: kprobe.Plan{
				{Name: "syscall", Variant: "tp_btf", Attachment: kprobe.TPBTF},
				{Name: "other"},
			},
			Metrics: []observer.MetricHealth{{Name: "right", Verified: true}, {Name: "unknown"}, {Name: "wrong", LeftOut: true}},
		},
		{Name: "cache", Cause: "not permitted"},
		{Name: "net", Disabled: true, MapMemory: 1, Plan: kprobe.Plan{{Name: "tcp", Variant: "v", Attachment: kprobe.TPBTF}}},
	}})
	require.Equal(t, map[string]float64{
		"ebpf_module_up{module=io}":                             1,
		"ebpf_module_up{module=cache}":                          0,
		"ebpf_module_up{module=net}":                            0,
		"ebpf_map_memory_bytes{module=net}":                     1,
		"ebpf_shed_level{module=net}":                           0,
		"ebpf_map_memory_bytes{module=io}":                      4096,
		"ebpf_overhead_seconds_total{module=io}":                1.5,
		"ebpf_shed_level{module=io}":                            1,
		"ebpf_metric_verified{metric=right,module=io}":          1,
		"ebpf_metric_verified{metric=unknown,module=io}":        0,
		"ebpf_metric_verified{metric=wrong,module=io}":          0,
		"ebpf_events_lost_total{module=io,reason=missed}":       3,
		"ebpf_probe_info{attach=tp_btf,hook=syscall,module=io}": 1,
	}, gather(t, registry))
}

// names records the names of the instruments that it makes.
type names struct {
	provider
	all *[]string
}

func (n names) NewCounter(name string, labels ...string) meter.Counter {
	*n.all = append(*n.all, name)
	return n.provider.NewCounter(name, labels...)
}

func (n names) NewGauge(name string, labels ...string) meter.Gauge {
	*n.all = append(*n.all, name)
	return n.provider.NewGauge(name, labels...)
}

// TestOwnMetrics checks that the bridge's own metrics are those of StateMetrics, whose names modules cannot use.
func TestOwnMetrics(t *testing.T) {
	p, _ := newProvider()
	var made []string
	meterbridge.New(names{p, &made}, nil)
	var own []string
	for _, m := range observer.StateMetrics() {
		own = append(own, m.Name)
	}
	require.ElementsMatch(t, made, own)
}

// TestNames compares names, types and labels of everything that the default modules can export with the golden file,
// and lints them. A histogram is exported as three counters, since BanyanDB's meter has no other way. For the linter
// they are merged into a histogram again, which is how readers interpret them.
func TestNames(t *testing.T) {
	schema, w := defaults(t)
	for i := range w.all {
		w.all[i] = 1
	}
	p, registry := newProvider()
	b := meterbridge.New(p, schema)
	require.NoError(t, b.Collect(w))
	b.Report(observer.Health{Modules: []observer.ModuleHealth{{
		Name: "io", Up: true, MapMemory: 1, Overhead: time.Second, Plan: kprobe.Plan{{Name: "syscall", Variant: "v", Attachment: kprobe.TPBTF}},
		Metrics: []observer.MetricHealth{{Name: "m", Verified: true}},
	}}})
	families, err := registry.Gather()
	require.NoError(t, err)

	var lines []string
	for _, f := range families {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		lines = append(lines, fmt.Sprintf("%s %s {%s}", strings.ToLower(f.GetType().String()), f.GetName(), strings.Join(labels, ",")))
	}
	const golden = "testdata/names.golden"
	text := strings.Join(lines, "\n") + "\n"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(text), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), text)

	problems, err := promlint.NewWithMetricFamilies(withHistograms(families)).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
	// Without the merge the linter finds problems.
	problems, err = promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.NotEmpty(t, problems)
}

// withHistograms replaces each <name>_bucket, <name>_sum and <name>_count by one histogram <name>.
func withHistograms(families []*dto.MetricFamily) []*dto.MetricFamily {
	var out []*dto.MetricFamily
	for _, f := range families {
		base, isBucket := strings.CutSuffix(f.GetName(), "_bucket")
		if isBucket {
			kind := dto.MetricType_HISTOGRAM
			out = append(out, &dto.MetricFamily{Name: &base, Help: f.Help, Type: &kind, Metric: []*dto.Metric{{Histogram: &dto.Histogram{}}}})
			continue
		}
		for _, suffix := range []string{"_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
		if slices.ContainsFunc(families, func(o *dto.MetricFamily) bool { return o.GetName() == base+"_bucket" }) {
			continue
		}
		out = append(out, f)
	}
	return out
}

// moving is a source whose series all grow from one snapshot to the next.
type moving struct{ words }

func (m moving) Snapshot(s *observer.Snapshot) error {
	for i := range m.all {
		m.all[i]++
	}
	*s = observertest.Snapshot(m.schema, m.all)
	return nil
}

func BenchmarkCollect(b *testing.B) {
	schema, zero := defaults(b)
	instruments, _ := newProvider()
	bridge := meterbridge.New(instruments, schema)
	source := moving{zero}
	// The first collection makes the series.
	require.NoError(b, bridge.Collect(source))
	b.ReportAllocs()
	for b.Loop() {
		if err := bridge.Collect(source); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(zero.all)), "words")
}
