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

// Package step lets tests make those steps of loading fail that the kernel may refuse.
package step

import "fmt"

// Test is called before each step with its description. If it returns an error, the step fails with it. It is nil
// except in tests, which must not set it while something is being loaded.
var Test func(what string) error

// Before announces a step.
func Before(format string, args ...any) error {
	if Test == nil {
		return nil
	}
	return Test(fmt.Sprintf(format, args...))
}
