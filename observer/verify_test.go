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
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/work"
)

// TestExpectations: a built-in module's expectations are parsed, with {op} for each value.
func TestExpectations(t *testing.T) {
	schema, err := BuiltIn().Describe("io")
	require.NoError(t, err)
	for i := range schema {
		if schema[i].Name == "ebpf_io_operations_total" {
			require.Contains(t, schema[i].verify, expectation{
				labels: map[string]string{"op": "pread", "result": "error"}, quantities: []string{"pread_errors"},
			})
			return
		}
	}
	t.Fatal("no such metric")
}

// TestVerifyCompare: known quantities are compared with what was counted, part by part.
func TestVerifyCompare(t *testing.T) {
	counter := Metric{
		Kind: Counter, scale: 1, width: 1, Labels: []Label{{"op", []string{"read", "write"}}, {"result", []string{"ok", "error"}}},
	}
	seconds := Metric{Kind: Counter, scale: nanosecond, width: 1}
	for _, c := range []struct {
		name, verify string
		metric       Metric
		known        work.Quantities
		counted      []uint64
		difference   string
	}{
		{"each series", "result=ok: {op}; result=error: {op}_errors", counter, work.Quantities{"read": 3, "read_errors": 1}, []uint64{3, 1, 0, 0}, ""},
		{"one too many", "result=ok: {op}; result=error: {op}_errors", counter, work.Quantities{"read": 3}, []uint64{4, 0, 0, 0}, "read: counted 4, want 3"},
		{"a series that nobody names", "op=read: read", counter, work.Quantities{"read": 3}, []uint64{2, 1, 0, 5}, "write, error: counted although nothing was done"},
		{"a sum of series", "op=read: read + other", counter, work.Quantities{"read": 2, "other": 1}, []uint64{2, 1, 0, 0}, ""},
		{"all series", "all", counter, work.Quantities{"all": 10}, []uint64{1, 2, 3, 4}, ""},
		{"some time", "calls", seconds, work.Quantities{"calls": 3}, []uint64{500}, ""},
		{"no time for something", "calls", seconds, work.Quantities{"calls": 3}, []uint64{0}, "calls: 3 done in 1µs, of which 0s were counted"},
		{"time for nothing", "calls", seconds, work.Quantities{"calls": 0}, []uint64{5}, "calls: 0 done in 1µs, of which 5ns were counted"},
		{"more time than there was", "calls", seconds, work.Quantities{"calls": 3}, []uint64{1001}, "calls: 3 done in 1µs, of which 1.001µs were counted"},
		{"the kernel's own time", "wait_ns", seconds, work.Quantities{"wait_ns": 77}, []uint64{77}, ""},
		{"another time than the kernel's", "wait_ns", seconds, work.Quantities{"wait_ns": 77}, []uint64{78}, "wait_ns: counted 78ns, want 77ns"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			c.metric.verify, err = expectations(c.verify, c.metric.Labels)
			require.NoError(t, err)
			require.True(t, c.metric.names(c.known))
			err = compare(&c.metric, c.known, &Snapshot{words: c.counted}, time.Microsecond)
			if c.difference == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.difference)
		})
	}
	for _, wrong := range []string{"op=none: read", "kind=ok: read", "op=read: Read", "op=read:", "{op} {result}"} {
		_, err := expectations(wrong, counter.Labels)
		require.Error(t, err, wrong)
	}
}

// TestVerifyUndone: a phase that cannot be done leaves the metrics that name it unverified, and does not affect others.
func TestVerifyUndone(t *testing.T) {
	metric := func(name, verify string, offset int) Metric {
		m := Metric{Name: name, Kind: Counter, scale: 1, width: 1, offset: offset}
		var err error
		m.verify, err = expectations(verify, nil)
		require.NoError(t, err)
		return m
	}
	o := &Observer{schema: []Metric{metric("failed", "read_bytes", 0), metric("done", "cached_reads", 1), metric("both", "read + cached_reads", 2)}, words: 3}
	undone := errors.New("it is not there")
	known := func() (work.Quantities, error) { return work.Quantities{"cached_reads": 0}, nil }
	for _, phases := range [][]work.Phase{
		{{Name: "calls", Of: []string{"read"}, Run: func() (work.Quantities, error) { return nil, undone }}, {Name: "cached", Of: []string{"cached_reads"}, Run: known}},
		{{Name: "cached", Of: []string{"cached_reads"}, Run: known}, {Name: "calls", Of: []string{"read"}, Prepare: func() error { return undone }}},
	} {
		v := &verdicts{metrics: make(map[string]MetricHealth)}
		v.judge(o, phases)
		reason := "the known work could not be done: calls: it is not there"
		require.Equal(t, MetricHealth{Name: "failed", Reason: reason}, v.of(&o.schema[0]))
		require.Equal(t, MetricHealth{Name: "done", Verified: true}, v.of(&o.schema[1]))
		require.Equal(t, MetricHealth{Name: "both", Reason: reason}, v.of(&o.schema[2]))
	}
}

// TestVerifyDisturbed: if the kernel's account changes between the known work and the iterators, the work is done
// again, and the metric is not blamed.
func TestVerifyDisturbed(t *testing.T) {
	m := Metric{Name: "calls", Kind: Counter, scale: 1, width: 1}
	var err error
	m.verify, err = expectations("calls", nil)
	require.NoError(t, err)
	// The account is read four times in each try: around the first iterators, and around those after the work.
	for change := range 4 {
		for _, disturbed := range []int{0, 1, disturbedTries, disturbedTries + 1} {
			o, v := &Observer{schema: []Metric{m}, words: 1}, &verdicts{metrics: make(map[string]MetricHealth)}
			tries, reads, account := 0, 0, uint64(0)
			v.judge(o, []work.Phase{{
				Of:  []string{"calls"},
				Run: func() (work.Quantities, error) { return work.Quantities{}, nil },
				Account: func() (work.Quantities, error) {
					if reads%4 == 0 {
						tries++
					}
					if reads%4 == change && tries <= disturbed {
						account++
					}
					reads++
					return work.Quantities{"calls": account}, nil
				},
			}})
			verdict := v.of(&m)
			switch {
			case change == 0:
				// It changed before anything that counts.
				require.Equal(t, MetricHealth{Name: "calls", Verified: true}, verdict)
				require.Equal(t, 1, tries)
			case change == 2:
				// It changed during the work, and nothing was counted.
				require.Equal(t, disturbed >= verifyTries, verdict.LeftOut)
			case disturbed > disturbedTries:
				require.False(t, verdict.Verified || verdict.LeftOut)
				require.Contains(t, verdict.Reason, errDisturbed.Error())
			default:
				require.Equal(t, MetricHealth{Name: "calls", Verified: true}, verdict)
				require.Equal(t, disturbed+1, tries)
			}
		}
	}
}

// TestUnitsByType: a metric that is counted in nanoseconds is in seconds, whatever its name.
func TestUnitsByType(t *testing.T) {
	for _, kind := range []Kind{Counter, Histogram} {
		m := Metric{Name: "ebpf_user_wait", Kind: kind, scale: nanosecond}
		require.Equal(t, "seconds", m.Unit())
	}
}
