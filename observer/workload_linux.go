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

package observer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// scratchPattern names the folders of the known work. staleAfter is when one was left by a process that was killed.
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
	// onDisk tells whether pages can be dropped, and so read anew.
	onDisk bool
}

// onThread makes the scratch folder in the first of dirs that is good for all of the known work, lets work be done on a thread of its
// own, and removes the folder. The warning tells why it is another one than the first.
func onThread(dirs []string, work func(thread uint32, phases []phase, measure measure) error) (warning string, err error) {
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
	cached := []string{"filled_pages", "deleted_pages", "dirtied_pages", "unused_pages", "refilled_pages"}
	phases := []phase{
		{name: "calls", of: calls, run: w.calls},
		{name: "mapping calls", of: []string{"mmap", "munmap"}, run: w.mappings},
		{name: "page faults", of: []string{"minor_faults", "major_faults"}, prepare: w.drop, run: w.faults, account: faulted},
		{name: "scheduler", of: []string{"cpu_ns", "run_queue_wait_ns", "run_queue_waits", "voluntary_switches", "involuntary_switches"}, run: w.schedule, account: w.scheduled},
	}
	// What is never dropped is never read: on a file system in memory nobody can tell what the page cache should count.
	if w.onDisk {
		phases = append(phases,
			phase{name: "writing", of: cached, prepare: func() error { return unix.Ftruncate(w.copy, 0) }, run: w.write},
			phase{name: "dropping", of: cached, prepare: w.load, run: w.dropped},
			phase{name: "reading from disk", of: append([]string{"device_read_bytes"}, cached...), prepare: w.drop, run: w.readCold},
			phase{name: "reading in vain", of: cached, prepare: func() error { return w.evict(w.closed) }, run: w.readAhead},
			phase{name: "cached reads", of: []string{"cached_reads"}, prepare: w.load, run: w.lookups},
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

// removeStale removes what a process left that was killed at its start. What cannot be removed is somebody else's.
func removeStale(parent string) {
	folders, _ := filepath.Glob(filepath.Join(parent, scratchPattern+"*"))
	for _, folder := range folders {
		if info, err := os.Stat(folder); err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.RemoveAll(folder)
		}
	}
}

// done adds n calls of a kind, each of some bytes, done by do. With an errno they are to fail with it.
func (q quantities) done(op string, times int, errno error, do func() (bytes int, err error)) error {
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

// none makes a call of one that moves no bytes.
func none(do func() error) func() (int, error) { return func() (int, error) { return 0, do() } }

// calls makes calls of the io module, each another number of times, and of other lengths. Those that the module does not
// count on every kernel are not made.
func (w *workload) calls() (quantities, error) {
	q := make(quantities)
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

// mappings makes and drops mappings, by the raw calls.
func (w *workload) mappings() (quantities, error) {
	q := make(quantities)
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

// errNoCache means that the scratch folder's file system keeps pages that it is asked to drop, as one in memory does.
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

// evict drops a file's pages. What the kernel still holds goes when it is asked again.
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

// drop takes the scratch file out of memory, if it can be.
func (w *workload) drop() error {
	if !w.onDisk {
		return nil
	}
	return w.evict(w.fd)
}

// load brings the scratch file into memory.
func (w *workload) load() error {
	_, err := unix.Pread(w.fd, w.buf, 0)
	return errors.Join(err, unix.Fsync(w.fd))
}

// pages are what a phase of the page cache knows; what it does not name must not have happened.
func pages(filled, deleted, dirtied, unused, refilled uint64) quantities {
	return quantities{
		"filled_pages": filled, "deleted_pages": deleted, "dirtied_pages": dirtied, "unused_pages": unused, "refilled_pages": refilled,
	}
}

// write writes an empty file.
func (w *workload) write() (quantities, error) {
	_, err := unix.Pwrite(w.copy, w.buf, 0)
	return pages(scratchPages, 0, scratchPages, 0, 0), err
}

// dropped drops pages that were used.
func (w *workload) dropped() (quantities, error) {
	before, err := w.residentPages(w.fd)
	if err = errors.Join(err, unix.Fadvise(w.fd, 0, 0, unix.FADV_DONTNEED)); err != nil {
		return nil, err
	}
	after, err := w.residentPages(w.fd)
	return pages(0, before-after, 0, 0, 0), err
}

// readCold reads what was dropped a moment ago.
func (w *workload) readCold() (quantities, error) {
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

// deviceBytes asks the kernel how much this thread had devices read. It is what /proc/thread-self/io says, which belongs to root
// where the process is not dumpable, as one of file capabilities is not.
func (w *workload) deviceBytes() (uint64, error) {
	const sector = 512
	usage, err := threadUsage()
	return uint64(usage.Inblock) * sector, err
}

// threadUsage asks the kernel what this thread has used.
func threadUsage() (unix.Rusage, error) {
	var usage unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &usage)
	return usage, err
}

// readAhead has a file that was dropped a moment ago read ahead, uses two pages of it, and drops it again.
func (w *workload) readAhead() (quantities, error) {
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
func (w *workload) lookups() (quantities, error) {
	for range scratchPages {
		if _, err := unix.Pread(w.fd, w.buf[:100], 0); err != nil {
			return nil, err
		}
	}
	return quantities{"cached_reads": scratchPages}, nil
}

// faults touches new memory, and a file that is not in memory, through a mapping. How many faults that takes is the kernel's choice.
func (w *workload) faults() (quantities, error) {
	return quantities{}, errors.Join(w.touch(-1), w.touch(w.fd))
}

// faulted reads how many page faults the kernel has counted of this thread.
func faulted() (quantities, error) {
	usage, err := threadUsage()
	return quantities{"minor_faults": uint64(usage.Minflt), "major_faults": uint64(usage.Majflt)}, err
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

// schedule sleeps. How long that takes, and how often the scheduler runs, is its choice.
func (*workload) schedule() (quantities, error) {
	for range 5 {
		nap := unix.NsecToTimespec(int64(100 * time.Microsecond))
		// A signal of the runtime may wake it early, which is as good.
		if err := call(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&nap)), 0, 0); err != nil && err != unix.EINTR {
			return nil, fmt.Errorf("sleeping: %w", err)
		}
	}
	return quantities{}, nil
}

// scheduled reads what the scheduler has counted of this thread.
func (w *workload) scheduled() (quantities, error) {
	q := make(quantities)
	stat, err := w.readRaw("/proc/thread-self/schedstat")
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(stat)
	if len(fields) != 3 {
		return quantities{}, nil
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

// readRaw reads a small file without the runtime's leave, which might take the thread off the CPU.
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

// measure returns how much CPU time one of an operation takes at best: the mean of a batch, of the cheapest one. Time in which
// others have the CPU is none of it.
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
		// Each comes in and goes.
		size, batch = 2*scratchPages, func() error {
			_, err := unix.Pwrite(w.copy, w.buf, 0)
			return errors.Join(err, unix.Ftruncate(w.copy, 0))
		}
	case "fault":
		size, batch = scratchPages, func() error { return w.touch(-1) }
	default:
		return 0, fmt.Errorf("nothing is known of the cost of a %q", operation)
	}
	best := time.Hour
	for range batches {
		start := threadTime()
		if err := batch(); err != nil {
			return 0, fmt.Errorf("measuring the cost of a %s: %w", operation, err)
		}
		best = min(best, threadTime()-start)
	}
	return best / time.Duration(size), nil
}
