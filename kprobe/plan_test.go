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
	"bytes"
	"errors"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/stretchr/testify/require"
)

// programSpec returns a spec whose BTF function has the tags, as the SDK's macros write them.
func programSpec(t *testing.T, attachTo string, tags ...string) *ebpf.ProgramSpec {
	t.Helper()
	fn := &btf.Func{Name: "hook__tp_btf", Type: &btf.FuncProto{Return: &btf.Void{}}, Tags: tags}
	ins := asm.Instructions{btf.WithFuncMetadata(asm.Mov.Imm(asm.R0, 0), fn), asm.Return()}
	return &ebpf.ProgramSpec{Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: attachTo, Instructions: ins}
}

// kernelWith returns BTF that has one tracepoint, called tp, with the parameters.
func kernelWith(t *testing.T, params ...btf.Type) *btf.Spec {
	t.Helper()
	proto := &btf.FuncProto{Return: &btf.Void{}, Params: []btf.FuncParam{{Type: &btf.Pointer{Target: &btf.Void{}}}}}
	for _, p := range params {
		proto.Params = append(proto.Params, btf.FuncParam{Type: p})
	}
	b, err := btf.NewBuilder([]btf.Type{&btf.Typedef{Name: "btf_trace_tp", Type: &btf.Pointer{Target: proto}}}, nil)
	require.NoError(t, err)
	raw, err := b.Marshal(nil, nil)
	require.NoError(t, err)
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	require.NoError(t, err)
	return spec
}

func TestCheckPrototype(t *testing.T) {
	signed := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	unsigned := &btf.Int{Name: "long unsigned int", Size: 8}
	gfp := &btf.Typedef{Name: "gfp_t", Type: &btf.Int{Name: "unsigned int", Size: 4}}
	folio := &btf.Pointer{Target: &btf.Struct{Name: "folio"}}
	for _, c := range []struct {
		name   string
		args   string
		kernel []btf.Type
		ok     bool
	}{
		{"as expected", "int order, gfp_t gfp", []btf.Type{signed, gfp}, true},
		{"swapped, as in Linux 7.2", "int order, gfp_t gfp", []btf.Type{gfp, signed}, false},
		{"fewer read than there are", "int order", []btf.Type{signed, gfp, folio}, true},
		{"more read than there are", "int order, gfp_t gfp", []btf.Type{signed}, false},
		{"none read", "", []btf.Type{gfp, signed}, true},
		{"a pointer to a struct", "struct folio *folio", []btf.Type{folio}, true},
		{"a flavour of it", "struct folio___memdesc *folio", []btf.Type{folio}, true},
		{"a page is no folio", "struct page *page", []btf.Type{folio}, false},
		{"a long is no int", "unsigned long nr", []btf.Type{signed}, false},
		{"compilers spell it differently", "unsigned long nr", []btf.Type{unsigned}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := checkPrototype(kernelWith(t, c.kernel...), programSpec(t, "tp", "args:"+c.args))
			if c.ok {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrNotSupported)
		})
	}
	err := checkPrototype(kernelWith(t, signed), programSpec(t, "gone", "args:int order"))
	require.ErrorIs(t, err, ErrNotSupported)
	require.ErrorContains(t, err, "no tracepoint gone in this kernel")
}

func TestAddProgram(t *testing.T) {
	var hooks []hook
	for _, p := range [][3]string{
		{"call", "fentry", "call__fentry__enter"},
		{"call", "tp_btf", "call__tp_btf__enter"},
		{"fill", "tp_btf", "fill__tp_btf"},
		{"call", "fentry", "call__fentry__exit"},
	} {
		hooks = addProgram(hooks, p[0], p[1], Attachment(p[1]), p[2])
	}
	require.Equal(t, []hook{
		{"call", []variant{
			{"fentry", Fentry, []string{"call__fentry__enter", "call__fentry__exit"}},
			{"tp_btf", TPBTF, []string{"call__tp_btf__enter"}},
		}},
		{"fill", []variant{{"tp_btf", TPBTF, []string{"fill__tp_btf"}}}},
	}, hooks)
}

func TestPlan(t *testing.T) {
	p := Plan{
		{Name: "a", Variant: "tp_btf", Attachment: TPBTF, Refused: []Refusal{{Variant: "fentry", Attachment: Fentry, Err: errors.New("locked")}}},
		{Name: "b", Refused: []Refusal{{Variant: "tp_btf", Attachment: TPBTF, Err: errors.New("unknown")}}},
	}
	require.True(t, p.Attached("a"))
	require.False(t, p.Attached("b"))
	require.False(t, p.Attached("c"))
	require.Len(t, p.Refusals(), 1)
	require.EqualError(t, p.Refusals()[0], "hook b by tp_btf: unknown")
	require.Contains(t, p.String(), "(fentry refused: locked)")
}
