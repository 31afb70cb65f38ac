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

// Package guest is the interface between the kernel runner and the init process in its virtual machines.
package guest

import "time"

// JobFile is where init finds its Job, as JSON.
const JobFile = "/job.json"

// Frames that init writes to the console, each at the start of a line.
const (
	// Fact is followed by a key of one word and a value.
	Fact = "@@fact "
	// Begin is followed by the name of the test binary whose output starts here.
	Begin = "@@begin "
	// End is followed by the name of the test binary and its exit code.
	End = "@@end "
	// Trouble is followed by the error that kept init from running the tests.
	Trouble = "@@trouble "
)

// Keys of the facts that init writes before the first test.
const (
	Release  = "release"
	Machine  = "machine"
	Lockdown = "lockdown"
)

// Exit precedes the exit code on the exit device. It is the last thing that a guest writes.
const Exit = "EXIT="

// InstructionClock is the environment variable that tells a test that the guest's clock counts instructions, one per
// nanosecond.
const InstructionClock = "BANYANDB_EBPF_ICOUNT"

// Job is what a guest does.
type Job struct {
	// ExitDevice is the serial device that takes the Exit line.
	ExitDevice string
	// Modules are the kernel modules to load, in order, as paths in the guest.
	Modules []string
	// Tests are the test binaries to run, in order.
	Tests []Test
	// Budget is how long all tests together may take.
	Budget time.Duration
	// InstructionClock means that the clock counts instructions.
	InstructionClock bool
}

// Test is one test binary. It runs in Dir, where its testdata is.
type Test struct {
	Name string
	Dir  string
	Path string
	Args []string
}
