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
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
)

const (
	// The numbers of configuration changes. First io is switched like the other modules, then it stays on and must not
	// miss a call.
	switchesOfAll    = 200
	switchesOfOthers = 800
	// pageEvery is the number of changes between two checks of the server's own page, which follows with a collection.
	pageEvery = 20
	// scrapeEvery is the same for the API's /metrics, which has what /api/v1/stats has and takes much longer to read.
	scrapeEvery = 4
)

// switchable are hooks that are switched individually. Those that this kernel lacks are left out.
var switchable = map[string][]string{
	"io": {"syscall"}, "cache": {"lookup", "fill", "delete", "dirty", "wait"}, "memory": {"direct", "kswapd", "scan", "resident", "oom"}, "sched": {"task"},
}

// TestSwitch changes modules, hooks, sampling and interval a thousand times under full load. It checks that no counter
// falls, that metrics that are off are gone and continue when they return, that a module that stays on counts
// everything, and that nothing leaks.
func TestSwitch(t *testing.T) {
	address := freeAddress(t)
	server := start(t, banyandtest.Options{Env: []string{fmt.Sprintf("GODEBUG=memprofilerate=%d", memProfileRate)}, Flags: flags(load.ServerFlags, []string{
		// On a busy machine the test takes more than ten minutes. Then the repairs of properties and of the schema copy
		// by copy_file_range up to the end of each file, and a call at the end of the file is not in /proc/PID/io.
		"--property-repair-enabled=false", "--schema-server-repair-quick-build-tree-time=24h",
		"--observability-modes=prometheus", "--ebpf-enabled", "--ebpf-collect-interval=100ms", "--ebpf-max-overhead=0", "--ebpf-http-addr=" + address,
	})})
	s := newSwitcher(t, server, address)
	finish := loadUntil(t, server)
	defer finish()
	// By then the load has opened all that it keeps open, and all series exist.
	time.Sleep(5 * time.Second)
	s.look(t)
	before := heldBy(t, s)

	watching := s.watchPage(t)
	begun := time.Now()
	s.change(t, switchesOfAll, "io", "cache", "memory", "sched")
	s.post(t, fmt.Sprintf(`{"modules":["io"],"disabled_hooks":{"io":[]},"latency_sampling":%d}`, s.config.LatencySampling))
	var first, last counters
	var ioFirst, ioLast processIO
	stopped(t, s.pid, func() { first, ioFirst = kernelCounters(t, s.pid, "io"), readProcessIO(t, s.pid) })
	s.change(t, switchesOfOthers, "cache", "memory", "sched")
	stopped(t, s.pid, func() { last, ioLast = kernelCounters(t, s.pid, "io"), readProcessIO(t, s.pid) })
	t.Logf("%d changes in %.1f s, %d reads of the server's page", switchesOfAll+switchesOfOthers, time.Since(begun).Seconds(), watching())

	requireProcessIO(t, last.since(first), ioFirst, ioLast)

	s.restore(t)
	s.saysWhatTheKernelHas(t)
	requireNoLeak(t, before, heldBy(t, s))
	stats := finish()
	require.NoError(t, stats.FirstError)
	for name, c := range map[string]load.Counts{"measure": stats.Measure, "stream": stats.Stream, "trace": stats.Trace} {
		require.Positive(t, c.Written, name)
		require.Positive(t, c.Rows, name)
		require.Zero(t, c.WriteErrors, name)
		require.Zero(t, c.QueryErrors, name)
	}
	t.Logf("wrote %d points, answered %d queries", stats.Total().Written, stats.Total().Queries)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	address, err := banyandtest.FreeAddress()
	require.NoError(t, err)
	return address
}

// loadUntil loads the server until the returned function is called, which may be called twice.
func loadUntil(t *testing.T, server *banyandtest.Server) func() load.Stats {
	t.Helper()
	conn, err := server.Dial()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var stats load.Stats
	var running sync.WaitGroup
	running.Go(func() {
		var err error
		// Small batches and pauses keep the stored data small, and thus the answers, which would otherwise take all CPU
		// time and memory.
		stats, err = load.Run(ctx, conn, load.Options{Batch: 20, Pause: 50 * time.Millisecond})
		assert.NoError(t, err)
	})
	return sync.OnceValue(func() load.Stats {
		cancel()
		running.Wait()
		assert.NoError(t, conn.Close())
		return stats
	})
}

