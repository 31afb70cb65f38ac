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

// Package e2e_test drives the real server and compares what it reports about itself with what the kernel reports.
package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/common/v1"
	measurev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/measure/v1"
	modelv1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/model/v1"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
)

// window is how long the real load runs between two readings.
const window = 20 * time.Second

// patience is a timeout that only keeps a test from hanging, even on a slow and busy machine.
const patience = 5 * time.Minute

// native are the flags that make the server write its metrics to _monitoring every second.
var native = []string{"--observability-modes=native,prometheus", "--observability-native-flush-interval=1s"}

func start(t *testing.T, opts banyandtest.Options) *banyandtest.Server {
	t.Helper()
	kprobetest.Require(t)
	server, err := banyandtest.Start(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop()) })
	return server
}

func flags(lists ...[]string) []string { return slices.Concat(lists...) }

// drive loads the server and requires that nothing fails.
func drive(t *testing.T, server *banyandtest.Server, opts load.Options) load.Stats {
	t.Helper()
	conn, err := server.Dial()
	require.NoError(t, err)
	defer conn.Close()
	stats, err := load.Run(t.Context(), conn, opts)
	require.NoError(t, err)
	require.NoError(t, stats.FirstError)
	for _, c := range []load.Counts{stats.Measure, stats.Stream, stats.Trace} {
		require.Positive(t, c.Written)
		require.Positive(t, c.Queries)
		require.Positive(t, c.Rows)
	}
	return stats
}

var (
	// Calls that copy within the kernel are both reads and writes.
	reads  = []string{"read", "pread", "readv", "preadv", "copy_file_range", "sendfile"}
	writes = []string{"write", "pwrite", "writev", "pwritev", "copy_file_range", "sendfile"}
	ops    = slices.Concat(reads[:4], writes, []string{"fsync", "fdatasync", "fadvise", "openat", "close"})
)

// TestStandalone checks that under a real load the counters equal what the kernel accounts to the process, and that all
// sources return the same values.
func TestStandalone(t *testing.T) {
	address := freeAddress(t)
	server := start(t, banyandtest.Options{Flags: flags(native, load.ServerFlags, []string{"--ebpf-enabled", "--ebpf-collect-interval=10s", "--ebpf-http-addr=" + address})})
	pid := server.PID()
	var before, after counters
	var ioBefore, ioAfter processIO
	stopped(t, pid, func() { before, ioBefore = kernelCounters(t, pid, "io"), readProcessIO(t, pid) })
	stats := drive(t, server, load.Options{Duration: window})
	stopped(t, pid, func() { after, ioAfter = kernelCounters(t, pid, "io"), readProcessIO(t, pid) })
	t.Logf("wrote %d points, answered %d queries", stats.Total().Written, stats.Total().Queries)

	got := after.since(before)
	const operations = "ebpf_io_operations_total"
	requireProcessIO(t, got, ioBefore, ioAfter)
	for _, op := range ops {
		lost := got.sumOf("ebpf_events_lost_total", "io")
		calls, timed := got.sumOf(operations, op), got.sumOf("ebpf_io_duration_seconds_count", op)
		require.LessOrEqual(t, timed, calls, op)
		require.LessOrEqual(t, calls-timed, lost, op)
	}
	require.Equal(t, got.total(operations), got["ebpf_io_attributed_operations_total"], "calls, over all works")
	require.Equal(t, ioAfter.rchar-ioBefore.rchar+ioAfter.wchar-ioBefore.wchar, got["ebpf_io_attributed_bytes_total"], "bytes, over all works")
	require.Positive(t, got["ebpf_io_fadvise_total{dontneed}"])
	require.Equal(t, got.sumOf(operations, "fadvise"), got.sumOf("ebpf_io_fadvise_total", "dontneed", "sequential", "normal", "random", "willneed", "noreuse"))

	// Querying all metrics from all sources may take longer than the collection interval.
	configOf(t, mustSay(t, http.MethodPost, "http://"+address+"/api/v1/config", `{"collect_interval":"1h"}`))
	sameEverywhere(t, server)
	knownWorks(t, server)
	knownFiles(t, address)
	receipts(t, server, address)
	showsInClient(t, server)
	knownNames(t, server)
	everyFamilyMoves(t, server)
}

