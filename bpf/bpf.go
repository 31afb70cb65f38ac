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

// Package bpf holds the built-in probe modules: their C sources, the header that modules are written with, and the
// compiled objects, which are generated from the sources and committed.
package bpf

import (
	"embed"
	"io/fs"
)

//go:generate go run ./gen
//go:generate go run ./gen testdata
//go:generate go run ./gen ../kprobe/testdata
//go:generate go run ./gen ../observer/testdata
//go:generate go run ./gen ../integration/tools/bench/bpf

// Suffix is how the file name of a module's object ends; what stands before it is the module's name.
const Suffix = ".bpf.o"

//go:embed amd64/*.bpf.o arm64/*.bpf.o
var objects embed.FS

// Modules returns the objects of the built-in modules for an architecture as Go names it (runtime.GOARCH), one file
// <module>.bpf.o each. It is empty where there is none: objects exist for amd64 and arm64.
func Modules(goarch string) fs.FS {
	sub, err := fs.Sub(objects, goarch)
	if err == nil {
		_, err = fs.Stat(sub, ".")
	}
	if err != nil {
		return embed.FS{}
	}
	return sub
}