// switcher changes a server's configuration, and knows what the server must then report.
type switcher struct {
	random  *rand.Rand
	server  *banyandtest.Server
	metrics map[string][]string // that this kernel feeds, by module
	feeds   map[string][]string // the hooks that feed a metric, by module/metric
	hooks   map[string][]string // that are attached, by module
	stats   *monotonic          // /api/v1/stats
	scraped *monotonic          // /metrics of the API
	page    *monotonic          // /metrics of the server
	initial observer.Config
	config  observer.Config // in force
	address string
	pid     int
}

func newSwitcher(t *testing.T, server *banyandtest.Server, address string) *switcher {
	t.Helper()
	s := &switcher{
		random: rand.New(rand.NewPCG(1, 2)), server: server, address: address, pid: server.PID(),
		metrics: map[string][]string{}, feeds: map[string][]string{}, hooks: map[string][]string{},
		stats: newMonotonic("/api/v1/stats"), scraped: newMonotonic("/metrics"), page: newMonotonic("the server's page"),
	}
	s.post(t, `{"disabled_hooks":{}}`)
	s.initial = s.config
	require.Equal(t, runservice.DefaultModules(), s.config.Modules)
	for _, m := range s.health(t).Modules {
		require.True(t, m.Up, m.Name)
		for _, h := range m.Hooks {
			if h.Attach != "" {
				s.hooks[m.Name] = append(s.hooks[m.Name], h.Name)
			}
		}
	}
	schema, err := observer.BuiltIn().Describe(runservice.DefaultModules()...)
	require.NoError(t, err)
	for _, m := range schema {
		s.feeds[m.Module+"/"+m.Name] = m.Hooks
		if m.ByFile != "" {
			s.feeds[m.Module+"/"+m.ByFile] = m.Hooks
		}
	}
	for _, m := range s.ask(t) {
		s.metrics[m.Module] = append(s.metrics[m.Module], m.Name)
	}
	require.Len(t, s.metrics, len(runservice.DefaultModules()))
	return s
}

// expected returns the metrics, as module/metric, that the server must have with its configuration.
func (s *switcher) expected() map[string]bool {
	names := map[string]bool{}
	for _, module := range s.config.Modules {
		for _, name := range s.metrics[module] {
			id := module + "/" + name
			if len(s.feeds[id]) == 0 || slices.ContainsFunc(s.feeds[id], func(hook string) bool {
				return slices.Contains(s.hooks[module], hook) && !slices.Contains(s.config.DisabledHooks[module], hook)
			}) {
				names[id] = true
			}
		}
	}
	return names
}

// change makes the given number of random configuration changes, one setting at a time, and checks after each.
func (s *switcher) change(t *testing.T, times int, modules ...string) {
	t.Helper()
	for n := range times {
		var body string
		module := modules[s.random.IntN(len(modules))]
		switch s.random.IntN(8) {
		case 0:
			body = fmt.Sprintf(`{"latency_sampling":%d}`, 1+s.random.IntN(1024))
		case 1:
			body = fmt.Sprintf(`{"collect_interval":"%dms"}`, 100+s.random.IntN(900))
		case 2, 3, 4:
			names := s.config.DisabledHooks[module]
			hook := switchable[module][s.random.IntN(len(switchable[module]))]
			if !slices.Contains(s.hooks[module], hook) {
				hook = switchable[module][0]
			}
			all := maps.Clone(s.config.DisabledHooks)
			if all[module] = toggled(names, hook); len(all[module]) == 0 {
				delete(all, module)
			}
			body = encode(t, map[string]any{"disabled_hooks": all})
		default:
			body = encode(t, map[string]any{"modules": toggled(s.config.Modules, module)})
		}
		s.post(t, body)
		since := time.Now()
		s.lookAtStats(t)
		if n%scrapeEvery == 0 {
			s.scrape(t)
		}
		if n%pageEvery == 0 {
			s.pageFollows(t, since)
		}
	}
}

