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

package runservice_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
)

// configFile writes a configuration file and returns its name.
func configFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ebpf.yaml")
	require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	return name
}

func TestConfigFileIsChecked(t *testing.T) {
	for _, c := range []struct{ text, cause string }{
		{"modules: [io]\ncollect_interval: 1s\n", ""},
		{"", ""},
		{"modules: [nosuch]\n", `modules: unknown module "nosuch" (available: block`},
		{"disabled_hooks: {cache: [nosuch]}\n", `module cache: unknown hook "nosuch" (available: lookup`},
		{"collect_interval: 1ms\n", "collect_interval: 1ms is out of range (100ms to 1h"},
		{"interval: 1s\n", `field interval not found`},
		{"modules: [io\n", "ebpf.yaml"},
	} {
		s := runservice.New(newRegistry(), observer.Options{})
		require.NoError(t, s.FlagSet().Parse([]string{"--ebpf-config-file=" + configFile(t, c.text)}))
		if err := s.Validate(); c.cause == "" {
			require.NoError(t, err, c.text)
		} else {
			require.ErrorContains(t, err, c.cause, c.text)
		}
	}
	s := runservice.New(newRegistry(), observer.Options{})
	require.NoError(t, s.FlagSet().Parse([]string{"--ebpf-config-file=/nosuch"}))
	require.ErrorIs(t, s.Validate(), os.ErrNotExist)
}

func TestAddressesAreChecked(t *testing.T) {
	s := runservice.New(newRegistry(), observer.Options{})
	require.NoError(t, s.FlagSet().Parse([]string{"--ebpf-http-addr=0.0.0.0:1"}))
	require.ErrorContains(t, s.Validate(), "token")
}

// TestReload checks that SIGHUP reloads the configuration file, which overrides the flags, and that an invalid file
// changes nothing.
func TestReload(t *testing.T) {
	kprobetest.Require(t)
	file := configFile(t, "modules: [io]\n")
	s := start(t, newRegistry(), observer.Options{}, "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-config-file="+file)
	require.Equal(t, []string{"io"}, s.Config().Modules)

	require.NoError(t, os.WriteFile(file, []byte("modules: [cache, sched]\ncollect_interval: 1s\nmax_overhead_percent: 2\n"), 0o600))
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	require.Eventually(t, func() bool { return len(s.Config().Modules) == 2 }, time.Minute, 10*time.Millisecond)
	c := s.Config()
	require.Equal(t, []string{"cache", "sched"}, c.Modules)
	require.Equal(t, time.Second, c.CollectInterval)
	require.InDelta(t, 2, c.MaxOverheadPercent, 0)
	health := s.Health()
	require.True(t, health.Modules[0].Disabled)
	require.Equal(t, "io", health.Modules[0].Name)
	require.Len(t, health.Modules, 3)

	require.NoError(t, os.WriteFile(file, []byte("modules: [nosuch]\n"), 0o600))
	require.ErrorContains(t, s.Reload(t.Context()), "nosuch")
	require.ErrorIs(t, s.Reload(t.Context()), observer.ErrInvalidConfig, "the API must distinguish this from a refusal by the kernel")
	require.NoError(t, os.Remove(file))
	require.ErrorIs(t, s.Reload(t.Context()), observer.ErrInvalidConfig)
	require.Equal(t, c, s.Config())

	// Fields that are no longer in the file come from the flags.
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.NoError(t, s.Reload(t.Context()))
	require.Equal(t, runservice.DefaultModules(), s.Config().Modules)
	require.Equal(t, 5*time.Second, s.Config().CollectInterval)
}

// TestMemoryIsGivenBack checks that memory is returned to the system after the start and after a change. Returning
// memory forces a garbage collection, which the runtime counts.
func TestMemoryIsGivenBack(t *testing.T) {
	kprobetest.Require(t)
	forced := func() uint32 {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.NumForcedGC
	}
	before := forced()
	s := start(t, newRegistry(), observer.Options{}, "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=io")
	started := forced()
	require.Greater(t, started, before)
	require.NoError(t, s.Configure(t.Context(), func(c observer.Config) (observer.Config, error) {
		c.Modules = append(c.Modules, "cache")
		return c, nil
	}))
	require.Greater(t, forced(), started)
}

