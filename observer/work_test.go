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
	"bytes"
	"io/fs"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestDescribeWorks checks what is refused of a module that counts by work.
func TestDescribeWorks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(counters, byWork, receipt *btf.Struct)
		want   string
	}{
		"not the last member": {func(counters, _, _ *btf.Struct) {
			counters.Members = append(counters.Members, counters.Members[0])
		}, "declare BY_WORK and ON_RECEIPTS last"},
		"another number of works": {func(counters, _, _ *btf.Struct) {
			resize(member(counters, "by_work"), 64)
		}, "declare it with BY_WORK"},
		"another number of receipts": {func(counters, _, _ *btf.Struct) {
			resize(member(counters, "receipts"), 64)
		}, "after that with ON_RECEIPTS"},
		"works twice": {func(counters, _, _ *btf.Struct) {
			counters.Members = append(counters.Members, *member(counters, "by_work"))
		}, "declare it once, with BY_WORK"},
		"receipts twice": {func(counters, _, _ *btf.Struct) {
			counters.Members = append(counters.Members, *member(counters, "receipts"))
		}, "declare it once, with ON_RECEIPTS"},
		"a receipt that is part of something": {func(_, _, receipt *btf.Struct) {
			receipt.Members[0].Tags = append(receipt.Members[0].Tags, "part_of:bytes_total")
		}, "on a receipt are counter_t and counter_ns_t"},
		"a gauge on a receipt": {func(_, _, receipt *btf.Struct) {
			gauge := *receipt.Members[0].Type.(*btf.Typedef)
			gauge.Name = "gauge_t"
			receipt.Members[0].Type = &gauge
		}, "on a receipt are counter_t and counter_ns_t"},
		"a receipt without help": {func(_, _, receipt *btf.Struct) { tag(receipt, "help:") }, "no HELP"},
		"no updates": {func(counters, _, _ *btf.Struct) {
			counters.Members = slices.DeleteFunc(counters.Members, func(m btf.Member) bool { return m.Name == "updates" })
		}, "declare it with BY_WORK"},
		"part of nothing": {func(_, byWork, _ *btf.Struct) { tag(byWork, "part_of:") }, "must have PART_OF"},
		"part of another metric": {func(_, byWork, _ *btf.Struct) {
			tag(byWork, "part_of:", "part_of:others_total")
		}, "no metric ebpf_mine_others_total"},
		"part of another unit": {func(_, byWork, _ *btf.Struct) {
			tag(byWork, "part_of:", "part_of:operation_seconds_total")
		}, "no metric ebpf_mine_operation_seconds_total of the same unit"},
		"verified as well": {func(_, byWork, _ *btf.Struct) {
			byWork.Members[0].Tags = append(byWork.Members[0].Tags, "verify:reads")
		}, "must not have VERIFY"},
		"labels of the work": {func(_, byWork, _ *btf.Struct) {
			tag(byWork, "labels:", "labels:work=io_class")
		}, "the labels work and catalog are reserved"},
		"part of a whole": {func(counters, _, _ *btf.Struct) {
			counters.Members[0].Tags = append(counters.Members[0].Tags, "part_of:bytes_total")
		}, "PART_OF and BY_FILE are only for"},
	} {
		t.Run(name, func(t *testing.T) {
			object, err := fs.ReadFile(bpf.Modules("amd64"), "io"+bpf.Suffix)
			require.NoError(t, err)
			spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
			require.NoError(t, err)
			_, err = observer.Spec("mine", spec).Describe("mine")
			require.NoError(t, err)
			counters := spec.Maps["metrics"].Value.(*btf.Struct)
			of := func(name string) *btf.Struct { return member(counters, name).Type.(*btf.Array).Type.(*btf.Struct) }
			c.change(counters, of("by_work"), of("receipts"))
			_, err = observer.Spec("mine", spec).Describe("mine")
			require.ErrorIs(t, err, kprobe.ErrInvalidModule)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func member(of *btf.Struct, name string) *btf.Member {
	return &of.Members[slices.IndexFunc(of.Members, func(m btf.Member) bool { return m.Name == name })]
}

// resize gives an array another number of elements.
func resize(m *btf.Member, elements uint32) {
	array := *m.Type.(*btf.Array)
	array.Nelems = elements
	m.Type = &array
}

// tag replaces the tag with a prefix of the first member by others.
func tag(of *btf.Struct, prefix string, with ...string) {
	member := &of.Members[0]
	member.Tags = slices.DeleteFunc(slices.Clone(member.Tags), func(tag string) bool { return len(tag) >= len(prefix) && tag[:len(prefix)] == prefix })
	member.Tags = append(member.Tags, with...)
}

// TestDescribeAttributed checks that a metric says what it is a part of, and that its series are those of each work.
func TestDescribeAttributed(t *testing.T) {
	schema, err := observer.BuiltIn().Describe("io", "cache", "memory")
	require.NoError(t, err)
	names := make(map[string]observer.Metric)
	for _, m := range schema {
		names[m.Name] = m
	}
	parts := 0
	for _, m := range schema {
		if m.PartOf == nil {
			continue
		}
		parts++
		require.True(t, m.Verifiable, m.Name)
		require.Equal(t, []string{"work", "catalog"}, m.LabelNames()[:2], m.Name)
		require.Equal(t, []string{"other", "runtime"}, m.Labels[0].Values, m.Name)
		for _, whole := range m.PartOf {
			require.Contains(t, names, whole, m.Name)
			require.Nil(t, names[whole].PartOf, whole)
		}
	}
	require.Positive(t, parts)
}