// toggled returns the names without name, or with it if it was not among them.
func toggled(names []string, name string) []string {
	if i := slices.Index(names, name); i >= 0 {
		return slices.Delete(slices.Clone(names), i, i+1)
	}
	return append(slices.Clone(names), name)
}

func encode(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}

// restore restores the initial configuration, and checks that all series are back.
func (s *switcher) restore(t *testing.T) {
	t.Helper()
	s.post(t, encode(t, s.initial))
	since := time.Now()
	s.look(t)
	require.Len(t, s.expected(), len(slices.Concat(slices.Collect(maps.Values(s.metrics))...)))
	s.pageFollows(t, since)
	status, body := s.request(t, http.MethodGet, "/health", "")
	require.Equal(t, http.StatusOK, status, body)
}

func (s *switcher) look(t *testing.T) {
	t.Helper()
	s.lookAtStats(t)
	s.scrape(t)
}

// lookAtStats requires that /api/v1/stats has exactly the configured metrics, and that no value has fallen.
func (s *switcher) lookAtStats(t *testing.T) {
	t.Helper()
	names := map[string]bool{}
	values := map[string]float64{}
	for _, m := range s.ask(t) {
		id := m.Module + "/" + m.Name
		names[id] = true
		if m.Kind == "gauge" {
			continue
		}
		for _, one := range m.Series {
			labels := keyOf(one.Labels)
			if m.Kind == "counter" {
				values[id+labels] = *one.Value
				continue
			}
			require.Equal(t, one.Count, one.Buckets[len(one.Buckets)-1], id+labels)
			require.True(t, slices.IsSorted(one.Buckets), id+labels)
			values[id+labels+" count"], values[id+labels+" sum"] = float64(one.Count), one.Sum
			for i, n := range one.Buckets {
				values[fmt.Sprint(id, labels, " bucket ", i)] = float64(n)
			}
		}
	}
	expected := s.expected()
	require.Equal(t, expected, names, "the metrics of /api/v1/stats")
	require.NoError(t, s.stats.see(values))
	require.NoError(t, s.stats.complete(values, func(key string) bool { return expected[strings.SplitN(key, "{", 2)[0]] }))
}

// scrape requires the same of /metrics.
func (s *switcher) scrape(t *testing.T) {
	t.Helper()
	families, err := ask.Scrape(t.Context(), s.address)
	require.NoError(t, err)
	values := countersOf(families, "ebpf_")
	require.NoError(t, s.scraped.see(values))
	require.NoError(t, s.scraped.complete(values, s.wanted()))
	require.Empty(t, s.unwanted(families, ""), "on /metrics")
}

// wanted returns a function that reports whether a page's series belongs to a module's metric that the server must
// have. It leaves out the server's own state.
func (s *switcher) wanted() func(key string) bool {
	expected := s.expected()
	return func(key string) bool {
		module, name := ownerOf(key)
		return module != "" && expected[module+"/"+name]
	}
}

// unwanted returns the metrics of modules on a page that the server must not have.
func (s *switcher) unwanted(families map[string]*dto.MetricFamily, prefix string) []string {
	expected := s.expected()
	var names []string
	for family := range families {
		if name, ours := strings.CutPrefix(family, prefix); ours {
			if module, metric := ownerOf(name); module != "" && !expected[module+"/"+metric] {
				names = append(names, family)
			}
		}
	}
	return names
}

// ownerOf returns the module and the name of the metric of a series, which may be part of a histogram. The server's own
// state has no module.
func ownerOf(series string) (module, metric string) {
	name, _, _ := strings.Cut(series, "{")
	rest, ours := strings.CutPrefix(name, "ebpf_")
	for _, m := range runservice.DefaultModules() {
		if ours && strings.HasPrefix(rest, m+"_") {
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				name = strings.TrimSuffix(name, part)
			}
			return m, name
		}
	}
	return "", ""
}

