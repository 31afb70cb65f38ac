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
	"context"
	"errors"
	"fmt"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/goruntime"
)

// Work is a kind of work that a process does, such as merging files. Events are attributed to it.
type Work struct {
	// Name is the value of the label work.
	Name string
	// Catalog is the value of the label catalog: the kind of data that the work deals with. It may be empty.
	Catalog string
}

// The works that every process has.
var (
	// WorkOther is work that matches no label and no rule, or that cannot be determined.
	WorkOther = Work{Name: "other"}
	// WorkRuntime is what the Go runtime does on behalf of no goroutine, or in its own goroutines.
	WorkRuntime = Work{Name: "runtime"}
)

// WorkRule assigns a work to goroutines by the function that they were started with.
type WorkRule struct {
	// Function is a substring of the function's name, such as "trace.(*tsTable).mergeLoop".
	Function string
	// Work is the work of these goroutines.
	Work Work
}

// Works determine the work of a goroutine. The first match applies: a rule of Loops, a label of Labels, a rule of
// Functions, WorkRuntime for functions of the runtime, and otherwise WorkOther. They must not be changed after Open.
type Works struct {
	// Labels are the labels that goroutines set with WorkLabel.Do, at most 32.
	Labels []*WorkLabel
	// Loops are rules for functions that always do the same work. They take precedence over Labels, since a goroutine
	// inherits the labels of the one that starts it.
	Loops []WorkRule
	// Functions are rules for goroutines without a label of Labels.
	Functions []WorkRule
	// Receipts are those of Labels whose pieces of work get a receipt, by DoWithReceipt, at most 4.
	Receipts []*WorkLabel
	// Files returns what a file holds, by its path. In the path, what is numbered is left out: it is a name that begins
	// with a digit, except for an extension (#.seg), and what follows seg- and shard- (shard-#). Of a file's name whose
	// extension begins with t, the rest is * (*.tf). A name is cut after 32 bytes, an extension after 3; only the last 10 names
	// are there. It is called once for each different path, from the goroutine that takes a snapshot. If it is nil,
	// nothing is counted by file.
	Files func(path string) File
}

// WorkLabel marks goroutines with a work by means of profiler labels, so that CPU profiles show it, too. It is safe for
// concurrent use.
type WorkLabel struct {
	labels   context.Context
	work     Work
	receipts atomic.Pointer[receiptsOf] // nil unless an Observer gives receipts
}

// NewWorkLabel returns a label for a work. Create one per work, once, and add it to Options.Works: a WorkLabel that is
// not listed there has no effect on attribution.
func NewWorkLabel(work Work) *WorkLabel {
	l := &WorkLabel{work: work}
	l.labels = l.newSet()
	return l
}

// newSet returns a context with the label's profiler labels. Each has another pointer, by which programs recognize it.
func (l *WorkLabel) newSet() context.Context {
	set := pprof.Labels("work", l.work.Name)
	if l.work.Catalog != "" {
		set = pprof.Labels("work", l.work.Name, "catalog", l.work.Catalog)
	}
	return pprof.WithLabels(context.Background(), set)
}

// Do calls f and attributes the events that f causes to the label's work. Goroutines that f starts are included for as
// long as they live. Afterwards, the calling goroutine has the profiler labels of ctx, as with pprof.Do. Do makes no
// system calls and does not allocate, whether or not the process is observed.
func (l *WorkLabel) Do(ctx context.Context, f func()) { do(ctx, l.labels, f) }

// ErrInvalidWorks is returned for Options.Works that cannot be used.
var ErrInvalidWorks = errors.New("invalid works")

// workLabels are the labels of metrics that are broken down by work. They precede the metric's other labels.
var workLabels = [...]string{"work", "catalog"}

// maxWorks limits the different works, including those that every process has: each is a series of each metric that is
// broken down by work.
const maxWorks = 64

// workNumbers is the number of works that a module counts separately (WORKS in bpf/work.h).
const workNumbers = 128

// workTableLabels is the number of slots for label sets in bpf/work.h. It is four times the number of label sets, those of
// receipts included, which limits the number of collisions.
const (
	workTableBits   = 12
	workTableLabels = 1 << workTableBits
	maxWorkLabels   = 32
)

// workTableMap is the name of the map in which a module's programs number works.
const workTableMap = "work_table"

