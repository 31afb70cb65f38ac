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

// Package observertest tests a probe module against its own description, for authors of modules.
//
//	func TestListen(t *testing.T) {
//		observertest.Run(t, observer.ModuleDir("."), "listen", observertest.Work{Do: func() (map[string]uint64, error) {
//			... work whose counts you know ...
//			return map[string]uint64{`ebpf_listen_accepts_total{result="taken"}`: 3}, nil
//		}})
//	}
package observertest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TB is the part of testing.TB that is needed.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Work is done several times, but by one thread at a time.
type Work struct {
	// Do does the work and returns what it must have counted, by series:
	// `ebpf_io_operations_total{op="read",result="ok"}`. For a counter that is its growth, for a gauge its value
	// afterwards, for a histogram the number of added values. A counter or histogram that is not named must not have
	// changed. Use Some for a time, and for anything else that is not known.
	Do func() (map[string]uint64, error)
	// Undo releases what Do has left open so that a gauge could be read. It may be nil.
	Undo func() error
}

// Some means that a series must have counted, but not how much.
const Some = ^uint64(0)

// tries is how often the work is done before the counts are reported as wrong: the rest of the test process may do some
// of the same.
const tries = 3

// conventions checks what Prometheus' users expect.
func conventions(m *observer.Metric) error {
	seconds, total := m.Unit() == "seconds", strings.HasSuffix(m.Name, "_total")
	base := strings.TrimSuffix(m.Name, "_total")
	switch {
	case total != (m.Kind == observer.Counter):
		return errors.New("a counter's name ends with _total, and no other name does")
	case seconds != strings.HasSuffix(base, "_seconds"):
		return errors.New("the name of a time, and no other name, ends with _seconds, or with _seconds_total")
	case m.Kind == observer.Histogram && !seconds && !strings.HasSuffix(base, "_bytes"):
		return errors.New("the name of a histogram of bytes ends with _bytes")
	case !strings.HasSuffix(m.Help, "."):
		return errors.New("the help is not a sentence: it must say what is counted, and what is not")
	}
	for _, l := range m.Labels {
		if strings.Contains(m.Name, "_"+l.Name+"_") {
			return fmt.Errorf("the name contains the label %s", l.Name)
		}
	}
	return nil
}

// CheckSchema tests the module's description of itself, by the rules of the engine and of Prometheus, and reports
// whether it is valid. It needs no eBPF and works everywhere.
func CheckSchema(t TB, source observer.Source, module string) bool {
	t.Helper()
	schema, err := source.Describe(module)
	if err != nil {
		t.Errorf("schema: %v", err)
		return false
	}
	right := true
	for i := range schema {
		if err = conventions(&schema[i]); err != nil {
			t.Errorf("schema: metric %s: %v", schema[i].Name, err)
			right = false
		}
	}
	return right
}

// value is the value of a series; for a histogram, the number of its values.
type value struct {
	n     uint64
	gauge bool
}

// values reads all series.
func values(o *observer.Observer) (map[string]value, error) {
	var s observer.Snapshot
	if err := errors.Join(o.Refresh(), o.Snapshot(&s)); err != nil {
		return nil, err
	}
	all := make(map[string]value)
	for one := range s.All() {
		v := value{n: *Word(one), gauge: one.Metric.Kind == observer.Gauge}
		if one.Metric.Kind == observer.Histogram {
			v.n = one.Count()
		}
		all[key(one.Metric.Name, one.Metric.LabelNames(), one.Labels)] = v
	}
	return all, nil
}

// key writes a series as Prometheus does.
func key(name string, names, values []string) string {
	if len(names) == 0 {
		return name
	}
	pairs := make([]string, len(names))
	for i := range names {
		pairs[i] = fmt.Sprintf("%s=%q", names[i], values[i])
	}
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// differences compares what was counted between two readings with what is wanted.
func differences(before, after map[string]value, want map[string]uint64) error {
	var errs []error
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if _, ok := after[series]; !ok {
			errs = append(errs, fmt.Errorf("%s does not exist; there are %s", series, strings.Join(slices.Sorted(maps.Keys(after)), ", ")))
		}
	}
	for _, series := range slices.Sorted(maps.Keys(after)) {
		v := after[series]
		wanted, named := want[series]
		got := v.n - before[series].n
		if v.gauge {
			got = v.n
		}
		switch {
		case v.gauge && !named:
		case wanted == Some && got > 0:
		case wanted == Some:
			errs = append(errs, fmt.Errorf("%s counted nothing", series))
		case got != wanted:
			errs = append(errs, fmt.Errorf("%s counted %d, want %d", series, got, wanted))
		}
	}
	return errors.Join(errs...)
}
