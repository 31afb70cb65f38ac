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
	memory     []byte
	entries    [][]uint64
	histograms []span   // each a sum, and the slots
	rest       []span   // what is between them
	without    []uint64 // what is counted and not told, by word; nil for nothing
	words      int      // of an entry
}

// span is a run of words.
type span struct{ from, to int }

// spansOf divides an entry: each series of a histogram is a span, and what is between them.
func spansOf(metrics []Metric, words int) (histograms, rest []span) {
	next := 0
	for _, m := range metrics {
		if m.Kind != Histogram {
			continue
		}
		for i := range m.Series() {
			from := m.offset + i*m.width
			if from > next {
				rest = append(rest, span{next, from})
			}
			next = from + m.width
			histograms = append(histograms, span{from, next})
		}
	}
	if words > next {
		rest = append(rest, span{next, words})
	}
	return histograms, rest
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
	c := &counters{memory: memory, words: words}
	c.histograms, c.rest = spansOf(metrics, words)
	all := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), words*cpus)
	for cpu := range cpus {
		c.entries = append(c.entries, all[cpu*words:(cpu+1)*words:(cpu+1)*words])
	}
	return c, nil
}

// sum adds the CPUs' entries up into dst. Most words of most CPUs are 0, and so are read and not added. Most histograms are
// empty, and are not read: where the sum is 0 no value was above 0, and only the first slot can have counted.
func (c *counters) sum(dst []uint64) {
	dst = dst[:c.words]
	clear(dst)
	for _, entry := range c.entries {
		for _, r := range c.rest {
			add(dst[r.from:r.to], entry[r.from:r.to])
		}
		for _, h := range c.histograms {
			sum, first := &entry[h.from], &entry[h.from+1]
			switch {
			case atomic.LoadUint64(sum) != 0:
				add(dst[h.from:h.to], entry[h.from:h.to])
			case atomic.LoadUint64(first) != 0:
				dst[h.from+1] += atomic.LoadUint64(first)
			}
		}
	}
	for i, n := range c.without {
		dst[i] -= n
	}
}

// add adds words that the kernel goes on counting in, four at a time.
func add(dst, src []uint64) {
	for len(src) >= 4 && len(dst) >= 4 {
		a, b, c, d := atomic.LoadUint64(&src[0]), atomic.LoadUint64(&src[1]), atomic.LoadUint64(&src[2]), atomic.LoadUint64(&src[3])
		if a|b|c|d != 0 {
			dst[0] += a
			dst[1] += b
			dst[2] += c
			dst[3] += d
		}
		src, dst = src[4:], dst[4:]
	}
	for i := range src {
		dst[i] += atomic.LoadUint64(&src[i])
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
