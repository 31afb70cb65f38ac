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

package ask_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
)

// Metrics of the server itself, which do not depend on the kernel.
const (
	uptime  = "up_time"
	labeled = "cpu_state" // Has a label, kind.
)

func TestSourcesAgree(t *testing.T) {
	server, err := banyandtest.Start(t.Context(), banyandtest.Options{
		Dir: t.TempDir(),
		Flags: []string{
			"--observability-modes=native,prometheus",
			"--observability-native-flush-interval=1s", "--observability-metrics-interval=1s",
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	conn, err := server.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })

	sources := map[string]ask.Source{
		"bydbql": ask.BydbQL(server.HTTP), "http": ask.HTTP(server.HTTP), "grpc": ask.GRPC(conn),
	}
	for name, source := range sources {
		var up ask.Samples
		require.Eventually(t, func() bool {
			up, err = source(t.Context(), uptime)
			return err == nil && len(up) == 1
		}, 2*time.Minute, 100*time.Millisecond, "%s: %v", name, err)
		assert.Equal(t, "standalone", up[0].Node, name)
		assert.Empty(t, up[0].Labels, name)
		assert.Positive(t, up[0].Value, name)
		assert.WithinDuration(t, time.Now(), up[0].Time, 5*time.Minute, name)

		_, err = source(t.Context(), "no_such_metric")
		require.ErrorIs(t, err, ask.ErrAbsent, name)
	}

	// On the page, the server prefixes names with the module, the scope that _monitoring leaves out.
	page := ask.Prometheus(server.Metrics)
	byPage, err := page(t.Context(), "system_"+uptime)
	require.NoError(t, err)
	require.Len(t, byPage, 1)
	_, err = page(t.Context(), "no_such_metric")
	require.ErrorIs(t, err, ask.ErrAbsent)

	var byBydbQL ask.Samples
	require.Eventually(t, func() bool {
		byBydbQL, err = sources["bydbql"](t.Context(), labeled)
		return err == nil && len(byBydbQL) > 0
	}, 2*time.Minute, 100*time.Millisecond, "%v", err)
	for name, source := range sources {
		got, gotErr := source(t.Context(), labeled)
		require.NoError(t, gotErr, name)
		require.Len(t, got, len(byBydbQL), name)
		for i := range got {
			assert.Contains(t, got[i].Labels, "kind", name)
			assert.Equal(t, byBydbQL[i].Key(), got[i].Key(), name)
		}
	}
}
