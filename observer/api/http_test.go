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

package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api/page"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

// control is a fake Control.
type control struct {
	err       error
	reload    error
	available []string
	config    observer.Config
	mu        sync.Mutex
}

func (c *control) Available() []string { return c.available }

func (c *control) Config() observer.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config
}

func (c *control) Configure(_ context.Context, change func(observer.Config) (observer.Config, error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	config, err := change(c.config)
	if err != nil {
		return err
	}
	if c.err == nil {
		c.config = config
	}
	return c.err
}

func (c *control) Reload(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reload == nil {
		c.config.LatencySampling = 77
	}
	return c.reload
}

func (c *control) fail(configure, reload error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.reload = configure, reload
}

// listen serves an API on loopback, unless the options have an address.
func listen(t *testing.T, a *api.API, o api.ListenOptions) *api.Server {
	t.Helper()
	if o.Report == nil {
		o.Report = func(err error) { t.Logf("reported: %v", err) }
	}
	if o.HTTPAddr == "" && o.GRPCAddr == "" {
		o.HTTPAddr, o.GRPCAddr = "0", ":0"
	}
	s, err := a.Listen(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// client makes one connection for each request, so that none is left.
func client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
}

type response struct {
	header http.Header
	body   string
	status int
}

// request sends a request with headers "Name: value".
func request(t *testing.T, method, url, body string, headers ...string) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Set(name, value)
	}
	answer, err := client().Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return response{header: answer.Header, status: answer.StatusCode, body: string(content)}
}

// refused requires an error in JSON.
func refused(t *testing.T, r response, status int, cause string) {
	t.Helper()
	require.Equal(t, status, r.status, r.body)
	require.Equal(t, "application/json", r.header.Get("Content-Type"))
	var answer map[string]string
	require.NoError(t, json.Unmarshal([]byte(r.body), &answer), r.body)
	require.Equal(t, []string{"error", "remedy"}, slices.Sorted(maps.Keys(answer)))
	require.Contains(t, answer["error"], cause)
}

const jsonType = "Content-Type: application/json"

func TestStats(t *testing.T) {
	source := fake.New(t, "io", "cache")
	source.Set("ebpf_io_operations_total", 12, "read", "ok")
	source.Observe("ebpf_io_duration_seconds", 500_000_000, map[int]uint64{0: 1, 2: 4}, "read")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	url := "http://" + s.HTTPAddr().String() + "/api/v1/stats"

	type answer struct {
		Time    time.Time `json:"time"`
		Metrics []struct {
			Name, Module, Kind, Unit, Help string
			Bounds                         []float64
			Series                         []map[string]any
		}
		CPU float64 `json:"process_cpu_seconds"`
	}
	get := func(query string) answer {
		r := request(t, http.MethodGet, url+query, "")
		require.Equal(t, http.StatusOK, r.status)
		require.Equal(t, "application/json", r.header.Get("Content-Type"))
		require.Equal(t, "no-store", r.header.Get("Cache-Control"))
		var a answer
		require.NoError(t, json.Unmarshal([]byte(r.body), &a))
		return a
	}
	schema, err := observer.BuiltIn().Describe("io", "cache")
	require.NoError(t, err)
	all := get("")
	require.Len(t, all.Metrics, len(schema))
	require.WithinDuration(t, time.Now(), all.Time, time.Minute)
	require.Positive(t, all.CPU)
	counted := 0
	for i, m := range all.Metrics {
		require.Equal(t, schema[i].Name, m.Name)
		require.Equal(t, schema[i].Help, m.Help)
		require.Equal(t, schema[i].Kind.String(), m.Kind)
		require.NotNil(t, m.Series, "a metric without series has an empty list")
		counted += len(m.Series)
	}
	require.Equal(t, 2, counted, "a series that has counted nothing is left out")

	one := get("?name=ebpf_io_operations_total").Metrics
	require.Len(t, one, 1)
	require.Empty(t, one[0].Unit)
	require.Equal(t, []map[string]any{{"labels": map[string]any{"op": "read", "result": "ok"}, "value": 12.}}, one[0].Series)

	histogram := get("?module=io&name=ebpf_io_duration_seconds").Metrics
	require.Len(t, histogram, 1)
	require.Equal(t, "seconds", histogram[0].Unit)
	require.Equal(t, "histogram", histogram[0].Kind)
	buckets := make([]any, len(histogram[0].Bounds)+1)
	for i := range buckets {
		buckets[i] = 5.
		if i < 2 {
			buckets[i] = 1.
		}
	}
	require.Equal(t, []map[string]any{
		{"labels": map[string]any{"op": "read"}, "count": 5., "sum": 0.5, "buckets": buckets},
	}, histogram[0].Series)
	require.Len(t, get("?name=ebpf_io_operations_total&name=ebpf_cache_filled_pages_total").Metrics, 2)
	require.Equal(t, "pages", get("?name=ebpf_cache_filled_pages_total").Metrics[0].Unit)
	require.Equal(t, "bytes", get("?name=ebpf_io_bytes_total").Metrics[0].Unit)
	require.Empty(t, get("?module=io&name=ebpf_cache_filled_pages_total").Metrics)
	for _, m := range get("?module=cache").Metrics {
		require.Equal(t, "cache", m.Module)
	}
	refused(t, request(t, http.MethodGet, url+"?modul=io", ""), http.StatusBadRequest, `no parameter "modul"`)

	source.Fail(observer.ErrClosed, nil)
	refused(t, request(t, http.MethodGet, url, ""), http.StatusServiceUnavailable, observer.ErrClosed.Error())
}

