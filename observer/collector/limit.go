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

package collector

import (
	"sync"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// refreshInterval is the least time between two refreshes of a source, which make system calls.
const refreshInterval = time.Second

// Limit returns a source that is refreshed at most once a second, however many readers share it. In between, Refresh
// returns the last result.
func Limit(source Source) Source {
	if l, ok := source.(*limited); ok {
		return l
	}
	return &limited{Source: source}
}

type limited struct {
	Source

	mu   sync.Mutex // guards what follows
	last time.Time
	err  error
}

func (l *limited) Refresh() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.last.IsZero() || now.Sub(l.last) >= refreshInterval {
		l.last, l.err = now, l.Source.Refresh()
	}
	return l.err
}

// Ledger returns the ledger of a source that has one, such as an observer.Observer, or nil.
func Ledger(source Source) *observer.Ledger {
	if l, ok := source.(*limited); ok {
		source = l.Source
	}
	if has, ok := source.(interface{ Ledger() *observer.Ledger }); ok {
		return has.Ledger()
	}
	return nil
}
