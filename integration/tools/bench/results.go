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
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// results are samples in the order in which they were taken: the first of each quantity belong to the first round. They
// are written in the format of benchstat.
type results struct {
	facts   []fact // about the machine and the run
	lines   []line
	samples map[quantity][]float64
}

// fact is a key and a value, written before the samples.
type fact struct{ key, value string }

// line is one measurement, of one or more values.
type line struct {
	name   string
	values []value
	n      int
}

type value struct {
	unit string
	is   float64
}

// value returns the value of a unit, if the measurement has it.
func (l line) value(unit string) (float64, bool) {
	i := slices.IndexFunc(l.values, func(v value) bool { return v.unit == unit })
	if i < 0 {
		return 0, false
	}
	return l.values[i].is, true
}

// quantity is what is measured: a name such as Added/call=own-pread/tool=default, and a unit.
type quantity struct{ name, unit string }

const prefix = "Benchmark"

// skipped is the prefix of the key of a fact that says why something was not measured.
const skipped = "skipped-"

func (r *results) fact(key, value string) {
	r.facts = append(r.facts, fact{key: key, value: oneLine(value)})
}

// skip records why a part is missing.
func (r *results) skip(part string, reason error) { r.fact(skipped+part, reason.Error()) }

// get returns the first fact of the key, empty if there is none.
func (r *results) get(key string) string {
	i := slices.IndexFunc(r.facts, func(f fact) bool { return f.key == key })
	if i < 0 {
		return ""
	}
	return r.facts[i].value
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// add appends a measurement of n operations.
func (r *results) add(name string, n int, values ...value) {
	r.lines = append(r.lines, line{name: name, n: n, values: values})
	if r.samples == nil {
		r.samples = make(map[quantity][]float64)
	}
	for _, v := range values {
		q := quantity{name: name, unit: v.unit}
		r.samples[q] = append(r.samples[q], v.is)
	}
}

func (r *results) of(q quantity) []float64 { return r.samples[q] }

// write writes the results in the format of benchstat.
func (r *results) write(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, f := range r.facts {
		fmt.Fprintf(out, "%s: %s\n", f.key, f.value)
	}
	fmt.Fprintln(out)
	for _, l := range r.lines {
		fmt.Fprintf(out, "%s%s\t%d", prefix, l.name, l.n)
		for _, v := range l.values {
			fmt.Fprintf(out, "\t%s %s", strconv.FormatFloat(v.is, 'g', 8, 64), v.unit)
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}

// parseResults reads the output of write.
func parseResults(in io.Reader) (*results, error) {
	r := &results{}
	scanner := bufio.NewScanner(in)
	for at := 1; scanner.Scan(); at++ {
		text := scanner.Text()
		fields := strings.Fields(text)
		switch {
		case len(fields) == 0:
		case !strings.HasPrefix(text, prefix):
			key, is, ok := strings.Cut(text, ": ")
			if !ok {
				return nil, fmt.Errorf("line %d is neither a fact nor a measurement: %q", at, text)
			}
			r.fact(key, is)
		default:
			l, err := parseLine(fields)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
			r.add(l.name, l.n, l.values...)
		}
	}
	return r, scanner.Err()
}

func parseLine(fields []string) (line, error) {
	if len(fields) < 4 || len(fields)%2 != 0 {
		return line{}, fmt.Errorf("%d fields in a measurement", len(fields))
	}
	l := line{name: strings.TrimPrefix(fields[0], prefix)}
	var err error
	if l.n, err = strconv.Atoi(fields[1]); err != nil {
		return line{}, err
	}
	for i := 2; i < len(fields); i += 2 {
		is, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return line{}, err
		}
		l.values = append(l.values, value{unit: fields[i+1], is: is})
	}
	return l, nil
}
