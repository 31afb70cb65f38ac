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
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// ModuleDir returns the modules in a folder: each <module>.bpf.o in it. They run in the kernel, so the folder and the
// file must belong to root or to the process's user, nobody else may write to them, and a link must not lead out of the
// folder; else the error is ErrUntrusted. The check is made on the open descriptor: nothing can be exchanged between
// the check and the reading.
func ModuleDir(dir string) Source { return Source{files: moduleDir(dir), dir: dir} }

type moduleDir string

// ReadDir lists the objects. There are no subfolders.
func (d moduleDir) ReadDir(name string) ([]fs.DirEntry, error) {
	if name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	folder, err := d.open()
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	entries, err := folder.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !strings.HasSuffix(e.Name(), bpf.Suffix) })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// Open opens an object.
func (d moduleDir) Open(name string) (fs.File, error) {
	if filepath.Base(name) != name || !strings.HasSuffix(name, bpf.Suffix) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	folder, err := d.open()
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	path := filepath.Join(string(d), name)
	fd, err := openBeneath(int(folder.Fd()), name)
	if err != nil {
		return nil, openError(path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	if err = trust(fd, path, unix.S_IFREG); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// open opens the folder, if it can be trusted.
func (d moduleDir) open() (*os.File, error) {
	// Not os.Open, which would open a pipe too, and wait for a writer.
	fd, err := uninterrupted(func() (int, error) { return unix.Open(string(d), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, openError(string(d), err)
	}
	folder := os.NewFile(uintptr(fd), string(d))
	if err = trust(fd, string(d), unix.S_IFDIR); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

// openError adds the remedy to the error of a folder or object that cannot be opened.
func openError(path string, err error) error {
	const itself = "put the object itself into the folder"
	failed := &fs.PathError{Op: "open", Path: path, Err: err}
	switch {
	case errors.Is(err, unix.EXDEV):
		return kprobe.WithRemedy(fmt.Errorf("%s is a link that leads out of the folder: %w", path, ErrUntrusted), itself)
	case errors.Is(err, unix.ELOOP):
		return kprobe.WithRemedy(fmt.Errorf("%s is a link to itself, or leads through more than %d links: %w", path, maxLinks, ErrUntrusted), itself)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return kprobe.WithRemedy(failed, fmt.Sprintf("let the server's user %d read it", os.Geteuid()))
	case strings.HasSuffix(path, bpf.Suffix) && errors.Is(err, unix.ENOENT):
		return kprobe.WithRemedy(failed, "put the object into the folder, or remove the link to it")
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return kprobe.WithRemedy(failed, "make the folder "+path+", or name the one with the modules")
	}
	// kprobe knows the remedies for exhausted resources.
	return failed
}

// maxLinks bounds the links, and the depth of folders, on the way to an object: as many links as the kernel follows.
const maxLinks = 40

// openBeneath opens a file by a path that stays in the folder; else it returns EXDEV, as openat2(2) with
// RESOLVE_BENEATH does. openat2 is not used since Linux, or the seccomp filter of a container, may be older. Each
// component is opened from the one before it, and the kernel follows no link: moving a folder meanwhile cannot redirect
// the path.
func openBeneath(folder int, name string) (int, error) {
	// Opening a pipe would wait for its other end.
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW
	way := []int{folder} // the open folders, from the first on
	defer func() {
		for _, fd := range way[1:] {
			unix.Close(fd)
		}
	}()
	open := func(name string, flags int) (int, error) {
		return uninterrupted(func() (int, error) { return unix.Openat(way[len(way)-1], name, flags, 0) })
	}
	links := 0
	for rest := []string{name}; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." {
			if len(way) == 1 {
				return -1, unix.EXDEV
			}
			unix.Close(way[len(way)-1])
			way = way[:len(way)-1]
			continue
		}
		target, err := readLink(way[len(way)-1], part)
		switch {
		case err != nil:
			return -1, err
		case strings.HasPrefix(target, "/"):
			return -1, unix.EXDEV
		case target != "":
			if links++; links > maxLinks {
				return -1, unix.ELOOP
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		case len(rest) == 0:
			return open(part, flags)
		case len(way) > maxLinks:
			return -1, unix.ELOOP
		}
		next, err := open(part, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW)
		if err != nil {
			return -1, err
		}
		way = append(way, next)
	}
	// The path leads to a folder.
	return open(".", flags)
}

// readLink returns where a link leads, or an empty string for what is not a link.
func readLink(folder int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := uninterrupted(func() (int, error) { return unix.Readlinkat(folder, name, buf) })
	if errors.Is(err, unix.EINVAL) {
		return "", nil
	}
	return string(buf[:max(n, 0)]), err
}

// uninterrupted retries what a signal has interrupted, as package os does: a file system may have to wait for its
// server.
func uninterrupted(do func() (int, error)) (int, error) {
	for {
		n, err := do()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// trust checks an open file or folder.
func trust(fd int, path string, kind uint32) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	owner := os.Geteuid()
	switch {
	case stat.Mode&unix.S_IFMT != kind:
		return kprobe.WithRemedy(fmt.Errorf("%s is not a regular file: %w", path, ErrUntrusted), "put the object itself into the folder")
	case stat.Uid != 0 && int(stat.Uid) != owner:
		return kprobe.WithRemedy(
			fmt.Errorf("%s belongs to user %d, neither to root nor to the server's user %d: %w", path, stat.Uid, owner, ErrUntrusted),
			fmt.Sprintf("check who put it there, then `chown %d %s`", owner, path),
		)
	case stat.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0:
		return kprobe.WithRemedy(
			fmt.Errorf("%s can be written to by users other than its owner, its mode is %#o: %w", path, stat.Mode&0o7777, ErrUntrusted),
			fmt.Sprintf("check that it is the right file, then `chmod go-w %s`", path),
		)
	case kind == unix.S_IFREG && stat.Size > maxObject:
		return kprobe.WithRemedy(
			fmt.Errorf("%s has %d bytes, at most %d are allowed: %w", path, stat.Size, maxObject, ErrUntrusted),
			"strip the object of its debug information: `llvm-strip -g`",
		)
	}
	return nil
}
