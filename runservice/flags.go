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
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/pkg/run"
)

const (
	defaultModules = "io,cache,memory,sched"
	// This hook runs for every file read on the whole host, and adds little to the counts of filled pages and of bytes
	// read.
	defaultDisabledHooks = "cache.lookup"
	intervals            = "100ms to 1h"
	samplings            = "1 (all) to 1024"
)

// flags are the operator's settings at the start.
type flags struct {
	config     observer.Config
	listen     api.ListenOptions
	attach     string
	scratchDir string
	moduleDir  string
	configFile string
	enabled    bool
	verify     bool
	attribute  bool
}

// DefaultModules returns the default of --ebpf-modules. The other modules have a higher overhead, or an overhead for
// other processes.
func DefaultModules() []string { return strings.Split(defaultModules, ",") }

// DefaultDisabledHooks returns the default of --ebpf-disabled-hooks.
func DefaultDisabledHooks() map[string][]string {
	var hooks hookMap
	// Our own default is valid.
	_ = hooks.Set(defaultDisabledHooks)
	return hooks
}

// FlagSet returns the service's flags.
func (s *Service) FlagSet() *run.FlagSet {
	f := &s.flags
	f.config = observer.Config{Modules: DefaultModules(), DisabledHooks: DefaultDisabledHooks()}
	flags := run.NewFlagSet(name)
	flags.BoolVar(&f.enabled, "ebpf-enabled", false,
		"observe this process with eBPF: its system calls, page cache, memory reclaim and CPU use become metrics; needs Linux 5.10, CAP_BPF and CAP_PERFMON")
	flags.Var((*moduleList)(&f.config.Modules), "ebpf-modules", "the eBPF probe modules to load, separated by commas")
	flags.Var((*hookMap)(&f.config.DisabledHooks), "ebpf-disabled-hooks",
		"hooks of eBPF modules that are not attached, as module.hook, separated by commas; empty attaches all; \"banyand ebpf plan\" lists them")
	flags.StringVar(&f.moduleDir, "ebpf-module-dir", "",
		"a folder with eBPF probe modules of your own, <module>.bpf.o, all of which are loaded in addition to --ebpf-modules; "+
			"it and its files must belong to root or the server's user, and must not be writable by others")
	flags.StringVar(&f.attach, "ebpf-attach", attachAuto,
		"how to attach eBPF probes: "+strings.Join(attaches(), ", ")+
			"; auto takes the first that works, hook by hook; with another one, for measurement and troubleshooting, a hook that cannot be attached that way is left out")
	flags.Uint32Var(&f.config.LatencySampling, "ebpf-latency-sampling", 1,
		"time one in so many system calls, at random, as a sample of all; counts and bytes stay exact; "+samplings)
	flags.Float64Var(&f.config.MaxOverheadPercent, "ebpf-max-overhead", 2,
		"how much of the server's CPU time, in percent, one eBPF module may cost, 0 for no limit; 0.1 % of one CPU is always allowed; "+
			"a module above both for a minute is shed step by step: it times fewer calls and runs its iterators less often, then detaches a hook, then all")
	flags.BoolVar(&f.verify, "ebpf-verify", true,
		"verify each eBPF metric at start, with known work in a scratch folder, and leave out those that are wrong; takes a few tenths of a second")
	flags.BoolVar(&f.attribute, "ebpf-attribution", true,
		"break eBPF counters down by the server's own work, such as queries and merges, and give each query a receipt of what the kernel did for it; "+
			"needs process_vm_readv(2) at start; without it the metrics with \"attributed\" in their names are absent")
	flags.StringVar(&f.scratchDir, "ebpf-scratch-dir", "",
		"where eBPF verification makes its scratch folder, best on the data's disk; where that is not possible, and if it is empty, "+
			"the system's folder for temporary files is tried, then the server's data folders")
	flags.DurationVar(&f.config.CollectInterval, "ebpf-collect-interval", observer.DefaultInterval,
		"how often the eBPF counters are collected into metrics, "+intervals)
	f.listenFlags(flags)
	return flags
}

