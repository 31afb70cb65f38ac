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

	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
)

// Source is what is served. *observer.Observer is one.
type Source = collector.Source

// Control changes what is served.
type Control interface {
	// Config returns the configuration in force.
	Config() Config
	// Configure brings into force what change makes of the configuration in force, whole or not at all. No other change, also none that
	// did not come by the API, may come in between.
	Configure(ctx context.Context, change func(Config) (Config, error)) error
	// Reload reads the configuration file again. If there is none, the error wraps errors.ErrUnsupported.
	Reload(ctx context.Context) error
}

// Options of an API.
type Options struct {
	// Available lists the modules that may be enabled. *observer.Observer has such a method. Nil means those of the source's health.
	Available func() []string
}

// API is a source and its control, ready to be served. Its methods may be called from any goroutine. It holds nothing that has
// to be closed.
type API struct {
	source   Source
	control  Control
	registry *prometheus.Registry
	options  Options
}

// New returns an API over a source, which is refreshed at most once a second however many ask. A nil control makes it
// read-only.
func New(source Source, control Control, options Options) *API {
	a := &API{source: collector.Limit(source), control: control, options: options, registry: prometheus.NewRegistry()}
	a.registry.MustRegister(collector.New(a.source))
	return a
}

// configuration is what GET /api/v1/config answers.
type configuration struct {
	Config    Config   `json:"config"`
	Available []string `json:"available"`
	ReadOnly  bool     `json:"read_only"`
}

// configuration returns the configuration in force. Where nothing may be changed, only the modules and hooks of it are known.
func (a *API) configuration() configuration {
	c := configuration{ReadOnly: a.control == nil}
	health := a.source.Health()
	if a.control != nil {
		c.Config = a.control.Config()
	} else {
		c.Config.DisabledHooks = make(map[string][]string)
		for _, m := range health.Modules {
			if !m.Disabled {
				c.Config.Modules = append(c.Config.Modules, m.Name)
			}
			if len(m.DisabledHooks) > 0 {
				c.Config.DisabledHooks[m.Name] = m.DisabledHooks
			}
		}
	}
	if a.options.Available != nil {
		c.Available = a.options.Available()
		return c
	}
	for _, m := range health.Modules {
		c.Available = append(c.Available, m.Name)
	}
	return c
}

// errReadOnly is the answer to a change where there is no control.
var errReadOnly = errors.New("this API is read-only")

// change lays a change over the configuration in force and brings the outcome into force.
func (a *API) change(ctx context.Context, data []byte) error {
	return a.control.Configure(ctx, func(c Config) (Config, error) { return c.Decode(data) })
}
