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
	"path"
	"slices"
	"strings"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// fileKinds are the kinds of files of BanyanDB v0.10, by the name or its extension.
var fileKinds = []struct {
	kind  string
	names []string
}{
	{"primary", []string{"primary.bin"}},
	{"timestamps", []string{"timestamps.bin"}},
	{"fields", []string{"fv.bin"}},
	{"spans", []string{"spans.bin"}},
	{"tags", []string{".tf", ".tfm", ".tff", ".t", ".tm", ".typ", "tag.type", "traceID.filter"}},
	{"meta", []string{"meta.bin", "smeta.bin", "metadata", "metadata.json", "manifest.json", "lock"}},
	{"index", []string{".seg"}},
	{"snapshot", []string{".snp"}},
	{"wal", []string{".wal"}},
	{"tmp", []string{".tmp"}},
}

// catalogFolders are the folders of the root folder that have data.
var catalogFolders = map[string]string{
	"measure": catalogMeasure, "stream": catalogStream, "trace": catalogTrace, "property": catalogProperty, "schema-property": catalogProperty,
}

// holds returns what a file of banyand holds: <root>/<catalog>/data/<group>/seg-#/shard-#/#/<name>, and indexes in
// seg-#/sidx (of series), seg-#/shard-#/idx (of elements) and seg-#/shard-#/sidx/<rule>/# (of traces).
func holds(name string) observer.File {
	parts := strings.Split(strings.TrimPrefix(name, "/"), "/")
	at := -1
	for i := 0; i+2 < len(parts); i++ {
		if catalogFolders[parts[i]] != "" && parts[i+1] == "data" {
			at = i
		}
	}
	if at < 0 {
		return observer.File{Kind: "other"}
	}
	file := observer.File{Catalog: catalogFolders[parts[at]], Group: parts[at+2], Kind: "other"}
	inside := parts[at+3:]
	if len(inside) == 0 {
		file.Kind = "folder"
		return file
	}
	base := inside[len(inside)-1]
	shard := slices.Index(inside, "shard-#")
	index := slices.IndexFunc(inside, func(part string) bool { return part == "sidx" || part == "idx" })
	extension := path.Ext(base)
	switch {
	case index >= 0 && index == len(inside)-1, base == "#", base == "seg-#", base == "shard-#":
		file.Kind = "folder"
	case index >= 0 && inside[index] == "sidx" && shard >= 0 && shard < index:
		if file.Kind = "sidx"; extension == "" {
			file.Kind = "folder"
		}
	case index >= 0, file.Catalog == catalogProperty && extension == ".snp":
		// The snapshots of an index are part of it.
		file.Kind = "index"
	default:
		for _, of := range fileKinds {
			if slices.Contains(of.names, base) || slices.Contains(of.names, extension) {
				file.Kind = of.kind
			}
		}
	}
	return file
}
