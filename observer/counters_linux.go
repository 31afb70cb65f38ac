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
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// counters is a module's counters, one entry for each possible CPU, in memory that the kernel writes and we read.
type counters struct {
	memory     []byte
	entries    [][rows][]uint64
	histograms []span   // each a sum, and the slots
	rest       []span   // what is between them
	without    []uint64 // counts to subtract, by word; nil for none
	words      int      // of a snapshot
	byWork     *byWork  // what is counted by work; nil if nothing is
}

// rows is how many entries are added up at a time: a sum is read and written once for all of them.
const rows = 4

// span is a run of words.
type span struct{ from, to int }

// spansOf divides an entry: each series of a histogram is a span, and so is what is between two.
func spansOf(metrics []Metric, words int) (histograms, rest []span) {
	next := 0
	for _, m := range metrics {
		if m.Kind != Histogram {
			continue
		}
		for i := range m.series() {
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

// mapCounters maps a module's counters. metrics are those of a snapshot, in the order of their offsets, and words is
// its size. The returned counters own works, which is nil if events are not attributed. The mapping outlives the map's
// descriptor and must be closed.
func mapCounters(m *ebpf.Map, of *entry, metrics []Metric, files []fileMetric, words, cpus int, works *workTable) (*counters, error) {
	memory, err := mapArray(m, of.words*cpus, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	c := &counters{memory: memory, words: words}
	all := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), of.words*cpus)
	whole := len(metrics)
	if i := slices.IndexFunc(metrics, func(m Metric) bool { return m.parts != nil }); i >= 0 {
		whole = i
	}
	c.histograms, c.rest = spansOf(metrics[:whole], of.whole)
	if works == nil {
		c.entries = entriesOf(all, of.words)
		return c, nil
	}
	c.byWork = &byWork{
		rows: slices.Collect(slices.Chunk(all, of.words)), updates: of.updates, works: works,
		metrics: slices.Clone(metrics[whole:]), files: slices.Clone(files),
	}
	return c, nil
}

// mapArray maps an array of the given number of words.
func mapArray(m *ebpf.Map, words, protection int) ([]byte, error) {
	page := os.Getpagesize()
	size := (words*wordSize + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, size, protection, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	return memory, nil
}

// entriesOf divides counters into entries of the given number of words. The last group is filled up with entries of
// zeros.
func entriesOf(all []uint64, words int) [][rows][]uint64 {
	var entries [][rows][]uint64
	none := make([]uint64, words)
	for len(all) > 0 {
		of := [rows][]uint64{none, none, none, none}
		for i := 0; i < rows && len(all) > 0; i++ {
			of[i], all = all[:words:words], all[words:]
		}
		entries = append(entries, of)
	}
	return entries
}

// sum adds the CPUs' entries up into dst. Most histograms are empty, and are not read: if the sum is 0 no value was
// above 0, and only the first slot can have counted.
func (c *counters) sum(dst []uint64) {
	dst = dst[:c.words]
	clear(dst)
	if c.byWork != nil {
		c.sumByWork(dst)
	}
	for i := range c.entries {
		of := &c.entries[i]
		for _, r := range c.rest {
			add(dst[r.from:r.to], of, r.from)
		}
		for _, h := range c.histograms {
			switch {
			case counted(of, h.from):
				add(dst[h.from:h.to], of, h.from)
			case counted(of, h.from+1):
				add(dst[h.from+1:h.from+2], of, h.from+1)
			}
		}
	}
	for i, n := range c.without {
		dst[i] -= n
	}
}

// counted reports whether a word is not 0 in any of the entries.
func counted(of *[rows][]uint64, word int) bool {
	return atomic.LoadUint64(&of[0][word])|atomic.LoadUint64(&of[1][word])|atomic.LoadUint64(&of[2][word])|atomic.LoadUint64(&of[3][word]) != 0
}

// add adds words that the kernel keeps counting in.
func add(dst []uint64, of *[rows][]uint64, from int) {
	// With equal lengths the compiler omits bounds checks.
	n := len(dst)
	a, b, c, d := of[0][from:][:n], of[1][from:][:n], of[2][from:][:n], of[3][from:][:n]
	for i := range dst {
		dst[i] += atomic.LoadUint64(&a[i]) + atomic.LoadUint64(&b[i]) + atomic.LoadUint64(&c[i]) + atomic.LoadUint64(&d[i])
	}
}

// rows returns the entry of each CPU, or nil if nothing is counted by work.
func (c *counters) rows() [][]uint64 {
	if c.byWork == nil {
		return nil
	}
	return c.byWork.rows
}

// subtract makes a word n less than it was counted.
func (c *counters) subtract(word int, n uint64) {
	if c.without == nil {
		c.without = make([]uint64, c.words)
	}
	c.without[word] += n
}

func (c *counters) close() error {
	c.entries = nil
	err := unix.Munmap(c.memory)
	if c.byWork != nil {
		err = errors.Join(err, c.byWork.works.close())
	}
	return err
}
