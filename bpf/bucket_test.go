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

//go:build linux

package bpf_test

import (
	"bytes"
	"embed"
	"math"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

//go:embed testdata/*/bucket.bpf.o
var testObjects embed.FS

// histograms are those of the header: the smallest slot whose bound is not less than the value is the right one.
var histograms = map[string]struct{ le, step, slots uint32 }{
	"hist_slot_of":      {8, 1, 24},
	"hist_slot_wide_of": {6, 2, 12},
}

// exponent is the definition: the smallest power of two that is not less than v.
func exponent(v uint64) uint32 {
	for e := uint32(0); e < 64; e++ {
		if v <= 1<<e {
			return e
		}
	}
	return 64
}

// TestBuckets runs the header's C in the kernel.
func TestBuckets(t *testing.T) {
	kprobetest.Require(t)
	object, err := testObjects.ReadFile("testdata/" + runtime.GOARCH + "/bucket.bpf.o")
	require.NoError(t, err)
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	coll, err := ebpf.NewCollection(spec)
	require.NoError(t, err)
	defer coll.Close()

	values := []uint64{0, 1, 2, 3, math.MaxUint64}
	for k := 2; k < 64; k++ {
		values = append(values, 1<<k-1, 1<<k, 1<<k+1)
	}
	for _, v := range values {
		e := exponent(v)
		require.Equalf(t, e, run(t, coll.Programs["log2_ceil_of"], v), "log2_ceil(%d)", v)
		for name, h := range histograms {
			slot := uint32(0)
			for slot < h.slots-1 && e > h.le+slot*h.step {
				slot++
			}
			require.Equalf(t, slot, run(t, coll.Programs[name], v), "%s(%d)", name, v)
		}
	}
}

func run(t *testing.T, prog *ebpf.Program, arg uint64) uint32 {
	t.Helper()
	ret, err := prog.Run(&ebpf.RunOptions{Context: [1]uint64{arg}})
	require.NoError(t, err)
	return ret
}
