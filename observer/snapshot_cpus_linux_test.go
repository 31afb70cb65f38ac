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
	"bytes"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// defaultModules are those that the server opens by default.
var defaultModules = []string{"io", "cache", "memory", "sched"}

// BenchmarkSnapshotCPUs takes snapshots as on machines with more CPUs: the counters have an entry for each, in which
// all are above 0, or all are 0, which is cheaper to read. No program writes them meanwhile.
func BenchmarkSnapshotCPUs(b *testing.B) {
	for _, cpus := range []int{2, 8, 16, 32, 64, 128, 256} {
		for _, counted := range []string{"all", "none"} {
			b.Run(fmt.Sprintf("cpus=%d/counted=%s", cpus, counted), func(b *testing.B) {
				o := unattached(b, cpus, counted == "all")
				var s Snapshot
				b.ReportAllocs()
				for b.Loop() {
					if err := o.Snapshot(&s); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(o.words), "words")
			})
		}
	}
}

// TestSnapshotAllocatesNothing: reusing a snapshot allocates nothing, however many CPUs there are.
func TestSnapshotAllocatesNothing(t *testing.T) {
	for _, cpus := range []int{2, 128} {
		t.Run(fmt.Sprintf("cpus=%d", cpus), func(t *testing.T) {
			o := unattached(t, cpus, true)
			var s Snapshot
			require.NoError(t, o.Snapshot(&s))
			require.Zero(t, testing.AllocsPerRun(100, func() { _ = o.Snapshot(&s) }))
		})
	}
}

// unattached returns an observer of the default modules whose programs are not loaded. Its counters have an entry for
// each of cpus, all above 0 if counted is set.
func unattached(t testing.TB, cpus int, counted bool) *Observer {
	t.Helper()
	kprobetest.Require(t)
	// Before Linux 5.11 the maps are locked memory.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	o := &Observer{}
	for _, name := range defaultModules {
		c, err := unfed(name, cpus, counted)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.close()) })
		o.modules = append(o.modules, &module{counters: c, offset: o.words})
		o.words += c.words
	}
	return o
}

// unfed maps the counters of a module that is not attached.
func unfed(name string, cpus int, counted bool) (*counters, error) {
	o := BuiltIn().decode(name)
	if o.err != nil {
		return nil, o.err
	}
	of := o.spec.Maps[countersMap].Copy()
	of.MaxEntries = uint32(cpus)
	m, err := ebpf.NewMap(of)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if counted {
		// Any value but 0. Without works, struct updates is not read.
		value := bytes.Repeat([]byte{2}, int(of.ValueSize))
		for cpu := range uint32(cpus) {
			if err = m.Put(cpu, value); err != nil {
				return nil, err
			}
		}
	}
	metrics, _, words := o.metricsBy(nil)
	return mapCounters(m, o.entry, metrics, nil, words, cpus, nil)
}
