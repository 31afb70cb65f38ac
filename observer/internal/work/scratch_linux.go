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
	"os"
	"path/filepath"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// scratchPattern begins the names of scratch folders. One older than staleAfter was left by a process that was killed.
const (
	scratchPattern = "banyandb-ebpf-verify-"
	staleAfter     = time.Hour
)

// scratchPages is the size of the scratch file.
const scratchPages = 64

// workload does known work in a scratch folder. All of it is done by one thread, by raw system calls, so that what the
// kernel sees is what is written here.
type workload struct {
	buf []byte
	dir string
	// fd is a file of scratchPages pages, folder its folder, copy a file to write to, closed one that nobody writes to.
	fd, folder, copy, closed int
	page                     int
	// onDisk reports whether pages can be dropped, and so read again.
	onDisk bool
}

// OnThread makes the scratch folder in the first of dirs that allows all of the known work, runs work on a locked
// thread, and removes the folder. The warning says which dirs could not be used.
func OnThread(dirs []string, work func(thread uint32, phases []Phase, measure Measure) error) (warning string, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, err := kprobe.Thread()
	if err != nil {
		return "", err
	}
	w, warning, err := openWorkload(dirs)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	calls := []string{
		"read", "pread", "readv", "preadv", "write", "pwrite", "writev", "pwritev", "sendfile", "fsync", "fdatasync", "fadvise", "openat", "close",
		"ftruncate", "mkdirat", "renameat", "unlinkat", "getdents", "events_lost",
	}
	cached := []string{"filled_pages", "deleted_pages", "dropped_pages", "dirtied_pages", "unused_pages", "refilled_pages"}
	scheduler := []string{"cpu_ns", "run_queue_wait_ns", "run_queue_waits", "voluntary_switches", "involuntary_switches"}
	phases := []Phase{
		{Name: "calls", Of: calls, Run: w.calls},
		{Name: "mapping calls", Of: []string{"mmap", "munmap"}, Run: w.mappings},
		{Name: "page faults", Of: []string{"minor_faults", "major_faults"}, Prepare: w.drop, Run: w.faults, Account: faulted},
		{Name: "scheduler", Of: scheduler, Run: w.schedule, Account: w.scheduled},
	}
	// What is never dropped is never read: on a file system in memory it is not known what the page cache should count.
	if w.onDisk {
		phases = append(phases,
			Phase{Name: "writing", Of: cached, Prepare: func() error { return unix.Ftruncate(w.copy, 0) }, Run: w.write},
			Phase{Name: "dropping", Of: cached, Prepare: w.load, Run: w.dropped},
			Phase{Name: "reading from disk", Of: append([]string{"device_read_bytes"}, cached...), Prepare: w.drop, Run: w.readCold},
			Phase{Name: "reading in vain", Of: cached, Prepare: func() error { return w.evict(w.closed) }, Run: w.readAhead},
			Phase{Name: "cached reads", Of: []string{"cached_reads"}, Prepare: w.load, Run: w.lookups},
		)
	}
	return warning, work(thread, phases, w.measure)
}

// openWorkload makes the scratch files in the first folder on a disk, else in the first that can be written to.
func openWorkload(dirs []string) (*workload, string, error) {
	if len(dirs) == 0 {
		dirs = []string{os.TempDir()}
	}
	var best *workload
	var errs []error
	for _, dir := range dirs {
		w := &workload{page: os.Getpagesize(), fd: -1, folder: -1, copy: -1, closed: -1}
		err := w.open(dir)
		if err != nil {
			errs = append(errs, err, w.close())
			continue
		}
		if w.onDisk || best == nil {
			if best != nil {
				errs = append(errs, best.close())
			}
			best = w
		} else {
			errs = append(errs, w.close())
		}
		if best.onDisk {
			break
		}
	}
	err := errors.Join(errs...)
	if best == nil {
		return nil, "", err
	}
	if err != nil {
		return best, fmt.Sprintf("the metrics were verified in %s: %v", filepath.Dir(best.dir), err), nil
	}
	return best, "", nil
}

func (w *workload) open(parent string) error {
	removeStale(parent)
	dir, err := os.MkdirTemp(parent, scratchPattern)
	if err != nil {
		return fmt.Errorf("making a scratch folder: %w", err)
	}
	w.dir = dir
	w.buf = make([]byte, scratchPages*w.page)
	if w.folder, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening the scratch folder: %w", err)
	}
	if err = os.WriteFile(filepath.Join(dir, "closed"), w.buf, 0o600); err != nil {
		return fmt.Errorf("writing a scratch file: %w", err)
	}
	if w.closed, err = unix.Openat(w.folder, "closed", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening a scratch file: %w", err)
	}
	for name, fd := range map[string]*int{"file": &w.fd, "copy": &w.copy} {
		if *fd, err = unix.Openat(w.folder, name, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600); err != nil {
			return fmt.Errorf("making a scratch file: %w", err)
		}
	}
	if _, err = unix.Pwrite(w.fd, w.buf, 0); err != nil {
		return fmt.Errorf("writing the scratch file: %w", err)
	}
	err = w.evict(w.fd)
	w.onDisk = err == nil
	if errors.Is(err, errNoCache) {
		return nil
	}
	return err
}

func (w *workload) close() error {
	var errs []error
	for _, fd := range []int{w.fd, w.copy, w.closed, w.folder} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// removeStale removes the folders of processes that were killed at their start. What cannot be removed is another
// user's.
func removeStale(parent string) {
	folders, _ := filepath.Glob(filepath.Join(parent, scratchPattern+"*"))
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.RemoveAll(folder)
		}
	}
}

// errNoCache means that the scratch folder's file system does not drop pages when asked to, such as one in memory.
var errNoCache = errors.New("the pages of the scratch file cannot be dropped")

// residentPages asks mincore(2) how many pages of a file are in the page cache.
func (w *workload) residentPages(fd int) (uint64, error) {
	size := scratchPages * w.page
	mem, err := mmap(size, fd, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("mapping the scratch file: %w", err)
	}
	var resident [scratchPages]byte
	err = call(unix.SYS_MINCORE, mem, uintptr(size), uintptr(unsafe.Pointer(&resident[0])))
	var n uint64
	for _, r := range resident {
		n += uint64(r & 1)
	}
	return n, errors.Join(err, call(unix.SYS_MUNMAP, mem, uintptr(size), 0))
}

// evict drops a file's pages. It retries, since the kernel may still hold some of them.
func (w *workload) evict(fd int) error {
	for range evictTries {
		if err := errors.Join(unix.Fsync(fd), unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
			return fmt.Errorf("dropping the scratch file's pages: %w", err)
		}
		if left, err := w.residentPages(fd); left == 0 || err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return errNoCache
}

const evictTries = 20

// drop drops the scratch file's pages, if they can be dropped.
func (w *workload) drop() error {
	if !w.onDisk {
		return nil
	}
	return w.evict(w.fd)
}

// load reads the scratch file into memory.
func (w *workload) load() error {
	_, err := unix.Pread(w.fd, w.buf, 0)
	return errors.Join(err, unix.Fsync(w.fd))
}

func mmap(size, fd, prot, flags int) (uintptr, error) {
	mem, _, errno := unix.RawSyscall6(unix.SYS_MMAP, 0, uintptr(size), uintptr(prot), uintptr(flags), uintptr(fd), 0)
	if errno != 0 {
		return 0, errno
	}
	return mem, nil
}

func call(number, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// threadUsage returns the kernel's account of this thread.
func threadUsage() (unix.Rusage, error) {
	var usage unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &usage)
	return usage, err
}
