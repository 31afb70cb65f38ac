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
	"time"

	"golang.org/x/sys/unix"
)

// pages returns the known quantities of a phase of the page cache. What must not have happened is 0. Only fadvise deletes
// pages.
func pages(filled, deleted, dirtied, unused, refilled uint64) Quantities {
	return Quantities{
		"filled_pages": filled, "deleted_pages": deleted, "dropped_pages": deleted, "dirtied_pages": dirtied,
		"unused_pages": unused, "refilled_pages": refilled,
	}
}

// write writes to an empty file.
func (w *workload) write() (Quantities, error) {
	_, err := unix.Pwrite(w.copy, w.buf, 0)
	return pages(scratchPages, 0, scratchPages, 0, 0), err
}

// dropped drops pages that were used.
func (w *workload) dropped() (Quantities, error) {
	before, err := w.residentPages(w.fd)
	if err = errors.Join(err, unix.Fadvise(w.fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
		return nil, err
	}
	after, err := w.residentPages(w.fd)
	return pages(0, before-after, 0, 0, 0), err
}

// readCold reads what has just been dropped.
func (w *workload) readCold() (Quantities, error) {
	before, err := w.deviceBytes()
	if err != nil {
		return nil, err
	}
	if _, err = unix.Pread(w.fd, w.buf, 0); err != nil {
		return nil, err
	}
	after, err := w.deviceBytes()
	if err != nil {
		return nil, err
	}
	read, err := w.residentPages(w.fd)
	q := pages(read, 0, 0, 0, read)
	q["device_read_bytes"] = after - before
	return q, err
}

// readAhead makes the kernel read ahead a file that has just been dropped, uses two pages of it, and drops it again.
func (w *workload) readAhead() (Quantities, error) {
	const step = 16
	for page := 0; page < scratchPages; page += step {
		if err := unix.Fadvise(w.closed, int64(page*w.page), int64(step*w.page), unix.FADV_WILLNEED); err != nil {
			return nil, err
		}
	}
	// A page that is being read cannot be dropped.
	for range readAheadTries {
		read, err := w.residentPages(w.closed)
		if err != nil {
			return nil, err
		}
		if read == scratchPages {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, page := range []int{3, 5} {
		if _, err := unix.Pread(w.closed, w.buf[:100], int64(page*w.page)); err != nil {
			return nil, err
		}
	}
	return pages(scratchPages, scratchPages, 0, scratchPages-2, scratchPages), w.evict(w.closed)
}

const readAheadTries = 200

// lookups reads a page that is cached.
func (w *workload) lookups() (Quantities, error) {
	for range scratchPages {
		if _, err := unix.Pread(w.fd, w.buf[:100], 0); err != nil {
			return nil, err
		}
	}
	return Quantities{"cached_reads": scratchPages}, nil
}

// deviceBytes returns how many bytes this thread has read from devices, by the kernel's count. /proc/thread-self/io has
// the same, but belongs to root if the process is not dumpable, as one with file capabilities is not.
func (w *workload) deviceBytes() (uint64, error) {
	const sector = 512
	usage, err := threadUsage()
	return uint64(usage.Inblock) * sector, err
}
