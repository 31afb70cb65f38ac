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

package observer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/cputime"
)

// ErrClosed is returned by methods that need an open Observer.
var ErrClosed = errors.New("observer is closed")

// Options of Open. The zero value opens all built-in modules on the calling process.
type Options struct {
	// Sources provide the modules. None means BuiltIn. Of two modules with the same name, or with a metric of the same
	// name, the first counts. The later one is refused; Health reports that, and any other fault of a module.
	Sources []Source
	// Config may be changed later. No Modules means all that the sources provide.
	Config
	// Attachment is the only kind of attachment to try, for measurement and troubleshooting. Empty means the first kind that works,
	// hook by hook.
	Attachment kprobe.Attachment
	// ScratchDirs are where verification may make a temporary folder for known work. It uses the first one on a disk,
	// since the page cache can be verified only there, else the first one that can be written to. Empty means the
	// system's folder for temporary files.
	ScratchDirs []string
	// Scope is the process to observe. Zero means the calling one.
	Scope kprobe.Scope
	// Works determine the work of the calling process that events are attributed to. If it is nil, or if Scope is
	// another process, the metrics by work are absent.
	Works *Works
	// Verify checks each metric before it is exported: the modules are opened for one thread alone, which does known
	// work, and a metric that did not count exactly that is left out; Health reports why. It takes about a tenth of a
	// second; the work is given up after ten seconds.
	Verify bool
}

// Observer is a set of attached modules. It must be closed. All methods may be called from any goroutine.
type Observer struct {
	objects      *sources
	opts         Options     // those of Open
	attributor   *attributor // how events are attributed to works; nil if they are not
	unattributed []Warning

	receipts *receiptPool // nil if there are none, and during verification

	callMu    sync.Mutex // serializes Refresh, Health, Close and changes; it is taken before mu
	config    Config     // the wanted one
	health    Health
	failures  []error  // of the modules that are down
	accounted Snapshot // what the overhead is computed from
	budget    budget

	mu      sync.RWMutex // guards what Snapshot reads
	modules []*module    // that are open, enabled or not
	schema  []Metric     // of those that count; a new slice after each change
	files   []fileMetric // likewise
	words   int
	closed  bool
}

// module is one attached module.
type module struct {
	probes   *kprobe.Probes
	counters *counters
	metrics  []Metric     // that verification has not left out, whether or not they are fed at the moment
	files    []fileMetric // those that go with metrics
	receipts []Metric     // the fields of receipts, likewise
	offset   int          // of its first word in a snapshot
	health   int          // the index of its entry in the health
	state    state

	// Guarded by the observer's callMu.
	accounts []account
	overhead time.Duration
	budget   moduleBudget
	rested   int // calls of Refresh while it was shed
}

// ValidateNames returns a *FieldError for each name of a module or hook that the sources do not have, joined. It needs no eBPF and works
// everywhere. Config.Validate checks the other values.
func (opts Options) ValidateNames() error {
	objects, err := merge(opts.Sources)
	if err != nil {
		return err
	}
	return objects.check(opts.Config)
}

