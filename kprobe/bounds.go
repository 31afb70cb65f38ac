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
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Limits of a module. Of the built-in ones, io has the most programs, 182, and block the largest map, 96 KiB.
const (
	maxPrograms  = 256
	maxMaps      = 16
	maxMapMemory = 16 << 20 // of all maps of a module together, in bytes
)

// mapTypes are the map types that a module may have, for counters and for the state of events in progress.
var mapTypes = [...]ebpf.MapType{
	ebpf.Array, ebpf.PerCPUArray, ebpf.Hash, ebpf.PerCPUHash, ebpf.LRUHash, ebpf.LRUCPUHash, ebpf.TaskStorage,
}

// meddling are the helper functions that do more than observe. The kernel offers no other such helpers to tracing
// programs.
var meddling = [...]asm.BuiltinFunc{
	asm.FnProbeWriteUser, asm.FnOverrideReturn, asm.FnSendSignal, asm.FnSendSignalThread, asm.FnSetsockopt, asm.FnTailCall,
}

// kernelFunctions are the allowed kfuncs, those in the SDK's headers. Others may modify their arguments.
var kernelFunctions = [...]string{"bpf_preempt_disable", "bpf_preempt_enable", "bpf_rdonly_cast", "bpf_rcu_read_lock", "bpf_rcu_read_unlock"}

// sleepable is BPF_F_SLEEPABLE.
const sleepable = 1 << 4

// checkBounds refuses what no module may have. The kernel would accept much of it, since the server's capabilities
// allow more than observing.
func checkBounds(spec *ebpf.CollectionSpec) error {
	if n := len(spec.Programs); n > maxPrograms {
		return fmt.Errorf("%w: %d programs, at most %d are allowed", ErrInvalidModule, n, maxPrograms)
	}
	if n := len(spec.Maps); n > maxMaps {
		return fmt.Errorf("%w: %d maps, at most %d are allowed", ErrInvalidModule, n, maxMaps)
	}
	var memory uint64
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		m := spec.Maps[name]
		if err := checkMap(m); err != nil {
			return fmt.Errorf("%w: map %q: %w", ErrInvalidModule, name, err)
		}
		memory += uint64(m.KeySize+m.ValueSize) * uint64(max(1, m.MaxEntries))
	}
	if memory > maxMapMemory {
		return fmt.Errorf("%w: its maps take %d bytes, at most %d are allowed", ErrInvalidModule, memory, maxMapMemory)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		if err := checkProgram(spec, spec.Programs[name]); err != nil {
			return fmt.Errorf("%w: program %q: %w", ErrInvalidModule, name, err)
		}
	}
	return nil
}

func checkMap(m *ebpf.MapSpec) error {
	if !slices.Contains(mapTypes[:], m.Type) {
		return fmt.Errorf("type %s is not allowed in a module", m.Type)
	}
	if m.Pinning != ebpf.PinNone {
		return fmt.Errorf("it is pinned, and would outlive the server")
	}
	// Each factor is bounded, so that the product cannot overflow.
	if m.KeySize > maxMapMemory || m.ValueSize > maxMapMemory || m.MaxEntries > maxMapMemory {
		return fmt.Errorf("%d entries with %d-byte keys and %d-byte values are too many", m.MaxEntries, m.KeySize, m.ValueSize)
	}
	return nil
}

func checkProgram(spec *ebpf.CollectionSpec, prog *ebpf.ProgramSpec) error {
	if _, err := attachOf(prog); err != nil {
		return err
	}
	if len(prog.Instructions) == 0 {
		return fmt.Errorf("it has no instructions")
	}
	for i := range prog.Instructions {
		ins := &prog.Instructions[i]
		switch {
		case ins.IsBuiltinCall() && slices.Contains(meddling[:], asm.BuiltinFunc(ins.Constant)):
			return fmt.Errorf("it calls %s, but a module may only observe", asm.BuiltinFunc(ins.Constant))
		case ins.IsKfuncCall() && !slices.Contains(kernelFunctions[:], ins.Reference()):
			return fmt.Errorf("it calls the kernel function %q (allowed: %s)", ins.Reference(), strings.Join(kernelFunctions[:], ", "))
		case ins.IsLoadFromMap() && spec.Maps[ins.Reference()] == nil:
			return fmt.Errorf("it uses a map %q that the object does not have", ins.Reference())
		}
	}
	return nil
}
