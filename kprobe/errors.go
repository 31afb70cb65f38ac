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

package kprobe

import "errors"

// Errors of this package. They are always wrapped; test for them with errors.Is.
var (
	// ErrNotSupported means that this kernel, or this operating system, lacks what is needed.
	ErrNotSupported = errors.New("not supported")
	// ErrPermission means that the kernel has what is needed, but denies it to this process.
	ErrPermission = errors.New("not permitted")
	// ErrInvalidModule means that an object is not a valid probe module.
	ErrInvalidModule = errors.New("invalid probe module")
)

// RefusedError is returned by Load if no hook could be attached. It wraps the error of each variant.
type RefusedError struct {
	err  error
	Plan Plan
}

// Error returns the errors, one line for each variant.
func (e *RefusedError) Error() string { return e.err.Error() }

// Unwrap returns the refusals.
func (e *RefusedError) Unwrap() error { return e.err }

// Remedy returns what an operator can do about an error of this package, or about another error with a cause that
// affects it too: no file descriptors, no memory, no /proc or /sys. It is empty if no remedy is known.
func Remedy(err error) string {
	var r interface{ Remedy() string }
	if errors.As(err, &r) {
		return r.Remedy()
	}
	return remedyElsewhere(err)
}

// WithRemedy wraps err in an error with the same text, for which Remedy returns remedy.
func WithRemedy(err error, remedy string) error { return &remediable{err, remedy} }

// remediable is an error with a remedy.
type remediable struct {
	err    error
	remedy string
}

func (e *remediable) Error() string  { return e.err.Error() }
func (e *remediable) Unwrap() error  { return e.err }
func (e *remediable) Remedy() string { return e.remedy }
