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
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// Health is the state of an Observer.
type Health struct {
	Modules []ModuleHealth
	// Warnings are problems of the observation as a whole, though the modules count.
	Warnings []Warning
}

// Warning is a problem that an operator should fix.
type Warning struct {
	Cause string
	// Remedy is what to do about it, if that is known.
	Remedy string
	// Degraded means that the counts are less reliable than usual.
	Degraded bool
}

// ModuleHealth is the state of one module.
type ModuleHealth struct {
	Name string
	// Cause is why the module is down, in the kernel's words, or why it is shed to LevelOff; empty if it is up.
	Cause string
	// Remedy is what to do about it, if that is known.
	Remedy string
	// Plan is how each hook is attached. A module that is down has one if the kernel refused all its hooks.
	Plan kprobe.Plan
	// Feeds names the metrics that each hook feeds, exported or not. A metric may have several hooks; one without hooks
	// is not in it.
	Feeds map[string][]string
	// Absent names the metrics that no attached hook feeds.
	Absent []string
	// Metrics are the results of verification, for each metric that a hook feeds. Empty if there was none.
	Metrics []MetricHealth
	// MapMemory is what the kernel accounts for the module's maps, in bytes.
	MapMemory uint64
	// Overhead is the CPU time that the module has cost the process so far: its events, at the cost per event that
	// verification measured, and its iterators.
	Overhead time.Duration
	// OverheadAssumed means that the cost of an event was not measured and is taken from a table.
	OverheadAssumed bool
	// Level is how far the module is shed.
	Level Level
	// Shed is why it is shed; empty if it is not.
	Shed string
	// ShedHooks are the hooks that are detached because of that.
	ShedHooks []string
	// Missed is how many runs of its programs the kernel has skipped since the module was opened: an upper bound of the
	// events that its counters lack.
	Missed uint64
	// DisabledHooks are those that Configure or Disable has detached.
	DisabledHooks []string
	// Up reports whether the module counts.
	Up bool
	// Disabled means that Configure or Disable has disabled the module.
	Disabled bool
}

func (h Health) clone() Health {
	return Health{Modules: slices.Clone(h.Modules), Warnings: slices.Clone(h.Warnings)}
}

// enter replaces a module's state, or appends it, and returns its index.
func (h *Health) enter(m ModuleHealth) int {
	i := slices.IndexFunc(h.Modules, func(other ModuleHealth) bool { return other.Name == m.Name })
	if i < 0 {
		h.Modules = append(h.Modules, m)
		return len(h.Modules) - 1
	}
	h.Modules[i] = m
	return i
}

// MetricHealth is what verification found out about a metric.
type MetricHealth struct {
	Name string
	// Reason is why the metric is not verified, or what was wrong.
	Reason string
	// Verified means that it has counted known work exactly, on this kernel, just now.
	Verified bool
	// LeftOut means that it was wrong, and is not exported.
	LeftOut bool
}

// text renders the result as a human-readable line.
func (m MetricHealth) text() string {
	switch {
	case m.Verified:
		return m.Name + ": verified"
	case m.LeftOut:
		return m.Name + ": left out because it is wrong: " + m.Reason
	default:
		return m.Name + ": unverified: " + m.Reason
	}
}

// LeftOut returns the metrics that verification found wrong.
func (m *ModuleHealth) LeftOut() []MetricHealth {
	return slices.DeleteFunc(slices.Clone(m.Metrics), func(h MetricHealth) bool { return !h.LeftOut })
}

// attached reports whether a hook counts now.
func (m *ModuleHealth) attached(hook string) bool {
	return !m.Disabled && !slices.Contains(m.DisabledHooks, hook) && !slices.Contains(m.ShedHooks, hook)
}

func (m *ModuleHealth) fail(err error) {
	m.Cause, m.Remedy = err.Error(), kprobe.Remedy(err)
	var refused *kprobe.RefusedError
	if errors.As(err, &refused) {
		m.Plan = refused.Plan
	}
}

// String renders the health as human-readable lines.
func (h Health) String() string {
	var b strings.Builder
	for _, w := range h.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w.Cause)
		if w.Remedy != "" {
			fmt.Fprintf(&b, "remedy: %s\n", w.Remedy)
		}
	}
	for _, m := range h.Modules {
		if m.Disabled {
			fmt.Fprintf(&b, "%s: disabled\n", m.Name)
			continue
		}
		if !m.Up {
			fmt.Fprintf(&b, "%s: down: %s\n", m.Name, m.Cause)
			if m.Remedy != "" {
				fmt.Fprintf(&b, "%s: remedy: %s\n", m.Name, m.Remedy)
			}
			continue
		}
		fmt.Fprintf(&b, "%s: up\n", m.Name)
		for line := range strings.Lines(m.Plan.String()) {
			fmt.Fprintf(&b, "  %s", line)
		}
		if len(m.Absent) > 0 {
			fmt.Fprintf(&b, "  absent: %s\n", strings.Join(m.Absent, ", "))
		}
		for _, metric := range m.Metrics {
			fmt.Fprintf(&b, "  %s\n", metric.text())
		}
	}
	return b.String()
}

// DownError is returned by Open if no module could be attached.
type DownError struct {
	Health Health
	err    error
}

// downError returns the error for a cause that all modules share.
func downError(modules []string, err error) *DownError {
	down := &DownError{err: err}
	for _, name := range modules {
		m := ModuleHealth{Name: name}
		m.fail(err)
		down.Health.Modules = append(down.Health.Modules, m)
	}
	return down
}

// Error has the cause once if all modules share it, else each module's.
func (e *DownError) Error() string { return "no module could be attached: " + e.err.Error() }

// Unwrap returns the cause, or all causes joined.
func (e *DownError) Unwrap() error { return e.err }

// Remedy returns what to do about it, or an empty string if that is not known.
func (e *DownError) Remedy() string {
	for _, m := range e.Health.Modules {
		if m.Remedy != "" {
			return m.Remedy
		}
	}
	return ""
}

// Summary describes the module in one line: how each hook is attached and which metrics are left out as wrong, or why the module is down.
func (m *ModuleHealth) Summary() string {
	switch {
	case m.Disabled:
		return "disabled"
	case !m.Up:
		return "down: " + m.Cause
	}
	var hooks []string
	for _, h := range m.Plan {
		if h.Attachment == "" {
			hooks = append(hooks, h.Name+" absent")
			continue
		}
		if slices.Contains(m.DisabledHooks, h.Name) {
			hooks = append(hooks, h.Name+" disabled")
			continue
		}
		if slices.Contains(m.ShedHooks, h.Name) {
			hooks = append(hooks, h.Name+" shed")
			continue
		}
		hooks = append(hooks, h.Name+" by "+string(h.Attachment))
	}
	for _, metric := range m.Metrics {
		if metric.LeftOut {
			hooks = append(hooks, metric.text())
		}
	}
	if m.Shed != "" {
		hooks = append(hooks, "shed to "+m.Level.String()+": "+m.Shed)
	}
	return strings.Join(hooks, ", ")
}
