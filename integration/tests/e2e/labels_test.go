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
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// changed is a metric that both modules of TestLabelsChange have, with different labels; kept is in neither.
const (
	changed = "ebpf_foo_bytes_total"
	kept    = "ebpf_io_operations_total"
)

// TestLabelsChange checks that a metric whose labels differ from those of its stored measure is not written, which one
// log line reports. It stays on the page, all other metrics are written, and the remedy in the line works.
func TestLabelsChange(t *testing.T) {
	data := t.TempDir()
	run := func(module string) *banyandtest.Server {
		server := start(t, banyandtest.Options{Flags: flags(native, withFoo, []string{
			"--ebpf-module-dir=" + dirOfFoo(t, t.TempDir(), module),
			"--measure-root-path=" + data, "--stream-root-path=" + data, "--trace-root-path=" + data,
			"--property-root-path=" + data, "--schema-server-root-path=" + data, "--metadata-root-path=" + data,
		})})
		requireModules(t, server, "foo", "io")
		return server
	}
	server := run("block")
	waitFlushed(t, server, time.Now())
	require.Equal(t, []string{"op", "sync"}, storedLabels(t, server, changed))
	waitSchemas(t, server, data)
	require.NoError(t, server.Stop())

	// Timestamps are whole seconds: wait, so that all points of the second run are later than those of the first.
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	begun := time.Now()
	server = run("net")
	waitSent(t, ask.Prometheus(server.Metrics))
	waitFlushed(t, server, time.Now())
	page, err := ask.Prometheus(server.Metrics)(t.Context(), changed)
	require.NoError(t, err)
	requireDirections(t, page)
	require.Eventually(t, func() bool {
		differ, err := ask.BydbQL(server.HTTP)(t.Context(), "ebpf_labels_differ")
		return err == nil && maps.Equal(differ.Map(), map[string]float64{`metric="` + changed + `"`: 1})
	}, patience, 100*time.Millisecond)
	samples, err := ask.BydbQL(server.HTTP)(t.Context(), changed)
	require.NoError(t, err)
	for _, s := range samples {
		require.Truef(t, s.Time.Before(begun), "%s %s", s.Time, s.Key())
	}
	require.Equal(t, []string{"op", "sync"}, storedLabels(t, server, changed))
	require.Equal(t, []string{"direction"}, storedLabels(t, server, "ebpf_foo_resets_total"))
	told := conflicts(t, server)
	require.Len(t, told, 1)
	require.Equal(t, conflict{changed, told[0].Remedy, withNode("op", "sync"), withNode("direction")}, told[0])

	_, command, found := strings.Cut(told[0].Remedy, "bydbctl ")
	require.True(t, found, told[0].Remedy)
	command, _, found = strings.Cut(command, `"`)
	require.True(t, found, told[0].Remedy)
	client := exec.CommandContext(t.Context(), filepath.Join(filepath.Dir(banyandtest.DefaultBinary()), "bydbctl"),
		append(strings.Fields(command), "--config", "-", "--addr", "http://"+server.HTTP)...)
	out, err := client.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	require.Eventually(t, func() bool {
		return mustSay(t, http.MethodGet, "http://"+server.HTTP+"/api/v1/group/schema/_monitoring", "").status == http.StatusNotFound
	}, patience, 100*time.Millisecond)
	waitSchemas(t, server, data)
	require.NoError(t, server.Stop())

	server = run("net")
	waitSent(t, ask.BydbQL(server.HTTP))
	require.Empty(t, conflicts(t, server))
	samples, err = ask.BydbQL(server.HTTP)(t.Context(), changed)
	require.NoError(t, err)
	requireDirections(t, samples)
}

// TestLabelsDiffer checks that if two nodes have a metric with different labels, the one that made the measure stores
// it.
func TestLabelsDiffer(t *testing.T) {
	kprobetest.Require(t)
	modules := t.TempDir()
	dirOfFoo(t, filepath.Join(modules, "data"), "block")
	dirOfFoo(t, filepath.Join(modules, "liaison"), "net")
	cluster, err := banyandtest.StartCluster(t.Context(), banyandtest.Options{
		Wrapper: []string{"sh", "-c", `exec "$0" "$@" --ebpf-module-dir=` + modules + `/$1`}, Flags: flags(native, withFoo),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Stop()) }()
	waitSent(t, ask.Prometheus(cluster.Liaison.Metrics))
	var samples ask.Samples
	for _, role := range []string{"data", "liaison"} {
		then := time.Now()
		require.Eventually(t, func() bool {
			samples, err = ask.BydbQL(cluster.Liaison.HTTP)(t.Context(), kept)
			return err == nil && slices.ContainsFunc(samples.Of(role), func(s ask.Sample) bool { return s.Time.After(then) })
		}, patience, 100*time.Millisecond, role)
	}
	require.Equal(t, []string{"op", "sync"}, storedLabels(t, cluster.Liaison, changed))
	samples, err = ask.BydbQL(cluster.Liaison.HTTP)(t.Context(), changed)
	require.NoError(t, err)
	require.NotEmpty(t, samples)
	require.Len(t, samples.Of("data"), len(samples))
	require.Empty(t, conflicts(t, cluster.Data))
	told := conflicts(t, cluster.Liaison)
	require.Len(t, told, 1)
	require.Equal(t, changed, told[0].Measure)
}

