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

// Package api serves an observer's metrics and configuration: over HTTP as JSON, in Prometheus' formats and as a page,
// and over gRPC. An API is mounted into the host's own servers, or Listen serves it on separate addresses.
package api

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
)

// Control changes what is served. *observer.Observer implements it. If it also has a method Reload(context.Context)
// error, that rereads its configuration file when a client requests it.
type Control interface {
	// Available returns the names of the modules that may be enabled.
	Available() []string
	// Config returns the wanted configuration.
	Config() observer.Config
	// Configure applies what change makes of the configuration, as a whole or not at all. No other change may come in
	// between, not even one that was not made through the API.
	Configure(ctx context.Context, change func(observer.Config) (observer.Config, error)) error
}

// reloader is a Control that may have a configuration file: Reload rereads it. Without a file the error wraps
// errors.ErrUnsupported.
type reloader interface {
	Reload(ctx context.Context) error
}

// API is a source and its control, ready to be served. Its methods may be called from any goroutine. It does not have
// to be closed.
type API struct {
	source   collector.Source
	control  Control
	registry *prometheus.Registry
}

// New returns an API over a source, which is refreshed at most once a second however many clients there are. A nil
// control makes it read-only.
func New(source collector.Source, control Control) *API {
	a := &API{source: collector.Limit(source), control: control, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collector.New(a.source))
	return a
}

// configuration is the response of GET /api/v1/config.
type configuration struct {
	Config    observer.Config `json:"config"`
	Available []string        `json:"available"`
	ReadOnly  bool            `json:"read_only"`
}

// configuration returns the wanted configuration. Without a control, only its modules and hooks are known.
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

// list turns nil into an empty list, so that JSON has [] and not null.
func list[T any](values []T) []T {
	if values == nil {
		return []T{}
	}
	return values
}

// errReadOnly is the error of a change if there is no control.
var errReadOnly = errors.New("this API is read-only")

// change overlays a change on the configuration and applies the result.
func (a *API) change(ctx context.Context, data []byte) error {
	return a.control.Configure(ctx, func(c observer.Config) (observer.Config, error) { return Decode(c, data) })
}
