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

package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/grpc"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
	tracev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/trace/v1"
)

const (
	traceGroup = "load_trace"
	traceName  = "service_span"
	// spanLines makes a span of about a kilobyte.
	spanLines = 10
)

// traces are spans of services, with tree indexes that order a service's spans by duration and by time.
type traces struct {
	conn grpc.ClientConnInterface
	data tracev1.TraceServiceClient
}

func newTraces(conn grpc.ClientConnInterface) catalog {
	return traces{conn: conn, data: tracev1.NewTraceServiceClient(conn)}
}

func (t traces) create(ctx context.Context, registry schemaRegistry) error {
	if err := registry.group(ctx, traceGroup, commonv1.Catalog_CATALOG_TRACE); err != nil {
		return err
	}
	_, err := databasev1.NewTraceRegistryServiceClient(t.conn).Create(ctx, &databasev1.TraceRegistryServiceCreateRequest{
		Trace: &databasev1.Trace{
			Metadata: &commonv1.Metadata{Group: traceGroup, Name: traceName},
			Tags: []*databasev1.TraceTagSpec{
				{Name: "trace_id", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "span_id", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "service", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "duration", Type: databasev1.TagType_TAG_TYPE_INT},
				{Name: "timestamp", Type: databasev1.TagType_TAG_TYPE_TIMESTAMP},
			},
			TraceIdTagName: "trace_id", SpanIdTagName: "span_id", TimestampTagName: "timestamp",
		},
	})
	if err = unlessExists("trace "+traceName, err); err != nil {
		return err
	}
	return registry.index(ctx, traceGroup, commonv1.Catalog_CATALOG_TRACE, traceName,
		rule{name: "duration", tags: []string{"service", "duration"}, kind: databasev1.IndexRule_TYPE_TREE},
		rule{name: "timestamp", tags: []string{"service", "timestamp"}, kind: databasev1.IndexRule_TYPE_TREE})
}

func (t traces) write(ctx context.Context, n, size int) (int, error) {
	stream, err := t.data.Write(ctx)
	if err != nil {
		return 0, err
	}
	return writeBatch(stream, size, func(i int) *tracev1.WriteRequest {
		series := n*size + i
		var span strings.Builder
		for range spanLines {
			span.WriteString(logLine(series))
		}
		return &tracev1.WriteRequest{
			Metadata: &commonv1.Metadata{Group: traceGroup, Name: traceName},
			Tags: []*modelv1.TagValue{
				text(traceID(series)), text(fmt.Sprintf("span-%d", series)), text(serviceName(series)), integer(rand.IntN(10_000)),
				{Value: &modelv1.TagValue_Timestamp{Timestamp: now()}},
			},
			Span:    []byte(span.String()),
			Version: uint64(i + 1),
		}
	})
}

// query alternates between one trace by its id, the slowest traces of a service, and its newest ones.
func (t traces) query(ctx context.Context, n int) (int, error) {
	req := &tracev1.QueryRequest{
		Groups: []string{traceGroup}, Name: traceName, TimeRange: lastMinutes(15), Limit: 20,
		TagProjection: []string{"trace_id", "service", "duration"},
	}
	service := where("service", modelv1.Condition_BINARY_OP_EQ, text(serviceName(n)))
	switch n % 3 {
	case 0:
		req.Criteria = where("trace_id", modelv1.Condition_BINARY_OP_EQ, text(traceID(rand.IntN(n+1))))
	case 1:
		req.Criteria = both(service, where("duration", modelv1.Condition_BINARY_OP_GE, integer(1_000)))
		req.OrderBy = &modelv1.QueryOrder{IndexRuleName: "duration", Sort: modelv1.Sort_SORT_DESC}
	case 2:
		req.Criteria = service
		req.OrderBy = &modelv1.QueryOrder{IndexRuleName: "timestamp", Sort: modelv1.Sort_SORT_DESC}
	}
	answer, err := t.data.Query(ctx, req)
	rows := 0
	for _, trace := range answer.GetTraces() {
		rows += len(trace.GetSpans())
	}
	return rows, err
}