// listenFlags adds the flags for queries and changes at run time.
func (f *flags) listenFlags(flags *run.FlagSet) {
	flags.StringVar(&f.configFile, "ebpf-config-file", "",
		"YAML file of eBPF observation whose fields modules, disabled_hooks, latency_sampling, collect_interval and max_overhead_percent "+
			"override the --ebpf flags; it is read again on SIGHUP, which then does not end the server, and when the eBPF API is asked to")
	const address = ", as host:port, or as a port alone for 127.0.0.1; empty is off; an address that other machines reach needs --ebpf-token-file"
	flags.StringVar(&f.listen.HTTPAddr, "ebpf-http-addr", "", "where the HTTP API and the page of eBPF observation listen"+address)
	flags.StringVar(&f.listen.GRPCAddr, "ebpf-grpc-addr", "", "where the gRPC API of eBPF observation listens"+address)
	flags.StringVar(&f.listen.TLSCert, "ebpf-tls-cert", "",
		"PEM file of the TLS certificate of the eBPF APIs, HTTP and gRPC; needs --ebpf-tls-key; empty is no TLS; it is read again when it changes")
	flags.StringVar(&f.listen.TLSKey, "ebpf-tls-key", "",
		"PEM file of the private key of the TLS certificate of the eBPF APIs; needs --ebpf-tls-cert; it is read again when it changes")
	flags.StringVar(&f.listen.TokenFile, "ebpf-token-file", "",
		"file of the bearer token that clients of the eBPF APIs, HTTP and gRPC, must have; empty is no token; it is read again when it changes")
}

// Validate checks the flags and the configuration file, even if the service is disabled.
func (s *Service) Validate() error {
	var errs []error
	f := &s.flags
	if len(f.config.Modules) == 0 {
		errs = append(errs, errors.New("--ebpf-modules is empty (available: "+strings.Join(s.Available(), ", ")+")"))
	}
	errs = append(errs, flagErrors(errors.Join(f.config.Validate(), s.options(f.config).ValidateNames())))
	if !slices.Contains(attaches(), f.attach) {
		errs = append(errs, fmt.Errorf("--ebpf-attach=%s: unknown kind (available: %s)", f.attach, strings.Join(attaches(), ", ")))
	}
	if f.moduleDir != "" && !filepath.IsAbs(f.moduleDir) {
		errs = append(errs, fmt.Errorf("--ebpf-module-dir=%s: not an absolute path", f.moduleDir))
	}
	if err := f.listen.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("the eBPF API: %w", err))
	}
	if f.configFile != "" {
		_, err := s.fileConfig()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// flagErrors replaces the names of invalid configuration fields by those of their flags.
func flagErrors(err error) error {
	switch e := err.(type) { //nolint:errorlint // it walks joined errors
	case *observer.FieldError:
		return fmt.Errorf("--ebpf-%s: %w", strings.ReplaceAll(strings.TrimSuffix(e.Field, "_percent"), "_", "-"), e.Err)
	case interface{ Unwrap() []error }:
		errs := slices.Clone(e.Unwrap())
		for i := range errs {
			errs[i] = flagErrors(errs[i])
		}
		return errors.Join(errs...)
	}
	return err
}

// attachAuto attaches each hook by the first kind of attachment that works.
const attachAuto = "auto"

// attaches returns the values of --ebpf-attach. No built-in module has a raw_tp program.
func attaches() []string {
	return []string{attachAuto, string(kprobe.Fentry), string(kprobe.TPBTF), string(kprobe.Tracepoint), string(kprobe.Kprobe)}
}

var _ pflag.Value = (*moduleList)(nil)

// moduleList is the value of --ebpf-modules. Unlike pflag's string slices it accepts the list of a YAML file, which is
// passed to a flag as "[io cache]".
type moduleList []string

// String returns the names separated by commas.
func (l *moduleList) String() string { return strings.Join(*l, ",") }

// Set parses names that are separated by commas or spaces.
func (l *moduleList) Set(text string) error {
	*l = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []", r) })
	return nil
}

// Type returns the name of the type in the help text.
func (l *moduleList) Type() string { return "strings" }

var _ pflag.Value = (*hookMap)(nil)

// hookMap is a flag value of hooks by module, in text form "module.hook,module.hook".
type hookMap map[string][]string

// String lists the hooks.
func (h *hookMap) String() string {
	var all []string
	for _, module := range slices.Sorted(maps.Keys(*h)) {
		for _, hook := range (*h)[module] {
			all = append(all, module+"."+hook)
		}
	}
	return strings.Join(all, ",")
}

// Set parses a list, with or without the brackets of a list in a YAML file.
func (h *hookMap) Set(text string) error {
	*h = make(hookMap)
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []", r) }) {
		module, hook, ok := strings.Cut(name, ".")
		if !ok {
			return fmt.Errorf("%q is not named module.hook", name)
		}
		(*h)[module] = append((*h)[module], hook)
	}
	return nil
}

// Type is shown in the help.
func (h *hookMap) Type() string { return "strings" }
