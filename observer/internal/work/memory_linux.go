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
	"unsafe"

	"golang.org/x/sys/unix"
)

// faults touches new memory, and a file that is not in memory, through a mapping. How many faults that takes is the kernel's choice.
func (w *workload) faults() (Quantities, error) {
	return Quantities{}, errors.Join(w.touch(-1), w.touch(w.fd))
}

// faulted reads how many page faults the kernel has counted for this thread.
func faulted() (Quantities, error) {
	usage, err := threadUsage()
	return Quantities{"minor_faults": uint64(usage.Minflt), "major_faults": uint64(usage.Majflt)}, err
}

// touch writes to each page of new memory, or of a private mapping of a file.
func (w *workload) touch(fd int) error {
	size, flags := scratchPages*w.page, unix.MAP_PRIVATE
	if fd < 0 {
		flags |= unix.MAP_ANONYMOUS
	}
	mem, err := mmap(size, fd, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return err
	}
	bytes := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(nil), mem)), size)
	for i := 0; i < size; i += w.page {
		bytes[i]++
	}
	return call(unix.SYS_MUNMAP, mem, uintptr(size), 0)
}
