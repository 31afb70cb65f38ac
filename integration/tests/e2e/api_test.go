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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
)

// answer is the answer of a server's HTTP API.
type answer struct {
	body, kind string
	status     int
}

// say sends a request. Headers are "Name: value".
func say(ctx context.Context, client *http.Client, method, url, body string, headers ...string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{}, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		request.Header.Set(name, value)
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answer{string(data), response.Header.Get("Content-Type"), response.StatusCode}, err
}

func mustSay(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	a, err := say(t.Context(), http.DefaultClient, method, url, body, headers...)
	require.NoError(t, err)
	return a
}

// configOf returns the effective configuration from an answer.
func configOf(t *testing.T, a answer) (c observer.Config, available []string) {
	t.Helper()
	require.Equal(t, http.StatusOK, a.status, a.body)
	var answered struct {
		Config    observer.Config
		Available []string
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &answered), a.body)
	return answered.Config, answered.Available
}

func dialAPI(t *testing.T, address string, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// TestAPI checks that the real server's API returns over HTTP and gRPC what is in the kernel's memory, and that the
// server can be configured by the API, by its file and by a signal.
func TestAPI(t *testing.T) {
	httpAddr, grpcAddr := freeAddress(t), freeAddress(t)
	base := "http://" + httpAddr
	file := writeFile(t, "ebpf.yaml", "modules: [io, cache, sched]\ncollect_interval: 200ms\n")
	server := start(t, banyandtest.Options{Flags: []string{
		"--observability-modes=prometheus", "--ebpf-enabled", "--ebpf-http-addr=" + httpAddr, "--ebpf-grpc-addr=" + grpcAddr, "--ebpf-config-file=" + file,
	}})
	conn := dialAPI(t, grpcAddr)
	client := ebpfv1.NewEBPFMetricsClient(conn)

	t.Run("HTTP", func(t *testing.T) {
		health := mustSay(t, http.MethodGet, base+"/health", "")
		require.Equal(t, http.StatusOK, health.status, health.body)
		require.Contains(t, health.body, `"status":"up"`)
		require.Contains(t, mustSay(t, http.MethodGet, base+"/", "").kind, "text/html")

		// All sources are read between two readings of the kernel's memory.
		before := kernelCounters(t, server.PID(), "io")
		text := mustSay(t, http.MethodGet, base+"/metrics", "")
		open := mustSay(t, http.MethodGet, base+"/metrics", "", "Accept: application/openmetrics-text; version=1.0.0")
		stats := mustSay(t, http.MethodGet, base+"/api/v1/stats?name=ebpf_io_operations_total", "")
		got, err := client.GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{Names: []string{"ebpf_io_operations_total"}})
		require.NoError(t, err)
		after := kernelCounters(t, server.PID(), "io")
		require.Contains(t, text.kind, "text/plain")
		require.Contains(t, open.kind, "application/openmetrics-text")
		require.True(t, strings.HasSuffix(open.body, "# EOF\n"))
		const series = `ebpf_io_operations_total{op="write",result="ok"} `
		for name, value := range map[string]float64{
			"text": valueOf(t, text.body, series), "OpenMetrics": valueOf(t, open.body, series), "stats": statOf(t, stats.body), "gRPC": protoOf(t, got),
		} {
			require.LessOrEqual(t, float64(before["ebpf_io_operations_total{write,ok}"]), value, name)
			require.GreaterOrEqual(t, float64(after["ebpf_io_operations_total{write,ok}"]), value, name)
			require.Positive(t, value, name)
		}
	})

	t.Run("gRPC", func(t *testing.T) {
		health, err := client.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
		require.NoError(t, err)
		require.True(t, health.GetUp())
		require.Len(t, health.GetModules(), 3)
		standard, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "skywalking.ebpf.v1.EBPFMetrics"})
		require.NoError(t, err)
		require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, standard.GetStatus())
	})

	t.Run("a client that stops reading", func(t *testing.T) {
		slow := ebpfv1.NewEBPFMetricsClient(dialAPI(t, grpcAddr, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10)))
		stream, err := slow.StreamMetrics(t.Context(), &ebpfv1.StreamMetricsRequest{Interval: durationpb.New(100 * time.Millisecond)})
		require.NoError(t, err)
		first, err := stream.Recv()
		require.NoError(t, err)
		collected := func() float64 {
			samples, err := ask.Prometheus(server.Metrics)(t.Context(), "ebpf_io_operations_total")
			require.NoError(t, err)
			return samples.Sum()
		}
		sent, skipped := uint64(0), uint64(0)
		// The buffers must fill until the server can send no more, which takes longer on a slow machine.
		for pause := 8 * time.Second; skipped == 0; pause *= 2 {
			require.Less(t, pause, patience, "no interval was skipped")
			// Collection continues while nothing is read.
			for last, start := collected(), time.Now(); time.Since(start) < pause; time.Sleep(time.Second) {
				now := last
				require.Eventually(t, func() bool { now = collected(); return now > last }, patience, 50*time.Millisecond)
				last = now
			}
			// Sent and skipped snapshots add up to all intervals. A late snapshot may be off; then a later one must
			// match.
			read := time.Now()
			for off, taken := 0.0, first.GetSnapshot().GetTime().AsTime(); off > 2 || taken.Before(read); {
				require.Less(t, time.Since(read), patience, "off by %v intervals", off)
				message, err := stream.Recv()
				require.NoError(t, err)
				sent, skipped = sent+1, skipped+message.GetSkipped()
				taken = message.GetSnapshot().GetTime().AsTime()
				off = math.Abs(taken.Sub(first.GetSnapshot().GetTime().AsTime()).Seconds()*10 - float64(sent+skipped))
			}
		}
	})

	t.Run("200 clients", func(t *testing.T) {
		var clients sync.WaitGroup
		gate := make(chan struct{})
		served := make(chan int, 200)
		for i := range 200 {
			clients.Go(func() {
				<-gate
				served <- ask200(t, i, base, grpcAddr)
			})
		}
		close(gate)
		clients.Wait()
		close(served)
		sum := 0
		for n := range served {
			sum += n
		}
		require.Equal(t, 200*requestsOfClient, sum)
	})

	t.Run("configuration", func(t *testing.T) {
		config, available := configOf(t, mustSay(t, http.MethodGet, base+"/api/v1/config", ""))
		require.Equal(t, []string{"io", "cache", "sched"}, config.Modules)
		require.Equal(t, []string{"block", "cache", "io", "lock", "memory", "net", "sched", "sched_trace"}, available)
		require.Equal(t, 200*time.Millisecond, config.CollectInterval)

		wrong := mustSay(t, http.MethodPost, base+"/api/v1/config", `{"modules":["io"],"latency_sampling":0}`)
		require.Equal(t, http.StatusBadRequest, wrong.status)
		require.Contains(t, wrong.body, "out of range (1 to 1024)")
		same, _ := configOf(t, mustSay(t, http.MethodGet, base+"/api/v1/config", ""))
		require.Equal(t, config, same)
		// A module that was not open is opened and verified.
		changed, _ := configOf(t, mustSay(t, http.MethodPost, base+"/api/v1/config", `{"modules":["io","memory"],"latency_sampling":8}`))
		config.Modules, config.LatencySampling = []string{"io", "memory"}, 8
		require.Equal(t, config, changed)
		require.Eventually(t, func() bool { return slices.Equal(modulesOfPage(t, server), []string{"io", "memory"}) }, patience, 50*time.Millisecond)

		// The file overrides the flags. Fields that it does not set come from the flags.
		require.NoError(t, os.WriteFile(file, []byte("modules: [io, sched]\ndisabled_hooks: {}\n"), 0o600))
		reloaded, _ := configOf(t, mustSay(t, http.MethodPost, base+"/api/v1/config/reload", ""))
		want := observer.Config{
			Modules: []string{"io", "sched"}, DisabledHooks: map[string][]string{},
			LatencySampling: 1, MaxOverheadPercent: 2, CollectInterval: 5 * time.Second,
		}
		require.Equal(t, want, reloaded)
		require.NoError(t, os.WriteFile(file, []byte("modules: [nosuch]\n"), 0o600))
		refused := mustSay(t, http.MethodPost, base+"/api/v1/config/reload", "")
		require.NotEqual(t, http.StatusOK, refused.status)
		require.Contains(t, refused.body, `unknown module \"nosuch\"`)
		same, _ = configOf(t, mustSay(t, http.MethodGet, base+"/api/v1/config", ""))
		require.Equal(t, want, same)
		require.Equal(t, http.StatusUnprocessableEntity, refused.status, "the request is valid, the file is not")
	})

	t.Run("SIGHUP", func(t *testing.T) {
		require.NoError(t, os.WriteFile(file, []byte("modules: [sched]\nlatency_sampling: 4\n"), 0o600))
		require.NoError(t, syscall.Kill(server.PID(), syscall.SIGHUP))
		var config observer.Config
		require.Eventually(t, func() bool {
			config, _ = configOf(t, mustSay(t, http.MethodGet, base+"/api/v1/config", ""))
			return config.LatencySampling == 4
		}, patience, 50*time.Millisecond)
		require.Equal(t, []string{"sched"}, config.Modules)

		require.NoError(t, os.WriteFile(file, []byte("modules: [sched\n"), 0o600))
		require.NoError(t, syscall.Kill(server.PID(), syscall.SIGHUP))
		require.Eventually(t, func() bool {
			log, err := server.Log()
			require.NoError(t, err)
			return strings.Contains(log, "the eBPF configuration has not changed")
		}, patience, 50*time.Millisecond)
		same, _ := configOf(t, mustSay(t, http.MethodGet, base+"/api/v1/config", ""))
		require.Equal(t, config, same)
		require.Equal(t, http.StatusOK, mustSay(t, http.MethodGet, "http://"+server.HTTP+"/api/healthz", "").status)
		require.Equal(t, http.StatusOK, mustSay(t, http.MethodGet, base+"/health", "").status)
		select {
		case <-server.Exited():
			t.Fatal("SIGHUP ended the server")
		default:
		}
	})
}

