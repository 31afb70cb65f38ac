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

// budgetWindow is how long a module's cost is watched before anything is done about it.
const budgetWindow = time.Minute

// overheadFloor is the share of one CPU that a module may always use. A percentage of the CPU time of an idle process is next to
// nothing, and reading the iterators alone would exceed it.
const overheadFloor = 0.001

// A shed module is tried again after it has kept its budget for some windows, first for restoreAfter. Each time that it has to
// be shed again soon, it has to wait twice as long, up to restoreAtMost.
const (
	restoreAfter  = 2
	restoreAtMost = 4
)

// keeps is the largest part of its budget that a module may use and still be restored: what is restored needs room.
const keeps = 0.7

// busier is the factor by which the budget must have grown since a module was shed for it to be restored at once: when
// a server gets busy its modules are needed, and cost a smaller part of its CPU time.
const busier = 2

// usage is the CPU time that the process has used in a period.
type usage struct{ cpu, wall time.Duration }

// allowed returns how much a module may cost in the period, for a share of the CPU time of the process.
func (u usage) allowed(share float64) time.Duration {
	return time.Duration(max(share*float64(u.cpu), overheadFloor*float64(u.wall)))
}

// since returns what has been used since an earlier usage.
func (u usage) since(earlier usage) usage { return usage{u.cpu - earlier.cpu, u.wall - earlier.wall} }

// budget holds the times from which the budgets of modules are computed.
type budget struct {
	opened time.Time // what usage.wall counts from
	window usage     // when the window began
	looked usage     // when it was last checked whether the server has become busy
}

// moduleBudget is the budget state of one module.
type moduleBudget struct {
	cause    string        // why it is shed
	overhead time.Duration // when the window began
	kept     int           // windows within the budget, since the last change
	wait     int           // windows to keep the budget before the next try
	rate     float64       // what was allowed when it was shed, in seconds per second
}

func newModuleBudget() moduleBudget { return moduleBudget{kept: restoreAfter, wait: restoreAfter} }

// decide returns by how many levels a window sheds a module: 1, 0, or -1 to restore it.
func (m *moduleBudget) decide(share float64, cost time.Duration, window usage, level Level) Level {
	allowed := window.allowed(share)
	switch {
	case share > 0 && cost > allowed:
		if m.kept < m.wait {
			// It was restored too early, or has not been shed enough.
			m.wait = min(2*m.wait, restoreAtMost)
		}
		m.kept = 0
		m.rate = float64(allowed) / float64(window.wall)
		m.cause = fmt.Sprintf("it cost %s of the %s of CPU time that the process used in %s, but at most %s is allowed",
			cost.Round(time.Microsecond), window.cpu.Round(time.Millisecond), window.wall.Round(time.Second), allowed.Round(time.Microsecond))
		return 1
	case level == LevelFull:
		if m.kept++; m.kept > m.wait {
			m.wait = restoreAfter
		}
		return 0
	case share == 0:
		return -1
	case float64(cost) < keeps*float64(allowed):
		if m.kept++; m.kept < m.wait {
			return 0
		}
		m.kept = 0
		return -1
	default:
		m.kept = 0
		return 0
	}
}

// busy reports whether the server has become busy since the module was shed.
func (m *moduleBudget) busy(share float64, recent usage) bool {
	return float64(recent.allowed(share)) >= busier*m.rate*float64(recent.wall)
}

// keepBudget sheds modules that have exceeded their budget, step by step, and restores those that are shed. Each
// Refresh calls it; it checks once a second at most. cpu returns the CPU time of the process. Changes that fail are in
// the error, and are tried again after the next window.
func (o *Observer) keepBudget(now time.Time, cpu func() time.Duration) error {
	b := &o.budget
	if b.opened.IsZero() {
		b.opened = now
		b.window.cpu = cpu()
		b.looked = b.window
	}
	if now.Sub(b.opened)-b.looked.wall < time.Second {
		return nil
	}
	at := usage{cpu: cpu(), wall: now.Sub(b.opened)}
	window, recent := at.since(b.window), at.since(b.looked)
	b.looked = at
	ended := window.wall >= budgetWindow
	if ended {
		b.window = at
	}
	if err := o.account(); err != nil {
		return err
	}
	share := o.config.MaxOverheadPercent / 100
	return o.each(func(m *module) error {
		switch {
		case m.state.disabled:
			m.budget.overhead = m.overhead
		case ended:
			cost := m.overhead - m.budget.overhead
			m.budget.overhead = m.overhead
			if by := m.budget.decide(share, cost, window, m.state.level); by != 0 {
				return o.move(m, by)
			}
		case m.state.level > LevelFull && m.budget.busy(share, recent):
			m.budget.kept = 0
			return o.restoreAll(m)
		}
		return nil
	})
}

// restoreAll restores a module to LevelFull.
func (o *Observer) restoreAll(m *module) error {
	for m.state.level > LevelFull {
		if err := o.move(m, -1); err != nil {
			return err
		}
	}
	return nil
}

// move sheds a module by one level, or restores it by one. Levels that would change nothing are skipped. If it fails,
// the module keeps its level.
func (o *Observer) move(m *module, by Level) error {
	next := m.state
	next.level += by
	for next.level > LevelFull && next.level < LevelOff && !o.changes(m, next.level) {
		next.level += by
	}
	if next.level < LevelFull || next.level > LevelOff {
		return nil
	}
	if next.level == LevelReduced && by > 0 {
		next.reduced = m.mostExpensive()
	}
	if err := o.settleModule(m, next, o.config.LatencySampling); err != nil {
		return fmt.Errorf("shedding it from %s to %s: %w", m.state.level, next.level, err)
	}
	o.publish()
	return nil
}

// changes reports whether a level differs from the previous one for the module.
func (o *Observer) changes(m *module, level Level) bool {
	if level == LevelSampled {
		return m.probes.CanSample() && o.config.LatencySampling < shedSampling || m.iterates()
	}
	return level == LevelReduced && m.mostExpensive() != ""
}

// mostExpensive returns the hook that has cost the module most, if the module has others.
func (m *module) mostExpensive() string {
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

// shedRefresh is how many calls of Refresh there are for each run of a shed module's iterators.
const shedRefresh = 8

// due reports whether this Refresh runs the module's iterators.
func (m *module) due() bool {
	if m.state.level < LevelSampled {
		return true
	}
	m.rested++
	return m.rested%shedRefresh == 0
}

// tellShed records in a module's health how far it is shed, and why.
func (m *module) tellShed(h *ModuleHealth) {
	if m.state.level == LevelFull {
		return
	}
	h.Shed = m.budget.cause
	for _, hook := range m.hooks() {
		if m.state.level == LevelOff || m.state.level == LevelReduced && hook == m.state.reduced {
			h.ShedHooks = append(h.ShedHooks, hook)
		}
	}
	if m.state.level == LevelOff {
		h.Up, h.Cause = false, "shed: "+m.budget.cause
		h.Remedy = "allow it more overhead, time fewer events (latency sampling), or disable some of its hooks; " +
			"it counts again at once when the server gets busier, otherwise after some minutes"
	}
}