// pageFollows waits until the server's own page has the configured metrics, which it has after a collection.
func (s *switcher) pageFollows(t *testing.T, since time.Time) {
	t.Helper()
	deadline := since.Add(patience)
	for {
		late := time.Now().After(deadline)
		families, values, err := s.seePage(t.Context())
		require.NoError(t, err)
		unwanted, missing := s.unwanted(families, "banyandb_"), s.page.complete(values, s.wanted())
		if len(unwanted) == 0 && missing == nil {
			return
		}
		if late {
			t.Fatalf("%s after the change the server's page has unwanted metrics %q; missing: %v", time.Since(since), unwanted, missing)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// seePage reads the server's own page.
func (s *switcher) seePage(ctx context.Context) (families map[string]*dto.MetricFamily, values map[string]float64, err error) {
	s.page.mu.Lock() // Pages are compared in the order in which they are read.
	defer s.page.mu.Unlock()
	if families, err = ask.Scrape(ctx, s.server.Metrics); err != nil {
		return nil, nil, err
	}
	ours := map[string]*dto.MetricFamily{}
	for name, f := range families {
		if native, ok := strings.CutPrefix(name, "banyandb_"); ok {
			ours[native] = f
		}
	}
	values = countersOf(ours, "ebpf_")
	return families, values, s.page.note(values)
}

// watchPage reads the server's own page continuously, also while a collection changes it, until the returned function
// is called, which returns the number of reads.
func (s *switcher) watchPage(t *testing.T) func() int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; looks++ {
			if _, _, err := s.seePage(t.Context()); !assert.NoError(t, err) {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
	return func() int {
		cancel()
		running.Wait()
		return looks
	}
}

// countersOf returns the values that must not fall: counters, and the parts of histograms.
func countersOf(families map[string]*dto.MetricFamily, prefix string) map[string]float64 {
	values := map[string]float64{}
	for name, family := range families {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			key := keyOf(labels)
			switch family.GetType() {
			case dto.MetricType_COUNTER:
				values[name+key] = m.GetCounter().GetValue()
			case dto.MetricType_HISTOGRAM:
				h := m.GetHistogram()
				values[name+"_count"+key], values[name+"_sum"+key] = float64(h.GetSampleCount()), h.GetSampleSum()
				for _, b := range h.GetBucket() {
					labels["le"] = strconv.FormatFloat(b.GetUpperBound(), 'g', -1, 64)
					values[name+"_bucket"+keyOf(labels)] = float64(b.GetCumulativeCount())
				}
			}
		}
	}
	return values
}

func keyOf(labels map[string]string) string { return "{" + ask.Sample{Labels: labels}.Key() + "}" }

// monotonic remembers the highest value of each series of a source.
type monotonic struct {
	highest map[string]float64
	source  string
	mu      sync.Mutex
}

func newMonotonic(source string) *monotonic {
	return &monotonic{highest: map[string]float64{}, source: source}
}

func (m *monotonic) see(values map[string]float64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.note(values)
}

// note returns an error if a series is lower than it has ever been, even if it was absent in between.
func (m *monotonic) note(values map[string]float64) error {
	for key, value := range values {
		if value < m.highest[key] {
			return fmt.Errorf("%s: %s fell from %v to %v", m.source, key, m.highest[key], value)
		}
		m.highest[key] = value
	}
	return nil
}

// complete returns an error if a wanted series that was there before is missing.
func (m *monotonic) complete(values map[string]float64, wanted func(key string) bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.highest {
		if _, there := values[key]; !there && wanted(key) {
			return fmt.Errorf("%s: %s is missing", m.source, key)
		}
	}
	return nil
}

// metricOfStats is a metric in the answer of /api/v1/stats.
type metricOfStats struct {
	Name, Module, Kind string
	Series             []struct {
		Labels  map[string]string
		Value   *float64
		Count   uint64
		Sum     float64
		Buckets []uint64
	}
}

func (s *switcher) ask(t *testing.T) []metricOfStats {
	t.Helper()
	var answer struct{ Metrics []metricOfStats }
	s.get(t, "/api/v1/stats", &answer)
	return answer.Metrics
}

type healthAnswer struct {
	Status  string
	Modules []struct {
		Name           string
		Hooks          []struct{ Name, Attach string }
		MapMemoryBytes uint64 `json:"map_memory_bytes"`
		Up             bool
	}
}

func (s *switcher) health(t *testing.T) (h healthAnswer) {
	t.Helper()
	s.get(t, "/health", &h)
	return h
}

func (s *switcher) get(t *testing.T, path string, into any) {
	t.Helper()
	status, body := s.request(t, http.MethodGet, path, "")
	require.Equal(t, http.StatusOK, status, body)
	require.NoError(t, json.Unmarshal([]byte(body), into), body)
}

// post changes the configuration, and requires that the server returns the previous one with the change applied.
func (s *switcher) post(t *testing.T, body string) {
	t.Helper()
	status, text := s.request(t, http.MethodPost, "/api/v1/config", body)
	require.Equal(t, http.StatusOK, status, "%s: %s", body, text)
	var answer struct{ Config observer.Config }
	require.NoError(t, json.Unmarshal([]byte(text), &answer), text)
	if s.config.Modules != nil {
		want, err := api.Decode(s.config, []byte(body))
		require.NoError(t, err)
		maps.DeleteFunc(want.DisabledHooks, func(_ string, hooks []string) bool { return len(hooks) == 0 })
		for _, hooks := range want.DisabledHooks {
			slices.Sort(hooks)
		}
		require.Equal(t, want, answer.Config, body)
	}
	s.config = answer.Config
}

func (s *switcher) request(t *testing.T, method, path, body string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.address+path, bytes.NewReader([]byte(body)))
	require.NoError(t, err)
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(data)
}

// saysWhatTheKernelHas requires that the API's values of io lie between two readings of the kernel's memory.
func (s *switcher) saysWhatTheKernelHas(t *testing.T) {
	t.Helper()
	before := kernelCounters(t, s.pid, "io")
	said := 0
	all := s.ask(t)
	after := kernelCounters(t, s.pid, "io")
	for _, m := range all {
		if m.Name != "ebpf_io_operations_total" {
			continue
		}
		for _, one := range m.Series {
			key := m.Name + "{" + one.Labels["op"] + "," + one.Labels["result"] + "}"
			require.LessOrEqual(t, float64(before[key]), *one.Value, key)
			require.GreaterOrEqual(t, float64(after[key]), *one.Value, key)
			said++
		}
	}
	require.Positive(t, said)
}

// held are the resources of a server that could leak.
type held struct {
	mapMemory map[string]uint64 // by module, in bytes
	bpf       map[string]int    // programs and maps by their ids, links by what they attach
	files     map[string]int    // descriptors by target, except those of data and of bpf
	observers int               // our goroutines
	heap      int               // in use and allocated by our code, as sampled, in bytes
	// These also depend on the load.
	goroutines, threads, rss int
}

var (
	bpfID      = regexp.MustCompile(`(?m)^(prog_id|map_id|link_type):\t(.*)$`)
	heapRecord = regexp.MustCompile(`(?m)^(\d+): (\d+) \[\d+: \d+\] @ `)
	numbers    = regexp.MustCompile(`\[\d+\]`)
)

// heldBy takes the lowest number of each kind in twenty readings: what is held briefly is not a leak. Each reading
// collects garbage, since what a sync.Pool holds is freed by the second collection only.
func heldBy(t *testing.T, s *switcher) held {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	h := held{mapMemory: map[string]uint64{}}
	for _, m := range s.health(t).Modules {
		h.mapMemory[m.Name] = m.MapMemoryBytes
	}
	for i := range 20 {
		one := lookAtHeld(t, s)
		if i == 0 {
			h.bpf, h.files, h.heap = one.bpf, one.files, one.heap
			h.observers, h.goroutines, h.threads, h.rss = one.observers, one.goroutines, one.threads, one.rss
		}
		h.bpf, h.files, h.heap = lowest(h.bpf, one.bpf), lowest(h.files, one.files), min(h.heap, one.heap)
		h.observers, h.goroutines = min(h.observers, one.observers), min(h.goroutines, one.goroutines)
		h.threads, h.rss = min(h.threads, one.threads), min(h.rss, one.rss)
		time.Sleep(50 * time.Millisecond)
	}
	return h
}

func lowest(a, b map[string]int) map[string]int {
	both := map[string]int{}
	for key, n := range a {
		if m := min(n, b[key]); m > 0 {
			both[key] = m
		}
	}
	return both
}

func lookAtHeld(t *testing.T, s *switcher) held {
	t.Helper()
	h := held{bpf: map[string]int{}, files: map[string]int{}, heap: heapOfOurs(t, s.server)}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.pid))
	require.NoError(t, err)
	for _, fd := range fds {
		target, linkErr := os.Readlink(fd)
		info, infoErr := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", s.pid, filepath.Base(fd)))
		switch ids := bpfID.FindAllString(string(info), -1); {
		case linkErr != nil || infoErr != nil:
			// The descriptor has just been closed.
		case len(ids) > 0:
			h.bpf[strings.Join(ids, " ")]++
		case !strings.HasPrefix(target, s.server.Root):
			h.files[numbers.ReplaceAllString(target, "")]++
		}
	}
	stacks := fetch(t, "http://"+s.server.Pprof+"/debug/pprof/goroutine?debug=2")
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		h.goroutines++
		if isOurs(stack) {
			h.observers++
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(status)) {
		fields := strings.Fields(line)
		switch fields[0] {
		case "Threads:":
			h.threads, err = strconv.Atoi(fields[1])
		case "VmRSS:":
			h.rss, err = strconv.Atoi(fields[1])
		}
		require.NoError(t, err)
	}
	return h
}

