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

//go:build linux

package instructions

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/integration/tools/kernels/guest"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

const (
	// callsOfPart is small enough that most parts run without an interrupt.
	callsOfPart = 100
	parts       = 200
	// noise is by how many instructions per call two measurements of the same may differ: the conversion to nanoseconds
	// rounds, by less than ten for each part.
	noise = 0.1
)

// TestAddedToAStranger checks that the module io, attached by fentry, adds no instruction to a call that it does not
// trace. Attached by tp_btf it does, which shows that the method detects it.
func TestAddedToAStranger(t *testing.T) {
	if os.Getenv(guest.InstructionClock) == "" {
		t.Skip("needs a machine whose clock counts instructions: cd integration && go run ./tools/kernels -only 6.12 -icount -pkgs ./tools/kernels/instructions")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("the function that fentry traces is named for amd64")
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	self, err := kprobe.Self()
	require.NoError(t, err)
	stranger := kprobe.Scope{TGID: 1} // init, so that this process is out of scope
	file, err := os.CreateTemp("", "")
	require.NoError(t, err)
	_, err = file.Write(make([]byte, 4096))
	require.NoError(t, err)
	buffer := make([]byte, 4096)
	getppid := func() { syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0) }
	pread := func() {
		syscall.RawSyscall6(unix.SYS_PREAD64, file.Fd(), uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)), 0, 0, 0)
	}
	added := make(map[string]float64)
	for _, c := range []struct {
		name  string
		call  func()
		scope kprobe.Scope
	}{
		{"stranger-getppid", getppid, stranger}, {"stranger-pread", pread, stranger}, {"own-pread", pread, self},
	} {
		without := instructions(c.call)
		again := instructions(c.call)
		report(c.name, "nothing-again", again-without)
		require.InDeltaf(t, without, again, noise, "%s: two measurements of the same differ", c.name)
		report(c.name, "nothing", without)
		for _, kind := range []kprobe.Attachment{kprobe.Fentry, kprobe.TPBTF, kprobe.Tracepoint} {
			o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io"}}, Scope: c.scope, Attachment: kind})
			require.NoError(t, err)
			for _, hook := range o.Health().Modules[0].Plan {
				require.Equal(t, kind, hook.Attachment, hook.Name)
			}
			with := instructions(c.call)
			require.NoError(t, o.Close())
			key := c.name + "/" + string(kind)
			added[key] = with - without
			report(c.name, string(kind), added[key])
		}
		require.InDeltaf(t, without, instructions(c.call), noise, "%s: not as before once the module is closed", c.name)
	}
	require.InDelta(t, 0, added["stranger-getppid/fentry"], noise)
	require.Greater(t, added["stranger-getppid/tp_btf"], 10.0)
	require.Greater(t, added["own-pread/fentry"], 10.0)
}

// instructions returns the instructions of one call, including the loop around it: the minimum over many parts, since
// interrupts only add instructions.
func instructions(call func()) float64 {
	least := math.Inf(1)
	for range parts {
		start := time.Now()
		for range callsOfPart {
			call()
		}
		least = min(least, float64(time.Since(start).Nanoseconds())/callsOfPart)
	}
	return least
}

// report prints a value for the kernel runner's matrix.
func report(call, tool string, value float64) {
	fmt.Printf("\nMATRIX\tinstructions %s %s\t%.2f\n", call, tool, value)
}
