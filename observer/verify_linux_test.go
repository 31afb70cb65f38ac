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
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// verified opens modules with verification in a scratch folder on a disk.
func verified(t *testing.T, opts observer.Options) *observer.Observer {
	t.Helper()
	kprobetest.Require(t)
	opts.Verify = true
	if len(opts.ScratchDirs) == 0 {
		opts.ScratchDirs = []string{t.TempDir()}
	}
	start := time.Now()
	o, err := observer.Open(context.Background(), opts)
	require.NoError(t, err)
	t.Logf("opened in %s", time.Since(start))
	closeAfter(t, o)
	left, err := os.ReadDir(opts.ScratchDirs[0])
	require.NoError(t, err)
	require.Empty(t, left, "the scratch folder is left behind")
	return o
}

// toVerify names the modules that are verified at once: on an emulated CPU all of them take longer than a server would wait.
func toVerify() []string {
	if os.Getenv(guest) == "" {
		return nil
	}
	return []string{"io", "cache", "memory", "sched"}
}

// TestVerifyPanic: a fault in verification is a warning, the modules count, and nothing of the verification stays.
func TestVerifyPanic(t *testing.T) {
	kprobetest.Require(t)
	opened := 0
	observer.Steps(t, func(what string) error {
		if what == "opening the object" {
			if opened++; opened == 2 {
				panic("broken")
			}
		}
		return nil
	})
	// What only the garbage collector would close has leaked, so it is off.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	before := descriptors(t)
	o, err := observer.Open(t.Context(), observer.Options{
		Config: observer.Config{Modules: []string{"cache", "sched"}}, Verify: true, ScratchDirs: []string{t.TempDir()},
	})
	require.NoError(t, err)
	health := o.Health()
	require.Len(t, health.Warnings, 1)
	require.Contains(t, health.Warnings[0].Cause, "verification: panic: broken")
	for _, m := range health.Modules {
		require.Truef(t, m.Up, "%s: %s", m.Name, m.Cause)
	}
	require.NoError(t, o.Close())
	require.Equal(t, before, descriptors(t))
}

// requireAllVerified requires that each metric with an expectation is verified.
func requireAllVerified(t *testing.T, o *observer.Observer) {
	t.Helper()
	require.Empty(t, o.Health().Warnings)
	schema := map[string]observer.Metric{}
	for _, m := range o.Schema() {
		schema[m.Module+m.Name] = m
	}
	for _, m := range o.Health().Modules {
		require.NotEmpty(t, m.Metrics)
		for _, metric := range m.Metrics {
			t.Log(metric)
			require.False(t, metric.LeftOut, metric)
			require.Equal(t, schema[m.Name+metric.Name].Verifiable, metric.Verified, metric)
		}
	}
}

// TestVerify: if all is right, every metric with an expectation is verified, and none is left out.
func TestVerify(t *testing.T) {
	o := verified(t, observer.Options{Config: observer.Config{Modules: toVerify()}})
	requireAllVerified(t, o)
	// The known work is not counted for this process.
	require.Empty(t, count(t, o)["ebpf_io_operations_total{mkdirat,ok}"])
}

// TestVerifyBites: a wrong metric is left out, with the difference; one that cannot be verified is not called wrong.
func TestVerifyBites(t *testing.T) {
	objects, err := fs.Sub(testModules, "testdata/"+runtime.GOARCH)
	require.NoError(t, err)
	o := verified(t, observer.Options{Config: observer.Config{Modules: []string{"wrong"}}, Sources: []observer.Source{observer.Files(objects)}})
	health := o.Health().Modules[0]
	got := map[string]observer.MetricHealth{}
	for _, m := range health.Metrics {
		got[m.Name] = m
	}
	require.True(t, got["ebpf_wrong_right_total"].Verified)
	require.Equal(t, observer.MetricHealth{
		Name: "ebpf_wrong_doubled_total", LeftOut: true, Reason: "calls: pread: counted 10, want 5",
	}, got["ebpf_wrong_doubled_total"])
	require.True(t, got["ebpf_wrong_others_total"].LeftOut)
	require.True(t, got["ebpf_wrong_early_seconds"].LeftOut)
	require.Contains(t, got["ebpf_wrong_early_seconds"].Reason, "5 done in ")
	for _, name := range []string{"ebpf_wrong_unknown_total", "ebpf_wrong_silent_total"} {
		require.False(t, got[name].Verified || got[name].LeftOut)
		require.NotEmpty(t, got[name].Reason)
	}
	var exported []string
	for _, m := range o.Schema() {
		exported = append(exported, m.Name)
	}
	require.Equal(t, []string{"ebpf_wrong_right_total", "ebpf_wrong_unknown_total", "ebpf_wrong_silent_total"}, exported)
	require.Contains(t, health.Summary(), "ebpf_wrong_doubled_total: left out because it is wrong: calls: pread: counted 10, want 5")
	// The other metrics count in their own words.
	fd := openFile(t, "/proc/self/exe", unix.O_RDONLY)
	quiet(t)
	before := count(t, o)
	_, err = unix.Pread(fd, make([]byte, 1), 0)
	require.NoError(t, err)
	require.Equal(t, counts{
		"ebpf_wrong_right_total{}": 1, "ebpf_wrong_unknown_total{}": 1, "ebpf_wrong_silent_total{}": 1,
	}, count(t, o).since(before))
}

