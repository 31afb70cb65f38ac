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

package api

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync"
)

// maxToken bounds the token's file, in bytes.
const maxToken = 4 << 10

// watched is a value read from files. It is reread when one of them has changed.
type watched[T any] struct {
	read   func() (T, error)
	report func(error)
	files  []string

	mu    sync.Mutex // guards what follows
	value T
	seen  []fs.FileInfo // nil where there is no file
}

// watch reads the files for the first time.
func watch[T any](report func(error), read func() (T, error), files ...string) (*watched[T], error) {
	w := &watched[T]{files: files, read: read, report: report, seen: stat(files)}
	var err error
	w.value, err = read()
	return w, err
}

// get returns the newest usable value. If the files' current content cannot be used, that is reported once and the old
// value stays.
func (w *watched[T]) get() T {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := stat(w.files)
	if same(now, w.seen) {
		return w.value
	}
	w.seen = now
	value, err := w.read()
	if err != nil {
		w.report(fmt.Errorf("%w; the old one stays in use", err))
		return w.value
	}
	w.value = value
	return value
}

func stat(files []string) []fs.FileInfo {
	infos := make([]fs.FileInfo, len(files))
	for i, file := range files {
		if info, err := os.Stat(file); err == nil {
			infos[i] = info
		}
	}
	return infos
}

func same(a, b []fs.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
			continue
		case a[i] == nil || b[i] == nil:
			return false
		case !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() || a[i].Mode() != b[i].Mode():
			return false
		}
	}
	return true
}

// watchCertificate reads a certificate and its key for TLS.
func watchCertificate(cert, key string, report func(error)) (*watched[*tls.Certificate], error) {
	return watch(report, func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("TLS certificate %s and key %s: %w", cert, key, err)
		}
		return &pair, nil
	}, cert, key)
}

// token is the hash of the token, so that a comparison takes the same time whatever the lengths are.
type token [sha256.Size]byte

func (t token) is(other string) bool {
	hash := sha256.Sum256([]byte(other))
	return subtle.ConstantTimeCompare(t[:], hash[:]) == 1
}

func watchToken(file string, report func(error)) (*watched[token], error) {
	return watch(report, func() (token, error) {
		t, err := readToken(file)
		if err != nil {
			return t, fmt.Errorf("token file %s: %w", file, err)
		}
		return t, nil
	}, file)
}

func readToken(file string) (token, error) {
	f, err := os.Open(file)
	if err != nil {
		return token{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return token{}, err
	}
	// Windows has no such bits.
	if perm := info.Mode().Perm(); perm&0o006 != 0 && runtime.GOOS != "windows" {
		return token{}, fmt.Errorf("everybody may read or write it (mode %04o): chmod o-rw", perm)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return token{}, err
	}
	if len(content) > maxToken {
		return token{}, fmt.Errorf("it is larger than %d bytes", maxToken)
	}
	content = bytes.TrimSpace(content)
	switch {
	case len(content) == 0:
		return token{}, errors.New("it is empty")
	case bytes.ContainsFunc(content, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return token{}, errors.New("a token must be one word of printable ASCII")
	}
	return sha256.Sum256(content), nil
}
