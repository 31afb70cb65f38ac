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

package observer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// modulesOf returns the modules that have metrics in the schema.
func modulesOf(schema []observer.Metric) []string {
	var names []string
	for _, m := range schema {
		if len(names) == 0 || names[len(names)-1] != m.Module {
			names = append(names, m.Module)
		}
	}
	return names
}

// readOnce reads the beginning of a file. It does not read past the end, for which Linux 5.10 allocates a page.
func readOnce(t *testing.T, fd, size int) {
	t.Helper()
	n, err := unix.Pread(fd, make([]byte, size), 0)
	require.NoError(t, err)
	require.Equal(t, size, n)
}

// to returns a change that yields the given configuration.
func to(c observer.Config) func(observer.Config) (observer.Config, error) {
	return func(observer.Config) (observer.Config, error) { return c, nil }
}

// TestConfigure: modules are enabled and disabled, count only while they are enabled, and continue from their old
// values.
func TestConfigure(t *testing.T) {
	o := open(t, "io", "sched")
	quiet(t)
	fd := operationsFile(t)
	preads(t, fd, 1)
	const pread = "ebpf_io_operations_total{pread,ok}"
	first := count(t, o)[pread]

	require.NoError(t, o.Disable("io"))
	preads(t, fd, 7)
	require.Equal(t, []string{"sched"}, modulesOf(o.Schema()))
	_, there := count(t, o)[pread]
	require.False(t, there, "a disabled module has no series")
	require.Equal(t, []string{"sched"}, o.Config().Modules)
	for _, m := range o.Health().Modules {
		require.Equal(t, m.Name == "io", m.Disabled)
		require.Equal(t, m.Name != "io", m.Up)
	}

	require.NoError(t, o.Enable(t.Context(), "io"))
	require.Equal(t, first, count(t, o)[pread])
	preads(t, fd, 3)
	require.Equal(t, first+3, count(t, o)[pread])
	require.Equal(t, []string{"sched", "io"}, o.Config().Modules)

	// A module that was not open at the start.
	old := o.Schema()
	require.NoError(t, o.Configure(t.Context(), to(observer.Config{Modules: []string{"io", "cache"}, LatencySampling: 16})))
	require.ElementsMatch(t, []string{"io", "cache"}, modulesOf(o.Schema()))
	require.Equal(t, uint32(16), o.Config().LatencySampling)
	file := cold(t, 64<<10)
	before := count(t, o)
	readOnce(t, file, 64<<10)
	require.Equal(t, uint64(16), count(t, o).since(before)["ebpf_cache_filled_pages_total{}"])
	require.Equal(t, []string{"io", "sched"}, modulesOf(old), "a returned schema does not change")
}

// TestConfigureHook: a single hook is disabled and enabled, and with it the metrics that no other hook feeds.
func TestConfigureHook(t *testing.T) {
	o := open(t, "cache")
	names := func() (names []string) {
		for _, m := range o.Schema() {
			names = append(names, m.Name)
		}
		return names
	}
	all := names()
	require.Contains(t, all, "ebpf_cache_deleted_pages_total")
	require.NoError(t, o.Disable("cache", "delete"))
	require.Equal(t, map[string][]string{"cache": {"delete"}}, o.Config().DisabledHooks)
	require.Equal(t, []string{"delete"}, o.Health().Modules[0].DisabledHooks)
	require.NotContains(t, names(), "ebpf_cache_deleted_pages_total")
	require.Contains(t, names(), "ebpf_cache_filled_pages_total")
	require.NoError(t, o.Disable("cache", "delete"), "disabling it again changes nothing")
	require.Equal(t, []string{"delete"}, o.Health().Modules[0].DisabledHooks)

	quiet(t)
	fd, pages := cold(t, 64<<10), uint64(16)
	readOnce(t, fd, 64<<10)
	evict(t, fd, 64<<10)
	before := count(t, o)
	require.NoError(t, o.Enable(t.Context(), "cache", "delete"))
	require.Empty(t, o.Config().DisabledHooks)
	require.Equal(t, all, names())
	readOnce(t, fd, 64<<10)
	evict(t, fd, 64<<10)
	grown := count(t, o).since(before)
	require.Equal(t, pages, grown["ebpf_cache_deleted_pages_total{}"])
	require.Equal(t, pages, grown["ebpf_cache_filled_pages_total{}"])
}

