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
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/work"
)

// verifyLimit is how long Open waits for the known work. A disk that takes longer does not keep a server from starting.
const verifyLimit = 10 * time.Second

// verifyTries is how often a part of the known work is done before a metric that was not exact is given up: the kernel
// sometimes does work of its own in our thread, such as reading a block of the file system. A try that was disturbed,
// by the kernel's own account, does not count; there may be disturbedTries of them.
const (
	verifyTries    = 10
	disturbedTries = 100
)

// errDisturbed means that the thread did more than the known work while it was observed, such as a page fault of the
// runtime.
var errDisturbed = errors.New("the thread did more than the known work, in every try")

// tells reports whether the metric has an expectation about a quantity of the phase.
func tells(p *work.Phase, m *Metric) bool {
	return m.expects(func(quantity string) bool {
		return slices.ContainsFunc(p.Of, func(of string) bool { return quantity == of || strings.HasPrefix(quantity, of+"_") })
	})
}

// verdicts are the results of verification by metric, or why there are none.
type verdicts struct {
	metrics map[string]MetricHealth
	costs   map[string]costs // by module
	err     error            // why nothing was verified
	warning string           // which scratch folders could not be used
}

// costsOf returns the costs of a module's operations, or nil without verification.
func (v *verdicts) costsOf(module string) costs {
	if v == nil {
		return nil
	}
	return v.costs[module]
}

// warnings returns what an operator should know about the verification as a whole.
func (v *verdicts) warnings() []Warning {
	switch {
	case v.err != nil:
		return []Warning{{
			Degraded: true,
			Cause:    "no metric is verified, and what an event costs is assumed: " + v.err.Error(),
			Remedy:   cmp.Or(kprobe.Remedy(v.err), "name a folder on the data's disk that the server may write to as scratch folder"),
		}}
	case v.warning != "":
		return []Warning{{Cause: v.warning, Remedy: "name a folder on the data's disk that the server may write to as scratch folder"}}
	}
	return nil
}

// of returns the verdict on a metric.
func (v *verdicts) of(metric *Metric) MetricHealth {
	health, ok := v.metrics[key(metric)]
	switch {
	case ok:
	case v.err != nil:
		health.Reason = v.err.Error()
	case len(metric.verify) == 0:
		health.Reason = "it cannot be provoked both safely and exactly"
	default:
		health.Reason = "the known work could not be done: is the scratch folder on a disk?"
	}
	health.Name = metric.Name
	return health
}

// key distinguishes metrics that several modules share.
func key(metric *Metric) string { return metric.Module + " " + metric.Name }

// verify opens the modules for one thread alone, lets it do known work, and compares. It does not count other threads,
// and leaves nothing behind.
func (o *Observer) verify(ctx context.Context, objects []*object, cache *btf.Cache) *verdicts {
	done, opened := make(chan *verdicts, 1), make(chan struct{})
	go func() {
		v := &verdicts{metrics: make(map[string]MetricHealth), costs: make(map[string]costs)}
		defer func() {
			// A panic in verification must not end the server.
			if fault := recover(); fault != nil {
				done <- &verdicts{err: fmt.Errorf("verification: panic: %v\n%s", fault, debug.Stack())}
			}
		}()
		warning, err := work.OnThread(o.opts.ScratchDirs, func(thread uint32, phases []work.Phase, measure work.Measure) (err error) {
			opts := o.probeOptions(cache)
			opts.Scope.TID = thread
			alone := &Observer{opts: o.opts, attributor: o.attributor}
			// After a panic too: its programs would go on counting.
			defer func() { err = errors.Join(err, alone.Close()) }()
			var names []string
			for _, object := range objects {
				names = append(names, object.name)
				v.costs[object.name] = calibrate(measure, alone, func() {
					alone.open(object, opts, nil)
				})
			}
			close(opened)
			err = alone.settle(Config{Modules: names})
			v.judge(alone, phases)
			return err
		})
		v.warning = warning
		if err != nil {
			v.err = fmt.Errorf("verification: %w", err)
		}
		done <- v
	}()
	var limit <-chan time.Time
	for {
		select {
		case v := <-done:
			return v
		case <-opened:
			limit, opened = time.After(verifyLimit), nil
		case <-ctx.Done():
			return &verdicts{err: fmt.Errorf("verification: %w", ctx.Err())}
		case <-limit:
			return &verdicts{err: fmt.Errorf("verification took longer than %s: is the scratch folder on a slow disk?", verifyLimit)}
		}
	}
}

// judge runs each phase and compares, and retries if that may help. A metric must be exact in every phase that it
// names. If a phase cannot be done, the metrics that name it stay unverified.
func (v *verdicts) judge(o *Observer, phases []work.Phase) {
	undone := make(map[string]bool)
	for _, p := range phases {
		open, differences := slices.Clone(o.schema), make(map[string]error)
		for try, disturbed := 0, 0; try < verifyTries && len(open) > 0; try++ {
			known, grown, err := o.observe(p)
			if errors.Is(err, errDisturbed) && disturbed < disturbedTries {
				disturbed++
				try--
				continue
			}
			if err != nil {
				for i := range o.schema {
					if m := &o.schema[i]; tells(&p, m) && !v.metrics[key(m)].LeftOut {
						undone[key(m)] = true
						v.metrics[key(m)] = MetricHealth{Reason: "the known work could not be done: " + p.Name + ": " + err.Error()}
					}
				}
				break
			}
			open = slices.DeleteFunc(open, func(m Metric) bool {
				if !m.names(known) {
					return true
				}
				differences[key(&m)] = compare(&m, known, grown.of(&m), grown.took)
				return differences[key(&m)] == nil
			})
		}
		for k, difference := range differences {
			if difference != nil {
				v.metrics[k] = MetricHealth{LeftOut: true, Reason: p.Name + ": " + difference.Error()}
			} else if !v.metrics[k].LeftOut && !undone[k] {
				v.metrics[k] = MetricHealth{Verified: true}
			}
		}
	}
}

