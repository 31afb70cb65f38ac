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

package ask

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	bydbqlv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/bydbql/v1"
	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
)

// noMeasure is part of the server's answer to a BydbQL query of an unknown measure. The status code says only "internal
// error".
const noMeasure = "resource not found"

// BydbQL queries the HTTP address of a server, host:port, in BydbQL.
func BydbQL(address string) Source {
	return func(ctx context.Context, metric string) (Samples, error) {
		var answer bydbqlv1.QueryResponse
		err := post(ctx, address, "/api/v1/bydbql/query", &bydbqlv1.QueryRequest{Query: Query(metric)}, &answer)
		return samplesOf(answer.GetMeasureResult(), metric, err)
	}
}

// HTTP queries the HTTP address of a server, host:port, with a measure query.
func HTTP(address string) Source {
	return func(ctx context.Context, metric string) (Samples, error) {
		var schema databasev1.MeasureRegistryServiceGetResponse
		err := call(ctx, http.MethodGet, address, "/api/v1/measure/schema/"+group+"/"+metric, nil, &schema)
		if err != nil {
			return samplesOf(nil, metric, err)
		}
		var answer measurev1.QueryResponse
		err = post(ctx, address, "/api/v1/measure/data", request(schema.GetMeasure()), &answer)
		return samplesOf(&answer, metric, err)
	}
}

// GRPC queries a server over an open connection with a measure query.
func GRPC(conn grpc.ClientConnInterface) Source {
	return func(ctx context.Context, metric string) (Samples, error) {
		schema, err := databasev1.NewMeasureRegistryServiceClient(conn).Get(ctx, &databasev1.MeasureRegistryServiceGetRequest{
			Metadata: &commonv1.Metadata{Group: group, Name: metric},
		})
		if status.Code(err) == codes.NotFound {
			err = ErrAbsent
		}
		if err != nil {
			return samplesOf(nil, metric, err)
		}
		answer, err := measurev1.NewMeasureServiceClient(conn).Query(ctx, request(schema.GetMeasure()))
		return samplesOf(answer, metric, err)
	}
}

// request queries all tags of the measure. A measure query, unlike BydbQL, must name them.
func request(schema *databasev1.Measure) *measurev1.QueryRequest {
	projection := &modelv1.TagProjection{}
	for _, family := range schema.GetTagFamilies() {
		tags := make([]string, 0, len(family.GetTags()))
		for _, tag := range family.GetTags() {
			tags = append(tags, tag.GetName())
		}
		projection.TagFamilies = append(projection.TagFamilies, &modelv1.TagProjection_TagFamily{Name: family.GetName(), Tags: tags})
	}
	now := time.Now().Truncate(time.Second)
	return &measurev1.QueryRequest{
		Groups: []string{group}, Name: schema.GetMetadata().GetName(),
		TimeRange: &modelv1.TimeRange{
			Begin: timestamppb.New(now.Add(-window)), End: timestamppb.New(now.Add(time.Second)),
		},
		TagProjection:   projection,
		FieldProjection: &measurev1.QueryRequest_FieldProjection{Names: []string{field}},
		OrderBy:         &modelv1.QueryOrder{Sort: modelv1.Sort_SORT_DESC},
		Limit:           limit,
	}
}

// samplesOf converts an answer, or the error of the request, to samples.
func samplesOf(answer *measurev1.QueryResponse, metric string, err error) (Samples, error) {
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", metric, err)
	}
	samples := make([]Sample, 0, len(answer.GetDataPoints()))
	for _, point := range answer.GetDataPoints() {
		labels := make(map[string]string)
		for _, family := range point.GetTagFamilies() {
			for _, tag := range family.GetTags() {
				labels[tag.GetKey()] = tag.GetValue().GetStr().GetValue()
			}
		}
		for _, f := range point.GetFields() {
			if f.GetName() == field {
				samples = append(samples, newSample(point.GetTimestamp().AsTime(), labels, f.GetValue().GetFloat().GetValue()))
			}
		}
	}
	return latest(samples), nil
}

func post(ctx context.Context, address, path string, question, answer proto.Message) error {
	body, err := protojson.Marshal(question)
	if err != nil {
		return fmt.Errorf("encoding the query: %w", err)
	}
	return call(ctx, http.MethodPost, address, path, body, answer)
}

// call makes one HTTP request and decodes the answer. It returns ErrAbsent if the server does not know the measure.
func call(ctx context.Context, method, address, path string, body []byte, answer proto.Message) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		if strings.Contains(string(content), noMeasure) {
			return ErrAbsent
		}
		return fmt.Errorf("%s answers %s: %s", path, resp.Status, content)
	}
	if err = (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(content, answer); err != nil {
		return fmt.Errorf("decoding the answer of %s: %w", path, err)
	}
	return nil
}
