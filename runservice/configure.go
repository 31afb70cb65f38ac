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
	"math"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/pkg/run"
)

var (
	_ api.Control = (*Service)(nil)
	_ api.Source  = source{}
)

// apiFlags adds the flags of what may be done while the server works.
func (s *Service) apiFlags(flags *run.FlagSet) {
	flags.StringVar(&s.configFile, "ebpf-config-file", "",
		"YAML file of eBPF observation whose fields modules, disabled_hooks, latency_sampling, collect_interval and max_overhead_percent "+
			"override the --ebpf flags; it is read again on SIGHUP, which then does not end the server, and when the eBPF API is asked to")
	const address = ", as host:port, or as a port alone for 127.0.0.1; empty is off; an address that other machines reach needs --ebpf-token-file"
	flags.StringVar(&s.listen.HTTPAddr, "ebpf-http-addr", "", "where the HTTP API and the page of eBPF observation listen"+address)
	flags.StringVar(&s.listen.GRPCAddr, "ebpf-grpc-addr", "", "where the gRPC API of eBPF observation listens"+address)
	flags.StringVar(&s.listen.TLSCert, "ebpf-tls-cert", "",
		"PEM file of the TLS certificate of the eBPF APIs, HTTP and gRPC; needs --ebpf-tls-key; empty is no TLS; it is read again when it changes")
	flags.StringVar(&s.listen.TLSKey, "ebpf-tls-key", "",
		"PEM file of the private key of the TLS certificate of the eBPF APIs; needs --ebpf-tls-cert; it is read again when it changes")
	flags.StringVar(&s.listen.TokenFile, "ebpf-token-file", "",
		"file of the bearer token that clients of the eBPF APIs, HTTP and gRPC, must have; empty is no token; it is read again when it changes")
}

