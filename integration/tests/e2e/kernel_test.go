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

package e2e_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// counters are a module's counters by name and label values: "ebpf_io_bytes_total{pread}". A histogram has only its
// _count.
type counters map[string]uint64

// sumOf returns the sum of a metric's series whose first label has one of the values.
func (c counters) sumOf(metric string, first ...string) uint64 {
	var sum uint64
	for _, label := range first {
		for key, n := range c {
			if strings.HasPrefix(key, metric+"{"+label+",") || key == metric+"{"+label+"}" {
				sum += n
			}
		}
	}
	return sum
}

// total returns the sum of all series of a metric.
func (c counters) total(metric string) uint64 {
	var sum uint64
	for key, n := range c {
		if strings.HasPrefix(key, metric+"{") {
			sum += n
		}
	}
	return sum
}

// errors returns the failed calls. A call that fails early, such as a read of a file that is not open for reading, is
// counted by us but not in /proc/PID/io.
func (c counters) errors() counters {
	failed := counters{}
	for key, n := range c {
		if strings.HasPrefix(key, "ebpf_io_errors_total{") && n > 0 {
			failed[key] = n
		}
	}
	return failed
}

func (c counters) since(before counters) counters {
	d := counters{}
	for k, n := range c {
		d[k] = n - before[k]
	}
	return d
}

// kernelCounters reads a module's counters directly from another process's map, bypassing all exporters. Metrics by
// work are summed over all works and all other labels.
func kernelCounters(t *testing.T, pid int, module string) counters {
	t.Helper()
	object, err := fs.ReadFile(bpf.Modules(runtime.GOARCH), module+bpf.Suffix)
	require.NoError(t, err)
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	size := spec.Maps["metrics"].ValueSize
	m := mapOf(t, pid, size)
	defer m.Close()
	sum := make([]uint64, size/8)
	for cpu := range m.MaxEntries() {
		entry := make([]byte, size)
		require.NoError(t, m.Lookup(cpu, entry))
		for i := range sum {
			sum[i] += binary.NativeEndian.Uint64(entry[i*8:])
		}
	}
	schema, err := observer.BuiltIn().Describe(module)
	require.NoError(t, err)
	schema = slices.DeleteFunc(schema, func(m observer.Metric) bool { return m.PartOf != nil })
	s := observertest.Snapshot(schema, sum)
	c := sumsByWork(spec, module, sum)
	for one := range s.All() {
		labels := "{" + strings.Join(one.Labels, ",") + "}"
		if one.Metric.Kind == observer.Histogram {
			c[one.Metric.Name+"_count"+labels] = one.Count()
			continue
		}
		c[one.Metric.Name+labels] = *observertest.Word(one)
	}
	return c
}

// sumsByWork returns the sums of a module's metrics by work, over all works and all other labels.
func sumsByWork(spec *ebpf.CollectionSpec, module string, words []uint64) counters {
	c := counters{}
	for _, member := range spec.Maps["metrics"].Value.(*btf.Struct).Members {
		works, ok := member.Type.(*btf.Array)
		if member.Name != "by_work" || !ok {
			continue
		}
		of := works.Type.(*btf.Struct)
		for i, part := range of.Members {
			end := of.Size
			if i+1 < len(of.Members) {
				end = of.Members[i+1].Offset.Bytes()
			}
			for work := range works.Nelems {
				from := member.Offset.Bytes() + work*of.Size
				for _, n := range words[(from+part.Offset.Bytes())/8 : (from+end)/8] {
					c["ebpf_"+module+"_"+part.Name] += n
				}
			}
		}
	}
	return c
}

// mapOf finds a process's map of counters by the size of its entries, which differs between modules.
func mapOf(t *testing.T, pid int, valueSize uint32) *ebpf.Map {
	t.Helper()
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	require.NoError(t, err)
	for _, info := range infos {
		text, err := os.ReadFile(info)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		require.NoError(t, err)
		_, after, ok := strings.Cut(string(text), "map_id:\t")
		if !ok {
			continue
		}
		id, err := strconv.ParseUint(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]), 10, 32)
		require.NoError(t, err)
		m, err := ebpf.NewMapFromID(ebpf.MapID(id))
		require.NoError(t, err)
		if m.Type() == ebpf.Array && m.ValueSize() == valueSize {
			return m
		}
		require.NoError(t, m.Close())
	}
	t.Fatalf("process %d holds no map of counters with entries of %d bytes", pid, valueSize)
	return nil
}

// processIO is what the kernel accounts to a process in /proc/PID/io.
type processIO struct{ syscr, syscw, rchar, wchar uint64 }

func readProcessIO(t *testing.T, pid int) processIO {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	require.NoError(t, err)
	var p processIO
	fields := map[string]*uint64{"syscr": &p.syscr, "syscw": &p.syscw, "rchar": &p.rchar, "wchar": &p.wchar}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if field := fields[key]; field != nil {
			*field, err = strconv.ParseUint(value, 10, 64)
			require.NoError(t, err)
		}
	}
	return p
}

// stopped runs f while every thread of the process is stopped, outside of any system call, so that what f reads in two
// places is consistent.
func stopped(t *testing.T, pid int, f func()) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { require.NoError(t, syscall.Kill(pid, syscall.SIGCONT)) }()
	require.Eventually(t, func() bool { return allThreads(t, pid, "T") }, patience, time.Millisecond)
	f()
}

// allThreads reports whether every thread is in the state.
func allThreads(t *testing.T, pid int, state string) bool {
	t.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	require.NoError(t, err)
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			return false
		}
		// The state follows the name, which is in parentheses and may contain any character.
		after := string(text)[strings.LastIndex(string(text), ")")+1:]
		if fields := strings.Fields(after); fields[0] != state {
			return false
		}
	}
	return len(stats) > 0
}
