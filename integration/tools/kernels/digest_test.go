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

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const remedy = "run make test-kernels, and commit docs/kernels.md"

// TestDocument checks that docs/kernels.md is from a run of all rows without failures, with the current modules, and
// has each hook of each module.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../../docs/kernels.md")
	require.NoError(t, err)
	modules, err := digest("../../../bpf")
	require.NoError(t, err)
	if !strings.Contains(string(text), "\n    "+documentCommand(options{rows: rows, packages: strings.Split(defaultPackages, ","), out: "../docs/kernels.md"})+"\n") {
		t.Error("docs/kernels.md does not have all rows: " + remedy)
	}
	if strings.Contains(string(text), "**bad**") {
		t.Error("docs/kernels.md has a row in which tests failed")
	}
	objects := observer.Files(bpf.Modules("amd64"))
	names, err := objects.Modules()
	require.NoError(t, err)
	require.NotEmpty(t, names)
	for _, name := range names {
		hooks, err := objects.Hooks(name)
		require.NoError(t, err)
		require.NotEmpty(t, hooks)
		for _, hook := range hooks {
			if !strings.Contains(string(text), "\n| "+name+" "+hook+": chosen |") {
				t.Errorf("docs/kernels.md lacks hook %s of module %s: %s", hook, name, remedy)
			}
		}
	}
	if !strings.Contains(string(text), "\n    "+modules+"\n") {
		t.Errorf("docs/kernels.md is not from the current modules, %s: %s", modules, remedy)
	}
}

// TestDigest checks that the digest changes with the content and the name of a source, a header or an object, and with
// no other file.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]string{}
	changes := func(what string) {
		t.Helper()
		sum, err := digest(dir)
		require.NoError(t, err)
		require.Regexp(t, "^sha256:[0-9a-f]{64}$", sum)
		require.Empty(t, seen[sum], what)
		seen[sum] = what
	}
	put := func(name, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	_, err := digest(dir)
	require.ErrorContains(t, err, "no *.bpf.c")
	put("io.bpf.c", "a")
	put("probe.h", "b")
	put("amd64/io.bpf.o", "c")
	changes("all")
	for _, name := range []string{"io.bpf.c", "probe.h", "amd64/io.bpf.o", "arm64/io.bpf.o", "cache.bpf.c"} {
		put(name, "changed")
		changes(name)
	}
	put("io.bpf.c", "chang")
	put("cache.bpf.c", "edchanged")
	changes("content moved between two files")
	require.NoError(t, os.Rename(filepath.Join(dir, "probe.h"), filepath.Join(dir, "other.h")))
	changes("name")
	before, err := digest(dir)
	require.NoError(t, err)
	put("bpf.go", "package bpf")
	put("testdata/amd64/bucket.bpf.o", "another module's")
	after, err := digest(dir)
	require.NoError(t, err)
	require.Equal(t, before, after)
}
