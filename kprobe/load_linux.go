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
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/internal/step"
)

// Names in the SDK's header: the constants that Load sets, the map for sampling, the map of start times.
const (
	scopeTGID   = "scope_tgid"
	scopeTID    = "scope_tid"
	samplingMap = ".data.sampling"
	timersMap   = ".data.timers"
	constants   = ".rodata"
)

// Self returns the scope of the calling process. It runs a program in the caller's context to get the process id, since
// only the kernel knows the id outside of the process's pid namespace. Needs Linux 5.10, CAP_BPF and CAP_PERFMON.
func Self() (Scope, error) {
	tgid, err := runOnce(asm.FnGetCurrentPidTgid.Call(), asm.RSh.Imm(asm.R0, 32), asm.Return())
	return Scope{TGID: tgid}, err
}

// Thread returns the calling thread's id in the initial pid namespace. The goroutine must be locked to its thread. It
// needs what Self needs.
func Thread() (uint32, error) {
	return runOnce(asm.FnGetCurrentPidTgid.Call(), asm.Return())
}

// runOnce runs a program in the caller's context and returns the lower 32 bits of its result.
func runOnce(instructions ...asm.Instruction) (uint32, error) {
	prog, err := withMemory(btf.LoadKernelSpec, func() (*ebpf.Program, error) {
		return ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: "self", Type: ebpf.RawTracepoint, License: "Dual MIT/GPL", Instructions: instructions,
		})
	})
	if err != nil {
		return 0, diagnose(&failure{err: fmt.Errorf("loading a first program: %w", kernelWords(err)), at: atStart})
	}
	defer prog.Close()
	result, err := prog.Run(&ebpf.RunOptions{})
	if err != nil {
		return 0, diagnose(&failure{err: fmt.Errorf("running a first program: %w", err), at: atStart})
	}
	return result, nil
}

// Probes are the programs of a module, attached or detached, and their maps. They must be closed.
type Probes struct {
	maps     map[string]*ebpf.Map
	layouts  map[string]string // of the maps
	plan     Plan
	programs []program
	missed   uint64 // by programs that Reload has replaced
}

// program is a loaded program.
type program struct {
	prog *ebpf.Program
	spec *ebpf.ProgramSpec // without its instructions
	link link.Link         // nil while it is detached
	hook string
}

// Load creates a module's maps, and attaches for each hook the first variant that the kernel accepts. It returns an
// error, and leaves nothing behind, if the object is not a valid module (ErrInvalidModule), if the maps cannot be
// created, or if no hook can be attached (*RefusedError). The caller's spec is not modified. Needs Linux 5.10 with BTF,
// CAP_BPF and CAP_PERFMON.
func Load(spec *ebpf.CollectionSpec, opts Options) (*Probes, error) {
	if err := checkBounds(spec); err != nil {
		return nil, err
	}
	l, hooks, err := newLoader(spec, opts)
	if err != nil {
		return nil, err
	}
	p := &Probes{}
	if p.maps, err = l.loadMaps(); err != nil {
		return nil, diagnose(&failure{err: fmt.Errorf("making the maps: %w", kernelWords(err)), at: atMaps})
	}
	l.maps, p.layouts = p.maps, layoutsOf(l.spec)
	for _, h := range hooks {
		p.plan = append(p.plan, p.attachHook(l, h))
	}
	if len(p.programs) == 0 {
		return nil, errors.Join(&RefusedError{Plan: p.plan, err: diagnose(errors.Join(p.plan.Refusals()...))}, p.Close())
	}
	return p, nil
}

