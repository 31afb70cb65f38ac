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

package api_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
)

func base() observer.Config {
	return observer.Config{
		Modules: []string{"io", "cache"}, DisabledHooks: map[string][]string{"io": {"syscall"}},
		LatencySampling: 1, CollectInterval: 5 * time.Second, MaxOverheadPercent: 1,
	}
}

func TestDecode(t *testing.T) {
	with := func(change func(c *observer.Config)) observer.Config {
		c := base()
		change(&c)
		return c
	}
	for name, test := range map[string]struct {
		data string
		want observer.Config
	}{
		"nothing":         {"", base()},
		"only a comment":  {"# nothing\n", base()},
		"an empty object": {"{}", base()},
		"modules":         {`{"modules":["sched"]}`, with(func(c *observer.Config) { c.Modules = []string{"sched"} })},
		"no modules":      {"modules: []", with(func(c *observer.Config) { c.Modules = []string{} })},
		"no hooks":        {`{"disabled_hooks":{}}`, with(func(c *observer.Config) { c.DisabledHooks = map[string][]string{} })},
		"hooks are replaced": {
			"disabled_hooks:\n  cache: [fill]\n",
			with(func(c *observer.Config) { c.DisabledHooks = map[string][]string{"cache": {"fill"}} }),
		},
		"all in YAML": {
			"modules: [io]\ndisabled_hooks: {}\nlatency_sampling: 16\ncollect_interval: 100ms\nmax_overhead_percent: 2.5\n",
			observer.Config{
				Modules: []string{"io"}, DisabledHooks: map[string][]string{}, LatencySampling: 16,
				CollectInterval: 100 * time.Millisecond, MaxOverheadPercent: 2.5,
			},
		},
		"JSON with tabs": {"{\n\t\"latency_sampling\":\t1024,\n\t\"collect_interval\": \"1h\"\n}\n", with(func(c *observer.Config) {
			c.LatencySampling, c.CollectInterval = 1024, time.Hour
		})},
		"no limit": {"max_overhead_percent: 0", with(func(c *observer.Config) { c.MaxOverheadPercent = 0 })},
	} {
		t.Run(name, func(t *testing.T) {
			before := base()
			got, err := api.Decode(before, []byte(test.data))
			require.NoError(t, err)
			require.Equal(t, test.want, got)
			require.Equal(t, base(), before, "the old configuration does not change")
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for data, cause := range map[string]string{
		`{"modul":[]}`:                            "field modul not found",
		"modules: [io]\nmodules: [cache]":         `line 2: mapping key "modules" already defined`,
		`{"modules":["io"],"modules":["io"]}`:     `"modules" already defined`,
		`{"disabled_hooks":{"io":["a"],"io":[]}}`: "already defined",
		"modules:":                                  `"modules" has no value`,
		`{"latency_sampling":null}`:                 `"latency_sampling" has no value`,
		"modules: [io]\n---\nmodules: [io]":         "data after the document",
		`{"modules":["io"]} x`:                      "",
		"[io]":                                      "not a mapping",
		"io":                                        "not a mapping",
		"modules: {io: true}":                       "cannot unmarshal",
		"modules: [io, io]":                         `"io" is listed twice`,
		`modules: [""]`:                             "modules: a name is empty",
		"disabled_hooks: {io: [a, a]}":              `"a" of module "io" is listed twice`,
		"collect_interval: 5":                       "cannot unmarshal",
		"collect_interval: 99ms":                    "collect_interval: 99ms is out of range (100ms to 1h0m0s)",
		"collect_interval: 1h1s":                    "out of range (100ms to 1h0m0s)",
		"latency_sampling: 0":                       "latency_sampling: 0 is out of range (1 to 1024)",
		"latency_sampling: 1025":                    "latency_sampling: 1025 is out of range (1 to 1024)",
		"latency_sampling: -1":                      "cannot unmarshal",
		"latency_sampling: many":                    "cannot unmarshal",
		"max_overhead_percent: -0.1":                "is out of range (0, which is no limit, to 100)",
		"max_overhead_percent: 101":                 "max_overhead_percent: 101 is out of range (0, which is no limit, to 100)",
		"max_overhead_percent: .nan":                "is out of range (0, which is no limit, to 100)",
		"max_overhead_percent: .inf":                "is out of range (0, which is no limit, to 100)",
		"\x00":                                      "",
		"{":                                         "",
		"<<: {modules: [io]}":                       `"<<" is not allowed`,
		strings.Repeat("[", 20_000):                 "",
		"a: &a [x]\nb: [*a, *a]":                    "field a not found",
		"? {modules: [io]}\n: x":                    "cannot unmarshal",
		"collect_interval: [5s]":                    "",
		"collect_interval: 9999999999999999999999h": "cannot unmarshal",
	} {
		got, err := api.Decode(base(), []byte(data))
		require.ErrorIs(t, err, observer.ErrInvalidConfig, data)
		require.ErrorContains(t, err, cause, data)
		require.Equal(t, base(), got, data)
	}
}

// TestConfigJSON: empty values are written as empty lists, and what is written can be read.
func TestConfigJSON(t *testing.T) {
	text, err := json.Marshal(observer.Config{CollectInterval: time.Minute})
	require.NoError(t, err)
	require.JSONEq(t, `{"modules":[],"disabled_hooks":{},"latency_sampling":0,"collect_interval":"1m0s","max_overhead_percent":0}`, string(text))
	text, err = json.Marshal(base())
	require.NoError(t, err)
	got, err := api.Decode(observer.Config{}, text)
	require.NoError(t, err)
	require.Equal(t, base(), got)
}

// FuzzDecode: whatever the input, the result is valid or the configuration is unchanged, and a result that is written
// and read is the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "modules: [io, cache]\n", `{"modules":["io"],"collect_interval":"1s"}`, "disabled_hooks:\n  io: [syscall]\n",
		"latency_sampling: 16\nmax_overhead_percent: 2.5\n", "a: &a [*a]\n", "<<: {modules: [io]}", "--- {}\n--- {}\n", "{\n\t\"modules\":\t[]\n}",
		"collect_interval: !!binary NXM=", "modules: !!set {io}", "%YAML 1.2\n---\nmodules: []\n", "max_overhead_percent: .nan",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := base()
		got, err := api.Decode(before, data)
		require.True(t, maps.EqualFunc(before.DisabledHooks, base().DisabledHooks, slices.Equal) && slices.Equal(before.Modules, base().Modules))
		if err != nil {
			require.ErrorIs(t, err, observer.ErrInvalidConfig)
			require.Equal(t, base(), got)
			return
		}
		require.NoError(t, got.Validate())
		text, err := json.Marshal(got)
		require.NoError(t, err)
		again, err := api.Decode(before, text)
		require.NoError(t, err, "%s", text)
		rewritten, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(text), string(rewritten))
	})
}
