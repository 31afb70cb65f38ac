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

// Command busy repeatedly runs the demo and the gate on a busy machine: from a clean clone of HEAD, starting with an
// empty build cache, while two processes use all CPU that they get and one writes to the disk and syncs.
//
//	busy [-runs N] [repository]
//
// It prints the outcome and the time of each run, writes the output to integration/out/busy in the repository, and
// exits with 1 if a run failed. It removes all other files that it made, and its processes end with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// loadEnv makes this program a part of the load. Its value is spin, or the file to write.
const loadEnv = "BUSY_LOAD"

const spin = "spin"

func main() {
	if part := os.Getenv(loadEnv); part != "" {
		fmt.Fprintln(os.Stderr, "busy:", load(part))
		os.Exit(1)
	}
	runs := flag.Int("runs", 5, "how often to run make demo and make test")
	flag.Parse()
	repository := "."
	if flag.NArg() > 0 {
		repository = flag.Arg(0)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, repository, *runs, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "busy:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, repository string, runs int, out io.Writer) (err error) {
	root, err := git(ctx, repository, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	commit, err := git(ctx, root, "rev-parse", "HEAD")
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "busy-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	clone, cache, logs := filepath.Join(dir, "clone"), filepath.Join(dir, "cache"), filepath.Join(root, "integration", "out", "busy")
	if _, err = git(ctx, root, "clone", "--quiet", "--no-checkout", root, clone); err != nil {
		return err
	}
	if _, err = git(ctx, clone, "checkout", "--quiet", "--detach", commit); err != nil {
		return err
	}
	if err = errors.Join(os.Mkdir(cache, 0o755), os.MkdirAll(logs, 0o755)); err != nil {
		return err
	}
	// Because of Pdeathsig, the load's processes are killed when the thread that started them ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, part := range []string{spin, spin, filepath.Join(dir, "written")} {
		end, err := start(part)
		if err != nil {
			return fmt.Errorf("starting the load: %w", err)
		}
		defer end()
	}
	fmt.Fprintf(out, "make demo and make test of %.12s, %d times, while two processes spin and one writes; the output is in %s\n", commit, runs, logs)
	failed := 0
	for n := 1; n <= runs && ctx.Err() == nil; n++ {
		for _, target := range []string{"demo", "test"} {
			begun := time.Now()
			outcome := "passed"
			if err := makeTarget(ctx, clone, cache, target, filepath.Join(logs, fmt.Sprintf("%d-%s.log", n, target))); err != nil {
				failed++
				outcome = "FAILED: " + err.Error()
			}
			fmt.Fprintf(out, "run %d: make %s %s in %s\n", n, target, outcome, time.Since(begun).Round(time.Second))
		}
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if failed > 0 || runs < 1 {
		return fmt.Errorf("%d of %d failed", failed, 2*runs)
	}
	return nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w: %s", args[0], dir, err, text)
	}
	return strings.TrimSpace(string(text)), nil
}

// makeTarget runs make. When ctx is done, it kills make's process group.
func makeTarget(ctx context.Context, clone, cache, target, log string) error {
	file, err := os.Create(log)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", target)
	cmd.Dir, cmd.Stdout, cmd.Stderr = clone, file, file
	cmd.Env = append(os.Environ(), "GOCACHE="+cache, "MAKEFLAGS=", "MAKELEVEL=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return errors.Join(cmd.Run(), file.Close())
}

// start starts a part of the load, and returns a function that ends it.
func start(part string) (end func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), loadEnv+"="+part), os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err = cmd.Start(); err != nil {
		return nil, err
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, nil
}

// load runs a part of the load. It returns only on an error.
func load(part string) error {
	runtime.GOMAXPROCS(1)
	if part == spin {
		for n := uint64(1); n != 0; n++ {
			continue
		}
	}
	file, err := os.Create(part)
	if err != nil {
		return err
	}
	const size = 64 << 20
	chunk := make([]byte, 1<<20)
	for off := int64(0); ; off = (off + int64(len(chunk))) % size {
		if _, err = file.WriteAt(chunk, off); err != nil {
			return err
		}
		if err = file.Sync(); err != nil {
			return err
		}
	}
}
