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

package main

import (
	"fmt"
	"io"
	"path"
)

// newcWriter writes directories and files as a cpio archive in the format newc, which the kernel accepts as initramfs.
// The first error is kept and returned by close, which must be called.
//
// See Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's sources.
type newcWriter struct {
	w     io.Writer
	dirs  map[string]bool
	inode int
	err   error
}

const (
	newcDir  = 0o040755
	newcFile = 0o100755
)

func newNewcWriter(w io.Writer) *newcWriter {
	return &newcWriter{w: w, dirs: map[string]bool{"/": true, ".": true}}
}

// dir adds a directory and its missing parents.
func (n *newcWriter) dir(name string) {
	name = path.Clean(name)
	if n.dirs[name] {
		return
	}
	n.dir(path.Dir(name))
	n.dirs[name] = true
	n.entry(name, newcDir, nil)
}

// file adds an executable file, and its directory if missing.
func (n *newcWriter) file(name string, content []byte) {
	n.dir(path.Dir(name))
	n.entry(name, newcFile, content)
}

func (n *newcWriter) close() error {
	n.entry("TRAILER!!!", 0, nil)
	return n.err
}

func (n *newcWriter) entry(name string, mode int, content []byte) {
	if n.err != nil {
		return
	}
	n.inode++
	const links, owner, group, mtime, major, minor, check = 1, 0, 0, 0, 0, 0, 0
	header := "070701"
	for _, field := range []int{
		n.inode, mode, owner, group, links, mtime, len(content), major, minor, major, minor, len(name) + 1, check,
	} {
		header += fmt.Sprintf("%08X", field)
	}
	header += name + "\x00"
	for _, part := range [][]byte{[]byte(header), padding(len(header)), content, padding(len(content))} {
		if _, err := n.w.Write(part); err != nil {
			n.err = fmt.Errorf("archiving %s: %w", name, err)
			return
		}
	}
}

// padding returns the bytes that pad a part of the given length to a multiple of four.
func padding(length int) []byte {
	return make([]byte, -length&3)
}