// valueOf returns the value of a series in a page of text.
func valueOf(t *testing.T, page, series string) float64 {
	t.Helper()
	_, after, found := strings.Cut(page, series)
	require.True(t, found, page)
	line, _, _ := strings.Cut(after, "\n")
	value, err := strconv.ParseFloat(line, 64)
	require.NoError(t, err)
	return value
}

// statOf and protoOf return the number of successful writes.
func statOf(t *testing.T, body string) float64 {
	t.Helper()
	var stats struct{ Metrics []metricOfStats }
	require.NoError(t, json.Unmarshal([]byte(body), &stats))
	require.Len(t, stats.Metrics, 1)
	for _, s := range stats.Metrics[0].Series {
		if s.Labels["op"] == "write" && s.Labels["result"] == "ok" {
			return *s.Value
		}
	}
	t.Fatal("no such series")
	return 0
}

func protoOf(t *testing.T, r *ebpfv1.GetMetricsResponse) float64 {
	t.Helper()
	require.Len(t, r.GetSnapshot().GetMetrics(), 1)
	for _, s := range r.GetSnapshot().GetMetrics()[0].GetSeries() {
		if s.GetLabels()["op"] == "write" && s.GetLabels()["result"] == "ok" {
			return s.GetValue()
		}
	}
	t.Fatal("no such series")
	return 0
}

