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

import (
	"github.com/cilium/ebpf/btf"
)

// Scope is the process, or one thread of it, whose events are counted.
type Scope struct {
	// TGID is the thread group id in the initial pid namespace. In a container os.Getpid returns another one.
	TGID uint32
	// TID is a thread id in the initial pid namespace, 0 for all threads.
	TID uint32
}

// Options of Load. Scope is required.
type Options struct {
	// Cache keeps the decoded BTF of the kernel, 25 to 40 MB, between several calls of Load; drop it after the last
	// one. If it is nil, each call makes its own.
	Cache *btf.Cache
	// Entries overrides the number of entries of maps, by name.
	Entries map[string]uint32
	// Constants sets constants of the module, by name. Constants that the module does not have are ignored.
	Constants map[string]any
	// Attachment is the only kind of attachment to try, empty for any. A hook without a variant of the kind stays
	// detached. Iterators, which no event triggers, are attached in any case.
	Attachment Attachment
	Scope      Scope
}