// withFoo are the flags of a server with a user's module.
var withFoo = []string{"--ebpf-enabled", "--ebpf-verify=false", "--ebpf-modules=io", "--ebpf-collect-interval=200ms"}

// dirOfFoo makes a folder with a built-in module under another name.
func dirOfFoo(t *testing.T, dir, module string) string {
	t.Helper()
	object, err := os.ReadFile(filepath.Join("..", "..", "..", "bpf", runtime.GOARCH, module+".bpf.o"))
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chmod(dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "foo.bpf.o"), object, 0o600))
	return dir
}

// waitSent waits until a source returns sent bytes with the new label.
func waitSent(t *testing.T, source ask.Source) {
	t.Helper()
	require.Eventually(t, func() bool {
		samples, err := source(t.Context(), changed)
		if !errors.Is(err, ask.ErrAbsent) {
			require.NoError(t, err)
		}
		return samples.With("direction", "sent").Sum() > 0
	}, patience, 100*time.Millisecond)
}

// requireDirections requires that all labels are those of the module net.
func requireDirections(t *testing.T, samples ask.Samples) {
	t.Helper()
	for _, s := range samples {
		require.Contains(t, []string{`direction="received"`, `direction="sent"`}, s.Key())
	}
}

// waitFlushed waits until the server has written points that are newer than then.
func waitFlushed(t *testing.T, server *banyandtest.Server, then time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		samples, err := ask.BydbQL(server.HTTP)(t.Context(), kept)
		if !errors.Is(err, ask.ErrAbsent) {
			require.NoError(t, err)
		}
		return slices.ContainsFunc(samples, func(s ask.Sample) bool { return s.Time.After(then) })
	}, patience, 100*time.Millisecond)
}

// nodeLabels precede the labels of each metric.
var nodeLabels = []string{"node_type", "node_id", "grpc_address", "http_address"}

// storedLabels returns the labels of a measure in the database.
func storedLabels(t *testing.T, server *banyandtest.Server, name string) []string {
	t.Helper()
	a := mustSay(t, http.MethodGet, "http://"+server.HTTP+"/api/v1/measure/schema/_monitoring/"+name, "")
	require.Equal(t, http.StatusOK, a.status, a.body)
	var schema struct {
		Measure struct {
			Entity struct{ TagNames []string }
		}
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &schema), a.body)
	return schema.Measure.Entity.TagNames[len(nodeLabels):]
}

// waitSchemas waits until the server has written its schemas to disk, which it does some seconds after a change, but
// not when it stops. It creates a group, so that there is a last change to wait for.
func waitSchemas(t *testing.T, server *banyandtest.Server, data string) {
	t.Helper()
	pattern := filepath.Join(data, "schema-property", "data", "_schema", "shard-0", "*.snp")
	before, err := filepath.Glob(pattern)
	require.NoError(t, err)
	const day = `{"unit":"UNIT_DAY","num":1}`
	a := mustSay(t, http.MethodPost, "http://"+server.HTTP+"/api/v1/group/schema", fmt.Sprintf(`{"group":{"metadata":{"name":"last_change_%d"},`+
		`"catalog":"CATALOG_MEASURE","resource_opts":{"shard_num":1,"segment_interval":%s,"ttl":%[2]s}}}`, time.Now().UnixNano(), day))
	require.Equal(t, http.StatusOK, a.status, a.body)
	require.Eventually(t, func() bool {
		now, err := filepath.Glob(pattern)
		require.NoError(t, err)
		return slices.ContainsFunc(now, func(file string) bool { return !slices.Contains(before, file) })
	}, patience, 100*time.Millisecond)
}

// withNode returns all labels of a measure, with those of the node.
func withNode(labels ...string) []string { return append(slices.Clone(nodeLabels), labels...) }

// conflict is a log line about a metric that is not stored.
type conflict struct {
	Measure, Remedy string
	Stored          []string `json:"stored_labels"`
	Ours            []string `json:"labels"`
}

// conflicts returns these lines, each of which must be valid JSON.
func conflicts(t *testing.T, server *banyandtest.Server) (lines []conflict) {
	t.Helper()
	log, err := server.Log()
	require.NoError(t, err)
	for line := range strings.Lines(log) {
		if strings.Contains(line, "stored_labels") {
			var c conflict
			require.NoError(t, json.Unmarshal([]byte(line), &c), line)
			lines = append(lines, c)
		}
	}
	return lines
}
