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

// Package banyandtest runs the real banyand server as a child process, on loopback and in a temporary folder.
package banyandtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

const (
	loopback = "127.0.0.1"
	// Generous: only a server that hangs reaches them.
	startTimeout = 5 * time.Minute
	stopTimeout  = 2 * time.Minute
	pollInterval = 50 * time.Millisecond
	logFile      = "banyand.log"
	logTailBytes = 4096
)

// Options say which server to run. The zero value runs integration/bin/banyand with the flags that this package needs.
type Options struct {
	// Binary is the path of the server. Empty means DefaultBinary.
	Binary string
	// Wrapper is a command that runs the server, such as {"unshare", "-pf", "--kill-child"}. PID is then that of the
	// wrapper, and the wrapper must ensure that the server dies with it.
	Wrapper []string
	// Flags are added last, so that they override those of this package. A cluster passes them to each of its nodes.
	Flags []string
	// Env is added to the environment of this process, as KEY=value.
	Env []string
	// Dir is where the temporary folder is created. Empty means the default folder of the system.
	Dir string
	// Detached lets the server outlive this process. Otherwise the kernel kills the server when this process ends, in
	// whatever way.
	Detached bool
}

// Server is a running server. It must be stopped.
type Server struct {
	// GRPC, HTTP, Metrics and Pprof are the addresses, as host:port. On HTTP a data node serves only its health.
	GRPC, HTTP, Metrics, Pprof string
	// Root is the folder of the server's data and log.
	Root string

	internal string // The address that other nodes use.
	process  *os.Process
	exited   chan struct{}
	exitErr  error // Set before exited is closed.
	stopOnce sync.Once
	stopErr  error
	temp     string // Removed by Stop, if not empty.
}

// DefaultBinary is the path of the server that make banyand builds, in integration/bin.
func DefaultBinary() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "bin", "banyand")
}

// Start starts a standalone server and returns when it answers. If the server does not come up, the error contains the
// tail of its log.
func Start(ctx context.Context, opts Options) (*Server, error) {
	temp, err := os.MkdirTemp(opts.Dir, "banyand-")
	if err != nil {
		return nil, fmt.Errorf("creating the server's folder: %w", err)
	}
	server, err := startNode(ctx, standalone, temp, opts, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	server.temp = temp
	return server, nil
}

// role is a subcommand of the server.
type role string

const (
	standalone role = "standalone"
	data       role = "data"
	liaison    role = "liaison"
)

// startNode starts one node and waits until it answers. The flags of the options come after those of the role.
func startNode(ctx context.Context, r role, root string, opts Options, roleFlags []string) (*Server, error) {
	server := &Server{Root: root, exited: make(chan struct{})}
	flags, err := server.flags(r)
	if err != nil {
		return nil, err
	}
	flags = append(append(flags, roleFlags...), opts.Flags...)
	if err = server.launch(append([]string{string(r)}, flags...), opts); err != nil {
		return nil, err
	}
	if err = server.waitHealthy(ctx, r); err != nil {
		tail, stopErr := server.logTail(), server.Stop()
		if stopErr == nil {
			// Otherwise the error of Stop contains it.
			err = fmt.Errorf("%w\n%s", err, tail)
		}
		return nil, errors.Join(fmt.Errorf("starting banyand %s: %w", r, err), stopErr)
	}
	return server, nil
}

// flags chooses the ports and returns the flags that put every listener on loopback and every file below Root.
func (s *Server) flags(r role) ([]string, error) {
	ports, err := freePorts(7)
	if err != nil {
		return nil, err
	}
	port := func(i int) string { return strconv.Itoa(ports[i]) }
	address := func(i int) string { return loopback + ":" + port(i) }
	s.GRPC, s.HTTP, s.Metrics, s.Pprof = address(0), address(1), address(2), address(3)

	flags := []string{
		// The host name of this machine may resolve to an address that nothing listens on.
		"--node-host-provider=flag", "--node-host=" + loopback,
		"--grpc-host=" + loopback, "--grpc-port=" + port(0),
		"--http-port=" + port(1),
		"--observability-listener-addr=" + s.Metrics,
		"--pprof-listener-addr=" + s.Pprof,
		"--measure-root-path=" + s.Root, "--stream-root-path=" + s.Root, "--trace-root-path=" + s.Root,
	}
	if r != data {
		flags = append(flags, "--http-host="+loopback, "--http-grpc-addr="+s.GRPC)
	}
	if r != liaison {
		flags = append(flags,
			"--schema-server-grpc-host="+loopback, "--schema-server-grpc-port="+port(4),
			"--property-repair-gossip-grpc-host="+loopback, "--property-repair-gossip-grpc-port="+port(5),
			"--property-root-path="+s.Root, "--schema-server-root-path="+s.Root,
		)
	}
	switch r {
	case standalone:
		flags = append(flags, "--metadata-root-path="+s.Root)
	case liaison:
		s.internal = address(5)
		flags = append(flags, "--liaison-server-grpc-host="+loopback,
			"--liaison-server-grpc-port="+port(5), "--liaison-server-http-port="+port(6))
	}
	return flags, nil
}

// launch starts the process with its output in the log file.
func (s *Server) launch(args []string, opts Options) error {
	binary := opts.Binary
	if binary == "" {
		binary = DefaultBinary()
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("looking for the server (make banyand builds it): %w", err)
	}
	// A file, unlike a pipe, does not break when this process ends before the server.
	log, err := os.Create(filepath.Join(s.Root, logFile))
	if err != nil {
		return fmt.Errorf("creating the server's log: %w", err)
	}
	defer log.Close()
	argv := append(append(append([]string{}, opts.Wrapper...), binary), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Root, log, log
	cmd.Env = append(os.Environ(), opts.Env...)
	// In its own process group it does not get the terminal's Ctrl-C: this package stops it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !opts.Detached {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}

	started := make(chan error)
	go func() {
		// Pdeathsig fires when the thread that started the child ends, so this thread must live on.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		startErr := cmd.Start()
		started <- startErr
		if startErr == nil {
			s.exitErr = cmd.Wait()
			close(s.exited)
		}
	}()
	if err = <-started; err != nil {
		return fmt.Errorf("starting %s: %w", argv[0], err)
	}
	s.process = cmd.Process
	return nil
}

// waitHealthy waits until the server answers on all ports that callers use.
func (s *Server) waitHealthy(ctx context.Context, r role) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := s.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return s.poll(ctx, func() error {
		if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
			return fmt.Errorf("asking %s for its health: %w", s.GRPC, err)
		}
		if r != data {
			if err := get(ctx, "http://"+s.HTTP+"/api/healthz"); err != nil {
				return err
			}
		}
		return get(ctx, "http://"+s.Metrics+"/metrics")
	})
}

