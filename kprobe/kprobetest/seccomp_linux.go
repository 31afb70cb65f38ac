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

package kprobetest

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// DenyBPF makes bpf(2) fail with errno on the calling thread, and in what it executes, by a seccomp filter, as the
// default profile of a container does. If commands are given, only these fail. It cannot be undone.
func DenyBPF(errno unix.Errno, commands ...uint32) error {
	return Deny(unix.SYS_BPF, errno, commands...)
}

// Deny does the same for any system call. If first is given, only calls with one of these first arguments fail.
func Deny(call uint32, errno unix.Errno, first ...uint32) error {
	const number, argument = 0, 16 // in struct seccomp_data
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	answer := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	filter := []unix.SockFilter{load(number), equal(call, 0, 1), answer(unix.SECCOMP_RET_ERRNO | uint32(errno)), answer(unix.SECCOMP_RET_ALLOW)}
	if len(first) > 0 {
		filter = []unix.SockFilter{load(number), equal(call, 1, 0), answer(unix.SECCOMP_RET_ALLOW), load(argument)}
		for i, k := range first {
			filter = append(filter, equal(k, len(first)-i, 0))
		}
		filter = append(filter, answer(unix.SECCOMP_RET_ALLOW), answer(unix.SECCOMP_RET_ERRNO|uint32(errno)))
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
