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

package observer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

const (
	fileSize = 64 << 20
	// cachedCalls are reads of a page that is in the cache.
	cachedCalls = 10_000
	// forcedCharges is the most that a run of the reclaim test was seen to have.
	forcedCharges = 2
)

// readAll reads a file from its start to its end, a MiB at a time.
func readAll(t testing.TB, fd int) {
	t.Helper()
	buf := make([]byte, 1<<20)
	for off := int64(0); ; {
		n, err := unix.Pread(fd, buf, off)
		require.NoError(t, err)
		if n == 0 {
			return
		}
		off += int64(n)
	}
}

// TestCacheExact: pages, not folios, filled by a cold read, none by a warm one, as many deleted by DONTNEED. mincore(2)
// says the same.
func TestCacheExact(t *testing.T) {
	o := open(t, "cache")
	fd := cold(t, fileSize)
	readAll(t, fd)
	require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
	pages := fileSize / pageSize
	quiet(t)

	before := count(t, o)
	readAll(t, fd)
	got := count(t, o).since(before)
	require.Equal(t, pages, residentPages(t, fd, fileSize))
	require.Equal(t, counts{"ebpf_cache_filled_pages_total{}": uint64(pages)}, got.without("lookups"))

	before = count(t, o)
	readAll(t, fd)
	require.Empty(t, count(t, o).since(before).without("lookups"))

	before = count(t, o)
	require.NoError(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
	got = count(t, o).since(before)
	require.Zero(t, residentPages(t, fd, fileSize))
	require.Equal(t, counts{"ebpf_cache_deleted_pages_total{}": uint64(pages)}, got)
}

// TestCacheLookups: one for each read of a cached page, where the kernel has the hook, else no such metric.
func TestCacheLookups(t *testing.T) {
	o := open(t, "cache")
	health := o.Health().Modules[0]
	if !health.Plan.Attached("lookup") {
		require.Equal(t, []string{"ebpf_cache_lookups_total"}, health.Absent)
		for _, m := range o.Schema() {
			require.NotEqual(t, "ebpf_cache_lookups_total", m.Name)
		}
		t.Log("MATRIX\tcache/lookup\tabsent")
		return
	}
	require.Empty(t, health.Absent)
	fd := cold(t, pageSize)
	readAll(t, fd)
	buf := make([]byte, 100)
	quiet(t)
	before := count(t, o)
	for range cachedCalls {
		_, err := unix.Pread(fd, buf, 0)
		require.NoError(t, err)
	}
	require.Equal(t, counts{"ebpf_cache_lookups_total{}": cachedCalls}, count(t, o).since(before))
}

// memoryCgroup is a cgroup with a memory limit, of version 1 or 2, as the machine has it.
type memoryCgroup struct {
	dir string
	v2  bool
}

// newMemoryCgroup makes a cgroup that may use limit bytes more than the caller does now, and moves the caller in.
func newMemoryCgroup(t *testing.T, limit int) memoryCgroup {
	t.Helper()
	roots := []memoryCgroup{{"/sys/fs/cgroup/memory", false}, {"/sys/fs/cgroup", true}, {"/sys/fs/cgroup/unified", true}}
	for _, root := range roots {
		files := [2]string{"memory.limit_in_bytes", "cgroup.procs"}
		if root.v2 {
			files[0] = "memory.max"
			controllers, err := os.ReadFile(filepath.Join(root.dir, "cgroup.controllers"))
			if err != nil || !strings.Contains(string(controllers), "memory") {
				continue
			}
			require.NoError(t, os.WriteFile(filepath.Join(root.dir, "cgroup.subtree_control"), []byte("+memory"), 0o600))
		} else if _, err := os.Stat(filepath.Join(root.dir, files[0])); err != nil {
			continue
		}
		group := memoryCgroup{filepath.Join(root.dir, "observer-test-"+strconv.Itoa(os.Getpid())), root.v2}
		require.NoError(t, os.Mkdir(group.dir, 0o755))
		t.Cleanup(func() {
			require.NoError(t, os.WriteFile(filepath.Join(root.dir, files[1]), []byte("0"), 0o600))
			require.NoError(t, os.Remove(group.dir))
		})
		group.write(t, files[0], strconv.Itoa(limit))
		group.write(t, files[1], "0")
		return group
	}
	t.Skip("no memory cgroup, neither of version 1 nor of version 2")
	return memoryCgroup{}
}

func (g memoryCgroup) write(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(g.dir, file), []byte(text), 0o600))
}

// full returns how often the kernel found the cgroup full, which is how often it had to reclaim.
func (g memoryCgroup) full(t *testing.T) uint64 {
	t.Helper()
	if !g.v2 {
		return g.number(t, "memory.failcnt", "")
	}
	return g.number(t, "memory.events", "max")
}

// number reads a file of one number, or of lines with a key before it.
func (g memoryCgroup) number(t *testing.T, file, key string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		value, ok := strings.CutPrefix(line, key)
		if ok && (key == "" || value[0] == ' ') {
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("no %q in %s", key, file)
	return 0
}

// TestMemcgReclaim: a reader in a full cgroup has to reclaim, as often as the cgroup was found full, and what it stood
// still for is part of the time it took.
func TestMemcgReclaim(t *testing.T) {
	kprobetest.Require(t)
	// A process of its own, so that the cgroup's limit meets nobody else.
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "GOGC=off") }) {
		return
	}
	o := open(t, "memory")
	fd := cold(t, fileSize)
	group := newMemoryCgroup(t, 32<<20)
	quiet(t)
	full := group.full(t)
	before := count(t, o)
	start := time.Now()
	readAll(t, fd)
	took := time.Since(start)
	got := count(t, o).since(before)
	full = group.full(t) - full

	runs := got["ebpf_memory_reclaim_total{memcg}"]
	require.Positive(t, runs)
	// A charge that must not fail and may not wait is forced in without reclaim; the kernel counts it as full too.
	require.LessOrEqual(t, runs, full)
	require.LessOrEqual(t, full-runs, uint64(forcedCharges))
	require.Equal(t, runs, got["ebpf_memory_reclaim_duration_seconds_count{memcg}"])
	stall := time.Duration(got["ebpf_memory_reclaim_duration_seconds_sum{memcg}"])
	require.Positive(t, stall)
	require.Less(t, stall, took)
	scanned, reclaimed := got["ebpf_memory_reclaim_scanned_pages_total{memcg}"], got["ebpf_memory_reclaim_reclaimed_pages_total{memcg}"]
	require.Positive(t, reclaimed)
	require.GreaterOrEqual(t, scanned, reclaimed)
	// Half of the file had to go again, and no more than all of it.
	require.GreaterOrEqual(t, reclaimed, uint64(fileSize-32<<20)/uint64(pageSize))
	require.LessOrEqual(t, reclaimed, uint64(fileSize/pageSize))
	require.Empty(t, got.without("{memcg}"))
	t.Logf("%d runs, %d times full, %d of %d pages, %s of %s", runs, full, reclaimed, scanned, stall, took)
}
