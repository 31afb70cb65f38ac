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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// ErrClosed is returned by what needs an open Observer.
var ErrClosed = errors.New("observer is closed")

// ErrUnknownModule is returned for the name of a module that there is no object of.
var ErrUnknownModule = errors.New("unknown module")

// Options of Open. The zero value opens all built-in modules on the calling process.
type Options struct {
	// Objects holds the modules, one file <name>.bpf.o each. Nil means the built-in ones.
	Objects fs.FS
	// Modules names those to open, in this order. Empty means all.
	Modules []string
	// Step is called before each step of a module's opening that may fail, with what is about to be done; an error makes
	// the step fail with it. It is there to test what happens then.
	Step func(what string) error
	// Attach is the only kind of attachment to try, for measurement and in trouble. Empty means the first kind that works,
	// hook by hook.
	Attach kprobe.Attach
	// ScratchDir is where verification makes a folder of its own for known work, and removes it. Empty means the
	// system's folder for temporary files. On a disk the page cache can be verified too.
	ScratchDir string
	// Scope is the process to observe. Zero means the calling one.
	Scope kprobe.Scope
	// LatencySampling has one of so many frequent events timed, and its duration stand for all of them. Counts and bytes
	// stay exact. 0 and 1 time all.
	LatencySampling uint32
	// Verify has each metric prove itself before it is counted: the modules are opened for one thread alone, which does
	// known work, and a metric that has not counted just that is left out; Health tells why. It takes about a tenth of a
	// second; work that is not done after ten seconds is given up.
	Verify bool
}

// Observer is a set of attached modules. It must be closed. All methods may be called from any goroutine.
type Observer struct {
	modules   []*module
	metrics   []Metric
	health    Health
	failures  []error // of the modules that are down
	words     int
	mu        sync.RWMutex // guards the mapped memory and the probes against Close
	pass      sync.Mutex   // makes one Refresh, Account, Shed or Restore wait for another
	closed    bool
	sampling  uint32
	accounted Snapshot // of Account
}

// module is one attached module.
type module struct {
	probes   *kprobe.Probes
	counters *counters
	offset   int // of its first word in a snapshot
	health   int // the index of its entry in the health

	// Guarded by the observer's pass.
	accounts []account
	overhead time.Duration
	level    Level
	reduced  string // the hook that LevelReduced has detached
}

// Modules returns the names of the modules among objects (nil means the built-in ones), sorted.
func Modules(objects fs.FS) ([]string, error) {
	files, err := fs.Glob(orBuiltIn(objects), "*"+bpf.Suffix)
	if err != nil {
		return nil, fmt.Errorf("listing modules: %w", err)
	}
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), bpf.Suffix)
	}
	slices.Sort(files)
	return files, nil
}

func orBuiltIn(objects fs.FS) fs.FS {
	if objects == nil {
		return bpf.Modules(runtime.GOARCH)
	}
	return objects
}

// Open attaches modules. One that fails does not hinder the others: Health tells its cause. An error is returned if the
// options are wrong (ErrUnknownModule), if ctx ends, or if no module could be attached; the last one is a *DownError,
// which has the health too. The Observer must be closed.
func Open(ctx context.Context, opts Options) (*Observer, error) {
	objects := orBuiltIn(opts.Objects)
	names, err := Modules(objects)
	if err != nil {
		return nil, err
	}
	if len(opts.Modules) == 0 {
		opts.Modules = names
	}
	for _, name := range opts.Modules {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("%w: %q is none of %s", ErrUnknownModule, name, strings.Join(names, ", "))
		}
	}
	if opts.Scope == (kprobe.Scope{}) {
		if opts.Scope, err = kprobe.Self(); err != nil {
			return nil, downError(opts.Modules, err)
		}
	}
	o := &Observer{sampling: max(1, opts.LatencySampling)}
	cache := btf.NewCache()
	var verified *verdicts
	if opts.Verify {
		verified = verify(ctx, objects, opts, cache)
	}
	for _, name := range opts.Modules {
		if err = ctx.Err(); err == nil {
			o.open(objects, name, kprobe.Options{Scope: opts.Scope, Cache: cache, Attach: opts.Attach, Step: opts.Step}, verified)
			continue
		}
		return nil, errors.Join(fmt.Errorf("opening module %s: %w", name, err), o.Close())
	}
	if opts.LatencySampling > 1 {
		if err = o.Sample(opts.LatencySampling); err != nil {
			return nil, errors.Join(err, o.Close())
		}
	}
	if len(o.modules) == 0 {
		return nil, &DownError{Health: o.health, err: errors.Join(o.failures...)}
	}
	return o, nil
}

