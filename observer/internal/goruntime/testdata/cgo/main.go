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

// Command cgo finds the layout in a process whose C code has thread-local variables.
package main

/*
static __thread char variables[700];
static char touch(int i) { return variables[i % sizeof(variables)]++; }
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/goruntime"
)

func main() {
	C.touch(C.int(len(os.Args)))
	l, err := goruntime.Find()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%s: %+v\n", runtime.Version(), l)
	if runtime.GOARCH == "amd64" && l.TLS == -8 {
		fmt.Fprintln(os.Stderr, "the thread-local variables of C are not between g and the FS base: this tests nothing")
		os.Exit(1)
	}
}
