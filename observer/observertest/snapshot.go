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

// Words returns how many words a snapshot of metrics has. The metrics must come from one call of Describe, or from an
// Observer.
func Words(schema []observer.Metric) int { return layout.Words(schema) }

// Snapshot returns a snapshot of metrics with the given words as counts, to test readers of snapshots: the words of
// each module's counters, one module after the other. The words remain the caller's, and changes of them are visible in
// the snapshot.
func Snapshot(schema []observer.Metric, words []uint64) observer.Snapshot {
	return layout.Snapshot(schema, words).(observer.Snapshot)
}

// Word returns a pointer to the value of a counter or gauge, or to the sum of a histogram: in nanoseconds, bytes, or a
// plain number. What is written there is visible in the snapshot.
func Word(s observer.Series) *uint64 { return layout.Word(s) }

// Receipt returns a receipt with fields and their values as they are counted: nanoseconds for seconds. There may be at
// most 24 of them.
func Receipt(fields []observer.ReceiptField, values ...uint64) observer.Receipt {
	return layout.Receipt(fields, values).(observer.Receipt)
}