// Reload loads and attaches the programs of detached hooks again, of all detached hooks if none is named. It is for
// programs that Attach cannot reattach: Linux before 5.13 attaches an fentry program only once. The maps are kept, and
// counting continues. spec must be the module that Load got: for another one it returns ErrInvalidModule, and nothing
// changes. A hook that fails stays detached. The order of programs is kept as by Attach.
func (p *Probes) Reload(spec *ebpf.CollectionSpec, opts Options, hooks ...string) error {
	if err := checkBounds(spec); err != nil {
		return err
	}
	l, all, err := newLoader(spec, opts)
	if err != nil {
		return err
	}
	if err = p.checkSame(l.spec, all); err != nil {
		return WithRemedy(
			fmt.Errorf("%w: it is not the one that was loaded: %w", ErrInvalidModule, err),
			"put the object that was loaded back in its place, or restart the server to load the other one",
		)
	}
	if err = p.clearTimers(); err != nil {
		return err
	}
	l.maps = p.maps
	for name, m := range p.maps {
		l.spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	var errs []error
	changed := make(map[string]bool)
	for _, h := range all {
		old := slices.IndexFunc(p.programs, func(loaded program) bool { return loaded.hook == h.name && loaded.link == nil })
		if old < 0 || len(hooks) > 0 && !slices.Contains(hooks, h.name) {
			errs = append(errs, p.putBack(h.name, false, changed))
			continue
		}
		row := p.attachHook(l, h)
		if row.Variant == "" {
			errs = append(errs, diagnose(errors.Join(Plan{row}.Refusals()...)))
			continue
		}
		errs = append(errs, p.drop(h.name))
		for _, loaded := range p.programs {
			if loaded.hook == h.name {
				changed[eventOf(loaded.spec)] = eventOf(loaded.spec) != ""
			}
		}
		p.plan[slices.IndexFunc(p.plan, func(r Hook) bool { return r.Name == h.name })] = row
	}
	return errors.Join(errs...)
}

// checkSame returns how a module differs from the loaded one. The programs of a different module could not use the
// loaded one's maps.
func (p *Probes) checkSame(spec *ebpf.CollectionSpec, hooks []hook) error {
	if have, want := namesOf(hooks), p.plan.Names(); !slices.Equal(have, want) {
		return fmt.Errorf("its hooks are %s, not %s", strings.Join(have, ", "), strings.Join(want, ", "))
	}
	have, want := slices.Sorted(maps.Keys(spec.Maps)), slices.Sorted(maps.Keys(p.maps))
	if !slices.Equal(have, want) {
		return fmt.Errorf("its maps are %s, not %s", strings.Join(have, ", "), strings.Join(want, ", "))
	}
	layouts := layoutsOf(spec)
	for _, name := range have {
		m, loaded := spec.Maps[name], p.maps[name]
		switch {
		case m.Type != loaded.Type():
			return fmt.Errorf("map %q is of type %s, not %s", name, m.Type, loaded.Type())
		case m.KeySize != loaded.KeySize() || m.ValueSize != loaded.ValueSize():
			return fmt.Errorf("map %q has keys and values of %d and %d bytes, not %d and %d", name, m.KeySize, m.ValueSize, loaded.KeySize(), loaded.ValueSize())
		case layouts[name] != p.layouts[name]:
			return fmt.Errorf("the contents of map %q differ", name)
		}
	}
	return nil
}

// layoutsOf returns a digest of each map's flags, types and constants, which is equal if these are equal.
func layoutsOf(spec *ebpf.CollectionSpec) map[string]string {
	layouts := make(map[string]string, len(spec.Maps))
	for name, m := range spec.Maps {
		var types []btf.Type
		for _, typ := range []btf.Type{m.Key, m.Value} {
			if typ != nil {
				types = append(types, typ)
			}
		}
		var raw []byte
		// Types that cannot be marshaled are not those of counters.
		if b, err := btf.NewBuilder(types, nil); err == nil {
			raw, _ = b.Marshal(nil, nil)
		}
		h := sha256.New()
		fmt.Fprint(h, m.Flags, raw)
		if strings.HasPrefix(name, constants) {
			fmt.Fprint(h, m.Contents)
			for _, variable := range slices.Sorted(maps.Keys(spec.Variables)) {
				if v := spec.Variables[variable]; v.SectionName == name {
					fmt.Fprint(h, variable, v.Offset, v.Value)
				}
			}
		}
		layouts[name] = string(h.Sum(nil))
	}
	return layouts
}

// drop closes the detached programs of a hook.
func (p *Probes) drop(hook string) error {
	var errs []error
	p.programs = slices.DeleteFunc(p.programs, func(loaded program) bool {
		if loaded.hook != hook || loaded.link != nil {
			return false
		}
		if stats, err := loaded.prog.Stats(); err == nil {
			p.missed += stats.RecursionMisses
		}
		errs = append(errs, loaded.prog.Close())
		return true
	})
	return errors.Join(errs...)
}

// newLoader prepares a module's spec for loading, and returns its hooks.
func newLoader(spec *ebpf.CollectionSpec, opts Options) (*loader, []hook, error) {
	hooks, err := hooksOf(spec)
	if err != nil {
		return nil, nil, err
	}
	if err = checkArchitecture(spec); err != nil {
		return nil, nil, err
	}
	spec = spec.Copy()
	if err = configure(spec, opts); err != nil {
		return nil, nil, err
	}
	if opts.Cache == nil {
		opts.Cache = btf.NewCache()
	}
	kernel, err := opts.Cache.Kernel()
	if err != nil {
		return nil, nil, diagnose(&failure{err: fmt.Errorf("reading the kernel's BTF: %w", err), at: atBTF})
	}
	return &loader{spec: spec, opts: &opts, kernel: kernel}, hooks, nil
}

// loader has what loading any variant of a module needs.
type loader struct {
	spec   *ebpf.CollectionSpec
	opts   *Options
	kernel *btf.Spec
	maps   map[string]*ebpf.Map
}

// Plan returns how each hook is attached.
func (p *Probes) Plan() Plan { return slices.Clone(p.plan) }

// Map returns the module's map of that name, nil if there is none. The Probes still own it.
func (p *Probes) Map(name string) *ebpf.Map { return p.maps[name] }

// MapMemory returns the bytes that the kernel accounts for the module's maps.
func (p *Probes) MapMemory() uint64 {
	var sum uint64
	for _, m := range p.maps {
		info, err := m.Info()
		if err != nil {
			continue
		}
		if n, ok := info.Memlock(); ok {
			sum += n
		}
	}
	return sum
}

// Missed returns how many runs of the programs the kernel has skipped, because they would have interrupted another run
// of the same program. It is an upper bound of the missed events, since a skipped run for another process misses none.
// It makes a system call for each program. Linux before 5.12 does not count skipped runs: Missed returns 0.
func (p *Probes) Missed() (uint64, error) {
	sum := p.missed
	for _, loaded := range p.programs {
		stats, err := loaded.prog.Stats()
		if err != nil {
			return 0, fmt.Errorf("reading the statistics of %s: %w", loaded.prog, err)
		}
		sum += stats.RecursionMisses
	}
	return sum, nil
}

// SetSampling makes the module time one in n events, at random, and count its duration n times; 1 times all. Other
// counts stay exact. It takes effect at once, and has no effect on a module that times no frequent events.
func (p *Probes) SetSampling(n uint32) error {
	m := p.maps[samplingMap]
	if m == nil {
		return nil
	}
	n = max(n, 1)
	if err := m.Put(uint32(0), [2]uint32{math.MaxUint32 / n, n}); err != nil {
		return fmt.Errorf("sampling durations: %w", err)
	}
	return nil
}

// CanSample reports whether the module times frequent events, so that SetSampling has an effect.
func (p *Probes) CanSample() bool { return p.maps[samplingMap] != nil }

// Iterate runs each attached iterator once, over all its objects, and returns the number of iterators. It makes a few
// system calls for each, and none if there is no iterator. If one iterator fails, the others still run: the errors are
// joined. Calls must not overlap.
func (p *Probes) Iterate() (int, error) {
	var errs []error
	for _, loaded := range p.programs {
		if it, ok := loaded.link.(*link.Iter); ok {
			errs = append(errs, iterate(it))
		}
	}
	return len(errs), errors.Join(errs...)
}

// iterate runs the program by reading its output, which is empty, to the end.
func iterate(it *link.Iter) error {
	r, err := again(it.Open)
	if err != nil {
		return diagnose(&failure{err: fmt.Errorf("opening the iterator: %w", kernelWords(err)), at: atIterate})
	}
	if err = readOn(r); err != nil {
		err = diagnose(&failure{err: fmt.Errorf("reading the iterator: %w", err), at: atIterate})
	}
	return errors.Join(err, r.Close())
}

// maxReads limits the reads of an iterator. They suffice for a billion objects.
const maxReads = 1000

// readOn reads an iterator to its end. The kernel returns EAGAIN after a million objects for which the program wrote
// nothing (MAX_ITER_OBJECTS), and the next read continues from there. It also does so when the program returns 1, which
// asks for the same object again, maybe forever. Package os retries after EINTR, and returns EAGAIN, since the
// descriptor is blocking. The buffer is small, since nothing is written, and it is allocated at each collection.
func readOn(r io.Reader) error {
	buf := make([]byte, 64)
	for asked := 0; asked < maxReads; {
		_, err := r.Read(buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.EAGAIN):
			asked++
		case err != nil:
			return err
		}
	}
	return &remediable{
		fmt.Errorf("it has asked to be read again %d times: %w", maxReads, unix.EAGAIN),
		"have the iterator's program return 0: 1 asks for the same object again",
	}
}

