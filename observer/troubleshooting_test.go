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

package observer_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTroubleshooting: docs/troubleshooting.md has every remedy of the code, word for word, except for names and
// numbers.
func TestTroubleshooting(t *testing.T) {
	document, err := os.ReadFile("../docs/troubleshooting.md")
	if os.IsNotExist(err) {
		t.Skip("only the test binary is here, and not the repository")
	}
	require.NoError(t, err)
	text := strings.ToLower(string(document))
	known := 0
	for _, folder := range []string{".", "../kprobe"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			require.NoError(t, err)
			for _, remedy := range remediesIn(parsed) {
				known++
				for _, words := range literals(remedy) {
					require.Contains(t, text, strings.ToLower(words), "a remedy in %s", file)
				}
			}
		}
	}
	require.Greater(t, known, 30)
}

// remediesIn returns the expressions that are a remedy: the last field of a finding, the last argument of WithRemedy
// and the Remedy field of a warning.
func remediesIn(file *ast.File) []ast.Expr {
	var found []ast.Expr
	constants := make(map[string]ast.Expr)
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			if len(n.Values) == 1 {
				constants[n.Names[0].Name] = n.Values[0]
			}
		case *ast.CompositeLit:
			if name, ok := n.Type.(*ast.Ident); ok && name.Name == "finding" && len(n.Elts) == 3 {
				found = append(found, n.Elts[2])
			}
		case *ast.KeyValueExpr:
			if name, ok := n.Key.(*ast.Ident); ok && name.Name == "Remedy" {
				found = append(found, n.Value)
			}
		case *ast.CallExpr:
			switch f := n.Fun.(type) {
			case *ast.Ident:
				if f.Name == "WithRemedy" {
					found = append(found, n.Args[1])
				}
			case *ast.SelectorExpr:
				if f.Sel.Name == "WithRemedy" {
					found = append(found, n.Args[1])
				}
			}
		case *ast.FuncDecl:
			// This function returns a remedy.
			if n.Name.Name == "compileFor" {
				found = append(found, n.Body.List[0].(*ast.ReturnStmt).Results[0])
			}
		}
		return true
	})
	for i, expr := range found {
		if name, ok := expr.(*ast.Ident); ok && constants[name.Name] != nil {
			found[i] = constants[name.Name]
		}
	}
	return found
}

// literals returns the words of an expression, in pieces between its names and verbs.
func literals(of ast.Expr) []string {
	var pieces []string
	ast.Inspect(of, func(n ast.Node) bool {
		literal, ok := n.(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return true
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			return true
		}
		for piece := range strings.SplitSeq(strings.ReplaceAll(text, "%s", "%d"), "%d") {
			if piece = strings.TrimSpace(piece); piece != "" {
				pieces = append(pieces, piece)
			}
		}
		return true
	})
	return pieces
}
