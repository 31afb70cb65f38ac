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
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// argsTag is the prefix of the tag in which a program declares the arguments that it expects of its target.
const argsTag = "args:"

// checkPrototype compares the arguments that a program expects with those of its target in the running kernel: kernels
// have swapped and retyped arguments, and the verifier does not detect that one int is read instead of another. A
// program may read fewer arguments than there are. Returns ErrNotSupported if the kernel has no such target or another
// prototype.
func checkPrototype(kernel *btf.Spec, prog *ebpf.ProgramSpec) error {
	want := expectedArgs(prog)
	if len(want) == 0 {
		return nil
	}
	proto, err := targetPrototype(kernel, prog)
	if err != nil {
		return err
	}
	var have []string
	for _, p := range proto.Params {
		have = append(have, typeName(p.Type))
	}
	if prog.AttachType == ebpf.AttachTraceFExit {
		have = append(have, typeName(proto.Return))
	}
	for i, w := range want {
		if i >= len(have) {
			return fmt.Errorf("%w: %s has %d arguments, %d are expected", ErrNotSupported, prog.AttachTo, len(have), len(want))
		}
		if have[i] != w {
			return fmt.Errorf("%w: argument %d of %s is %q, %q is expected", ErrNotSupported, i+1, prog.AttachTo, have[i], w)
		}
	}
	return nil
}

// expectedArgs returns the types in a program's args tag, formatted like typeName's.
func expectedArgs(prog *ebpf.ProgramSpec) []string {
	fn := btf.FuncMetadata(&prog.Instructions[0])
	if fn == nil {
		return nil
	}
	for _, tag := range fn.Tags {
		list, ok := strings.CutPrefix(tag, argsTag)
		if !ok || list == "" {
			continue
		}
		var types []string
		for arg := range strings.SplitSeq(list, ",") {
			types = append(types, declaredType(arg))
		}
		return types
	}
	return nil
}

func targetPrototype(kernel *btf.Spec, prog *ebpf.ProgramSpec) (*btf.FuncProto, error) {
	if prog.AttachType != ebpf.AttachTraceRawTp {
		var fn *btf.Func
		if err := kernel.TypeByName(prog.AttachTo, &fn); err != nil {
			return nil, lookupError("function "+prog.AttachTo, err)
		}
		proto, ok := fn.Type.(*btf.FuncProto)
		if !ok {
			return nil, fmt.Errorf("function %s has no prototype in BTF", prog.AttachTo)
		}
		return proto, nil
	}
	var def *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+prog.AttachTo, &def); err != nil {
		return nil, lookupError("tracepoint "+prog.AttachTo, err)
	}
	if ptr, ok := def.Type.(*btf.Pointer); ok {
		if proto, ok := ptr.Target.(*btf.FuncProto); ok && len(proto.Params) > 0 {
			// The first parameter is internal to the tracepoint; programs do not see it.
			return &btf.FuncProto{Return: proto.Return, Params: proto.Params[1:]}, nil
		}
	}
	return nil, fmt.Errorf("tracepoint %s has no prototype in BTF", prog.AttachTo)
}

func lookupError(target string, err error) error {
	if errors.Is(err, btf.ErrNotFound) {
		return fmt.Errorf("%w: no %s in this kernel", ErrNotSupported, target)
	}
	return fmt.Errorf("looking %s up in the kernel's BTF: %w", target, err)
}

// declaredType turns the declaration of a parameter ("unsigned long nr") into the name of its type.
func declaredType(decl string) string {
	stars := strings.Count(decl, "*")
	words := slices.DeleteFunc(strings.Fields(strings.ReplaceAll(decl, "*", " ")), func(w string) bool { return w == "const" })
	if len(words) > 1 {
		words = words[:len(words)-1]
	}
	name, _, _ := strings.Cut(strings.Join(words, " "), "___")
	if bits, ok := cIntegers[name]; ok {
		name = bits
	}
	return name + strings.Repeat("*", stars)
}

// cIntegers are the integers of C on 64-bit Linux. Compilers disagree on how BTF spells them.
var cIntegers = map[string]string{
	"char": "s8", "signed char": "s8", "unsigned char": "u8",
	"short": "s16", "unsigned short": "u16",
	"int": "s32", "unsigned int": "u32", "unsigned": "u32",
	"long": "s64", "long int": "s64", "unsigned long": "u64", "long unsigned int": "u64",
	"long long": "s64", "unsigned long long": "u64",
}

// typeName formats a type so that equal types of different compilers have equal names: integers by sign and bits,
// structs and enums with their keyword, typedefs by name.
func typeName(typ btf.Type) string {
	switch t := typ.(type) {
	case *btf.Pointer:
		return typeName(t.Target) + "*"
	case *btf.Const:
		return typeName(t.Type)
	case *btf.Volatile:
		return typeName(t.Type)
	case *btf.Restrict:
		return typeName(t.Type)
	case *btf.Struct:
		return "struct " + t.Name
	case *btf.Union:
		return "union " + t.Name
	case *btf.Enum:
		return "enum " + t.Name
	case *btf.Fwd:
		return fmt.Sprintf("%s %s", t.Kind, t.Name)
	case *btf.Int:
		sign := "u"
		if t.Encoding == btf.Signed {
			sign = "s"
		}
		if t.Encoding == btf.Bool {
			return "bool"
		}
		return fmt.Sprintf("%s%d", sign, t.Size*8)
	case *btf.Void:
		return "void"
	default:
		return typ.TypeName()
	}
}