// check returns ErrInvalidWorks if the works cannot be used.
func (w *Works) check() error {
	if len(w.Labels) > maxWorkLabels {
		return fmt.Errorf("%w: %d labels, at most %d are allowed", ErrInvalidWorks, len(w.Labels), maxWorkLabels)
	}
	if len(w.Receipts) > maxReceiptLabels {
		return fmt.Errorf("%w: receipts for %d labels, at most %d are allowed", ErrInvalidWorks, len(w.Receipts), maxReceiptLabels)
	}
	for _, label := range w.Receipts {
		if !slices.Contains(w.Labels, label) {
			return fmt.Errorf("%w: receipts for %+v, which is not in Labels", ErrInvalidWorks, label.work)
		}
	}
	all := w.all()
	if len(all) > maxWorks {
		return fmt.Errorf("%w: %d works, at most %d are allowed", ErrInvalidWorks, len(all), maxWorks)
	}
	for _, work := range all {
		if !validValue.MatchString(work.Name) || work.Catalog != "" && !validValue.MatchString(work.Catalog) {
			return fmt.Errorf("%w: %+v: use lower-case letters, digits and underscores", ErrInvalidWorks, work)
		}
	}
	return nil
}

// all returns each work once, starting with those that every process has.
func (w *Works) all() []Work {
	works := []Work{WorkOther, WorkRuntime}
	enter := func(work Work) {
		if !slices.Contains(works, work) {
			works = append(works, work)
		}
	}
	if w == nil {
		return works
	}
	for _, rule := range w.Loops {
		enter(rule.Work)
	}
	for _, label := range w.Labels {
		enter(label.work)
	}
	for _, rule := range w.Functions {
		enter(rule.Work)
	}
	return works
}

// of returns the work of goroutines that were started with a function and have a label. label is its number in Labels,
// counted from 1, or 0 for none.
func (w *Works) of(function string, label int) Work {
	if i := ruleFor(w.Loops, function); i >= 0 {
		return w.Loops[i].Work
	}
	if label > 0 && label <= len(w.Labels) {
		return w.Labels[label-1].work
	}
	if i := ruleFor(w.Functions, function); i >= 0 {
		return w.Functions[i].Work
	}
	if strings.HasPrefix(function, "runtime.") {
		return WorkRuntime
	}
	return WorkOther
}

// ruleFor returns the index of the first rule that applies, or -1.
func ruleFor(rules []WorkRule, function string) int {
	return slices.IndexFunc(rules, func(r WorkRule) bool { return strings.Contains(function, r.Function) })
}

// UnnamedWork returns the sorted functions of goroutines that have caused events but match nothing in Options.Works.
// Their events are attributed to WorkOther.
func (o *Observer) UnnamedWork() []string {
	if o.attributor == nil {
		return nil
	}
	o.attributor.mu.Lock()
	defer o.attributor.mu.Unlock()
	return slices.Clone(o.attributor.unnamed)
}

// labelsOf returns the labels of metrics that are broken down by these works.
func labelsOf(works []Work) []Label {
	labels := []Label{{Name: workLabels[0]}, {Name: workLabels[1]}}
	for _, work := range works {
		for i, value := range [...]string{work.Name, work.Catalog} {
			if !slices.Contains(labels[i].Values, value) {
				labels[i].Values = append(labels[i].Values, value)
			}
		}
	}
	return labels
}

// attributor is what is needed to attribute events to the works of this process.
type attributor struct {
	works     *Works
	all       []Work                  // in the order of a snapshot
	labels    [workTableLabels]uint64 // the programs' hash table of label sets
	constants map[string]any          // of the programs

	places      filePlaces
	byFile      bool // the programs can tell files apart
	receipts    *receiptPool
	receiptSets [][]context.Context // by label of Works.Receipts, and by slot

	mu      sync.Mutex
	unnamed []string // functions without a known work, sorted
}

// newAttributor determines how events are attributed to works, if the scope is this process. If that cannot be
// determined, it returns a warning. The error is ErrInvalidWorks.
func newAttributor(works *Works, scope kprobe.Scope) (*attributor, []Warning, error) {
	if err := works.check(); err != nil {
		return nil, nil, err
	}
	self, err := kprobe.Self()
	if err == nil && self.TGID != scope.TGID {
		return nil, nil, nil
	}
	a := &attributor{works: works, all: works.all(), receipts: newReceiptPool()}
	a.places.init(works)
	if err == nil {
		err = a.find()
	}
	if err == nil {
		return a, a.findFiles(), nil
	}
	remedy := "build the server with a version of Go that this library was tested with"
	if errors.Is(err, goruntime.ErrDenied) {
		remedy = "allow process_vm_readv(2) in the container's seccomp profile"
	}
	return nil, []Warning{{Cause: "no metric is attributed to works: " + err.Error(), Remedy: remedy}}, nil
}

// name returns the work of goroutines that were started with a function and have a label. It adds the function to unnamed
// if the work is WorkOther.
func (a *attributor) name(function string, label int) Work {
	work := a.works.of(function, label)
	if work == WorkOther {
		a.mu.Lock()
		defer a.mu.Unlock()
		if i, found := slices.BinarySearch(a.unnamed, function); !found {
			a.unnamed = slices.Insert(a.unnamed, i, function)
		}
	}
	return work
}

// index returns the position of a work in a snapshot.
func (a *attributor) index(work Work) int { return slices.Index(a.all, work) }
