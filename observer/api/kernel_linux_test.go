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

package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
)

// TestKernel: each API returns exactly the reads that were made.
func TestKernel(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache"}}, Verify: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	s := listen(t, api.New(o, nil), api.ListenOptions{})
	url := "http://" + s.HTTPAddr().String()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	_, err = file.Write(make([]byte, 4096))
	require.NoError(t, err)
	buf := make([]byte, 100)
	for range 123 {
		_, err = unix.Pread(int(file.Fd()), buf, 0)
		require.NoError(t, err)
	}
	for range 7 {
		require.NoError(t, unix.Fsync(int(file.Fd())))
	}

	text := request(t, http.MethodGet, url+"/metrics", "").body
	for _, line := range []string{
		`ebpf_io_operations_total{op="pread",result="ok"} 123`, `ebpf_io_bytes_total{op="pread"} 12300`, `ebpf_io_operations_total{op="fsync",result="ok"} 7`,
		`ebpf_io_duration_seconds_count{op="pread"} 123`, `ebpf_io_size_bytes_bucket{op="pread",le="256"} 123`, `ebpf_module_up{module="cache"} 1`,
		`ebpf_metric_verified{metric="ebpf_io_operations_total",module="io"} 1`,
	} {
		require.True(t, strings.Contains(text, "\n"+line+"\n"), line)
	}

	var answer struct {
		Metrics []struct {
			Name   string
			Series []struct {
				Labels map[string]string
				Value  float64
				Count  uint64
			}
		}
	}
	body := request(t, http.MethodGet, url+"/api/v1/stats?module=io", "").body
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	counted := map[string]float64{}
	for _, m := range answer.Metrics {
		for _, series := range m.Series {
			counted[m.Name+" "+series.Labels["op"]] += series.Value + float64(series.Count)
		}
	}
	require.InDelta(t, 123, counted["ebpf_io_operations_total pread"], 0)
	require.InDelta(t, 123, counted["ebpf_io_duration_seconds pread"], 0)
	require.InDelta(t, 12_300, counted["ebpf_io_bytes_total pread"], 0)
	require.InDelta(t, 7, counted["ebpf_io_operations_total fsync"], 0)

	c := ebpfv1.NewEBPFMetricsClient(dial(t, s))
	r, err := c.GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{Names: []string{"ebpf_io_operations_total"}})
	require.NoError(t, err)
	seen := 0
	for _, series := range r.GetSnapshot().GetMetrics()[0].GetSeries() {
		if series.GetLabels()["op"] == "pread" {
			require.InDelta(t, 123, series.GetValue(), 0)
			seen++
		}
	}
	require.Equal(t, 1, seen)
	h, err := c.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
	require.True(t, h.GetUp())
	require.Equal(t, "syscall", h.GetModules()[0].GetHooks()[0].GetName())
	require.NotEmpty(t, h.GetModules()[0].GetHooks()[0].GetAttach())
	require.NotZero(t, h.GetModules()[0].GetMapMemoryBytes())
	require.NotEmpty(t, h.GetModules()[0].GetMetrics())

	require.NoError(t, o.Close())
	refused(t, request(t, http.MethodGet, url+"/api/v1/stats", ""), http.StatusServiceUnavailable, observer.ErrClosed.Error())
}

// TestSwitchModules: a module that is disabled over HTTP is in no response, counts nothing meanwhile, and continues
// from its old values.
func TestSwitchModules(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache"}}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	s := listen(t, api.New(o, o), api.ListenOptions{})
	url := "http://" + s.HTTPAddr().String()
	post := func(body string) response { return request(t, http.MethodPost, url+"/api/v1/config", body, jsonType) }
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	read := func(n int) {
		for range n {
			_, err := unix.Pread(int(file.Fd()), make([]byte, 1), 0)
			require.NoError(t, err)
		}
	}
	const line = "\nebpf_io_operations_total{op=\"pread\",result=\"ok\"} "
	has := func(text string) bool {
		return strings.Contains(request(t, http.MethodGet, url+"/metrics", "").body, text)
	}

	read(10)
	require.True(t, has(line+"10\n"))
	r := post(`{"modules":["cache"]}`)
	require.Equal(t, http.StatusOK, r.status, r.body)
	require.Contains(t, r.body, `"modules":["cache"]`)
	read(100)
	require.False(t, has("ebpf_io_operations_total"))
	require.True(t, has("\nebpf_module_up{module=\"io\"} 0\n"))
	require.True(t, has("\nebpf_module_up{module=\"cache\"} 1\n"))
	health := request(t, http.MethodGet, url+"/health", "")
	require.Equal(t, http.StatusOK, health.status, "a disabled module is not down")
	require.Contains(t, health.body, `"disabled":true`)
	require.Contains(t, request(t, http.MethodGet, url+"/api/v1/stats?module=io", "").body, `"metrics":[]`)

	// An invalid change leaves everything as it was.
	refused(t, post(`{"modules":["io","nothing"]}`), http.StatusBadRequest, `unknown module "nothing" (available: `)
	refused(t, post(`{"modules":["io"],"disabled_hooks":{"io":["nothing"]}}`), http.StatusBadRequest, `unknown hook "nothing"`)
	require.False(t, has("ebpf_io_operations_total"))

	require.Equal(t, http.StatusOK, post(`{"modules":["cache","io"]}`).status)
	read(1)
	require.True(t, has(line+"11\n"))
	require.Equal(t, http.StatusOK, post(`{"disabled_hooks":{"io":["syscall"]}}`).status)
	read(100)
	require.False(t, has("ebpf_io_operations_total"))
	require.Equal(t, http.StatusOK, post(`{"disabled_hooks":{},"latency_sampling":16}`).status)
	read(1)
	require.True(t, has(line+"12\n"))
	require.Equal(t, uint32(16), o.Config().LatencySampling)
}
