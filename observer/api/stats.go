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

package api

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/cputime"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/histogram"
)

// stats is the response of GET /api/v1/stats.
type stats struct {
	Time              time.Time `json:"time"`
	Metrics           []metric  `json:"metrics"`
	ProcessCPUSeconds float64   `json:"process_cpu_seconds"`
}

type metric struct {
	Name   string        `json:"name"`
	Module string        `json:"module"`
	Kind   string        `json:"kind"`
	Unit   string        `json:"unit"`
	Help   string        `json:"help"`
	Bounds []float64     `json:"bounds,omitempty"`
	Series []series      `json:"series"`
	kind   observer.Kind // for gRPC
}

// series has a value or, for a histogram, the other fields.
type series struct {
	Labels  map[string]string `json:"labels"`
	Value   *float64          `json:"value,omitempty"`
	Count   *uint64           `json:"count,omitempty"`
	Sum     *float64          `json:"sum,omitempty"`
	Buckets []uint64          `json:"buckets,omitempty"`
}

// filter selects metrics by module and by name. An empty list selects all.
type filter struct{ modules, names []string }

func (f filter) chooses(m *observer.Metric) bool {
	return (len(f.modules) == 0 || slices.Contains(f.modules, m.Module)) && (len(f.names) == 0 || slices.Contains(f.names, m.Name))
}

// stats refreshes the source, if the last time is long enough ago, and takes a snapshot into s. What could not be
// refreshed keeps its old value.
func (a *API) stats(f filter, s *observer.Snapshot) (*stats, error) {
	_ = a.source.Refresh()
	if err := a.source.Snapshot(s); err != nil {
		return nil, fmt.Errorf("taking a snapshot: %w", err)
	}
	all := &stats{Time: time.Now(), ProcessCPUSeconds: cputime.Process().Seconds(), Metrics: []metric{}}
	schema := s.Schema()
	place := make(map[*observer.Metric]int, len(schema))
	enter := func(m *observer.Metric) {
		if !f.chooses(m) {
			return
		}
		place[m] = len(all.Metrics)
		all.Metrics = append(all.Metrics, metric{
			Name: m.Name, Module: m.Module, Kind: m.Kind.String(), Unit: m.Unit(), Help: m.Help, Bounds: m.Bounds, Series: []series{}, kind: m.Kind,
		})
	}
	for i := range schema {
		enter(&schema[i])
	}
	for m := range s.FileMetrics() {
		enter(m)
	}
	for _, series := range []iter.Seq[observer.Series]{s.All(), s.Files()} {
		for one := range series {
			if i, ok := place[one.Metric]; ok && !one.Empty() {
				all.Metrics[i].Series = append(all.Metrics[i].Series, seriesOf(one))
			}
		}
	}
	return all, nil
}

func seriesOf(s observer.Series) series {
	one := series{Labels: make(map[string]string, len(s.Labels))}
	for i, value := range s.Labels {
		one.Labels[s.Metric.Labels[i].Name] = value
	}
	value := s.Value()
	if s.Metric.Kind == observer.Histogram {
		count, buckets := histogram.Cumulative(s.Buckets())
		one.Count, one.Buckets, one.Sum = &count, buckets, &value
	} else {
		one.Value = &value
	}
	return one
}

func (s *stats) proto() *ebpfv1.Snapshot {
	snapshot := &ebpfv1.Snapshot{Time: timestamppb.New(s.Time), ProcessCpuSeconds: s.ProcessCPUSeconds}
	for _, m := range s.Metrics {
		out := &ebpfv1.Metric{
			Name: m.Name, Module: m.Module, Unit: m.Unit, Help: m.Help, Bounds: m.Bounds,
			// The enum has one more value, at the front.
			Kind: ebpfv1.MetricKind(m.kind) + 1,
		}
		for _, one := range m.Series {
			series := &ebpfv1.Series{Labels: one.Labels}
			if one.Value != nil {
				series.Data = &ebpfv1.Series_Value{Value: *one.Value}
			} else {
				series.Data = &ebpfv1.Series_Distribution{Distribution: &ebpfv1.Distribution{Count: *one.Count, Sum: *one.Sum, Buckets: one.Buckets}}
			}
			out.Series = append(out.Series, series)
		}
		snapshot.Metrics = append(snapshot.Metrics, out)
	}
	return snapshot
}
