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

//go:build linux

package observer_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// A server other than BanyanDB observes itself, and uses the values as it likes.
func Example() {
	o, err := observer.Open(context.Background(), observer.Options{Config: observer.Config{Modules: []string{"io", "cache", "sched"}}})
	var down *observer.DownError
	switch {
	case errors.As(err, &down):
		// The server continues without metrics.
		log.Printf("%v; remedy: %s", err, down.Remedy())
		return
	case err != nil:
		log.Print(err)
		return
	}
	defer o.Close()
	log.Print(o.Health())

	// Refresh reads what the kernel keeps for each task. A module that fails does not affect the others.
	if err = o.Refresh(); err != nil {
		log.Print(err)
	}
	var s observer.Snapshot // Reused, a snapshot allocates nothing the next time.
	if err = o.Snapshot(&s); err != nil {
		log.Print(err)
		return
	}
	for series := range s.All() {
		if series.Metric.Kind == observer.Histogram {
			fmt.Println(series.Metric.Name, series.Labels, series.Metric.Bounds, series.Buckets(), series.Value())
			continue
		}
		fmt.Println(series.Metric.Name, series.Labels, series.Value())
	}
}

// User modules are in a folder, or embedded in the program. A faulty one is down, and the health says why; the others
// count.
func ExampleModuleDir() {
	o, err := observer.Open(context.Background(), observer.Options{
		Sources: []observer.Source{observer.BuiltIn(), observer.ModuleDir("/etc/myserver/modules")},
	})
	if err != nil {
		log.Print(err)
		return
	}
	defer o.Close()
	for _, m := range o.Health().Modules {
		if !m.Up {
			log.Printf("%s: %s; remedy: %s", m.Name, m.Cause, m.Remedy)
		}
	}
}
