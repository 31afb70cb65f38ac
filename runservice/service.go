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

// Package runservice integrates the observer into a server that is built on BanyanDB's run.Group: flags, lifecycle,
// interval, log.
//
// The server starts and serves whatever happens to eBPF: only an invalid flag or configuration file stops the start.
// Every other failure is logged once, with cause and remedy, and stays visible in Health and in the metric
// ebpf_module_up.
package runservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/apache/skywalking-banyandb/banyand/metadata"
	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/meterbridge"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/pkg/logger"
	"github.com/apache/skywalking-banyandb/pkg/meter"
	"github.com/apache/skywalking-banyandb/pkg/run"
)

const (
	name = "ebpf"

	messageOff     = "eBPF observation is off; the server runs without it"
	messageUnnamed = "the work of a function is not known; its events are attributed to work=other"
)

var (
	_ run.Config    = (*Service)(nil)
	_ run.PreRunner = (*Service)(nil)
	_ run.Service   = (*Service)(nil)
)

// Registry provides the instruments' factory. BanyanDB's observability.MetricsRegistry implements it.
type Registry interface {
	With(scope meter.Scope) observability.Factory
}

// Service observes its own process and feeds the registry's instruments. Register it after the metric service.
type Service struct {
	registry Registry
	schemas  metadata.Repo
	labels   *labelCheck           // nil if nothing is stored
	embedder observer.Options      // options that have no flag
	flags    flags                 // the operator's settings
	root     func() *pflag.FlagSet // the flags of the server's role, or nil

	// State from PreRun on.
	log      *logger.Logger
	observer *observer.Observer
	bridge   *meterbridge.Bridge
	api      *api.Server
	closer   *run.Closer
	changed  chan struct{} // signals collect that the configuration has changed
	running  bool          // PreRun has completed, and there is something to collect

	noting sync.Mutex // keeps noteState from overwriting newer state; locked before mu
	mu     sync.Mutex // guards the fields below
	wanted observer.Config
	health observer.Health
}

// Units returns a function that returns the units of a banyand role: its own Service, since each role has its own
// registry. root returns banyand's root command, once it exists: a role's flags name its data folders, which
// verification falls back to.
func Units(root func() *cobra.Command) func(role string, registry observability.MetricsRegistry, schemas metadata.Repo) []run.Unit {
	return func(role string, registry observability.MetricsRegistry, schemas metadata.Repo) []run.Unit {
		s := New(registry, observer.Options{}).WithSchemas(schemas)
		s.root = func() *pflag.FlagSet {
			for _, c := range root().Commands() {
				if c.Name() == role {
					return c.Flags()
				}
			}
			return nil
		}
		return []run.Unit{s}
	}
}

// New returns a Service for the modules of options.Sources. --ebpf-modules selects from the first source; the modules
// of further sources, users' own, are all opened. options.Config is ignored: the flags set it.
func New(registry Registry, options observer.Options) *Service {
	return &Service{registry: registry, embedder: options, closer: run.NewCloser(0), changed: make(chan struct{}, 1)}
}

// Name returns the unit's name.
func (s *Service) Name() string { return name }

// PreRun attaches the modules and makes the instruments. It returns no error: the server runs without eBPF too.
func (s *Service) PreRun(ctx context.Context) error {
	if !s.flags.enabled {
		return nil
	}
	s.log = logger.GetLogger(name)
	defer s.survive()
	var err error
	if s.wanted, err = s.fileConfig(); err != nil {
		// The file was valid in Validate and has changed since.
		s.log.Error().Err(err).Msg("the eBPF configuration file cannot be used; the flags apply")
		s.wanted = s.flagConfig()
	}
	o, err := observer.Open(ctx, s.options(s.wanted))
	var schema []observer.Metric
	var down *observer.DownError
	switch {
	case err == nil:
		s.observer = o
		s.noteState()
		schema = o.Schema()
	case errors.As(err, &down):
		s.setHealth(down.Health)
	default:
		s.off(err)
		return nil
	}
	s.logHealth(err)
	giveBack()
	s.bridge = meterbridge.New(s.factory(), schema)
	s.bridge.Report(s.Health())
	s.serveAPI()
	s.logSlowQueries()
	s.running = s.observer != nil
	return nil
}

