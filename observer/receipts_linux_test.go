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

//go:build linux

package observer_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

var (
	bill  = observer.NewWorkLabel(observer.Work{Name: "query", Catalog: "stream"})
	other = observer.NewWorkLabel(observer.Work{Name: "query", Catalog: "trace"})
	// billedWorks give receipts.
	billedWorks = &observer.Works{
		Labels:   []*observer.WorkLabel{write, bill, other},
		Loops:    []observer.WorkRule{{Function: "observer_test.(*reader).mergeLoop", Work: observer.Work{Name: "merge"}}},
		Receipts: []*observer.WorkLabel{bill, other},
	}
)

func openBilled(t *testing.T, modules ...string) *observer.Observer {
	t.Helper()
	kprobetest.Require(t)
	o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: modules}, Works: billedWorks})
	require.NoError(t, err)
	closeAfter(t, o)
	return o
}

// fieldsOf returns the values of a receipt by name.
func fieldsOf(e observer.Entry) map[string]float64 {
	fields := make(map[string]float64)
	for field, value := range e.Receipt.All() {
		fields[field.Name] = value
	}
	return fields
}

// reader reads one file, which is in the page cache.
type reader struct {
	t  *testing.T
	fd int
}

func newReader(t *testing.T) *reader {
	t.Helper()
	fd := cold(t, fileSize)
	readAll(t, fd)
	return &reader{t: t, fd: fd}
}

// read reads size bytes n times.
func (r *reader) read(n, size int) {
	buf := make([]byte, size)
	for range n {
		if got, err := unix.Pread(r.fd, buf, 0); err != nil || got != size {
			r.t.Errorf("read %d bytes of %d: %v", got, size, err)
		}
	}
}

func (r *reader) mergeLoop(step <-chan struct{}, done chan<- struct{}) {
	for range step {
		r.read(7, 700)
		done <- struct{}{}
	}
}

// TestReceipts checks that each of 200 pieces of work that run at the same time has on its receipt what it and its
// goroutines did, exactly, again and again, and that all receipts add up to what is attributed to their works.
func TestReceipts(t *testing.T) {
	const atOnce = 200
	rounds := 5
	if os.Getenv(guest) != "" {
		rounds = 1
	}
	o := openBilled(t, "io")
	r := newReader(t)
	label := func(i int) *observer.WorkLabel { return []*observer.WorkLabel{bill, other}[i%2] }
	attributed := func() uint64 {
		var s observer.Snapshot
		require.NoError(t, o.Snapshot(&s))
		return bytesOf(&s, "query")
	}
	before, sum := attributed(), uint64(0)
	missed := o.Health().Modules[0].Missed
	for range rounds {
		var started, done sync.WaitGroup
		started.Add(atOnce)
		receipts := make([]observer.Entry, atOnce)
		for i := range atOnce {
			done.Go(func() {
				ok := false
				receipts[i], ok = label(i).DoWithReceipt(context.Background(), observer.Subject{}, func() {
					started.Done()
					started.Wait()
					var children sync.WaitGroup
					for range i % 3 {
						children.Go(func() { r.read(i, 10+i) })
					}
					r.read(2*i, 1000+i)
					children.Wait()
				})
				if !ok {
					t.Error("no receipt")
				}
			})
		}
		done.Wait()
		if t.Failed() {
			return
		}
		missed = o.Health().Modules[0].Missed - missed
		for i, receipt := range receipts {
			got := fieldsOf(receipt)
			reads, bytes := i*(2+i%3), 2*i*(1000+i)+i%3*i*(10+i)
			sum += uint64(got["io_read_bytes"])
			if missed > 0 {
				// Linux 7 skips a run while a thread is preempted in another one, and counts the skipped runs.
				require.LessOrEqual(t, got["io_reads"], float64(reads))
				require.GreaterOrEqual(t, got["io_reads"]+float64(missed), float64(reads))
				continue
			}
			require.InDelta(t, reads, got["io_reads"], 0, "piece %d", i)
			require.InDelta(t, bytes, got["io_read_bytes"], 0, "piece %d", i)
			require.GreaterOrEqual(t, got["io_operations"], got["io_reads"])
			require.Zero(t, got["io_written_bytes"])
			if i > 0 {
				require.Positive(t, got["io_read_seconds"])
			}
		}
	}
	require.Equal(t, attributed()-before, sum)
	require.Len(t, o.Ledger().Newest(), min(rounds*atOnce, 256))
	require.Zero(t, o.Ledger().Refused())
}

