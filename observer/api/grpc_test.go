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
	"context"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
)

func newConn(t *testing.T, s *api.Server, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr().String(), append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)...)
	require.NoError(t, err)
	return conn
}

func dial(t *testing.T, s *api.Server, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn := newConn(t, s, options...)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func dialWith(t *testing.T, s *api.Server, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	return dial(t, s, grpc.WithTransportCredentials(c))
}

func code(t *testing.T, want codes.Code, err error) {
	t.Helper()
	require.Equal(t, want, status.Code(err), "%v", err)
}

func stream(t *testing.T, conn *grpc.ClientConn, interval time.Duration) grpc.ServerStreamingClient[ebpfv1.StreamMetricsResponse] {
	t.Helper()
	s, err := ebpfv1.NewEBPFMetricsClient(conn).StreamMetrics(t.Context(), &ebpfv1.StreamMetricsRequest{Interval: durationpb.New(interval)})
	require.NoError(t, err)
	return s
}

// everyCall makes each call of each service, with a token, and requires the same code from all.
func everyCall(t *testing.T, conn *grpc.ClientConn, authorization string, want codes.Code) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	c := ebpfv1.NewEBPFMetricsClient(conn)
	_, err := c.GetMetrics(ctx, &ebpfv1.GetMetricsRequest{})
	code(t, want, err)
	_, err = c.GetHealth(ctx, &ebpfv1.GetHealthRequest{})
	code(t, want, err)
	metrics, err := c.StreamMetrics(ctx, &ebpfv1.StreamMetricsRequest{})
	require.NoError(t, err)
	_, err = metrics.Recv()
	code(t, want, err)
	_, err = healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	code(t, want, err)
	watched, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	_, err = watched.Recv()
	code(t, want, err)
	reflected, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	require.NoError(t, err)
	_ = reflected.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	answer, err := reflected.Recv()
	code(t, want, err)
	if want == codes.OK {
		var names []string
		for _, service := range answer.GetListServicesResponse().GetService() {
			names = append(names, service.GetName())
		}
		require.Contains(t, names, "skywalking.ebpf.v1.EBPFMetrics")
		require.Contains(t, names, "grpc.health.v1.Health")
	}
}

func TestGetMetrics(t *testing.T) {
	source := fake.New(t, "io", "cache")
	source.Set("ebpf_io_operations_total", 12, "read", "ok")
	source.Observe("ebpf_io_duration_seconds", 500_000_000, map[int]uint64{0: 1, 2: 4}, "read")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	c := ebpfv1.NewEBPFMetricsClient(dial(t, s))
	get := func(modules, names []string) []*ebpfv1.Metric {
		r, err := c.GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{Modules: modules, Names: names})
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), r.GetSnapshot().GetTime().AsTime(), time.Minute)
		require.Positive(t, r.GetSnapshot().GetProcessCpuSeconds())
		return r.GetSnapshot().GetMetrics()
	}
	schema, err := observer.BuiltIn().Describe("io", "cache")
	require.NoError(t, err)
	all := get(nil, nil)
	require.Len(t, all, len(schema))
	for i, m := range all {
		require.Equal(t, schema[i].Name, m.GetName())
		require.Equal(t, schema[i].Help, m.GetHelp())
	}
	one := get(nil, []string{"ebpf_io_operations_total"})
	require.Len(t, one, 1)
	require.Equal(t, ebpfv1.MetricKind_METRIC_KIND_COUNTER, one[0].GetKind())
	require.Len(t, one[0].GetSeries(), 1)
	require.Equal(t, map[string]string{"op": "read", "result": "ok"}, one[0].GetSeries()[0].GetLabels())
	require.InDelta(t, 12, one[0].GetSeries()[0].GetValue(), 0)
	h := get([]string{"io"}, []string{"ebpf_io_duration_seconds"})[0]
	require.Equal(t, ebpfv1.MetricKind_METRIC_KIND_HISTOGRAM, h.GetKind())
	require.Equal(t, "seconds", h.GetUnit())
	d := h.GetSeries()[0].GetDistribution()
	require.Equal(t, uint64(5), d.GetCount())
	require.InDelta(t, 0.5, d.GetSum(), 0)
	require.Len(t, d.GetBuckets(), len(h.GetBounds())+1)
	require.Equal(t, []uint64{1, 1, 5}, d.GetBuckets()[:3])
	require.Empty(t, get([]string{"io"}, []string{"ebpf_cache_filled_pages_total"}))
	gauge := fake.New(t, "memory")
	c = ebpfv1.NewEBPFMetricsClient(dial(t, listen(t, api.New(gauge, nil), api.ListenOptions{})))
	require.Equal(t, ebpfv1.MetricKind_METRIC_KIND_GAUGE, get(nil, []string{"ebpf_memory_resident_pages"})[0].GetKind())

	gauge.Fail(observer.ErrClosed, nil)
	_, err = c.GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{})
	code(t, codes.Unavailable, err)
	require.ErrorContains(t, err, observer.ErrClosed.Error())
}

