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
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/api/common"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	"github.com/apache/skywalking-banyandb/banyand/metadata/schema"
	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/banyand/observability/services"
	"github.com/apache/skywalking-banyandb/banyand/queue"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/bus"
	"github.com/apache/skywalking-banyandb/pkg/logger"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/meter/native"
	"github.com/apache/skywalking-banyandb/pkg/meter/prom"
)

// database is BanyanDB's native meter with a fake database, which has some measures and creates none.
type database struct {
	notedMeasure
	queue.Client
	err        error
	pages      *prometheus.Registry
	collection *native.MetricCollection
	measures   []*databasev1.Measure
	published  map[string]float64
}

func newDatabase() *database {
	d := &database{pages: prometheus.NewRegistry()}
	d.collection = native.NewMetricsCollection(d, nil)
	return d
}

func (d *database) With(scope meter.Scope) observability.Factory {
	return services.NewFactory(prom.NewProvider(scope, d.pages), native.NewProvider(scope, &d.notedMeasure, native.NodeInfo{}), d.collection)
}

func (d *database) MeasureRegistry() schema.Measure { return d }

func (d *database) ListMeasure(_ context.Context, opt schema.ListOpt) ([]*databasev1.Measure, error) {
	if opt.Group != "_monitoring" {
		return nil, nil
	}
	return d.measures, d.err
}

func (d *database) NewBatchPublisher(time.Duration) queue.BatchPublisher { return d }

func (d *database) Close() (map[string]*common.Error, error) { return nil, nil }

func (d *database) Publish(_ context.Context, _ bus.Topic, messages ...bus.Message) (bus.Future, error) {
	for _, m := range messages {
		request := m.Data().(*measurev1.InternalWriteRequest).GetRequest()
		key := request.GetMetadata().GetName()
		for _, tag := range request.GetDataPoint().GetTagFamilies()[0].GetTags()[4:] {
			key += " " + tag.GetStr().GetValue()
		}
		d.published[key] = request.GetDataPoint().GetFields()[0].GetFloat().GetValue()
	}
	return nil, nil
}

// stored returns the values that the native meter writes now.
func (d *database) stored() map[string]float64 {
	d.published = map[string]float64{}
	d.collection.FlushMetrics()
	return d.published
}

// check returns the factory of a service that uses the database.
func (d *database) check(t *testing.T) *labelCheck {
	t.Helper()
	s := New(d, observer.Options{}).WithSchemas(d)
	s.log = logger.GetLogger(name)
	check, ok := s.factory().(*labelCheck)
	require.True(t, ok)
	return check
}

func compared(t *testing.T, c *labelCheck) int {
	t.Helper()
	left, err := c.compare(t.Context())
	require.NoError(t, err)
	return left
}

// measure returns a measure as BanyanDB creates it: first the tags of the node, then the labels.
func measure(name string, labels ...string) *databasev1.Measure {
	tags := append([]string{"node_type", "node_id", "grpc_address", "http_address"}, labels...)
	family := &databasev1.TagFamilySpec{Name: "default"}
	for _, tag := range tags {
		family.Tags = append(family.Tags, &databasev1.TagSpec{Name: tag, Type: databasev1.TagType_TAG_TYPE_STRING})
	}
	m := measureOf(name, nil)
	m.Entity, m.TagFamilies = &databasev1.Entity{TagNames: tags}, []*databasev1.TagFamilySpec{family}
	return m
}

func TestSameLabels(t *testing.T) {
	ours := measureOf("ebpf_x", []string{"op", "result"})
	require.True(t, sameLabels(measure("ebpf_x", "op", "result"), ours))
	require.True(t, sameLabels(measure("ebpf_x"), measureOf("ebpf_x", nil)))
	for _, labels := range [][]string{nil, {"op"}, {"result", "op"}, {"op", "outcome"}, {"op", "result", "le"}, {"direction", "op", "result"}} {
		require.False(t, sameLabels(measure("ebpf_x", labels...), ours), labels)
	}
	older := measure("ebpf_x", "op", "result")
	older.Entity.TagNames = older.Entity.TagNames[1:]
	require.False(t, sameLabels(older, ours), "the labels of the node must be compared too")
	swapped := measure("ebpf_x", "op", "result")
	slices.Reverse(swapped.TagFamilies[0].Tags)
	require.False(t, sameLabels(swapped, ours), "the tags are in another order than the series' labels")
	added := measure("ebpf_x", "op", "result")
	added.TagFamilies[0].Tags = slices.Insert(added.TagFamilies[0].Tags, 4, &databasev1.TagSpec{Name: "mine"})
	require.False(t, sameLabels(added, ours), "a tag that is not part of the series")
	added = measure("ebpf_x", "op", "result")
	added.TagFamilies = append(added.TagFamilies, &databasev1.TagFamilySpec{Name: "mine"})
	require.False(t, sameLabels(added, ours))
}

