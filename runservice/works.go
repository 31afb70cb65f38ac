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
	"strconv"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/apache/skywalking-banyandb/api/data"
	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/bus"
	"github.com/apache/skywalking-banyandb/pkg/logger"
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

// queryLabels are those of topicLabels that are queries, of which each gets a receipt.
var queryLabels = func() (labels []*observer.WorkLabel) {
	for _, t := range topics {
		if t.work.Name == "query" {
			labels = append(labels, topicLabels[t.topics[0]])
		}
	}
	return labels
}()

// works returns the works of banyand.
func works() *observer.Works {
	w := &observer.Works{Loops: loops, Functions: functions, Receipts: queryLabels, Files: holds}
	for _, t := range topics {
		w.Labels = append(w.Labels, topicLabels[t.topics[0]])
	}
	return w
}

// slow is what Intercept logs of a query that takes longer than BanyanDB's own --slow-query allows.
var slow struct {
	threshold atomic.Int64 // in nanoseconds; 0 for no log
	log       atomic.Pointer[logger.Logger]
}

// Intercept handles a message on BanyanDB's bus under the label of its topic's work. A server sets it as
// bus.Interceptor before it starts (docs/upstream.md). It takes a few tens of nanoseconds per message, whether or not
// the server is observed. A query gets a receipt, which takes half a microsecond: it is put on the query's trace, if one
// was requested, and into the log, if the query is slow.
func Intercept(ctx context.Context, topic bus.Topic, message bus.Message, rev func(context.Context, bus.Message) bus.Message) (answer bus.Message) {
	label := topicLabels[topic]
	handle := func() { answer = rev(ctx, message) }
	switch {
	case label == nil:
		handle()
	case slices.Contains(queryLabels, label):
		if entry, ok := label.DoWithReceipt(ctx, subjectOf(message.Data()), handle); ok {
			tell(&entry, answer.Data())
		}
	default:
		label.Do(ctx, handle)
	}
	return answer
}

// subjectOf returns what a query asks for, without any of its conditions.
func subjectOf(request any) (about observer.Subject) {
	if internal, ok := request.(interface {
		GetRequest() *measurev1.QueryRequest
	}); ok {
		request = internal.GetRequest()
	}
	if named, ok := request.(interface{ GetName() string }); ok {
		about.Name = named.GetName()
	}
	if grouped, ok := request.(interface{ GetGroups() []string }); ok && len(grouped.GetGroups()) > 0 {
		about.Group = grouped.GetGroups()[0]
	}
	return about
}

// tell puts a receipt on the first span of the answer's trace, and into the log.
func tell(entry *observer.Entry, answer any) {
	var trace *commonv1.Trace
	switch traced := answer.(type) {
	case interface{ GetTrace() *commonv1.Trace }:
		trace = traced.GetTrace()
	case interface{ GetTraceQueryResult() *commonv1.Trace }:
		trace = traced.GetTraceQueryResult()
	}
	if spans := trace.GetSpans(); len(spans) > 0 {
		for field, value := range entry.Receipt.All() {
			spans[0].Tags = append(spans[0].Tags, &commonv1.Tag{Key: "ebpf_" + field.Name, Value: strconv.FormatFloat(value, 'f', -1, 64)})
		}
	}
	if threshold := slow.threshold.Load(); threshold > 0 && int64(entry.Took) > threshold {
		event := slow.log.Load().Warn().Str("catalog", entry.Work.Catalog).Str("group", entry.Subject.Group).Str("name", entry.Subject.Name).
			Stringer("took", entry.Took).Stringer("waited", entry.Waited())
		receipt := zerolog.Dict()
		for field, value := range entry.Receipt.All() {
			receipt = receipt.Float64(field.Name, value)
		}
		event.Dict("receipt", receipt).Msg("what the kernel did for a slow query")
	}
}
