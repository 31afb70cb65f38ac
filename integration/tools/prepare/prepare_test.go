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
	"bytes"
	"context"
	"go/format"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBinaries(t *testing.T) {
	binaries, err := parseBinaries([]string{"bin/banyand=./cmd/banyand", "bin/x=./x"})
	require.NoError(t, err)
	assert.Equal(t, []binary{{"bin/banyand", "./cmd/banyand"}, {"bin/x", "./x"}}, binaries)
	for _, bad := range []string{"", "bin/banyand", "=./cmd/banyand", "bin/banyand="} {
		_, err = parseBinaries([]string{bad})
		require.ErrorContains(t, err, "output=package", bad)
	}
}

func TestApplyPatch(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a", "b.txt")
	patch := []byte("diff --git a/a/b.txt b/a/b.txt\n--- a/a/b.txt\n+++ b/a/b.txt\n@@ -1,2 +1,3 @@\n one\n+more\n two\n")
	require.NoError(t, writeFile(file, []byte("one\ntwo\n")))
	require.NoError(t, applyPatch(patch, dir))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "one\nmore\ntwo\n", string(content))

	require.ErrorContains(t, applyPatch(patch, dir), "a/b.txt", "a patch must not apply twice")
	require.ErrorIs(t, applyPatch(patch, t.TempDir()), os.ErrNotExist)
}

// TestWiring checks that the wiring applies to the upstream version that the integration module requires, and that the
// result is formatted with gofmt.
func TestWiring(t *testing.T) {
	version, err := upstreamVersion(t.Context())
	require.NoError(t, err)
	dirs, err := download(t.Context(), upstream+"@"+version)
	require.NoError(t, err)
	changed := []string{"pkg/cmdsetup", "banyand/observability/services", "pkg/bus", "banyand/queue/sub"}
	dir := t.TempDir()
	for _, folder := range changed {
		require.NoError(t, os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(dirs[0], folder))))
	}
	wiring, err := recipe.ReadFile("wiring.patch")
	require.NoError(t, err)
	require.NoError(t, applyPatch(wiring, dir))

	for _, folder := range changed {
		files, err := filepath.Glob(filepath.Join(dir, folder, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			content, readErr := os.ReadFile(file)
			require.NoError(t, readErr)
			formatted, formatErr := format.Source(content)
			require.NoError(t, formatErr, file)
			assert.Equal(t, string(formatted), string(content), file)
		}
	}
}

func TestGenerateAPI(t *testing.T) {
	root := t.TempDir()
	proto := func(name, content string) {
		require.NoError(t, writeFile(filepath.Join(root, name), []byte("syntax = \"proto3\";\n"+content)))
	}
	proto("z/v1/used.proto", `package z.v1; option go_package = "example.org/z/v1"; message Used {}`)
	proto("a/v1/user.proto", `package a.v1; option go_package = "example.org/a/v1"; import "z/v1/used.proto";
// User has a comment.
message User { z.v1.Used used = 1; }
service Users { rpc Get(User) returns (z.v1.Used); }`)
	require.NoError(t, generateAPI(t.Context(), root, nil))

	content, err := os.ReadFile(filepath.Join(root, "a/v1/user.pb.go"))
	require.NoError(t, err)
	assert.Contains(t, string(content), "// User has a comment.\ntype User struct")
	for _, name := range []string{"a/v1/user_grpc.pb.go", "a/v1/user.pb.validate.go", "z/v1/used.pb.go", "z/v1/used.pb.validate.go"} {
		assert.FileExists(t, filepath.Join(root, name))
	}

	proto("a/v1/user.proto", `import "no/such.proto";`)
	require.ErrorContains(t, generateAPI(t.Context(), root, nil), "no/such.proto")
	require.ErrorContains(t, generateAPI(t.Context(), t.TempDir(), nil), "no proto file")
}

func TestFollow(t *testing.T) {
	var shown bytes.Buffer
	p := progress{name: "bin/x", total: 3, out: &shown, live: true}
	complaints := p.follow(strings.NewReader(strings.Join([]string{
		"go: downloading example.org/x v1.0.0", "internal/cpu", "example.org/x", "# example.org/y",
		"./y.go:3:5: undefined: z", "go: some trouble", "",
	}, "\n")))
	assert.Equal(t, "# example.org/y\n./y.go:3:5: undefined: z\ngo: some trouble\n", complaints)
	assert.Equal(t, 2, p.compiled)
	assert.Contains(t, shown.String(), "downloading example.org/x v1.0.0")
	assert.True(t, strings.HasSuffix(shown.String(), "\r\x1b[K"), "the progress line must be cleared at the end")

	shown.Reset()
	p = progress{name: "bin/x", out: &shown, last: time.Now()}
	p.follow(strings.NewReader("internal/cpu\n"))
	assert.Empty(t, shown.String(), "not a terminal: at most one line every ten seconds")
}

func TestLockExcludes(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	require.NoError(t, err)
	second := make(chan struct{})
	go func() {
		unlockSecond, lockErr := lock(dir)
		if assert.NoError(t, lockErr) {
			unlockSecond()
		}
		close(second)
	}()
	select {
	case <-second:
		t.Fatal("two runs hold the lock")
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	<-second
}

func TestRecipeStampTellsVersionsApart(t *testing.T) {
	one, err := recipeStamp("v1.0.0")
	require.NoError(t, err)
	again, err := recipeStamp("v1.0.0")
	require.NoError(t, err)
	other, err := recipeStamp("v1.0.1")
	require.NoError(t, err)
	assert.Equal(t, one, again)
	assert.NotEqual(t, one, other)
	assert.True(t, strings.HasPrefix(one, "v1.0.0 "))
}

func TestDownloadSaysWhatIsMissing(t *testing.T) {
	t.Setenv("GOPROXY", "off")
	_, err := download(context.Background(), "example.org/no/such@v1.0.0")
	require.ErrorContains(t, err, "GOPROXY")
	require.ErrorContains(t, err, "example.org/no/such")
}
