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
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLatestKeepsTheNewestOfEachSeries(t *testing.T) {
	at := func(second int64, op, role string, value float64) Sample {
		return newSample(time.Unix(second, 0), map[string]string{"op": op, "node_type": role, "node_id": "n"}, value)
	}
	got := latest([]Sample{
		at(2, "read", "data", 7), at(3, "read", "data", 9), at(1, "read", "data", 5),
		at(3, "write", "data", 4), at(9, "read", "liaison", 1),
	})
	assert.Equal(t, map[string]float64{`op="read"`: 9, `op="write"`: 4}, got.Of("data").Map())
	assert.Equal(t, map[string]float64{`op="read"`: 1}, got.Of("liaison").Map())
	assert.Len(t, got, 3)
	assert.InDelta(t, 10, got.With("op", "read").Sum(), 0)
}

func TestKeyOrdersLabels(t *testing.T) {
	s := Sample{Labels: map[string]string{"result": "ok", "op": `a"b`}}
	assert.Equal(t, `op="a\"b",result="ok"`, s.Key())
	assert.Empty(t, Sample{}.Key())
}

func TestQueryAt(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	assert.Equal(t, "SELECT * FROM MEASURE up IN _monitoring TIME > '2026-01-02T02:03:05Z' ORDER BY TIME DESC LIMIT 100000", queryAt("up", at))
}

func TestParse(t *testing.T) {
	families, err := parse(strings.NewReader(`# HELP banyandb_x_bucket help
# TYPE banyandb_x_bucket counter
banyandb_x_bucket{le="1.024e-06",op="read"} 3
banyandb_x_bucket{le="+Inf",op="read"} 4
# TYPE banyandb_up gauge
banyandb_up 1.5
untyped 2
`))
	require.NoError(t, err)
	assert.Equal(t, map[string]float64{`le="+Inf",op="read"`: 4, `le="1.024e-06",op="read"`: 3},
		SamplesOf(families["banyandb_x_bucket"]).Map())
	assert.Equal(t, map[string]float64{"": 1.5}, SamplesOf(families["banyandb_up"]).Map())
	assert.Equal(t, map[string]float64{"": 2}, SamplesOf(families["untyped"]).Map())
	assert.Empty(t, SamplesOf(families["absent"]))

	_, err = parse(strings.NewReader("not a page{"))
	require.Error(t, err)
}