func TestMetrics(t *testing.T) {
	source := fake.New(t, "io")
	source.Set("ebpf_io_operations_total", 12, "read", "ok")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	url := "http://" + s.HTTPAddr().String() + "/metrics"
	text := request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusOK, text.status)
	require.Contains(t, text.header.Get("Content-Type"), "text/plain; version=0.0.4")
	require.Contains(t, text.body, "\nebpf_io_operations_total{op=\"read\",result=\"ok\"} 12\n")
	require.NotContains(t, text.body, "# EOF")
	open := request(t, http.MethodGet, url, "", "Accept: application/openmetrics-text; version=1.0.0")
	require.Contains(t, open.header.Get("Content-Type"), "application/openmetrics-text; version=1.0.0")
	require.Contains(t, open.body, "\n# TYPE ebpf_io_operations counter\n")
	require.Contains(t, open.body, "\nebpf_io_operations_total{op=\"read\",result=\"ok\"} 12.0\n")
	require.True(t, strings.HasSuffix(open.body, "# EOF\n"))

	source.Fail(observer.ErrClosed, nil)
	refused(t, request(t, http.MethodGet, url, ""), http.StatusServiceUnavailable, "taking a snapshot: "+observer.ErrClosed.Error())
}

func TestHealth(t *testing.T) {
	source := fake.New(t, "io")
	io := observer.ModuleHealth{
		Name: "io", Up: true, MapMemory: 1, Overhead: 100 * time.Millisecond, Level: observer.LevelSampled, Missed: 2,
		Shed: "it cost much", ShedHooks: []string{"x"}, OverheadAssumed: true,
		Feeds: map[string][]string{"syscall": {"m", "n"}},
		Plan: kprobe.Plan{{
			Name: "syscall", Attachment: kprobe.TPBTF, Variant: "tp_btf",
			Refused: []kprobe.Refusal{{Variant: "fentry", Attachment: kprobe.Fentry, Err: errors.New("no")}},
		}},
		Metrics: []observer.MetricHealth{{Name: "m", Verified: true}, {Name: "n", LeftOut: true, Reason: "wrong"}},
	}
	source.SetHealth(io, observer.ModuleHealth{Name: "net", Disabled: true, DisabledHooks: []string{"rx"}, Absent: []string{"a"}})
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	url := "http://" + s.HTTPAddr().String() + "/health"
	r := request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusOK, r.status)
	require.JSONEq(t, `{"status":"up","warnings":[],"modules":[
		{"name":"io","up":true,"disabled":false,"cause":"","remedy":"","level":"sampled","overhead_seconds":0.1,"map_memory_bytes":1,"missed_runs":2,
		 "shed":"it cost much","shed_hooks":["x"],"overhead_assumed":true,"absent":[],"disabled_hooks":[],
		 "hooks":[{"name":"syscall","attach":"tp_btf","variant":"tp_btf","refused":[{"variant":"fentry","attach":"fentry","cause":"no"}],"metrics":["m","n"]}],
		 "metrics":[{"name":"m","verified":true,"left_out":false,"reason":""},{"name":"n","verified":false,"left_out":true,"reason":"wrong"}]},
		{"name":"net","up":false,"disabled":true,"cause":"","remedy":"","level":"full","overhead_seconds":0,"map_memory_bytes":0,"missed_runs":0,
		 "shed":"","shed_hooks":[],"overhead_assumed":false,"absent":["a"],"disabled_hooks":["rx"],"hooks":[],"metrics":[]}]}`, r.body)

	source.SetHealth(io, observer.ModuleHealth{Name: "cache", Cause: "not permitted", Remedy: "setcap"})
	r = request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Contains(t, r.body, `"status":"down"`)
	require.Contains(t, r.body, `"cause":"not permitted","remedy":"setcap"`)

	// A warning does not change the status, except for one that says that the counts are not reliable.
	source.SetHealth(io)
	source.Warn(observer.Warning{Cause: "a cause", Remedy: "a remedy"})
	r = request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusOK, r.status)
	require.Contains(t, r.body, `"status":"up","warnings":[{"cause":"a cause","remedy":"a remedy","degraded":false}]`)
	source.Warn(observer.Warning{Cause: "a cause", Degraded: true})
	r = request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	require.Contains(t, r.body, `"status":"degraded","warnings":[{"cause":"a cause","remedy":"","degraded":true}]`)
}

