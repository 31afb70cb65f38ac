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

// Package work does known work: each phase returns what the kernel must have counted for it. The files are named after
// the modules whose metrics they verify; what a metric must have grown by is in VERIFY in the module's C file.
package work

import "time"

// Quantities are the known results of a piece of work, by name: how often a call was made, how many pages came into
// memory.
type Quantities map[string]uint64

// Phase is a piece of known work. Its quantities are compared with the growth of the metrics that name them.
type Phase struct {
	// Prepare runs first, and is not counted. It may be nil.
	Prepare func() error
	// Run does the work and returns its known quantities.
	Run func() (Quantities, error)
	// Account returns what the kernel has counted for this thread. It is called before and after the work, and its
	// growth is known too. It may be nil.
	Account func() (Quantities, error)
	Name    string
	// Of lists the known quantities. Each includes those that begin with it and an underscore.
	Of []string
}

// Measure returns how long an operation takes with the modules that are open at the time.
type Measure func(operation string) (time.Duration, error)
