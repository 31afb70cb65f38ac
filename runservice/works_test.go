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
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/api/common"
	"github.com/apache/skywalking-banyandb/api/data"
	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	propertyv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/property/v1"
	streamv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/stream/v1"
	tracev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/trace/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
	"github.com/apache/skywalking-banyandb/pkg/bus"
)

// TestTopics checks that each topic of messages between nodes has a work, except those that ask for a node's state, and
// that no topic has two.
func TestTopics(t *testing.T) {
	asking := []bus.Topic{
		data.TopicSnapshot, data.TopicMeasureCollectDataInfo, data.TopicMeasureCollectLiaisonInfo, data.TopicStreamCollectDataInfo,
		data.TopicStreamCollectLiaisonInfo, data.TopicTraceCollectDataInfo, data.TopicTraceCollectLiaisonInfo,
	}
	require.NotEmpty(t, data.TopicMap)
	for name, topic := range data.TopicMap {
		if topicLabels[topic] == nil {
			require.Contains(t, asking, topic, name)
		}
	}
	seen := make(map[bus.Topic]observer.Work)
	for _, of := range topics {
		for _, topic := range of.topics {
			require.NotContains(t, seen, topic)
			seen[topic] = of.work
		}
	}
}

// TestIntercept checks that a message reaches its listener with its context, and under a label if its topic has a work,
// and that the answer is returned in both cases.
func TestIntercept(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	for _, topic := range []bus.Topic{data.TopicTraceQuery, bus.BiTopic("unknown")} {
		answer := Intercept(ctx, topic, bus.NewMessage(1, "question"), func(got context.Context, message bus.Message) bus.Message {
			require.Equal(t, "value", got.Value(key{}))
			var goroutines strings.Builder
			require.NoError(t, pprof.Lookup("goroutine").WriteTo(&goroutines, 1))
			require.Equal(t, topic == data.TopicTraceQuery, strings.Contains(goroutines.String(), `"catalog":"trace", "work":"query"`))
			return bus.NewMessage(2, message.Data().(string)+" answered")
		})
		require.Equal(t, bus.MessageID(2), answer.ID())
		require.Equal(t, "question answered", answer.Data())
	}
}

// testEntry is a query of 2 s, of which it waited 1.5 s.
func testEntry() *observer.Entry {
	fields := []observer.ReceiptField{{Name: "io_reads"}, {Name: "io_read_seconds", Unit: "seconds"}}
	return &observer.Entry{
		Took: 2 * time.Second, Work: observer.Work{Name: "query", Catalog: "stream"}, Subject: observer.Subject{Group: "g", Name: "n"},
		Receipt: observertest.Receipt(fields, 12, 1_500_000_000),
	}
}

// logSlow logs queries that take longer than the threshold, until the test ends.
func logSlow(t *testing.T, s *Service, threshold time.Duration) {
	t.Helper()
	flags := pflag.NewFlagSet("data", pflag.ContinueOnError)
	flags.Duration("slow-query", threshold, "")
	s.root = func() *pflag.FlagSet { return flags }
	s.logSlowQueries()
	t.Cleanup(func() { slow.threshold.Store(0) })
}

// TestTell checks that a receipt is on the trace of each kind of answer that has one, and in the log if the query took
// longer than --slow-query.
func TestTell(t *testing.T) {
	want := []string{"ebpf_io_reads=12", "ebpf_io_read_seconds=1.5"}
	traced := func() *commonv1.Trace {
		return &commonv1.Trace{Spans: []*commonv1.Span{{Message: "data-1"}, {Message: "other"}}}
	}
	for name, answer := range map[string]func(*commonv1.Trace) any{
		"measure":          func(trace *commonv1.Trace) any { return &measurev1.QueryResponse{Trace: trace} },
		"internal measure": func(trace *commonv1.Trace) any { return &measurev1.InternalQueryResponse{Trace: trace} },
		"top n":            func(trace *commonv1.Trace) any { return &measurev1.TopNResponse{Trace: trace} },
		"stream":           func(trace *commonv1.Trace) any { return &streamv1.QueryResponse{Trace: trace} },
		"trace":            func(trace *commonv1.Trace) any { return &tracev1.QueryResponse{TraceQueryResult: trace} },
		"internal trace":   func(trace *commonv1.Trace) any { return &tracev1.InternalQueryResponse{TraceQueryResult: trace} },
		"property":         func(trace *commonv1.Trace) any { return &propertyv1.InternalQueryResponse{Trace: trace} },
	} {
		trace := traced()
		tell(testEntry(), answer(trace))
		var tags []string
		for _, tag := range trace.Spans[0].Tags {
			tags = append(tags, tag.Key+"="+tag.Value)
		}
		require.Equal(t, want, tags, name)
		require.Empty(t, trace.Spans[1].Tags, name)
		tell(testEntry(), answer(nil))
	}
	for _, threshold := range []time.Duration{0, time.Second, 2 * time.Second} {
		lines := logged(t, func(s *Service) {
			logSlow(t, s, threshold)
			tell(testEntry(), common.NewError("an error"))
		})
		if threshold != time.Second {
			require.Empty(t, lines)
			continue
		}
		require.Len(t, lines, 1)
		require.Equal(t, map[string]any{"io_reads": 12.0, "io_read_seconds": 1.5}, lines[0]["receipt"])
		require.Equal(t, []any{"stream", "g", "n", "2s", "1.5s"}, []any{lines[0]["catalog"], lines[0]["group"], lines[0]["name"], lines[0]["took"], lines[0]["waited"]})
	}
}

// TestSubject checks what is kept of each kind of query.
func TestSubject(t *testing.T) {
	want := observer.Subject{Group: "g", Name: "n"}
	groups := []string{"g", "h"}
	for _, request := range []any{
		&measurev1.QueryRequest{Groups: groups, Name: "n"}, &measurev1.InternalQueryRequest{Request: &measurev1.QueryRequest{Groups: groups, Name: "n"}},
		&measurev1.TopNRequest{Groups: groups, Name: "n"}, &streamv1.QueryRequest{Groups: groups, Name: "n"},
		&tracev1.QueryRequest{Groups: groups, Name: "n"}, &propertyv1.QueryRequest{Groups: groups, Name: "n"},
	} {
		require.Equal(t, want, subjectOf(request), "%T", request)
	}
	require.Zero(t, subjectOf(nil))
	require.Zero(t, subjectOf("question"))
	require.Zero(t, subjectOf(&measurev1.InternalQueryRequest{}))
}
