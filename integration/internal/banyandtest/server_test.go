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

package banyandtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// abandonEnv makes this test binary start a server and wait to be killed.
const abandonEnv = "BANYANDTEST_ABANDON"

func TestMain(m *testing.M) {
	if os.Getenv(abandonEnv) == "" {
		os.Exit(m.Run())
	}
	server, err := Start(context.Background(), Options{Dir: os.Getenv(abandonEnv)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(server.PID())
	select {}
}

func TestServersSideBySide(t *testing.T) {
	dir := t.TempDir()
	first, err := Start(t.Context(), Options{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, first.Stop()) })
	second, err := Start(t.Context(), Options{
		Dir: dir, Flags: []string{"--logging-level=debug"}, Env: []string{"BYDB_OBSERVABILITY_MODES=native"},
	})
	require.NoError(t, err)

	for _, server := range []*Server{first, second} {
		requireLoopback(t, server)
		log, logErr := server.Log()
		require.NoError(t, logErr)
		assert.Contains(t, log, "starting as a standalone server")
	}
	require.NoError(t, second.Stop())
	require.NoError(t, second.Stop(), "a second Stop must succeed")
	assert.NoDirExists(t, second.Root)
	assert.DirExists(t, first.Root)
}

func TestCluster(t *testing.T) {
	dir := t.TempDir()
	cluster, err := StartCluster(t.Context(), Options{Dir: dir})
	require.NoError(t, err)
	requireLoopback(t, cluster.Data)
	requireLoopback(t, cluster.Liaison)
	require.NoError(t, cluster.Stop())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestWrapper(t *testing.T) {
	server, err := Start(t.Context(), Options{Dir: t.TempDir(), Wrapper: []string{"sh", "-c", `"$@"; exit $?`, "sh"}})
	require.NoError(t, err)
	// The shell may report the signal that it got itself.
	if err = server.Stop(); err != nil {
		assert.NotContains(t, err.Error(), "was killed", "the signal must reach the server behind the shell")
	}
	assert.NoDirExists(t, server.Root)
}

func TestStartReportsWhy(t *testing.T) {
	dir := t.TempDir()
	_, err := Start(t.Context(), Options{Dir: dir, Flags: []string{"--observability-modes=nosuch"}})
	require.ErrorContains(t, err, "the server exited")
	assert.ErrorContains(t, err, "invalid observability mode", "the error must contain the tail of the log")

	_, err = Start(t.Context(), Options{Dir: dir, Binary: filepath.Join(dir, "nosuch")})
	require.ErrorContains(t, err, "make banyand")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestServerDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), abandonEnv+"="+t.TempDir())
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) != nil }, 2*time.Minute, 20*time.Millisecond)
}

func TestFreePortsAreDistinct(t *testing.T) {
	ports, err := freePorts(50)
	require.NoError(t, err)
	seen := make(map[int]bool)
	for _, p := range ports {
		assert.False(t, seen[p], p)
		assert.GreaterOrEqual(t, p, firstPort)
		assert.LessOrEqual(t, p, lastPort)
		seen[p] = true
	}
	assert.Len(t, seen, 50)
}

// requireLoopback fails if a process listens on anything but loopback, or on fewer ports than it should.
func requireLoopback(t *testing.T, server *Server) {
	t.Helper()
	sockets := make(map[string]bool)
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", server.PID()))
	require.NoError(t, err)
	for _, fd := range fds {
		if target, linkErr := os.Readlink(fd); linkErr == nil {
			if inode, ok := strings.CutPrefix(target, "socket:["); ok {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	const (
		localAddress, state, inode = 1, 3, 9
		listening                  = "0A"
		loopbackPrefix             = "0100007F:"
	)
	listeners := 0
	for _, table := range []string{"tcp", "tcp6"} {
		content, readErr := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", server.PID(), table))
		require.NoError(t, readErr)
		for _, line := range strings.Split(string(content), "\n") {
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != listening || !sockets[fields[inode]] {
				continue
			}
			listeners++
			assert.True(t, strings.HasPrefix(fields[localAddress], loopbackPrefix), "a listener on %s", fields[localAddress])
		}
	}
	assert.GreaterOrEqual(t, listeners, 4)
}