func TestConfig(t *testing.T) {
	c := &control{config: base()}
	c.available = []string{"block", "cache", "io"}
	a := api.New(fake.New(t, "io", "cache"), c)
	url := "http://" + listen(t, a, api.ListenOptions{}).HTTPAddr().String() + "/api/v1/config"
	const answer = `{"config":{"modules":["io","cache"],"disabled_hooks":{"io":["syscall"]},"latency_sampling":%d,` +
		`"collect_interval":"%s","max_overhead_percent":1},"available":["block","cache","io"],"read_only":false}`
	r := request(t, http.MethodGet, url, "")
	require.Equal(t, http.StatusOK, r.status)
	require.JSONEq(t, fmt.Sprintf(answer, 1, "5s"), r.body)

	host := strings.Split(url, "/")[2]
	for i, headers := range [][]string{
		{jsonType},
		{"Content-Type: application/json; charset=utf-8", "Origin: http://" + host},
		{jsonType, "Sec-Fetch-Site: same-origin", "Origin: http://" + host},
	} {
		r = request(t, http.MethodPost, url, fmt.Sprintf(`{"latency_sampling":%d,"collect_interval":"1s"}`, i+16), headers...)
		require.Equal(t, http.StatusOK, r.status, r.body)
		require.JSONEq(t, fmt.Sprintf(answer, i+16, "1s"), r.body)
		require.Equal(t, uint32(i+16), c.Config().LatencySampling)
	}

	// A refused change changes nothing.
	before := c.Config()
	post := func(body string, headers ...string) response {
		return request(t, http.MethodPost, url, body, headers...)
	}
	refused(t, post(`{"latency_sampling":0}`, jsonType), http.StatusBadRequest, "latency_sampling: 0 is out of range (1 to 1024)")
	refused(t, post(`{"collect_interval":"1s","latency_samplin":2}`, jsonType), http.StatusBadRequest, "field latency_samplin not found")
	refused(t, post("latency_sampling: 2", jsonType), http.StatusBadRequest, "not JSON")
	refused(t, post("", jsonType), http.StatusBadRequest, "not JSON")
	refused(t, post(`{"latency_sampling":2}`), http.StatusUnsupportedMediaType, `the Content-Type is "", not application/json`)
	refused(t, post(`{"latency_sampling":2}`, "Content-Type: text/plain"), http.StatusUnsupportedMediaType, `"text/plain"`)
	refused(t, post(`{"latency_sampling":2}`, jsonType, "Origin: http://evil.example"), http.StatusForbidden, "another site")
	refused(t, post(`{"latency_sampling":2}`, jsonType, "Origin: null"), http.StatusForbidden, "another site")
	refused(t, post(`{"latency_sampling":2}`, jsonType, "Sec-Fetch-Site: cross-site"), http.StatusForbidden, "another site")
	refused(t, post(`{"latency_sampling":2}`, jsonType, "Host: evil.example", "Origin: http://evil.example"), http.StatusForbidden, `host "evil.example"`)
	refused(t, post(`{"modules":["`+strings.Repeat("x", 70_000)+`"]}`, jsonType), http.StatusRequestEntityTooLarge, "larger than 65536 bytes")
	c.fail(fmt.Errorf("%w %q (available: io)", observer.ErrUnknownModule, "oi"), nil)
	refused(t, post(`{"modules":["oi"]}`, jsonType), http.StatusBadRequest, `unknown module "oi" (available: io)`)
	c.fail(errors.New("the kernel says no"), nil)
	refused(t, post(`{"modules":["net"]}`, jsonType), http.StatusInternalServerError, "the kernel says no")
	require.Equal(t, before, c.Config())

	reload := func() response { return request(t, http.MethodPost, url+"/reload", "", jsonType) }
	r = reload()
	require.Equal(t, http.StatusOK, r.status)
	require.JSONEq(t, fmt.Sprintf(answer, 77, "1s"), r.body)
	c.fail(nil, fmt.Errorf("no configuration file: %w", errors.ErrUnsupported))
	refused(t, reload(), http.StatusNotImplemented, "no configuration file")
	_, err := api.Decode(base(), []byte("oops"))
	c.fail(nil, err)
	refused(t, reload(), http.StatusUnprocessableEntity, "not a mapping")
	refused(t, request(t, http.MethodPost, url+"/reload", ""), http.StatusUnsupportedMediaType, "not application/json")
	refused(t, request(t, http.MethodPost, url+"/reload", strings.Repeat(" ", 70_000), jsonType), http.StatusRequestEntityTooLarge, "larger than")
}

