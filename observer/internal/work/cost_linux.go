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

package work

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/cputime"
)

// measure returns the CPU time of one operation at best: the mean of the cheapest batch. Time in which others have the
// CPU is not included.
func (w *workload) measure(operation string) (time.Duration, error) {
	const batches, reads = 12, 250
	var batch func() error
	var size int
	switch operation {
	case "call":
		size, batch = reads, func() error {
			for range reads {
				if _, err := unix.Pread(w.fd, w.buf[:100], 0); err != nil {
					return err
				}
			}
			return nil
		}
	case "page":
		// Each page is added and removed.
		size, batch = 2*scratchPages, func() error {
			_, err := unix.Pwrite(w.copy, w.buf, 0)
			return errors.Join(err, unix.Ftruncate(w.copy, 0))
		}
	case "fault":
		size, batch = scratchPages, func() error { return w.touch(-1) }
	default:
		return 0, fmt.Errorf("the cost of a %q is unknown", operation)
	}
	best := time.Hour
	for range batches {
		start := cputime.Thread()
		if err := batch(); err != nil {
			return 0, fmt.Errorf("measuring the cost of a %s: %w", operation, err)
		}
		best = min(best, cputime.Thread()-start)
	}
	return best / time.Duration(size), nil
}
