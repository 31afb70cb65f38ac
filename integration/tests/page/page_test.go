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

// Package page_test tests the page in a browser, with a fake API server and with the real server under load.
package page_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// folder is where the page's sources and tests are.
func folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..", "observer", "api", "page")
}

// npm runs a script of the page's package.json.
func npm(t *testing.T, script string, env ...string) {
	t.Helper()
	run(t, []string{"npm", "run", "--silent", script}, env)
}

// run runs a command in the page's folder, with additions to its environment. If its tools are missing, the test fails
// and says how to install them.
func run(t *testing.T, command, env []string) {
	t.Helper()
	_, err := exec.LookPath(command[0])
	require.NoError(t, err, "the page's tests need node and npm: make setup installs them, as root")
	require.DirExists(t, filepath.Join(folder(), "node_modules"), "the page's tests need their packages: make page-packages installs them")
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = folder()
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s:\n%s", strings.Join(command, " "), out)
	t.Logf("%s", out)
}

func browser(t *testing.T) {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	_, err := exec.LookPath(path)
	require.NoError(t, err, "the page's tests need Chromium: make setup installs it, as root; CHROMIUM names another one")
}

// TestCommitted checks that the embedded page is up to date with its sources.
func TestCommitted(t *testing.T) { npm(t, "check") }

// TestLogic tests the page's computations without a browser.
func TestLogic(t *testing.T) { npm(t, "test") }

// TestFake tests the page with a fake server, including all failures.
func TestFake(t *testing.T) {
	browser(t)
	npm(t, "e2e")
}

// TestServer tests the page with the real server under load: it shows the server's values, switches its modules, and
// tolerates that the server hangs, ends and restarts.
func TestServer(t *testing.T) {
	browser(t)
	s := start(t)
	control := httptest.NewServer(s)
	t.Cleanup(control.Close)
	npm(t, "e2e", "PAGE_URL=http://"+s.address+"/", "PAGE_CONTROL="+control.URL)
}

// TestToken tests the page with a real server that requires a token.
func TestToken(t *testing.T) {
	browser(t)
	const token = "a-secret"
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	s := start(t, "--ebpf-token-file="+file)
	// TestServer covers what does not depend on the token.
	command := []string{"node", "--test", "--test-name-pattern=it loads|each total|switched off and on|asks for it", "e2e/page.test.mjs"}
	run(t, command, []string{"PAGE_URL=http://" + s.address + "/", "PAGE_TOKEN=" + token})
}

// server is the real server and its load. Its HTTP handler controls them; the path is the action.
type server struct {
	process  *banyandtest.Server
	calm     func() error // ends the load, nil if there is none
	t        *testing.T
	address  string
	flags    []string
	handling sync.Mutex
}

// start starts the server and its load.
func start(t *testing.T, flags ...string) *server {
	t.Helper()
	kprobetest.Require(t)
	address, err := banyandtest.FreeAddress()
	require.NoError(t, err)
	// Without a limit, since a module that is shed would have no metrics.
	s := &server{t: t, address: address, flags: append([]string{"--ebpf-enabled", "--ebpf-max-overhead=0", "--ebpf-http-addr=" + address}, flags...)}
	require.NoError(t, s.do("start"))
	t.Cleanup(func() { require.NoError(t, s.do("end")) })
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.handling.Lock()
	defer s.handling.Unlock()
	if err := s.do(strings.TrimPrefix(r.URL.Path, "/")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (s *server) do(what string) (err error) {
	switch what {
	case "start":
		s.process, err = banyandtest.Start(s.t.Context(), banyandtest.Options{Flags: append(s.flags, load.ServerFlags...)})
		if err != nil {
			return err
		}
		return s.drive()
	case "end":
		return errors.Join(s.stopLoad(), s.process.Stop())
	case "load":
		return s.drive()
	case "calm":
		return s.stopLoad()
	case "pause":
		return syscall.Kill(s.process.PID(), syscall.SIGSTOP)
	case "resume":
		return syscall.Kill(s.process.PID(), syscall.SIGCONT)
	}
	return fmt.Errorf("there is no %q", what)
}

// drive starts a load that runs until stopLoad.
func (s *server) drive() error {
	conn, err := s.process.Dial()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		stats, err := load.Run(ctx, conn, load.Options{})
		ended <- errors.Join(err, stats.FirstError, conn.Close())
	}()
	s.calm = func() error {
		cancel()
		return <-ended
	}
	return nil
}

func (s *server) stopLoad() error {
	if s.calm == nil {
		return nil
	}
	calm := s.calm
	s.calm = nil
	return calm()
}