// requireProcessIO requires that calls and bytes match the difference between two readings of /proc/PID/io.
func requireProcessIO(t *testing.T, got counters, before, after processIO) {
	t.Helper()
	const operations, bytes = "ebpf_io_operations_total", "ebpf_io_bytes_total"
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"read-like calls against syscr", got.sumOf(operations, reads...), after.syscr - before.syscr},
		{"write-like calls against syscw", got.sumOf(operations, writes...), after.syscw - before.syscw},
		{"bytes read against rchar", got.sumOf(bytes, reads...), after.rchar - before.rchar},
		{"bytes written against wchar", got.sumOf(bytes, writes...), after.wchar - before.wchar},
	} {
		t.Logf("%-32s %d = %d", c.name, c.got, c.want)
		require.Positive(t, c.want, c.name)
		require.Equalf(t, c.want, c.got, "%s; errors: %v", c.name, got.errors())
	}
}

// everyFamilyMoves requires that each metric of the default modules has counted, and is verified if it can be. A metric
// that may stay zero says so in its help.
func everyFamilyMoves(t *testing.T, server *banyandtest.Server) {
	t.Helper()
	families, err := ask.Scrape(t.Context(), server.Metrics)
	require.NoError(t, err)
	schema, err := observer.BuiltIn().Describe(runservice.DefaultModules()...)
	require.NoError(t, err)
	verified, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_metric_verified")
	require.NoError(t, err)
	for _, m := range schema {
		proof := verified.With("module", m.Module).With("metric", m.Name)
		if len(proof) == 0 {
			// No hook feeds it on this kernel.
			t.Logf("absent: %s", m.Name)
			continue
		}
		require.Equal(t, m.Verifiable, proof.Sum() == 1, m.Name)
		name := "banyandb_" + m.Name
		if m.Kind == observer.Histogram {
			name += "_count"
		}
		if off := runservice.DefaultDisabledHooks()[m.Module]; len(m.Hooks) > 0 && !slices.ContainsFunc(m.Hooks, func(hook string) bool { return !slices.Contains(off, hook) }) {
			require.Nil(t, families[name], m.Name)
			t.Logf("not attached by default: %s", m.Name)
			continue
		}
		if families[name] == nil {
			require.Contains(t, m.Help, "Zero unless", m.Name)
			t.Logf("zero: %s", m.Name)
		}
	}
}

// knownWorks requires that the server's system calls are attributed: queries and loops have made the calls that are
// typical of them, less than 2 % of the calls are of work other, and no function is without a known work.
func knownWorks(t *testing.T, server *banyandtest.Server) {
	t.Helper()
	samples, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_io_attributed_operations_total")
	require.NoError(t, err)
	for _, catalog := range []string{"measure", "stream", "trace"} {
		of := samples.With("catalog", catalog)
		require.Positive(t, of.With("work", "query").With("class", "read").Sum(), catalog)
		require.Positive(t, of.With("work", "flush").With("class", "sync").Sum(), catalog)
		// Merges read in large pieces, and drop what they have read.
		require.Greater(t, of.With("work", "merge").With("class", "fadvise").Sum(), of.With("work", "merge").With("class", "read").Sum(), catalog)
	}
	for _, work := range []string{"introduce", "index_persist", "network", "runtime"} {
		require.Positive(t, samples.With("work", work).Sum(), work)
	}
	require.Less(t, samples.With("work", "other").Sum(), samples.Sum()/50)
	require.Empty(t, unnamed(t, server), "add these functions to runservice/works.go")
}