func modulesOfPage(t *testing.T, server *banyandtest.Server) (modules []string) {
	t.Helper()
	families, err := ask.Scrape(t.Context(), server.Metrics)
	require.NoError(t, err)
	for name := range families {
		if module, _ := ownerOf(strings.TrimPrefix(name, "banyandb_")); module != "" && !slices.Contains(modules, module) {
			modules = append(modules, module)
		}
	}
	slices.Sort(modules)
	return modules
}

// requestsOfClient is the number of requests of each client.
const requestsOfClient = 4

// ask200 is a client with its own HTTP and gRPC connections. It returns how many requests were answered.
func ask200(t *testing.T, n int, base, grpcAddr string) (answered int) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	paths := []string{"/metrics", "/health", "/api/v1/stats", "/api/v1/config"}
	for i := range requestsOfClient - 1 {
		a, err := say(t.Context(), &http.Client{Transport: transport}, http.MethodGet, base+paths[(n+i)%len(paths)], "")
		if assert.NoError(t, err) && assert.Equal(t, http.StatusOK, a.status, a.body) {
			answered++
		}
	}
	conn, err := grpc.NewClient(grpcAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if !assert.NoError(t, err) {
		return answered
	}
	defer conn.Close()
	r, err := ebpfv1.NewEBPFMetricsClient(conn).GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{})
	if assert.NoError(t, err) && assert.NotEmpty(t, r.GetSnapshot().GetMetrics()) {
		answered++
	}
	return answered
}

