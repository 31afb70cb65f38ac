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
	words   int // of an entry
}

// mapCounters maps a module's counters. The mapping outlives the map's descriptor and must be closed.
func mapCounters(m *ebpf.Map, words, cpus int) (*counters, error) {
	page := os.Getpagesize()
	size := (words*wordSize*cpus + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	c := &counters{memory: memory, words: words}
	all := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), words*cpus)
	for cpu := range cpus {
		c.entries = append(c.entries, all[cpu*words:(cpu+1)*words:(cpu+1)*words])
	}
	return c, nil
}

// sum adds the CPUs' entries up into dst.
func (c *counters) sum(dst []uint64) {
	dst = dst[:c.words]
	first := c.entries[0]
	for i := range dst {
		dst[i] = atomic.LoadUint64(&first[i])
	}
	for _, entry := range c.entries[1:] {
		for i := range dst {
			dst[i] += atomic.LoadUint64(&entry[i])
		}
	}
}

func (c *counters) close() error {
	c.entries = nil
	return unix.Munmap(c.memory)
}
