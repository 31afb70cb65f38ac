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

	"github.com/apache/skywalking-banyandb/api/data"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/bus"
)

// The catalogs of BanyanDB, as values of the label catalog.
const (
	catalogMeasure  = "measure"
	catalogStream   = "stream"
	catalogTrace    = "trace"
	catalogProperty = "property"
)

func work(name, catalog string) observer.Work { return observer.Work{Name: name, Catalog: catalog} }

// topics are the works of messages on BanyanDB's bus, through which all queries, writes and transfers between nodes
// reach their handlers.
var topics = []struct {
	work   observer.Work
	topics []bus.Topic
}{
	{work("query", catalogMeasure), []bus.Topic{data.TopicMeasureQuery, data.TopicInternalMeasureQuery, data.TopicTopNQuery}},
	{work("query", catalogStream), []bus.Topic{data.TopicStreamQuery}},
	{work("query", catalogTrace), []bus.Topic{data.TopicTraceQuery}},
	{work("query", catalogProperty), []bus.Topic{data.TopicPropertyQuery}},
	{work("write", catalogMeasure), []bus.Topic{data.TopicMeasureWrite, data.TopicMeasureSeriesIndexInsert, data.TopicMeasureSeriesIndexUpdate}},
	{work("write", catalogStream), []bus.Topic{data.TopicStreamWrite, data.TopicStreamSeriesIndexWrite, data.TopicStreamLocalIndexWrite}},
	{work("write", catalogTrace), []bus.Topic{data.TopicTraceWrite, data.TopicTraceSidxSeriesWrite}},
	{work("write", catalogProperty), []bus.Topic{data.TopicPropertyUpdate, data.TopicPropertyDelete, data.TopicPropertyRepair}},
	{work("sync_between_nodes", catalogMeasure), []bus.Topic{data.TopicMeasurePartSync, data.TopicMeasureSeriesSync}},
	{work("sync_between_nodes", catalogStream), []bus.Topic{data.TopicStreamPartSync, data.TopicStreamSeriesSync, data.TopicStreamElementIndexSync}},
	{work("sync_between_nodes", catalogTrace), []bus.Topic{data.TopicTracePartSync, data.TopicTraceSeriesSync}},
	{work("retention", ""), []bus.Topic{
		data.TopicMeasureDeleteExpiredSegments, data.TopicMeasureDropGroup, data.TopicDeleteExpiredStreamSegments, data.TopicStreamDropGroup,
		data.TopicDeleteExpiredTraceSegments, data.TopicTraceDropGroup,
	}},
}

// loops are rules for functions of BanyanDB v0.10 and of its libraries that always do the same work.
var loops = slices.Concat(
	ofCatalog(catalogMeasure), ofCatalog(catalogStream), ofCatalog(catalogTrace),
	[]observer.WorkRule{
		{Function: "bluge/index.(*Writer).persisterLoop", Work: work("index_persist", "")},
		{Function: "bluge/index.(*Writer).mergerLoop", Work: work("index_merge", "")},
		{Function: "bluge/index.(*Writer).introducerLoop", Work: work("introduce", "")},
		{Function: "banyand/internal/sidx.(*partWrapper)", Work: work("merge", catalogTrace)},
		{Function: "banyand/internal/storage.(*DiskMonitor)", Work: work("retention", "")},
		{Function: "banyand/internal/storage.(*retentionTask", Work: work("retention", "")},
		{Function: "startRotationTask", Work: work("retention", "")},
		{Function: "banyand/property/", Work: work("sync_between_nodes", catalogProperty)},
		{Function: "banyand/metadata/", Work: work("schema", "")},
		{Function: "banyand/observability", Work: work("monitoring", "")},
		{Function: "google.golang.org/grpc/internal/transport.", Work: work("network", "")},
	},
)

// ofCatalog returns rules for the loops that measures, streams and traces each have.
func ofCatalog(catalog string) []observer.WorkRule {
	in := "banyand/" + catalog + "."
	return []observer.WorkRule{
		{Function: in + "(*tsTable).mergeLoop", Work: work("merge", catalog)},
		{Function: in + "(*tsTable).flusherLoop", Work: work("flush", catalog)},
		// Without the catalog: it costs little, and each work is a series of each metric.
		{Function: in + "(*tsTable).introducerLoop", Work: work("introduce", "")},
		{Function: in + "(*tsTable).syncLoop", Work: work("sync_between_nodes", catalog)},
		// It removes the files of parts that have been merged.
		{Function: in + "(*partWrapper)", Work: work("merge", catalog)},
	}
}

// functions are rules for goroutines that were not started by a message.
var functions = []observer.WorkRule{
	{Function: "bluge/index.", Work: work("index_persist", "")},
	// The scheduler of native metrics and of retention.
	{Function: "pkg/timestamp.(*", Work: work("monitoring", "")},
	{Function: "prometheus.(*Registry)", Work: work("monitoring", "")},
	{Function: "skywalking-banyandb/ebpf/", Work: work("monitoring", "")},
	{Function: "google.golang.org/grpc", Work: work("network", "")},
	{Function: "net/http.", Work: work("network", "")},
	{Function: "banyand/liaison/", Work: work("network", "")},
	{Function: "banyand/queue/", Work: work("network", "")},
	// Startup and shutdown of the server.
	{Function: "runtime.main", Work: work("schema", "")},
	{Function: "oklog/run.", Work: work("schema", "")},
}

// topicLabels are the work labels of messages, by topic.
var topicLabels = func() map[bus.Topic]*observer.WorkLabel {
	all := make(map[bus.Topic]*observer.WorkLabel)
	for _, t := range topics {
		label := observer.NewWorkLabel(t.work)
		for _, topic := range t.topics {
			all[topic] = label
		}
	}
	return all
}()

// works returns the works of banyand.
func works() *observer.Works {
	w := &observer.Works{Loops: loops, Functions: functions}
	for _, t := range topics {
		w.Labels = append(w.Labels, topicLabels[t.topics[0]])
	}
	return w
}

// Intercept handles a message on BanyanDB's bus under the label of its topic's work. A server sets it as
// bus.Interceptor before it starts (docs/upstream.md). It takes a few tens of nanoseconds per message, whether or not
// the server is observed.
func Intercept(ctx context.Context, topic bus.Topic, message bus.Message, rev func(context.Context, bus.Message) bus.Message) (answer bus.Message) {
	label := topicLabels[topic]
	if label == nil {
		return rev(ctx, message)
	}
	label.Do(ctx, func() { answer = rev(ctx, message) })
	return answer
}
