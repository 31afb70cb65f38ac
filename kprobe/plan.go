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
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Attachment is the kind of a program's attachment.
type Attachment string

// The kinds of attachment. A kind covers the entry and the return of a function.
const (
	Fentry     Attachment = "fentry"
	TPBTF      Attachment = "tp_btf"
	rawTP      Attachment = "raw_tp"
	Tracepoint Attachment = "tracepoint"
	Kprobe     Attachment = "kprobe"
	// Iter has no event: its programs run when Iterate is called.
	Iter Attachment = "iter"
)

// Plan describes how each hook of a module is attached, in the order of the module's source.
type Plan []Hook

// Hook is one row of a Plan.
type Hook struct {
	// Name of the hook in the names of the module's programs.
	Name string
	// Variant that was chosen, empty if the kernel refused all.
	Variant string
	// Attachment is the kind of the chosen variant's attachment, empty like Variant.
	Attachment Attachment
	// Refused are the variants before the chosen one, or all.
	Refused []Refusal
}

// Refusal is a variant that the kernel refused.
type Refusal struct {
	Err        error
	Variant    string
	Attachment Attachment
}

// Attached reports whether the plan has a hook of that name and it is attached.
func (p Plan) Attached(hook string) bool {
	return slices.ContainsFunc(p, func(h Hook) bool { return h.Name == hook && h.Variant != "" })
}

// Names returns the names of the hooks.
func (p Plan) Names() []string {
	names := make([]string, len(p))
	for i, h := range p {
		names[i] = h.Name
	}
	return names
}

// Refusals returns why hooks are not attached, one error per refused variant.
func (p Plan) Refusals() []error {
	var errs []error
	for _, h := range p {
		if h.Variant != "" {
			continue
		}
		for _, r := range h.Refused {
			errs = append(errs, fmt.Errorf("hook %s by %s: %w", h.Name, r.Attachment, r.Err))
		}
	}
	return errs
}

// String renders the plan as lines of hook, attachment and refusals.
func (p Plan) String() string {
	var b strings.Builder
	for _, h := range p {
		attach := string(h.Attachment)
		if attach == "" {
			attach = "-"
		}
		fmt.Fprintf(&b, "%-12s %-10s", h.Name, attach)
		for _, r := range h.Refused {
			fmt.Fprintf(&b, " (%s refused: %v)", r.Variant, r.Err)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// hook is one hook of a module, from the names of its programs.
type hook struct {
	name     string
	variants []variant
}

type variant struct {
	name     string
	attach   Attachment
	programs []string
}

// Hooks returns the names of a module's hooks, in the order of its source, or ErrInvalidModule if spec is not a module.
func Hooks(spec *ebpf.CollectionSpec) ([]string, error) {
	hooks, err := hooksOf(spec)
	return namesOf(hooks), err
}

func namesOf(hooks []hook) []string {
	names := make([]string, len(hooks))
	for i, h := range hooks {
		names[i] = h.name
	}
	return names
}

// hooksOf groups a module's programs by the hook and variant in their names: <hook>__<variant>[__<part>]. The order is
// that of the source, which is the order of the functions in BTF.
func hooksOf(spec *ebpf.CollectionSpec) ([]hook, error) {
	if spec.Types == nil {
		return nil, fmt.Errorf("%w: no BTF in the object", ErrInvalidModule)
	}
	var hooks []hook
	named := 0
	for typ, err := range spec.Types.All() {
		if err != nil {
			return nil, fmt.Errorf("%w: reading BTF: %w", ErrInvalidModule, err)
		}
		fn, ok := typ.(*btf.Func)
		if !ok || spec.Programs[fn.Name] == nil {
			continue
		}
		named++
		parts := strings.Split(fn.Name, "__")
		if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
			return nil, fmt.Errorf("%w: program %q is not named <hook>__<variant>[__<part>]", ErrInvalidModule, fn.Name)
		}
		attach, err := attachOf(spec.Programs[fn.Name])
		if err != nil {
			return nil, fmt.Errorf("%w: program %q: %w", ErrInvalidModule, fn.Name, err)
		}
		hooks = addProgram(hooks, parts[0], parts[1], attach, fn.Name)
	}
	if named != len(spec.Programs) {
		return nil, fmt.Errorf("%w: %d programs, but BTF for %d", ErrInvalidModule, len(spec.Programs), named)
	}
	if named == 0 {
		return nil, fmt.Errorf("%w: no program", ErrInvalidModule)
	}
	return hooks, nil
}

func addProgram(hooks []hook, hookName, variantName string, attach Attachment, program string) []hook {
	i := slices.IndexFunc(hooks, func(h hook) bool { return h.name == hookName })
	if i < 0 {
		i = len(hooks)
		hooks = append(hooks, hook{name: hookName})
	}
	h := &hooks[i]
	j := slices.IndexFunc(h.variants, func(v variant) bool { return v.name == variantName })
	if j < 0 {
		j = len(h.variants)
		h.variants = append(h.variants, variant{name: variantName, attach: attach})
	}
	h.variants[j].programs = append(h.variants[j].programs, program)
	return hooks
}

// attachOf returns the kind of attachment that a program's section specifies.
func attachOf(prog *ebpf.ProgramSpec) (Attachment, error) {
	if prog.Flags&sleepable != 0 || prog.AttachTarget != nil {
		return "", fmt.Errorf("section %q: a module may not have sleepable programs, or programs that attach to other programs", prog.SectionName)
	}
	switch prog.Type {
	case ebpf.Tracing:
		switch prog.AttachType {
		case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
			return Fentry, nil
		case ebpf.AttachTraceRawTp:
			return TPBTF, nil
		case ebpf.AttachTraceIter:
			return Iter, nil
		}
	case ebpf.RawTracepoint:
		return rawTP, nil
	case ebpf.TracePoint:
		return Tracepoint, nil
	case ebpf.Kprobe:
		// Uprobes and kprobe.multi have the same type.
		if kind, _, _ := strings.Cut(prog.SectionName, "/"); kind == "kprobe" || kind == "kretprobe" {
			return Kprobe, nil
		}
	}
	return "", fmt.Errorf("section %q: unknown kind of attachment", prog.SectionName)
}
