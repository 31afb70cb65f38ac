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

package load_test

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

// start starts a server with these flags and connects to it.
func start(t *testing.T, flags ...string) (*banyandtest.Server, *grpc.ClientConn) {
	t.Helper()
	server, err := banyandtest.Start(t.Context(), banyandtest.Options{Dir: t.TempDir(), Flags: flags})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	conn, err := server.Dial()
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, conn.Close()) })
	return server, conn
}

// TestRunFlushesMergesAndFindsRows checks that the load makes the server flush and merge.
func TestRunFlushesMergesAndFindsRows(t *testing.T) {
	server, conn := start(t, load.ServerFlags...)

	parts := make(map[string]map[string]bool)
	var reports int
	kinds := []string{"measure", "stream", "trace"}
	// Part ids increase. Parts that were seen and are gone have been merged.
	merged := func(name string) (n int) {
		now := make(map[string]map[string]bool)
		collectParts(t, server.Root, now)
		for part := range parts[name] {
			if !now[name][part] {
				n++
			}
		}
		return n
	}
	// The timeout is for slow machines.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	stats, err := load.Run(ctx, conn, load.Options{
		Progress: func(load.Stats) {
			reports++
			collectParts(t, server.Root, parts)
			if reports >= 5 && !slices.ContainsFunc(kinds, func(name string) bool { return len(parts[name]) < 4 || merged(name) == 0 }) {
				cancel()
			}
		},
	})
	require.NoError(t, err)
	require.NoError(t, stats.FirstError)
	t.Logf("%+v", stats)
	assert.GreaterOrEqual(t, reports, 5)
	for name, counts := range map[string]load.Counts{"measure": stats.Measure, "stream": stats.Stream, "trace": stats.Trace} {
		assert.NotZero(t, counts.Written, name)
		assert.NotZero(t, counts.Rows, name)
		assert.Zero(t, counts.WriteErrors, name)
		assert.Zero(t, counts.QueryErrors, name)
		assert.GreaterOrEqual(t, len(parts[name]), 4, "flushed parts of %s", name)
		assert.NotZero(t, merged(name), "merged parts of %s", name)
		t.Logf("%s: saw %d parts, %d of them are merged", name, len(parts[name]), merged(name))
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	_, conn := start(t)

	ctx, cancel := context.WithCancel(t.Context())
	stats, err := load.Run(ctx, conn, load.Options{Progress: func(load.Stats) { cancel() }})
	require.NoError(t, err)
	assert.NoError(t, stats.FirstError, "work cut short by the end is not a failure")
	assert.Zero(t, stats.Total().WriteErrors+stats.Total().QueryErrors)
}

func TestRunEndsWithItsWork(t *testing.T) {
	_, conn := start(t)

	for rounds, times := range map[int]int{0: 1, 1: 1, 4: 4} {
		stats, err := load.Run(t.Context(), conn, load.Options{Pause: -1, Batch: 70, Batches: 3, Queries: 2, Rounds: rounds})
		require.NoError(t, err)
		require.NoError(t, stats.FirstError)
		for name, counts := range map[string]load.Counts{"measure": stats.Measure, "stream": stats.Stream, "trace": stats.Trace} {
			assert.EqualValues(t, times*3*70, counts.Written, name)
			assert.EqualValues(t, times*2, counts.Queries, name)
		}
	}
}

// notingConn records the order in which the catalogs' batches and queries begin.
type notingConn struct {
	grpc.ClientConnInterface
	begun []string
	mu    sync.Mutex
}

func (c *notingConn) note(method string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = append(c.begun, method)
}

func (c *notingConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if strings.HasSuffix(method, "/Query") {
		c.note(method)
	}
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (c *notingConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.note(method)
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// TestRunKeepsRoundsApart checks that no batch or query begins before all of the previous round have begun.
func TestRunKeepsRoundsApart(t *testing.T) {
	_, dialed := start(t)
	conn := &notingConn{ClientConnInterface: dialed}
	const batches, queries, rounds, catalogs = 3, 2, 8, 3

	stats, err := load.Run(t.Context(), conn, load.Options{Pause: -1, Batch: 20, Batches: batches, Queries: queries, Rounds: rounds})
	require.NoError(t, err)
	require.NoError(t, stats.FirstError)
	// The first calls wait for the schema.
	const round = catalogs * (batches + queries)
	begun := conn.begun[len(conn.begun)-rounds*round:]
	for of := range slices.Chunk(begun, round) {
		times := make(map[string]int)
		for _, method := range of {
			times[method]++
		}
		require.Len(t, times, 2*catalogs)
		for method, n := range times {
			if strings.HasSuffix(method, "/Query") {
				require.Equal(t, queries, n, method)
			} else {
				require.Equal(t, batches, n, method)
			}
		}
	}
}

// collectParts adds the part folders below each catalog's data folder.
func collectParts(t *testing.T, root string, parts map[string]map[string]bool) {
	t.Helper()
	for _, name := range []string{"measure", "stream", "trace"} {
		if parts[name] == nil {
			parts[name] = make(map[string]bool)
		}
		// The server removes folders meanwhile, which is not an error.
		_ = filepath.WalkDir(filepath.Join(root, name, "data", "load_"+name), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() && len(entry.Name()) == 16 && strings.Contains(filepath.Dir(path), "shard-") {
				parts[name][path] = true
			}
			return nil
		})
	}
}
