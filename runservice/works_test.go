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

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/api/data"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
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
