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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// levels is a shedder of one module. Sampling is one of its levels, reducing is not.
type levels struct {
	err   error
	level observer.Level
}

func (l *levels) Shed(string) (observer.Level, error) {
	if l.err == nil && l.level < observer.LevelOff {
		l.level = map[observer.Level]observer.Level{observer.LevelFull: observer.LevelSampled, observer.LevelSampled: observer.LevelOff}[l.level]
	}
	return l.level, l.err
}

func (l *levels) Restore(string) (observer.Level, error) {
	if l.err != nil {
		return l.level, l.err
	}
	l.level = map[observer.Level]observer.Level{observer.LevelOff: observer.LevelSampled}[l.level]
	return l.level, l.err
}

// windows feeds one window after the other, in which a module costs a part of the CPU time, and returns the levels after each.
func windows(b *budget, s *levels, costs ...float64) []observer.Level {
	now, cpu, overhead := time.Unix(1000, 0), time.Duration(0), time.Duration(0)
	look := func() {
		b.check(0.01, now, cpu, observer.Health{Modules: []observer.ModuleHealth{{Name: "io", Up: true, Overhead: overhead, Level: s.level}, {Name: "down"}}}, s)
	}
	look()
	var after []observer.Level
	for _, cost := range costs {
		// A look in the middle of a window changes nothing.
		now = now.Add(b.window / 2)
		look()
		now = now.Add(b.window / 2)
		cpu += time.Second
		overhead += time.Duration(cost * float64(time.Second))
		look()
		after = append(after, s.level)
	}
	return after
}

func TestBudget(t *testing.T) {
	const full, sampled, off = observer.LevelFull, observer.LevelSampled, observer.LevelOff
	for _, c := range []struct {
		name  string
		costs []float64
		want  []observer.Level
	}{
		{"within", []float64{0.01, 0.0099, 0}, []observer.Level{full, full, full}},
		{"above, step by step", []float64{0.011, 0.02, 0}, []observer.Level{sampled, off, off}},
		{"between the thresholds nothing moves", []float64{0.02, 0.008, 0.008, 0.008, 0.008}, []observer.Level{sampled, sampled, sampled, sampled, sampled}},
		{"back after two windows", []float64{0, 0, 0, 0.02, 0.005, 0.005, 0.005}, []observer.Level{full, full, full, sampled, sampled, full, full}},
		{
			"twice as long after each relapse",
			[]float64{0, 0, 0, 0.02, 0, 0, 0.02, 0, 0, 0, 0},
			[]observer.Level{full, full, full, sampled, sampled, full, sampled, sampled, sampled, sampled, full},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, windows(newBudget(time.Minute), &levels{}, c.costs...))
		})
	}
	t.Run("no limit", func(t *testing.T) {
		b := newBudget(time.Minute)
		now := time.Now()
		look := func(level observer.Level) []change {
			now = now.Add(time.Minute)
			return b.check(0, now, time.Second, observer.Health{Modules: []observer.ModuleHealth{{Name: "io", Up: true, Overhead: time.Hour, Level: level}}}, &levels{level: level})
		}
		require.Empty(t, look(observer.LevelFull))
		require.Empty(t, look(observer.LevelFull))
		// What was shed before the limit was lifted comes back.
		require.Equal(t, []change{{module: "io", from: observer.LevelSampled, to: observer.LevelFull}}, look(observer.LevelSampled))
	})
	t.Run("what cannot be restored stays", func(t *testing.T) {
		s := &levels{}
		b := newBudget(time.Minute)
		require.Equal(t, []observer.Level{sampled}, windows(b, s, 0.02))
		s.err = errors.New("refused")
		shed := observer.ModuleHealth{Name: "io", Level: sampled}
		_, changed := b.modules["io"].decide(0.01, 0, shed, s)
		require.False(t, changed)
		c, changed := b.modules["io"].decide(0.01, 0, shed, s)
		require.True(t, changed)
		require.ErrorIs(t, c.err, s.err)
	})
}
