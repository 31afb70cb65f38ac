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

package observer_test

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

var updateDocument = flag.Bool("update", false, "rewrite docs/metrics.md")

// TestMetricsDocument: docs/metrics.md says of each metric what its module's object says, and nothing else.
func TestMetricsDocument(t *testing.T) {
	const document = "../docs/metrics.md"
	if _, err := os.Stat("../docs"); err != nil {
		t.Skip("only the test binary is here, and not the repository")
	}
	names, err := observer.Files(bpf.Modules("amd64")).Modules()
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString(`<!-- Written by: go test ./observer -run TestMetricsDocument -update. Do not edit it: the words are in observer/testdata/reading
and in the modules. -->

`)
	b.WriteString(reading(t, "README"))
	for _, name := range names {
		describeModule(t, &b, name)
	}
	if *updateDocument {
		require.NoError(t, os.WriteFile(document, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(document)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "run go test ./observer -run TestMetricsDocument -update")
}

// TestUnits: a unit is one of Prometheus', or the kernel's pages. It follows from the metric's type, and the document
// has the same one.
func TestUnits(t *testing.T) {
	allowed := []string{"", "seconds", "bytes", "pages"}
	names, err := observer.Files(bpf.Modules("amd64")).Modules()
	require.NoError(t, err)
	schema, err := observer.Files(bpf.Modules("amd64")).Describe(names...)
	require.NoError(t, err)
	var lines []string
	for _, m := range schema {
		require.Contains(t, allowed, m.Unit(), m.Name)
		lines = append(lines, strings.TrimSuffix(m.Kind.String()+", in "+m.Unit(), ", in "))
		// The name says it too.
		if m.Unit() != "" {
			require.Regexp(t, "_"+m.Unit()+"(_total)?$", m.Name)
		}
	}
	if document, err := os.ReadFile("../docs/metrics.md"); err == nil {
		var said []string
		for _, line := range regexp.MustCompile(`(?m)^- type: (\w+(, in \w+)?)`).FindAllStringSubmatch(string(document), -1) {
			said = append(said, line[1])
		}
		require.Equal(t, lines, said)
	}
	for _, c := range []struct {
		unit   string
		metric observer.Metric
	}{
		{"bytes", observer.Metric{Name: "ebpf_user_size", Kind: observer.Histogram}},
		{"pages", observer.Metric{Name: "ebpf_user_resident_pages", Kind: observer.Gauge}},
		{"", observer.Metric{Name: "ebpf_user_pages_lost_total"}},
	} {
		require.Equal(t, c.unit, c.metric.Unit(), c.metric.Name)
	}
}

// reading returns the hand-written text about a module.
func reading(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/reading/" + name + ".md")
	require.NoError(t, err)
	return string(text)
}

func describeModule(t *testing.T, b *strings.Builder, name string) {
	t.Helper()
	schema, err := observer.Files(bpf.Modules("amd64")).Describe(name)
	require.NoError(t, err)
	hooks := hooksOf(t, name)
	fmt.Fprintf(b, "\n## %s\n\n%s", name, reading(t, name))
	b.WriteString("\n| hook | attached by | costs |\n|---|---|---|\n")
	for _, h := range hooks {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", h.name, strings.Join(h.attaches, ", else "), strings.Join(h.costs, "; "))
	}
	for _, m := range schema {
		fmt.Fprintf(b, "\n### %s\n\n%s\n\n", m.Name, m.Help)
		fmt.Fprintf(b, "- type: %s", m.Kind)
		if unit := m.Unit(); unit != "" {
			b.WriteString(", in " + unit)
		}
		if m.Kind == observer.Histogram {
			fmt.Fprintf(b, ", bounds from %v to %v by powers of %v", m.Bounds[0], m.Bounds[len(m.Bounds)-1], math.Round(m.Bounds[1]/m.Bounds[0]))
		}
		b.WriteByte('\n')
		labels := m.Labels
		if m.PartOf != nil {
			fmt.Fprintf(b, "- part of: `%s`\n- labels `work` and `catalog`: see [Attribution](#attribution)\n", strings.Join(m.PartOf, "`, `"))
			labels = labels[2:]
		}
		if m.ByFile != "" {
			fmt.Fprintf(b, "- by file: `%s`, see [Files](#files)\n", m.ByFile)
		}
		for _, l := range labels {
			fmt.Fprintf(b, "- label `%s`: %s\n", l.Name, strings.Join(l.Values, ", "))
		}
		if len(m.Hooks) > 0 {
			fmt.Fprintf(b, "- hook: `%s`\n", strings.Join(m.Hooks, "`, `"))
		}
		verified := "no: it cannot be provoked both safely and exactly"
		if m.Verifiable {
			verified = "yes"
		}
		fmt.Fprintf(b, "- Linux: %s; verified at start: %s\n", m.Since, verified)
	}
}

// hook is what a module's programs declare about one of its hooks.
type hook struct {
	name            string
	attaches, costs []string
}

// costOf returns who pays for a program, and when.
func costOf(section string) string {
	kind, target, _ := strings.Cut(section, "/")
	switch kind {
	case "iter":
		return "nothing between two collections"
	case "fentry", "fexit":
		return "by fentry whoever calls the function"
	case "kprobe", "kretprobe":
		return "by kprobe whoever calls the function, some microseconds"
	}
	if strings.HasSuffix(target, "sys_enter") || strings.HasSuffix(target, "sys_exit") {
		return "by " + kind + " each system call of the host"
	}
	return "by " + kind + " each such event of the host"
}

// hooksOf reads the hooks of a module, with their kinds of attachment in the order in which they are tried. Both are in
// the sections of the programs, which are in the order of the source.
func hooksOf(t *testing.T, module string) []*hook {
	t.Helper()
	object, err := fs.ReadFile(bpf.Modules("amd64"), module+bpf.Suffix)
	require.NoError(t, err)
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	var hooks []*hook
	for typ, err := range spec.Types.All() {
		require.NoError(t, err)
		prog := spec.Programs[typ.TypeName()]
		if prog == nil {
			continue
		}
		name, _, _ := strings.Cut(prog.Name, "__")
		i := slices.IndexFunc(hooks, func(h *hook) bool { return h.name == name })
		if i < 0 {
			i = len(hooks)
			hooks = append(hooks, &hook{name: name})
		}
		h := hooks[i]
		kind, _, _ := strings.Cut(prog.SectionName, "/")
		// The return of a function goes with its entry.
		h.attaches = appendNew(h.attaches, strings.NewReplacer("fexit", "fentry", "kretprobe", "kprobe").Replace(kind))
		h.costs = appendNew(h.costs, costOf(prog.SectionName))
	}
	return hooks
}

func appendNew(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(list, text)
}
