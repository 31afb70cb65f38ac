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
	"container/heap"
	"math/rand/v2"
	"strconv"
)

// slots is the size of a module's table of start times; the low bits of a thread's id are its index.
const slots = 4096

// idLimit is the default limit of thread ids on a machine with many CPUs.
const idLimit = 1 << 22

// collisionsName names the simulation of a number of threads, of which busy are in a traced call at once.
func collisionsName(ids string, threads, busy int) string {
	return "Collisions/ids=" + ids + "/threads=" + strconv.Itoa(threads) + "/busy=" + strconv.Itoa(busy)
}

// How thread ids are distributed.
const (
	idsInARow  = "row"
	idsAtWill  = "random"
	simulated  = 400_000 // calls
	lostPart   = "lost"
	randomSeed = 7
)

// collisions simulates which part of all calls loses its duration because another thread uses the same slot.
func (b *bench) collisions() {
	for _, threads := range collisionThreads {
		for _, busy := range collisionBusy {
			for _, ids := range []string{idsInARow, idsAtWill} {
				lost := simulate(threads, busy, ids, rand.New(rand.NewPCG(randomSeed, randomSeed)))
				b.results.add(collisionsName(ids, threads, busy), simulated, value{lostPart, lost})
			}
		}
	}
}

var (
	collisionThreads = []int{1000, 4096, 10_000}
	collisionBusy    = []int{2, 32, 256}
)

// turn is the time at which a thread begins or ends a call.
type turn struct {
	at     float64
	thread int
	in     bool
}

type turns []turn

func (t turns) Len() int           { return len(t) }
func (t turns) Less(i, j int) bool { return t[i].at < t[j].at }
func (t turns) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *turns) Push(x any)        { *t = append(*t, x.(turn)) }
func (t *turns) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// simulate makes threads call at random times, so that on average busy of them are in a call, and stores the starts as
// the modules do: a start overwrites the slot, and an end that does not find its own start is lost.
func simulate(threads, busy int, ids string, random *rand.Rand) float64 {
	slot := make([]int, slots) // the thread that has begun, plus one
	place := make([]int, threads)
	for i := range place {
		place[i] = i % slots
		if ids == idsAtWill {
			place[i] = random.IntN(idLimit) % slots
		}
	}
	// A call takes 1 on average. The pause between two calls is chosen so that busy threads are in a call.
	pause := float64(threads)/float64(busy) - 1
	var next turns
	for i := range threads {
		next = append(next, turn{at: random.ExpFloat64() * pause, thread: i})
	}
	heap.Init(&next)
	lost := 0
	for ended := 0; ended < simulated; {
		t := &next[0]
		at := &slot[place[t.thread]]
		if t.in {
			ended++
			if *at == t.thread+1 {
				*at = 0
			} else {
				lost++
			}
			t.at += random.ExpFloat64() * pause
		} else {
			*at = t.thread + 1
			t.at += random.ExpFloat64()
		}
		t.in = !t.in
		heap.Fix(&next, 0)
	}
	return float64(lost) / simulated
}
