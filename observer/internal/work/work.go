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

// Package work does what is known: each piece of work tells what the kernel must have counted of it. The files are named after the
// modules whose metrics it is for; what a metric must have grown by is in VERIFY of its C file.
package work

import "time"

// Quantities are what is known of a piece of work, by name: how often a call was made, how many pages came into memory.
type Quantities map[string]uint64

// Phase is a piece of known work. What it tells is compared with what the metrics that name it have grown by meanwhile.
type Phase struct {
	// Prepare is done before, and not counted. It may be nil.
	Prepare func() error
	// Run does the work and returns what is known of it.
	Run func() (Quantities, error)
	// Account is what the kernel has counted of this thread. It is read around the work, and known as well. It may be nil.
	Account func() (Quantities, error)
	Name    string
	// Of are the quantities that are known, each with all that begin with it and an underscore.
	Of []string
}

// Measure returns how long an operation takes, as the modules are open just then.
type Measure func(operation string) (time.Duration, error)