// TestQueries checks what is told of each query, the order of both lists, and the distributions on /metrics.
func TestQueries(t *testing.T) {
	source := fake.New(t, "io")
	url := "http://" + listen(t, api.New(source, nil), api.ListenOptions{}).HTTPAddr().String()
	refused(t, request(t, http.MethodGet, url+"/api/v1/queries", ""), http.StatusNotImplemented, "since events are not attributed to works")

	source.Receipts = new(observer.Ledger)
	require.JSONEq(t, `{"fields":[],"newest":[],"most_expensive":[],"refused":0}`, request(t, http.MethodGet, url+"/api/v1/queries", "").body)
	refused(t, request(t, http.MethodGet, url+"/api/v1/queries?catalog=stream", ""), http.StatusBadRequest, `there is no parameter "catalog"`)

	begun := time.Now().UTC().Truncate(time.Second)
	for i, waited := range []uint64{2e9, 1e9} {
		source.Receipts.Add(&observer.Entry{
			Begun: begun, Took: 3 * time.Second, Work: observer.Work{Name: "query", Catalog: "stream"},
			Subject: observer.Subject{Group: "g", Name: fmt.Sprint("n", i)},
			Receipt: observertest.Receipt([]observer.ReceiptField{{Name: "io_read_bytes", Unit: "bytes", Help: "B."}, {Name: "io_read_seconds", Unit: "seconds", Help: "S."}}, 4096, waited),
		})
	}
	one := func(name, waited string) string {
		return fmt.Sprintf(`{"time":%q,"work":"query","catalog":"stream","group":"g","name":%q,"duration_seconds":3,"waited_seconds":%s,
			"receipt":{"io_read_bytes":4096,"io_read_seconds":%s}}`, begun.Format(time.RFC3339), name, waited, waited)
	}
	require.JSONEq(t, `{"fields":[{"name":"io_read_bytes","unit":"bytes","help":"B."},{"name":"io_read_seconds","unit":"seconds","help":"S."}],
		"newest":[`+one("n1", "1")+`,`+one("n0", "2")+`],"most_expensive":[`+one("n0", "2")+`,`+one("n1", "1")+`],"refused":0}`,
		request(t, http.MethodGet, url+"/api/v1/queries", "").body)
	metrics := request(t, http.MethodGet, url+"/metrics", "").body
	for _, line := range []string{
		"# HELP ebpf_query_io_read_bytes Per query: B.", `ebpf_query_io_read_bytes_sum{catalog="stream"} 8192`, `ebpf_query_io_read_bytes_count{catalog="stream"} 2`,
		`ebpf_query_io_read_bytes_bucket{catalog="stream",le="1024"} 0`, `ebpf_query_io_read_bytes_bucket{catalog="stream",le="4096"} 2`,
		`ebpf_query_io_read_seconds_sum{catalog="stream"} 3`, `ebpf_query_duration_seconds_sum{catalog="stream"} 6`,
	} {
		require.Contains(t, metrics, line+"\n")
	}
}

// TestReadOnly: without a control nothing can be changed, and what is known is returned.
func TestReadOnly(t *testing.T) {
	source := fake.New(t, "io", "cache")
	source.SetHealth(
		observer.ModuleHealth{Name: "io", Up: true, DisabledHooks: []string{"syscall"}}, observer.ModuleHealth{Name: "cache", Disabled: true})
	url := "http://" + listen(t, api.New(source, nil), api.ListenOptions{}).HTTPAddr().String() + "/api/v1/config"
	r := request(t, http.MethodGet, url, "")
	require.JSONEq(t, `{"config":{"modules":["io"],"disabled_hooks":{"io":["syscall"]},"latency_sampling":0,"collect_interval":"0s","max_overhead_percent":0},
		"available":["io","cache"],"read_only":true}`, r.body)
	refused(t, request(t, http.MethodPost, url, "{}", jsonType), http.StatusForbidden, "read-only")
	refused(t, request(t, http.MethodPost, url+"/reload", "", jsonType), http.StatusForbidden, "read-only")
}