// Describe returns the metrics that modules declare, whether or not this kernel can feed them, and the number of words
// of a snapshot that has them all. It needs no eBPF and works everywhere.
func Describe(objects fs.FS, modules ...string) ([]Metric, int, error) {
	objects = orBuiltIn(objects)
	var schema []Metric
	total := 0
	for _, name := range modules {
		spec, err := readSpec(objects, name)
		if err != nil {
			return nil, 0, fmt.Errorf("module %s: %w", name, err)
		}
		metrics, words, err := describe(name, spec)
		if err != nil {
			return nil, 0, fmt.Errorf("module %s: %w", name, err)
		}
		schema = appendMetrics(schema, metrics, total)
		total += words
	}
	return schema, total, nil
}

// appendMetrics appends a module's metrics to a schema, of which the module's words begin at offset.
func appendMetrics(schema, metrics []Metric, offset int) []Metric {
	for _, m := range metrics {
		m.offset += offset
		schema = append(schema, m)
	}
	return schema
}

// open attaches one module and enters it in the schema and the health. verified is nil where nothing is to be verified.
func (o *Observer) open(objects fs.FS, name string, opts kprobe.Options, verified *verdicts) {
	health := ModuleHealth{Name: name}
	m, metrics, err := attach(objects, name, opts)
	if err != nil {
		health.fail(err)
		o.health.Modules = append(o.health.Modules, health)
		o.failures = append(o.failures, fmt.Errorf("%s: %w", name, err))
		return
	}
	health.Up = true
	health.Plan = m.probes.Plan()
	health.MapMemory = m.probes.MapMemory()
	m.offset, m.health = o.words, len(o.health.Modules)
	o.words += m.counters.words
	o.modules = append(o.modules, m)
	metrics = slices.DeleteFunc(metrics, func(metric Metric) bool {
		if !fed(metric, health.Plan) {
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
	opened := len(o.metrics)
	o.metrics = appendMetrics(o.metrics, metrics, m.offset)
	if verified != nil {
		m.accounts = accountsOf(o.metrics[opened:], verified.costs[name])
	}
	o.health.Modules = append(o.health.Modules, health)
}

// name returns a module's name.
func (o *Observer) name(m *module) string { return o.health.Modules[m.health].Name }

// each does something with every module. One that fails does not hinder the others: the errors are joined.
func (o *Observer) each(do func(m *module) error) error {
	var errs []error
	for _, m := range o.modules {
		if err := do(m); err != nil {
			errs = append(errs, fmt.Errorf("module %s: %w", o.name(m), err))
		}
	}
	return errors.Join(errs...)
}

// fed tells whether a hook that feeds the metric is attached. A metric that names no hook belongs to the module.
func fed(m Metric, plan kprobe.Plan) bool {
	return len(m.Hooks) == 0 || slices.ContainsFunc(m.Hooks, plan.Attached)
}

// iterated tells whether the metric counts only when an iterator is run.
func iterated(m Metric, plan kprobe.Plan) bool {
	return len(m.Hooks) > 0 && !slices.ContainsFunc(plan, func(h kprobe.Hook) bool {
		return h.Variant != "" && h.Attach != kprobe.Iter && slices.Contains(m.Hooks, h.Name)
	})
}

// attach reads, checks and attaches one module.
func attach(objects fs.FS, name string, opts kprobe.Options) (*module, []Metric, error) {
	step := opts.Step
	if step == nil {
		step = func(string) error { return nil }
	}
	if err := step("opening the object"); err != nil {
		return nil, nil, err
	}
	spec, err := readSpec(objects, name)
	if err != nil {
		return nil, nil, err
	}
	metrics, words, err := describe(name, spec)
	if err != nil {
		return nil, nil, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, nil, fmt.Errorf("counting the CPUs: %w", err)
	}
	opts.Entries = map[string]uint32{countersMap: uint32(cpus)}
	probes, err := kprobe.Load(spec, opts)
	if err != nil {
		return nil, nil, err
	}
	if err = checkHooks(metrics, probes.Plan()); err != nil {
		return nil, nil, errors.Join(err, probes.Close())
	}
	// What an iterator finds kept is not this module's: it adds what grows from its first pass on.
	if err = step("running the iterators"); err == nil {
		_, err = probes.Iterate()
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("running the iterators: %w", err), probes.Close())
	}
	var counters *counters
	if err = step("mapping the counters"); err == nil {
		counters, err = mapCounters(probes.Map(countersMap), metrics, words, cpus)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("mapping the counters: %w", err), probes.Close())
	}
	return &module{probes: probes, counters: counters}, metrics, nil
}

// checkHooks finds a metric that names a hook which the module does not have, and so would never be there.
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

func readSpec(objects fs.FS, name string) (*ebpf.CollectionSpec, error) {
	f, err := objects.Open(name + bpf.Suffix)
	if err != nil {
		return nil, fmt.Errorf("opening the object: %w", err)
	}
	defer f.Close()
	r, err := readerAt(f)
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: parsing the object: %w", kprobe.ErrInvalidModule, err)
	}
	return spec, nil
}

