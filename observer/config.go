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

package observer

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// ErrInvalidConfig is returned for a configuration with a value that is not allowed.
var ErrInvalidConfig = errors.New("invalid configuration")

// ErrUnknownModule is returned for the name of a module that no source provides, in a FieldError.
var ErrUnknownModule = errors.New("unknown module")

// ErrUnknownHook is returned for the name of a hook that a module does not have, in a FieldError.
var ErrUnknownHook = errors.New("unknown hook")

// Limits and defaults of a Config.
const (
	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Hour
	DefaultInterval = 5 * time.Second
	maxSampling     = 1024
)

// Config is what can be changed while an Observer is open. Flags, a file and the API fill it in, and Validate checks it.
type Config struct {
	// DisabledHooks names hooks that are detached, by module.
	DisabledHooks map[string][]string `json:"disabled_hooks" yaml:"disabled_hooks"`
	// Modules that count, in this order. For Open, none means all.
	Modules []string `json:"modules" yaml:"modules"`
	// CollectInterval is the time between two calls of Refresh, which the host makes. 0 means DefaultInterval.
	CollectInterval time.Duration `json:"collect_interval" yaml:"collect_interval"`
	// MaxOverheadPercent is how much of the process's CPU time each module may cost; a thousandth of one CPU is always
	// allowed. Refresh sheds a module that costs more, and Health reports how far. 0 means no limit.
	MaxOverheadPercent float64 `json:"max_overhead_percent" yaml:"max_overhead_percent"`
	// LatencySampling is n to time one in n frequent events, as a sample of all. Counts and bytes stay exact. 0 and 1
	// time all.
	LatencySampling uint32 `json:"latency_sampling" yaml:"latency_sampling"`
}

// FieldError reports which field of a Config has a value that is not allowed. It is an ErrInvalidConfig.
type FieldError struct {
	Err error
	// Field is the name that the field has in JSON and YAML.
	Field string
}

// Error names the field and says what is wrong with it.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns what is wrong with the field, and ErrInvalidConfig.
func (e *FieldError) Unwrap() []error { return []error{e.Err, ErrInvalidConfig} }

// Validate returns a *FieldError for each value that is not allowed, joined. Options.ValidateNames checks the names of modules and hooks.
func (c Config) Validate() error {
	var errs []error
	check := func(field string, ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, &FieldError{Field: field, Err: fmt.Errorf(format, args...)})
		}
	}
	name, twice := repeated(c.Modules)
	check("modules", !twice, "%q is listed twice", name)
	check("modules", !slices.Contains(c.Modules, ""), "a name is empty")
	for module, hooks := range c.DisabledHooks {
		name, twice = repeated(hooks)
		check("disabled_hooks", !twice, "%q of module %q is listed twice", name, module)
		check("disabled_hooks", !slices.Contains(hooks, ""), "a name of module %q is empty", module)
	}
	check("collect_interval", c.CollectInterval >= minInterval && c.CollectInterval <= maxInterval,
		"%v is out of range (%v to %v)", c.CollectInterval, minInterval, maxInterval)
	check("latency_sampling", c.LatencySampling >= 1 && c.LatencySampling <= maxSampling, "%d is out of range (1 to %d)", c.LatencySampling, maxSampling)
	// NaN is out of range too.
	check("max_overhead_percent", c.MaxOverheadPercent >= 0 && c.MaxOverheadPercent <= 100,
		"%v is out of range (0, which is no limit, to 100)", c.MaxOverheadPercent)
	return errors.Join(errs...)
}

// repeated returns a name that is listed twice.
func repeated(names []string) (string, bool) {
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return name, true
		}
	}
	return "", false
}

// normal returns the configuration in normal form: with defaults for zeros, sorted hooks, and no empty list of hooks.
func (c Config) normal() Config {
	c = c.clone()
	maps.DeleteFunc(c.DisabledHooks, func(_ string, hooks []string) bool { return len(hooks) == 0 })
	for _, hooks := range c.DisabledHooks {
		slices.Sort(hooks)
	}
	c.LatencySampling = max(1, c.LatencySampling)
	if c.CollectInterval == 0 {
		c.CollectInterval = DefaultInterval
	}
	return c
}

func (c Config) clone() Config {
	hooks := make(map[string][]string)
	for module, names := range c.DisabledHooks {
		hooks[module] = slices.Clone(names)
	}
	c.Modules, c.DisabledHooks = slices.Clone(c.Modules), hooks
	return c
}

// jsonConfig is a Config in JSON: the interval is a string such as "5s".
type jsonConfig struct {
	*plainConfig
	CollectInterval string `json:"collect_interval"`
}

type plainConfig Config

// MarshalJSON writes empty lists and maps as such, not as null.
func (c Config) MarshalJSON() ([]byte, error) {
	c = c.clone()
	if c.Modules == nil {
		c.Modules = []string{}
	}
	return json.Marshal(jsonConfig{(*plainConfig)(&c), c.CollectInterval.String()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Config) UnmarshalJSON(data []byte) error {
	read := jsonConfig{plainConfig: (*plainConfig)(c)}
	err := json.Unmarshal(data, &read)
	if err == nil && read.CollectInterval != "" {
		c.CollectInterval, err = time.ParseDuration(read.CollectInterval)
	}
	return err
}
