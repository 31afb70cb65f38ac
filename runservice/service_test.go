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
	"context"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
	"github.com/apache/skywalking-banyandb/pkg/logger"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/meter/prom"
)

func TestMain(m *testing.M) {
	if err := logger.Init(logger.Logging{Env: "dev", Level: "info"}); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// registry returns BanyanDB's Prometheus provider, and counts the calls.
type registry struct {
	metrics *prometheus.Registry
	asked   int
	brittle atomic.Bool // counters panic
}

func newRegistry() *registry { return &registry{metrics: prometheus.NewRegistry()} }

func (r *registry) With(scope meter.Scope) observability.Factory {
	r.asked++
	return factory{prom.NewProvider(scope, r.metrics), &r.brittle}
}

type factory struct {
	meter.Provider
	brittle *atomic.Bool
}

func (f factory) NewCounter(name string, labels ...string) meter.Counter {
	return brittleCounter{f.Counter(name, labels...), f.brittle}
}

type brittleCounter struct {
	meter.Counter
	brittle *atomic.Bool
}

func (c brittleCounter) Inc(delta float64, labelValues ...string) {
	if c.brittle.Load() {
		panic("brittle")
	}
	c.Counter.Inc(delta, labelValues...)
}

func (f factory) NewGauge(name string, labels ...string) meter.Gauge { return f.Gauge(name, labels...) }

func (f factory) NewHistogram(name string, buckets meter.Buckets, labels ...string) meter.Histogram {
	return f.Histogram(name, buckets, labels...)
}

// value returns the sum of all series of a metric, and whether there is one.
func (r *registry) value(t *testing.T, name string) (float64, bool) {
	t.Helper()
	families, err := r.metrics.Gather()
	require.NoError(t, err)
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() == name {
			found = true
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum, found
}

// start parses the flags as banyand does and runs the service's phases up to Serve.
func start(t *testing.T, r *registry, options observer.Options, args ...string) *runservice.Service {
	t.Helper()
	s := runservice.New(r, options)
	require.NoError(t, s.FlagSet().Parse(args))
	require.NoError(t, s.Validate())
	require.NoError(t, s.PreRun(context.Background()))
	stopped := s.Serve()
	select {
	case <-stopped:
		t.Fatal("the service stopped the server")
	default:
	}
	t.Cleanup(func() {
		s.GracefulStop()
		<-stopped
	})
	return s
}

// TestHelp checks that the help of each API flag is complete by itself. The list is sorted by name, so a reader may not
// have seen another flag's help.
func TestHelp(t *testing.T) {
	flags := runservice.New(newRegistry(), observer.Options{}).FlagSet()
	address := []string{"eBPF", "host:port", "127.0.0.1", "empty is off", "needs --ebpf-token-file"}
	file := []string{"eBPF API", "it is read again when it changes"}
	for name, words := range map[string][]string{
		"ebpf-config-file": {"YAML", "eBPF", "it is read again on SIGHUP"},
		"ebpf-http-addr":   append(address, "HTTP API", "page"),
		"ebpf-grpc-addr":   append(address, "gRPC API"),
		"ebpf-tls-cert":    append(file, "PEM", "TLS certificate", "needs --ebpf-tls-key", "HTTP and gRPC"),
		"ebpf-tls-key":     append(file, "PEM", "private key", "TLS certificate", "needs --ebpf-tls-cert"),
		"ebpf-token-file":  append(file, "bearer token", "HTTP and gRPC"),
	} {
		for _, word := range words {
			require.Contains(t, flags.Lookup(name).Usage, word, name)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		cause []string
	}{
		{"defaults", nil, nil},
		{"one module", []string{"--ebpf-modules=io"}, nil},
		{"the list of a YAML file", []string{"--ebpf-modules=[io cache]"}, nil},
		{"spaces", []string{"--ebpf-modules=io, cache"}, nil},
		{"unknown module", []string{"--ebpf-modules=io,nosuch"}, []string{`--ebpf-modules: unknown module "nosuch"`, "(available: block, cache, io, lock, memory, net, sched, sched_trace)"}},
		{"named twice", []string{"--ebpf-modules=io,io"}, []string{`--ebpf-modules: "io" is listed twice`}},
		{"no module", []string{"--ebpf-modules="}, []string{"is empty", "(available: block, cache, io, lock, memory, net, sched, sched_trace)"}},
		{"no interval", []string{"--ebpf-collect-interval=0"}, []string{"--ebpf-collect-interval: 0s is out of range (100ms to 1h0m0s)"}},
		{"negative interval", []string{"--ebpf-collect-interval=-5s"}, []string{"out of range (100ms to 1h0m0s)"}},
		{"too long an interval", []string{"--ebpf-collect-interval=61m"}, []string{"out of range (100ms to 1h0m0s)"}},
		{"a folder with modules", []string{"--ebpf-module-dir=/etc/banyandb/modules"}, nil},
		{"a folder that depends", []string{"--ebpf-module-dir=modules"}, []string{"--ebpf-module-dir=modules: not an absolute path"}},
		{"unknown attachment", []string{"--ebpf-attach=uprobe"}, []string{"--ebpf-attach=uprobe: unknown kind (available: auto, fentry, tp_btf, tracepoint, kprobe)"}},
		{"no sampling", []string{"--ebpf-latency-sampling=0"}, []string{"--ebpf-latency-sampling: 0 is out of range (1 to 1024)"}},
		{"both wrong", []string{"--ebpf-modules=x", "--ebpf-collect-interval=1ms"}, []string{`unknown module "x"`, "out of range (100ms"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := runservice.New(newRegistry(), observer.Options{})
			require.NoError(t, s.FlagSet().Parse(c.args))
			err := s.Validate()
			if c.cause == nil {
				require.NoError(t, err)
				return
			}
			for _, cause := range c.cause {
				require.ErrorContains(t, err, cause)
			}
		})
	}
}

func TestDisabled(t *testing.T) {
	r := newRegistry()
	goroutines := runtime.NumGoroutine()
	s := start(t, r, observer.Options{})
	// A goroutine of another test may have ended meanwhile.
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
	require.Zero(t, r.asked)
	require.Empty(t, s.Health().Modules)
}

// requireGoroutines waits until there are no more goroutines than before.
func requireGoroutines(t *testing.T, goroutines int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); runtime.NumGoroutine() > goroutines && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	require.LessOrEqual(t, runtime.NumGoroutine(), goroutines)
}

func TestEnabled(t *testing.T) {
	kprobetest.Require(t)
	r := newRegistry()
	goroutines := runtime.NumGoroutine()
	s := start(t, r, observer.Options{}, "--ebpf-enabled", "--ebpf-collect-interval=100ms")
	for _, m := range s.Health().Modules {
		require.Truef(t, m.Up, "%s: %s", m.Name, m.Cause)
	}
	up, _ := r.value(t, "banyandb_ebpf_module_up")
	require.InDelta(t, 4, up, 0)
	before, _ := r.value(t, "banyandb_ebpf_io_bytes_total")
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	_, err = file.Write(make([]byte, 12345))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		now, _ := r.value(t, "banyandb_ebpf_io_bytes_total")
		return now >= before+12345
	}, time.Minute, 20*time.Millisecond)
	s.GracefulStop()
	// Not by Eventually, which starts a goroutine.
	requireGoroutines(t, goroutines)
}

