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
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
)

// TestBudgetFlood: a flood of cheap calls makes a module cost more than it may. It is shed until it costs nothing, no count falls, and
// when the flood is over it counts everything again.
func TestBudgetFlood(t *testing.T) {
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{Modules: []string{"io"}, Verify: true, ScratchDir: t.TempDir()})
	require.NoError(t, err)
	defer func() { require.NoError(t, o.Close()) }()
	file, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer file.Close()

	var flooding atomic.Bool
	flooding.Store(true)
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for buf := make([]byte, 100); flooding.Load(); {
			if _, err := file.ReadAt(buf, 0); err != nil {
				return
			}
		}
	}()

	b := newBudget(200 * time.Millisecond)
	var snapshot observer.Snapshot
	last := make(map[string]uint64)
	var levels []observer.Level
	// until looks again and again, as the service does, until the module is at a level.
	until := func(want observer.Level) {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			require.True(t, time.Now().Before(deadline), "levels %v, not %d", levels, want)
			require.NoError(t, o.Account())
			require.NoError(t, o.Snapshot(&snapshot))
			for _, m := range o.Schema() {
				for i := range m.Series() {
					if m.Kind != observer.Counter {
						continue
					}
					key, value := fmt.Sprint(m.Name, m.LabelValues(i)), snapshot.Value(&m, i)
					require.GreaterOrEqual(t, value, last[key], key)
					last[key] = value
				}
			}
			for _, c := range b.check(0.01, time.Now(), api.ProcessCPU(), o.Health(), o) {
				require.NoError(t, c.err)
				levels = append(levels, c.to)
			}
			if o.Health().Modules[0].Level == want {
				return
			}
		}
	}
	until(observer.LevelOff)
	require.Equal(t, []observer.Level{observer.LevelSampled, observer.LevelOff}, levels)
	flooding.Store(false)
	<-flooded
	until(observer.LevelFull)
	require.Equal(t, []observer.Level{observer.LevelSampled, observer.LevelOff, observer.LevelSampled, observer.LevelFull}, levels)
	require.Equal(t, observer.LevelFull, o.Health().Modules[0].Level)
}
