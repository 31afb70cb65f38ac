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

// Package runservice puts the observer into a server that is built on BanyanDB's run.Group: flags, lifecycle, interval,
// log.
//
// Whatever eBPF does, the server starts and serves: a wrong flag is the only error that the service ever returns.
// Everything else is logged once, with its cause and what to do, and stays readable in Health and in the metric
// ebpf_module_up.
package runservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

	defaultModules = "io,cache,memory,sched"
	// Each read of a file passes this hook, on the whole host, to tell what the pages that are filled and the bytes that are
	// read tell nearly as well.
	defaultDisabledHooks = "cache.lookup"
	defaultInterval      = 5 * time.Second
	intervals            = "100ms to 1h"
	samplings            = "1 (all) to 1024"

	messageOff = "eBPF observation is off; the server runs without it"
)

var (
	_ run.Config    = (*Service)(nil)
	_ run.PreRunner = (*Service)(nil)
	_ run.Service   = (*Service)(nil)
)

// Registry gives the instruments' factory. BanyanDB's observability.MetricsRegistry is one.
type Registry interface {
	With(scope meter.Scope) observability.Factory
}

// Service observes its own process and feeds the registry's instruments. Register it after the metric service.
type Service struct {
	registry    Registry
	schemas     Schemas
	labels      *labelCheck // nil if nothing is stored
	log         *logger.Logger
	observer    *observer.Observer
	bridge      *meterbridge.Bridge
	closer      *run.Closer
	options     observer.Options
	health      observer.Health
	modules     moduleList
	disabled    hookMap
	attach      string
	scratchDir  string
	moduleDir   string
	configFile  string
	listen      api.ListenOptions
	api         *api.Server
	config      api.Config    // in force
	changed     chan struct{} // tells collect that there is another configuration
	interval    time.Duration
	maxOverhead float64
	sampling    uint32
	mu          sync.Mutex // guards health and config
	changing    sync.Mutex // makes one change of the configuration wait for another; it is taken before mu
	flags       func() *pflag.FlagSet
	enabled     bool
	verify      bool
	running     bool // PreRun has come to its end, and there is something to collect
}

