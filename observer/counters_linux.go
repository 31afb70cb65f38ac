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
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// counters is a module's counters, one entry for each possible CPU, in memory that the kernel writes and we read.
type counters struct {
	memory  []byte
	entries [][]uint64
	parts   []part
	without []uint64 // what is counted and not told, by word; nil for nothing
	words   int      // of an entry
}

// part is a run of words that is read alike.
type part struct {
	from, to int
	// histogram tells that the run is one: the sum, and the slots.
	histogram bool
}

// partsOf divides an entry into parts: each series of a histogram is one, and what is between them.
func partsOf(metrics []Metric, words int) []part {
	var parts []part
	next := 0
	for _, m := range metrics {
		if m.Kind != Histogram {
			continue
		}
		for i := range m.Series() {
			from := m.offset + i*m.width
			if from > next {
				parts = append(parts, part{from: next, to: from})
			}
			next = from + m.width
			parts = append(parts, part{from: from, to: next, histogram: true})
		}
	}
	if words > next {
		parts = append(parts, part{from: next, to: words})
	}
	return parts
}

// mapCounters maps a module's counters, of which metrics has those that stand in the order of their offsets. The mapping
// outlives the map's descriptor and must be closed.
func mapCounters(m *ebpf.Map, metrics []Metric, words, cpus int) (*counters, error) {
	page := os.Getpagesize()
	size := (words*wordSize*cpus + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	c := &counters{memory: memory, words: words, parts: partsOf(metrics, words)}
	all := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), words*cpus)
	for cpu := range cpus {
		c.entries = append(c.entries, all[cpu*words:(cpu+1)*words:(cpu+1)*words])
	}
	return c, nil
}

// sum adds the CPUs' entries up into dst. Most histograms of most CPUs are empty, and are not read: where the sum is 0 no
// value was above 0, and only the first slot can have counted.
func (c *counters) sum(dst []uint64) {
	dst = dst[:c.words]
	clear(dst)
	for _, entry := range c.entries {
		for _, p := range c.parts {
			if p.histogram && atomic.LoadUint64(&entry[p.from]) == 0 {
				dst[p.from+1] += atomic.LoadUint64(&entry[p.from+1])
				continue
			}
			out, in := dst[p.from:p.to], entry[p.from:p.to]
			for i := range out {
				out[i] += atomic.LoadUint64(&in[i])
			}
		}
	}
	for i, n := range c.without {
		dst[i] -= n
	}
}

// leaveOut has a word tell n less than is counted.
func (c *counters) leaveOut(word int, n uint64) {
	if c.without == nil {
		c.without = make([]uint64, c.words)
	}
	c.without[word] += n
}

func (c *counters) close() error {
	c.entries = nil
	return unix.Munmap(c.memory)
}
