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
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
)

const (
	// settleTimeout limits the wait for a new schema to reach every node.
	settleTimeout = 30 * time.Second
	settlePause   = 200 * time.Millisecond
)

var succeeded = modelv1.Status_STATUS_SUCCEED.String()

// createSchema creates what is missing and waits until the server accepts a point and a query of each catalog.
func createSchema(ctx context.Context, conn grpc.ClientConnInterface, catalogs []catalog) error {
	registry := schemaRegistry{conn: conn}
	for _, c := range catalogs {
		if err := c.create(ctx, registry); err != nil {
			return fmt.Errorf("creating the schema of the load: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	for _, c := range catalogs {
		if err := settle(ctx, c); err != nil {
			return fmt.Errorf("waiting for the schema of the load: %w", err)
		}
	}
	return nil
}

func settle(ctx context.Context, c catalog) error {
	for {
		_, writeErr := c.write(ctx, 0, 1)
		_, queryErr := c.query(ctx, 0)
		if writeErr == nil && queryErr == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), writeErr, queryErr)
		case <-time.After(settlePause):
		}
	}
}

// schemaRegistry creates what the three catalogs have in common.
type schemaRegistry struct {
	conn grpc.ClientConnInterface
}

// group creates a group of two shards that keeps its data for a day.
func (r schemaRegistry) group(ctx context.Context, name string, kind commonv1.Catalog) error {
	day := &commonv1.IntervalRule{Unit: commonv1.IntervalRule_UNIT_DAY, Num: 1}
	_, err := databasev1.NewGroupRegistryServiceClient(r.conn).Create(ctx, &databasev1.GroupRegistryServiceCreateRequest{
		Group: &commonv1.Group{
			Metadata:     &commonv1.Metadata{Name: name},
			Catalog:      kind,
			ResourceOpts: &commonv1.ResourceOpts{ShardNum: 2, SegmentInterval: day, Ttl: day},
		},
	})
	return unlessExists("group "+name, err)
}

// rule is an index over tags.
type rule struct {
	name string
	tags []string
	kind databasev1.IndexRule_Type
}

// index creates the rules and binds them to a subject of the group.
func (r schemaRegistry) index(ctx context.Context, group string, kind commonv1.Catalog, subject string, rules ...rule) error {
	names := make([]string, 0, len(rules))
	for _, ru := range rules {
		names = append(names, ru.name)
		_, err := databasev1.NewIndexRuleRegistryServiceClient(r.conn).Create(ctx, &databasev1.IndexRuleRegistryServiceCreateRequest{
			IndexRule: &databasev1.IndexRule{
				Metadata: &commonv1.Metadata{Group: group, Name: ru.name}, Tags: ru.tags, Type: ru.kind,
			},
		})
		if err = unlessExists("index rule "+ru.name, err); err != nil {
			return err
		}
	}
	now := time.Now()
	_, err := databasev1.NewIndexRuleBindingRegistryServiceClient(r.conn).Create(ctx, &databasev1.IndexRuleBindingRegistryServiceCreateRequest{
		IndexRuleBinding: &databasev1.IndexRuleBinding{
			Metadata: &commonv1.Metadata{Group: group, Name: subject},
			Rules:    names,
			Subject:  &databasev1.Subject{Catalog: kind, Name: subject},
			BeginAt:  timestamppb.New(now.AddDate(-1, 0, 0)),
			ExpireAt: timestamppb.New(now.AddDate(1, 0, 0)),
		},
	})
	return unlessExists("index rule binding "+subject, err)
}

func unlessExists(what string, err error) error {
	if err == nil || status.Code(err) == codes.AlreadyExists {
		return nil
	}
	return fmt.Errorf("creating %s: %w", what, err)
}

// lastMinutes returns a time range that ends slightly in the future, since the server's clock may be ahead.
func lastMinutes(n int) *modelv1.TimeRange {
	now := time.Now().Truncate(time.Millisecond)
	return &modelv1.TimeRange{
		Begin: timestamppb.New(now.Add(-time.Duration(n) * time.Minute)),
		End:   timestamppb.New(now.Add(time.Second)),
	}
}

// now returns the current time in whole milliseconds, the server's resolution.
func now() *timestamppb.Timestamp { return timestamppb.New(time.Now().Truncate(time.Millisecond)) }

func text(s string) *modelv1.TagValue {
	return &modelv1.TagValue{Value: &modelv1.TagValue_Str{Str: &modelv1.Str{Value: s}}}
}

func integer(n int) *modelv1.TagValue {
	return &modelv1.TagValue{Value: &modelv1.TagValue_Int{Int: &modelv1.Int{Value: int64(n)}}}
}

func where(tag string, op modelv1.Condition_BinaryOp, value *modelv1.TagValue) *modelv1.Criteria {
	return &modelv1.Criteria{Exp: &modelv1.Criteria_Condition{Condition: &modelv1.Condition{Name: tag, Op: op, Value: value}}}
}

func both(left, right *modelv1.Criteria) *modelv1.Criteria {
	return &modelv1.Criteria{Exp: &modelv1.Criteria_Le{Le: &modelv1.LogicalExpression{
		Op: modelv1.LogicalExpression_LOGICAL_OP_AND, Left: left, Right: right,
	}}}
}

func tags(names ...string) *modelv1.TagProjection {
	return &modelv1.TagProjection{TagFamilies: []*modelv1.TagProjection_TagFamily{{Name: family, Tags: names}}}
}

// The contents of the points. The numbers give a few hundred series, and both repeated and unique values.
const (
	family    = "default"
	services  = 40
	instances = 5
	layers    = 4
)

func serviceName(n int) string  { return fmt.Sprintf("service-%02d", n%services) }
func instanceName(n int) string { return fmt.Sprintf("instance-%d", n/services%instances) }
func layerName(n int) string    { return fmt.Sprintf("layer-%d", n%services%layers) }