// Open attaches modules. One that fails does not affect the others: Health has its cause. Open returns an error if the
// configuration is not valid (see Config.Validate and ValidateNames; zeros mean defaults), if ctx ends, or if no module
// could be attached, which is a *DownError with the health. The Observer must be closed.
func Open(ctx context.Context, opts Options) (*Observer, error) {
	objects, err := merge(opts.Sources)
	if err != nil {
		return nil, err
	}
	c := opts.normal()
	if err = errors.Join(c.Validate(), objects.check(c)); err != nil {
		return nil, err
	}
	if len(c.Modules) == 0 {
		c.Modules = slices.Clone(objects.names)
	}
	if opts.Scope == (kprobe.Scope{}) {
		if opts.Scope, err = kprobe.Self(); err != nil {
			return nil, downError(c.Modules, err)
		}
	}
	o := &Observer{objects: objects, opts: opts}
	if opts.Works != nil {
		if o.attributor, o.unattributed, err = newAttributor(opts.Works, opts.Scope); err != nil { //nolint:contextcheck // it waits for nothing
			return nil, err
		}
		o.health.Warnings = o.unattributed
	}
	if o.attributor != nil {
		o.receipts = o.attributor.receipts
	}
	if err = o.openAll(ctx, c.Modules); err == nil {
		err = o.settle(c)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	if len(o.modules) == 0 {
		health := o.health.clone()
		health.Modules = append(health.Modules, objects.refused...)
		return nil, &DownError{Health: health, err: errors.Join(append(o.failures, objects.failures()...)...)}
	}
	if o.receipts != nil {
		o.attributor.giveReceipts()
	}
	return o, nil
}

// appendMetrics appends a module's metrics to a schema in which the module's words begin at offset.
func appendMetrics(schema, metrics []Metric, offset int) []Metric {
	for _, m := range metrics {
		m.offset += offset
		schema = append(schema, m)
	}
	return schema
}

// newCache makes the cache of the kernel's types for opening modules. They are tens of megabytes, so nothing keeps
// them.
var newCache = btf.NewCache

// openAll opens modules, and verifies them if wanted. Failures of a module are in its health; the error is that of ctx.
func (o *Observer) openAll(ctx context.Context, names []string) error {
	objects := make([]*object, len(names))
	for i, name := range names {
		objects[i] = o.objects.object(name)
	}
	// They are large, and rarely opened again.
	clear(o.objects.decoded)
	cache := newCache()
	var verified *verdicts
	if o.opts.Verify {
		verified = o.verify(ctx, objects, cache)
		if warnings := verified.warnings(); len(warnings) > 0 {
			o.health.Warnings = slices.Concat(o.unattributed, warnings)
		}
	}
	for _, object := range objects {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("opening module %s: %w", object.name, err)
		}
		o.open(object, o.probeOptions(cache), verified)
	}
	return nil
}

// step is called before each step of opening a module that is not in kprobe; if it returns an error, the step fails
// with it. Tests replace it.
var step = func(string) error { return nil }

// probeOptions returns the options for each module.
func (o *Observer) probeOptions(cache *btf.Cache) kprobe.Options {
	opts := kprobe.Options{Scope: o.opts.Scope, Cache: cache, Attachment: o.opts.Attachment}
	if o.attributor != nil {
		opts.Constants = o.attributor.constants
	}
	return opts
}

// open attaches one module and adds it to the health. verified is nil without verification.
func (o *Observer) open(object *object, opts kprobe.Options, verified *verdicts) {
	health := ModuleHealth{Name: object.name}
	m, metrics, files, err := o.load(object, opts)
	if err != nil {
		health.fail(err)
		o.health.enter(health)
		o.failures = append(o.failures, fmt.Errorf("%s: %w", object.name, err))
		return
	}
	health.Up = true
	health.Plan = m.probes.Plan()
	health.MapMemory = m.probes.MapMemory()
	health.Feeds = make(map[string][]string)
	for _, metric := range metrics {
		for _, hook := range metric.Hooks {
			health.Feeds[hook] = append(health.Feeds[hook], metric.Name)
		}
	}
	metrics = slices.DeleteFunc(metrics, func(metric Metric) bool {
		if !fed(metric, health.Plan) || metric.parts != nil && o.attributor == nil {
			health.Absent = append(health.Absent, metric.Name)
			return true
		}
		if verified == nil {
			return false
		}
		verdict := verified.of(&metric)
		health.Metrics = append(health.Metrics, verdict)
		return verdict.LeftOut
	})
	for i := range metrics {
		metrics[i].iterated = iterated(metrics[i], health.Plan)
	}
	m.receipts = o.fitReceipts(object.receipts, &health)
	m.offset = o.words
	m.metrics = appendMetrics(nil, metrics, m.offset)
	for _, f := range files {
		if slices.ContainsFunc(metrics, func(metric Metric) bool { return metric.Name == f.with }) {
			f.offset += m.offset
			m.files = append(m.files, f)
			for _, hook := range f.Hooks {
				health.Feeds[hook] = append(health.Feeds[hook], f.Name)
			}
		} else {
			health.Absent = append(health.Absent, f.Name)
		}
	}
	m.budget = newModuleBudget()
	m.accounts, health.OverheadAssumed = accountsOf(m.metrics, verified.costsOf(object.name))
	m.health = o.health.enter(health)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.words += m.counters.words
	o.modules = append(o.modules, m)
}

