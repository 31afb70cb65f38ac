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

package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// ours returns this library's lines in a server's log.
func ours(t *testing.T, server *banyandtest.Server) (lines []map[string]any) {
	t.Helper()
	log, err := server.Log()
	require.NoError(t, err)
	for line := range strings.Lines(log) {
		var fields map[string]any
		// The last line may be incomplete.
		if json.Unmarshal([]byte(line), &fields) == nil && fields["module"] == "EBPF" {
			lines = append(lines, fields)
		}
	}
	return lines
}

// TestNoTemporaryFolder checks that a server without a folder for temporary files verifies its metrics in its data
// folder, and reports this.
func TestNoTemporaryFolder(t *testing.T) {
	kprobetest.Require(t)
	address := freeAddress(t)
	server, err := banyandtest.Start(t.Context(), banyandtest.Options{
		Flags: []string{"--ebpf-enabled", "--ebpf-http-addr=" + address}, Env: []string{"TMPDIR=/nonexistent"},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	a := mustSay(t, http.MethodGet, "http://"+address+"/health", "")
	require.Equal(t, http.StatusOK, a.status, a.body)
	var health struct {
		Status   string
		Warnings []struct{ Cause, Remedy string }
		Modules  []struct {
			Metrics []struct{ Verified bool }
			Name    string
		}
	}
	require.NoError(t, json.Unmarshal([]byte(a.body), &health))
	require.Equal(t, "up", health.Status)
	require.Len(t, health.Warnings, 1)
	require.Contains(t, health.Warnings[0].Cause, "the metrics were verified in "+server.Root)
	require.Contains(t, health.Warnings[0].Cause, "/nonexistent")
	for _, m := range health.Modules {
		require.True(t, m.Metrics[0].Verified || m.Name == "memory", m.Name)
	}
	for _, line := range ours(t, server) {
		require.Equal(t, "warn", line["level"], line)
	}
}

// TestNoDescriptors checks that each period in which counters cannot be read is logged once, with the remedy.
func TestNoDescriptors(t *testing.T) {
	kprobetest.Require(t)
	server, err := banyandtest.Start(t.Context(), banyandtest.Options{Flags: []string{"--ebpf-enabled", "--ebpf-verify=false", "--ebpf-collect-interval=100ms"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	var limit unix.Rlimit
	require.NoError(t, unix.Prlimit(server.PID(), unix.RLIMIT_NOFILE, nil, &limit))
	// episodes waits until the log has the given numbers of begun and ended failures.
	episodes := func(begun, ended int) {
		require.Eventually(t, func() bool {
			failed, again := 0, 0
			for _, line := range ours(t, server) {
				switch {
				case strings.HasPrefix(line["message"].(string), "collecting eBPF counters fails"):
					failed++
					require.Contains(t, line["error"], "too many open files")
					require.Contains(t, line["remedy"], "RLIMIT_NOFILE")
				case line["message"] == "eBPF counters are collected again":
					again++
				}
			}
			require.LessOrEqual(t, failed, begun)
			return failed == begun && again == ended
		}, 2*time.Minute, 100*time.Millisecond, "%d begun, %d ended", begun, ended)
	}
	for n := range 2 {
		require.NoError(t, unix.Prlimit(server.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 10, Max: limit.Max}, nil))
		episodes(n+1, n)
		require.NoError(t, unix.Prlimit(server.PID(), unix.RLIMIT_NOFILE, &limit, nil))
		episodes(n+1, n+1)
	}
}
