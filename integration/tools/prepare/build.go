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

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// binary is a package of the workspace and the file that its executable goes to, both relative to integration.
type binary struct {
	output, pkg string
}

func parseBinaries(args []string) ([]binary, error) {
	binaries := make([]binary, 0, len(args))
	for _, arg := range args {
		output, pkg, ok := strings.Cut(arg, "=")
		if !ok || output == "" || pkg == "" {
			return nil, fmt.Errorf("bad argument %q: want output=package, such as bin/banyand=./cmd/banyand", arg)
		}
		binaries = append(binaries, binary{output: output, pkg: pkg})
	}
	return binaries, nil
}

// build compiles and links the binary in the workspace and shows progress.
func (b binary) build(ctx context.Context, version string) error {
	started := time.Now()
	p := progress{name: b.output, out: os.Stdout, live: isTerminal(os.Stdout)}
	deps, err := p.run(workspaceCommand(ctx, "list", "-deps", b.pkg))
	if err != nil {
		return fmt.Errorf("listing what %s is made of: %w", b.output, err)
	}
	p.total = bytes.Count(deps, []byte("\n"))
	// The server reports the upstream version that it is built from.
	_, err = p.run(workspaceCommand(ctx, "build", "-v", "-ldflags", "-X "+upstream+"/pkg/version.build="+version, "-o", b.output, b.pkg))
	if err != nil {
		return fmt.Errorf("building %s: %w", b.output, err)
	}
	say("integration/%s is ready: %d packages compiled in %s", filepath.ToSlash(b.output), p.compiled, time.Since(started).Round(time.Second/10))
	return nil
}

// workspaceCommand returns a go command in the workspace. Executables are static, like upstream's releases.
func workspaceCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = integration
	// An empty GOWORK lets the go command find the workspace file of the folder.
	cmd.Env = append(os.Environ(), "GOWORK=", "CGO_ENABLED=0")
	return cmd
}

// progress turns the output of go build -v, the path of each compiled package, into a progress line.
type progress struct {
	out      io.Writer
	last     time.Time
	name     string
	total    int
	compiled int
	live     bool
}

// run runs a go command, shows its progress and returns its output. Other messages become part of the error.
func (p *progress) run(cmd *exec.Cmd) ([]byte, error) {
	var output bytes.Buffer
	cmd.Stdout = &output
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err = cmd.Start(); err != nil {
		return nil, err
	}
	complaints := p.follow(stderr)
	if err = cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, complaints)
	}
	return output.Bytes(), nil
}

// follow reads until the end of r and returns the lines that are not progress.
func (p *progress) follow(r io.Reader) (complaints string) {
	var rest strings.Builder
	for lines := bufio.NewScanner(r); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "go: downloading "):
			p.show(strings.TrimPrefix(line, "go: "))
		case line != "" && !strings.ContainsAny(line, " \t:"):
			p.compiled++
			p.show(line)
		default:
			fmt.Fprintln(&rest, line)
		}
	}
	if p.live && !p.last.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	return rest.String()
}

// show overwrites one line on a terminal, and writes a line every ten seconds to anything else.
func (p *progress) show(what string) {
	interval := 10 * time.Second
	if p.live {
		interval = time.Second / 10
	}
	if time.Since(p.last) < interval {
		return
	}
	p.last = time.Now()
	line := fmt.Sprintf("prepare: building %s, %s", p.name, what)
	if p.total > 0 {
		line = fmt.Sprintf("prepare: building %s, %d of at most %d packages: %s", p.name, p.compiled, p.total, what)
	}
	if !p.live {
		fmt.Fprintln(p.out, line)
		return
	}
	if len(line) > 100 {
		line = line[:97] + "..."
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", line)
}

func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
