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
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// TestReload: reloaded programs continue the counts of the old ones, as needed on kernels that attach a program only
// once. Others are left alone.
func TestReload(t *testing.T) {
	kprobetest.Require(t)
	o, err := Open(t.Context(), Options{Config: Config{Modules: []string{"io", "cache"}}})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	file, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer file.Close()
	var s Snapshot
	preads := func(n int) uint64 {
		buf := make([]byte, 8)
		for range n {
			_, err := file.ReadAt(buf, 0)
			require.NoError(t, err)
		}
		require.NoError(t, o.Snapshot(&s))
		for _, m := range s.Schema() {
			if m.Name == "ebpf_io_operations_total" {
				return s.series(&m, 2).words[0]
			}
		}
		return 0
	}
	before := preads(3)
	io := o.module("io")
	programs := len(io.probes.Plan())
	require.NoError(t, io.probes.Detach())
	require.Equal(t, before, preads(4))
	spec := o.objects.object("io").spec
	require.NoError(t, io.probes.Reload(spec, o.probeOptions(btf.NewCache())))
	// What reloading itself reads counts as soon as the programs are attached.
	after := preads(0)
	require.GreaterOrEqual(t, after, before)
	require.Equal(t, after+5, preads(5))
	require.Len(t, io.probes.Plan(), programs)
	// There is nothing to reattach any more, so nothing is loaded twice.
	require.NoError(t, io.probes.Reload(spec, o.probeOptions(btf.NewCache())))
	after = preads(0)
	require.Equal(t, after+6, preads(6))

	// One hook of several.
	cache := o.module("cache")
	require.NoError(t, cache.probes.Detach("fill", "delete"))
	spec = o.objects.object("cache").spec
	require.NoError(t, cache.probes.Reload(spec, o.probeOptions(btf.NewCache()), "fill"))
	require.NoError(t, cache.probes.Attach("delete"))
}