// name returns a module's name.
func (o *Observer) name(m *module) string { return o.health.Modules[m.health].Name }

// each calls do for every module. One that fails does not stop the others: the errors are joined.
func (o *Observer) each(do func(m *module) error) error {
	var errs []error
	for _, m := range o.modules {
		if err := do(m); err != nil {
			errs = append(errs, fmt.Errorf("module %s: %w", o.name(m), err))
		}
	}
	return errors.Join(errs...)
}

// fed reports whether a hook that feeds the metric is attached. A metric that names no hook belongs to the module.
func fed(m Metric, plan kprobe.Plan) bool {
	return len(m.Hooks) == 0 || slices.ContainsFunc(m.Hooks, plan.Attached)
}

// iterated reports whether the metric counts only when an iterator is run.
func iterated(m Metric, plan kprobe.Plan) bool {
	return len(m.Hooks) > 0 && !slices.ContainsFunc(plan, func(h kprobe.Hook) bool {
		return h.Variant != "" && h.Attachment != kprobe.Iter && slices.Contains(m.Hooks, h.Name)
	})
}

// load checks and attaches one module, and returns the metrics of its snapshots, and those by file.
func (o *Observer) load(object *object, opts kprobe.Options) (*module, []Metric, []fileMetric, error) {
	if err := cmp.Or(step("opening the object"), object.err); err != nil {
		return nil, nil, nil, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("counting the CPUs: %w", err)
	}
	opts.Entries = map[string]uint32{countersMap: uint32(cpus)}
	probes, err := kprobe.Load(object.spec, opts)
	if err != nil {
		return nil, nil, nil, err
	}
	if err = checkHooks(object.metrics, probes.Plan()); err != nil {
		return nil, nil, nil, errors.Join(err, probes.Close())
	}
	// The first pass takes the baseline: what the kernel has counted before is not this module's.
	if err = step("running the iterators"); err == nil {
		_, err = probes.Iterate()
	}
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("running the iterators: %w", err), probes.Close())
	}
	var counters *counters
	var metrics []Metric
	var files []fileMetric
	if err = step("mapping the counters"); err == nil {
		counters, metrics, files, err = o.mapCounters(object.entry, probes, cpus)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("mapping the counters: %w", err), probes.Close())
	}
	return &module{probes: probes, counters: counters}, metrics, files, nil
}

// mapCounters maps a module's counters, and its tables of works and files if events are attributed to them.
func (o *Observer) mapCounters(of *entry, probes *kprobe.Probes, cpus int) (*counters, []Metric, []fileMetric, error) {
	by := *cmp.Or(o.opts.Works, &Works{})
	if o.attributor == nil || !o.attributor.byFile {
		by.Files = nil
	}
	var works *workTable
	if of.updates >= 0 && o.attributor != nil {
		var err error
		if works, err = mapWorks(probes.Map(workTableMap), o.attributor); err != nil {
			return nil, nil, nil, err
		}
		if of.byFile && by.Files != nil {
			if err = works.mapFiles(probes.Map(fileTableMap)); err != nil {
				return nil, nil, nil, errors.Join(err, works.close())
			}
		}
	}
	metrics, files, words := of.metricsBy(&by)
	counters, err := mapCounters(probes.Map(countersMap), of, metrics, files, words, cpus, works)
	if err != nil && works != nil {
		err = errors.Join(err, works.close())
	}
	return counters, metrics, files, err
}

