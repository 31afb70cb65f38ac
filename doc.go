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

// Package ebpf is the root of a library that shows a Go server, primarily Apache SkyWalking BanyanDB's banyand, what
// the kernel does for it: eBPF programs scoped to the server's own process count system calls, page cache changes and
// memory reclaim, in memory that the server reads without a system call.
//
//	bpf          probe modules in C, their common header, and their objects
//	kprobe       checks what the kernel supports, loads and attaches
//	observer     turns modules into metrics and snapshots
//	meterbridge  feeds snapshots to BanyanDB's meter package (a separate Go module)
//	runservice   a run.Service for banyand's run.Group (a separate Go module)
//	integration  banyand built with the library, end-to-end tests, demo (a separate Go module)
//
// Packages import only those above them in this list. A server other than BanyanDB imports observer.
package ebpf
