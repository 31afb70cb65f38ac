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

// Package api serves what an observer counts, and lets it be configured: over HTTP with JSON, Prometheus' formats and a page,
// and over gRPC. An API is mounted into servers that the host has, or served by Listen on addresses of its own.
package api

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
)

// Control changes what is served. *observer.Observer is one. If it also has a method Reload(context.Context) error, that reads its
// configuration file again when a client asks for it.
type Control interface {
	// Available returns the names of the modules that may be enabled.
	Available() []string
	// Config returns the configuration that is wanted.
	Config() observer.Config
	// Configure brings into force what change makes of the configuration, whole or not at all. No other change, also none that did not
	// come by the API, may come in between.
	Configure(ctx context.Context, change func(observer.Config) (observer.Config, error)) error
}

// reloader is a Control that has a configuration file: Reload reads it again. If there is none, the error wraps errors.ErrUnsupported.
type reloader interface {
	Reload(ctx context.Context) error
}

// API is a source and its control, ready to be served. Its methods may be called from any goroutine. It holds nothing that has
// to be closed.
type API struct {
	source   collector.Source
	control  Control
	registry *prometheus.Registry
}

// New returns an API over a source, which is refreshed at most once a second however many ask. A nil control makes it
// read-only.
func New(source collector.Source, control Control) *API {
	a := &API{source: collector.Limit(source), control: control, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collector.New(a.source))
	return a
}

// configuration is what GET /api/v1/config answers.
type configuration struct {
	Config    observer.Config `json:"config"`
	Available []string        `json:"available"`
	ReadOnly  bool            `json:"read_only"`
}

// configuration returns the configuration that is wanted. Where nothing may be changed, only the modules and hooks of it are known.
func (a *API) configuration() configuration {
	if a.control != nil {
		return configuration{Config: a.control.Config(), Available: list(a.control.Available())}
	}
	c := configuration{ReadOnly: true, Available: []string{}}
	c.Config.DisabledHooks = make(map[string][]string)
	for _, m := range a.source.Health().Modules {
		c.Available = append(c.Available, m.Name)
		if !m.Disabled {
			c.Config.Modules = append(c.Config.Modules, m.Name)
		}
		if len(m.DisabledHooks) > 0 {
			c.Config.DisabledHooks[m.Name] = m.DisabledHooks
		}
	}
	return c
}

// list makes an empty list of none, so that JSON has [] and not null.
func list[T any](values []T) []T {
	if values == nil {
		return []T{}
	}
	return values
}

// errReadOnly is the answer to a change where there is no control.
var errReadOnly = errors.New("this API is read-only")

// change lays a change over the configuration and brings the outcome into force.
func (a *API) change(ctx context.Context, data []byte) error {
	return a.control.Configure(ctx, func(c observer.Config) (observer.Config, error) { return Decode(c, data) })
}