// knownFiles requires that what was counted by work is counted by file, and that all files below the data folders are known.
func knownFiles(t *testing.T, address string) {
	t.Helper()
	families, err := ask.Scrape(t.Context(), address)
	require.NoError(t, err)
	for by, parts := range map[string][]string{
		"ebpf_io":    {"operations", "bytes", "seconds"},
		"ebpf_cache": {"filled_pages", "deleted_pages", "dropped_pages", "regret_pages", "dropped_early_pages"},
	} {
		for _, part := range parts {
			work, file := ask.SamplesOf(families[by+"_attributed_"+part+"_total"]), ask.SamplesOf(families[by+"_file_"+part+"_total"])
			require.Positive(t, file.Sum(), part)
			// Seconds are sums of rounded numbers.
			require.InEpsilon(t, work.Sum(), file.Sum(), 1e-9, part)
		}
	}
	samples := ask.SamplesOf(families["ebpf_io_file_bytes_total"])
	for catalog, kinds := range map[string][]string{
		"measure":  {"primary", "timestamps", "fields", "meta", "index", "snapshot"},
		"stream":   {"primary", "timestamps", "tags", "meta", "index", "snapshot"},
		"trace":    {"primary", "spans", "tags", "meta", "index", "snapshot", "sidx"},
		"property": {"index"},
	} {
		for _, kind := range kinds {
			require.Positive(t, samples.With("catalog", catalog).With("kind", kind).Sum(), "%s %s", catalog, kind)
		}
	}
	require.Positive(t, samples.With("group", "load_measure").Sum())
	require.Positive(t, samples.With("kind", "socket").Sum())
	for _, of := range ask.SamplesOf(families["ebpf_io_file_operations_total"]).With("kind", "other") {
		require.Empty(t, of.Labels["catalog"], "add the file to runservice/files.go: %v", of.Labels)
	}
	merges := ask.SamplesOf(families["ebpf_cache_file_dropped_pages_total"]).With("work", "merge")
	require.Positive(t, merges.Sum())
}

// receipts requires that what all queries read, by their receipts, is what is attributed to queries, and that a query that
// requests a trace gets its own receipt on it, the one that the API shows.
func receipts(t *testing.T, server *banyandtest.Server, address string) {
	t.Helper()
	conn, err := server.Dial()
	require.NoError(t, err)
	defer conn.Close()
	now := time.Now().Truncate(time.Millisecond)
	answer, err := measurev1.NewMeasureServiceClient(conn).Query(t.Context(), &measurev1.QueryRequest{
		Groups: []string{"load_measure"}, Name: "service_latency", Limit: 10, Trace: true,
		TimeRange:       &modelv1.TimeRange{Begin: timestamppb.New(now.Add(-15 * time.Minute)), End: timestamppb.New(now)},
		FieldProjection: &measurev1.QueryRequest_FieldProjection{Names: []string{"calls"}},
	})
	require.NoError(t, err)
	traced := make(map[string]float64)
	var walk func(spans []*commonv1.Span)
	walk = func(spans []*commonv1.Span) {
		for _, span := range spans {
			for _, tag := range span.GetTags() {
				if name, ours := strings.CutPrefix(tag.GetKey(), "ebpf_"); ours {
					traced[name], err = strconv.ParseFloat(tag.GetValue(), 64)
					require.NoError(t, err)
				}
			}
			walk(span.GetChildren())
		}
	}
	walk(answer.GetTrace().GetSpans())
	require.Positive(t, traced["io_reads"], "%v", answer.GetTrace())
	require.Positive(t, traced["io_read_bytes"])
	require.Positive(t, traced["io_read_seconds"])

	told, err := ask.Queries(t.Context(), address)
	require.NoError(t, err)
	newest := told.Newest[0]
	require.Equal(t, []string{"measure", "load_measure", "service_latency"}, []string{newest.Catalog, newest.Group, newest.Name})
	require.Equal(t, traced, newest.Fields)
	require.Zero(t, told.Refused)

	require.Zero(t, told.Refused)
	require.NotEmpty(t, told.MostExpensive)

	// What a loop does that a query has just started is on the query's receipt until the loop is named, by the next
	// snapshot. That happens when a query opens what no query has opened before.
	for try := range 5 {
		before := billedAndAttributed(t, address)
		drive(t, server, load.Options{Duration: window / 4})
		after := billedAndAttributed(t, address)
		equal := true
		for field, now := range after {
			billed, attributed := now[0]-before[field][0], now[1]-before[field][1]
			t.Logf("%s: %.0f on receipts, %.0f attributed to queries", field, billed, attributed)
			equal = equal && billed == attributed
		}
		require.Positive(t, after["io_reads"][0]-before["io_reads"][0])
		if equal {
			return
		}
		require.Less(t, try, 4, "receipts differ from what is attributed to queries, although all loops are named")
	}
}

