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

//go:build linux && (amd64 || arm64)

package goruntime

import (
	"encoding/binary"
	"runtime"
	"strings"
)

// Name returns the name of the function that a goroutine was started with, given its address, or "" if there is no
// function at the address.
//
// For `go f(x)`, the compiler generates a wrapper, outer.gowrap1, whose number changes when a go statement is added
// before it. For the wrapper, Name returns the name of f, which the wrapper either calls or has inlined.
func Name(pc uintptr) string {
	f := runtime.FuncForPC(pc)
	if f == nil {
		return ""
	}
	name := f.Name()
	if !strings.HasPrefix(name[strings.LastIndexByte(name, '.')+1:], "gowrap") {
		return name
	}
	const words = 64
	var code []byte
	for _, word := range read(pc, words) {
		code = binary.NativeEndian.AppendUint64(code, word)
	}
	for i := 0; i+5 <= len(code); i++ {
		at := pc + uintptr(i)
		if g := runtime.FuncForPC(at); g == nil || g.Entry() != f.Entry() {
			break
		}
		frame, _ := runtime.CallersFrames([]uintptr{at + 1}).Next()
		if ofUser(frame.Function) && frame.Function != name {
			return frame.Function
		}
		to, ok := callTarget(at, code[i:i+5])
		if !ok {
			continue
		}
		if g := runtime.FuncForPC(to); g != nil && g.Entry() == to && ofUser(g.Name()) {
			return g.Name()
		}
	}
	return name
}

// ofUser reports whether a function does not belong to the runtime.
func ofUser(name string) bool { return name != "" && !strings.HasPrefix(name, "runtime.") }

// callTarget decodes a direct call instruction and returns the address that it calls.
func callTarget(at uintptr, code []byte) (uintptr, bool) {
	switch {
	case runtime.GOARCH == "amd64" && code[0] == 0xe8:
		return uintptr(int64(at) + 5 + int64(int32(binary.LittleEndian.Uint32(code[1:])))), true
	case runtime.GOARCH == "arm64" && at%4 == 0 && code[3]>>2 == 0b100101:
		return uintptr(int64(at) + int64(int32(binary.LittleEndian.Uint32(code)<<6)>>6)*4), true
	}
	return 0, false
}