// poll retries until try succeeds, the server exits or the context ends.
func (s *Server) poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("the server exited: %w", exitReason(s.exitErr))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(pollInterval):
		}
	}
}

// get requests a URL and accepts any answer except a server error (5xx).
func get(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

func exitReason(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// PID is the process id of the server, or of its wrapper.
func (s *Server) PID() int { return s.process.Pid }

// Exited returns a channel that is closed when the server has exited, for whatever reason.
func (s *Server) Exited() <-chan struct{} { return s.exited }

// Dial connects to the gRPC port. The caller closes the connection.
func (s *Server) Dial() (*grpc.ClientConn, error) {
	conn, err := grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", s.GRPC, err)
	}
	return conn, nil
}

// Log returns all that the server has written so far.
func (s *Server) Log() (string, error) {
	content, err := os.ReadFile(filepath.Join(s.Root, logFile))
	return string(content), err
}

func (s *Server) logTail() string {
	log, err := s.Log()
	if err != nil {
		return ""
	}
	if len(log) > logTailBytes {
		log = log[len(log)-logTailBytes:]
		_, log, _ = strings.Cut(log, "\n")
	}
	return log
}

// Stop stops the server with SIGTERM, and with SIGKILL after two minutes, and removes its temporary folder. A second
// call only returns the same error. It is an error if the server had to be killed or exited with a failure.
func (s *Server) Stop() error {
	s.stopOnce.Do(func() {
		s.stopErr = s.end()
		if s.temp != "" {
			s.stopErr = errors.Join(s.stopErr, os.RemoveAll(s.temp))
		}
	})
	return s.stopErr
}

// failure returns the error with which the server exited, with the tail of its log, or nil.
func (s *Server) failure() error {
	if s.exitErr == nil {
		return nil
	}
	return fmt.Errorf("%w; the end of its log:\n%s", s.exitErr, s.logTail())
}

func (s *Server) end() error {
	select {
	case <-s.exited:
		return s.failure()
	default:
	}
	// Signal the whole group: a wrapper may not forward the signal.
	group := -s.process.Pid
	if err := syscall.Kill(group, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping the server: %w", err)
	}
	select {
	case <-s.exited:
		return s.failure()
	case <-time.After(stopTimeout):
	}
	err := syscall.Kill(group, syscall.SIGKILL)
	<-s.exited
	return errors.Join(fmt.Errorf("the server did not end within %s of SIGTERM and was killed; the end of its log:\n%s", stopTimeout, s.logTail()), err)
}
