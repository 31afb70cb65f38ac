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

package observer_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestBlockSwitched: a module that is switched off and on, as a whole or by a hook, counts as before. Before Linux 6.5
// the hook issue counts requests to a device without a scheduler only if the program of the hook start runs before its
// own.
func TestBlockSwitched(t *testing.T) {
	kprobetest.Require(t)
	withoutScheduler(t)
	const reads, size = 20, 64 << 10
	read := directReader(t, size)
	requireReads := func(t *testing.T, o *observer.Observer) {
		t.Helper()
		var got counts
		// The run of an interrupt within a program is skipped: then the kernel says so, and the test retries.
		for missed := uint64(1); missed > 0; {
			missed = o.Health().Modules[0].Missed
			before := count(t, o)
			for range reads {
				read()
			}
			got = count(t, o).since(before)
			missed = o.Health().Modules[0].Missed - missed
		}
		require.Equal(t, uint64(reads), got["ebpf_block_requests_total{read,true}"], got)
		require.Equal(t, uint64(reads), got["ebpf_block_queue_seconds_count{read}"], got)
	}
	eachAttach(t, "block", []string{"start", "issue", "complete"}, func(t *testing.T, o *observer.Observer) {
		quiet(t)
		for range 5 {
			require.NoError(t, o.Disable("block"))
			require.NoError(t, o.Enable(t.Context(), "block"))
			requireReads(t, o)
		}
		config := o.Config()
		for _, hook := range []string{"start", "issue"} {
			config.DisabledHooks = map[string][]string{"block": {hook}}
			require.NoError(t, o.Configure(t.Context(), to(config)))
			config.DisabledHooks = nil
			require.NoError(t, o.Configure(t.Context(), to(config)))
			requireReads(t, o)
		}
	})
}

// withoutScheduler removes the I/O scheduler of the device with temporary files, if nothing else uses the device.
func withoutScheduler(t *testing.T) {
	t.Helper()
	if os.Getenv(guest) == "" {
		return
	}
	var stat unix.Stat_t
	require.NoError(t, unix.Stat(t.TempDir(), &stat))
	file := fmt.Sprintf("/sys/dev/block/%d:%d/queue/scheduler", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	// As in "[mq-deadline] none".
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	_, after, _ := strings.Cut(string(text), "[")
	before, _, _ := strings.Cut(after, "]")
	t.Logf("the scheduler was %s", before)
	require.NoError(t, os.WriteFile(file, []byte("none"), 0))
	t.Cleanup(func() { require.NoError(t, os.WriteFile(file, []byte(before), 0)) })
}