// freeAddress returns an address of this host that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// TestAPI checks that the service can be queried and configured over its own listener, which is closed when the service
// stops.
func TestAPI(t *testing.T) {
	kprobetest.Require(t)
	goroutines := runtime.NumGoroutine()
	address := freeAddress(t)
	r := newRegistry()
	s := start(t, r, observer.Options{}, "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=io,cache", "--ebpf-collect-interval=100ms", "--ebpf-http-addr="+address)
	ask := func(method, path, body string) (int, map[string]any) {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, bytes.NewReader([]byte(body)))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		var answer map[string]any
		require.NoError(t, json.Unmarshal(data, &answer), string(data))
		return response.StatusCode, answer
	}
	status, answer := ask(http.MethodGet, "/health", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "up", answer["status"])

	status, answer = ask(http.MethodPost, "/api/v1/config", `{"modules":["cache"]}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, []string{"cache"}, s.Config().Modules)
	require.Eventually(t, func() bool {
		_, found := r.value(t, "banyandb_ebpf_io_operations_total")
		return !found
	}, time.Minute, 10*time.Millisecond, "the series of a disabled module must be gone")
	status, answer = ask(http.MethodPost, "/api/v1/config", `{"modules":["nosuch"]}`)
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, answer["error"], "nosuch")
	require.Equal(t, []string{"cache"}, s.Config().Modules)
	status, _ = ask(http.MethodPost, "/api/v1/config/reload", "")
	require.Equal(t, http.StatusNotImplemented, status, "there is no file")

	s.GracefulStop()
	_, err := net.DialTimeout("tcp", address, time.Second)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	requireGoroutines(t, goroutines)
}

// TestAPIWithoutKernel checks that the API reports why nothing is observed.
func TestAPIWithoutKernel(t *testing.T) {
	address := freeAddress(t)
	start(t, newRegistry(), observer.Options{Sources: []observer.Source{observer.Files(fstest.MapFS{"io.bpf.o": {}})}}, "--ebpf-modules=io", "--ebpf-disabled-hooks=", "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-http-addr="+address)
	response, err := http.Get("http://" + address + "/health")
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusServiceUnavailable, response.StatusCode)
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(data), "parsing the object")
}

// TestAPIAddressInUse checks that the server starts without the API if its address is in use.
func TestAPIAddressInUse(t *testing.T) {
	kprobetest.Require(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	s := start(t, newRegistry(), observer.Options{}, "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=io", "--ebpf-http-addr="+l.Addr().String())
	require.True(t, s.Health().Modules[0].Up)
}

// TestAttribution checks that the metrics that are broken down by work are there unless --ebpf-attribution is off, and
// that nothing else depends on it.
func TestAttribution(t *testing.T) {
	kprobetest.Require(t)
	for _, on := range []bool{true, false} {
		r := newRegistry()
		s := start(t, r, observer.Options{}, "--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=io", "--ebpf-collect-interval=100ms", fmt.Sprintf("--ebpf-attribution=%t", on))
		require.True(t, s.Health().Modules[0].Up)
		require.Empty(t, s.Health().Warnings)
		require.Eventually(t, func() bool {
			_, found := r.value(t, "banyandb_ebpf_io_operations_total")
			return found
		}, time.Minute, 10*time.Millisecond)
		attributed := func() bool {
			_, found := r.value(t, "banyandb_ebpf_io_attributed_operations_total")
			return found
		}
		if on {
			// A pass that is under way has written the one, and not yet the other.
			require.Eventually(t, attributed, time.Minute, 10*time.Millisecond)
		} else {
			require.False(t, attributed())
		}
		require.Equal(t, !on, slices.Contains(s.Health().Modules[0].Absent, "ebpf_io_attributed_operations_total"))
	}
}
