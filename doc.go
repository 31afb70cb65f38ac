// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//	http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.
// Package ebpf is the root of a library that lets a Go server, Apache SkyWalking BanyanDB's banyand first of all, see
// what the kernel does to it: eBPF programs scoped to the server's own process count system calls, page cache changes
// and memory reclaim, in memory that the server reads without a system call.
//
//	bpf          probe modules in C, the header they are written with, and their objects
//	kprobe       asks the kernel, loads and attaches
//	observer     modules to metrics to snapshots
//	meterbridge  snapshots to the instruments of BanyanDB's meter package
//	runservice   a run.Service for banyand's run.Group (a module of its own)
//	integration  the real banyand with it, end-to-end tests, demo (a module of its own)
//
// Imports run one way, from the bottom of this list to its top. A server that is not BanyanDB imports observer.
package ebpf
