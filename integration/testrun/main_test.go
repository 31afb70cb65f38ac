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

package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestResults(t *testing.T) {
	var out strings.Builder
	r := &results{out: &out, output: map[string][]string{}}
	require.NoError(t, r.read(strings.NewReader(`
{"Action":"run","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestGood","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestGood/sub"}
{"Action":"pass","Package":"p","Test":"TestGood"}
{"Action":"output","Package":"p","Test":"TestAway","Output":"    a_test.go:7: no such kernel: really\n"}
{"Action":"output","Package":"p","Test":"TestAway","Output":"--- SKIP: TestAway (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestAway"}
{"Action":"output","Package":"p","Test":"TestBad","Output":"it broke\n"}
{"Action":"fail","Package":"p","Test":"TestBad"}
{"Action":"fail","Package":"p"}
not an event`)))
	require.Equal(t, 1, r.passed)
	require.Equal(t, 1, r.failed)
	require.Equal(t, []string{"TestAway: no such kernel: really"}, r.skipped)
	require.Contains(t, out.String(), "it broke")
	require.Contains(t, out.String(), "not an event")
	require.NotContains(t, out.String(), "quiet")
}