// Schema returns the metrics that are fed. They stay the Observer's own and do not change while it is open.
func (o *Observer) Schema() []Metric {
	return o.metrics
}

// Health tells the state of every module that was asked for. It makes a system call for each program.
func (o *Observer) Health() Health {
	o.pass.Lock()
	defer o.pass.Unlock()
	o.mu.RLock()
	defer o.mu.RUnlock()
	health := Health{Modules: slices.Clone(o.health.Modules)}
	for _, m := range o.modules {
		// What cannot be read stays as it was; that it cannot be read is no news of the module's.
		if missed, err := m.probes.Missed(); err == nil {
			health.Modules[m.health].Missed = missed
		}
		health.Modules[m.health].Overhead, health.Modules[m.health].Level = m.overhead, m.level
	}
	return health
}

// Snapshot reads all counters into s, those of iterators as of the last Refresh. It makes no system call, and no
// allocation if s was used before. Each word is read at once, but the kernel goes on counting meanwhile: a histogram may
// be one ahead of its counter. Returns ErrClosed after Close.
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
	return nil
}

// Refresh reads what the kernel keeps for each task, which no event tells: modules that have an iterator count what has
// grown since the last time, and only then. It makes system calls, and its time grows with the tasks of the machine; a
// module without an iterator costs nothing. Calls that overlap take turns. A module that fails does not hinder the
// others: the errors are joined, and its counters stay as they were. Returns ErrClosed after Close.
func (o *Observer) Refresh() error {
	o.pass.Lock()
	defer o.pass.Unlock()
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	return o.each(func(m *module) error {
		start := time.Now()
		ran, err := m.probes.Iterate()
		if ran > 0 {
			m.overhead += time.Since(start)
		}
		return err
	})
}

// Sample has one of n frequent events timed from now on, as Options.LatencySampling does from the start. A module that fails
// does not hinder the others: the errors are joined. Returns ErrClosed after Close.
func (o *Observer) Sample(n uint32) error {
	o.pass.Lock()
	defer o.pass.Unlock()
	o.mu.RLock()
	defer o.mu.RUnlock()
	if o.closed {
		return ErrClosed
	}
	o.sampling = max(1, n)
	return o.each(func(m *module) error {
		if m.level >= LevelSampled {
			return nil
		}
		return m.probes.Sample(n)
	})
}

// Close detaches all modules. Calling it again does nothing.
func (o *Observer) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	var errs []error
	for _, m := range slices.Backward(o.modules) {
		errs = append(errs, m.probes.Close(), m.counters.close())
	}
	o.modules = nil
	return errors.Join(errs...)
}

// readerAt gives random access to an object; a file of an fs.FS need not have it.
func readerAt(f fs.File) (io.ReaderAt, error) {
	if r, ok := f.(io.ReaderAt); ok {
		return r, nil
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(data), nil
}
