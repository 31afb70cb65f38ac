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
	"cmp"
	"iter"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Entry is a finished piece of work with its receipt.
type Entry struct {
	// Begun is when it began.
	Begun time.Time
	// Took is how long it took.
	Took time.Duration
	// Work is its kind.
	Work Work
	// Subject is what it was about.
	Subject Subject
	// Receipt is what it cost in the kernel.
	Receipt Receipt
}

// Subject is what a piece of work is about, for example the group and the name of the measure that a query reads. Both
// may be empty.
type Subject struct{ Group, Name string }

// Waited is the time that it waited in the kernel: the sum of all times on its receipt.
func (e *Entry) Waited() (sum time.Duration) {
	if of := e.Receipt.of; of != nil {
		for i := range of.fields {
			if of.fields[i].scale == nanosecond {
				sum += time.Duration(e.Receipt.values[i])
			}
		}
	}
	return sum
}

const (
	newestEntries    = 256
	expensiveEntries = 32
	// The last hour is that many periods. An entry leaves with its period.
	ledgerPeriods = 12
	ledgerPeriod  = time.Hour / ledgerPeriods
)

// Ledger keeps the newest entries, the most expensive ones of the last hour, and the distributions of all values. An
// Observer has one. It is safe for concurrent use. Its zero value is ready for use.
type Ledger struct {
	refused atomic.Uint64 // pieces of work that found no free slot

	mu      sync.Mutex // guards what follows
	newest  []Entry    // a ring
	next    int        // the place of the oldest in a full ring
	periods [ledgerPeriods]period
	sums    map[distribution]*distributed
}

// period has the most expensive entries that ended in it.
type period struct {
	number  int64
	entries []Entry
	waited  []time.Duration // of each entry
}

// distribution is a histogram of what a field of a work's receipts had.
type distribution struct {
	work  Work
	field string
}

type distributed struct {
	metric Metric
	words  []uint64
}

// Add adds an entry. It allocates only until the ledger is full.
func (l *Ledger) Add(e *Entry) {
	waited := e.Waited()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.newest) < newestEntries {
		l.newest = append(l.newest, *e)
	} else {
		l.newest[l.next] = *e
		l.next = (l.next + 1) % newestEntries
	}
	l.addExpensive(e, waited)
	l.distribute(e.Work, ReceiptField{Name: "duration_seconds", Unit: unitSeconds, Help: "How long it took.", scale: nanosecond}, uint64(e.Took))
	if of := e.Receipt.of; of != nil {
		for i, field := range of.fields {
			l.distribute(e.Work, field, e.Receipt.values[i])
		}
	}
}

func (l *Ledger) addExpensive(e *Entry, waited time.Duration) {
	number := periodOf(e.Begun.Add(e.Took))
	p := &l.periods[number%ledgerPeriods]
	if p.number != number {
		*p = period{number: number, entries: p.entries[:0], waited: p.waited[:0]}
	}
	if len(p.entries) < expensiveEntries {
		p.entries, p.waited = append(p.entries, *e), append(p.waited, waited)
		return
	}
	least := slices.Index(p.waited, slices.Min(p.waited))
	if waited > p.waited[least] {
		p.entries[least], p.waited[least] = *e, waited
	}
}

func periodOf(t time.Time) int64 { return t.UnixNano() / int64(ledgerPeriod) }

// The bounds of distributions are the powers of four from 1 microsecond, 1 KiB, or else 1.
const ledgerBounds = 14

func (l *Ledger) distribute(work Work, field ReceiptField, value uint64) {
	first := 0
	if field.Unit == unitSeconds || field.Unit == unitBytes {
		first = 10
	}
	key := distribution{work, field.Name}
	d := l.sums[key]
	if d == nil {
		d = &distributed{words: make([]uint64, 1+ledgerBounds+1), metric: Metric{
			Name: namespace + "_" + work.Name + "_" + field.Name, Kind: Histogram, Help: "Per " + work.Name + ": " + field.Help,
			Labels: []Label{{Name: workLabels[1], Values: []string{work.Catalog}}}, scale: field.scale,
		}}
		for i := range ledgerBounds {
			d.metric.Bounds = append(d.metric.Bounds, scaled(float64(uint64(1)<<(first+2*i)), field.scale))
		}
		if l.sums == nil {
			l.sums = make(map[distribution]*distributed)
		}
		l.sums[key] = d
	}
	slot := 0
	if value > 1<<first {
		slot = (bits.Len64(value-1) - first + 1) / 2
	}
	d.words[0] += value
	d.words[1+min(slot, ledgerBounds)]++
}

// Refused returns how many pieces of work have no entry because more were under way than can be told apart.
func (l *Ledger) Refused() uint64 { return l.refused.Load() }

// Newest returns the last 256 entries, the newest first.
func (l *Ledger) Newest() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Concat(l.newest[l.next:], l.newest[:l.next])
	slices.Reverse(all)
	return all
}

// MostExpensive returns the 32 entries of the last hour that waited longest in the kernel, the longest first. The hour
// ends at now, and is up to five minutes shorter.
func (l *Ledger) MostExpensive(now time.Time) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Entry
	for i := range l.periods {
		if p := &l.periods[i]; p.number > periodOf(now)-ledgerPeriods {
			all = append(all, p.entries...)
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Compare(b.Waited(), a.Waited()) })
	return all[:min(len(all), expensiveEntries)]
}

// All iterates over the distributions of what all entries so far had on their receipts, and of how long they took: a
// metric ebpf_<work>_<field> with a label catalog. Those of one metric follow each other. What it yields is a copy.
func (l *Ledger) All() iter.Seq[Series] {
	return func(yield func(Series) bool) {
		for _, d := range l.distributions() {
			if !yield(Series{Metric: &d.metric, Labels: d.metric.Labels[0].Values, words: d.words}) {
				return
			}
		}
	}
}

func (l *Ledger) distributions() []distributed {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]distributed, 0, len(l.sums))
	for _, d := range l.sums {
		all = append(all, distributed{metric: d.metric, words: slices.Clone(d.words)})
	}
	slices.SortFunc(all, func(a, b distributed) int {
		return cmp.Or(cmp.Compare(a.metric.Name, b.metric.Name), cmp.Compare(a.metric.Labels[0].Values[0], b.metric.Labels[0].Values[0]))
	})
	return all
}