// billedAndAttributed returns, by field of receipts, what is on all receipts, and what is attributed to queries.
func billedAndAttributed(t *testing.T, address string) map[string][2]float64 {
	t.Helper()
	families, err := ask.Scrape(t.Context(), address)
	require.NoError(t, err)
	sums := make(map[string][2]float64)
	for field, whole := range map[string]struct{ metric, label, value string }{
		"io_operations":      {"ebpf_io_attributed_operations_total", "work", "query"},
		"io_reads":           {"ebpf_io_attributed_operations_total", "class", "read"},
		"io_read_bytes":      {"ebpf_io_attributed_bytes_total", "direction", "read"},
		"io_written_bytes":   {"ebpf_io_attributed_bytes_total", "direction", "write"},
		"cache_filled_pages": {"ebpf_cache_attributed_filled_pages_total", "work", "query"},
		"cache_regret_pages": {"ebpf_cache_attributed_regret_pages_total", "work", "query"},
	} {
		var billed, attributed float64
		for _, m := range families["ebpf_query_"+field].GetMetric() {
			billed += m.GetHistogram().GetSampleSum()
		}
		for _, m := range families[whole.metric].GetMetric() {
			labels := make(map[string]string)
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["work"] == "query" && labels[whole.label] == whole.value {
				attributed += m.GetCounter().GetValue()
			}
		}
		sums[field] = [2]float64{billed, attributed}
	}
	return sums
}

// unnamed returns the functions that are without a known work according to the server's log.
func unnamed(t *testing.T, server *banyandtest.Server) []string {
	t.Helper()
	log, err := server.Log()
	require.NoError(t, err)
	var functions []string
	for line := range strings.Lines(log) {
		var entry struct{ Message, Function string }
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Message, "the work of a function is not known") {
			functions = append(functions, entry.Function)
		}
	}
	return functions
}

// sources returns the sources that query a server.
func sources(t *testing.T, server *banyandtest.Server) map[string]ask.Source {
	t.Helper()
	conn, err := server.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return map[string]ask.Source{
		"BydbQL": ask.BydbQL(server.HTTP), "HTTP": ask.HTTP(server.HTTP), "gRPC": ask.GRPC(conn),
	}
}

// exported are some metrics of a server under load.
var exported = []string{
	"ebpf_io_operations_total", "ebpf_io_bytes_total", "ebpf_io_duration_seconds_bucket", "ebpf_io_duration_seconds_sum",
	"ebpf_io_duration_seconds_count", "ebpf_io_size_bytes_bucket", "ebpf_io_fadvise_total", "ebpf_cache_filled_pages_total", "ebpf_module_up", "ebpf_probe_info",
	"ebpf_map_memory_bytes",
}

// sameEverywhere waits until all sources return the same values.
func sameEverywhere(t *testing.T, server *banyandtest.Server) {
	t.Helper()
	asked, page := sources(t, server), ask.Prometheus(server.Metrics)
	difference := ""
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		want := valuesOf(t, page)
		difference = ""
		for name, source := range asked {
			if d := firstDifference(want, valuesOf(t, source)); d != "" {
				difference = name + ": " + d
			}
		}
		// Only if no collection has changed the page in between.
		if difference == "" && firstDifference(want, valuesOf(t, page)) == "" {
			return
		}
	}
	t.Fatal("the sources still differ: ", difference)
}

// firstDifference compares the series of two sources. Counts must be equal; sums of seconds, which the database stores
// as decimals, must be equal to twelve digits.
func firstDifference(want, got map[string]map[string]float64) string {
	for metric, series := range want {
		if len(series) != len(got[metric]) {
			return fmt.Sprintf("%s has %d series, want %d", metric, len(got[metric]), len(series))
		}
		for key, value := range series {
			tolerance := 0.0
			if strings.HasSuffix(metric, "_seconds_sum") {
				tolerance = value * 1e-12
			}
			if other, ok := got[metric][key]; !ok || math.Abs(other-value) > tolerance {
				return fmt.Sprintf("%s{%s} is %v, want %v", metric, key, other, value)
			}
		}
	}
	return ""
}

func valuesOf(t *testing.T, source ask.Source) map[string]map[string]float64 {
	t.Helper()
	values := map[string]map[string]float64{}
	for _, metric := range exported {
		samples, err := source(t.Context(), metric)
		require.NoError(t, err)
		require.NotEmpty(t, samples, metric)
		values[metric] = samples.Map()
	}
	return values
}