// certificate makes a self-signed certificate for loopback, and a client configuration that trusts it.
func certificate(t *testing.T) (cert, key string, trusted *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(public))
	return writeFile(t, "cert.pem", string(public)), writeFile(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}))),
		&tls.Config{RootCAs: pool}
}

// TestAPISecured checks that a server with TLS and a token answers only clients that use both.
func TestAPISecured(t *testing.T) {
	httpAddr, grpcAddr := freeAddress(t), freeAddress(t)
	cert, key, trusted := certificate(t)
	start(t, banyandtest.Options{Flags: []string{
		"--ebpf-enabled", "--ebpf-http-addr=" + httpAddr, "--ebpf-grpc-addr=" + grpcAddr,
		"--ebpf-tls-cert=" + cert, "--ebpf-tls-key=" + key, "--ebpf-token-file=" + writeFile(t, "token", "secret\n"),
	}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusted}}
	call := func(credential credentials.TransportCredentials, token string) codes.Code {
		conn := dialAPI(t, grpcAddr, grpc.WithTransportCredentials(credential))
		ctx := t.Context()
		if token != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
		}
		_, err := ebpfv1.NewEBPFMetricsClient(conn).GetHealth(ctx, &ebpfv1.GetHealthRequest{})
		return status.Code(err)
	}
	for token, want := range map[string]struct {
		code   codes.Code
		status int
	}{"secret": {codes.OK, http.StatusOK}, "wrong": {codes.Unauthenticated, http.StatusUnauthorized}, "": {codes.Unauthenticated, http.StatusUnauthorized}} {
		var headers []string
		if token != "" {
			headers = []string{"Authorization: Bearer " + token}
		}
		a, err := say(t.Context(), client, http.MethodGet, "https://"+httpAddr+"/api/v1/config", "", headers...)
		require.NoError(t, err)
		require.Equal(t, want.status, a.status, token)
		require.Equal(t, want.code, call(credentials.NewTLS(trusted), token), token)
	}
	a := mustSay(t, http.MethodGet, "http://"+httpAddr+"/health", "", "Authorization: Bearer secret")
	require.Equal(t, http.StatusBadRequest, a.status, "plain HTTP")
	require.NotContains(t, a.body, "modules")
	require.Equal(t, codes.Unavailable, call(insecure.NewCredentials(), "secret"), "plain gRPC")
	_, err := say(t.Context(), &http.Client{Transport: &http.Transport{}}, http.MethodGet, "https://"+httpAddr+"/health", "")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)
}