// TestConfigureIterated: what the kernel adds up while a module is disabled is not counted when it is enabled again.
func TestConfigureIterated(t *testing.T) {
	o := open(t, "io", "sched")
	const cpu = "ebpf_sched_cpu_seconds_total{}"
	require.NoError(t, o.Disable("sched"))
	begun := processCPU(t)
	require.NoError(t, o.Enable(t.Context(), "sched"))
	before := count(t, o)[cpu]
	// Only CPU time after the module was enabled is counted, so at most as much as this process has used since begun.
	opening := processCPU(t) - begun
	require.NoError(t, o.Disable("sched"))
	disabled := processCPU(t)
	for processCPU(t)-disabled < opening+300_000_000 {
		continue
	}
	disabled = processCPU(t) - disabled
	require.NoError(t, o.Enable(t.Context(), "sched"))
	require.NoError(t, o.Refresh())
	require.LessOrEqual(t, count(t, o)[cpu]-before, processCPU(t)-begun-disabled)
	begun = processCPU(t)
	for processCPU(t)-begun < 300_000_000 {
		continue
	}
	require.NoError(t, o.Refresh())
	require.GreaterOrEqual(t, count(t, o)[cpu]-before, uint64(290_000_000))
}

// processCPU returns the CPU time of the process in nanoseconds.
func processCPU(t *testing.T) uint64 {
	t.Helper()
	var ts unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts))
	return uint64(ts.Nano())
}

// stateOf returns the health without the overhead, which grows with each call.
func stateOf(o *observer.Observer) observer.Health {
	health := o.Health()
	for i := range health.Modules {
		health.Modules[i].Overhead = 0
	}
	return health
}

// TestConfigureFails: a change that fails leaves everything as it was, whatever part of it fails.
func TestConfigureFails(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	refuse := ""
	refused := errors.New("refused by the test")
	observer.Steps(t, func(what string) error {
		if refuse != "" && strings.Contains(what, refuse) {
			return refused
		}
		return nil
	})
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache"}}})
	require.NoError(t, err)
	closeAfter(t, o)
	require.NoError(t, o.Disable("cache"))
	config, health, held := o.Config(), stateOf(o), kernelObjects(t)
	var s observer.Snapshot
	require.NoError(t, o.Snapshot(&s))
	schema := modulesOf(s.Schema())

	for _, c := range []struct {
		is     error
		name   string
		refuse string
		says   string
		change observer.Config
	}{
		{name: "unknown module", change: observer.Config{Modules: []string{"io", "nosuch"}}, is: observer.ErrUnknownModule, says: `unknown module "nosuch" (available: block, cache`},
		{
			name:   "hooks of an unknown module",
			change: observer.Config{Modules: []string{"io"}, DisabledHooks: map[string][]string{"nosuch": {"x"}}}, is: observer.ErrUnknownModule, says: `"nosuch"`,
		},
		{
			name:   "unknown hook",
			change: observer.Config{Modules: []string{"cache"}, DisabledHooks: map[string][]string{"cache": {"nosuch"}}}, is: observer.ErrUnknownHook, says: `module cache: unknown hook "nosuch"`,
		},
		{name: "a module that cannot be opened", change: observer.Config{Modules: []string{"cache", "sched", "memory"}}, refuse: "task__iter", is: refused, says: "sched: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			refuse = c.refuse
			err := o.Configure(t.Context(), to(c.change))
			refuse = ""
			require.ErrorIs(t, err, c.is)
			require.ErrorContains(t, err, c.says)
			require.Equal(t, config, o.Config())
			require.Equal(t, health, stateOf(o))
			require.NoError(t, o.Snapshot(&s))
			require.Equal(t, schema, modulesOf(s.Schema()))
			require.Equal(t, held, kernelObjects(t), "what was opened for the change is closed")
		})
	}
	require.ErrorIs(t, o.Enable(t.Context(), "nosuch"), observer.ErrUnknownModule)
	require.ErrorIs(t, o.Disable("io", "nosuch"), observer.ErrUnknownHook)
	require.Equal(t, config, o.Config())
	require.NoError(t, o.Close())
	require.ErrorIs(t, o.Enable(t.Context(), "cache"), observer.ErrClosed)
}

// TestEnableWhatIsDown: a module that was down for a reason that is gone is opened when it is enabled by name.
func TestEnableWhatIsDown(t *testing.T) {
	kprobetest.Require(t)
	refuse := true
	observer.Steps(t, func(what string) error {
		if refuse && strings.Contains(what, "task__iter") {
			return kprobe.ErrPermission
		}
		return nil
	})
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"io", "sched"}}})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	require.False(t, o.Health().Modules[1].Up)
	require.ErrorIs(t, o.Enable(t.Context(), "sched"), kprobe.ErrPermission)
	require.NoError(t, o.Configure(t.Context(), func(c observer.Config) (observer.Config, error) { return c, nil }), "a module that is down already does not make a change fail")
	require.False(t, o.Health().Modules[1].Up)
	refuse = false
	require.NoError(t, o.Enable(t.Context(), "sched"))
	require.True(t, o.Health().Modules[1].Up)
	require.Len(t, o.Health().Modules, 2)
}
