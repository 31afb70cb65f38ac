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
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/work"
)

// Level is how far a module is shed, so that it costs less. Counters never fall, whatever the level.
type Level int

// The levels, each one less than the one before. A module skips those that would change nothing.
const (
	// LevelFull counts and times everything that the options ask for.
	LevelFull Level = iota
	// LevelSampled times one of sixteen frequent events and runs iterators by every eighth Refresh; counts stay exact.
	LevelSampled
	// LevelReduced has the hook detached that costs most, of several. The metrics that only it feeds leave the schema.
	LevelReduced
	// LevelOff has all hooks detached: the module is not up, and its metrics leave the schema.
	LevelOff
)

// String returns the level's name.
func (l Level) String() string { return [...]string{"full", "sampled", "reduced", "off"}[l] }

// shedSampling is one of how many events LevelSampled times.
const shedSampling = 16

// costs are what an operation costs more with a module than without, by operation.
type costs map[string]cost

type cost struct{ full, sampled time.Duration }

// assumed is what operations cost more where it could not be measured, on the high side of what was measured on several
// machines (docs/performance.md): a module of which nothing is known must keep its budget too.
var assumed = costs{
	"call":  {full: 500 * time.Nanosecond, sampled: 350 * time.Nanosecond},
	"page":  {full: 150 * time.Nanosecond, sampled: 150 * time.Nanosecond},
	"fault": {full: 500 * time.Nanosecond, sampled: 350 * time.Nanosecond},
}

// at returns the cost of an event where one of n is timed: what does not depend on that, and a part of the rest.
func (c cost) at(n uint32) time.Duration {
	timing := (c.full - c.sampled) * shedSampling / (shedSampling - 1)
	return c.full - timing + timing/time.Duration(n)
}

// calibrate opens a module and measures what that costs the operations that its metrics name. What cannot be measured, or was
// lost in the noise, is left out: the module is open all the same.
func calibrate(measure work.Measure, o *Observer, open func()) costs {
	// Which operations matter is known when it is open, so all are measured before.
	before := make(map[string]time.Duration)
	for _, operation := range []string{"call", "page", "fault"} {
		if took, err := measure(operation); err == nil {
			before[operation] = took
		}
	}
	opened := len(o.modules)
	open()
	all := make(costs)
	if len(o.modules) == opened {
		return all
	}
	module := o.modules[opened]
	for _, m := range module.metrics {
		without, ok := before[m.cost]
		if _, known := all[m.cost]; !ok || known {
			continue
		}
		with, err := measure(m.cost)
		if err != nil {
			continue
		}
		if with <= without {
			continue
		}
		c := cost{full: with - without}
		c.sampled = c.full
		if probes := module.probes; probes.CanSample() && probes.SetSampling(shedSampling) == nil {
			if with, err = measure(m.cost); err == nil {
				c.sampled = min(c.full, max(0, with-without))
			}
			// The module is closed soon, and nothing else of it is timed.
			_ = probes.SetSampling(1)
		}
		all[m.cost] = c
	}
	return all
}

// account is a metric whose counts tell what its module costs.
type account struct {
	metric Metric
	each   cost
	events uint64 // that are accounted for
	spent  time.Duration
}

// accountsOf opens an account for each metric of a module that tells a cost, and tells whether some of the costs are assumed.
func accountsOf(metrics []Metric, known costs) (accounts []account, guessed bool) {
	for _, m := range metrics {
		each, ok := known[m.cost]
		if !ok {
			if each, ok = assumed[m.cost]; !ok {
				continue
			}
			guessed = true
		}
		accounts = append(accounts, account{metric: m, each: each})
	}
	return accounts, guessed
}

// account adds to each module's overhead what its events since the last call have cost. It needs no statistics of the kernel and
// makes no system call. It is called before everything that changes what an event costs, and before the overhead is told.
func (o *Observer) account() error {
	if err := o.Snapshot(&o.accounted); err != nil {
		return err
	}
	for _, m := range o.modules {
		for i := range m.accounts {
			a := &m.accounts[i]
			var events uint64
			for series := range a.metric.series() {
				n, _ := o.accounted.counted(&a.metric, series)
				events += n
			}
			grown := time.Duration(events-a.events) * a.each.at(m.state.sampling(o.config.LatencySampling))
			a.events = events
			a.spent += grown
			m.overhead += grown
		}
	}
	return nil
}