// Units returns a factory of what a role of banyand registers: one Service of its own, since each role has its own registry. root
// returns banyand's command, once it is made: a role's flags say where its data is, which is where metrics are verified if nothing
// else is named.
func Units(root func() *cobra.Command) func(role string, registry observability.MetricsRegistry, schemas metadata.Repo) []run.Unit {
	return func(role string, registry observability.MetricsRegistry, schemas metadata.Repo) []run.Unit {
		s := New(registry, observer.Options{}).WithSchemas(schemas)
		s.flags = func() *pflag.FlagSet {
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

// DefaultModules are those that --ebpf-modules names by itself. The others cost more, or cost other processes something.
func DefaultModules() []string { return strings.Split(defaultModules, ",") }

// DefaultDisabledHooks returns the hooks that are not attached if nothing is said.
func DefaultDisabledHooks() map[string][]string {
	var hooks hookMap
	// The text is ours.
	_ = hooks.Set(defaultDisabledHooks)
	return hooks
}

// New returns a Service over the modules of options.Sources, of the first of which --ebpf-modules says what to open.
func New(registry Registry, options observer.Options) *Service {
	return &Service{registry: registry, options: options, closer: run.NewCloser(0), changed: make(chan struct{}, 1)}
}

// Name returns the unit's name.
func (s *Service) Name() string { return name }

// FlagSet returns the service's flags.
func (s *Service) FlagSet() *run.FlagSet {
	flags := run.NewFlagSet(name)
	s.modules = DefaultModules()
	flags.BoolVar(&s.enabled, "ebpf-enabled", false,
		"observe this process with eBPF: its system calls, page cache, memory reclaim and CPU use become metrics; needs Linux 5.10, CAP_BPF and CAP_PERFMON")
	flags.Var(&s.modules, "ebpf-modules", "the eBPF probe modules to load, separated by commas")
	s.disabled = DefaultDisabledHooks()
	flags.Var(&s.disabled, "ebpf-disabled-hooks",
		"hooks of eBPF modules that are not attached, as module.hook, separated by commas; empty attaches all; \"banyand ebpf plan\" lists them")
	flags.StringVar(&s.moduleDir, "ebpf-module-dir", "",
		"a folder with eBPF probe modules of your own, <module>.bpf.o, all of which are loaded besides --ebpf-modules; "+
			"it and its files must belong to root or the server's user, and nobody else may write to them")
	flags.StringVar(&s.attach, "ebpf-attach", attachAuto,
		"how to attach eBPF probes: "+strings.Join(attaches(), ", ")+
			"; auto takes the first that works, hook by hook; with another one, for measurement and troubleshooting, a hook that cannot be attached that way is left out")
	flags.Uint32Var(&s.sampling, "ebpf-latency-sampling", 1,
		"time one of so many system calls, at random, and let it stand for all; counts and bytes stay exact; "+samplings)
	flags.Float64Var(&s.maxOverhead, "ebpf-max-overhead", 2,
		"how much of the server's CPU time, in percent, one eBPF module may cost, 0 for no limit; 0.1 % of one CPU is always allowed; "+
			"a module above both for a minute is shed step by step: it times fewer calls and runs its iterators less often, then detaches a hook, then all")
	flags.BoolVar(&s.verify, "ebpf-verify", true,
		"have each eBPF metric prove itself at start, by known work in a scratch folder, and leave out what is wrong; takes some tenths of a second")
	flags.StringVar(&s.scratchDir, "ebpf-scratch-dir", "",
		"where eBPF verification makes its scratch folder, best on the data's disk; where that is not possible, and if it is empty, "+
			"the system's folder for temporary files is tried, then the server's data folders")
	flags.DurationVar(&s.interval, "ebpf-collect-interval", defaultInterval,
		"how often the eBPF counters are collected into metrics, "+intervals)
	s.apiFlags(flags)
	return flags
}

// Validate checks the flags, also if the service is disabled.
func (s *Service) Validate() error {
	known, err := s.known()
	if err != nil {
		return err
	}
	err = errors.Join(s.modules.validate(known), s.disabled.validate(s.sources()[0], known))
	if !slices.Contains(attaches(), s.attach) {
		err = errors.Join(err, fmt.Errorf("--ebpf-attach=%s: allowed are %s", s.attach, strings.Join(attaches(), ", ")))
	}
	if s.moduleDir != "" && !filepath.IsAbs(s.moduleDir) {
		err = errors.Join(err, fmt.Errorf("--ebpf-module-dir=%s: allowed is a path that begins with /", s.moduleDir))
	}
	return errors.Join(err, s.validateRunTime())
}

// PreRun attaches the modules and makes the instruments. It returns no error: the server runs without eBPF too.
func (s *Service) PreRun(ctx context.Context) error {
	if !s.enabled {
		return nil
	}
	s.log = logger.GetLogger(name)
	defer s.survive()
	var err error
	if s.config, err = s.fileConfig(); err != nil {
		// Validate has found nothing wrong: this came later.
		s.log.Error().Err(err).Msg("the flags are in force")
		s.config = s.flagConfig()
	}
	o, err := observer.Open(ctx, s.openOptions(s.config))
	var schema []observer.Metric
	var down *observer.DownError
	switch {
	case err == nil:
		s.observer = o
		s.leaveOut(ctx)
		s.setHealth(o.Health())
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
	s.running = s.observer != nil
	return nil
}

// openOptions are the options that the flags say.
func (s *Service) openOptions(c api.Config) observer.Options {
	options := s.options
	wanted := observerConfig(c)
	options.Modules, options.DisabledHooks, options.LatencySampling, options.MaxOverhead = wanted.Modules, wanted.DisabledHooks, wanted.LatencySampling, wanted.MaxOverhead
	options.Verify, options.ScratchDirs = s.verify, s.scratchDirs()
	options.Sources = s.sources()
	if s.attach != attachAuto {
		options.Attach = kprobe.Attach(s.attach)
	}
	return options
}

// sources are where modules come from: the embedder's, or the built-in ones, and then the folder of the users'.
func (s *Service) sources() []observer.Source {
	sources := slices.Clone(s.options.Sources)
	if len(sources) == 0 {
		sources = []observer.Source{observer.BuiltIn()}
	}
	if s.moduleDir != "" {
		sources = append(sources, observer.ModuleDir(s.moduleDir))
	}
	return sources
}

// giveBack returns memory to the system. What was read of the kernel's types to open modules is tens of megabytes, which the runtime
// would keep for a while.
func giveBack() { debug.FreeOSMemory() }

// scratchDirs are the folders where verification may work, the best first.
func (s *Service) scratchDirs() []string {
	var dirs []string
	if s.scratchDir != "" {
		dirs = append(dirs, s.scratchDir)
	}
	dirs = append(dirs, os.TempDir())
	if s.flags == nil {
		return dirs
	}
	if flags := s.flags(); flags != nil {
		flags.VisitAll(func(f *pflag.Flag) {
			// measure-root-path and the like.
			if dir := f.Value.String(); strings.HasSuffix(f.Name, "-root-path") && dir != "" && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		})
	}
	return dirs
}

// attachAuto lets each hook have the first kind of attachment that works.
const attachAuto = "auto"

// attaches are the values of --ebpf-attach. No built-in module has a raw_tp program.
func attaches() []string {
	return []string{attachAuto, string(kprobe.Fentry), string(kprobe.TPBTF), string(kprobe.Tracepoint), string(kprobe.Kprobe)}
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

// GracefulStop detaches everything.
func (s *Service) GracefulStop() {
	if s.api != nil {
		if err := s.api.Close(); err != nil {
			s.log.Error().Err(err).Msg("closing the eBPF API")
		}
	}
	s.closer.CloseThenWait()
	s.stopObserver()
}

// Health tells the state of every module. It is empty if the service is disabled.
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

// collect pushes the counters once in each interval, and at once when the configuration has changed, until the service is to
// stop.
func (s *Service) collect(reload <-chan os.Signal) {
	defer s.closer.Done()
	defer s.survive()
	ticker := time.NewTicker(time.Duration(s.Config().CollectInterval))
	defer ticker.Stop()
	var failing episode
	for {
		s.logEpisode(&failing, s.bridge.Collect(s.observer))
		health := s.observer.Health()
		s.logLevels(s.Health(), health)
		s.setHealth(health)
		s.bridge.Report(health)
		select {
		case <-ticker.C:
		case <-s.changed:
			ticker.Reset(time.Duration(s.Config().CollectInterval))
		case <-reload:
			s.reload()
		case <-s.closer.CloseNotify():
			return
		}
	}
}

// episode is a time in which collecting fails.
type episode struct {
	since time.Time // zero if it does not
	cause string
}

// logEpisode logs when an episode begins, when its cause changes, and when it ends. ebpf_collect_success tells of each collection.
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
	withRemedy(s.log.Error().Err(err), kprobe.Remedy(err)).Msg("collecting eBPF counters fails; what could not be read stays as it was")
}

// withRemedy adds what to do about it to a line, where that is known.
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

// survive is deferred where a panic would end a server that stores data, because a probe's object or a provider surprised
// us. Nothing is observed after it.
func (s *Service) survive() {
	if p := recover(); p != nil {
		s.stopObserver()
		s.off(fmt.Errorf("panic: %v", p))
	}
}

// off notes and logs that no module counts, for a reason that is none of theirs.
func (s *Service) off(err error) {
	var h observer.Health
	for _, m := range s.config.Modules {
		h.Modules = append(h.Modules, observer.ModuleHealth{Name: m, Cause: err.Error()})
	}
	s.setHealth(h)
	s.log.Error().Err(err).Msg(messageOff)
}

// logHealth writes the one line that an operator reads after a start, and one for each warning.
func (s *Service) logHealth(err error) {
	health := s.Health()
	for _, w := range health.Warnings {
		withRemedy(s.log.Warn().Str("cause", w.Cause), w.Remedy).Msg("eBPF observation is not as it should be")
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
	// Modules have names of their users' choice, which must not be taken for the names that the log itself has.
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
