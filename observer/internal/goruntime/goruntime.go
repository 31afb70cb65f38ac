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

// Package goruntime determines, in the running process, how to get from a thread to the goroutine that it runs, and at
// which offsets a goroutine has its profiler labels and the function that it was started with. The offsets differ
// between versions of Go, and with cgo. Instead of a table of versions, there is an experiment for each offset that
// only the right one passes.
package goruntime

import "errors"

var (
	// ErrNotFound is returned if no offset passes an experiment, or more than one does, because this version of Go differs.
	ErrNotFound = errors.New("not found")
	// ErrDenied is returned if the process may not read its own memory with process_vm_readv(2).
	ErrDenied = errors.New("reading the process's own memory is denied")
)

// Layout describes how to get from a thread to the goroutine that it runs, and where fields of the goroutine are. All
// offsets are in bytes.
type Layout struct {
	TLS     int64  // of the pointer to g, from the thread's FS base; amd64 only
	Labels  uint32 // in g: the pointer to the profiler labels
	StartPC uint32 // in g: the address of the function that the goroutine was started with
	M       uint32 // in g: the pointer to the thread's m
	CurG    uint32 // in m: the pointer to the goroutine that the thread runs, even while it is on the system stack
}