// maxTries limits the attempts of an operation that the kernel asks to retry.
const maxTries = 10

// again retries an operation that fails because of a signal (EINTR) or a concurrent change (EAGAIN). The eBPF library
// itself retries loading after EAGAIN, and with a larger log buffer after ENOSPC, and treats EINTR of a run as success.
func again[T any](do func() (T, error)) (T, error) {
	for range maxTries - 1 {
		result, err := do()
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return result, err
		}
	}
	return do()
}

// Close detaches the programs, in the reverse order of their attachment, and closes programs and maps. A second call
// does nothing.
func (p *Probes) Close() error {
	errs := []error{p.Detach()}
	for _, loaded := range p.programs {
		errs = append(errs, loaded.prog.Close())
	}
	errs = append(errs, closeAll(p.maps))
	p.programs, p.maps = nil, nil
	return errors.Join(errs...)
}

func closeAll(all map[string]*ebpf.Map) error {
	var errs []error
	for _, m := range all {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Detach detaches the programs of hooks, of all hooks if none is named, in the reverse order of their attachment.
// Detached programs cost nothing at run time and count nothing. They stay loaded, and their maps keep the counts, until
// Attach or Close.
func (p *Probes) Detach(hooks ...string) error {
	var errs []error
	for i := range slices.Backward(p.programs) {
		loaded := &p.programs[i]
		if loaded.link == nil || len(hooks) > 0 && !slices.Contains(hooks, loaded.hook) {
			continue
		}
		if err := loaded.link.Close(); err != nil {
			errs = append(errs, fmt.Errorf("detaching %s: %w", loaded.spec.Name, err))
		}
		loaded.link = nil
	}
	return errors.Join(errs...)
}

// Attach reattaches what Detach has detached, the programs of some hooks, or of all if none is named. Counting
// continues. A hook is attached completely or not at all; a hook that fails is named in the error, and does not affect
// the others. The programs of an event run in the order of the plan: later ones at the same event are reattached, and
// miss what happens meanwhile. Linux before 5.13 does not attach an fentry program twice: then it is ErrNotSupported,
// and Reload helps.
func (p *Probes) Attach(hooks ...string) error {
	wanted := func(hook string) bool { return len(hooks) == 0 || slices.Contains(hooks, hook) }
	if !slices.ContainsFunc(p.programs, func(loaded program) bool { return loaded.link == nil && wanted(loaded.hook) }) {
		return nil
	}
	// Events that were in progress when the programs were detached have ended unseen.
	if err := p.clearTimers(); err != nil {
		return err
	}
	var errs []error
	changed := make(map[string]bool)
	for _, row := range p.plan {
		errs = append(errs, p.putBack(row.Name, wanted(row.Name), changed))
	}
	return errors.Join(errs...)
}

// putBack attaches the detached programs of a hook, if it is wanted, and reattaches those at changed events.
func (p *Probes) putBack(hook string, wanted bool, changed map[string]bool) error {
	for i := range p.programs {
		loaded := &p.programs[i]
		event := eventOf(loaded.spec)
		var err error
		switch {
		case loaded.hook != hook:
			continue
		case loaded.link == nil && wanted:
			changed[event] = event != ""
		case loaded.link != nil && changed[event]:
			err = loaded.link.Close()
			loaded.link = nil
		default:
			continue
		}
		if err == nil {
			loaded.link, err = again(func() (link.Link, error) { return attach(loaded.prog, loaded.spec) })
		}
		if err != nil {
			loaded.link = nil
			err = diagnose(attachFailure(loaded.spec, err))
			return errors.Join(err, p.Detach(hook))
		}
	}
	return nil
}

// eventOf returns the event whose programs the kernel runs in the order of their attachment. It is empty for functions
// and iterators.
func eventOf(spec *ebpf.ProgramSpec) string {
	if spec.Type == ebpf.Kprobe || spec.AttachType == ebpf.AttachTraceFEntry || spec.AttachType == ebpf.AttachTraceFExit || spec.AttachType == ebpf.AttachTraceIter {
		return ""
	}
	return spec.AttachTo
}

// clearTimers clears the start times of events in progress.
func (p *Probes) clearTimers() error {
	m := p.maps[timersMap]
	if m == nil {
		return nil
	}
	if err := m.Put(uint32(0), make([]byte, m.ValueSize())); err != nil {
		return fmt.Errorf("clearing the start times: %w", err)
	}
	return nil
}

func configure(spec *ebpf.CollectionSpec, opts Options) error {
	if opts.Scope.TGID == 0 {
		return errors.New("no process to observe: Options.Scope is empty")
	}
	values := map[string]any{scopeTGID: opts.Scope.TGID, scopeTID: opts.Scope.TID}
	maps.Copy(values, opts.Constants)
	for name, value := range values {
		v := spec.Variables[name]
		if v == nil {
			// A module that reports on the whole host needs no scope, and the compiler drops unused variables.
			continue
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("%w: setting %s: %w", ErrInvalidModule, name, err)
		}
	}
	for name, m := range spec.Maps {
		// With such a name the library would memory-map the variables, which takes two more pages of memory each.
		m.Name = strings.TrimPrefix(name, ".")
	}
	for name, n := range opts.Entries {
		m := spec.Maps[name]
		if m == nil {
			return fmt.Errorf("%w: no map %q", ErrInvalidModule, name)
		}
		m.MaxEntries = n
	}
	return nil
}

// kernelSpec returns the BTF that is already loaded, for withMemory.
func (l *loader) kernelSpec() (*btf.Spec, error) { return l.kernel, nil }

func (l *loader) loadMaps() (map[string]*ebpf.Map, error) {
	if err := step.Before("making the maps"); err != nil {
		return nil, err
	}
	spec := l.spec.Copy()
	clear(spec.Programs)
	coll, err := withMemory(l.kernelSpec, func() (*ebpf.Collection, error) { return ebpf.NewCollection(spec) })
	if err != nil {
		if missing(err) {
			// The eBPF library mistakes a lack of memory or descriptors for an old kernel.
			if plain := plainMaps(spec); plain != nil {
				err = plain
			}
		}
		return nil, err
	}
	// Take the maps out of the collection: the Probes own and close them.
	made := coll.Maps
	coll.Maps = nil
	coll.Close()
	for name, m := range made {
		// The verifier treats frozen values as constants.
		if strings.HasPrefix(name, constants) {
			if err = m.Freeze(); err != nil {
				return nil, fmt.Errorf("freezing %s: %w", name, errors.Join(err, closeAll(made)))
			}
		}
	}
	return made, nil
}

// plainMaps creates the maps without the flags that old kernels do not know, and returns the error if even that fails.
func plainMaps(spec *ebpf.CollectionSpec) error {
	for name, m := range spec.Maps {
		m = m.Copy()
		m.Flags &= unix.BPF_F_NO_PREALLOC
		made, err := ebpf.NewMap(m)
		if err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
		defer made.Close()
	}
	return nil
}

// attachHook attaches the first variant of a hook that the kernel accepts.
func (p *Probes) attachHook(l *loader, h hook) Hook {
	row := Hook{Name: h.name}
	variants := h.variants
	if kind := l.opts.Attachment; kind != "" {
		variants = slices.DeleteFunc(slices.Clone(variants), func(v variant) bool { return v.attach != kind && v.attach != Iter })
		if len(variants) == 0 {
			err := fmt.Errorf("%w: the hook has no variant of this kind", ErrNotSupported)
			row.Refused = append(row.Refused, Refusal{Variant: string(kind), Attachment: kind, Err: &failure{err: err, attach: kind, at: atLoad}})
		}
	}
	for _, v := range variants {
		programs, err := l.attach(h.name, v)
		if err != nil {
			row.Refused = append(row.Refused, Refusal{Variant: v.name, Attachment: v.attach, Err: err})
			continue
		}
		p.programs = append(p.programs, programs...)
		row.Variant, row.Attachment = v.name, v.attach
		break
	}
	return row
}

// attach loads and attaches all programs of a variant, or none.
func (l *loader) attach(hook string, v variant) ([]program, error) {
	refused := func(err error) ([]program, error) {
		f := &failure{err: err, attach: v.attach, at: atLoad}
		for _, name := range v.programs {
			f.targets = append(f.targets, l.spec.Programs[name].AttachTo)
		}
		return nil, f
	}
	for _, name := range v.programs {
		if err := checkPrototype(l.kernel, l.spec.Programs[name]); err != nil {
			return refused(err)
		}
	}
	only := l.spec.Copy()
	for name := range only.Programs {
		if !slices.Contains(v.programs, name) {
			delete(only.Programs, name)
		}
	}
	if err := step.Before("loading %s", strings.Join(v.programs, ", ")); err != nil {
		return refused(fmt.Errorf("loading: %w", err))
	}
	coll, err := withMemory(l.kernelSpec, func() (*ebpf.Collection, error) {
		return ebpf.NewCollectionWithOptions(only, ebpf.CollectionOptions{MapReplacements: l.maps, Cache: l.opts.Cache})
	})
	if err != nil {
		return refused(fmt.Errorf("loading: %w", kernelWords(err)))
	}
	defer coll.Close()
	variant := Probes{}
	for _, name := range v.programs {
		spec := l.spec.Programs[name]
		held, err := again(func() (link.Link, error) { return l.attachProgram(coll.Programs[name], spec) })
		if err != nil {
			return nil, errors.Join(attachFailure(spec, err), variant.Close())
		}
		variant.programs = append(variant.programs, program{
			prog: coll.DetachProgram(name), link: held, hook: hook,
			spec: &ebpf.ProgramSpec{Name: spec.Name, Type: spec.Type, AttachType: spec.AttachType, AttachTo: spec.AttachTo, SectionName: spec.SectionName},
		})
	}
	return variant.programs, nil
}

func (l *loader) attachProgram(prog *ebpf.Program, spec *ebpf.ProgramSpec) (link.Link, error) {
	if err := step.Before("attaching %s", spec.Name); err != nil {
		return nil, err
	}
	return attach(prog, spec)
}

// attachFailure returns the failure to attach a program.
func attachFailure(spec *ebpf.ProgramSpec, err error) error {
	kind, _ := attachOf(spec)
	return &failure{
		err: fmt.Errorf("attaching %s to %q: %w", spec.Name, spec.AttachTo, kernelWords(err)), at: atAttach, attach: kind, targets: []string{spec.AttachTo},
	}
}

// attach attaches a program as its section says.
func attach(prog *ebpf.Program, spec *ebpf.ProgramSpec) (link.Link, error) {
	switch spec.Type {
	case ebpf.Tracing:
		if spec.AttachType == ebpf.AttachTraceIter {
			return link.AttachIter(link.IterOptions{Program: prog})
		}
		return link.AttachTracing(link.TracingOptions{Program: prog})
	case ebpf.RawTracepoint:
		return link.AttachRawTracepoint(link.RawTracepointOptions{Program: prog, Name: spec.AttachTo})
	case ebpf.TracePoint:
		group, name, ok := strings.Cut(spec.AttachTo, "/")
		if !ok {
			return nil, fmt.Errorf("%w: a tracepoint must be named group/name", ErrInvalidModule)
		}
		l, err := link.Tracepoint(group, name, prog, nil)
		if _, statErr := os.Stat(tracefs + "/events"); err != nil && errors.Is(statErr, os.ErrNotExist) {
			return nil, fmt.Errorf("%w: %w", errNoTracefs, err)
		}
		return l, err
	case ebpf.Kprobe:
		if strings.HasPrefix(spec.SectionName, "kret") {
			return attachReturn(prog, spec.AttachTo)
		}
		return link.Kprobe(spec.AttachTo, prog, nil)
	default:
		return nil, fmt.Errorf("programs of type %s: %w", spec.Type, ErrNotSupported)
	}
}

// concurrentReturns is how many calls of a function, of all threads, may be in progress before returns are missed.
const concurrentReturns = 4096

// attachReturn attaches to the return of a function. A call that blocks occupies an instance of the probe. By default
// the kernel has twice as many instances as CPUs; another number needs tracefs.
func attachReturn(prog *ebpf.Program, symbol string) (link.Link, error) {
	l, err := link.Kretprobe(symbol, prog, &link.KprobeOptions{RetprobeMaxActive: concurrentReturns})
	if err == nil {
		return l, nil
	}
	return link.Kretprobe(symbol, prog, nil)
}
