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

// Package load drives a BanyanDB server as users do: it writes measures, streams and traces over gRPC and queries each
// of them, all concurrently.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
)

// ServerFlags make a server flush often enough that a run of some seconds sees flushes and merges of all three
// catalogs.
var ServerFlags = []string{
	"--measure-flush-timeout=1s", "--stream-flush-timeout=1s", "--trace-flush-timeout=1s",
	// Traces would otherwise merge only once there are eight parts of about the same size.
	"--trace-max-merge-parts=4",
}

// Options say how hard to drive the server. The zero value writes and queries with one goroutine per catalog until the
// context ends.
type Options struct {
	// Progress is called about once per second, from one goroutine, with the counts so far.
	Progress func(Stats)
	// Duration is how long to drive: after that no batch or query is begun, and those under way are waited for. Zero means
	// until the context ends, which cuts them short.
	Duration time.Duration
	// Pause is the time between two batches of a writer, and between two queries. Zero means 20 ms, which leaves some
	// CPU idle on a machine with two cores; a negative value means none.
	Pause time.Duration
	// Batch is the number of points that a writer sends before it closes its write stream. The server ingests them
	// when the stream closes. Zero means 200.
	Batch int
	// Batches is how many batches each writer sends in a round, Queries how many queries each querier makes. Zero means
	// as many as there is time for. If both are set, a round ends when all of them are done.
	Batches, Queries int
	// Rounds is the number of rounds. Zero means one. The more was written, the more a query costs: for reproducible
	// work use many rounds.
	Rounds int
}

// Stats counts what a run did since its start.
type Stats struct {
	Measure, Stream, Trace Counts
	// FirstError is the first refused point or failed query, nil if there was none.
	FirstError error
	Elapsed    time.Duration
}

// Counts are the counts of one catalog.
type Counts struct {
	// Written counts the points that the server acknowledged.
	Written uint64
	// WriteErrors counts the points that it did not acknowledge.
	WriteErrors uint64
	// Queries counts the queries that were answered, Rows the data points, elements or spans in the answers.
	Queries, Rows uint64
	// QueryErrors counts the queries that failed.
	QueryErrors uint64
}

// Total returns the sum over the catalogs.
func (s Stats) Total() Counts {
	var sum Counts
	for _, c := range []Counts{s.Measure, s.Stream, s.Trace} {
		sum.Written += c.Written
		sum.WriteErrors += c.WriteErrors
		sum.Queries += c.Queries
		sum.Rows += c.Rows
		sum.QueryErrors += c.QueryErrors
	}
	return sum
}

// Run creates the schema if needed and drives the server until the duration is over, the context ends or all work is
// done. None of these is an error. It returns an error only if the schema cannot be created; failed points and queries
// are counted.
func Run(ctx context.Context, conn grpc.ClientConnInterface, opts Options) (Stats, error) {
	if opts.Batch <= 0 {
		opts.Batch = 200
	}
	if opts.Pause == 0 {
		opts.Pause = 20 * time.Millisecond
	}
	catalogs := []catalog{newMeasures(conn), newStreams(conn), newTraces(conn)}
	if err := createSchema(ctx, conn, catalogs); err != nil {
		return Stats{}, err
	}
	driving, stop := context.WithCancel(ctx)
	defer stop()
	if opts.Duration > 0 {
		defer time.AfterFunc(opts.Duration, stop).Stop()
	}
	r := &run{opts: opts, started: time.Now(), counters: make([]counters, len(catalogs))}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for round := range max(1, opts.Rounds) {
			var workers sync.WaitGroup
			for i, c := range catalogs {
				workers.Go(func() {
					r.repeat(ctx, driving, round, opts.Batches, func(n int) error { return r.write(ctx, c, &r.counters[i], n) })
				})
				workers.Go(func() {
					r.repeat(ctx, driving, round, opts.Queries, func(n int) error { return r.query(ctx, c, &r.counters[i], n) })
				})
			}
			workers.Wait()
		}
	}()
	r.report(done)
	return r.stats(), nil
}

