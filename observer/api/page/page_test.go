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

package page_test

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api/page"
	"github.com/apache/skywalking-banyandb/ebpf/observer/observertest"
)

var update = flag.Bool("update", false, "rewrite e2e/schema.json")

// TestFilesAreWhatThePageNames checks that the page's files are those that it refers to, and that nothing is elsewhere
// or inline, which the Content-Security-Policy would refuse.
func TestFilesAreWhatThePageNames(t *testing.T) {
	html, err := fs.ReadFile(page.Files, "index.html")
	require.NoError(t, err)
	var named []string
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`).FindAllSubmatch(html, -1) {
		named = append(named, string(m[1]))
	}
	require.Equal(t, []string{"icon.svg", "app.css", "app.js", "icon.svg", "api/v1/stats"}, named)
	require.NotRegexp(t, `<style|style=|<script>|\son[a-z]+=`, string(html))

	entries, err := fs.ReadDir(page.Files, ".")
	require.NoError(t, err)
	var have []string
	for _, e := range entries {
		have = append(have, e.Name())
	}
	require.Equal(t, []string{"app.css", "app.js", "icon.svg", "index.html"}, have)
}

// described is a metric as the fake server of the page's tests expects it.
type described struct {
	Name   string              `json:"name"`
	Module string              `json:"module"`
	Help   string              `json:"help"`
	Kind   string              `json:"kind"`
	Hooks  []string            `json:"hooks"`
	Labels []string            `json:"labels"`
	Values []map[string]string `json:"values"`
	Bounds []float64           `json:"bounds,omitempty"`
	Verify bool                `json:"verify"`
}

// TestFakeServerKnowsTheMetrics compares what the fake server serves with what the modules declare.
func TestFakeServerKnowsTheMetrics(t *testing.T) {
	metrics, err := observer.BuiltIn().Describe("io", "cache", "memory", "sched", "block")
	require.NoError(t, err)
	kinds := map[observer.Kind]string{observer.Counter: "counter", observer.Gauge: "gauge", observer.Histogram: "histogram"}
	var all []described
	place := make(map[*observer.Metric]int)
	for i := range metrics {
		m := &metrics[i]
		require.Contains(t, kinds, m.Kind)
		d := described{
			Name: m.Name, Module: m.Module, Help: m.Help, Kind: kinds[m.Kind], Hooks: m.Hooks, Labels: m.LabelNames(), Bounds: m.Bounds,
			Verify: m.Verifiable,
		}
		all = append(all, d)
		place[m] = i
	}
	s := observertest.Snapshot(metrics, make([]uint64, observertest.Words(metrics)))
	for one := range s.All() {
		d, labels := &all[place[one.Metric]], map[string]string{}
		for l, value := range one.Labels {
			labels[d.Labels[l]] = value
		}
		d.Values = append(d.Values, labels)
	}
	want, err := json.MarshalIndent(all, "", " ")
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile("e2e/schema.json", append(want, '\n'), 0o600))
	}
	have, err := os.ReadFile("e2e/schema.json")
	require.NoError(t, err)
	require.Equal(t, string(want)+"\n", string(have), "run go test ./page -update in observer/api")
}