// TestVerifyInMemory: if pages cannot be dropped, it is not known what the page cache should count.
func TestVerifyInMemory(t *testing.T) {
	kprobetest.Require(t)
	dir, err := os.MkdirTemp("/dev/shm", "")
	if err != nil {
		t.Skipf("no file system in memory: %v", err)
	}
	defer os.RemoveAll(dir)
	for _, m := range verified(t, observer.Options{ScratchDirs: []string{dir}}).Health().Modules {
		for _, metric := range m.Metrics {
			require.False(t, metric.LeftOut, metric)
			require.Equal(t, metric.Verified, metric.Reason == "", metric)
		}
		require.Equal(t, m.Name == "io" || m.Name == "sched", m.Metrics[0].Verified, m.Metrics[0])
	}
}

// TestVerifyStale: a folder that a killed process has left is removed, one that another process uses stays.
func TestVerifyStale(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	dir := t.TempDir()
	stale, used := filepath.Join(dir, "banyandb-ebpf-verify-1"), filepath.Join(dir, "banyandb-ebpf-verify-2")
	for _, folder := range []string{stale, used} {
		require.NoError(t, os.Mkdir(folder, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "file"), nil, 0o600))
	}
	old := time.Now().Add(-2 * time.Hour)
	require.NoError(t, os.Chtimes(stale, old, old))
	o, err := observer.Open(context.Background(), observer.Options{Verify: true, ScratchDirs: []string{dir}})
	require.NoError(t, err)
	closeAfter(t, o)
	require.NoDirExists(t, stale)
	require.DirExists(t, used)
}

// TestVerifyScratch: without a folder for the known work the metrics are exported, but not as verified; the health has
// a warning, and the costs are from a table.
func TestVerifyScratch(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Verify: true, ScratchDirs: []string{filepath.Join(t.TempDir(), "none")}})
	require.NoError(t, err)
	closeAfter(t, o)
	require.NotEmpty(t, o.Schema())
	health := o.Health()
	for _, m := range health.Modules {
		for _, metric := range m.Metrics {
			require.False(t, metric.Verified || metric.LeftOut, metric)
		}
		require.Contains(t, m.Metrics[0].Reason, "making a scratch folder: ")
	}
	require.Len(t, health.Warnings, 1)
	require.Contains(t, health.Warnings[0].Cause, "no metric is verified")
	require.Contains(t, health.Warnings[0].Cause, "/none")
	require.Contains(t, health.Warnings[0].Remedy, "scratch folder")
	require.True(t, health.Warnings[0].Degraded)
	io := healthOf(t, health, "io")
	require.True(t, io.OverheadAssumed)
	preads(t, openFile(t, "/proc/self/exe", unix.O_RDONLY), 100)
	require.GreaterOrEqual(t, healthOf(t, o.Health(), "io").Overhead-io.Overhead, 100*o.CostOf("ebpf_io_operations_total"))
}

// TestVerifyFallback: the first folder on a disk is used, and the health reports one that could not be used.
func TestVerifyFallback(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	o := verified(t, observer.Options{Config: observer.Config{Modules: []string{"cache"}}, ScratchDirs: []string{t.TempDir(), none}})
	require.Empty(t, o.Health().Warnings)
	disk, scratch := t.TempDir(), []string{none}
	if memory, err := os.MkdirTemp("/dev/shm", ""); err == nil {
		defer os.RemoveAll(memory)
		scratch = append(scratch, memory)
	}
	scratch = append(scratch, disk)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"cache"}}, Verify: true, ScratchDirs: scratch})
	require.NoError(t, err)
	closeAfter(t, o)
	health := o.Health()
	require.Len(t, health.Warnings, 1)
	require.Contains(t, health.Warnings[0].Cause, "the metrics were verified in "+disk)
	require.Contains(t, health.Warnings[0].Cause, none)
	require.False(t, health.Warnings[0].Degraded)
	for _, metric := range healthOf(t, health, "cache").Metrics {
		require.Equal(t, metric.Verified, metric.Reason == "", metric)
	}
	require.True(t, healthOf(t, health, "cache").Metrics[0].Verified)
	for _, dir := range scratch[1:] {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// TestVerifyNotDumpable: a process with file capabilities is not dumpable, and much of /proc/self belongs to root. It
// is verified like any other.
func TestVerifyNotDumpable(t *testing.T) {
	kprobetest.Require(t)
	const nobody = 65534
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) {
		data, err := os.ReadFile(cmd.Path)
		require.NoError(t, err)
		dir, err := os.MkdirTemp("", "caps")
		require.NoError(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		require.NoError(t, os.Chmod(dir, 0o755))
		cmd.Path = filepath.Join(dir, "test")
		require.NoError(t, os.WriteFile(cmd.Path, data, 0o755))
		// cap_bpf,cap_perfmon+ep, as struct vfs_cap_data of version 2: magic and the effective bit, then permitted and inheritable, twice.
		caps := []byte{1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0}
		require.NoError(t, unix.Setxattr(cmd.Path, "security.capability", caps, 0))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}) {
		return
	}
	require.Equal(t, nobody, os.Getuid())
	_, err := os.ReadFile("/proc/self/io")
	require.ErrorIs(t, err, os.ErrPermission, "the process is dumpable")
	o := verified(t, observer.Options{Config: observer.Config{Modules: toVerify()}})
	requireAllVerified(t, o)
}
