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
	"context"
	"errors"
	"slices"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// state is how much of a module is attached: what the operator wants, and how far it is shed.
type state struct {
	disabledHooks []string
	reduced       string // the hook that LevelReduced has detached
	level         Level
	disabled      bool
}

// attached reports whether a hook is attached.
func (s *state) attached(hook string) bool {
	switch {
	case s.off(), slices.Contains(s.disabledHooks, hook):
		return false
	default:
		return s.level < LevelReduced || hook != s.reduced
	}
}

// off reports whether the whole module is detached.
func (s *state) off() bool { return s.disabled || s.level >= LevelOff }

// sampling returns how many events one timed event stands for, if the observer's setting is n.
func (s *state) sampling(n uint32) uint32 {
	if s.level >= LevelSampled {
		return max(n, shedSampling)
	}
	return max(n, 1)
}

// Available returns the names of all modules that the sources provide, those of the first source first, whether or not
// they are enabled.
func (o *Observer) Available() []string { return slices.Clone(o.objects.names) }

// Config returns the wanted configuration. It is in force, except for modules that are down or shed: Health reports
// which.
func (o *Observer) Config() Config {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	return o.config.clone()
}

// Enable enables a module, or some of its hooks. Its counters continue from their old values; what happened in between
// is not counted. A module that was not open, or was down, is opened and verified as by Open. If that fails, nothing
// changes, and the error says why. Returns a *FieldError for an unknown name, and ErrClosed.
func (o *Observer) Enable(ctx context.Context, module string, hooks ...string) error {
	return o.edit(ctx, module, hooks, func(c *Config) {
		if len(hooks) == 0 {
			c.Modules = append(slices.DeleteFunc(c.Modules, func(m string) bool { return m == module }), module)
		}
		c.DisabledHooks[module] = slices.DeleteFunc(c.DisabledHooks[module], func(h string) bool { return slices.Contains(hooks, h) })
	})
}

// Disable disables a module, or some of its hooks. The metrics that they feed leave the schema, and cost nothing until
// they are enabled again. Counters keep their values. Returns a *FieldError for an unknown name, and ErrClosed.
func (o *Observer) Disable(module string, hooks ...string) error {
	return o.edit(context.Background(), module, hooks, func(c *Config) {
		if len(hooks) == 0 {
			c.Modules = slices.DeleteFunc(c.Modules, func(m string) bool { return m == module })
		}
		hooks = slices.Sorted(slices.Values(append(c.DisabledHooks[module], hooks...)))
		c.DisabledHooks[module] = slices.Compact(hooks)
	})
}

// edit changes the configuration. If the module is down, it is opened again.
func (o *Observer) edit(ctx context.Context, module string, hooks []string, change func(c *Config)) error {
	return o.configure(ctx, module, func(c Config) (Config, error) {
		err := o.objects.checkHooks("modules", module, hooks)
		change(&c)
		return c, err
	})
}

// Configure changes the configuration, as a whole or not at all: after an error nothing has changed. Modules that the
// new configuration names are enabled, all others are disabled, as by Enable and Disable. A module that was enabled
// before and is down is not opened again. Changes are serialized, and change must not call the Observer. Returns the
// error of change, a *FieldError for each value that is not allowed, and ErrClosed.
func (o *Observer) Configure(ctx context.Context, change func(Config) (Config, error)) error {
	return o.configure(ctx, "", change)
}

func (o *Observer) configure(ctx context.Context, retry string, change func(Config) (Config, error)) error {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	if o.closed {
		return ErrClosed
	}
	c, err := change(o.config.clone())
	if err != nil {
		return err
	}
	c = c.normal()
	if err = errors.Join(c.Validate(), o.objects.check(c)); err != nil {
		return err
	}
	old, health, failures, opened := o.config, o.health.clone(), o.failures, len(o.modules)
	var missing []string
	for _, name := range c.Modules {
		if o.module(name) == nil && (name == retry || !slices.Contains(old.Modules, name)) {
			missing = append(missing, name)
		}
	}
	o.failures = nil
	err = o.openAll(ctx, missing)
	err = errors.Join(append([]error{err}, o.failures...)...)
	o.failures = failures
	if err == nil {
		err = o.settle(c)
	}
	if err != nil {
		err = errors.Join(err, o.settle(old), o.forget(opened))
		o.health = health
	}
	return err
}

// module returns an open module by its name, or nil.
func (o *Observer) module(name string) *module {
	i := slices.IndexFunc(o.modules, func(m *module) bool { return o.name(m) == name })
	if i < 0 {
		return nil
	}
	return o.modules[i]
}