// TestReceiptsRefused checks when there is no receipt, and that the work is done nevertheless.
func TestReceiptsRefused(t *testing.T) {
	anyKernel(t)
	o := openBilled(t, "io")
	done := 0
	do := func(label *observer.WorkLabel, during func()) bool {
		_, ok := label.DoWithReceipt(context.Background(), observer.Subject{}, func() {
			done++
			during()
		})
		return ok
	}
	nothing := func() {}
	require.True(t, do(bill, nothing))
	require.False(t, do(write, nothing), "a label without receipts")
	require.False(t, do(bill, func() { require.NoError(t, o.Disable("io")) }), "the module was disabled meanwhile")
	require.False(t, do(bill, nothing), "nothing is counted")
	require.NoError(t, o.Enable(t.Context(), "io"))
	require.True(t, do(bill, nothing))
	require.False(t, do(bill, func() { require.NoError(t, o.Enable(t.Context(), "cache")) }), "another module was enabled meanwhile")

	// 255 at once, and one more.
	var nested func(n int)
	refused := 0
	nested = func(n int) {
		if n > 0 && !do(bill, func() { nested(n - 1) }) {
			refused++
		}
	}
	nested(256)
	require.Equal(t, 1, refused)
	require.EqualValues(t, 1, o.Ledger().Refused())
	require.Equal(t, 6+256, done)

	require.Panics(t, func() { bill.DoWithReceipt(context.Background(), observer.Subject{}, func() { panic("query") }) })
	nested(255)
	require.EqualValues(t, 1, o.Ledger().Refused(), "a panic gives the slot back")

	require.False(t, do(bill, func() { require.NoError(t, o.Close()) }), "closed meanwhile")
	require.False(t, do(bill, nothing), "closed")
}

// TestReceiptsOfLoops checks that a loop that a piece of work has started, and that has outlived it, is on no receipt.
func TestReceiptsOfLoops(t *testing.T) {
	o := openBilled(t, "io")
	r := newReader(t)
	step, done := make(chan struct{}), make(chan struct{})
	defer close(step)
	bill.DoWithReceipt(context.Background(), observer.Subject{}, func() {
		go r.mergeLoop(step, done)
		step <- struct{}{}
		<-done
	})
	// It is named.
	require.NoError(t, o.Snapshot(&observer.Snapshot{}))
	var before, after observer.Snapshot
	require.NoError(t, o.Snapshot(&before))
	// Each slot once: the loop has one of them for ever.
	for range 255 {
		receipt, ok := bill.DoWithReceipt(context.Background(), observer.Subject{}, func() {
			step <- struct{}{}
			<-done
			r.read(1, 100)
		})
		require.True(t, ok)
		require.InDelta(t, 100, fieldsOf(receipt)["io_read_bytes"], 0)
	}
	require.NoError(t, o.Snapshot(&after))
	require.Equal(t, uint64(255*7*700), bytesOf(&after, "merge")-bytesOf(&before, "merge"))
}

// bytesOf returns the bytes that a work has read.
func bytesOf(s *observer.Snapshot, work string) (bytes uint64) {
	for series := range s.All() {
		if series.Metric.Name == "ebpf_io_attributed_bytes_total" && series.Labels[0] == work && series.Labels[2] == "read" {
			bytes += uint64(series.Value())
		}
	}
	return bytes
}

