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
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// budgetWindow is how long a module's cost is watched before anything is done about it.
const budgetWindow = time.Minute

// A shed module is tried again after it has kept its budget for some windows, first for restoreAfter. Each time that it has to
// be shed again soon, it has to wait twice as long, up to restoreAtMost.
const (
	restoreAfter  = 2
	restoreAtMost = 64
)

// keeps is what part of its budget a module may use at most to be restored: what is given back must have room.
const keeps = 0.7

// shedder changes what modules cost. *observer.Observer is one.
type shedder interface {
	Shed(module string) (observer.Level, error)
	Restore(module string) (observer.Level, error)
}

// budget holds each module to a part of the process's CPU time. It is used by one goroutine.
type budget struct {
	modules map[string]*moduleBudget
	begun   time.Time
	cpu     time.Duration // of the process, when the window began
	window  time.Duration
}

type moduleBudget struct {
	overhead time.Duration // when the window began
	kept     int           // windows, since the last change
	wait     int           // windows to keep the budget before the next try
}

// change is what the budget has done to a module.
type change struct {
	err      error
	module   string
	from, to observer.Level
	share    float64 // of the process's CPU time, in the window
}

func newBudget(window time.Duration) *budget {
	return &budget{window: window, modules: make(map[string]*moduleBudget)}
}

// check looks at the end of each window whether a module has cost more than it may, and sheds or restores it by one level.
func (b *budget) check(max float64, now time.Time, cpu time.Duration, health observer.Health, s shedder) []change {
	if !b.begun.IsZero() && now.Sub(b.begun) < b.window {
		return nil
	}
	first := b.begun.IsZero()
	used := cpu - b.cpu
	b.begun, b.cpu = now, cpu
	var changes []change
	for _, m := range health.Modules {
		if !m.Up {
			continue
		}
		state := b.modules[m.Name]
		if state == nil {
			state = &moduleBudget{kept: restoreAfter, wait: restoreAfter}
			b.modules[m.Name] = state
		}
		share := 0.0
		if used > 0 {
			share = float64(m.Overhead-state.overhead) / float64(used)
		}
		state.overhead = m.Overhead
		if !first {
			if c, ok := state.decide(max, share, m, s); ok {
				changes = append(changes, c)
			}
		}
	}
	return changes
}

// decide does what one window asks for.
func (m *moduleBudget) decide(max, share float64, module observer.ModuleHealth, s shedder) (change, bool) {
	c := change{module: module.Name, from: module.Level, share: share}
	switch {
	case max > 0 && share > max:
		if m.kept < m.wait {
			// It was restored too early, or has not been shed enough.
			m.wait = min(2*m.wait, restoreAtMost)
		}
		m.kept = 0
		c.to, c.err = s.Shed(module.Name)
	case module.Level == observer.LevelFull:
		if m.kept++; m.kept > m.wait {
			m.wait = restoreAfter
		}
		return c, false
	case max == 0 || share < keeps*max:
		if m.kept++; m.kept < m.wait {
			return c, false
		}
		m.kept = 0
		c.to, c.err = s.Restore(module.Name)
	default:
		m.kept = 0
		return c, false
	}
	return c, c.err != nil || c.from != c.to
}