func TestGetHealth(t *testing.T) {
	source := fake.New(t, "io")
	source.SetHealth(observer.ModuleHealth{
		Name: "io", Up: true, MapMemory: 1, Overhead: time.Second, Level: observer.LevelOff, Missed: 2, Absent: []string{"a"}, DisabledHooks: []string{"rx"},
		Shed: "it cost much", ShedHooks: []string{"x"}, OverheadAssumed: true,
		Feeds: map[string][]string{"syscall": {"m"}},
		Plan: kprobe.Plan{{
			Name: "syscall", Attachment: kprobe.TPBTF, Variant: "v",
			Refused: []kprobe.Refusal{{Variant: "w", Attachment: kprobe.Fentry, Err: observer.ErrClosed}},
		}},
		Metrics: []observer.MetricHealth{{Name: "m", LeftOut: true, Reason: "wrong"}},
	}, observer.ModuleHealth{Name: "net", Disabled: true})
	conn := dial(t, listen(t, api.New(source, nil), api.ListenOptions{}))
	c := ebpfv1.NewEBPFMetricsClient(conn)
	r, err := c.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
	require.True(t, r.GetUp())
	m := r.GetModules()[0]
	require.Equal(t, []any{"io", true, false, ebpfv1.ShedLevel_SHED_LEVEL_OFF, 1., uint64(1), uint64(2), []string{"a"}, []string{"rx"}}, []any{
		m.GetName(), m.GetUp(), m.GetDisabled(), m.GetLevel(), m.GetOverheadSeconds(), m.GetMapMemoryBytes(), m.GetMissedRuns(), m.GetAbsent(), m.GetDisabledHooks(),
	})
	h := m.GetHooks()[0]
	require.Equal(t, []string{"syscall", "tp_btf", "v", "w", "fentry", observer.ErrClosed.Error()}, []string{
		h.GetName(), h.GetAttach(), h.GetVariant(), h.GetRefused()[0].GetVariant(), h.GetRefused()[0].GetAttach(), h.GetRefused()[0].GetCause(),
	})
	require.Equal(t, []string{"m"}, h.GetMetrics())
	require.True(t, m.GetMetrics()[0].GetLeftOut())
	require.Equal(t, "wrong", m.GetMetrics()[0].GetReason())
	require.Equal(t, []any{"it cost much", []string{"x"}, true}, []any{m.GetShed(), m.GetShedHooks(), m.GetOverheadAssumed()})
	require.True(t, r.GetModules()[1].GetDisabled())
	require.Empty(t, r.GetWarnings())
	source.Warn(observer.Warning{Cause: "a cause", Remedy: "a remedy", Degraded: true})
	r, err = c.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
	require.False(t, r.GetUp())
	w := r.GetWarnings()[0]
	require.Equal(t, []any{"a cause", "a remedy", true}, []any{w.GetCause(), w.GetRemedy(), w.GetDegraded()})
	source.Warn()

	// The standard service reports the server itself, and the modules.
	health := healthpb.NewHealthClient(conn)
	const name = "skywalking.ebpf.v1.EBPFMetrics"
	serving := func(service string) healthpb.HealthCheckResponse_ServingStatus {
		r, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		require.NoError(t, err)
		return r.GetStatus()
	}
	watched, err := health.Watch(t.Context(), &healthpb.HealthCheckRequest{Service: name})
	require.NoError(t, err)
	change, err := watched.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, change.GetStatus())
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, serving(name))
	source.SetHealth(observer.ModuleHealth{Name: "io", Cause: "no", Remedy: "r"})
	change, err = watched.Recv()
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, change.GetStatus())
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, serving(name))
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, serving(""))
	_, err = health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nothing"})
	code(t, codes.NotFound, err)
	list, err := health.List(t.Context(), &healthpb.HealthListRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_NOT_SERVING, list.GetStatuses()[name].GetStatus())
	r, err = c.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
	require.False(t, r.GetUp())
	require.Equal(t, []string{"no", "r"}, []string{r.GetModules()[0].GetCause(), r.GetModules()[0].GetRemedy()})
}

