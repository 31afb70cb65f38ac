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
	"iter"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// receiptSlots is how many receipts a module counts separately (RECEIPTS in bpf/work.h). Slot 0 is not used: it means
// that an event is on no receipt.
const receiptSlots = 256

// maxReceiptLabels limits the labels with receipts: each has a label set for every slot.
const maxReceiptLabels = 4

// maxReceiptFields limits what all modules together put on a receipt: those that are opened last have no room.
const maxReceiptFields = 24

// ReceiptField is one of the quantities on a receipt. A module declares them with ON_RECEIPTS.
type ReceiptField struct {
	// Name begins with the module's name, for example io_read_bytes.
	Name string
	// Unit is seconds, bytes, pages, or empty for a plain number.
	Unit string
	Help string

	scale float64
}

// Receipt is what the kernel did for one piece of work, in all goroutines that belong to it. Its zero value has no
// fields. A copy is independent of the original.
type Receipt struct {
	of     *receiptRows
	values [maxReceiptFields]uint64
}

// All iterates over the fields and their values, in the field's unit.
func (r *Receipt) All() iter.Seq2[ReceiptField, float64] {
	return func(yield func(ReceiptField, float64) bool) {
		if r.of == nil {
			return
		}
		for i, field := range r.of.fields {
			if !yield(field, scaled(float64(r.values[i]), field.scale)) {
				return
			}
		}
	}
}

// receiptRows says where the fields are counted that are counted now. It does not change.
type receiptRows struct {
	fields []ReceiptField
	at     []receiptWords // by field
}

// receiptWords is where a field is counted: for each CPU a row, and in it a word for slot 0 and one each stride.
type receiptWords struct {
	rows         [][]uint64
	word, stride int
}

// read returns the numbers of a slot.
func (r *receiptRows) read(slot int) (values [maxReceiptFields]uint64) {
	for i := range r.at {
		at := &r.at[i]
		word := at.word + slot*at.stride
		for _, row := range at.rows {
			values[i] += atomic.LoadUint64(&row[word])
		}
	}
	return values
}

// receiptPool hands out the slots. A slot that is given back goes to the end of the queue: goroutines that have
// outlived their piece of work may add to it for a while.
type receiptPool struct {
	free   chan int
	ledger Ledger

	mu   sync.RWMutex // is held while rows are read, whose memory Close unmaps
	rows *receiptRows // nil if nothing is counted now
}

func newReceiptPool() *receiptPool {
	p := &receiptPool{free: make(chan int, receiptSlots)}
	for slot := 1; slot < receiptSlots; slot++ {
		p.free <- slot
	}
	return p
}

// set changes what is counted.
func (p *receiptPool) set(rows *receiptRows) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows = rows
}

func (p *receiptPool) read(slot int) Receipt {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.rows == nil {
		return Receipt{}
	}
	return Receipt{of: p.rows, values: p.rows.read(slot)}
}

// receiptsOf is what a label needs to hand out receipts: the pool of the Observer, and the label set of each slot.
type receiptsOf struct {
	pool *receiptPool
	sets []context.Context
}

// newReceiptSets returns a label set for each slot.
func (l *WorkLabel) newReceiptSets() []context.Context {
	sets := make([]context.Context, receiptSlots)
	for slot := range sets {
		sets[slot] = l.newSet()
	}
	return sets
}

// DoWithReceipt is Do, and returns what the kernel did for f and for the goroutines that it started, up to now. The entry
// is added to the Observer's Ledger. It returns false if there is no receipt: the label is not in Works.Receipts of an
// open Observer, more pieces of work are under way than can be told apart (255), or it was changed in the meantime what
// is counted. f is called in any case. It makes no system call, and does not allocate once the Ledger is full.
//
// On Linux 7, what the kernel skipped (ModuleHealth.Missed) is not on a receipt.
func (l *WorkLabel) DoWithReceipt(ctx context.Context, about Subject, f func()) (Entry, bool) {
	of := l.receipts.Load()
	if of == nil {
		l.Do(ctx, f)
		return Entry{}, false
	}
	select {
	case slot := <-of.pool.free:
		defer func() { of.pool.free <- slot }()
		entry := Entry{Begun: time.Now(), Work: l.work, Subject: about}
		before := of.pool.read(slot)
		do(ctx, of.sets[slot], f)
		entry.Receipt = of.pool.read(slot)
		entry.Took = time.Since(entry.Begun)
		if entry.Receipt.of == nil || entry.Receipt.of != before.of {
			return Entry{}, false
		}
		for i := range entry.Receipt.values {
			entry.Receipt.values[i] -= before.values[i]
		}
		of.pool.ledger.Add(&entry)
		return entry, true
	default:
		of.pool.ledger.refused.Add(1)
		l.Do(ctx, f)
		return Entry{}, false
	}
}

// Ledger returns the entries of all pieces of work that had a receipt, or nil if events are not attributed to works.
func (o *Observer) Ledger() *Ledger {
	if o.receipts == nil {
		return nil
	}
	return &o.receipts.ledger
}

// giveReceipts makes the labels hand out receipts of this Observer.
func (a *attributor) giveReceipts() {
	for i, label := range a.works.Receipts {
		label.receipts.Store(&receiptsOf{pool: a.receipts, sets: a.receiptSets[i]})
	}
}

// stopReceipts undoes giveReceipts.
func (a *attributor) stopReceipts() {
	for _, label := range a.works.Receipts {
		if of := label.receipts.Load(); of != nil && of.pool == a.receipts {
			label.receipts.CompareAndSwap(of, nil)
		}
	}
	a.receipts.set(nil)
}

// fitReceipts returns the fields of a module for which receipts have room. The others are absent in the module's health.
func (o *Observer) fitReceipts(fields []Metric, health *ModuleHealth) []Metric {
	room := maxReceiptFields
	for _, m := range o.modules {
		room -= len(m.receipts)
	}
	fitting := min(room, len(fields))
	for _, field := range fields[fitting:] {
		health.Absent = append(health.Absent, field.Name)
	}
	return fields[:fitting]
}

// receiptRows returns the fields that are counted now.
func (o *Observer) receiptRows() *receiptRows {
	rows := &receiptRows{}
	for _, m := range o.modules {
		counted := m.counters.rows()
		if m.state.off() || counted == nil {
			continue
		}
		for i := range m.receipts {
			metric := &m.receipts[i]
			if len(metric.Hooks) > 0 && !slices.ContainsFunc(metric.Hooks, m.fed) {
				continue
			}
			rows.fields = append(rows.fields, ReceiptField{
				Name: metric.Name, Unit: metric.Unit(), Help: metric.Help, scale: metric.scale,
			})
			rows.at = append(rows.at, receiptWords{rows: counted, word: metric.parts.from, stride: metric.parts.stride})
		}
	}
	if len(rows.fields) == 0 {
		return nil
	}
	return rows
}

// do calls f with the labels of a set.
func do(ctx, set context.Context, f func()) {
	defer pprof.SetGoroutineLabels(ctx)
	pprof.SetGoroutineLabels(set) //nolint:contextcheck // its labels are set
	f()
}
