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

//go:build !linux

package kprobe

import (
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
)

// Self returns the scope of the calling process. Needs Linux.
func Self() (Scope, error) {
	return Scope{}, unsupported()
}

// Thread returns the calling thread's id in the initial pid namespace. Needs Linux.
func Thread() (uint32, error) {
	return 0, unsupported()
}

// Probes are the attached programs of a module and their maps.
type Probes struct{}

// Load attaches a module's programs. Needs Linux.
func Load(*ebpf.CollectionSpec, Options) (*Probes, error) {
	return nil, unsupported()
}

// Plan returns how each hook is attached.
func (*Probes) Plan() Plan { return nil }

// Map returns the module's map of that name, nil if there is none.
func (*Probes) Map(string) *ebpf.Map { return nil }

// MapMemory returns the bytes that the module's maps take.
func (*Probes) MapMemory() uint64 { return 0 }

// Missed returns how many runs of the programs the kernel has skipped.
func (*Probes) Missed() (uint64, error) { return 0, nil }

// SetSampling makes the module time one in n events.
func (*Probes) SetSampling(uint32) error { return nil }

// Iterate runs each attached iterator once.
func (*Probes) Iterate() (int, error) { return 0, nil }

// CanSample reports whether the module times frequent events.
func (*Probes) CanSample() bool { return false }

// Detach detaches the programs of hooks.
func (*Probes) Detach(...string) error { return nil }

// Reload loads and attaches the programs of hooks again.
func (*Probes) Reload(*ebpf.CollectionSpec, Options, ...string) error { return unsupported() }

// Attach reattaches what Detach has detached.
func (*Probes) Attach(...string) error { return unsupported() }

// Close detaches the programs.
func (*Probes) Close() error { return nil }

func remedyElsewhere(error) string { return "" }

func unsupported() error {
	return fmt.Errorf("eBPF on %s: %w", runtime.GOOS, ErrNotSupported)
}
