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
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
)

// health is the response of GET /health.
type health struct {
	Status   string         `json:"status"`
	Warnings []warning      `json:"warnings"`
	Modules  []moduleHealth `json:"modules"`
}

type warning struct {
	Cause    string `json:"cause"`
	Remedy   string `json:"remedy"`
	Degraded bool   `json:"degraded"`
}

type moduleHealth struct {
	Name            string         `json:"name"`
	Cause           string         `json:"cause"`
	Remedy          string         `json:"remedy"`
	Level           string         `json:"level"`
	Shed            string         `json:"shed"`
	ShedHooks       []string       `json:"shed_hooks"`
	Absent          []string       `json:"absent"`
	DisabledHooks   []string       `json:"disabled_hooks"`
	Hooks           []hook         `json:"hooks"`
	Metrics         []verification `json:"metrics"`
	OverheadSeconds float64        `json:"overhead_seconds"`
	OverheadAssumed bool           `json:"overhead_assumed"`
	MapMemoryBytes  uint64         `json:"map_memory_bytes"`
	MissedRuns      uint64         `json:"missed_runs"`
	Up              bool           `json:"up"`
	Disabled        bool           `json:"disabled"`
	level           observer.Level // for gRPC
}

type hook struct {
	Name    string    `json:"name"`
	Attach  string    `json:"attach"`
	Variant string    `json:"variant"`
	Refused []refusal `json:"refused"`
	Metrics []string  `json:"metrics"`
}

type refusal struct {
	Variant string `json:"variant"`
	Attach  string `json:"attach"`
	Cause   string `json:"cause"`
}

type verification struct {
	Name     string `json:"name"`
	Reason   string `json:"reason"`
	Verified bool   `json:"verified"`
	LeftOut  bool   `json:"left_out"`
}

const (
	statusUp       = "up"
	statusDegraded = "degraded"
	statusDown     = "down"
)

// health returns the state of the modules. It is down if a wanted module is down, and degraded if the counts are not
// reliable.
func (a *API) health() health {
	h := health{Status: statusUp, Warnings: []warning{}, Modules: []moduleHealth{}}
	state := a.source.Health()
	for _, w := range state.Warnings {
		h.Warnings = append(h.Warnings, warning(w))
		if w.Degraded {
			h.Status = statusDegraded
		}
	}
	for _, m := range state.Modules {
		shown := moduleHealth{
			Name: m.Name, Up: m.Up, Disabled: m.Disabled, Cause: m.Cause, Remedy: m.Remedy, Level: m.Level.String(), level: m.Level,
			Shed: m.Shed, ShedHooks: list(m.ShedHooks), OverheadSeconds: m.Overhead.Seconds(), OverheadAssumed: m.OverheadAssumed,
			MapMemoryBytes: m.MapMemory, MissedRuns: m.Missed, Absent: list(m.Absent), DisabledHooks: list(m.DisabledHooks), Hooks: []hook{}, Metrics: []verification{},
		}
		if !m.Up && !m.Disabled {
			h.Status = statusDown
		}
		for _, planned := range m.Plan {
			row := hook{Name: planned.Name, Attach: string(planned.Attachment), Variant: planned.Variant, Refused: []refusal{}, Metrics: list(m.Feeds[planned.Name])}
			for _, r := range planned.Refused {
				row.Refused = append(row.Refused, refusal{Variant: r.Variant, Attach: string(r.Attachment), Cause: r.Err.Error()})
			}
			shown.Hooks = append(shown.Hooks, row)
		}
		for _, v := range m.Metrics {
			shown.Metrics = append(shown.Metrics, verification{Name: v.Name, Verified: v.Verified, LeftOut: v.LeftOut, Reason: v.Reason})
		}
		h.Modules = append(h.Modules, shown)
	}
	return h
}

func (h *health) proto() *ebpfv1.GetHealthResponse {
	response := &ebpfv1.GetHealthResponse{Up: h.Status == statusUp}
	for _, w := range h.Warnings {
		response.Warnings = append(response.Warnings, &ebpfv1.Warning{Cause: w.Cause, Remedy: w.Remedy, Degraded: w.Degraded})
	}
	for _, m := range h.Modules {
		module := &ebpfv1.Module{
			Name: m.Name, Up: m.Up, Disabled: m.Disabled, Cause: m.Cause, Remedy: m.Remedy,
			// The enum has one more value, at the front.
			Level: ebpfv1.ShedLevel(m.level) + 1,
			Shed:  m.Shed, ShedHooks: m.ShedHooks,
			OverheadSeconds: m.OverheadSeconds, OverheadAssumed: m.OverheadAssumed, MapMemoryBytes: m.MapMemoryBytes, MissedRuns: m.MissedRuns,
			Absent: m.Absent, DisabledHooks: m.DisabledHooks,
		}
		for _, row := range m.Hooks {
			out := &ebpfv1.Hook{Name: row.Name, Attach: row.Attach, Variant: row.Variant, Metrics: row.Metrics}
			for _, r := range row.Refused {
				out.Refused = append(out.Refused, &ebpfv1.Refusal{Variant: r.Variant, Attach: r.Attach, Cause: r.Cause})
			}
			module.Hooks = append(module.Hooks, out)
		}
		for _, v := range m.Metrics {
			module.Metrics = append(module.Metrics, &ebpfv1.Verification{Name: v.Name, Verified: v.Verified, LeftOut: v.LeftOut, Reason: v.Reason})
		}
		response.Modules = append(response.Modules, module)
	}
	return response
}