// TestAPIRefused checks that a non-loopback address without a token is refused before anything starts.
func TestAPIRefused(t *testing.T) {
	for _, flag := range []string{"--ebpf-http-addr=0.0.0.0:17920", "--ebpf-grpc-addr=[::]:17921"} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, banyandtest.DefaultBinary(), "standalone", "--ebpf-enabled", flag)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, "%s", out)
		require.Positive(t, exit.ExitCode(), "the server was killed")
		require.Contains(t, string(out), "other machines can reach it, but there is no token file: name one, or listen on 127.0.0.1")
		left, err := os.ReadDir(cmd.Dir)
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// TestAPIOff checks that the server listens only where its own flags say if eBPF is enabled without an address or
// disabled with one.
func TestAPIOff(t *testing.T) {
	kprobetest.Require(t)
	httpAddr, grpcAddr := freeAddress(t), freeAddress(t)
	addresses := []string{"--ebpf-http-addr=" + httpAddr, "--ebpf-grpc-addr=" + grpcAddr}
	listening := func(flags ...string) []string {
		server := start(t, banyandtest.Options{Flags: flags})
		defer func() { require.NoError(t, server.Stop()) }()
		return listeners(t, server.PID())
	}
	own := listening()
	require.Contains(t, own, "--grpc-port")
	require.Equal(t, own, listening("--ebpf-enabled"))
	require.Equal(t, own, listening(append(addresses, "--ebpf-enabled=false")...))
	all := append(slices.Clone(own), "--ebpf-grpc-addr", "--ebpf-http-addr")
	slices.Sort(all)
	require.Equal(t, all, listening(append(addresses, "--ebpf-enabled")...))
}

