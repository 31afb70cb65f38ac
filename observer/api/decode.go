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
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// Decode reads a change in YAML or JSON, overlays it on a configuration and validates the result. Absent fields keep
// their values; a list or map that is present replaces the old one. It is strict: unknown fields, duplicate keys,
// fields without a value and trailing data are errors. Each error is an observer.ErrInvalidConfig.
func Decode(c observer.Config, data []byte) (observer.Config, error) {
	changed, err := overlay(c, data)
	if err != nil {
		return c, fmt.Errorf("%w: %w", observer.ErrInvalidConfig, err)
	}
	if err = changed.Validate(); err != nil {
		return c, err
	}
	return changed, nil
}

func overlay(c observer.Config, data []byte) (observer.Config, error) {
	// YAML does not allow tabs between the tokens of JSON.
	if compact := new(bytes.Buffer); json.Compact(compact, data) == nil {
		data = compact.Bytes()
	}
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return c, err
	}
	for _, fields := range document.Content {
		if fields.Kind != yaml.MappingNode {
			if fields.Tag == "!!null" {
				return c, nil
			}
			return c, errors.New("the document is not a mapping of fields to values")
		}
		for i := 0; i < len(fields.Content); i += 2 {
			name, value := fields.Content[i], fields.Content[i+1]
			switch {
			case name.Tag == "!!merge":
				return c, fmt.Errorf("line %d: %q is not allowed", name.Line, name.Value)
			case value.Tag == "!!null":
				return c, fmt.Errorf("line %d: field %q has no value", name.Line, name.Value)
			case name.Value == "disabled_hooks":
				c.DisabledHooks = nil // Otherwise it is added to.
			}
		}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("%w (fields: modules, disabled_hooks, latency_sampling, collect_interval, max_overhead_percent)", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, errors.New("there is data after the document")
	}
	return c, nil
}
