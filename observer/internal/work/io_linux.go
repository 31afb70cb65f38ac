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

	"golang.org/x/sys/unix"
)

// done makes calls of a kind by do, which returns the bytes moved, and adds them to q. With an errno the calls must
// fail with it.
func (q Quantities) done(op string, times int, errno error, do func() (bytes int, err error)) error {
	for range times {
		n, err := do()
		if !errors.Is(err, errno) {
			return fmt.Errorf("%s: %w", op, err)
		}
		if err != nil {
			q[op+"_errors"]++
			continue
		}
		q[op]++
		q[op+"_bytes"] += uint64(n)
	}
	return nil
}

// none wraps a call that moves no bytes.
func none(do func() error) func() (int, error) { return func() (int, error) { return 0, do() } }

// calls makes the calls of the io module, each a different number of times and with different lengths, except for those
// that the module does not count on every kernel.
func (w *workload) calls() (Quantities, error) {
	q := make(Quantities)
	vector := [][]byte{w.buf[:7], w.buf[:11]}
	advise := func(advice int) func() (int, error) {
		return none(func() error { return unix.Fadvise(w.fd, 0, 0, advice) })
	}
	if _, err := unix.Seek(w.fd, 0, 0); err != nil {
		return nil, err
	}
	err := errors.Join(
		q.done("read", 3, nil, func() (int, error) { return unix.Read(w.fd, w.buf[:100]) }),
		q.done("read", 2, unix.EBADF, func() (int, error) { return unix.Read(-1, w.buf[:100]) }),
		q.done("pread", 5, nil, func() (int, error) { return unix.Pread(w.fd, w.buf[:200], 0) }),
		q.done("readv", 2, nil, func() (int, error) { return unix.Readv(w.fd, vector) }),
		q.done("preadv", 4, nil, func() (int, error) { return unix.Preadv(w.fd, vector, 0) }),
		q.done("write", 6, nil, func() (int, error) { return unix.Write(w.fd, w.buf[:300]) }),
		q.done("pwrite", 7, nil, func() (int, error) { return unix.Pwrite(w.fd, w.buf[:400], 0) }),
		q.done("writev", 3, nil, func() (int, error) { return unix.Writev(w.fd, vector) }),
		q.done("pwritev", 5, nil, func() (int, error) { return unix.Pwritev(w.fd, vector, 0) }),
		q.done("sendfile", 2, nil, func() (int, error) {
			from := int64(0)
			return unix.Sendfile(w.copy, w.fd, &from, 500)
		}),
		q.done("fsync", 1, nil, none(func() error { return unix.Fsync(w.fd) })),
		q.done("fdatasync", 2, nil, none(func() error { return unix.Fdatasync(w.fd) })),
		q.done("fadvise", 3, nil, advise(unix.FADV_WILLNEED)),
		q.done("fadvise", 2, nil, advise(unix.FADV_DONTNEED)),
		q.done("openat", 2, unix.ENOENT, none(func() error {
			_, err := unix.Openat(w.folder, "none", unix.O_RDONLY, 0)
			return err
		})),
		q.done("openat", 3, nil, none(func() error {
			fd, err := unix.Openat(w.folder, "file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			return q.done("close", 1, nil, none(func() error { return unix.Close(fd) }))
		})),
		q.done("ftruncate", 2, nil, none(func() error { return unix.Ftruncate(w.copy, 1000) })),
		q.done("mkdirat", 1, nil, none(func() error { return unix.Mkdirat(w.folder, "folder", 0o700) })),
		q.done("renameat", 1, nil, none(func() error { return unix.Renameat(w.folder, "folder", w.folder, "other") })),
		q.done("unlinkat", 1, nil, none(func() error { return unix.Unlinkat(w.folder, "other", unix.AT_REMOVEDIR) })),
		q.done("getdents", 2, nil, none(func() error {
			_, err := unix.Getdents(w.folder, w.buf)
			return err
		})),
	)
	q["fadvise_willneed"], q["fadvise_dontneed"], q["events_lost"] = 3, 2, 0
	return q, err
}

// mappings makes and drops mappings, by raw system calls.
func (w *workload) mappings() (Quantities, error) {
	q := make(Quantities)
	size := 3 * w.page
	for range 4 {
		var mem uintptr
		err := errors.Join(
			q.done("mmap", 1, nil, func() (int, error) {
				var err error
				mem, err = mmap(size, -1, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
				return size, err
			}),
			q.done("munmap", 1, nil, func() (int, error) { return size, call(unix.SYS_MUNMAP, mem, uintptr(size), 0) }),
		)
		if err != nil {
			return nil, err
		}
	}
	return q, nil
}
