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

package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// TestLines counts the lines that kernel metrics take.
func TestLines(t *testing.T) {
	source, err := os.ReadFile("main.go")
	require.NoError(t, err)
	_, after, ok := strings.Cut(string(source), "// Kernel metrics begin here.\n")
	require.True(t, ok)
	lines, _, ok := strings.Cut(after, "// Kernel metrics end here.\n")
	require.True(t, ok)
	count := strings.Count(lines, "\n") + strings.Count(string(source), "// For kernel metrics.\n")
	for line := range strings.Lines(string(source)) {
		if strings.Contains(line, "skywalking-banyandb") {
			require.Contains(t, line, "// For kernel metrics.\n")
		}
	}
	require.Equal(t, 14, count)
	require.LessOrEqual(t, count, 20)
}

// TestNoBanyanDB checks that the program does not depend on BanyanDB.
func TestNoBanyanDB(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	const upstream = "github.com/apache/skywalking-banyandb/"
	ours := 0
	for _, dep := range strings.Fields(string(out)) {
		inside, ok := strings.CutPrefix(dep, upstream)
		if !ok {
			require.NotContains(t, dep, "banyandb")
			continue
		}
		ours++
		require.Regexp(t, `^ebpf/(bpf|kprobe|observer|integration/examples)(/|$)`, inside)
	}
	require.GreaterOrEqual(t, ours, 5)
}

// TestServer starts the server, gives it known work, and expects exactly that work on /metrics.
func TestServer(t *testing.T) {
	kprobetest.Require(t)
	dir := t.TempDir()
	binary := filepath.Join(dir, "server")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "GOWORK=off")
	out, err := build.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	server := exec.Command(binary, "-address", "127.0.0.1:0", "-file", filepath.Join(dir, "keys.db"))
	said, err := server.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	lines := bufio.NewReader(said)
	line, err := lines.ReadString('\n')
	require.NoError(t, err)
	_, url, ok := strings.Cut(strings.TrimSpace(line), "listening on ")
	require.True(t, ok, line)
	t.Cleanup(func() {
		require.NoError(t, server.Process.Signal(os.Interrupt))
		rest, err := io.ReadAll(lines)
		require.NoError(t, err)
		require.NoErrorf(t, server.Wait(), "%s", rest)
	})

	// The first key creates the bucket and makes the store grow its file.
	put(t, url, "first")
	before := scrape(t, url)
	const keys = 50
	for i := range keys {
		put(t, url, fmt.Sprintf("key-%d", i))
	}
	answer, err := http.Get(url + "/keys/key-7")
	require.NoError(t, err)
	value, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, "value of key-7", string(value))

	after := scrape(t, url)
	grown := func(name, op string) float64 { return after.of(name, op) - before.of(name, op) }
	// The kernel counted as many writes as the store reports, at least two for each key.
	require.InDelta(t, grown("store_writes_total", ""), grown("ebpf_io_operations_total", "pwrite"), 0)
	require.GreaterOrEqual(t, grown("ebpf_io_operations_total", "pwrite"), float64(2*keys))
	// The store syncs its pages, and then the page that makes them valid.
	require.InDelta(t, 2*keys, grown("ebpf_io_operations_total", "fdatasync"), 0)
	require.InDelta(t, 2*keys, grown("ebpf_io_duration_seconds", "fdatasync"), 0)
	// All of these calls are attributed to the handler's work, and no calls on sockets are.
	puts := func(f families, class string) float64 {
		var sum float64
		for _, m := range f["ebpf_io_attributed_operations_total"].GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["work"] == "put" && labels["class"] == class {
				sum += m.GetCounter().GetValue()
			}
		}
		return sum
	}
	syncs := grown("ebpf_io_operations_total", "fdatasync") + grown("ebpf_io_operations_total", "fsync")
	require.InDelta(t, syncs, puts(after, "sync")-puts(before, "sync"), 0)
	require.InDelta(t, grown("ebpf_io_operations_total", "pwrite"), puts(after, "write")-puts(before, "write"), 0)
	require.InDelta(t, 0, puts(after, "read"), 0)
	for _, module := range []string{"io", "cache", "memory", "sched"} {
		require.InDelta(t, 1, after.of("ebpf_module_up", module), 0, module)
	}
}

func put(t *testing.T, url, key string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/keys/"+key, bytes.NewBufferString("value of "+key))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

type families map[string]*dto.MetricFamily

func scrape(t *testing.T, url string) families {
	t.Helper()
	answer, err := http.Get(url + "/metrics")
	require.NoError(t, err)
	defer answer.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(answer.Body)
	require.NoError(t, err)
	return all
}

// of sums the series of a metric that have a label with this value, or all series for "".
func (f families) of(name, label string) float64 {
	var sum float64
	for _, m := range f[name].GetMetric() {
		matches := label == ""
		for _, l := range m.GetLabel() {
			matches = matches || l.GetValue() == label
		}
		if matches {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}
