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
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

var updateDocument = flag.Bool("update", false, "write docs/metrics.md anew")

// TestMetricsDocument: docs/metrics.md says of each metric what its module's object says, and nothing else.
func TestMetricsDocument(t *testing.T) {
	const document = "../docs/metrics.md"
	if _, err := os.Stat("../docs"); err != nil {
		t.Skip("only the test binary is here, and not the repository")
	}
	names, err := observer.Modules(bpf.Modules("amd64"))
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString(`# Metrics

This page is written by

    go test ./observer -run TestMetricsDocument -update

from what the modules say of themselves. Do not edit it. The names are those in the group _monitoring; on /metrics each has
the prefix banyandb_. A histogram comes as three counters: _bucket with the label le, _sum and _count.
`)
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

func describeModule(t *testing.T, b *strings.Builder, name string) {
	t.Helper()
	schema, _, err := observer.Describe(bpf.Modules("amd64"), name)
	require.NoError(t, err)
	attaches := hookAttaches(t, name)
	fmt.Fprintf(b, "\n## %s\n", name)
	for _, m := range schema {
		fmt.Fprintf(b, "\n### %s\n\n%s\n\n", m.Name, m.Help)
		fmt.Fprintf(b, "- type: %s", m.Kind)
		if m.Kind == observer.Histogram {
			fmt.Fprintf(b, ", bounds from %v to %v by powers of two", m.Bounds[0], m.Bounds[len(m.Bounds)-1])
		}
		b.WriteByte('\n')
		for _, l := range m.Labels {
			fmt.Fprintf(b, "- label `%s`: %s\n", l.Name, strings.Join(l.Values, ", "))
		}
		for _, hook := range m.Hooks {
			fmt.Fprintf(b, "- hook `%s`: by %s\n", hook, strings.Join(attaches[hook], ", else "))
		}
	}
}

// hookAttaches returns the kinds of attachment of each hook, in the order in which they are tried, by the sections of the
// programs, which stand in the order of the source.
func hookAttaches(t *testing.T, module string) map[string][]string {
	t.Helper()
	object, err := fs.ReadFile(bpf.Modules("amd64"), module+bpf.Suffix)
	require.NoError(t, err)
	spec, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object))
	require.NoError(t, err)
	attaches := map[string][]string{}
	for typ, err := range spec.Types.All() {
		require.NoError(t, err)
		prog := spec.Programs[typ.TypeName()]
		if prog == nil {
			continue
		}
		hook, _, _ := strings.Cut(prog.Name, "__")
		kind, _, _ := strings.Cut(prog.SectionName, "/")
		// The return of a function goes with its entry.
		kind = strings.NewReplacer("fexit", "fentry", "kretprobe", "kprobe").Replace(kind)
		if !slices.Contains(attaches[hook], kind) {
			attaches[hook] = append(attaches[hook], kind)
		}
	}
	return attaches
}
