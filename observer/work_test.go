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
		change func(counters, byWork *btf.Struct)
		want   string
	}{
		"not the last member": {func(counters, _ *btf.Struct) {
			counters.Members = append(counters.Members, counters.Members[0])
		}, "declare BY_WORK last"},
		"another number of works": {func(counters, _ *btf.Struct) {
			last := &counters.Members[len(counters.Members)-1]
			array := *last.Type.(*btf.Array)
			array.Nelems = 64
			last.Type = &array
		}, "declare it once, with BY_WORK"},
		"no updates": {func(counters, _ *btf.Struct) {
			counters.Members = slices.Delete(counters.Members, len(counters.Members)-2, len(counters.Members)-1)
		}, "declare it once, with BY_WORK"},
		"part of nothing": {func(_, byWork *btf.Struct) { tag(byWork, "part_of:") }, "must have PART_OF"},
		"part of another metric": {func(_, byWork *btf.Struct) {
			tag(byWork, "part_of:", "part_of:others_total")
		}, "no metric ebpf_mine_others_total"},
		"part of another unit": {func(_, byWork *btf.Struct) {
			tag(byWork, "part_of:", "part_of:operation_seconds_total")
		}, "no metric ebpf_mine_operation_seconds_total of the same unit"},
		"verified as well": {func(_, byWork *btf.Struct) {
			byWork.Members[0].Tags = append(byWork.Members[0].Tags, "verify:reads")
		}, "must not have VERIFY"},
		"labels of the work": {func(_, byWork *btf.Struct) {
			tag(byWork, "labels:", "labels:work=io_class")
		}, "the labels work and catalog are reserved"},
		"part of a whole": {func(counters, _ *btf.Struct) {
			counters.Members[0].Tags = append(counters.Members[0].Tags, "part_of:bytes_total")
		}, "PART_OF is only for"},
	} {
		t.Run(name, func(t *testing.T) {
			object, err := fs.ReadFile(bpf.Modules("amd64"), "io"+bpf.Suffix)
			require.NoError(t, err)
			spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
			require.NoError(t, err)
			_, err = observer.Spec("mine", spec).Describe("mine")
			require.NoError(t, err)
			counters := spec.Maps["metrics"].Value.(*btf.Struct)
			c.change(counters, counters.Members[len(counters.Members)-1].Type.(*btf.Array).Type.(*btf.Struct))
			_, err = observer.Spec("mine", spec).Describe("mine")
			require.ErrorIs(t, err, kprobe.ErrInvalidModule)
			require.ErrorContains(t, err, c.want)
		})
	}
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