// TestLabelCheck checks that nothing is stored before the measure has been compared, and then either everything or
// nothing. The page always has everything.
func TestLabelCheck(t *testing.T) {
	d := newDatabase()
	c := d.check(t)
	same, other, late := c.NewCounter("ebpf_same_total", "op"), c.NewCounter("ebpf_other_total", "direction"), c.NewGauge("ebpf_late", "op")
	push := func() {
		same.Inc(2, "read")
		other.Inc(3, "sent")
		late.Set(5, "read")
		late.Add(1, "read")
		late.Set(7, "write")
	}
	push()
	push()
	same.Inc(1, "write")
	require.True(t, same.Delete("write"))
	require.Empty(t, d.stored())
	require.Equal(t, 3, compared(t, c))
	require.Empty(t, d.stored(), "there is no measure yet")

	d.measures = []*databasev1.Measure{measure("ebpf_same_total", "op"), measure("ebpf_other_total", "op")}
	require.Equal(t, 1, compared(t, c))
	require.Equal(t, map[string]float64{"ebpf_same_total read": 4}, d.stored())
	d.measures = append(d.measures, measure("ebpf_labels_differ", "metric"))
	push()
	require.Equal(t, map[string]float64{"ebpf_same_total read": 6}, d.stored())

	d.measures = append(d.measures, measure("ebpf_late", "op"))
	require.Zero(t, compared(t, c))
	const differ = "ebpf_labels_differ ebpf_other_total"
	stored := map[string]float64{"ebpf_same_total read": 6, "ebpf_late read": 6, "ebpf_late write": 7, differ: 1}
	require.Equal(t, stored, d.stored())
	late.Add(1, "read")
	late.Set(8, "write")
	require.True(t, same.Delete("read"))
	require.True(t, other.Delete("sent"))
	require.Equal(t, map[string]float64{"ebpf_late read": 7, "ebpf_late write": 8, differ: 1}, d.stored())

	other.Inc(9, "sent")
	for name, series := range map[string]int{"banyandb_ebpf_same_total": 0, "banyandb_ebpf_other_total": 1, "banyandb_ebpf_late": 2, "banyandb_ebpf_labels_differ": 1} {
		n, err := testutil.GatherAndCount(d.pages, name)
		require.NoError(t, err)
		require.Equal(t, series, n, name)
	}
}

// TestLabelCheckFails checks that nothing is stored until the measures can be read.
func TestLabelCheckFails(t *testing.T) {
	d := newDatabase()
	c := d.check(t)
	c.NewCounter("ebpf_same_total", "op").Inc(2, "read")
	d.err = errors.New("no active server")
	left, err := c.compare(t.Context())
	require.ErrorIs(t, err, d.err)
	require.Equal(t, 1, left)
	require.Empty(t, d.stored())
	d.err, d.measures = nil, []*databasev1.Measure{measure("ebpf_same_total", "op")}
	require.Zero(t, compared(t, c))
	require.Equal(t, map[string]float64{"ebpf_same_total read": 2}, d.stored())
}

// onlyPages is a registry whose mode native is off.
type onlyPages struct{ *database }

func (o onlyPages) With(scope meter.Scope) observability.Factory {
	return services.NewFactory(prom.NewProvider(scope, o.pages), nil, nil)
}

// onlyStored is one whose mode prometheus is off.
type onlyStored struct{ *database }

func (o onlyStored) With(scope meter.Scope) observability.Factory {
	return services.NewFactory(nil, native.NewProvider(scope, &o.notedMeasure, native.NodeInfo{}), o.collection)
}

func TestLabelCheckOfOneMode(t *testing.T) {
	d := newDatabase()
	s := New(onlyPages{d}, observer.Options{}).WithSchemas(d)
	s.factory().NewCounter("ebpf_same_total", "op").Inc(2, "read")
	require.Nil(t, s.labels)
	n, err := testutil.GatherAndCount(d.pages, "banyandb_ebpf_same_total")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	s = New(onlyStored{d}, observer.Options{}).WithSchemas(d)
	s.log = logger.GetLogger(name)
	s.factory().NewCounter("ebpf_same_total", "op").Inc(2, "read")
	d.measures = []*databasev1.Measure{measure("ebpf_same_total", "op")}
	require.Zero(t, compared(t, s.labels))
	require.Equal(t, map[string]float64{"ebpf_same_total read": 2}, d.stored())
}

// TestLabelCheckRuns checks that a service compares the instruments that exist when it starts serving, and those added
// later.
func TestLabelCheckRuns(t *testing.T) {
	d := newDatabase()
	d.measures = []*databasev1.Measure{measure("ebpf_same_total", "op"), measure("ebpf_late", "op")}
	s := New(d, observer.Options{}).WithSchemas(d)
	s.log = logger.GetLogger(name)
	f := s.factory()
	waiting := func() int {
		s.labels.mu.Lock()
		defer s.labels.mu.Unlock()
		return len(s.labels.waiting)
	}
	f.NewCounter("ebpf_same_total", "op").Inc(2, "read")
	require.Equal(t, 1, waiting())
	s.Serve()
	defer s.GracefulStop()
	require.Eventually(t, func() bool { return waiting() == 0 }, time.Minute, 10*time.Millisecond)
	f.NewGauge("ebpf_late", "op").Set(3, "read")
	require.Eventually(t, func() bool { return waiting() == 0 }, time.Minute, 10*time.Millisecond)
	require.Equal(t, map[string]float64{"ebpf_same_total read": 2, "ebpf_late read": 3}, d.stored())
}