// run is a run in progress.
type run struct {
	started    time.Time
	firstError atomic.Pointer[error]
	counters   []counters
	opts       Options
}

type counters struct {
	written, writeErrors, queries, rows, queryErrors atomic.Uint64
}

// repeat calls step with pauses in between, until driving ends or the round's number of calls is reached. That a call
// fails because ctx has ended is not an error.
func (r *run) repeat(ctx, driving context.Context, round, times int, step func(n int) error) {
	for n := round * times; driving.Err() == nil && (times == 0 || n < (round+1)*times); n++ {
		if err := step(n); err != nil && ctx.Err() == nil {
			r.firstError.CompareAndSwap(nil, &err)
		}
		if r.opts.Pause > 0 {
			select {
			case <-driving.Done():
			case <-time.After(r.opts.Pause):
			}
		}
	}
}

// write sends one batch. Points of a batch cut short by the end of the run do not count as errors.
func (r *run) write(ctx context.Context, c catalog, count *counters, n int) error {
	acknowledged, err := c.write(ctx, n, r.opts.Batch)
	count.written.Add(uint64(acknowledged))
	if ctx.Err() == nil {
		count.writeErrors.Add(uint64(r.opts.Batch - acknowledged))
	}
	return err
}

func (r *run) query(ctx context.Context, c catalog, count *counters, n int) error {
	rows, err := c.query(ctx, n)
	switch {
	case err == nil:
		count.queries.Add(1)
		count.rows.Add(uint64(rows))
	case ctx.Err() == nil:
		count.queryErrors.Add(1)
	}
	return err
}

// report calls the progress function once per second until the workers are done.
func (r *run) report(done <-chan struct{}) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if r.opts.Progress != nil {
				r.opts.Progress(r.stats())
			}
		}
	}
}

func (r *run) stats() Stats {
	load := func(c *counters) Counts {
		return Counts{
			Written: c.written.Load(), WriteErrors: c.writeErrors.Load(),
			Queries: c.queries.Load(), Rows: c.rows.Load(), QueryErrors: c.queryErrors.Load(),
		}
	}
	stats := Stats{
		Measure: load(&r.counters[0]), Stream: load(&r.counters[1]), Trace: load(&r.counters[2]),
		Elapsed: time.Since(r.started),
	}
	if first := r.firstError.Load(); first != nil {
		stats.FirstError = *first
	}
	return stats
}

// catalog is one of the data models of the server.
type catalog interface {
	// create registers the group and the schema, unless they exist.
	create(ctx context.Context, registry schemaRegistry) error
	// write sends the n-th batch of the given size in its own write stream and returns how many points the server
	// acknowledged.
	write(ctx context.Context, n, size int) (acknowledged int, err error)
	// query makes the n-th query and returns the number of rows in its answer.
	query(ctx context.Context, n int) (rows int, err error)
}

// writeBatch sends size points, closes the stream and counts the answers that report success.
func writeBatch[Request any, Response any, Status interface {
	*Response
	GetStatus() string
}](stream grpc.BidiStreamingClient[Request, Response], size int, point func(i int) *Request) (acknowledged int, err error) {
	type outcome struct {
		err          error
		acknowledged int
	}
	// Answers are read while points are sent: neither side can buffer a whole batch.
	received := make(chan outcome, 1)
	go func() {
		var o outcome
		for {
			answer, recvErr := stream.Recv()
			if recvErr != nil {
				if !errors.Is(recvErr, io.EOF) && o.err == nil {
					o.err = recvErr
				}
				received <- o
				return
			}
			if status := Status(answer).GetStatus(); status == succeeded {
				o.acknowledged++
			} else if o.err == nil {
				o.err = fmt.Errorf("the server refused a point: %s", status)
			}
		}
	}()
	for i := range size {
		// A failed send ends the stream, and the receiver gets the error.
		if sendErr := stream.Send(point(i)); sendErr != nil {
			break
		}
	}
	closeErr := stream.CloseSend()
	o := <-received
	return o.acknowledged, errors.Join(o.err, closeErr)
}
