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

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// settle is the pause after programs are attached or detached.
const settle = 20 * time.Millisecond

var calls = []string{ownPread, strangerPread, strangerCall, ownFill}

// callCosts measures what each tool adds to each call: tools in random order, each between two measurements with
// nothing attached. The second of these is also the first of the next tool.
func (b *bench) callCosts(ctx context.Context) error {
	own, err := startWorker("banyand", b.dir)
	if err != nil {
		return err
	}
	defer own.close()
	stranger, err := startWorker("stranger", b.dir)
	if err != nil {
		return err
	}
	defer stranger.close()
	b.results.fact("workers", fmt.Sprintf("pinned to CPU %d, SCHED_FIFO %t", workCPU, own.fifo))
	workers := map[string]*worker{ownPread: own, strangerPread: stranger, strangerCall: stranger, ownFill: own}
	sampled, classic, complete := b.options(), b.options(), b.options()
	sampled.LatencySampling, classic.Attachment, complete.DisabledHooks = 16, kprobe.Tracepoint, nil
	tools := []tool{
		empty(emptyTPBTF, "tp_btf_enter", "tp_btf_exit"),
		empty(emptyTracepoint, "tracepoint_enter", "tracepoint_exit"),
		empty(emptyPread, "pread_enter", "pread_exit"),
		empty(emptyHooks, "tp_btf_enter", "tp_btf_exit", "lookup", "fill"),
		empty(emptyFill, "fill"),
		empty(whoseFill, "fill_whose"),
		empty(clockPair, "clock_enter", "clock_exit"),
		ours(ioModule, observer.Options{Config: observer.Config{Modules: []string{ioModule}}}),
		ours(cacheModule, observer.Options{Config: observer.Config{Modules: []string{cacheModule}}}),
		ours(defaults, b.options()),
		ours(defaultsComplete, complete),
		ours(defaultsSampled, sampled),
		ours(defaultsClassic, classic),
		attributedTool(own, b.options().Modules),
	}
	if b.peer != nil {
		tools = append(tools, ktmTool(b.peer))
	}
	tools = b.usable(append(tools, bpftraceTool()), own.scope)
	return b.eachRound(ctx, "call costs", func() error {
		rand.Shuffle(len(tools), func(i, j int) { tools[i], tools[j] = tools[j], tools[i] })
		before, err := timeAll(workers)
		if err != nil {
			return err
		}
		for _, t := range tools {
			if before, err = b.costOf(t, before, workers, own.scope); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		return nil
	})
}

// usable returns the tools that can be attached here. The results say why the others cannot.
func (b *bench) usable(tools []tool, scope kprobe.Scope) []tool {
	return slices.DeleteFunc(tools, func(t tool) bool {
		a, err := t.attach(scope)
		if err == nil {
			err = a.close()
		}
		if err != nil {
			b.results.skip(t.name, err)
		}
		return err != nil
	})
}

// costOf measures one tool. It returns the times after the tool is detached.
func (b *bench) costOf(t tool, before map[string]float64, workers map[string]*worker, scope kprobe.Scope) (map[string]float64, error) {
	a, err := t.attach(scope)
	if err != nil {
		return nil, fmt.Errorf("attaching: %w", err)
	}
	time.Sleep(settle)
	with, err := timeWith(a, workers)
	if err = errors.Join(err, a.close()); err != nil {
		return nil, err
	}
	time.Sleep(settle)
	after, err := timeAll(workers)
	if err != nil {
		return nil, err
	}
	for _, call := range calls {
		b.results.add("Added/call="+call+"/tool="+t.name, parts*workSizes[call],
			value{nsAdded, added(before[call], with[call], after[call])},
			value{nsPerOp, with[call]}, value{"off-ns/op", (before[call] + after[call]) / 2})
	}
	return after, nil
}

// timeWith times all calls while a tool is attached. It fails if the tool has not counted them all.
func timeWith(a *attached, workers map[string]*worker) (map[string]float64, error) {
	if a.preads == nil {
		return timeAll(workers)
	}
	before, err := a.preads()
	if err != nil {
		return nil, err
	}
	with, err := timeAll(workers)
	if err != nil {
		return nil, err
	}
	after, err := a.preads()
	if err != nil {
		return nil, err
	}
	if want := uint64(parts * workSizes[ownPread]); after-before != want {
		return nil, fmt.Errorf("%d of %d pread calls were counted", after-before, want)
	}
	return with, nil
}

func timeAll(workers map[string]*worker) (map[string]float64, error) {
	ns := make(map[string]float64, len(calls))
	for _, call := range calls {
		var err error
		if ns[call], err = workers[call].time(call); err != nil {
			return nil, err
		}
	}
	return ns, nil
}