// TestReceiptsCold checks the pages and the major page faults of a piece of work that reads a file which is not in the
// page cache, against mincore(2) and the kernel's account of the thread.
func TestReceiptsCold(t *testing.T) {
	o := openBilled(t, "cache", "memory")
	faults := o.Health().Modules[1].Plan.Attached("fault")
	fd := cold(t, fileSize)
	mem := mapping(t, fd, fileSize, unix.MAP_SHARED)
	buf := make([]byte, pageSize)
	quiet(t)
	evict(t, fd, fileSize)
	before := residentPages(t, fd, fileSize)
	var entry observer.Entry
	ok := false
	const touched = 10
	requireFaults(t, 0, touched, func() {
		entry, ok = bill.DoWithReceipt(context.Background(), observer.Subject{}, func() {
			for i := range touched {
				sink = mem[i*64*pageSize]
			}
			if _, err := unix.Pread(fd, buf, fileSize/2); err != nil {
				panic(err)
			}
		})
	})
	require.True(t, ok)
	got := fieldsOf(entry)
	filled := residentPages(t, fd, fileSize) - before
	require.Greater(t, filled, touched)
	require.InDelta(t, filled, got["cache_filled_pages"], 0)
	if !faults {
		require.NotContains(t, got, "memory_major_faults", "what is not counted is not on a receipt")
		return
	}
	require.InDelta(t, touched, got["memory_major_faults"], 0)
	require.Positive(t, got["memory_major_fault_seconds"])
}

// TestReceiptsCostNothing checks that a receipt makes no system call, and allocates nothing once the ledger is full.
func TestReceiptsCostNothing(t *testing.T) {
	anyKernel(t)
	openBilled(t, "io", "cache", "memory")
	ctx, f := context.Background(), func() {}
	get := func() error {
		if _, ok := bill.DoWithReceipt(ctx, observer.Subject{Group: "g"}, f); !ok {
			return os.ErrInvalid
		}
		return nil
	}
	for range 300 {
		require.NoError(t, get())
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { _ = get() }))
	requireNoSystemCall(t, callCounter(t), get)
}

func BenchmarkReceipt(b *testing.B) {
	kprobetest.Require(b)
	o, err := observer.Open(b.Context(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache", "memory"}}, Works: billedWorks})
	require.NoError(b, err)
	defer o.Close()
	for b.Loop() {
		if _, ok := bill.DoWithReceipt(b.Context(), observer.Subject{}, func() {}); !ok {
			b.Fatal("no receipt")
		}
	}
}

// TestWorksInvalidReceipts checks that receipts that cannot be given are rejected.
func TestWorksInvalidReceipts(t *testing.T) {
	var labels []*observer.WorkLabel
	for range 5 {
		labels = append(labels, observer.NewWorkLabel(observer.Work{Name: "query"}))
	}
	for want, works := range map[string]*observer.Works{
		"receipts for 5 labels, at most 4": {Labels: labels, Receipts: labels},
		"which is not in Labels":           {Receipts: labels[:1]},
	} {
		_, err := observer.Open(t.Context(), observer.Options{Works: works})
		require.ErrorIs(t, err, observer.ErrInvalidWorks)
		require.ErrorContains(t, err, want)
	}
}

// TestReceiptsFull checks that fields for which a receipt has no room are absent in the health of their module, and that
// the others are on receipts.
func TestReceiptsFull(t *testing.T) {
	anyKernel(t)
	kprobetest.Require(t)
	object, err := fs.ReadFile(bpf.Modules(runtime.GOARCH), "io"+bpf.Suffix)
	require.NoError(t, err)
	sources := []observer.Source{observer.BuiltIn()}
	for i := range 5 {
		spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
		require.NoError(t, err)
		sources = append(sources, observer.Spec(fmt.Sprint("io", i), spec))
	}
	o, err := observer.Open(t.Context(), observer.Options{
		Sources: sources, Works: billedWorks, Config: observer.Config{Modules: []string{"io", "io0", "io1", "io2", "io3", "io4"}},
	})
	require.NoError(t, err)
	closeAfter(t, o)
	r := newReader(t)
	entry, ok := bill.DoWithReceipt(context.Background(), observer.Subject{}, func() { r.read(3, 10) })
	require.True(t, ok)
	got := fieldsOf(entry)
	require.Len(t, got, 24)
	require.InDelta(t, 3, got["io_reads"], 0)
	require.InDelta(t, 3, got["io3_reads"], 0)
	require.InDelta(t, 30, got["io3_read_bytes"], 0)
	require.NotContains(t, got, "io4_read_bytes")
	modules := o.Health().Modules
	require.NotContains(t, modules[4].Absent, "io3_written_bytes")
	require.Contains(t, modules[4].Absent, "io3_read_seconds", "the 25th")
	require.Contains(t, modules[5].Absent, "io4_read_seconds")
}