// logSlowQueries takes the threshold of BanyanDB's own log of slow queries: a liaison's flag has another name.
func (s *Service) logSlowQueries() {
	if s.root == nil {
		return
	}
	flags := s.root()
	if flags == nil {
		return
	}
	for _, name := range []string{"slow-query", "dst-slow-query"} {
		if threshold, err := flags.GetDuration(name); err == nil {
			slow.log.Store(s.log)
			slow.threshold.Store(int64(threshold))
			return
		}
	}
}

// options returns the observer's options for a configuration.
func (s *Service) options(c observer.Config) observer.Options {
	options := s.embedder
	options.Config = c
	options.Verify, options.ScratchDirs = s.flags.verify, s.scratchDirs()
	options.Sources = s.sources()
	if options.Works == nil {
		options.Works = works()
	}
	if !s.flags.attribute {
		options.Works = nil
	}
	if s.flags.attach != attachAuto {
		options.Attachment = kprobe.Attachment(s.flags.attach)
	}
	return options
}

// sources returns the sources of modules: the embedder's, or the built-in modules, and then the users' folder.
func (s *Service) sources() []observer.Source {
	sources := slices.Clone(s.embedder.Sources)
	if len(sources) == 0 {
		sources = []observer.Source{observer.BuiltIn()}
	}
	if s.flags.moduleDir != "" {
		sources = append(sources, observer.ModuleDir(s.flags.moduleDir))
	}
	return sources
}

// giveBack returns memory to the system. The kernel's BTF, read to open modules, takes tens of megabytes, which the
// runtime would otherwise keep for a while.
func giveBack() { debug.FreeOSMemory() }

// scratchDirs returns the folders that verification may use, in order of preference.
func (s *Service) scratchDirs() []string {
	var dirs []string
	if s.flags.scratchDir != "" {
		dirs = append(dirs, s.flags.scratchDir)
	}
	dirs = append(dirs, os.TempDir())
	if s.root == nil {
		return dirs
	}
	if flags := s.root(); flags != nil {
		flags.VisitAll(func(f *pflag.Flag) {
			// measure-root-path and the like.
			if dir := f.Value.String(); strings.HasSuffix(f.Name, "-root-path") && dir != "" && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		})
	}
	return dirs
}

// Serve collects at the interval until GracefulStop.
func (s *Service) Serve() run.StopNotify {
	reload := s.takeSignal()
	s.checkLabels()
	if s.running && s.closer.AddRunning() {
		go s.collect(reload)
	}
	return s.closer.CloseNotify()
}

// GracefulStop stops the API and the collection, and detaches everything.
func (s *Service) GracefulStop() {
	if s.api != nil {
		if err := s.api.Close(); err != nil {
			s.log.Error().Err(err).Msg("closing the eBPF API")
		}
	}
	s.closer.CloseThenWait()
	s.stopObserver()
}

// Health returns the state of every module. It is empty if the service is disabled.
func (s *Service) Health() observer.Health {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health
}

func (s *Service) setHealth(h observer.Health) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health = h
}

// collect pushes the counters once per interval, and immediately when the configuration has changed, until the service
// stops.
func (s *Service) collect(reload <-chan os.Signal) {
	defer s.closer.Done()
	defer s.survive()
	ticker := time.NewTicker(s.Config().CollectInterval)
	defer ticker.Stop()
	var failing episode
	var unnamed []string
	for {
		s.logEpisode(&failing, s.bridge.Collect(s.observer))
		unnamed = s.logUnnamed(unnamed)
		health := s.observer.Health()
		s.logLevels(s.Health(), health)
		s.setHealth(health)
		s.bridge.Report(health)
		select {
		case <-ticker.C:
		case <-s.changed:
			ticker.Reset(s.Config().CollectInterval)
		case <-reload:
			s.reload()
		case <-s.closer.CloseNotify():
			return
		}
	}
}

// logUnnamed logs the functions without a known work that have been found since the last call, and returns all that
// have been found so far.
func (s *Service) logUnnamed(known []string) []string {
	all := s.observer.UnnamedWork()
	for _, function := range all {
		if !slices.Contains(known, function) {
			s.log.Info().Str("function", function).Msg(messageUnnamed)
		}
	}
	return all
}

// episode is a period in which collecting fails.
type episode struct {
	since time.Time // zero if there is none
	cause string
}

