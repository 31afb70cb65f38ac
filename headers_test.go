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
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeaders checks that each source file names its license in its first lines.
func TestHeaders(t *testing.T) {
	const head = 1600
	kinds := []string{".go", ".c", ".h", ".mk", ".mjs", ".js", ".ts", ".css", ".html", ".proto", ".yaml", ".sh"}
	seen := 0
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if slices.Contains([]string{".git", ".cache", "node_modules", "testdata", "out", "bin", "banyandb", "dist"}, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		case !entry.Type().IsRegular() || !slices.Contains(kinds, filepath.Ext(path)) && entry.Name() != "Makefile":
			return nil
		}
		seen++
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		text = text[:min(len(text), head)]
		require.True(t, bytes.Contains(text, []byte("Apache License, Version 2.0")) || bytes.Contains(text, []byte("SPDX-License-Identifier")), path)
		return nil
	}))
	require.Greater(t, seen, 100)
}
