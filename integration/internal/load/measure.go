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
	"math/rand/v2"

	"google.golang.org/grpc"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
)

const (
	measureGroup = "load_measure"
	measureName  = "service_latency"
)

// measures are latencies per service and instance, with an inverted index on the layer of the service.
type measures struct {
	conn grpc.ClientConnInterface
	data measurev1.MeasureServiceClient
}

func newMeasures(conn grpc.ClientConnInterface) catalog {
	return measures{conn: conn, data: measurev1.NewMeasureServiceClient(conn)}
}

func (m measures) create(ctx context.Context, registry schemaRegistry) error {
	if err := registry.group(ctx, measureGroup, commonv1.Catalog_CATALOG_MEASURE); err != nil {
		return err
	}
	_, err := databasev1.NewMeasureRegistryServiceClient(m.conn).Create(ctx, &databasev1.MeasureRegistryServiceCreateRequest{
		Measure: &databasev1.Measure{
			Metadata: &commonv1.Metadata{Group: measureGroup, Name: measureName},
			TagFamilies: []*databasev1.TagFamilySpec{{Name: family, Tags: []*databasev1.TagSpec{
				{Name: "service", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "instance", Type: databasev1.TagType_TAG_TYPE_STRING},
				{Name: "layer", Type: databasev1.TagType_TAG_TYPE_STRING},
			}}},
			Fields: []*databasev1.FieldSpec{
				{
					Name: "calls", FieldType: databasev1.FieldType_FIELD_TYPE_INT,
					EncodingMethod:    databasev1.EncodingMethod_ENCODING_METHOD_GORILLA,
					CompressionMethod: databasev1.CompressionMethod_COMPRESSION_METHOD_ZSTD,
				},
				{
					Name: "latency", FieldType: databasev1.FieldType_FIELD_TYPE_INT,
					EncodingMethod:    databasev1.EncodingMethod_ENCODING_METHOD_GORILLA,
					CompressionMethod: databasev1.CompressionMethod_COMPRESSION_METHOD_ZSTD,
				},
			},
			Entity: &databasev1.Entity{TagNames: []string{"service", "instance"}},
		},
	})
	if err = unlessExists("measure "+measureName, err); err != nil {
		return err
	}
	return registry.index(ctx, measureGroup, commonv1.Catalog_CATALOG_MEASURE, measureName,
		rule{name: "layer", tags: []string{"layer"}, kind: databasev1.IndexRule_TYPE_INVERTED})
}

func (m measures) write(ctx context.Context, n, size int) (int, error) {
	stream, err := m.data.Write(ctx)
	if err != nil {
		return 0, err
	}
	field := func(v int) *modelv1.FieldValue {
		return &modelv1.FieldValue{Value: &modelv1.FieldValue_Int{Int: &modelv1.Int{Value: int64(v)}}}
	}
	return writeBatch(stream, size, func(i int) *measurev1.WriteRequest {
		series := n*size + i
		return &measurev1.WriteRequest{
			Metadata: &commonv1.Metadata{Group: measureGroup, Name: measureName},
			DataPoint: &measurev1.DataPointValue{
				Timestamp: now(),
				TagFamilies: []*modelv1.TagFamilyForWrite{{Tags: []*modelv1.TagValue{
					text(serviceName(series)), text(instanceName(series)), text(layerName(series)),
				}}},
				Fields: []*modelv1.FieldValue{field(rand.IntN(100)), field(rand.IntN(1_000_000))},
			},
			MessageId: uint64(i + 1),
		}
	})
}

// query alternates between the points of one service, the points of a layer, which uses the index, and sums over all.
func (m measures) query(ctx context.Context, n int) (int, error) {
	req := &measurev1.QueryRequest{
		Groups: []string{measureGroup}, Name: measureName, TimeRange: lastMinutes(15), Limit: 500,
		TagProjection:   tags("service", "instance", "layer"),
		FieldProjection: &measurev1.QueryRequest_FieldProjection{Names: []string{"calls", "latency"}},
	}
	switch n % 3 {
	case 0:
		req.Criteria = where("service", modelv1.Condition_BINARY_OP_EQ, text(serviceName(n)))
	case 1:
		req.Criteria = where("layer", modelv1.Condition_BINARY_OP_EQ, text(layerName(n)))
	case 2:
		req.GroupBy = &measurev1.QueryRequest_GroupBy{TagProjection: tags("service"), FieldName: "latency"}
		req.Agg = &measurev1.QueryRequest_Aggregation{
			Function: modelv1.AggregationFunction_AGGREGATION_FUNCTION_SUM, FieldName: "latency",
		}
	}
	answer, err := m.data.Query(ctx, req)
	return len(answer.GetDataPoints()), err
}
