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
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// ErrInvalid is what a configuration is refused with that is malformed or has a value that is not allowed.
var ErrInvalid = errors.New("invalid configuration")

// What is allowed.
const (
	MinInterval = 100 * time.Millisecond
	MaxInterval = time.Hour
	MaxSampling = 1024
)

// Config is everything that may change at run time.
type Config struct {
	// DisabledHooks names hooks that are detached, by module.
	DisabledHooks map[string][]string `json:"disabled_hooks"`
	// Modules that count.
	Modules []string `json:"modules"`
	// CollectInterval is the time between two collections.
	CollectInterval Duration `json:"collect_interval"`
	// MaxOverheadPercent is how much of the process's CPU time each module may cost. 0 means no limit.
	MaxOverheadPercent float64 `json:"max_overhead_percent"`
	// LatencySampling has one of so many frequent events timed. 1 times all.
	LatencySampling uint32 `json:"latency_sampling"`
}

// Duration is written as text: "5s".
type Duration time.Duration

// MarshalText writes the duration as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// Decode reads a change in YAML or JSON, lays it over the configuration and validates the outcome. Fields that are absent stay;
// a list or map that is present replaces the old one. It is strict: unknown fields, duplicate keys, fields without a value and
// trailing data are errors. They wrap ErrInvalid.
func (c Config) Decode(data []byte) (Config, error) {
	changed, err := c.overlay(data)
	if err == nil {
		err = changed.Validate()
	}
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return changed, nil
}

func (c Config) overlay(data []byte) (Config, error) {
	// YAML wants no tabs between the tokens of JSON.
	if compact := new(bytes.Buffer); json.Compact(compact, data) == nil {
		data = compact.Bytes()
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return c, nil
	case err != nil:
		return c, err
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return c, errors.New("there is data behind the document")
	}
	fields := document.Content[0]
	if fields.Kind == yaml.ScalarNode && fields.Tag == "!!null" {
		return c, nil
	}
	if fields.Kind != yaml.MappingNode {
		return c, errors.New("the document is no mapping of fields to values")
	}
	seen := make(map[string]bool)
	for i := 0; i < len(fields.Content); i += 2 {
		key, value := fields.Content[i], fields.Content[i+1]
		if seen[key.Value] {
			return c, fmt.Errorf("line %d: field %q is there twice", key.Line, key.Value)
		}
		seen[key.Value] = true
		if err := c.set(key.Value, value); err != nil {
			return c, fmt.Errorf("line %d: field %q: %w", key.Line, key.Value, err)
		}
	}
	return c, nil
}

func (c *Config) set(field string, value *yaml.Node) error {
	if value.Tag == "!!null" {
		return errors.New("it has no value")
	}
	switch field {
	case "modules":
		return value.Decode(&c.Modules)
	case "disabled_hooks":
		c.DisabledHooks = nil // Otherwise it is added to.
		return value.Decode(&c.DisabledHooks)
	case "latency_sampling":
		return value.Decode(&c.LatencySampling)
	case "collect_interval":
		return value.Decode(&c.CollectInterval)
	case "max_overhead_percent":
		return value.Decode(&c.MaxOverheadPercent)
	}
	return errors.New("there is no such field; there are modules, disabled_hooks, latency_sampling, collect_interval, max_overhead_percent")
}

// Validate tells which value is not allowed, and which ones are. Whether there are such modules and hooks is not known here.
func (c Config) Validate() error {
	if interval := time.Duration(c.CollectInterval); interval < MinInterval || interval > MaxInterval {
		return fmt.Errorf("collect_interval %v: allowed is %v to %v", interval, MinInterval, MaxInterval)
	}
	if c.LatencySampling < 1 || c.LatencySampling > MaxSampling {
		return fmt.Errorf("latency_sampling %d: allowed is 1 to %d", c.LatencySampling, MaxSampling)
	}
	// It is not in the range either if it is no number.
	if !(c.MaxOverheadPercent >= 0 && c.MaxOverheadPercent <= 100) {
		return fmt.Errorf("max_overhead_percent %v: allowed is 0 (no limit) to 100", c.MaxOverheadPercent)
	}
	if err := distinct(c.Modules); err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	for module, hooks := range c.DisabledHooks {
		if err := distinct(hooks); err != nil {
			return fmt.Errorf("disabled_hooks of %q: %w", module, err)
		}
	}
	return nil
}

func distinct(names []string) error {
	for i, name := range names {
		if name == "" {
			return errors.New("a name is empty")
		}
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("%q is there twice", name)
		}
	}
	return nil
}

// MarshalJSON writes empty lists and maps as such.
func (c Config) MarshalJSON() ([]byte, error) {
	type plain Config
	c.Modules = list(c.Modules)
	if c.DisabledHooks == nil {
		c.DisabledHooks = map[string][]string{}
	}
	return json.Marshal(plain(c))
}

// list makes an empty list of none, so that JSON has [] and not null.
func list[T any](values []T) []T {
	if values == nil {
		return []T{}
	}
	return values
}