// listeners returns the flags that name the loopback ports that a process listens on.
func listeners(t *testing.T, pid int) (flags []string) {
	t.Helper()
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	require.NoError(t, err)
	sockets := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	for _, fd := range fds {
		if target, linkErr := os.Readlink(fd); linkErr == nil {
			sockets[target] = true
		}
	}
	for _, table := range []string{"tcp", "tcp6"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		require.NoError(t, err)
		for row := range strings.Lines(string(content)) {
			fields := strings.Fields(row)
			// Address, state and inode. 0A is LISTEN.
			if len(fields) < 10 || fields[3] != "0A" || !sockets["socket:["+fields[9]+"]"] {
				continue
			}
			host, hex, _ := strings.Cut(fields[1], ":")
			require.Equal(t, "0100007F", host)
			port, err := strconv.ParseUint(hex, 16, 16)
			require.NoError(t, err)
			flag := fmt.Sprint("port ", port, " of no flag")
			for arg := range strings.SplitSeq(string(line), "\x00") {
				name, value, _ := strings.Cut(arg, "=")
				if i := strings.LastIndex(value, ":"); value[i+1:] == strconv.FormatUint(port, 10) {
					flag = name
					break
				}
			}
			flags = append(flags, flag)
		}
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

// TestEnvironment checks by the effective configuration and the health that the environment can set each flag.
func TestEnvironment(t *testing.T) {
	kprobetest.Require(t)
	cert, key, trusted := certificate(t)
	object, err := os.ReadFile(filepath.Join("..", "..", "..", "observer", "testdata", runtime.GOARCH, "sdk.bpf.o"))
	require.NoError(t, err)
	modules := filepath.Join(t.TempDir(), "modules")
	require.NoError(t, os.Mkdir(modules, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(modules, "mine.bpf.o"), object, 0o600))
	scratch := filepath.Join(t.TempDir(), "nosuch")
	standard := observer.Config{
		Modules: []string{"io", "cache", "memory", "sched"}, DisabledHooks: map[string][]string{"cache": {"lookup"}},
		CollectInterval: 5 * time.Second, MaxOverheadPercent: 2, LatencySampling: 1,
	}
	for _, c := range []struct {
		config func(c *observer.Config)
		also   func(t *testing.T, said said)
		name   string
		env    []string
		secure bool
	}{
		{name: "HTTP_ADDR"},
		{name: "MODULES", env: []string{"MODULES=sched,io"}, config: func(c *observer.Config) { c.Modules = []string{"sched", "io"} }},
		{
			name: "DISABLED_HOOKS", env: []string{"DISABLED_HOOKS=cache.fill,memory.scan"},
			config: func(c *observer.Config) { c.DisabledHooks = map[string][]string{"cache": {"fill"}, "memory": {"scan"}} },
		},
		{name: "COLLECT_INTERVAL", env: []string{"COLLECT_INTERVAL=700ms"}, config: func(c *observer.Config) { c.CollectInterval = 700 * time.Millisecond }},
		{name: "LATENCY_SAMPLING", env: []string{"LATENCY_SAMPLING=32"}, config: func(c *observer.Config) { c.LatencySampling = 32 }},
		{name: "MAX_OVERHEAD", env: []string{"MAX_OVERHEAD=2.5"}, config: func(c *observer.Config) { c.MaxOverheadPercent = 2.5 }},
		{
			name: "CONFIG_FILE", env: []string{"CONFIG_FILE=" + writeFile(t, "ebpf.yaml", "modules: [cache]\n"), "LATENCY_SAMPLING=2"},
			config: func(c *observer.Config) { c.Modules, c.LatencySampling = []string{"cache"}, 2 },
		},
		{
			name: "MODULE_DIR", env: []string{"MODULE_DIR=" + modules}, config: func(c *observer.Config) { c.Modules = append(slices.Clone(c.Modules), "mine") },
			also: func(t *testing.T, said said) { require.Contains(t, said.available, "mine") },
		},
		{
			name: "VERIFY", env: []string{"VERIFY=false"},
			also: func(t *testing.T, said said) { require.NotContains(t, said.health, `"verified":true`) },
		},
		{
			name: "SCRATCH_DIR", env: []string{"SCRATCH_DIR=" + scratch},
			also: func(t *testing.T, said said) { require.Contains(t, said.health, scratch) },
		},
		{
			name: "ATTACH", env: []string{"ATTACH=tp_btf"},
			also: func(t *testing.T, said said) {
				require.Contains(t, said.health, `"attach":"tp_btf"`)
				require.NotContains(t, said.health, `"attach":"fentry"`)
			},
		},
		{name: "TLS_CERT, TLS_KEY and TOKEN_FILE", env: []string{"TLS_CERT=" + cert, "TLS_KEY=" + key, "TOKEN_FILE=" + writeFile(t, "token", "secret")}, secure: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			httpAddr, grpcAddr := freeAddress(t), freeAddress(t)
			env := []string{"BYDB_EBPF_ENABLED=true", "BYDB_EBPF_HTTP_ADDR=" + httpAddr, "BYDB_EBPF_GRPC_ADDR=" + grpcAddr}
			for _, e := range c.env {
				env = append(env, "BYDB_EBPF_"+e)
			}
			server := start(t, banyandtest.Options{Env: env})
			defer func() { require.NoError(t, server.Stop()) }()
			client, base, credential, headers := http.DefaultClient, "http://", insecure.NewCredentials(), []string(nil)
			ctx := t.Context()
			if c.secure {
				client, base, credential = &http.Client{Transport: &http.Transport{TLSClientConfig: trusted}}, "https://", credentials.NewTLS(trusted)
				a, err := say(ctx, client, http.MethodGet, base+httpAddr+"/api/v1/config", "")
				require.NoError(t, err)
				require.Equal(t, http.StatusUnauthorized, a.status)
				headers = []string{"Authorization: Bearer secret"}
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer secret")
			}
			got, err := say(ctx, client, http.MethodGet, base+httpAddr+"/api/v1/config", "", headers...)
			require.NoError(t, err)
			config, available := configOf(t, got)
			want := standard
			if c.config != nil {
				c.config(&want)
			}
			require.Equal(t, want, config)
			_, err = ebpfv1.NewEBPFMetricsClient(dialAPI(t, grpcAddr, grpc.WithTransportCredentials(credential))).GetHealth(ctx, &ebpfv1.GetHealthRequest{})
			require.NoError(t, err)
			if c.also != nil {
				health, err := say(ctx, client, http.MethodGet, base+httpAddr+"/health", "", headers...)
				require.NoError(t, err)
				c.also(t, said{health: health.body, available: available})
			}
		})
	}
}

// said is what a server reports besides its configuration.
type said struct {
	health    string
	available []string
}
