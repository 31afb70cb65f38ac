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
	"errors"
	"fmt"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// errMemlock is a possible reason for EPERM.
var errMemlock = errors.New("RLIMIT_MEMLOCK is too small and cannot be lifted")

// withMemory runs do, which may need locked memory. Before Linux 5.11 programs and maps count against RLIMIT_MEMLOCK,
// whose default is too small for a single module, and exceeding it is EPERM, like every other denial. Then withMemory
// lifts the limit, if permitted, and retries. Later kernels charge the memory cgroup, and the limit of the process,
// which is the host's choice, is not changed.
func withMemory[T any](kernel func() (*btf.Spec, error), do func() (T, error)) (T, error) {
	result, err := do()
	if err == nil || !errors.Is(err, unix.EPERM) {
		return result, err
	}
	if limit, charged := chargedMemory(kernel); !charged || limit == unix.RLIM_INFINITY {
		return result, err
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if setErr := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited); setErr != nil {
		return result, fmt.Errorf("%w (%w): %w", errMemlock, setErr, unix.EPERM)
	}
	return do()
}

// chargedMemory returns RLIMIT_MEMLOCK, and whether this kernel charges eBPF to it: then it has struct bpf_map_memory
// (removed by commit 80ee81e0403c).
func chargedMemory(kernel func() (*btf.Spec, error)) (uint64, bool) {
	spec, err := kernel()
	if err != nil {
		return 0, false
	}
	if _, err = spec.AnyTypeByName("bpf_map_memory"); err != nil {
		return 0, false
	}
	var limit unix.Rlimit
	if err = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return 0, false
	}
	return limit.Cur, true
}
