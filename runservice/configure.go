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

// flagConfig is what the flags say. All modules of further sources than the first are part of it.
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

// Available returns the names of all modules that there are, those of the first source before the others. It serves the API.
func (s *Service) Available() []string {
	names := s.firstModules()
	for _, source := range s.sources()[1:] {
		// What is wrong with it, as with one that has a name that is taken, is told when it is opened.
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
	// What is wrong with the source is told by Validate.
	names, _ := s.sources()[0].Modules()
	return names
}

// fileConfig is what the configuration file says, and the flags where it says nothing.
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

// Config returns the configuration that is wanted, as of the health that is told with it. It serves the API.
func (s *Service) Config() observer.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wanted
}

// noteState notes the observer's configuration and health together. Who reads them does not wait for a change that is under way, as
// this does.
func (s *Service) noteState() {
	s.noting.Lock()
	defer s.noting.Unlock()
	wanted, health := s.observer.Config(), s.observer.Health()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted, s.health = wanted, health
}

// Configure brings what change makes of the configuration into force, whole or not at all: the error says why, and all is as it was. It
// serves the API. Changes take turns, those by a signal too.
func (s *Service) Configure(ctx context.Context, change func(observer.Config) (observer.Config, error)) error {
	if s.observer == nil {
		return errors.New("eBPF observation is off until the server is started again: the health tells why")
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
		// It is going to look anyway.
	}
	return nil
}

func (s *Service) logConfig(c observer.Config) {
	hooks := hookMap(c.DisabledHooks)
	s.log.Info().Strs("modules", c.Modules).Stringer("disabled_hooks", &hooks).Uint32("latency_sampling", c.LatencySampling).
		Stringer("collect_interval", c.CollectInterval).Float64("max_overhead_percent", c.MaxOverheadPercent).
		Msg("the eBPF configuration has changed")
}

// Reload reads the configuration file again and brings it into force, as Configure does. It serves the API.
func (s *Service) Reload(ctx context.Context) error {
	if s.flags.configFile == "" {
		return fmt.Errorf("there is no --ebpf-config-file: %w", errors.ErrUnsupported)
	}
	return s.Configure(ctx, func(observer.Config) (observer.Config, error) { return s.fileConfig() })
}

// takeSignal has SIGHUP be a wish to read the configuration file again, where there is one. BanyanDB's own handler takes the
// signal for one to stop, and must have asked for it before.
func (s *Service) takeSignal() <-chan os.Signal {
	if s.flags.configFile == "" {
		return nil
	}
	signal.Reset(syscall.SIGHUP)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	return reload
}

// reload answers the signal.
func (s *Service) reload() {
	if err := s.Reload(context.Background()); err != nil {
		s.log.Error().Err(err).Msg("the eBPF configuration has not changed")
	}
}

// serveAPI opens the API. The server works without it, too.
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

func (o source) Snapshot(snapshot *observer.Snapshot) error {
	if o.s.observer == nil {
		*snapshot = observer.Snapshot{}
		return nil
	}
	return o.s.observer.Snapshot(snapshot)
}

func (o source) Health() observer.Health { return o.s.Health() }