// checkHooks returns an error for a metric that names a hook which the module does not have: it would never be fed.
func checkHooks(metrics []Metric, plan kprobe.Plan) error {
	for _, m := range metrics {
		for _, hook := range m.Hooks {
			if !slices.ContainsFunc(plan, func(h kprobe.Hook) bool { return h.Name == hook }) {
				return errSchema(m.Name, "no program has hook %q", hook)
			}
		}
	}
	return nil
}

// Schema returns the metrics that are fed. The slice belongs to the Observer and does not change: each change of what
// is enabled makes a new one. Metrics of both are valid for later snapshots.
func (o *Observer) Schema() []Metric {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.schema
}

// Health returns the state of every requested module, and what it has cost so far. It makes a system call for each
// program.
func (o *Observer) Health() Health {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	// After Close the overhead stays as it was.
	_ = o.account()
	health := o.health.clone()
	for _, m := range o.modules {
		h := &health.Modules[m.health]
		// If it cannot be read it stays as it was: that is not the module's fault.
		if missed, err := m.probes.Missed(); err == nil {
			h.Missed = missed
		}
		h.Overhead, h.Level, h.DisabledHooks = m.overhead, m.state.level, slices.Clone(m.state.disabledHooks)
		m.tellShed(h)
	}
	for i := range health.Modules {
		if h := &health.Modules[i]; !slices.Contains(o.config.Modules, h.Name) {
			h.Disabled, h.Up, h.Cause, h.Remedy, h.Shed, h.ShedHooks = true, false, "", "", "", nil
		}
	}
	health.Modules = append(health.Modules, o.objects.refused...)
	return health
}

// Snapshot reads all counters into s, those of iterators as of the last Refresh. It makes no system call, and does not allocate if s was
// used before. Each word is read atomically, but the kernel keeps counting: a histogram may be one ahead of its counter. Returns
// ErrClosed after Close.
func (o *Observer) Snapshot(s *Snapshot) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	if len(s.words) != o.words {
		s.words = make([]uint64, o.words)
	}
	for _, m := range o.modules {
		m.counters.sum(s.words[m.offset:])
	}
	s.schema, s.files = o.schema, o.files
	if o.attributor != nil {
		s.places = &o.attributor.places
	}
	return nil
}

// Refresh must be called once per interval, before the snapshot. It runs the iterators, which read what the kernel
// keeps for each task and no event reports: their metrics grow only here. It also keeps the modules within their budget
// (Config.MaxOverheadPercent). It makes system calls, and takes longer the more tasks the machine has. Calls are
// serialized. A module that fails does not affect the others: its counters keep their values, and the errors are
// joined. Returns ErrClosed after Close.
func (o *Observer) Refresh() error {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	if o.closed {
		return ErrClosed
	}
	err := o.each(func(m *module) error {
		if !m.due() {
			return nil
		}
		return m.refresh()
	})
	return errors.Join(err, o.keepBudget(time.Now(), cputime.Process))
}

// iterates reports whether the module has iterators.
func (m *module) iterates() bool {
	return slices.ContainsFunc(m.probes.Plan(), func(h kprobe.Hook) bool { return h.Attachment == kprobe.Iter })
}

// refresh runs a module's iterators.
func (m *module) refresh() error {
	if !m.iterates() {
		return nil
	}
	var ran int
	var err error
	cost := cputime.Of(func() { ran, err = m.probes.Iterate() })
	if ran > 0 {
		m.overhead += cost
	}
	return err
}

// Close detaches all modules. Calling it again does nothing.
func (o *Observer) Close() error {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.receipts != nil {
		o.attributor.stopReceipts()
	}
	var errs []error
	for _, m := range slices.Backward(o.modules) {
		errs = append(errs, m.close())
	}
	o.modules = nil
	return errors.Join(errs...)
}

func (m *module) close() error { return errors.Join(m.probes.Close(), m.counters.close()) }
