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

import _ "unsafe" // for go:linkname

// haveProbeReadKernel is the eBPF library's test for bpf_probe_read_kernel. A kernel in lockdown refuses this helper,
// and the library concludes that the kernel is too old for it. It then also replaces bpf_probe_read_user, which
// lockdown allows, with bpf_probe_read, which lockdown does not allow (fixupProbeReadKernel in linker.go of v0.22). All
// kernels that this package supports have these helpers, so the test is replaced with one that always succeeds.
//
//go:linkname haveProbeReadKernel github.com/cilium/ebpf.haveProbeReadKernel
var haveProbeReadKernel func() error

func init() { haveProbeReadKernel = func() error { return nil } }
