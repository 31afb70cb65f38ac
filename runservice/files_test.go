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

package runservice

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// TestHolds checks what each file of BanyanDB is said to hold.
func TestHolds(t *testing.T) {
	for name, want := range map[string]observer.File{
		"/data/measure/data/sw_metric/seg-#/shard-#/#/primary.bin":    {Catalog: "measure", Kind: "primary", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#/timestamps.bin": {Catalog: "measure", Kind: "timestamps", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#/fv.bin":         {Catalog: "measure", Kind: "fields", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#/smeta.bin":      {Catalog: "measure", Kind: "meta", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#/*.tf":           {Catalog: "measure", Kind: "tags", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#":                {Catalog: "measure", Kind: "folder", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/shard-#/#.snp":            {Catalog: "measure", Kind: "snapshot", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/metadata":                 {Catalog: "measure", Kind: "meta", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/sidx/#.seg":               {Catalog: "measure", Kind: "index", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/sidx/#.snp":               {Catalog: "measure", Kind: "index", Group: "sw_metric"},
		"/data/measure/data/sw_metric/seg-#/sidx":                     {Catalog: "measure", Kind: "folder", Group: "sw_metric"},
		"/data/measure/data/sw_metric":                                {Catalog: "measure", Kind: "folder", Group: "sw_metric"},
		"/data/measure/data/sw_metric/lock":                           {Catalog: "measure", Kind: "meta", Group: "sw_metric"},
		"stream/data/sw_record/seg-#/shard-#/idx/#.seg":               {Catalog: "stream", Kind: "index", Group: "sw_record"},
		"stream/data/sw_record/seg-#/shard-#/#/*.tff":                 {Catalog: "stream", Kind: "tags", Group: "sw_record"},
		"/d/trace/data/sw_trace/seg-#/shard-#/#/spans.bin":            {Catalog: "trace", Kind: "spans", Group: "sw_trace"},
		"/d/trace/data/sw_trace/seg-#/shard-#/#/traceID.filter":       {Catalog: "trace", Kind: "tags", Group: "sw_trace"},
		"/d/trace/data/sw_trace/seg-#/shard-#/#/*.typ":                {Catalog: "trace", Kind: "tags", Group: "sw_trace"},
		"/d/trace/data/sw_trace/seg-#/shard-#/sidx/rule/#/keys.bin":   {Catalog: "trace", Kind: "sidx", Group: "sw_trace"},
		"/d/trace/data/sw_trace/seg-#/shard-#/sidx/rule/#":            {Catalog: "trace", Kind: "folder", Group: "sw_trace"},
		"/d/trace/data/sw_trace/seg-#/sidx/#.seg":                     {Catalog: "trace", Kind: "index", Group: "sw_trace"},
		"/d/property/data/ui/shard-#/#.seg":                           {Catalog: "property", Kind: "index", Group: "ui"},
		"/d/property/data/ui/shard-#/#.snp":                           {Catalog: "property", Kind: "index", Group: "ui"},
		"/d/schema-property/data/_schema/shard-#/#.seg":               {Catalog: "property", Kind: "index", Group: "_schema"},
		// The root may be called like a folder in it.
		"/measure/data/measure/data/sw/seg-#/metadata": {Catalog: "measure", Kind: "meta", Group: "sw"},
		"/etc/hosts": {Kind: "other"},
		"/measure":   {Kind: "other"},
		"/":          {Kind: "other"},
	} {
		require.Equal(t, want, holds(name), name)
	}
}
