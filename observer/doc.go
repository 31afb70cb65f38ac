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

// Package observer turns probe modules into metrics: it reads each module's description of itself, attaches it, and
// sums its counters.
//
// A module is one compiled C file (see the bpf package) whose BTF names its metrics, their labels and help. The
// observer does not know any module: built-in and user modules are treated alike. Counters live in memory that is
// shared with the kernel, so a snapshot costs no system call and no allocation. Refresh adds what the kernel keeps for
// each task; the caller decides when.
//
// The package does not log, does not depend on BanyanDB, and runs no goroutine, except for verification. It needs Linux
// 5.10 with BTF, CAP_BPF and CAP_PERFMON; elsewhere Open returns an error that is kprobe.ErrNotSupported.
package observer