// settle attaches and detaches hooks of the open modules as a configuration wants, and makes it the wanted one. If that
// fails, some modules are changed, and the old configuration is still the wanted one.
func (o *Observer) settle(c Config) error {
	err := o.each(func(m *module) error {
		next := m.state
		next.disabled = !slices.Contains(c.Modules, o.name(m))
		next.disabledHooks = c.DisabledHooks[o.name(m)]
		return o.settleModule(m, next, c.LatencySampling)
	})
	if err != nil {
		return err
	}
	o.config = c
	o.publish()
	return nil
}

// publish sets the schema to the metrics that count now.
func (o *Observer) publish() {
	var schema []Metric
	var files []fileMetric
	for _, m := range o.modules {
		counts := func(metric *Metric) bool {
			return !m.state.off() && (len(metric.Hooks) == 0 || slices.ContainsFunc(metric.Hooks, m.fed))
		}
		for _, metric := range m.metrics {
			if counts(&metric) {
				schema = append(schema, metric)
			}
		}
		for _, f := range m.files {
			if counts(&f.Metric) {
				files = append(files, f)
			}
		}
	}
	if o.receipts != nil {
		o.receipts.set(o.receiptRows())
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.schema, o.files = schema, files
}

// fed reports whether a hook counts now.
func (m *module) fed(hook string) bool {
	return m.probes.Plan().Attached(hook) && m.state.attached(hook)
}

// hooks returns the hooks of the module that the kernel accepted.
func (m *module) hooks() []string {
	var hooks []string
	for _, h := range m.probes.Plan() {
		if h.Variant != "" {
			hooks = append(hooks, h.Name)
		}
	}
	return hooks
}

// settleModule brings a module to a state. If it fails, the module keeps its old state, except for a hook that the
// kernel does not reattach, which is in the error.
func (o *Observer) settleModule(m *module, next state, sampling uint32) error {
	old := m.state
	if err := o.attach(m, next, sampling); err != nil {
		return errors.Join(err, o.attach(m, old, o.config.LatencySampling))
	}
	return nil
}

// attach attaches the hooks that a state has attached, and detaches the others.
func (o *Observer) attach(m *module, next state, sampling uint32) error {
	var on, off []string
	for _, hook := range m.hooks() {
		if next.attached(hook) {
			on = append(on, hook)
		} else {
			off = append(off, hook)
		}
	}
	// Events up to now are accounted at their old cost.
	errs := []error{o.account()}
	if !m.state.disabled && next.disabled {
		// What its iterators have not read yet still belongs to it.
		errs = append(errs, m.refresh())
	}
	errs = append(errs, m.probes.SetSampling(next.sampling(sampling)))
	if len(off) > 0 {
		errs = append(errs, m.probes.Detach(off...))
	}
	if len(on) > 0 {
		errs = append(errs, o.putBack(m, on))
	}
	if m.state.disabled && !next.disabled {
		errs = append(errs, o.skipDisabled(m))
	}
	m.state = next
	return errors.Join(errs...)
}

// putBack attaches hooks again. If the kernel attaches programs only once, they are reloaded, on the same counters.
func (o *Observer) putBack(m *module, hooks []string) error {
	err := m.probes.Attach(hooks...)
	if !errors.Is(err, kprobe.ErrNotSupported) {
		return err
	}
	object := o.objects.object(o.name(m))
	if object.err != nil {
		return errors.Join(err, object.err)
	}
	if err = m.probes.Reload(object.spec, o.probeOptions(newCache()), hooks...); err == nil {
		o.health.Modules[m.health].Plan = m.probes.Plan()
	}
	return err
}

// skipDisabled makes the counters that iterators feed continue from their old values: what the kernel has added up
// while the module was disabled is not counted. No snapshot may be taken in between.
func (o *Observer) skipDisabled(m *module) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	before, after := make([]uint64, m.counters.words), make([]uint64, m.counters.words)
	m.counters.sum(before)
	err := m.refresh()
	m.counters.sum(after)
	for _, metric := range m.metrics {
		if !metric.iterated || metric.Kind == Gauge {
			continue
		}
		first := metric.offset - m.offset
		for i := first; i < first+metric.series()*metric.width; i++ {
			m.counters.subtract(i, after[i]-before[i])
		}
	}
	return err
}

// forget closes all modules but the first n.
func (o *Observer) forget(n int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	forgotten := o.modules[n:]
	o.modules = o.modules[:n]
	if o.receipts != nil {
		// They must not be read from memory that is unmapped.
		o.receipts.set(o.receiptRows())
	}
	var errs []error
	for _, m := range forgotten {
		o.words -= m.counters.words
		errs = append(errs, m.close())
	}
	return errors.Join(errs...)
}
