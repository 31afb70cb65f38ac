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
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func TestNewcRoundTrip(t *testing.T) {
	var b strings.Builder
	w := newNewcWriter(&b)
	w.file("/init", []byte("12345"))
	w.file("/a/b/empty", nil)
	w.dir("/a/b")
	w.file("/a/four", []byte("four"))
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	entries, err := readNewc(b.String())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(entries, "\n")
	want := `/init 100755 "12345"
/a 40755 ""
/a/b 40755 ""
/a/b/empty 100755 ""
/a/four 100755 "four"
TRAILER!!! 0 ""`
	if got != want {
		t.Errorf("got entries\n%s\nwant\n%s", got, want)
	}
}

// readNewc reads an archive as the kernel's init/initramfs.c does, and lists its entries.
func readNewc(archive string) ([]string, error) {
	var entries []string
	offset := 0
	take := func(length int) (string, error) {
		if offset+length > len(archive) {
			return "", fmt.Errorf("archive ends at %d, want %d more bytes at %d", len(archive), length, offset)
		}
		part := archive[offset : offset+length]
		offset = (offset + length + 3) &^ 3
		return part, nil
	}
	for offset < len(archive) {
		const headerSize = 6 + 13*8
		if offset+headerSize > len(archive) || archive[offset:offset+6] != "070701" {
			return nil, fmt.Errorf("no header at %d", offset)
		}
		field := func(i int) int {
			value, err := strconv.ParseUint(archive[offset+6+8*i:offset+6+8*i+8], 16, 32)
			if err != nil {
				panic(err)
			}
			return int(value)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		head, err := take(headerSize + nameSize)
		if err != nil {
			return nil, err
		}
		content, err := take(size)
		if err != nil {
			return nil, err
		}
		entries = append(entries, fmt.Sprintf("%s %o %q", strings.TrimRight(head[headerSize:], "\x00"), mode, content))
	}
	return entries, nil
}

func TestNewcNamesTheFileThatFailed(t *testing.T) {
	broken := errors.New("disk full")
	w := newNewcWriter(failing{broken})
	w.file("/init", []byte("x"))
	w.file("/later", nil)
	if err := w.close(); !errors.Is(err, broken) || !strings.Contains(err.Error(), "/init") {
		t.Errorf("got error %v, want %v of /init", err, broken)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }
