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
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestBlockExact: a cold read of a file takes exactly its bytes from the device, a warm one none, and a write that is
// synced puts at least its bytes there. The device's own statistics say the same, where no one else uses it.
func TestBlockExact(t *testing.T) {
	eachAttach(t, "block", []string{"start", "complete"}, testBlockExact)
}

func testBlockExact(t *testing.T, o *observer.Observer) {
	fd := cold(t, fileSize)
	quiet(t)
	// The file system may have to read a block of its own first, where the file lies, and then not again.
	var before, got counts
	for range 5 {
		evict(t, fd, fileSize)
		before = count(t, o)
		statBefore := sectors(t, fd)
		readAll(t, fd)
		got = count(t, o).since(before)
		read := sectors(t, fd) - statBefore
		require.GreaterOrEqual(t, got["ebpf_block_bytes_total{read,true}"], uint64(fileSize))
		if os.Getenv(guest) != "" {
			// Nobody else uses the device.
			require.Equal(t, read, got["ebpf_block_bytes_total{read,true}"])
		}
		require.LessOrEqual(t, got["ebpf_block_bytes_total{read,true}"], read)
		if got["ebpf_block_bytes_total{read,true}"] == fileSize {
			break
		}
	}
	require.Equal(t, uint64(fileSize), got["ebpf_block_bytes_total{read,true}"])
	require.Positive(t, got["ebpf_block_requests_total{read,true}"])
	require.Equal(t, got["ebpf_block_requests_total{read,true}"], got["ebpf_block_duration_seconds_count{read}"])
	require.Positive(t, got["ebpf_block_duration_seconds_sum{read}"])

	before = count(t, o)
	readAll(t, fd)
	require.Zero(t, count(t, o).since(before)["ebpf_block_bytes_total{read,true}"])

	before = count(t, o)
	_, err := unix.Pwrite(fd, make([]byte, 1<<20), 0)
	require.NoError(t, err)
	require.NoError(t, unix.Fsync(fd))
	got = count(t, o).since(before)
	require.GreaterOrEqual(t, got["ebpf_block_bytes_total{write,false}"]+got["ebpf_block_bytes_total{write,true}"], uint64(1<<20))
}

// sectors returns the bytes that the device of a file has read, by its own statistics.
func sectors(t *testing.T, fd int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	require.NoError(t, unix.Fstat(fd, &stat))
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(stat.Dev), unix.Minor(stat.Dev)))
	require.NoError(t, err)
	n, err := strconv.ParseUint(strings.Fields(string(text))[2], 10, 64)
	require.NoError(t, err)
	return n * 512
}
