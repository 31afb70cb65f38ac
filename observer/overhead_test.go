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

package observer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCostAt: the costs with all and with one in sixteen events timed give those in between and beyond.
func TestCostAt(t *testing.T) {
	c := cost{full: 200 * time.Nanosecond, sampled: 125 * time.Nanosecond}
	require.Equal(t, c.full, c.at(1))
	require.Equal(t, c.sampled, c.at(shedSampling))
	// 120 ns without timing, and 80 ns more for each event that is timed.
	require.Equal(t, 160*time.Nanosecond, c.at(2))
	require.Equal(t, 121*time.Nanosecond, c.at(80))
	// If sampling was not found to cost less, it costs the same.
	require.Equal(t, 50*time.Nanosecond, cost{50, 50}.at(16))
}
