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

// Package layout lets package observertest make snapshots and receipts, which package observer does not export a way to do.
package layout

// Snapshot makes an observer.Snapshot from a []observer.Metric and the words that its modules count into, one module
// after the other. Package observer sets it.
var Snapshot func(schema any, words []uint64) any

// Words returns how many words a []observer.Metric needs. Package observer sets it.
var Words func(schema any) int

// Word returns the first word of an observer.Series: its value, or the sum of a histogram. Package observer sets it.
var Word func(series any) *uint64

// Receipt makes an observer.Receipt from a []observer.ReceiptField and their values as they are counted: nanoseconds for
// seconds. Package observer sets it.
var Receipt func(fields any, values []uint64) any