// growth is what was counted during a phase: by events, and by iterators, which run after it since their own system
// calls would be among the events.
type growth struct {
	events, iterated Snapshot
	took             time.Duration
}

// of returns the snapshot to read a metric from.
func (g *growth) of(m *Metric) *Snapshot {
	if m.iterated {
		return &g.iterated
	}
	return &g.events
}

// observe does the work of a phase and returns its known quantities, and what was counted. Iterators run before and
// after it: the kernel's account must not change while they run, else the error is errDisturbed.
func (o *Observer) observe(p work.Phase) (work.Quantities, *growth, error) {
	var before Snapshot
	var g growth
	if p.Prepare != nil {
		if err := p.Prepare(); err != nil {
			return nil, nil, err
		}
	}
	// Not Refresh: it reads this thread's CPU time, which updates it beyond what the scheduler has accounted.
	iterate := func() error {
		return o.each(func(m *module) error {
			_, err := m.probes.Iterate()
			return err
		})
	}
	account := func() (work.Quantities, error) {
		if p.Account == nil {
			return nil, nil
		}
		return p.Account()
	}
	// All snapshots are taken once beforehand, so that none is allocated while counting: new memory causes page faults.
	err := errors.Join(o.Snapshot(&g.events), o.Snapshot(&g.iterated), o.Snapshot(&before))
	ahead, aheadErr := account()
	err = errors.Join(err, aheadErr, iterate(), o.Snapshot(&before))
	from, fromErr := account()
	start := time.Now()
	known, runErr := p.Run()
	g.took = time.Since(start)
	to, toErr := account()
	err = errors.Join(err, fromErr, runErr, toErr, o.Snapshot(&g.events), iterate())
	after, afterErr := account()
	err = errors.Join(err, afterErr, o.Snapshot(&g.iterated))
	if err != nil {
		return nil, nil, err
	}
	if !maps.Equal(ahead, from) || !maps.Equal(to, after) {
		return nil, nil, errDisturbed
	}
	for name := range to {
		known[name] = to[name] - from[name]
	}
	for i, word := range before.words {
		g.events.words[i] -= word
		g.iterated.words[i] -= word
	}
	o.addWholes(known, &g)
	return known, &g, nil
}

// addWholes adds the growth of the metrics that others break down by work: it is the expected growth of the latter.
func (o *Observer) addWholes(known work.Quantities, g *growth) {
	for i := range o.schema {
		part := &o.schema[i]
		for j := range o.schema {
			if m := &o.schema[j]; slices.Contains(part.PartOf, m.Name) {
				var counted, ns uint64
				for series := range m.series() {
					n, t := g.of(m).counted(m, series)
					counted, ns = counted+n, ns+t
				}
				if part.scale == nanosecond {
					counted = ns
				}
				known[part.grown(m.Name)] = counted
			}
		}
	}
}

// names reports whether the metric has an expectation about one of the known quantities.
func (m *Metric) names(known work.Quantities) bool {
	return m.expects(func(quantity string) bool { _, ok := known[quantity]; return ok })
}

// expects reports whether the metric has an expectation about a quantity for which of is true.
func (m *Metric) expects(of func(quantity string) bool) bool {
	return slices.ContainsFunc(m.verify, func(e expectation) bool { return slices.ContainsFunc(e.quantities, of) })
}

// compare returns how a metric's growth differs from the known quantities.
func compare(m *Metric, known work.Quantities, grown *Snapshot, took time.Duration) error {
	names, meant := m.LabelNames(), make([]bool, m.series())
	for _, e := range m.verify {
		var want, got, passed uint64
		for _, q := range e.quantities {
			want += known[q]
		}
		for i := range m.series() {
			if e.matches(names, m.labelValues(i)) {
				meant[i] = true
				n, ns := grown.counted(m, i)
				got, passed = got+n, passed+ns
			}
		}
		if strings.HasSuffix(e.quantities[0], "_ns") {
			// The metric is a reading of the kernel's own clock.
			if passed != want {
				return fmt.Errorf("%s: counted %s, want %s", e.quantities[0], time.Duration(passed), time.Duration(want))
			}
			continue
		}
		if err := m.differs(want, got, time.Duration(passed), took); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(e.quantities, " + "), err)
		}
	}
	for i, is := range meant {
		if n, ns := grown.counted(m, i); !is && n+ns != 0 {
			return fmt.Errorf("%s: counted although nothing was done", strings.Join(m.labelValues(i), ", "))
		}
	}
	return nil
}

// differs compares one number. The duration of the work is not known, but it is above 0 if there is any work, and at
// most the elapsed time.
func (m *Metric) differs(want, got uint64, passed, took time.Duration) error {
	if m.Kind != Counter || m.scale != nanosecond {
		if got != want {
			return fmt.Errorf("counted %d, want %d", got, want)
		}
	}
	if m.scale == nanosecond && ((passed > 0) != (want > 0) || passed > took) {
		return fmt.Errorf("%d done in %s, of which %s were counted", want, took, passed)
	}
	return nil
}

// counted returns the value of a series, or a histogram's number of values, and the nanoseconds that are counted in it.
func (s *Snapshot) counted(m *Metric, i int) (n, ns uint64) {
	one := s.series(m, i)
	if m.scale == nanosecond {
		ns = one.words[0]
	}
	switch {
	case m.Kind == Histogram:
		n = one.Count()
	case m.scale != nanosecond:
		n = one.words[0]
	}
	return n, ns
}
