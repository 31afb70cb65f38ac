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
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// BenchmarkSnapshotCPUs takes snapshots as on machines of more CPUs: the counters have an entry for each, but no program
// writes them. The modules are those of the environment variable MODULES.
func BenchmarkSnapshotCPUs(b *testing.B) {
	for _, cpus := range []int{2, 8, 16, 32, 64, 128, 256} {
		b.Run(fmt.Sprintf("cpus=%d", cpus), func(b *testing.B) {
			o := &Observer{}
			for _, name := range strings.Split(os.Getenv("MODULES"), ",") {
				m, err := unfed(name, cpus)
				if err != nil {
					b.Fatal(err)
				}
				defer m.close()
				o.modules = append(o.modules, &module{counters: m, offset: o.words})
				o.words += m.words
			}
			var s Snapshot
			b.ReportAllocs()
			for b.Loop() {
				if err := o.Snapshot(&s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// unfed maps the counters of a module that is not attached.
func unfed(name string, cpus int) (*counters, error) {
	spec, err := readSpec(orBuiltIn(nil), name)
	if err != nil {
		return nil, err
	}
	metrics, words, err := describe(name, spec)
	if err != nil {
		return nil, err
	}
	of := spec.Maps[countersMap].Copy()
	of.MaxEntries = uint32(cpus)
	m, err := ebpf.NewMap(of)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return mapCounters(m, metrics, words, cpus)
}
