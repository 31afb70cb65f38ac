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

package runservice_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestModuleDir checks that a user's module works beside the others, that an invalid one is reported, and that the
// server also starts if the folder is not safe.
func TestModuleDir(t *testing.T) {
	kprobetest.Require(t)
	object, err := os.ReadFile(filepath.Join("..", "observer", "testdata", runtime.GOARCH, "sdk.bpf.o"))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine.bpf.o"), object, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "bad.bpf.o"), object[:100], 0o600))
	r := newRegistry()
	args := []string{"--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=cache", "--ebpf-collect-interval=100ms", "--ebpf-module-dir=" + dir}
	s := start(t, r, observer.Options{}, args...)
	up := make(map[string]bool)
	for _, m := range s.Health().Modules {
		up[m.Name] = m.Up
	}
	require.Equal(t, map[string]bool{"cache": true, "mine": true, "bad": false}, up)
	fd, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	_, err = unix.Pread(fd, make([]byte, 1), 0)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		calls, found := r.value(t, "banyandb_ebpf_mine_calls_total")
		return found && calls >= 1
	}, time.Minute, 50*time.Millisecond)

	require.NoError(t, os.Chmod(dir, 0o777))
	s = start(t, newRegistry(), observer.Options{}, args...)
	require.Len(t, s.Health().Modules, 2)
	require.Equal(t, dir, s.Health().Modules[1].Name)
	require.Contains(t, s.Health().Modules[1].Cause, "can be written to by users other")
}

// TestModuleDirAndConfig checks that users' modules are part of the effective configuration, and that one that the
// configuration file does not name is off.
func TestModuleDirAndConfig(t *testing.T) {
	kprobetest.Require(t)
	object, err := os.ReadFile(filepath.Join("..", "observer", "testdata", runtime.GOARCH, "sdk.bpf.o"))
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mine.bpf.o"), object, 0o600))
	args := []string{"--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=cache", "--ebpf-module-dir=" + dir}
	for _, c := range []struct {
		name, file string
		modules    []string
	}{
		{"no file", "", []string{"cache", "mine"}},
		{"a file that says nothing of modules", "collect_interval: 1s\n", []string{"cache", "mine"}},
		{"a file that names it", "modules: [mine, cache]\n", []string{"mine", "cache"}},
		{"a file that does not", "modules: [cache]\n", []string{"cache"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := args
			if c.file != "" {
				args = append(slices.Clone(args), "--ebpf-config-file="+configFile(t, c.file))
			}
			s := start(t, newRegistry(), observer.Options{}, args...)
			require.Equal(t, c.modules, s.Config().Modules)
			for _, m := range s.Health().Modules {
				require.Equal(t, slices.Contains(c.modules, m.Name), m.Up, m.Name)
				require.Equal(t, !m.Up, m.Disabled, m.Name)
			}
		})
	}
}

// TestFurtherSources checks that the flags select modules of the first source, and that all modules of others are
// opened. One whose name is taken is refused, and does not open the built-in module of that name.
func TestFurtherSources(t *testing.T) {
	kprobetest.Require(t)
	object, err := os.ReadFile(filepath.Join("..", "observer", "testdata", runtime.GOARCH, "sdk.bpf.o"))
	require.NoError(t, err)
	files := fstest.MapFS{"mine.bpf.o": {Data: object}, "net.bpf.o": {Data: object}}
	s := start(t, newRegistry(), observer.Options{Sources: []observer.Source{observer.BuiltIn(), observer.Files(files)}},
		"--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=cache")
	require.Equal(t, []string{"cache", "mine"}, s.Config().Modules)
	health := s.Health().Modules
	require.Len(t, health, 3)
	require.True(t, health[0].Up)
	require.True(t, health[1].Up, health[1].Cause)
	require.Equal(t, "net of source 2", health[2].Name)
	require.False(t, health[2].Up)
}
