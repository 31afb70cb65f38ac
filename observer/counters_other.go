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

//go:build !linux

package observer

import (
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// counters cannot be mapped here: kprobe attaches nothing that would count.
type counters struct{ words int }

func mapCounters(*ebpf.Map, *entry, []Metric, []fileMetric, int, int, *workTable) (*counters, error) {
	return nil, fmt.Errorf("mapping counters: %w", kprobe.ErrNotSupported)
}

func (*counters) sum([]uint64) {}

func (*counters) rows() [][]uint64 { return nil }

func (*counters) subtract(int, uint64) {}

func (*counters) close() error { return nil }
