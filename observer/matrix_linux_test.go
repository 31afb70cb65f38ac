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
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// allModules returns the built-in modules.
func allModules(t *testing.T) (names []string) {
	t.Helper()
	objects, err := fs.Glob(bpf.Modules(runtime.GOARCH), "*"+bpf.Suffix)
	require.NoError(t, err)
	require.NotEmpty(t, objects)
	for _, object := range objects {
		names = append(names, strings.TrimSuffix(object, bpf.Suffix))
	}
	return names
}

// TestMatrix logs for the kernel matrix how each hook of each module is attached: a module's plan has all hooks that it
// declares, including those that this kernel refuses.
func TestMatrix(t *testing.T) {
	for _, module := range allModules(t) {
		t.Run(module, func(t *testing.T) {
			hooks, err := observer.BuiltIn().Hooks(module)
			require.NoError(t, err)
			var planned []string
			for _, h := range open(t, module).Health().Modules[0].Plan {
				planned = append(planned, h.Name)
				attach := string(h.Attachment)
				if attach == "" {
					attach = "refused"
				}
				t.Logf("MATRIX\t%s %s: chosen\t%s", module, h.Name, attach)
			}
			require.Equal(t, hooks, planned)
		})
	}
}
