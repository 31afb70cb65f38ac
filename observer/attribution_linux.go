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
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/goruntime"
)

// byWork describes what a module counts by work, in addition to its other counters.
type byWork struct {
	rows    [][]uint64 // one entry per CPU
	updates int        // the index of struct updates in a row
	metrics []Metric   // those that are broken down by work
	files   []fileMetric
	works   *workTable
}

// A row is read again until no program has updated it in the meantime, at most maxReads times. After spins attempts,
// the reader yields before each further one. An update takes less than a microsecond, unless the machine itself is
// stopped.
const (
	maxReads = 1000
	spins    = 100
)

// scratch holds buffers for one row of a snapshot.
var scratch = sync.Pool{New: func() any { return new([]uint64) }}

// sumByWork adds up the CPUs' entries in dst, each as of a single moment. It starts over if a work was seen for the
// first time in the meantime.
func (c *counters) sumByWork(dst []uint64) {
	works := c.byWork.works
	for {
		numbers := works.known()
		if !c.sumAtOnce(dst, numbers) {
			c.sumOneByOne(dst, numbers)
		}
		if len(works.known()) == len(numbers) {
			return
		}
	}
}

// sumAtOnce reads all rows, and returns false if a program has updated one of them in the meantime.
func (c *counters) sumAtOnce(dst []uint64, numbers []numbered) bool {
	clear(dst)
	var before, after uint64
	for _, row := range c.byWork.rows {
		done, quiet := c.byWork.done(row)
		if !quiet {
			return false
		}
		before += done
	}
	for _, row := range c.byWork.rows {
		c.read(dst, row, numbers)
	}
	for _, row := range c.byWork.rows {
		done, quiet := c.byWork.done(row)
		if !quiet {
			return false
		}
		after += done
	}
	return after == before
}

// sumOneByOne reads each row repeatedly until no program has updated it during a reading.
func (c *counters) sumOneByOne(dst []uint64, numbers []numbered) {
	pooled := scratch.Get().(*[]uint64)
	defer scratch.Put(pooled)
	if len(*pooled) < c.words {
		*pooled = make([]uint64, c.words)
	}
	once := (*pooled)[:c.words]
	clear(dst)
	for _, row := range c.byWork.rows {
		for try := range maxReads {
			clear(once)
			before, quiet := c.byWork.done(row)
			c.read(once, row, numbers)
			if after, still := c.byWork.done(row); quiet && still && after == before {
				break
			}
			if try > spins {
				runtime.Gosched()
			}
		}
		for i, n := range once {
			dst[i] += n
		}
	}
}

// done returns the number of completed updates of a row, and whether none is in progress.
func (b *byWork) done(row []uint64) (uint64, bool) {
	underWay := atomic.LoadUint64(&row[b.updates])
	return atomic.LoadUint64(&row[b.updates+1]), underWay == 0
}

// read adds one row to dst.
func (c *counters) read(dst, row []uint64, numbers []numbered) {
	for _, r := range c.rest {
		load(dst[r.from:r.to], row[r.from:r.to])
	}
	for _, h := range c.histograms {
		if atomic.LoadUint64(&row[h.from])|atomic.LoadUint64(&row[h.from+1]) != 0 {
			load(dst[h.from:h.to], row[h.from:h.to])
		}
	}
	for i := range c.byWork.metrics {
		m := &c.byWork.metrics[i]
		words := m.inner() * m.width
		for _, n := range numbers {
			from, to := m.parts.from+n.number*m.parts.stride, m.offset+n.work*words
			load(dst[to:to+words], row[from:from+words])
		}
	}
	for i := range c.byWork.files {
		m := &c.byWork.files[i]
		words := m.inner * m.width
		for _, n := range numbers {
			place := n.file
			if m.withWork {
				place = n.both
			}
			from, to := m.parts.from+n.number*m.parts.stride, m.offset+place*words
			load(dst[to:to+words], row[from:from+words])
		}
	}
}

// load adds words that programs update concurrently.
func load(dst, src []uint64) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += atomic.LoadUint64(&src[i])
	}
}

// Constants of bpf/work.h.
const (
	workFirst      = 2  // lower numbers are those of WorkOther and WorkRuntime
	workProbes     = 4  // slots that are searched for a label set
	workTableShift = 48 // of a label set's number in the table of label sets
	workSlotShift  = 8  // of a receipt's slot in the number of a label set; below it is the label's number
	workPairShift  = 56 // of a label's number in a pair
	workBlock      = 64 // bytes of g that are read at once
)

