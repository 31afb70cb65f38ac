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

package runservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
)

var (
	_ api.Control      = (*Service)(nil)
	_ collector.Source = source{}
)

// flagConfig returns the configuration of the flags, plus all modules of the sources after the first.
func (s *Service) flagConfig() observer.Config {
	c := s.flags.config
	c.Modules = slices.Clone(c.Modules)
	for _, name := range s.Available()[len(s.firstModules()):] {
		if !slices.Contains(c.Modules, name) {
			c.Modules = append(c.Modules, name)
		}
	}
	return c
}

// Available returns the names of all available modules, those of the first source first. The API uses it.
func (s *Service) Available() []string {
	names := s.firstModules()
	for _, source := range s.sources()[1:] {
		// Errors, such as a name that is taken, are reported when the module is opened.
		further, _ := source.Modules()
		for _, name := range further {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// firstModules returns the names of the modules that --ebpf-modules chooses from.
func (s *Service) firstModules() []string {
	// Validate reports errors of the source.
	names, _ := s.sources()[0].Modules()
	return names
}

// fileConfig returns the configuration of the file; fields that the file does not set come from the flags.
func (s *Service) fileConfig() (observer.Config, error) {
	c, file := s.flagConfig(), s.flags.configFile
	if file == "" {
		return c, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("--ebpf-config-file: %w: %w", observer.ErrInvalidConfig, err)
	}
	if c, err = api.Decode(c, data); err == nil {
		err = s.options(c).ValidateNames()
	}
	if err == nil && len(c.Modules) == 0 {
		err = fmt.Errorf("%w: modules is empty (available: %s)", observer.ErrInvalidConfig, strings.Join(s.Available(), ", "))
	}
	if err != nil {
		return c, fmt.Errorf("--ebpf-config-file=%s: %w", file, err)
	}
	return c, nil
}

// Config returns the requested configuration, consistent with Health. The API uses it.
func (s *Service) Config() observer.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

// noteState records the observer's configuration and health together. It waits for a change in progress; readers of
// what it records do not.
func (s *Service) noteState() {
	s.noting.Lock()
	defer s.noting.Unlock()
	wanted, health := s.observer.Config(), s.observer.Health()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.health = wanted, health
}

// Configure applies what change returns for the current configuration, completely or, with an error, not at all.
// Changes are serialized, including those by a signal. The API uses it.
func (s *Service) Configure(ctx context.Context, change func(observer.Config) (observer.Config, error)) error {
	if s.observer == nil {
		return errors.New("eBPF observation is off until the server is started again: the health has the cause")
	}
	defer giveBack()
	if err := s.observer.Configure(ctx, change); err != nil {
		return err
	}
	s.noteState()
	s.logConfig(s.Config())
	select {
	case s.changed <- struct{}{}:
	default:
		// A notification is already pending.
	}
	return nil
}

func (s *Service) logConfig(c observer.Config) {
	hooks := hookMap(c.DisabledHooks)
	s.log.Info().Strs("modules", c.Modules).Stringer("disabled_hooks", &hooks).Uint32("latency_sampling", c.LatencySampling).
		Stringer("collect_interval", c.CollectInterval).Float64("max_overhead_percent", c.MaxOverheadPercent).
		Msg("the eBPF configuration has changed")
}

// Reload reads the configuration file again and applies it, as Configure does. The API uses it.
func (s *Service) Reload(ctx context.Context) error {
	if s.flags.configFile == "" {
		return fmt.Errorf("there is no --ebpf-config-file: %w", errors.ErrUnsupported)
	}
	return s.Configure(ctx, func(observer.Config) (observer.Config, error) { return s.fileConfig() })
}

// takeSignal makes SIGHUP reload the configuration file, if there is one. It replaces BanyanDB's own handler, which
// stops the server on SIGHUP and must have been installed before.
func (s *Service) takeSignal() <-chan os.Signal {
	if s.flags.configFile == "" {
		return nil
	}
	signal.Reset(syscall.SIGHUP)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	return reload
}

// reload handles the signal.
func (s *Service) reload() {
	if err := s.Reload(context.Background()); err != nil {
		s.log.Error().Err(err).Msg("the eBPF configuration has not changed")
	}
}

// serveAPI starts the API. If that fails, the server works without it.
func (s *Service) serveAPI() {
	s.flags.listen.Report = func(err error) { s.log.Warn().Err(err).Msg("serving the eBPF API") }
	served, err := api.New(source{s}, s).Listen(s.flags.listen)
	if err != nil {
		s.log.Error().Err(err).Msg("the eBPF API is off")
		return
	}
	s.api = served
}

// source is what the API serves: the observer, if there is one.
type source struct{ s *Service }

func (o source) Refresh() error {
	if o.s.observer == nil {
		return nil
	}
	return o.s.observer.Refresh()
}

func (o source) Ledger() *observer.Ledger {
	if o.s.observer == nil {
		return nil
	}
	return o.s.observer.Ledger()
}

func (o source) Snapshot(snapshot *observer.Snapshot) error {
	if o.s.observer == nil {
		*snapshot = observer.Snapshot{}
		return nil
	}
	return o.s.observer.Snapshot(snapshot)
}

func (o source) Health() observer.Health { return o.s.Health() }