func TestRoutes(t *testing.T) {
	source := fake.New(t, "io")
	source.Receipts = new(observer.Ledger)
	a := api.New(source, &control{config: base()})
	url := "http://" + listen(t, a, api.ListenOptions{}).HTTPAddr().String()
	for path, allow := range map[string]string{
		"/": "GET, HEAD", "/index.html": "GET, HEAD", "/metrics": "GET, HEAD", "/health": "GET, HEAD", "/api/v1/stats": "GET, HEAD",
		"/api/v1/queries": "GET, HEAD",
		"/api/v1/config":  "GET, HEAD, POST", "/api/v1/config/reload": "POST",
	} {
		r := request(t, http.MethodDelete, url+path, "")
		refused(t, r, http.StatusMethodNotAllowed, "DELETE is not allowed here")
		require.Equal(t, allow, r.header.Get("Allow"), path)
		if strings.HasPrefix(allow, "GET") {
			head := request(t, http.MethodHead, url+path, "")
			require.Equal(t, http.StatusOK, head.status, path)
			require.Empty(t, head.body)
		}
	}
	for _, path := range []string{"/nothing", "/api/v1/stats/", "/api", "/health/x", "/../../etc/passwd", "/%2e%2e/http.go", "/assets", "/."} {
		r := request(t, http.MethodGet, url+path, "")
		if path == "/." {
			continue
		}
		refused(t, r, http.StatusNotFound, "there is no /")
	}

	want, err := page.Files.Open("index.html")
	require.NoError(t, err)
	index, err := io.ReadAll(want)
	require.NoError(t, err)
	r := request(t, http.MethodGet, url+"/", "")
	require.Equal(t, string(index), r.body)
	require.Equal(t, "text/html; charset=utf-8", r.header.Get("Content-Type"))
	for name, value := range map[string]string{
		"Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
	} {
		require.Equal(t, value, r.header.Get(name))
		require.Equal(t, value, request(t, http.MethodGet, url+"/health", "").header.Get(name))
	}
}

// TestMounted: a host mounts the API below a path of its own server.
func TestMounted(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle("/ebpf/", http.StripPrefix("/ebpf", api.New(fake.New(t, "io"), nil).Handler()))
	server := httptest.NewServer(mux)
	defer server.Close()
	require.Equal(t, http.StatusOK, request(t, http.MethodGet, server.URL+"/ebpf/health", "").status)
	require.Contains(t, request(t, http.MethodGet, server.URL+"/ebpf/", "").header.Get("Content-Type"), "text/html")
	refused(t, request(t, http.MethodGet, server.URL+"/ebpf/nothing", ""), http.StatusNotFound, "there is no /nothing")
}

// TestManyClients: 200 clients at once all get the same, and one that stops reading does not affect them.
func TestManyClients(t *testing.T) {
	source := fake.New(t, "io")
	source.Set("ebpf_io_operations_total", 12, "read", "ok")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	stuck, err := net.Dial("tcp", s.HTTPAddr().String())
	require.NoError(t, err)
	defer stuck.Close()
	for range 200 {
		_, err = io.WriteString(stuck, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(t, err)
	}
	var clients sync.WaitGroup
	failures := make(chan error, 200)
	for range 200 {
		clients.Go(func() {
			answer, err := client().Get("http://" + s.HTTPAddr().String() + "/api/v1/stats?name=ebpf_io_operations_total")
			if err != nil {
				failures <- err
				return
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Contains(body, []byte(`"value":12`)) {
				failures <- fmt.Errorf("%w: %s", err, body)
			}
		})
	}
	clients.Wait()
	close(failures)
	for err := range failures {
		require.NoError(t, err)
	}
}

// TestHeaderLimit: too large a header is refused.
func TestHeaderLimit(t *testing.T) {
	s := listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{})
	conn, err := net.Dial("tcp", s.HTTPAddr().String())
	require.NoError(t, err)
	defer conn.Close()
	go func() {
		_, _ = io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 64<<10)+"\r\n\r\n")
	}()
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "431")
}