// validateRunTime checks what may be changed later, and the flags of the API.
func (s *Service) validateRunTime() error {
	var errs []error
	if s.interval < api.MinInterval || s.interval > api.MaxInterval {
		errs = append(errs, fmt.Errorf("--ebpf-collect-interval=%s: allowed is %s", s.interval, intervals))
	}
	if s.maxOverhead < 0 || s.maxOverhead > 100 || math.IsNaN(s.maxOverhead) {
		errs = append(errs, fmt.Errorf("--ebpf-max-overhead=%v: allowed is 0 (no limit) to 100", s.maxOverhead))
	}
	if s.sampling < 1 || s.sampling > api.MaxSampling {
		errs = append(errs, fmt.Errorf("--ebpf-latency-sampling=%d: allowed is %s", s.sampling, samplings))
	}
	if err := s.listen.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("the eBPF API: %w", err))
	}
	if _, err := s.fileConfig(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flagConfig is what the flags say of what may change.
func (s *Service) flagConfig() api.Config {
	return api.Config{
		Modules: s.modules, DisabledHooks: s.disabled, LatencySampling: s.sampling,
		CollectInterval: api.Duration(s.interval), MaxOverheadPercent: s.maxOverhead,
	}
}

// known returns the names of all modules that there are objects of.
func (s *Service) known() ([]string, error) {
	names, err := s.sources()[0].Modules()
	return append(names, s.usersModules()...), err
}

// usersModules returns the names of those in --ebpf-module-dir. What is wrong with the folder is told when it is opened.
func (s *Service) usersModules() []string {
	if s.moduleDir == "" {
		return nil
	}
	names, err := observer.ModuleDir(s.moduleDir).Modules()
	if err != nil {
		return nil
	}
	return names
}

// leaveOut disables the users' modules that the configuration file does not name: all that there are have been opened.
func (s *Service) leaveOut(ctx context.Context) {
	opened := s.observer.Config()
	if s.configFile != "" {
		opened.Modules = s.config.Modules
		if err := s.observer.Configure(ctx, opened); err != nil {
			s.log.Error().Err(err).Msg("disabling what --ebpf-config-file does not name")
		}
	}
	s.config.Modules = s.observer.Config().Modules
}

// fileConfig is what the configuration file says, and the flags where it says nothing.
func (s *Service) fileConfig() (api.Config, error) {
	c := s.flagConfig()
	if s.configFile == "" {
		return c, nil
	}
	c.Modules = append(slices.Clone(c.Modules), s.usersModules()...)
	data, err := os.ReadFile(s.configFile)
	if err != nil {
		return c, fmt.Errorf("--ebpf-config-file: %w: %w", api.ErrInvalid, err)
	}
	if c, err = c.Decode(data); err != nil {
		return c, fmt.Errorf("--ebpf-config-file=%s: %w", s.configFile, err)
	}
	known, err := s.known()
	if err != nil {
		return c, err
	}
	modules, hooks := moduleList(c.Modules), hookMap(c.DisabledHooks)
	if err = errors.Join(modules.validate(known), hooks.validate(s.sources()[0], known)); err != nil {
		return c, fmt.Errorf("--ebpf-config-file=%s: %w: %w", s.configFile, api.ErrInvalid, err)
	}
	return c, nil
}

// Config returns the configuration in force. It serves the API.
func (s *Service) Config() api.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

// observerConfig is the part of a configuration that the observer carries out.
func observerConfig(c api.Config) observer.Config {
	return observer.Config{
		Modules: c.Modules, DisabledHooks: c.DisabledHooks, LatencySampling: c.LatencySampling, MaxOverhead: c.MaxOverheadPercent / 100,
	}
}

// Configure brings what change makes of the configuration in force into force, whole or not at all: the error says why, and all is as it
// was. It serves the API. Changes take turns, those by a signal too.
func (s *Service) Configure(ctx context.Context, change func(api.Config) (api.Config, error)) error {
	if s.observer == nil {
		return errors.New("eBPF observation is off until the server is started again: the health tells why")
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	c, err := change(s.Config())
	if err != nil {
		return err
	}
	if err = c.Validate(); err != nil {
		return err
	}
	defer giveBack()
	if err = s.observer.Configure(ctx, observerConfig(c)); err != nil {
		return err
	}
	s.mu.Lock()
	s.config, s.health = c, s.observer.Health()
	s.mu.Unlock()
	s.logConfig(c)
	select {
	case s.changed <- struct{}{}:
	default:
		// It is going to look anyway.
	}
	return nil
}

func (s *Service) logConfig(c api.Config) {
	hooks := hookMap(c.DisabledHooks)
	s.log.Info().Strs("modules", c.Modules).Stringer("disabled_hooks", &hooks).Uint32("latency_sampling", c.LatencySampling).
		Stringer("collect_interval", time.Duration(c.CollectInterval)).Float64("max_overhead_percent", c.MaxOverheadPercent).
		Msg("eBPF observation is configured anew")
}

// Reload reads the configuration file again and brings it into force, as Configure does. It serves the API.
func (s *Service) Reload(ctx context.Context) error {
	if s.configFile == "" {
		return fmt.Errorf("there is no --ebpf-config-file: %w", errors.ErrUnsupported)
	}
	return s.Configure(ctx, func(api.Config) (api.Config, error) { return s.fileConfig() })
}

// takeSignal has SIGHUP be a wish to read the configuration file again, where there is one. BanyanDB's own handler takes the
// signal for one to stop, and must have asked for it before.
func (s *Service) takeSignal() <-chan os.Signal {
	if s.configFile == "" {
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
		s.log.Error().Err(err).Msg("eBPF observation stays configured as it was")
	}
}

// serveAPI opens the API. The server works without it, too.
func (s *Service) serveAPI() {
	s.listen.Report = func(err error) { s.log.Warn().Err(err).Msg("serving the eBPF API") }
	a := api.New(source{s}, s, api.Options{Available: func() []string {
		// What is wrong with the source has been told when the flags were checked.
		names, _ := s.known()
		return names
	}})
	served, err := a.Listen(s.listen)
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