// TestNoCapability checks that the service starts anyway, and reports what is missing.
func TestNoCapability(t *testing.T) {
	kprobetest.Require(t)
	if !kprobetest.InChild(t, nil) {
		return
	}
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	require.NoError(t, unix.Capset(&header, &none[0]))
	r := newRegistry()
	s := start(t, r, observer.Options{}, "--ebpf-enabled")
	requireDown(t, r, s, "CAP_BPF and CAP_PERFMON missing")
	require.Contains(t, s.Health().Modules[0].Remedy, "setcap")
}

// TestCorruptObjects checks the same if no module can be parsed.
func TestCorruptObjects(t *testing.T) {
	objects := fstest.MapFS{}
	names, err := observer.BuiltIn().Modules()
	require.NoError(t, err)
	for _, name := range names {
		object, err := fs.ReadFile(bpf.Modules(runtime.GOARCH), name+bpf.Suffix)
		require.NoError(t, err)
		objects[name+bpf.Suffix] = &fstest.MapFile{Data: object[:len(object)-len(object)/3]}
	}
	r := newRegistry()
	requireDown(t, r, start(t, r, observer.Options{Sources: []observer.Source{observer.Files(objects)}}, "--ebpf-enabled"), "")
}

// TestPanic checks that a panic of the provider, such as Prometheus' on a duplicate name, does not end the server.
func TestPanic(t *testing.T) {
	kprobetest.Require(t)
	r := newRegistry()
	r.metrics.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "banyandb_ebpf_module_up"}))
	for _, m := range start(t, r, observer.Options{}, "--ebpf-enabled").Health().Modules {
		require.False(t, m.Up)
		require.Contains(t, m.Cause, "panic: ")
	}
}

// TestPanicWhileCollecting checks the same for a panic in the first or a later collection.
func TestPanicWhileCollecting(t *testing.T) {
	kprobetest.Require(t)
	for _, atOnce := range []bool{true, false} {
		r := newRegistry()
		r.brittle.Store(atOnce)
		s := start(t, r, observer.Options{}, "--ebpf-enabled", "--ebpf-collect-interval=100ms")
		r.brittle.Store(true)
		require.Eventually(t, func() bool { return !s.Health().Modules[0].Up }, time.Minute, 10*time.Millisecond)
		require.Contains(t, s.Health().Modules[0].Cause, "panic: brittle")
		// It stays down: collection has stopped.
		time.Sleep(200 * time.Millisecond)
		require.False(t, s.Health().Modules[0].Up)
	}
}

func requireDown(t *testing.T, r *registry, s *runservice.Service, cause string) {
	t.Helper()
	health := s.Health()
	require.Len(t, health.Modules, 4)
	for _, m := range health.Modules {
		require.False(t, m.Up)
		require.NotEmpty(t, m.Cause)
		require.True(t, strings.Contains(m.Cause, cause), m.Cause)
	}
	up, found := r.value(t, "banyandb_ebpf_module_up")
	require.True(t, found)
	require.Zero(t, up)
	_, found = r.value(t, "banyandb_ebpf_io_operations_total")
	require.False(t, found)
}
