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

package ebpf_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	upstream = "github.com/apache/skywalking-banyandb/"
	root     = upstream + "ebpf/"
)

// layers are the folders from the bottom up: each may import only itself and those before it.
var layers = []string{"bpf", "kprobe", "observer", "meterbridge", "runservice", "integration"}

// TestImportsRunOneWay checks the imports of every Go file of the layers, including tests.
func TestImportsRunOneWay(t *testing.T) {
	files := map[string]int{}
	for height, layer := range layers {
		err := filepath.WalkDir(layer, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if entry.IsDir() && path == filepath.Join("integration", "banyandb") {
				return filepath.SkipDir
			}
			if !strings.HasSuffix(path, ".go") {
				return nil
			}
			files[layer]++
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			require.NoError(t, err)
			for _, spec := range file.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				inside, ours := strings.CutPrefix(imported, root)
				if ours {
					to, _, _ := strings.Cut(inside, "/")
					// The bucket test of the C header checks whether it may load eBPF.
					if layer == "bpf" && inside == "kprobe/kprobetest" && strings.HasSuffix(path, "_test.go") {
						continue
					}
					require.LessOrEqualf(t, slices.Index(layers, to), height, "%s imports %s", path, imported)
					continue
				}
				if slices.Contains([]string{"bpf", "kprobe", "observer"}, layer) {
					require.Falsef(t, strings.HasPrefix(imported, upstream), "%s imports %s", path, imported)
				}
			}
			return nil
		})
		require.NoError(t, err)
		require.Positivef(t, files[layer], "no Go file in %s", layer)
	}
}

// TestObserverKnowsNoBanyanDB checks all dependencies of the lower layers, including indirect ones.
func TestObserverKnowsNoBanyanDB(t *testing.T) {
	all := append(deps(t, ".", "./bpf/...", "./kprobe/...", "./observer/..."), deps(t, api, "./...")...)
	for _, inside := range []string{"kprobe", "observer/collector", "observer/api", "observer/api/page"} {
		require.Contains(t, all, root+inside)
	}
	for _, dep := range all {
		require.Falsef(t, strings.HasPrefix(dep, upstream) && !strings.HasPrefix(dep, root), "the lower layers depend on %s", dep)
	}
	// The module graph of a program that imports observer must not contain the server's module, with the hundreds that
	// it requires, nor gRPC's.
	modules, err := exec.Command("go", "list", "-m", "all").Output()
	require.NoError(t, err)
	for _, module := range []string{strings.TrimSuffix(upstream, "/"), "google.golang.org/grpc", root + "observer/api"} {
		require.NotContains(t, string(modules), module+" ")
	}
}

// TestServersAreOptional checks that observer pulls in no HTTP or gRPC server code, and that the Prometheus collector
// pulls in no gRPC.
func TestServersAreOptional(t *testing.T) {
	servers := []string{"google.golang.org/", "golang.org/x/net", "go.yaml.in/yaml/v3", root + "observer/api"}
	for folder, denied := range map[string][]string{
		"./observer":           append([]string{"net/http", "github.com/prometheus/", root + "observer/"}, servers...),
		"./observer/collector": append([]string{"google.golang.org/grpc"}, servers[1:]...),
	} {
		for _, dep := range deps(t, ".", folder) {
			if dep == root+strings.TrimPrefix(folder, "./") || strings.HasPrefix(dep, root+"observer/internal/") {
				continue
			}
			for _, prefix := range denied {
				require.Falsef(t, strings.HasPrefix(dep, prefix), "%s depends on %s", folder, dep)
			}
		}
	}
	require.Contains(t, deps(t, api, "."), "google.golang.org/grpc", "deps misses a known dependency")
}

// api is the folder of the API's module.
var api = filepath.Join("observer", "api")

// deps lists packages of a module and all their dependencies.
func deps(t *testing.T, module string, packages ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps"}, packages...)...)
	cmd.Dir = module
	out, err := cmd.Output()
	require.NoError(t, err)
	return strings.Fields(string(out))
}
