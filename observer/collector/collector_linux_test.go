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

package collector_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestKernel: the registry has exactly the reads that were made, in the counter, in the histogram and in the bytes.
func TestKernel(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "sched"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	registry := register(t, o)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	_, err = file.Write(make([]byte, 4096))
	require.NoError(t, err)

	const key = "ebpf_io_operations_total{op=pread,result=ok}"
	before := gather(t, registry)
	require.Zero(t, values(before)[key])
	buf := make([]byte, 1000)
	for range 137 {
		n, err := unix.Pread(int(file.Fd()), buf, 0)
		require.NoError(t, err)
		require.Equal(t, len(buf), n)
	}
	after := gather(t, registry)
	require.InDelta(t, 137, values(after)[key], 0)
	require.InDelta(t, 137_000, values(after)["ebpf_io_bytes_total{op=pread}"], 0)
	require.InDelta(t, 1, values(after)["ebpf_module_up{module=io}"], 0)
	for _, name := range []string{"ebpf_io_duration_seconds", "ebpf_io_size_bytes"} {
		for _, m := range find(after, name).GetMetric() {
			if m.GetLabel()[0].GetValue() == "pread" {
				require.Equal(t, uint64(137), m.GetHistogram().GetSampleCount(), name)
			}
		}
	}
	require.Positive(t, values(after)["ebpf_sched_cpu_seconds_total{}"])

	require.NoError(t, o.Close())
	_, err = registry.Gather()
	require.ErrorContains(t, err, observer.ErrClosed.Error())
}
