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

package observer

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// maxObject bounds the size of an object, in bytes. The largest built-in one has 220 KiB.
const maxObject = 1 << 20

// ErrUntrusted is returned for a folder or an object that somebody else could have changed.
var ErrUntrusted = errors.New("not to be trusted")

// Source provides modules: BuiltIn, Files, ModuleDir or Spec. It may be used by several goroutines at once.
type Source struct {
	files   fs.FS
	spec    *ebpf.CollectionSpec // of the one module that is in memory, if there are no files
	module  string               // its name
	dir     string               // where the files are, for messages
	builtIn bool
}

// BuiltIn returns the modules of this package, for the architecture that the program was built for.
func BuiltIn() Source {
	return Source{files: bpf.Modules(runtime.GOARCH), builtIn: true}
}

// Files returns the modules in a file system, such as one that is embedded in a program: each <module>.bpf.o at the
// root.
func Files(files fs.FS) Source { return Source{files: files} }

// Spec returns one module from memory. The spec must not be changed afterwards.
func Spec(module string, spec *ebpf.CollectionSpec) Source { return Source{spec: spec, module: module} }

// Modules returns the names of the modules, sorted. It needs no eBPF and works everywhere.
func (s Source) Modules() ([]string, error) {
	if s.files == nil {
		return []string{s.module}, nil
	}
	entries, err := fs.ReadDir(s.files, ".")
	if err != nil {
		return nil, fmt.Errorf("listing the modules: %w", err)
	}
	var names []string
	for _, entry := range entries {
		if name, ok := strings.CutSuffix(entry.Name(), bpf.Suffix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Describe returns the metrics that modules declare, whether or not this kernel can feed them. It needs no eBPF and works
// everywhere.
func (s Source) Describe(modules ...string) ([]Metric, error) {
	var schema []Metric
	total := 0
	for _, name := range modules {
		o := s.decode(name)
		if o.err != nil {
			return nil, fmt.Errorf("module %s: %w", name, o.err)
		}
		metrics, _, words := o.metricsBy(nil)
		schema = appendMetrics(schema, metrics, total)
		total += words
	}
	return schema, nil
}

// Hooks returns the names of a module's hooks, whether or not this kernel accepts them. It needs no eBPF and works
// everywhere.
func (s Source) Hooks(module string) ([]string, error) {
	o := s.decode(module)
	if o.spec == nil {
		return nil, fmt.Errorf("module %s: %w", module, o.err)
	}
	return kprobe.Hooks(o.spec)
}

// read returns a module's object.
func (s Source) read(name string) (*ebpf.CollectionSpec, error) {
	if s.files == nil {
		if s.spec == nil {
			return nil, fmt.Errorf("%w: there is nothing in the source", kprobe.ErrInvalidModule)
		}
		return s.spec, nil
	}
	f, err := s.files.Open(name + bpf.Suffix)
	if err != nil {
		return nil, fmt.Errorf("opening the object: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxObject+1))
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	if len(data) > maxObject {
		return nil, fmt.Errorf("%w: the object has more than %d bytes", kprobe.ErrInvalidModule, maxObject)
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: parsing the object: %w", kprobe.ErrInvalidModule, err)
	}
	return spec, nil
}

// object is a decoded module: its description of itself, and the programs to load. It is not changed.
type object struct {
	*entry
	spec *ebpf.CollectionSpec
	err  error // why it cannot be opened
	name string
}

// decode reads a module.
func (s Source) decode(name string) *object {
	o := &object{name: name}
	if o.spec, o.err = s.read(name); o.err == nil {
		o.entry, o.err = describe(name, o.spec)
	}
	return o
}

// sources merges the modules of several sources.
type sources struct {
	of       map[string]Source  // the source of each module
	decoded  map[string]*object // decoded for comparison, and not opened yet
	refusals map[string]error   // modules that must not be opened
	names    []string           // of all modules: those of the first source, sorted, and then the others, sorted
	refused  []ModuleHealth     // sources and modules that cannot be requested, and why
}

// merge lists the modules of all sources. An error of a source after the first is in its health.
func merge(all []Source) (*sources, error) {
	if len(all) == 0 {
		all = []Source{BuiltIn()}
	}
	s := &sources{of: make(map[string]Source), decoded: make(map[string]*object), refusals: make(map[string]error)}
	first, err := all[0].Modules()
	if err != nil {
		return nil, err
	}
	taken := newClaims()
	for _, name := range first {
		s.of[name] = all[0]
		// The built-in modules do not collide with each other, and are read here only if others could collide with
		// them.
		if !all[0].builtIn || len(all) > 1 {
			s.claim(taken, name)
		}
	}
	for i, source := range all[1:] {
		s.add(taken, source, cmp.Or(source.dir, fmt.Sprintf("source %d", i+2)))
	}
	further := slices.DeleteFunc(slices.Sorted(maps.Keys(s.of)), func(name string) bool { return slices.Contains(first, name) })
	s.names = slices.Concat(first, further)
	return s, nil
}

// add lists the modules of one more source.
func (s *sources) add(taken claims, source Source, called string) {
	names, err := source.Modules()
	if err != nil {
		s.refuse(called, err)
		return
	}
	for _, name := range names {
		if _, ok := s.of[name]; ok {
			s.refuse(name+" of "+called, collision(fmt.Errorf("%w: module %q already exists", kprobe.ErrInvalidModule, name)))
			continue
		}
		s.of[name] = source
		s.claim(taken, name)
	}
}

func (s *sources) refuse(name string, err error) {
	health := ModuleHealth{Name: name}
	health.fail(err)
	s.refused = append(s.refused, health)
}

// failures returns why the sources and modules that cannot be requested are refused.
func (s *sources) failures() []error {
	var errs []error
	for _, m := range s.refused {
		errs = append(errs, fmt.Errorf("%s: %s", m.Name, m.Cause))
	}
	return errs
}

// claim claims the names of a module's metrics. Other faults of the module are found when it is opened.
func (s *sources) claim(taken claims, name string) {
	o := s.of[name].decode(name)
	s.decoded[name] = o
	if o.err != nil {
		return
	}
	if err := taken.add(name, o.metrics); err != nil {
		s.refusals[name] = collision(err)
	}
}

// object returns a module to be opened.
func (s *sources) object(name string) *object {
	if err := s.refusals[name]; err != nil {
		return &object{name: name, err: err}
	}
	if o := s.decoded[name]; o != nil {
		return o
	}
	return s.of[name].decode(name)
}

// check returns a *FieldError for each unknown name of a module or hook in a configuration, joined.
func (s *sources) check(c Config) error {
	var errs []error
	for _, name := range c.Modules {
		errs = append(errs, s.checkHooks("modules", name, nil))
	}
	for _, name := range slices.Sorted(maps.Keys(c.DisabledHooks)) {
		errs = append(errs, s.checkHooks("disabled_hooks", name, c.DisabledHooks[name]))
	}
	return errors.Join(errs...)
}

// checkHooks checks that there is such a module, and that it has such hooks.
func (s *sources) checkHooks(field, module string, hooks []string) error {
	if !slices.Contains(s.names, module) {
		return &FieldError{Field: field, Err: fmt.Errorf("%w %q (available: %s)", ErrUnknownModule, module, strings.Join(s.names, ", "))}
	}
	if len(hooks) == 0 {
		return nil
	}
	o := s.object(module)
	s.decoded[module] = o
	if o.spec == nil {
		// Its error is reported when it is opened.
		return nil
	}
	names, err := kprobe.Hooks(o.spec)
	for _, hook := range hooks {
		if err == nil && !slices.Contains(names, hook) {
			return &FieldError{Field: field, Err: fmt.Errorf("module %s: %w %q (available: %s)", module, ErrUnknownHook, hook, strings.Join(names, ", "))}
		}
	}
	return nil
}

// collision adds the remedy to the error of a module with a name that is taken.
func collision(err error) error {
	return kprobe.WithRemedy(err, "give the module's file, or the metric, another name: the built-in modules come first, then the sources in their order")
}
