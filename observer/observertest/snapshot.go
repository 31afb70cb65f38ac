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

package observertest

import (
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/layout"
)

// Words returns how many words a snapshot of metrics has. They are those of one Describe, or of an Observer.
func Words(schema []observer.Metric) int { return layout.Words(schema) }

// Snapshot returns a snapshot of metrics as if its words had been counted, to test what reads snapshots: a module's words are those
// of its counters, and one module follows the other. The words stay the caller's own, and are seen in the snapshot when they change.
func Snapshot(schema []observer.Metric, words []uint64) observer.Snapshot {
	return layout.Snapshot(schema, words).(observer.Snapshot)
}

// Word returns where the value of a counter or gauge, or the sum of a histogram, is counted: in nanoseconds, bytes, or things. What is
// written there is seen in the snapshot.
func Word(s observer.Series) *uint64 { return layout.Word(s) }