// showsInClient queries with bydbctl, as an operator would.
func showsInClient(t *testing.T, server *banyandtest.Server) {
	t.Helper()
	client := filepath.Join(filepath.Dir(banyandtest.DefaultBinary()), "bydbctl")
	query := filepath.Join(t.TempDir(), "query.yaml")
	require.NoError(t, os.WriteFile(query, []byte(`
groups: [_monitoring]
name: ebpf_io_operations_total
tagProjection: {tagFamilies: [{name: default, tags: [op, result]}]}
fieldProjection: {names: [value]}
orderBy: {sort: SORT_DESC}
limit: 50
`), 0o600))
	out, err := exec.CommandContext(t.Context(), client, "measure", "query", "--config", "-",
		"--addr", "http://"+server.HTTP, "-s", "-1m", "-f", query).CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	for _, part := range []string{"pread", "fadvise", "ok"} {
		require.Contains(t, string(out), part)
	}
}

// knownNames requires that our names, types and labels on the page are all in the golden file.
func knownNames(t *testing.T, server *banyandtest.Server) {
	t.Helper()
	golden, err := os.ReadFile("../../../meterbridge/testdata/names.golden")
	require.NoError(t, err)
	families, err := ask.Scrape(t.Context(), server.Metrics)
	require.NoError(t, err)
	found := 0
	for name, family := range families {
		if !strings.HasPrefix(name, "banyandb_ebpf_") {
			continue
		}
		found++
		var labels []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		require.Contains(t, string(golden), fmt.Sprintf("%s %s {%s}\n", strings.ToLower(family.GetType().String()), name, strings.Join(labels, ",")))
	}
	require.GreaterOrEqual(t, found, len(exported))
	series := 0
	for name, family := range families {
		if strings.HasPrefix(name, "banyandb_ebpf_") && name != "banyandb_"+observer.MetricVerified {
			series += len(family.GetMetric())
		}
	}
	t.Logf("%d stored series", series)
	require.LessOrEqual(t, series, maxSeries)
}

// maxSeries limits the stored series of the default modules under load: each series is written at each flush.
const maxSeries = 600

// TestNamespace checks the same equality for a server that is process 1 of its own pid namespace.
func TestNamespace(t *testing.T) {
	server := start(t, banyandtest.Options{
		Wrapper: []string{"unshare", "--pid", "--fork", "--kill-child"},
		Flags:   flags(load.ServerFlags, []string{"--ebpf-enabled"}),
	})
	pid := childOf(t, server.PID())
	t.Cleanup(func() {
		// The wrapper ends with the server, but does not forward the signal.
		require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
		<-server.Exited()
	})
	var before, after counters
	var ioBefore, ioAfter processIO
	stopped(t, pid, func() { before, ioBefore = kernelCounters(t, pid, "io"), readProcessIO(t, pid) })
	drive(t, server, load.Options{Duration: 3 * time.Second})
	stopped(t, pid, func() { after, ioAfter = kernelCounters(t, pid, "io"), readProcessIO(t, pid) })
	got := after.since(before)
	require.Equal(t, ioAfter.syscw-ioBefore.syscw, got.sumOf("ebpf_io_operations_total", writes...))
	require.Equal(t, ioAfter.rchar-ioBefore.rchar, got.sumOf("ebpf_io_bytes_total", reads...))
	require.Positive(t, got.sumOf("ebpf_io_operations_total", writes...))
}

func childOf(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return child
}

// TestCluster checks that data node and liaison report their own counters, and that the liaison returns both.
func TestCluster(t *testing.T) {
	kprobetest.Require(t)
	cluster, err := banyandtest.StartCluster(t.Context(), banyandtest.Options{
		Flags: flags(native, []string{"--ebpf-enabled", "--ebpf-collect-interval=1s"}),
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, cluster.Stop()) }()
	drive(t, cluster.Liaison, load.Options{Duration: 10 * time.Second})
	for role, server := range map[string]*banyandtest.Server{"data": cluster.Data, "liaison": cluster.Liaison} {
		kernel := kernelCounters(t, server.PID(), "io").sumOf("ebpf_io_operations_total", writes...)
		page, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_io_operations_total")
		require.NoError(t, err)
		require.Positive(t, page.With("op", "write").Sum(), role)
		require.LessOrEqual(t, page.With("op", "write").Sum(), float64(kernel)+1e6, role)
		up, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_module_up")
		require.NoError(t, err)
		require.InDelta(t, 4, up.Sum(), 0, role)
	}
	for name, source := range sources(t, cluster.Liaison) {
		require.Eventually(t, func() bool {
			samples, err := source(t.Context(), "ebpf_io_operations_total")
			return err == nil && samples.Of("data").With("op", "write").Sum() > 0 && samples.Of("liaison").With("op", "write").Sum() > 0
		}, patience, 500*time.Millisecond, name)
	}
}