func TestStream(t *testing.T) {
	source := fake.New(t, "io", "cache")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	conn := dial(t, s)
	for _, interval := range []time.Duration{99 * time.Millisecond, time.Hour + 1, 0, -time.Second} {
		_, err := stream(t, conn, interval).Recv()
		code(t, codes.InvalidArgument, err)
		require.ErrorContains(t, err, "out of range (100ms to 1h0m0s)")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	metrics, err := ebpfv1.NewEBPFMetricsClient(conn).StreamMetrics(ctx, &ebpfv1.StreamMetricsRequest{
		Interval: durationpb.New(100 * time.Millisecond), Names: []string{"ebpf_io_operations_total"},
	})
	require.NoError(t, err)
	// Sent and skipped snapshots add up to the number of intervals, and each has the counts of when it was taken. On a
	// busy machine one may be taken late, and those after it say so.
	var first time.Time
	var skipped uint64
	for i, off := 0, 0.0; i < 10 || off > 0.99; i++ {
		require.Less(t, i, 200, "off by %v intervals", off)
		source.Set("ebpf_io_operations_total", uint64(i+1), "read", "ok")
		set := time.Now()
		r, err := metrics.Recv()
		require.NoError(t, err)
		require.Len(t, r.GetSnapshot().GetMetrics(), 1)
		taken := r.GetSnapshot().GetTime().AsTime()
		if i == 0 {
			first = taken
		}
		skipped += r.GetSkipped()
		off = math.Abs(taken.Sub(first).Seconds()*10 - float64(i) - float64(skipped))
		if taken.After(set) {
			require.InDelta(t, i+1, r.GetSnapshot().GetMetrics()[0].GetSeries()[0].GetValue(), 0)
		}
	}
	cancel()
	for err == nil {
		_, err = metrics.Recv()
	}
	code(t, codes.Canceled, err)

	source.Fail(observer.ErrClosed, nil)
	_, err = stream(t, conn, time.Second).Recv()
	code(t, codes.Unavailable, err)
}

// TestSlowStream: a client that stops reading misses snapshots and is told how many; sent and skipped ones add up to
// the number of intervals. Other clients are not affected.
func TestSlowStream(t *testing.T) {
	source := fake.New(t, "io", "cache", "memory", "sched", "net", "block")
	s := listen(t, api.New(source, nil), api.ListenOptions{})
	// The client's transport buffers as little as possible, 64 KiB.
	slow := stream(t, dial(t, s, grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10)), 100*time.Millisecond)
	others := stream(t, dial(t, s), 100*time.Millisecond)
	for range 30 {
		_, err := others.Recv()
		require.NoError(t, err)
	}

	var first, last time.Time
	sent, skipped := 0, uint64(0)
	for off := 0.0; skipped == 0 || off > 1; {
		require.Less(t, sent, 200, "skipped %d, off by %v intervals", skipped, off)
		r, err := slow.Recv()
		require.NoError(t, err)
		last = r.GetSnapshot().GetTime().AsTime()
		if sent == 0 {
			first = last
		}
		sent++
		skipped += r.GetSkipped()
		off = math.Abs(last.Sub(first).Seconds()*10 - float64(sent-1) - float64(skipped))
	}
}

// TestRegister: a host adds the service to its own server, which has its own health and interceptors.
func TestRegister(t *testing.T) {
	server := grpc.NewServer()
	api.New(fake.New(t, "io"), nil).Register(server)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	r, err := ebpfv1.NewEBPFMetricsClient(conn).GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
	require.True(t, r.GetUp())
	require.NoError(t, conn.Close())
	server.Stop()
	require.NoError(t, <-done)
	require.True(t, slices.Contains([]string{"skywalking.ebpf.v1.EBPFMetrics"}, ebpfv1.EBPFMetrics_ServiceDesc.ServiceName))
}

// TestPanic: a panic in a call does not end the server.
func TestPanic(t *testing.T) {
	conn := dial(t, listen(t, api.New(panicking{fake.New(t, "io")}, nil), api.ListenOptions{}))
	c := ebpfv1.NewEBPFMetricsClient(conn)
	_, err := c.GetMetrics(t.Context(), &ebpfv1.GetMetricsRequest{})
	code(t, codes.Internal, err)
	_, err = stream(t, conn, time.Second).Recv()
	code(t, codes.Internal, err)
	_, err = c.GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
}

type panicking struct{ *fake.Source }

func (panicking) Snapshot(*observer.Snapshot) error { panic("oops") }