// logEpisode logs when an episode begins, when its cause changes, and when it ends. ebpf_collect_success covers each
// collection.
func (s *Service) logEpisode(e *episode, err error) {
	switch {
	case err == nil && e.since.IsZero(), err != nil && err.Error() == e.cause:
		return
	case err == nil:
		s.log.Info().Stringer("after", time.Since(e.since).Round(time.Second)).Msg("eBPF counters are collected again")
		*e = episode{}
		return
	case e.since.IsZero():
		e.since = time.Now()
	}
	e.cause = err.Error()
	withRemedy(s.log.Error().Err(err), kprobe.Remedy(err)).Msg("collecting eBPF counters fails; those that could not be read keep their values")
}

// withRemedy adds the remedy, if known, to a log line.
func withRemedy(event *zerolog.Event, remedy string) *zerolog.Event {
	if remedy == "" {
		return event
	}
	return event.Str("remedy", remedy)
}

// logLevels logs which modules have been shed or restored.
func (s *Service) logLevels(before, after observer.Health) {
	for _, m := range after.Modules {
		i := slices.IndexFunc(before.Modules, func(b observer.ModuleHealth) bool { return b.Name == m.Name })
		if i < 0 || before.Modules[i].Level == m.Level {
			continue
		}
		event := s.log.Warn()
		if m.Level == observer.LevelFull {
			event = s.log.Info()
		}
		event = event.Str("ebpf_module", m.Name).Stringer("from", before.Modules[i].Level).Stringer("to", m.Level)
		switch {
		case m.Level == observer.LevelFull:
			event.Msg("an eBPF module counts everything again")
		case m.Level > before.Modules[i].Level:
			event.Str("cause", m.Shed).Msg("an eBPF module costs more than --ebpf-max-overhead and is shed; ebpf_shed_level tells how far")
		default:
			event.Msg("an eBPF module that was shed is restored by one level")
		}
	}
}

// survive is deferred so that a panic, because of an unexpected probe object or provider, does not end a server that
// stores data. Observation stops after a panic.
func (s *Service) survive() {
	if p := recover(); p != nil {
		s.stopObserver()
		s.off(fmt.Errorf("panic: %v", p))
	}
}

// off records and logs that no module counts, for a reason outside of the modules.
func (s *Service) off(err error) {
	var h observer.Health
	for _, m := range s.Config().Modules {
		h.Modules = append(h.Modules, observer.ModuleHealth{Name: m, Cause: err.Error()})
	}
	s.setHealth(h)
	s.log.Error().Err(err).Msg(messageOff)
}

// logHealth logs one summary line for the operator after a start, and one line for each warning.
func (s *Service) logHealth(err error) {
	health := s.Health()
	for _, w := range health.Warnings {
		withRemedy(s.log.Warn().Str("cause", w.Cause), w.Remedy).Msg("eBPF observation has a warning")
	}
	var down *observer.DownError
	if errors.As(err, &down) {
		withRemedy(s.log.Warn().Err(err), down.Remedy()).Msg(messageOff)
		return
	}
	event, message := s.log.Info(), "eBPF observation is on"
	switch {
	case slices.ContainsFunc(health.Modules, func(m observer.ModuleHealth) bool { return !m.Up || len(m.LeftOut()) > 0 }):
		event, message = s.log.Warn(), "eBPF observation is on, but not with all modules and metrics"
	case len(health.Warnings) > 0:
		event, message = s.log.Warn(), "eBPF observation is on, with warnings"
	}
	// Users choose the names of modules, which must not collide with the log's own keys.
	modules, remedies := zerolog.Dict(), zerolog.Dict()
	for _, m := range health.Modules {
		modules = modules.Str(m.Name, m.Summary())
		if m.Remedy != "" {
			remedies = remedies.Str(m.Name, m.Remedy)
		}
	}
	event = event.Dict("modules", modules)
	if slices.ContainsFunc(health.Modules, func(m observer.ModuleHealth) bool { return m.Remedy != "" }) {
		event = event.Dict("remedies", remedies)
	}
	event.Msg(message)
}

func (s *Service) stopObserver() {
	if s.observer == nil {
		return
	}
	if err := s.observer.Close(); err != nil {
		s.log.Error().Err(err).Msg("detaching eBPF probes")
	}
}
