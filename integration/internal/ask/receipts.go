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

package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Receipts are the server's queries with their receipts, of the API's /api/v1/queries.
type Receipts struct {
	Newest        []Receipt `json:"newest"`
	MostExpensive []Receipt `json:"most_expensive"`
	Refused       int       `json:"refused"`
}

// Receipt is one query, and what the kernel did for it. Times are in seconds.
type Receipt struct {
	Catalog  string             `json:"catalog"`
	Group    string             `json:"group"`
	Name     string             `json:"name"`
	Duration float64            `json:"duration_seconds"`
	Waited   float64            `json:"waited_seconds"`
	Fields   map[string]float64 `json:"receipt"`
}

// Queries returns the receipts from the eBPF API at address, host:port. It returns ErrAbsent if queries have none.
func Queries(ctx context.Context, address string) (receipts Receipts, err error) {
	page, err := get(ctx, address, "/api/v1/queries")
	if err != nil {
		return receipts, err
	}
	defer page.Close()
	if err = json.NewDecoder(page).Decode(&receipts); err != nil {
		return receipts, fmt.Errorf("decoding the receipts: %w", err)
	}
	return receipts, nil
}

// get reads a page, which must be closed. It returns ErrAbsent if the server says that it does not implement it.
func get(ctx context.Context, address, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("getting %s: %w", path, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusNotImplemented:
		err = ErrAbsent
	default:
		err = fmt.Errorf("%s answers %s", path, resp.Status)
	}
	_ = resp.Body.Close()
	return nil, err
}