// numbered is a number that a module's programs count in, and the positions of what it stands for in a snapshot. The
// numbers of works come first; the others are cells.
type numbered struct{ number, work, file, both int }

// workTable is the table in which a module's programs number works, with the works that the numbers stand for.
type workTable struct {
	memory     []byte
	pairs      []uint64
	loops      []uint64   // not 0 for pairs whose events are on no receipt
	files      *fileTable // nil if nothing is counted by file
	attributor *attributor
	numbers    atomic.Pointer[[]numbered] // the known ones
}

// fileTable is the table in which they number files and cells.
type fileTable struct {
	memory []byte
	cells  []uint64
	shapes []uint64

	mu    sync.Mutex
	names [fileNumbers]File // of the shapes; the zero value until they are needed
}

// mapWorks maps a module's table, and writes the label sets to it. The result must be closed.
func mapWorks(m *ebpf.Map, a *attributor) (*workTable, error) {
	const words = workTableLabels + 2*workNumbers
	memory, table, err := mapTable(m, words, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	copy(table, a.labels[:])
	w := &workTable{memory: memory, pairs: table[workTableLabels:][:workNumbers], loops: table[workTableLabels+workNumbers:], attributor: a}
	w.numbers.Store(&[]numbered{w.numbered(0, WorkOther, pathless[0]), w.numbered(1, WorkRuntime, pathless[0])})
	return w, nil
}

// mapFiles maps a module's table of files. close unmaps it.
func (w *workTable) mapFiles(m *ebpf.Map) error {
	const before, words = fileTags + fileNumbers, fileTags + fileNumbers + cells + fileNumbers*fileShapeWords
	memory, table, err := mapTable(m, words, unix.PROT_READ)
	if err != nil {
		return err
	}
	w.files = &fileTable{memory: memory, cells: table[before:][:cells], shapes: table[before+cells:]}
	copy(w.files.names[:], pathless[:])
	return nil
}

func mapTable(m *ebpf.Map, words, protection int) ([]byte, []uint64, error) {
	if m == nil || int(m.ValueSize()) != words*wordSize {
		return nil, nil, fmt.Errorf("the module was compiled with another version of work.h or file.h: recompile it with the current SDK")
	}
	memory, err := mapArray(m, words, protection)
	if err != nil {
		return nil, nil, err
	}
	return memory, unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), words), nil
}

// numbered returns where a snapshot counts what the programs count under a number.
func (w *workTable) numbered(number int, work Work, file File) numbered {
	n := numbered{number: number, work: w.attributor.index(work)}
	n.file, n.both = w.attributor.places.enter(file, work.Name)
	return n
}

// known returns all numbers that are assigned. It allocates only if there are new ones.
func (w *workTable) known() []numbered {
	known := *w.numbers.Load()
	if workFirst+assigned(w.pairs)+w.files.assigned() == len(known) {
		return known
	}
	all := slices.Clone(known[:workFirst])
	works := [workNumbers]Work{WorkOther, WorkRuntime}
	for i := range w.pairs {
		if pair := atomic.LoadUint64(&w.pairs[i]); pair != 0 {
			function, label := goruntime.Name(uintptr(pair&(1<<workPairShift-1))), int(pair>>workPairShift)
			works[i] = w.attributor.name(function, label)
			all = append(all, w.numbered(i, works[i], pathless[0]))
			if ruleFor(w.attributor.works.Loops, function) >= 0 {
				// A loop that a query has started keeps the query's labels.
				atomic.StoreUint64(&w.loops[i], 1)
			}
		}
	}
	for cell, pair := range w.files.all() {
		work := works[pair%workNumbers]
		if work == (Work{}) {
			// A pair that came after those that were read above: the next snapshot has both.
			continue
		}
		all = append(all, w.numbered(cell, work, w.file(int(pair/workNumbers))))
	}
	w.numbers.Store(&all)
	return all
}

// file returns what the file with a number holds.
func (w *workTable) file(number int) File {
	w.files.mu.Lock()
	defer w.files.mu.Unlock()
	name := &w.files.names[number%fileNumbers]
	if *name == (File{}) {
		*name = w.attributor.places.bound(w.attributor.works.Files(shapePath(w.files.shapes[number%fileNumbers*fileShapeWords:][:fileShapeWords])))
	}
	return *name
}

