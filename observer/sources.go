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
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
)

// maxObject bounds the size of an object, in bytes. The largest built-in one has 208 KiB.
const maxObject = 1 << 20

// ErrUntrusted is returned for a folder or an object that somebody else could have changed.
var ErrUntrusted = errors.New("not to be trusted")

// WithModules returns the options with further modules, those of each source, which are opened besides the others. A source
// has one file <module>.bpf.o each: a folder (ModuleDir), files that are embedded into the program, or a CollectionSpec
// (Spec). The first module of a name counts; of two that have a metric of the same name, the first too. The later one
// is refused, which Health tells, as it tells what else is wrong with a module.
func (o Options) WithModules(sources ...fs.FS) Options {
	o.Extra = append(slices.Clone(o.Extra), sources...)
	return o
}

// Spec returns a source of one module, which is in memory. The spec must not be changed afterwards.
func Spec(module string, spec *ebpf.CollectionSpec) fs.FS {
	return &specFile{name: module + bpf.Suffix, spec: spec}
}

// specFile is a source of one module, and its file. There are no bytes to read in it: readSpec takes the spec.
type specFile struct {
	spec *ebpf.CollectionSpec
	name string
}

func (s *specFile) Open(name string) (fs.File, error) {
	if name != s.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return s, nil
}

func (s *specFile) ReadDir(string) ([]fs.DirEntry, error) {
	return []fs.DirEntry{fs.FileInfoToDirEntry(s)}, nil
}

func (s *specFile) Stat() (fs.FileInfo, error) { return s, nil }
func (s *specFile) Read([]byte) (int, error)   { return 0, errors.ErrUnsupported }
func (s *specFile) Close() error               { return nil }
func (s *specFile) Name() string               { return s.name }
func (s *specFile) Size() int64                { return 0 }
func (s *specFile) Mode() fs.FileMode          { return 0o444 }
func (s *specFile) ModTime() time.Time         { return time.Time{} }
func (s *specFile) IsDir() bool                { return false }
func (s *specFile) Sys() any                   { return s.spec }

// object is a decoded module: what it says of itself, and the programs that are to be loaded. It is not changed.
type object struct {
	spec    *ebpf.CollectionSpec
	err     error // why there is nothing else here
	name    string
	metrics []Metric // with offsets from the module's own first word
	words   int
}

// decode reads a module from a source.
func decode(source fs.FS, name string) *object {
	o := &object{name: name}
	if o.spec, o.err = readSpec(source, name); o.err == nil {
		o.metrics, o.words, o.err = describe(name, o.spec)
	}
	return o
}

// sources are the modules of several sources as one.
type sources struct {
	of       map[string]fs.FS   // the source of each module
	decoded  map[string]*object // what has been decoded to be compared, and not been opened yet
	refusals map[string]error   // modules that must not be opened
	names    []string           // of all modules, sorted
	own      []string           // of those in Options.Objects, sorted
	refused  []ModuleHealth     // what is no module that could be asked for, and why
}

// sources lists what there is to open. What is wrong with the extra sources is in its health.
func (o *Options) sources() (*sources, error) {
	s := &sources{of: make(map[string]fs.FS), decoded: make(map[string]*object), refusals: make(map[string]error)}
	objects := orBuiltIn(o.Objects)
	var err error
	if s.own, err = Modules(objects); err != nil {
		return nil, err
	}
	taken := newClaims()
	for _, name := range s.own {
		s.of[name] = objects
		// The built-in modules leave each other be, and are read for this only if others could be in their way.
		if o.Objects != nil || len(o.Extra) > 0 {
			s.claim(taken, name)
		}
	}
	for i, extra := range o.Extra {
		s.add(taken, extra, sourceName(extra, i))
	}
	for name := range s.of {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s, nil
}

// sourceName is what people call a source.
func sourceName(source fs.FS, i int) string {
	if named, ok := source.(fmt.Stringer); ok {
		return named.String()
	}
	return fmt.Sprintf("source %d", i+1)
}

// add lists the modules of one more source.
func (s *sources) add(taken claims, source fs.FS, sourceName string) {
	entries, err := fs.ReadDir(source, ".")
	if err != nil {
		s.refuse(sourceName, fmt.Errorf("listing the modules of %s: %w", sourceName, err))
		return
	}
	for _, entry := range entries {
		name, ok := strings.CutSuffix(entry.Name(), bpf.Suffix)
		switch {
		case !ok:
		case s.of[name] != nil:
			s.refuse(name+" of "+sourceName, collision(fmt.Errorf("%w: there is a module %q already", kprobe.ErrInvalidModule, name)))
		default:
			s.of[name] = source
			s.claim(taken, name)
		}
	}
}

func (s *sources) refuse(name string, err error) {
	health := ModuleHealth{Name: name}
	health.fail(err)
	s.refused = append(s.refused, health)
}

// failures are why modules are refused that cannot be asked for.
func (s *sources) failures() []error {
	var errs []error
	for _, m := range s.refused {
		errs = append(errs, fmt.Errorf("%s: %s", m.Name, m.Cause))
	}
	return errs
}

// claim takes the names of a module's metrics. What else is wrong with the module will be found when it is opened.
func (s *sources) claim(taken claims, name string) {
	o := decode(s.of[name], name)
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
	return decode(s.of[name], name)
}

// extra returns the modules that are not in Options.Objects, in the order of their sources and names, but for those that are
// listed already.
func (s *sources) extra(listed []string) []string {
	var names []string
	for _, name := range s.names {
		if !slices.Contains(s.own, name) && !slices.Contains(listed, name) {
			names = append(names, name)
		}
	}
	return names
}

// collision is why a module is refused whose names are taken.
func collision(err error) error {
	return kprobe.WithRemedy(err, "give the module's file, or the metric, another name: the built-in modules come first, then the sources in their order")
}