// isOurs reports whether a stack is of our code. Each message of the server passes through Intercept: what it does then is
// the server's.
func isOurs(stack string) bool {
	return strings.Contains(stack, "skywalking-banyandb/ebpf/") && !strings.Contains(stack, "ebpf/runservice.Intercept")
}

// requireNoLeak requires that our resources are the same as before. Of descriptors there may be fewer, since the server
// may have closed an idle connection. What depends on the load may grow by less than one for every two changes. Resident
// memory is not compared, since most of it is the server's.
func requireNoLeak(t *testing.T, before, after held) {
	t.Helper()
	t.Logf("%d objects of bpf, descriptors %v", len(after.bpf), after.files)
	t.Logf("our goroutines %d, all goroutines %d to %d, threads %d to %d, our heap %d to %d bytes, resident %d to %d KiB",
		after.observers, before.goroutines, after.goroutines, before.threads, after.threads, before.heap, after.heap, before.rss, after.rss)
	require.NotEmpty(t, before.bpf)
	require.Positive(t, before.observers)
	require.Equal(t, before.bpf, after.bpf, "programs, maps and links")
	for target, n := range after.files {
		require.LessOrEqual(t, n, before.files[target], "descriptors of %s", target)
	}
	require.Equal(t, before.mapMemory, after.mapMemory, "map memory")
	require.Equal(t, before.observers, after.observers, "our goroutines")
	require.LessOrEqual(t, after.heap, before.heap+maxGrownHeap, "our heap in bytes")
	require.LessOrEqual(t, after.goroutines, before.goroutines+maxGrown, "goroutines")
	require.LessOrEqual(t, after.threads, before.threads+maxGrown, "threads")
}

