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

// Command corrupt is the banyand server with truncated probe modules: the last third of each object is missing.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"testing/fstest"

	"github.com/apache/skywalking-banyandb/banyand/metadata"
	"github.com/apache/skywalking-banyandb/banyand/observability"
	"github.com/apache/skywalking-banyandb/ebpf/bpf"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/runservice"
	"github.com/apache/skywalking-banyandb/pkg/cmdsetup"
	"github.com/apache/skywalking-banyandb/pkg/run"
	"github.com/apache/skywalking-banyandb/pkg/signal"
)

func main() {
	objects, err := corrupt(bpf.Modules(runtime.GOARCH))
	if err == nil {
		units := func(_ string, registry observability.MetricsRegistry, schemas metadata.Repo) []run.Unit {
			return []run.Unit{runservice.New(registry, observer.Options{Sources: []observer.Source{observer.Files(objects)}}).WithSchemas(schemas)}
		}
		err = cmdsetup.NewRootWithUnits(units, new(signal.Handler)).Execute()
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func corrupt(whole fs.FS) (fs.FS, error) {
	objects := fstest.MapFS{}
	names, err := observer.Files(whole).Modules()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		object, err := fs.ReadFile(whole, name+bpf.Suffix)
		if err != nil {
			return nil, err
		}
		objects[name+bpf.Suffix] = &fstest.MapFile{Data: object[:len(object)-len(object)/3]}
	}
	return objects, nil
}
