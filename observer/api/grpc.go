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

package api

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
)

// Register adds the service EBPFMetrics to one of the host's servers.
func (a *API) Register(server grpc.ServiceRegistrar) {
	ebpfv1.RegisterEBPFMetricsServer(server, &service{api: a})
}

type service struct {
	ebpfv1.UnimplementedEBPFMetricsServer
	api *API
}

func (s *service) GetMetrics(_ context.Context, r *ebpfv1.GetMetricsRequest) (*ebpfv1.GetMetricsResponse, error) {
	all, err := s.api.stats(filter{modules: r.GetModules(), names: r.GetNames()}, new(observer.Snapshot))
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	return &ebpfv1.GetMetricsResponse{Snapshot: all.proto()}, nil
}

func (s *service) GetHealth(context.Context, *ebpfv1.GetHealthRequest) (*ebpfv1.GetHealthResponse, error) {
	h := s.api.health()
	return h.proto(), nil
}

// streamInterval is the default interval of a stream.
const streamInterval = 5 * time.Second

// StreamMetrics takes a snapshot only when there is room to send it, so a client that does not read holds up only its
// own call.
func (s *service) StreamMetrics(r *ebpfv1.StreamMetricsRequest, stream grpc.ServerStreamingServer[ebpfv1.StreamMetricsResponse]) error {
	interval := streamInterval
	if r.GetInterval() != nil {
		interval = r.GetInterval().AsDuration()
	}
	var wrong *observer.FieldError
	if err := (observer.Config{CollectInterval: interval, LatencySampling: 1}).Validate(); errors.As(err, &wrong) {
		return status.Errorf(codes.InvalidArgument, "interval: %v", wrong.Err)
	}
	var snapshot observer.Snapshot
	start, sent := time.Now(), int64(-1) // the number of the last interval that a snapshot was sent for
	for {
		due := time.NewTimer(time.Until(start.Add(time.Duration(sent+1) * interval)))
		select {
		case <-due.C:
		case <-stream.Context().Done():
			due.Stop()
			return status.FromContextError(stream.Context().Err()).Err()
		}
		now := max(sent+1, int64(time.Since(start)/interval))
		all, err := s.api.stats(filter{modules: r.GetModules(), names: r.GetNames()}, &snapshot)
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		if err = stream.Send(&ebpfv1.StreamMetricsResponse{Snapshot: all.proto(), Skipped: uint64(now - sent - 1)}); err != nil {
			return err
		}
		sent = now
	}
}

// standardHealth implements gRPC's standard health service: the server itself is always serving, and EBPFMetrics is if
// all wanted modules are up and the counts are reliable.
type standardHealth struct {
	healthpb.UnimplementedHealthServer
	api *API
}

// watchInterval is how often Watch checks the state.
const watchInterval = time.Second

func (h *standardHealth) status(name string) (healthpb.HealthCheckResponse_ServingStatus, bool) {
	switch name {
	case "":
		return healthpb.HealthCheckResponse_SERVING, true
	case ebpfv1.EBPFMetrics_ServiceDesc.ServiceName:
		if h.api.health().Status == statusUp {
			return healthpb.HealthCheckResponse_SERVING, true
		}
		return healthpb.HealthCheckResponse_NOT_SERVING, true
	}
	return healthpb.HealthCheckResponse_SERVICE_UNKNOWN, false
}

func (h *standardHealth) Check(_ context.Context, r *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	serving, ok := h.status(r.GetService())
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no service %q", r.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: serving}, nil
}

func (h *standardHealth) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	statuses := make(map[string]*healthpb.HealthCheckResponse)
	for _, name := range []string{"", ebpfv1.EBPFMetrics_ServiceDesc.ServiceName} {
		serving, _ := h.status(name)
		statuses[name] = &healthpb.HealthCheckResponse{Status: serving}
	}
	return &healthpb.HealthListResponse{Statuses: statuses}, nil
}

// Watch sends the state at once, and after each change.
func (h *standardHealth) Watch(r *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	last := healthpb.HealthCheckResponse_UNKNOWN
	for {
		if serving, _ := h.status(r.GetService()); serving != last {
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: serving}); err != nil {
				return err
			}
			last = serving
		}
		select {
		case <-ticker.C:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}