// TestOff checks that the server works whatever prevents eBPF, that one log line gives the cause and the remedy, and
// that ebpf_module_up is 0.
func TestOff(t *testing.T) {
	kprobetest.Require(t)
	build := func(name string) string {
		binary := filepath.Join(t.TempDir(), name)
		out, err := exec.Command("go", "build", "-o", binary, "./testdata/"+name).CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
		return binary
	}
	without := func(capabilities string) banyandtest.Options {
		return banyandtest.Options{Wrapper: []string{"setpriv", "--bounding-set=" + capabilities + ",-sys_admin", "--"}}
	}
	hidden := func(folder string) []string {
		return []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none ` + folder + ` && exec "$0" "$@"`}
	}
	for _, c := range []struct {
		name  string
		opts  banyandtest.Options
		cause string
	}{
		{"without capabilities", without("-bpf,-perfmon"), `CAP_BPF and CAP_PERFMON missing.*"remedy":"give the process CAP_BPF and CAP_PERFMON`},
		{"without CAP_BPF", without("-bpf"), `CAP_BPF missing \(kernel.unprivileged_bpf_disabled is .*"remedy":"give the process CAP_BPF:`},
		{"without CAP_PERFMON", without("-perfmon"), `CAP_PERFMON missing.*"remedy":"give the process CAP_PERFMON:`},
		{"without BTF", banyandtest.Options{Wrapper: hidden("/sys/kernel/btf")}, `no kernel BTF.*"remedy":".*CONFIG_DEBUG_INFO_BTF`},
		{
			"without tracefs",
			banyandtest.Options{Wrapper: hidden("/sys/kernel/tracing"), Env: []string{"BYDB_EBPF_ATTACH=tracepoint", "BYDB_EBPF_MODULES=io,block"}},
			`no tracefs.*"remedy":"mount tracefs`,
		},
		{"behind a seccomp filter", banyandtest.Options{Wrapper: []string{build("deny")}}, `bpf\(2\) is refused.*"remedy":"a seccomp filter`},
		{"with corrupt objects", banyandtest.Options{Binary: build("corrupt")}, `invalid probe module: parsing the object`},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.opts.Flags = flags(native, load.ServerFlags, []string{"--ebpf-enabled", "--ebpf-collect-interval=1s"})
			server := start(t, c.opts)
			drive(t, server, load.Options{Duration: 2 * time.Second})
			log, err := server.Log()
			require.NoError(t, err)
			lines := regexp.MustCompile(`.*eBPF observation.*`).FindAllString(log, -1)
			require.Len(t, lines, 1)
			require.Contains(t, lines[0], "eBPF observation is off; the server runs without it")
			require.Regexp(t, c.cause, lines[0])
			page, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_module_up")
			require.NoError(t, err)
			modules := len(runservice.DefaultModules())
			if c.name == "without tracefs" {
				// Iterators need no tracefs.
				modules = 2
			}
			require.Len(t, page, modules)
			require.Zero(t, page.Sum())
			require.Eventually(t, func() bool {
				samples, err := ask.BydbQL(server.HTTP)(t.Context(), "ebpf_module_up")
				return err == nil && len(samples) == modules && samples.Sum() == 0
			}, patience, 500*time.Millisecond)
			_, err = ask.Prometheus(server.Metrics)(t.Context(), "ebpf_io_operations_total")
			require.ErrorIs(t, err, ask.ErrAbsent)
		})
	}
}

// TestDisabled checks that a disabled service makes no bpf(2) call, has no goroutine and no metric. The same checks
// find all three in an enabled one.
func TestDisabled(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		t.Run(fmt.Sprint("enabled ", enabled), func(t *testing.T) {
			trace := filepath.Join(t.TempDir(), "trace")
			server := start(t, banyandtest.Options{
				Wrapper: []string{"strace", "-D", "-f", "-qq", "-e", "signal=none", "-e", "trace=bpf,perf_event_open", "-o", trace},
				Flags:   []string{fmt.Sprint("--ebpf-enabled=", enabled), "--ebpf-collect-interval=1s"},
			})
			calls, err := os.ReadFile(trace)
			require.NoError(t, err)
			require.Equal(t, enabled, len(calls) > 0, string(calls))
			stacks := fetch(t, "http://"+server.Pprof+"/debug/pprof/goroutine?debug=2")
			require.Contains(t, stacks, "goroutine 1 ")
			require.Equal(t, enabled, strings.Contains(stacks, "skywalking-banyandb/ebpf/"))
			page := fetch(t, "http://"+server.Metrics+"/metrics")
			require.Contains(t, page, "banyandb_")
			require.Equal(t, enabled, strings.Contains(page, "banyandb_ebpf_"))
		})
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(text)
}

