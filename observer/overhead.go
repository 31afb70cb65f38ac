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

// Level is how far a module is shed, so that it costs less. Counters never decrease, whatever the level.
type Level int

// The levels, each one less than the one before. A module skips those that would change nothing.
const (
	// LevelFull counts and times everything that the options ask for.
	LevelFull Level = iota
	// LevelSampled times one in sixteen frequent events and runs iterators at every eighth Refresh; counts stay exact.
	LevelSampled
	// LevelReduced detaches the most expensive of several hooks. The metrics that only it feeds leave the schema.
	LevelReduced
	// LevelOff detaches all hooks: the module is not up, and its metrics leave the schema.
	LevelOff
)

// String returns the level's name.
func (l Level) String() string { return [...]string{"full", "sampled", "reduced", "off"}[l] }

// shedSampling is n where LevelSampled times one in n events.
const shedSampling = 16

// costs are how much more an operation costs with a module than without, by operation.
type costs map[string]cost

type cost struct{ full, sampled time.Duration }

// assumed are the costs to use if they could not be measured, at the high end of measurements on several machines
// (docs/performance.md): a module with unknown costs must keep its budget too.
var assumed = costs{
	"call":  {full: 500 * time.Nanosecond, sampled: 350 * time.Nanosecond},
	"page":  {full: 150 * time.Nanosecond, sampled: 150 * time.Nanosecond},
	"fault": {full: 500 * time.Nanosecond, sampled: 350 * time.Nanosecond},
}

// at returns the cost of an event if one in n is timed: the fixed part, and a share of the timing.
func (c cost) at(n uint32) time.Duration {
	timing := (c.full - c.sampled) * shedSampling / (shedSampling - 1)
	return c.full - timing + timing/time.Duration(n)
}

// calibrate opens a module and measures how much that adds to the operations that its metrics name. What cannot be
// measured, or is lost in noise, is left out: the module is open all the same.
func calibrate(measure work.Measure, o *Observer, open func()) costs {
	// Which operations matter is known only when it is open, so all are measured before.
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
			// The module is closed soon, and nothing else in it is timed.
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

// accountsOf returns an account for each metric of a module that has a cost, and whether some of the costs are assumed.
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

// account adds to each module's overhead what its events since the last call have cost. It needs no kernel statistics
// and makes no system call. It is called before anything that changes the cost of an event, and before the overhead is
// reported.
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