const (
	maxGrown = (switchesOfAll + switchesOfOthers) / 2
	// Two kilobytes per change. At this rate they are 128 samples; by default, at one per 512 KiB, they are four.
	maxGrownHeap   = 2 << 20
	memProfileRate = 16 << 10
)

// heapOfOurs estimates the heap that our code holds, in bytes, from the records of the heap profile whose stack is ours. A
// record is "1: 2048 [3: 6144] @ 0x...", objects and bytes that were sampled, followed by the stack.
func heapOfOurs(t *testing.T, server *banyandtest.Server) int {
	t.Helper()
	profile := fetch(t, "http://"+server.Pprof+"/debug/pprof/heap?gc=1&debug=1")
	require.Contains(t, profile, fmt.Sprintf(" @ heap/%d\n", 2*memProfileRate), "the profile's header has twice the rate")
	sum := 0.0
	for record := range strings.SplitSeq(profile, "\n\n") {
		if m := heapRecord.FindStringSubmatch(record); m != nil && isOurs(record) {
			objects, err := strconv.ParseFloat(m[1], 64)
			require.NoError(t, err)
			bytes, err := strconv.ParseFloat(m[2], 64)
			require.NoError(t, err)
			if objects > 0 {
				// The probability that an object of this size is sampled.
				sum += bytes / -math.Expm1(-bytes/objects/memProfileRate)
			}
		}
	}
	return int(sum)
}