// TestFlags checks that the flags are in the help of every role, and that an invalid value is refused before the start,
// with the allowed values.
func TestFlags(t *testing.T) {
	for _, role := range []string{"standalone", "data", "liaison"} {
		t.Run(role, func(t *testing.T) {
			run := func(args ...string) (string, error) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				cmd := exec.CommandContext(ctx, banyandtest.DefaultBinary(), append([]string{role}, args...)...)
				cmd.Dir = t.TempDir()
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			help, err := run("--help")
			require.NoError(t, err)
			require.Regexp(t, `--ebpf-enabled +observe this process`, help)
			require.Regexp(t, `--ebpf-modules strings .*\(default io,cache,memory,sched\)`, help)
			require.Regexp(t, `--ebpf-collect-interval duration .*\(default 5s\)`, help)
			for flag, allowed := range map[string]string{
				"--ebpf-modules=nosuch": "(available: block, cache, io, lock, memory, net, sched, sched_trace)", "--ebpf-collect-interval=0": "out of range (100ms to 1h0m0s)",
			} {
				out, err := run(flag)
				var exit *exec.ExitError
				require.ErrorAs(t, err, &exit)
				require.Contains(t, out, allowed)
			}
		})
	}
}

// TestConfiguration checks that the environment and the server's configuration file can set the flags.
func TestConfiguration(t *testing.T) {
	t.Run("environment", func(t *testing.T) {
		server := start(t, banyandtest.Options{Env: []string{"BYDB_EBPF_ENABLED=true", "BYDB_EBPF_MODULES=cache"}})
		requireModules(t, server, "cache")
	})
	t.Run("file", func(t *testing.T) {
		config := filepath.Join(t.TempDir(), "standalone.yaml")
		require.NoError(t, os.WriteFile(config, []byte("ebpf-enabled: true\nebpf-modules: [io, cache]\nebpf-collect-interval: 2s\n"), 0o600))
		// The server looks for the file in its working directory.
		server := start(t, banyandtest.Options{Wrapper: []string{"env", "-C", filepath.Dir(config)}})
		requireModules(t, server, "cache", "io")
	})
}

func requireModules(t *testing.T, server *banyandtest.Server, want ...string) {
	t.Helper()
	samples, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_module_up")
	require.NoError(t, err)
	var modules []string
	for _, s := range samples {
		require.InDelta(t, 1, s.Value, 0)
		modules = append(modules, s.Labels["module"])
	}
	slices.Sort(modules)
	require.Equal(t, want, modules)
}

// TestPlanCommand checks that the command prints how each hook is attached, or, with a nonzero exit status, why none
// is.
func TestPlanCommand(t *testing.T) {
	kprobetest.Require(t)
	out, err := exec.Command(banyandtest.DefaultBinary(), "ebpf", "plan").CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	for _, row := range []string{`io +syscall +(fentry|tp_btf)`, `cache +fill +tp_btf`, `memory +memcg +tp_btf`} {
		require.Regexp(t, `(?m)^`+row, string(out))
	}
	blind := exec.Command(banyandtest.DefaultBinary(), "ebpf", "plan", "--ebpf-modules=io")
	blind.Env = append(os.Environ(), "TMPDIR=/nonexistent")
	out, err = blind.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	require.Regexp(t, `(?m)^Warning: no metric is verified.*/nonexistent`, string(out))
	out, err = exec.Command("setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin", "--", banyandtest.DefaultBinary(), "ebpf", "plan").CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Regexp(t, `(?m)^io +all +- +CAP_BPF and CAP_PERFMON missing`, string(out))
	require.Contains(t, string(out), "What to do for io: give the process CAP_BPF and CAP_PERFMON")
	out, err = exec.Command(banyandtest.DefaultBinary(), "ebpf", "plan", "--ebpf-attach=uprobe").CombinedOutput()
	require.ErrorAs(t, err, &exit)
	require.Contains(t, string(out), "available: auto, fentry, tp_btf, tracepoint, kprobe")
}
