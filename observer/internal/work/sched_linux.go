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
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// schedule sleeps. How long that takes, and how often the thread is scheduled, is up to the kernel.
func (*workload) schedule() (Quantities, error) {
	for range 5 {
		nap := unix.NsecToTimespec(int64(100 * time.Microsecond))
		// A signal of the runtime may wake it early, which does not matter.
		if err := call(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&nap)), 0, 0); err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("sleeping: %w", err)
		}
	}
	return Quantities{}, nil
}

// scheduled reads what the scheduler has counted for this thread.
func (w *workload) scheduled() (Quantities, error) {
	q := make(Quantities)
	stat, err := w.readRaw("/proc/thread-self/schedstat")
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(stat)
	if len(fields) != 3 {
		return Quantities{}, nil
	}
	for i, name := range []string{"cpu_ns", "run_queue_wait_ns", "run_queue_waits"} {
		if q[name], err = strconv.ParseUint(fields[i], 10, 64); err != nil {
			return nil, err
		}
	}
	usage, err := threadUsage()
	q["voluntary_switches"], q["involuntary_switches"] = uint64(usage.Nvcsw), uint64(usage.Nivcsw)
	return q, err
}

// readRaw reads a small file by raw system calls: the runtime might take the thread off the CPU for others.
func (w *workload) readRaw(name string) (string, error) {
	path := append([]byte(name), 0)
	at := unix.AT_FDCWD
	fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(&path[0])), unix.O_RDONLY|unix.O_CLOEXEC, 0, 0, 0)
	if errno != 0 {
		return "", fmt.Errorf("opening %s: %w", name, errno)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)))
	if errno != 0 {
		return "", errors.Join(fmt.Errorf("reading %s: %w", name, errno), unix.Close(int(fd)))
	}
	return string(w.buf[:n]), unix.Close(int(fd))
}
