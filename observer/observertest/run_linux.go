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

package observertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// Run tests one module of a source: observer.ModuleDir, observer.Spec, or files that are embedded in the test. It
// checks that
//
//   - the module's description of itself is valid, by the rules of the engine and of Prometheus,
//   - the kernel accepts it, and each metric that the work counts is fed,
//   - it counts the work exactly,
//   - it counts nothing when another process, or another thread of this one, is observed,
//   - nothing is left open when it is closed.
//
// Each failure says what is wrong. Where eBPF is not permitted, the test is skipped. Run needs Linux 5.10, CAP_BPF and
// CAP_PERFMON, and stops the garbage collector meanwhile, so that the process does as little else as possible.
func Run(t TB, source observer.Source, module string, work Work) {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if !CheckSchema(t, source, module) {
		return
	}
	self, err := kprobe.Self()
	if errors.Is(err, kprobe.ErrPermission) || errors.Is(err, kprobe.ErrNotSupported) {
		t.Skipf("no eBPF here: %v", err)
		return
	}
	if err != nil {
		t.Errorf("the process's own id: %v", err)
		return
	}
	r := run{source: source, module: module, work: work}
	// The first run is for what a process makes on first use, and keeps.
	if err = r.once(self, nil); err != nil {
		t.Errorf("%v", err)
		return
	}
	before := heldNow()
	for try := range tries {
		if err = r.once(self, r.exact); err == nil || try == tries-1 {
			break
		}
	}
	if err != nil {
		t.Errorf("counts: %v", err)
	}
	if err = r.once(nobody(self), r.nothing); err != nil {
		t.Errorf("scope: this process's work was counted although another process was observed: %v", err)
	}
	if err = r.otherThread(self); err != nil {
		t.Errorf("scope: this thread's work was counted although another thread was observed: %v", err)
	}
	if err = before.leaked(r.objects); err != nil {
		t.Errorf("leak: %v", err)
	}
}

type run struct {
	source  observer.Source
	work    Work
	module  string
	objects []object // kernel objects that were open
}

// once opens the module, lets check do the work, and closes it.
func (r *run) once(scope kprobe.Scope, check func(*observer.Observer) error) error {
	others := openObjects()
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{r.module}}, Sources: []observer.Source{r.source}, Scope: scope})
	if err != nil {
		return fmt.Errorf("loading: %w%s", err, remedy(err))
	}
	r.objects = append(r.objects, slices.DeleteFunc(openObjects(), func(o object) bool { return slices.Contains(others, o) })...)
	if check == nil {
		check = func(*observer.Observer) error {
			_, err := r.do()
			return err
		}
	}
	return errors.Join(check(o), o.Close())
}

func remedy(err error) string {
	if text := kprobe.Remedy(err); text != "" {
		return "; remedy: " + text
	}
	return ""
}

// do does the work and undoes it.
func (r *run) do() (map[string]uint64, error) {
	want, err := r.work.Do()
	if err != nil {
		err = fmt.Errorf("the work itself: %w", err)
	}
	return want, errors.Join(err, r.undo())
}

func (r *run) undo() error {
	if r.work.Undo == nil {
		return nil
	}
	if err := r.work.Undo(); err != nil {
		return fmt.Errorf("undoing the work: %w", err)
	}
	return nil
}

// exact checks that the work is counted, no more and no less.
func (r *run) exact(o *observer.Observer) error {
	before, err := values(o)
	if err != nil {
		return err
	}
	want, err := r.work.Do()
	if err != nil {
		return errors.Join(fmt.Errorf("the work itself: %w", err), r.undo())
	}
	after, err := values(o)
	if err == nil {
		err = differences(before, after, want)
	}
	if err != nil {
		// A missing metric is not fed: the kernel may have refused its hooks.
		for _, m := range o.Health().Modules {
			err = errors.Join(append([]error{err}, m.Plan.Refusals()...)...)
		}
	}
	return errors.Join(err, r.undo())
}

// nothing checks that the work is not counted.
func (r *run) nothing(o *observer.Observer) error {
	before, err := values(o)
	if err != nil {
		return err
	}
	want, err := r.work.Do()
	if err != nil {
		return errors.Join(fmt.Errorf("the work itself: %w", err), r.undo())
	}
	clear(want)
	after, err := values(o)
	if err == nil {
		for series, v := range after {
			if v.gauge {
				want[series] = before[series].n
			}
		}
		err = differences(before, after, want)
	}
	return errors.Join(err, r.undo())
}

// nobody returns a scope that no process is in: ids are smaller.
func nobody(self kprobe.Scope) kprobe.Scope {
	return kprobe.Scope{TGID: self.TGID | 1<<30}
}

// otherThread observes a thread that waits while the work is done.
func (r *run) otherThread(self kprobe.Scope) error {
	ids, done := make(chan kprobe.Scope), make(chan struct{})
	defer close(done)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		id, err := kprobe.Thread()
		if err != nil {
			failed <- err
			return
		}
		ids <- kprobe.Scope{TGID: self.TGID, TID: id}
		<-done
	}()
	select {
	case err := <-failed:
		return err
	case scope := <-ids:
		return r.once(scope, r.nothing)
	}
}

// held is what a process has open.
type held struct{ descriptors, goroutines int }

func heldNow() held {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return held{descriptors: -1}
	}
	return held{descriptors: len(entries), goroutines: runtime.NumGoroutine()}
}

// object is a map, a program or a link of the kernel, by its id.
type object struct{ kind, id string }

// openObjects returns the objects that the process has descriptors of.
func openObjects() []object {
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		return nil
	}
	var all []object
	for _, info := range infos {
		// The descriptor of the listing itself is gone.
		text, err := os.ReadFile(info)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			kind, id, _ := strings.Cut(strings.TrimSpace(line), ":")
			if kind == "map_id" || kind == "prog_id" || kind == "link_id" {
				all = append(all, object{kind, strings.TrimSpace(id)})
			}
		}
	}
	return all
}

// exists reports whether the kernel still has the object.
func (o object) exists() bool {
	var id uint32
	if _, err := fmt.Sscan(o.id, &id); err != nil {
		return false
	}
	var found interface{ Close() error }
	var err error
	switch o.kind {
	case "map_id":
		found, err = ebpf.NewMapFromID(ebpf.MapID(id))
	case "prog_id":
		found, err = ebpf.NewProgramFromID(ebpf.ProgramID(id))
	default:
		found, err = link.NewFromID(link.ID(id))
	}
	return err == nil && errors.Join(found.Close()) == nil
}

// patience is how long the kernel may take to free what is closed.
const patience = 3 * time.Second

// leaked returns an error for what is open, or exists, and did not before.
func (h held) leaked(objects []object) error {
	var err error
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now := heldNow()
		var errs []error
		if now.descriptors > h.descriptors {
			errs = append(errs, fmt.Errorf("%d descriptors are open, %d were before", now.descriptors, h.descriptors))
		}
		if now.goroutines > h.goroutines {
			errs = append(errs, fmt.Errorf("%d goroutines are running, %d were before", now.goroutines, h.goroutines))
		}
		if err = errors.Join(errs...); err != nil && time.Now().Before(deadline) {
			continue
		}
		// The garbage collector releases mapped memory. Descriptors have been counted before it runs.
		runtime.GC()
		objects = slices.DeleteFunc(objects, func(o object) bool { return !o.exists() })
		if len(objects) > 0 {
			errs = append(errs, fmt.Errorf("the kernel still has %v of the module", objects))
		}
		if err = errors.Join(errs...); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
