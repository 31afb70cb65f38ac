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

package observer_test

import (
	"fmt"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// metricOf finds a metric of a module in both architectures' objects, which must describe the same.
func metricOf(t *testing.T, module, name string) observer.Metric {
	t.Helper()
	var found []observer.Metric
	for _, arch := range []string{"amd64", "arm64"} {
		schema, err := observer.Files(bpf.Modules(arch)).Describe(module)
		require.NoError(t, err)
		for _, m := range schema {
			if m.Name == name {
				found = append(found, m)
			}
		}
	}
	require.Len(t, found, 2)
	require.Equal(t, found[0], found[1])
	return found[0]
}

func TestDescribe(t *testing.T) {
	m := metricOf(t, "io", "ebpf_io_operations_total")
	require.Equal(t, observer.Counter, m.Kind)
	require.Equal(t, []string{"syscall"}, m.Hooks)
	require.Equal(t, []string{"op", "result"}, m.LabelNames())
	values := labelValues(m)
	require.Len(t, values, 56)
	require.Equal(t, []string{"read", "ok"}, values[0])
	require.Equal(t, []string{"read", "error"}, values[1])
	require.Equal(t, []string{"brk", "error"}, values[55])
	require.True(t, m.Verifiable)
	require.Contains(t, m.Help, "Not counted")

	h := metricOf(t, "io", "ebpf_io_duration_seconds")
	require.Equal(t, observer.Histogram, h.Kind)
	require.Len(t, h.Bounds, 23)
	require.Equal(t, "2.56e-07", fmt.Sprint(h.Bounds[0]))
	require.Equal(t, "1.073741824", fmt.Sprint(h.Bounds[22]))

	size := metricOf(t, "io", "ebpf_io_size_bytes")
	require.Len(t, size.Bounds, 11)
	require.InDelta(t, 64, size.Bounds[0], 0)
	require.InDelta(t, 256, size.Bounds[1], 0)
	require.InDelta(t, 64<<20, size.Bounds[10], 0)

	require.Equal(t, "6.8", metricOf(t, "cache", "ebpf_cache_lookups_total").Since)

	lost := metricOf(t, "memory", "ebpf_events_lost_total")
	require.Equal(t, []string{"module", "reason"}, lost.LabelNames())
	require.Equal(t, []string{"memory", "collision"}, labelValues(lost)[1])
}

// labelValues returns the label values of each series of a metric.
func labelValues(m observer.Metric) [][]string {
	schema := []observer.Metric{m}
	s := observertest.Snapshot(schema, make([]uint64, observertest.Words(schema)))
	var all [][]string
	for one := range s.All() {
		all = append(all, one.Labels)
	}
	return all
}

// TestSnapshotLayout: each series has its own words.
func TestSnapshotLayout(t *testing.T) {
	schema, err := observer.Files(bpf.Modules("amd64")).Describe("block", "cache", "io", "lock", "memory", "net", "sched", "sched_trace")
	require.NoError(t, err)
	total := observertest.Words(schema)
	words := make([]uint64, total)
	for i := range words {
		words[i] = uint64(i)
	}
	s := observertest.Snapshot(schema, words)
	seen := map[uint64]string{}
	claim := func(word uint64, name string) {
		require.Emptyf(t, seen[word], "%s has the word of another", name)
		seen[word] = name
	}
	for one := range s.All() {
		name := fmt.Sprint(one.Metric.Name, one.Labels)
		claim(*observertest.Word(one), name)
		if one.Metric.Kind != observer.Histogram {
			require.Empty(t, one.Buckets())
			continue
		}
		require.Len(t, one.Buckets(), len(one.Metric.Bounds)+1)
		for _, word := range one.Buckets() {
			claim(word, name)
		}
	}
	// Padding to cache lines is all that is left.
	require.Less(t, total-len(seen), 8*8)
}

func TestModules(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		names, err := observer.Files(bpf.Modules(arch)).Modules()
		require.NoError(t, err)
		require.Equal(t, []string{"block", "cache", "io", "lock", "memory", "net", "sched", "sched_trace"}, names)
	}
	names, err := observer.Files(bpf.Modules("mips")).Modules()
	require.NoError(t, err)
	require.Empty(t, names)
}

// FuzzDescribe: any object is described or refused, without a panic.
func FuzzDescribe(f *testing.F) {
	names, err := observer.Files(bpf.Modules("amd64")).Modules()
	require.NoError(f, err)
	for _, name := range names {
		object, err := fs.ReadFile(bpf.Modules("amd64"), name+bpf.Suffix)
		require.NoError(f, err)
		f.Add(object, 0, byte(0))
		f.Add(object, 0x40, byte(0xff))
		f.Add(object[:len(object)/2], 0x10, byte(1))
	}
	f.Fuzz(func(t *testing.T, object []byte, at int, b byte) {
		object = append([]byte(nil), object...)
		if len(object) > 0 && at >= 0 {
			object[at%len(object)] = b
		}
		schema, err := observer.Files(fstest.MapFS{"fuzzed.bpf.o": {Data: object}}).Describe("fuzzed")
		if err != nil {
			require.ErrorIs(t, err, kprobe.ErrInvalidModule)
			return
		}
		require.Positive(t, observertest.Words(schema))
	})
}