// assigned returns how many words are not 0.
func assigned(words []uint64) (n int) {
	for i := range words {
		if atomic.LoadUint64(&words[i]) != 0 {
			n++
		}
	}
	return n
}

func (f *fileTable) assigned() int {
	if f == nil {
		return 0
	}
	return assigned(f.cells)
}

// all iterates over the cells in use: the work's number, and the file's times workNumbers.
func (f *fileTable) all() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		if f == nil {
			return
		}
		for i := range f.cells {
			if pair := atomic.LoadUint64(&f.cells[i]); pair != 0 && !yield(i, pair) {
				return
			}
		}
	}
}

func (w *workTable) close() error {
	w.pairs, w.loops = nil, nil
	err := unix.Munmap(w.memory)
	if w.files != nil {
		err = errors.Join(err, unix.Munmap(w.files.memory))
	}
	return err
}

// findLayout finds where the Go runtime keeps a goroutine's labels and function. It does not change while the process runs.
var findLayout = sync.OnceValues(goruntime.Find)

// find determines by experiment how programs recognize the works.
func (a *attributor) find() error {
	layout, err := findLayout()
	if err != nil {
		return err
	}
	block := min(layout.Labels, layout.StartPC)
	if max(layout.Labels, layout.StartPC)+wordSize-block > workBlock {
		return fmt.Errorf("the labels of a goroutine are at offset %d of its g, its function at %d: too far apart", layout.Labels, layout.StartPC)
	}
	numbers := make(map[uint64]uint64) // by pointer to a label set
	enter := func(set context.Context, label, slot int) error {
		pointer, err := layout.LabelsOf(set)
		numbers[pointer] = uint64(label+1) | uint64(slot)<<workSlotShift
		return err
	}
	for i, label := range a.works.Labels {
		if err := enter(label.labels, i, 0); err != nil {
			return err
		}
	}
	for _, label := range a.works.Receipts {
		sets, i := label.newReceiptSets(), slices.Index(a.works.Labels, label)
		for slot, set := range sets[1:] {
			if err := enter(set, i, slot+1); err != nil {
				return err
			}
		}
		a.receiptSets = append(a.receiptSets, sets)
	}
	a.constants = map[string]any{
		"work_known": uint32(1), "work_mix": a.arrange(numbers), "work_g": layout.TLS, "work_m": layout.M, "work_curg": layout.CurG,
		"work_block": block, "work_block_labels": (layout.Labels - block) / wordSize, "work_block_startpc": (layout.StartPC - block) / wordSize,
	}
	return nil
}

// arrange enters label sets in the hash table that the programs search: numbers are those of the label and of the
// receipt's slot, by pointer. Most of the table stays free, but pointers that were allocated together may collide, so
// hash functions are tried until every pointer fits.
func (a *attributor) arrange(numbers map[uint64]uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15
	mix := uint64(golden)
	for !a.place(numbers, mix) {
		mix = mix*golden + 2 // odd
	}
	return mix
}

// place returns false if a pointer does not fit with this hash function.
func (a *attributor) place(numbers map[uint64]uint64, mix uint64) bool {
	clear(a.labels[:])
next:
	for pointer, number := range numbers {
		at := pointer * mix >> (64 - workTableBits)
		for probe := range uint64(workProbes) {
			if e := &a.labels[(at+probe)%workTableLabels]; *e == 0 {
				*e = pointer | number<<workTableShift
				continue next
			}
		}
		return false
	}
	return true
}

// findFiles decides whether the programs may follow paths, and returns why not.
func (a *attributor) findFiles() []Warning {
	if a.works.Files == nil {
		return nil
	}
	if err := followsPaths(); err != nil {
		return []Warning{{
			Cause:  "no metric is counted by file: " + err.Error(),
			Remedy: "use Linux 6.2 or later, or boot without kernel lockdown",
		}}
	}
	a.byFile, a.constants["file_known"] = true, uint32(1)
	return nil
}

// followsPaths returns an error if programs cannot read the kernel's memory by any pointer: they need
// bpf_probe_read_kernel, which lockdown forbids, or bpf_rdonly_cast, which Linux 6.2 has.
var followsPaths = sync.OnceValue(func() error {
	err := features.HaveProgramHelper(ebpf.Kprobe, asm.FnProbeReadKernel)
	if err == nil {
		return nil
	}
	const linux62 = 6<<16 | 2<<8
	version, versionErr := features.LinuxVersionCode()
	if versionErr == nil && version >= linux62 {
		return nil
	}
	return errors.Join(err, versionErr)
})
