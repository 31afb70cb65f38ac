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
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// window is what a process and one of its modules use in one minute.
type window struct{ cpu, cost time.Duration }

// afterWindows returns the module's level after each window, with a limit of 1%. A module has the levels full, sampled
// and off.
func afterWindows(windows ...window) []Level {
	m, level := newModuleBudget(), LevelFull
	var after []Level
	for _, w := range windows {
		switch by := m.decide(0.01, w.cost, usage{cpu: w.cpu, wall: budgetWindow}, level); {
		case by > 0:
			level = map[Level]Level{LevelFull: LevelSampled, LevelSampled: LevelOff, LevelOff: LevelOff}[level]
		case by < 0:
			level = map[Level]Level{LevelOff: LevelSampled, LevelSampled: LevelFull}[level]
		}
		after = append(after, level)
	}
	return after
}

func TestBudget(t *testing.T) {
	const full, sampled, off = LevelFull, LevelSampled, LevelOff
	// costs returns windows of a process that uses half a CPU, of which 1% is 300 ms.
	costs := func(ms ...int) []window {
		var windows []window
		for _, n := range ms {
			windows = append(windows, window{30 * time.Second, time.Duration(n) * time.Millisecond})
		}
		return windows
	}
	for _, c := range []struct {
		name    string
		windows []window
		want    []Level
	}{
		{"within", costs(300, 299, 0), []Level{full, full, full}},
		{"above, step by step", costs(301, 600, 0), []Level{sampled, off, off}},
		{"between the thresholds nothing moves", costs(600, 240, 240, 240, 240), []Level{sampled, sampled, sampled, sampled, sampled}},
		{"back after two windows", costs(0, 0, 0, 600, 150, 150, 150), []Level{full, full, full, sampled, sampled, full, full}},
		{"twice as long after each relapse", costs(0, 0, 0, 600, 0, 0, 600, 0, 0, 0, 0), []Level{full, full, full, sampled, sampled, full, sampled, sampled, sampled, sampled, full}},
		{
			"never longer than four windows",
			costs(600, 0, 0, 600, 0, 0, 0, 0, 600, 0, 0, 0, 0, 600, 0, 0, 0, 0),
			[]Level{sampled, sampled, full, sampled, sampled, sampled, sampled, full, sampled, sampled, sampled, sampled, full, sampled, sampled, sampled, sampled, full},
		},
		// 6 ms of 100 ms are 6 %, and a ten-thousandth of a CPU. A thousandth is 60 ms a minute.
		{"an idle process", []window{{100 * time.Millisecond, 6 * time.Millisecond}, {0, 6 * time.Millisecond}, {0, 60 * time.Millisecond}}, []Level{full, full, full}},
		{"more than the floor of an idle process", []window{{0, 61 * time.Millisecond}}, []Level{sampled}},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, afterWindows(c.windows...)) })
	}
}

// TestBudgetNoLimit: without a limit nothing is shed, and what was shed before is restored.
func TestBudgetNoLimit(t *testing.T) {
	m, minute := newModuleBudget(), usage{cpu: time.Second, wall: budgetWindow}
	require.Zero(t, m.decide(0, time.Hour, minute, LevelFull))
	require.Equal(t, Level(-1), m.decide(0, time.Hour, minute, LevelSampled))
}

// TestBudgetBusy: a module is restored when the process uses twice the CPU time that it used when the module was shed,
// unless both are so low that the same is allowed.
func TestBudgetBusy(t *testing.T) {
	second := func(cpu time.Duration) usage { return usage{cpu: cpu, wall: time.Second} }
	m := newModuleBudget()
	require.Equal(t, Level(1), m.decide(0.01, 2*time.Second, usage{cpu: 24 * time.Second, wall: time.Minute}, LevelFull))
	require.Contains(t, m.cause, "it cost 2s of the 24s of CPU time that the process used in 1m0s, but at most 240ms is allowed")
	require.False(t, m.busy(0.01, second(799*time.Millisecond)))
	require.True(t, m.busy(0.01, second(800*time.Millisecond)))

	m = newModuleBudget()
	require.Equal(t, Level(1), m.decide(0.01, time.Second, usage{cpu: time.Second, wall: time.Minute}, LevelFull))
	require.False(t, m.busy(0.01, second(50*time.Millisecond)))
	require.True(t, m.busy(0.01, second(200*time.Millisecond)))
}
