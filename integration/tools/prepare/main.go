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

// Command prepare makes the BanyanDB server buildable from its published Go module.
//
// The module comes without its generated API, without its web page and without a way to add units that report metrics.
// Prepare copies it to integration/banyandb, generates the API there, puts a placeholder where the web page belongs and
// applies wiring.patch. Then it builds the binaries named on the command line, as output=package:
//
//	GOWORK=off go run -C integration/tools/prepare . bin/banyand=./cmd/banyand
//
// Outputs and packages are relative to the folder integration. The program runs outside of the workspace, since the
// workspace does not load before the copy exists. A copy which is up to date is left alone.
package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	upstream = "github.com/apache/skywalking-banyandb"
	// gatewayV1 is needed for the googleapis protos that it carries, which no newer release does.
	gatewayV1 = "github.com/grpc-ecosystem/grpc-gateway@v1.16.0"
	gatewayV2 = "github.com/grpc-ecosystem/grpc-gateway/v2"
	validate  = "github.com/envoyproxy/protoc-gen-validate"

	// integration is the folder of the workspace, seen from the folder of this program.
	integration = "../.."
	stampFile   = ".prepared"
	placeholder = "<!doctype html><title>BanyanDB</title><p>This build of the server comes without the web page.</p>\n"
)

// recipe is all that decides what the copy looks like, beside the upstream version.
//
//go:embed main.go api.go wiring.go wiring.patch go.mod go.sum
var recipe embed.FS

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	binaries, err := parseBinaries(args)
	if err != nil {
		return err
	}
	unlock, err := lock(filepath.Join(integration, "out"))
	if err != nil {
		return err
	}
	defer unlock()
	version, err := upstreamVersion(ctx)
	if err != nil {
		return err
	}
	if err = prepare(ctx, version); err != nil {
		return err
	}
	for _, b := range binaries {
		if err = b.build(ctx, version); err != nil {
			return err
		}
	}
	return nil
}

// prepare brings the copy of the upstream module up to date.
//
// It builds the copy beside its final place and renames it in the end, so that an interrupted run leaves no copy rather
// than half of one.
func prepare(ctx context.Context, version string) error {
	stamp, err := recipeStamp(version)
	if err != nil {
		return err
	}
	final := filepath.Join(integration, "banyandb")
	if found, readErr := os.ReadFile(filepath.Join(final, stampFile)); readErr == nil && string(found) == stamp {
		return nil
	}

	say("fetching %s %s", upstream, version)
	dirs, err := download(ctx, upstream+"@"+version, gatewayV1, gatewayV2, validate)
	if err != nil {
		return err
	}
	partial := filepath.Join(integration, "out", "banyandb.partial")
	if err = os.RemoveAll(partial); err != nil {
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	say("copying it to integration/banyandb")
	if err = os.CopyFS(partial, os.DirFS(dirs[0])); err != nil {
		return fmt.Errorf("copying %s: %w", dirs[0], err)
	}
	say("generating its API")
	include := []string{filepath.Join(dirs[1], "third_party", "googleapis"), dirs[2], dirs[3]}
	if err = generateAPI(ctx, filepath.Join(partial, "api", "proto"), include); err != nil {
		return fmt.Errorf("generating the API: %w", err)
	}
	page := filepath.Join(partial, "ui", "dist", "index.html")
	if err = writeFile(page, []byte(placeholder)); err != nil {
		return fmt.Errorf("placing the placeholder of the web page: %w", err)
	}
	say("applying the wiring")
	wiring, err := recipe.ReadFile("wiring.patch")
	if err != nil {
		return fmt.Errorf("reading the wiring: %w", err)
	}
	if err = applyPatch(wiring, partial); err != nil {
		return fmt.Errorf("wiring.patch does not fit %s, it has to be made anew for this version: %w", version, err)
	}
	if err = writeFile(filepath.Join(partial, stampFile), []byte(stamp)); err != nil {
		return fmt.Errorf("stamping the copy: %w", err)
	}
	// The stamp first: a copy which is half removed must not have one.
	if err = errors.Join(os.RemoveAll(filepath.Join(final, stampFile)), os.RemoveAll(final)); err != nil {
		return fmt.Errorf("removing the outdated copy: %w", err)
	}
	if err = os.Rename(partial, final); err != nil {
		return fmt.Errorf("putting the copy in its place: %w", err)
	}
	return nil
}

// lock keeps two runs from preparing the same copy. It blocks while another run holds the lock.
func lock(dir string) (unlock func(), err error) {
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating the output folder: %w", err)
	}
	file, err := os.Create(filepath.Join(dir, "prepare.lock"))
	if err != nil {
		return nil, fmt.Errorf("creating the lock: %w", err)
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file.Name(), err), file.Close())
	}
	return func() { _ = file.Close() }, nil
}

// upstreamVersion is the version of BanyanDB that the integration module requires.
func upstreamVersion(ctx context.Context) (string, error) {
	modFile := filepath.Join(integration, "go.mod")
	out, err := goCommand(ctx, "mod", "edit", "-json", modFile)
	if err != nil {
		return "", fmt.Errorf("reading %s (run this program in integration/tools/prepare): %w", modFile, err)
	}
	var mod struct {
		Require []struct{ Path, Version string }
	}
	if err = json.Unmarshal(out, &mod); err != nil {
		return "", fmt.Errorf("parsing %s: %w", modFile, err)
	}
	for _, r := range mod.Require {
		if r.Path == upstream {
			return r.Version, nil
		}
	}
	return "", fmt.Errorf("%s does not require %s", modFile, upstream)
}

// recipeStamp identifies the outcome: the same stamp stands for the same copy.
func recipeStamp(version string) (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, version)
	err := fs.WalkDir(recipe, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := recipe.ReadFile(path)
		if err != nil {
			return err
		}
		fmt.Fprintln(sum, path, len(content))
		_, err = sum.Write(content)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("computing the stamp: %w", err)
	}
	return version + " " + hex.EncodeToString(sum.Sum(nil)) + "\n", nil
}

// download makes sure that the modules are in the module cache and returns the folder of each.
// A module without a version is taken in the version that go.mod pins.
func download(ctx context.Context, modules ...string) ([]string, error) {
	out, err := goCommand(ctx, append([]string{"mod", "download", "-json"}, modules...)...)
	if err != nil {
		return nil, fmt.Errorf("downloading modules (is the Go module proxy reachable? see go env GOPROXY): %w", err)
	}
	dirs := make(map[string]string)
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var module struct{ Path, Dir string }
		if err = dec.Decode(&module); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("parsing the output of go mod download: %w", err)
		}
		dirs[module.Path] = module.Dir
	}
	ordered := make([]string, 0, len(modules))
	for _, m := range modules {
		path, _, _ := strings.Cut(m, "@")
		if dirs[path] == "" {
			return nil, fmt.Errorf("go mod download does not tell where %s is", m)
		}
		ordered = append(ordered, dirs[path])
	}
	return ordered, nil
}

// goCommand runs the go command in the module of this program and returns its output.
// What it writes to standard error becomes part of the error.
func goCommand(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("go %s: %w\n%s%s", args[0], err, out, exit.Stderr)
	}
	return out, err
}

// writeFile writes a file and creates its folder.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

func say(format string, args ...any) {
	fmt.Printf("prepare: "+format+"\n", args...)
}
