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
	"context"
	"errors"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
)

// The metrics in the report, by their names in _monitoring.
const (
	operations      = "ebpf_io_operations_total"
	bytesMoved      = "ebpf_io_bytes_total"
	durationBucket  = "ebpf_io_duration_seconds_bucket"
	durationSum     = "ebpf_io_duration_seconds_sum"
	durationCount   = "ebpf_io_duration_seconds_count"
	fadvise         = "ebpf_io_fadvise_total"
	cacheLookups    = "ebpf_cache_lookups_total"
	cacheFilled     = "ebpf_cache_filled_pages_total"
	cacheDeleted    = "ebpf_cache_deleted_pages_total"
	workOperations  = "ebpf_io_attributed_operations_total"
	workSeconds     = "ebpf_io_attributed_seconds_total"
	workFilled      = "ebpf_cache_attributed_filled_pages_total"
	workRegret      = "ebpf_cache_attributed_regret_pages_total"
	fileOperations  = "ebpf_io_file_operations_total"
	fileBytes       = "ebpf_io_file_bytes_total"
	fileFilled      = "ebpf_cache_file_filled_pages_total"
	fileDropped     = "ebpf_cache_file_dropped_pages_total"
	fileRegret      = "ebpf_cache_file_regret_pages_total"
	reclaims        = "ebpf_memory_reclaim_total"
	reclaimSum      = "ebpf_memory_reclaim_duration_seconds_sum"
	reclaimCount    = "ebpf_memory_reclaim_duration_seconds_count"
	reclaimScanned  = "ebpf_memory_reclaim_scanned_pages_total"
	reclaimFreed    = "ebpf_memory_reclaim_reclaimed_pages_total"
	moduleUp        = "ebpf_module_up"
	probeInfo       = "ebpf_probe_info"
	collectDuration = "ebpf_collect_duration_seconds"
	mapMemory       = "ebpf_map_memory_bytes"
	eventsLost      = "ebpf_events_lost_total"
)

var metrics = []string{
	operations, bytesMoved, durationBucket, durationSum, durationCount, fadvise,
	cacheLookups, cacheFilled, cacheDeleted,
	workOperations, workSeconds, workFilled, workRegret,
	reclaims, reclaimSum, reclaimCount, reclaimScanned, reclaimFreed,
	moduleUp, probeInfo, collectDuration, mapMemory, eventsLost,
}

// fileMetrics are on the page of the API only.
var fileMetrics = []string{fileOperations, fileBytes, fileFilled, fileDropped, fileRegret}

// gatherTries bounds how often gather retries until all figures are of one collection.
const gatherTries = 5

// figures are the samples of each metric that the server has. A metric that is fed but has counted nothing is present
// without samples.
type figures map[string]ask.Samples

// has reports whether the server feeds the metric.
func (f figures) has(metric string) bool {
	_, ok := f[metric]
	return ok
}

// gather queries all metrics. Each is a separate query, so a write in between makes them disagree. gather retries until
// they agree, at most gatherTries times.
func gather(ctx context.Context, source ask.Source) (figures, error) {
	for try := 1; ; try++ {
		found, err := gatherOnce(ctx, source)
		if err != nil || found.agree() || try == gatherTries {
			return found, err
		}
		if err = sleep(ctx, interval/3); err != nil {
			return nil, err
		}
	}
}

func gatherOnce(ctx context.Context, source ask.Source) (figures, error) {
	found := make(figures)
	for _, metric := range metrics {
		samples, err := source(ctx, metric)
		switch {
		case errors.Is(err, ask.ErrAbsent):
		case err != nil:
			return nil, err
		default:
			found[metric] = samples
		}
	}
	return found, nil
}

// agree reports whether each operation has as many durations as calls, and as many in its last bucket.
func (f figures) agree() bool {
	for _, op := range labelValues(f[operations], "op") {
		calls := f[operations].With("op", op).Sum()
		if calls != f[durationCount].With("op", op).Sum() || calls != f[durationBucket].With("op", op).With("le", "+Inf").Sum() {
			return false
		}
	}
	return true
}

// labelValues returns the distinct values of a label, in the order of the samples.
func labelValues(samples ask.Samples, label string) []string {
	var values []string
	seen := make(map[string]bool)
	for _, s := range samples {
		if v := s.Labels[label]; !seen[v] {
			seen[v] = true
			values = append(values, v)
		}
	}
	return values
}
