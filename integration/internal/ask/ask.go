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

// Package ask reads a server's own metrics in each way that a user can: BydbQL, HTTP and gRPC for what the server has
// written to its group _monitoring, and the Prometheus page for the current values.
package ask

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	group = "_monitoring"
	// window is how old the last point of a series may be. The server writes every series at every flush.
	window = time.Minute
	// limit is far above the number of points that a metric collects within the window.
	limit = 100_000
	field = "value"
)

// ErrAbsent means that the server does not have the metric.
var ErrAbsent = errors.New("no such metric")

// Source returns the latest value of each series of a metric, by its native name, such as ebpf_io_operations_total. It
// returns ErrAbsent if the server does not have the metric. A metric that the server has but has not counted yet has no
// samples; on the Prometheus page it is absent.
type Source func(ctx context.Context, metric string) (Samples, error)

// Samples are the series of one metric, in the order of their keys.
type Samples []Sample

// Sample is the latest value of a series.
type Sample struct {
	// Time is when the server wrote the value, in whole seconds. It is zero on the Prometheus page, which has none.
	Time time.Time
	// Labels are those of the metric.
	Labels map[string]string
	// Node is the role of the server that wrote the value: standalone, data or liaison. It is empty on the
	// Prometheus page, which has only the queried server's own values.
	Node  string
	Value float64
}

// nodeLabels are on every series in _monitoring and identify the node. They are not labels of the metric.
var nodeLabels = []string{nodeRole, "node_id", "grpc_address", "http_address"}

const nodeRole = "node_type"

// newSample removes the node's labels from the labels.
func newSample(at time.Time, labels map[string]string, value float64) Sample {
	s := Sample{Time: at, Labels: labels, Node: labels[nodeRole], Value: value}
	for _, l := range nodeLabels {
		delete(labels, l)
	}
	return s
}

// Key identifies the series by its sorted labels, such as op="read",result="ok".
func (s Sample) Key() string {
	names := make([]string, 0, len(s.Labels))
	for name := range s.Labels {
		names = append(names, name)
	}
	slices.Sort(names)
	for i, name := range names {
		names[i] = name + "=" + strconv.Quote(s.Labels[name])
	}
	return strings.Join(names, ",")
}

// Of returns the samples that nodes of this role have written.
func (s Samples) Of(role string) Samples {
	var own Samples
	for _, sample := range s {
		if sample.Node == role {
			own = append(own, sample)
		}
	}
	return own
}

// With returns the samples that have this label.
func (s Samples) With(label, value string) Samples {
	var having Samples
	for _, sample := range s {
		if sample.Labels[label] == value {
			having = append(having, sample)
		}
	}
	return having
}

// Sum returns the sum of the values.
func (s Samples) Sum() float64 {
	var sum float64
	for _, sample := range s {
		sum += sample.Value
	}
	return sum
}

// Map returns the values by key. Samples of several nodes must be separated first, see Of.
func (s Samples) Map() map[string]float64 {
	values := make(map[string]float64, len(s))
	for _, sample := range s {
		values[sample.Key()] = sample.Value
	}
	return values
}

// latest keeps the newest sample of each series.
func latest(samples []Sample) Samples {
	newest := make(map[string]Sample)
	for _, s := range samples {
		key := s.Node + " " + s.Key()
		if known, ok := newest[key]; !ok || s.Time.After(known.Time) {
			newest[key] = s
		}
	}
	ordered := make(Samples, 0, len(newest))
	for _, s := range newest {
		ordered = append(ordered, s)
	}
	slices.SortFunc(ordered, func(a, b Sample) int { return strings.Compare(a.Node+" "+a.Key(), b.Node+" "+b.Key()) })
	return ordered
}

// Query returns the BydbQL query for the points of a metric within the last minute, newest first.
func Query(metric string) string { return queryAt(metric, time.Now()) }

func queryAt(metric string, now time.Time) string {
	return fmt.Sprintf("SELECT * FROM MEASURE %s IN %s TIME > '%s' ORDER BY TIME DESC LIMIT %d",
		metric, group, now.Add(-window).UTC().Format(time.RFC3339), limit)
}
