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

//go:build linux

package observer

import (
	"io/fs"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// KeepTypes keeps the kernel's types for all that this process opens from now on. They do not change, and reading them
// takes a third of the time of an Open.
func KeepTypes() { newCache = sync.OnceValue(btf.NewCache) }

// Steps calls f before each step of opening a module that may fail, as kprobetest.Steps does.
func Steps(t testing.TB, f func(what string) error) {
	kprobetest.Steps(t, f)
	step = f
	t.Cleanup(func() { step = func(string) error { return nil } })
}

// OpenObject opens an object in a folder of modules.
func OpenObject(dir, name string) (fs.File, error) { return moduleDir(dir).Open(name) }

// Shed sheds a module by one level and returns its level, as Refresh does with one that costs too much.
func (o *Observer) Shed(name string) (Level, error) { return o.moveByName(name, 1) }

// Restore undoes one Shed.
func (o *Observer) Restore(name string) (Level, error) { return o.moveByName(name, -1) }

func (o *Observer) moveByName(name string, by Level) (Level, error) {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	m := o.module(name)
	err := o.move(m, by)
	// Keep it shed even when the server is busy.
	m.budget.rate = math.Inf(1)
	return m.state.level, err
}

// KeepBudget does what Refresh does for the budget, at a given time and with a given CPU time of the process.
func (o *Observer) KeepBudget(now time.Time, cpu time.Duration) error {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	return o.keepBudget(now, func() time.Duration { return cpu })
}

// Spend adds to a module's overhead.
func (o *Observer) Spend(name string, cost time.Duration) {
	o.callMu.Lock()
	defer o.callMu.Unlock()
	o.module(name).overhead += cost
}

// CostOf returns what one count of a metric costs if all are timed.
func (o *Observer) CostOf(name string) time.Duration {
	for _, m := range o.modules {
		for _, a := range m.accounts {
			if a.metric.Name == name {
				return a.each.at(1)
			}
		}
	}
	return 0
}
