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
	"fmt"
	"time"
)

// Level is how far a module is shed, so that it costs less. Counters never fall, whatever the level.
type Level int

// The levels, each one less than the one before. A module skips those that would change nothing.
const (
	// LevelFull counts and times everything that the options ask for.
	LevelFull Level = iota
	// LevelSampled times one of sixteen frequent events; counts stay exact.
	LevelSampled
	// LevelReduced has the hook detached that costs most, of several.
	LevelReduced
	// LevelOff has all hooks detached.
	LevelOff
)

// String returns the level's name.
func (l Level) String() string { return [...]string{"full", "sampled", "reduced", "off"}[l] }

// shedSampling is one of how many events LevelSampled times.
const shedSampling = 16

// measure returns how long an operation takes, as the modules are open just then.
type measure func(operation string) (time.Duration, error)

// costs are what an operation costs more with a module than without, by operation.
type costs map[string]cost

type cost struct{ full, sampled time.Duration }

// at returns the cost of an event where one of n is timed: what does not depend on that, and a part of the rest.
func (c cost) at(n uint32) time.Duration {
	timing := (c.full - c.sampled) * shedSampling / (shedSampling - 1)
	return c.full - timing + timing/time.Duration(n)
}

// calibrate opens a module and measures what that costs the operations that its metrics name. What cannot be measured is
// left out: the module is open all the same.
func calibrate(measure measure, o *Observer, name string, open func()) costs {
	// Which operations matter is known when it is open, so all are measured before.
	before := make(map[string]time.Duration)
	for _, operation := range []string{"call", "page", "fault"} {
		if took, err := measure(operation); err == nil {
			before[operation] = took
		}
	}
	opened := len(o.modules)
	open()
	all := make(costs)
	if len(o.modules) == opened {
		return all
	}
	module := o.modules[opened]
	for _, m := range module.metrics {
		without, ok := before[m.Cost]
		if _, known := all[m.Cost]; !ok || known {
			continue
		}
		with, err := measure(m.Cost)
		if err != nil {
			continue
		}
		c := cost{full: max(0, with-without)}
		c.sampled = c.full
		if probes := module.probes; probes.Samples() && probes.Sample(shedSampling) == nil {
			if with, err = measure(m.Cost); err == nil {
				c.sampled = min(c.full, max(0, with-without))
			}
			// The module is closed soon, and nothing else of it is timed.
			_ = probes.Sample(1)
		}
		all[m.Cost] = c
	}
	return all
}

// account is a metric whose counts tell what its module costs.
type account struct {
	metric Metric
	each   cost
	events uint64 // that are accounted for
	spent  time.Duration
}

// accountsOf opens an account for each metric of a module whose cost is known.
func accountsOf(metrics []Metric, known costs) []account {
	var accounts []account
	for _, m := range metrics {
		if each, ok := known[m.Cost]; ok {
			accounts = append(accounts, account{metric: m, each: each})
		}
	}
	return accounts
}

// Account adds to each module's Overhead what its events since the last call have cost, by the cost of an event as it was
// measured at the opening with Options.Verify, and how long its iterators ran. It needs no statistics of the kernel, makes
// no system call, and takes its own snapshot. Call it at each collection. Returns ErrClosed after Close.
func (o *Observer) Account() error {
	o.pass.Lock()
	defer o.pass.Unlock()
	if err := o.Snapshot(&o.accounted); err != nil {
		return err
	}
	for _, m := range o.modules {
		for i := range m.accounts {
			a := &m.accounts[i]
			var events uint64
			for series := range a.metric.Series() {
				n, _ := o.accounted.counted(&a.metric, series)
				events += n
			}
			grown := time.Duration(events-a.events) * a.each.at(m.state.sampling(o.config.LatencySampling))
			a.events = events
			a.spent += grown
			m.overhead += grown
		}
	}
	return nil
}

// Shed has a module cost less by one level and returns the level. At LevelOff it stays there. A module that is down or unknown
// is ErrUnknownModule.
func (o *Observer) Shed(name string) (Level, error) { return o.move(name, 1) }

// Restore undoes one Shed and returns the level. If a hook cannot be attached again, the level stays, and the error says why.
func (o *Observer) Restore(name string) (Level, error) { return o.move(name, -1) }

func (o *Observer) move(name string, by Level) (Level, error) {
	o.pass.Lock()
	defer o.pass.Unlock()
	if o.closed {
		return 0, ErrClosed
	}
	m := o.module(name)
	if m == nil {
		return 0, fmt.Errorf("%w %q, or it is down", ErrUnknownModule, name)
	}
	next := m.state
	next.level += by
	for next.level > LevelFull && next.level < LevelOff && !o.changes(m, next.level) {
		next.level += by
	}
	if next.level < LevelFull || next.level > LevelOff {
		return m.state.level, nil
	}
	if next.level == LevelReduced && by > 0 {
		next.reduced = m.dearest()
	}
	if err := o.settleModule(m, next, o.config.LatencySampling); err != nil {
		return m.state.level, fmt.Errorf("module %s: %w", name, err)
	}
	return next.level, nil
}

// changes tells whether a level would be another than the one before for the module.
func (o *Observer) changes(m *module, level Level) bool {
	if level == LevelSampled {
		return m.probes.Samples() && o.config.LatencySampling < shedSampling
	}
	return level == LevelReduced && m.dearest() != ""
}

// dearest returns the hook that has cost the module most, if it has others.
func (m *module) dearest() string {
	if len(m.hooks()) < 2 {
		return ""
	}
	hook, most := "", time.Duration(0)
	for _, a := range m.accounts {
		if a.spent > most && len(a.metric.Hooks) > 0 && m.state.attached(a.metric.Hooks[0]) {
			hook, most = a.metric.Hooks[0], a.spent
		}
	}
	return hook
}
