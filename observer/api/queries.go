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

package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
)

// queries is the response of /api/v1/queries.
type queries struct {
	// Fields describe what is on the receipts.
	Fields []receiptField `json:"fields"`
	// Newest are the last 256, the newest first.
	Newest []query `json:"newest"`
	// MostExpensive are the 32 of the last hour that waited longest in the kernel.
	MostExpensive []query `json:"most_expensive"`
	// Refused is how many have no receipt, because too many were under way at once.
	Refused uint64 `json:"refused"`
}

type receiptField struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
	Help string `json:"help"`
}

type query struct {
	Time     time.Time          `json:"time"`
	Work     string             `json:"work"`
	Catalog  string             `json:"catalog"`
	Group    string             `json:"group"`
	Name     string             `json:"name"`
	Duration float64            `json:"duration_seconds"`
	Waited   float64            `json:"waited_seconds"`
	Receipt  map[string]float64 `json:"receipt"`
}

func (a *API) getQueries(w http.ResponseWriter, r *http.Request) error {
	for name := range r.URL.Query() {
		return fail(http.StatusBadRequest, "there is no parameter %q", name)
	}
	ledger := collector.Ledger(a.source)
	if ledger == nil {
		return fmt.Errorf("there are no receipts, since events are not attributed to works; if that was requested, a warning in /health says why: %w", errors.ErrUnsupported)
	}
	q := queries{Fields: []receiptField{}, Refused: ledger.Refused()}
	known := make(map[string]bool)
	q.Newest = q.of(ledger.Newest(), known)
	q.MostExpensive = q.of(ledger.MostExpensive(time.Now()), known)
	answer(w, http.StatusOK, q)
	return nil
}

// of converts entries, and adds their fields to q.
func (q *queries) of(entries []observer.Entry, known map[string]bool) []query {
	all := make([]query, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		one := query{
			Time: e.Begun, Work: e.Work.Name, Catalog: e.Work.Catalog, Group: e.Subject.Group, Name: e.Subject.Name,
			Duration: e.Took.Seconds(), Waited: e.Waited().Seconds(), Receipt: make(map[string]float64),
		}
		for field, value := range e.Receipt.All() {
			one.Receipt[field.Name] = value
			if !known[field.Name] {
				known[field.Name] = true
				q.Fields = append(q.Fields, receiptField{Name: field.Name, Unit: field.Unit, Help: field.Help})
			}
		}
		all = append(all, one)
	}
	return all
}
