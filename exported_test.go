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
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite testdata/exported.golden")

// TestExported compares what the packages export on Linux with the golden file, so that a change of the API shows in
// the diff.
func TestExported(t *testing.T) {
	var all bytes.Buffer
	for _, layer := range layers {
		if layer == "integration" {
			continue
		}
		require.NoError(t, filepath.WalkDir(layer, func(dir string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil || !entry.IsDir():
				return err
			case slices.Contains([]string{"internal", "testdata", "node_modules", "ebpfpb"}, entry.Name()):
				return filepath.SkipDir
			}
			if names := exported(t, dir); len(names) > 0 {
				fmt.Fprintf(&all, "%s: %d\n", dir, len(names))
				for _, name := range names {
					fmt.Fprintf(&all, "\t%s\n", name)
				}
			}
			return nil
		}))
	}
	golden := filepath.Join("testdata", "exported.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, all.Bytes(), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), all.String(), "run go test . -run TestExported -update, and note it in CHANGES.md")
}

// exported returns what a package exports, one line each, sorted. A main package exports nothing.
func exported(t *testing.T, dir string) []string {
	t.Helper()
	context := build.Default
	context.GOOS, context.GOARCH = "linux", "amd64"
	fset := token.NewFileSet()
	text := func(node any) string {
		var b bytes.Buffer
		require.NoError(t, printer.Fprint(&b, fset, node))
		return strings.Join(strings.Fields(b.String()), " ")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var names []string
	add := func(format string, args ...any) { names = append(names, fmt.Sprintf(format, args...)) }
	fields := func(kind, owner string, list *ast.FieldList) {
		for _, field := range list.List {
			if len(field.Names) == 0 {
				add("%s %s.%s", kind, owner, text(field.Type))
			}
			for _, name := range field.Names {
				if name.IsExported() {
					add("%s %s.%s %s", kind, owner, name.Name, strings.TrimPrefix(text(field.Type), "func"))
				}
			}
		}
	}
	for _, path := range files {
		match, err := context.MatchFile(dir, filepath.Base(path))
		require.NoError(t, err)
		if !match || strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		if file.Name.Name == "main" {
			return nil
		}
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				receiver := ""
				if decl.Recv != nil {
					receiver = text(decl.Recv.List[0].Type)
				}
				if decl.Name.IsExported() && (receiver == "" || ast.IsExported(strings.TrimPrefix(receiver, "*"))) {
					signature := strings.TrimPrefix(text(decl.Type), "func")
					if receiver != "" {
						add("func (%s) %s%s", receiver, decl.Name.Name, signature)
					} else {
						add("func %s%s", decl.Name.Name, signature)
					}
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							if name.IsExported() {
								add("%s %s", decl.Tok, name.Name)
							}
						}
					case *ast.TypeSpec:
						if !spec.Name.IsExported() {
							continue
						}
						switch underlying := spec.Type.(type) {
						case *ast.StructType:
							add("type %s struct", spec.Name.Name)
							fields("field", spec.Name.Name, underlying.Fields)
						case *ast.InterfaceType:
							add("type %s interface", spec.Name.Name)
							fields("method", spec.Name.Name, underlying.Methods)
						default:
							add("type %s %s", spec.Name.Name, text(spec.Type))
						}
					}
				}
			}
		}
	}
	slices.Sort(names)
	return names
}
