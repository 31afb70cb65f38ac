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
	"time"

	"google.golang.org/grpc"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
	streamv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/stream/v1"
)

const (
	streamGroup = "load_stream"
	streamName  = "service_log"
)

// streams are log lines of services, with an inverted index on the duration and a skipping index on the trace id.
type streams struct {
	conn grpc.ClientConnInterface
	data streamv1.StreamServiceClient
}

func newStreams(conn grpc.ClientConnInterface) catalog {
	return streams{conn: conn, data: streamv1.NewStreamServiceClient(conn)}
}

func (s streams) create(ctx context.Context, registry schemaRegistry) error {
	if err := registry.group(ctx, streamGroup, commonv1.Catalog_CATALOG_STREAM); err != nil {
		return err
	}
	_, err := databasev1.NewStreamRegistryServiceClient(s.conn).Create(ctx, &databasev1.StreamRegistryServiceCreateRequest{
		Stream: &databasev1.Stream{
			Metadata: &commonv1.Metadata{Group: streamGroup, Name: streamName},
			TagFamilies: []*databasev1.TagFamilySpec{{Name: family, Tags: []*databasev1.TagSpec{
				{Name: "service", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "instance", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "trace_id", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "duration", Type: databasev1.TagType_TAG_TYPE_INT},
				{Name: "line", Type: databasev1.TagType_TAG_TYPE_STRING},
			}}},
			Entity: &databasev1.Entity{TagNames: []string{"service", "instance"}},
		},
	})
	if err = unlessExists("stream "+streamName, err); err != nil {
		return err
	}
	return registry.index(ctx, streamGroup, commonv1.Catalog_CATALOG_STREAM, streamName,
		rule{name: "duration", tags: []string{"duration"}, kind: databasev1.IndexRule_TYPE_INVERTED},
		rule{name: "trace_id", tags: []string{"trace_id"}, kind: databasev1.IndexRule_TYPE_SKIPPING})
}

func (s streams) write(ctx context.Context, n, size int) (int, error) {
	stream, err := s.data.Write(ctx)
	if err != nil {
		return 0, err
	}
	return writeBatch(stream, size, func(i int) *streamv1.WriteRequest {
		series := n*size + i
		at := now()
		return &streamv1.WriteRequest{
			Metadata: &commonv1.Metadata{Group: streamGroup, Name: streamName},
			Element: &streamv1.ElementValue{
				ElementId: fmt.Sprintf("%d-%d", at.AsTime().UnixNano(), series),
				Timestamp: at,
				TagFamilies: []*modelv1.TagFamilyForWrite{{Tags: []*modelv1.TagValue{
					text(serviceName(series)), text(instanceName(series)), text(traceID(series)),
					integer(rand.IntN(10_000)), text(logLine(series)),
				}}},
			},
			MessageId: uint64(i + 1),
		}
	})
}

// query alternates between the slowest lines of a service, which uses the inverted index, its newest lines, and the
// lines of a trace, which uses the skipping index.
func (s streams) query(ctx context.Context, n int) (int, error) {
	req := &streamv1.QueryRequest{
		Groups: []string{streamGroup}, Name: streamName, TimeRange: lastMinutes(15), Limit: 100,
		Projection: tags("service", "instance", "trace_id", "duration", "line"),
	}
	service := where("service", modelv1.Condition_BINARY_OP_EQ, text(serviceName(n)))
	switch n % 3 {
	case 0:
		req.Criteria = both(service, where("duration", modelv1.Condition_BINARY_OP_GT, integer(9_000)))
		req.OrderBy = &modelv1.QueryOrder{IndexRuleName: "duration", Sort: modelv1.Sort_SORT_DESC}
	case 1:
		req.Criteria = service
	case 2:
		req.Criteria = where("trace_id", modelv1.Condition_BINARY_OP_EQ, text(traceID(rand.IntN(n+1))))
	}
	answer, err := s.data.Query(ctx, req)
	return len(answer.GetElements()), err
}

// traceID gives each trace four consecutive spans or lines.
func traceID(n int) string { return fmt.Sprintf("trace-%08d", n/4) }

func logLine(n int) string {
	return fmt.Sprintf("%s request %d of %s/%s answered with %d after %d us", time.Now().UTC().Format(time.RFC3339Nano), n,
		serviceName(n), instanceName(n), 200+rand.IntN(3)*100, rand.IntN(1_000_000))
}
