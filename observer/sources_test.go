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

package observer

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// TestBuiltInModulesDoNotCollide: Open does not check them if there are no others.
func TestBuiltInModulesDoNotCollide(t *testing.T) {
	s, err := merge([]Source{Files(bpf.Modules("amd64"))})
	require.NoError(t, err)
	require.NotEmpty(t, s.names)
	require.Empty(t, s.refusals)
	require.Empty(t, s.refused)
}

// TestEmptySource: an empty source is refused, without a panic.
func TestEmptySource(t *testing.T) {
	for _, source := range []Source{{}, Spec("nothing", nil)} {
		_, err := source.Describe("nothing")
		require.ErrorIs(t, err, kprobe.ErrInvalidModule)
		_, err = source.Hooks("nothing")
		require.ErrorIs(t, err, kprobe.ErrInvalidModule)
		s, err := merge([]Source{BuiltIn(), source})
		require.NoError(t, err)
		for _, name := range s.names {
			if s.of[name] == source {
				require.ErrorIs(t, s.object(name).err, kprobe.ErrInvalidModule)
			}
		}
	}
}
