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
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

var _ pflag.Value = (*hookMap)(nil)

// hookMap is a flag of hooks by module, as text "module.hook,module.hook".
type hookMap map[string][]string

// String lists the hooks.
func (h *hookMap) String() string {
	var all []string
	for _, module := range slices.Sorted(maps.Keys(*h)) {
		for _, hook := range (*h)[module] {
			all = append(all, module+"."+hook)
		}
	}
	return strings.Join(all, ",")
}

// Set reads a list, with the brackets that a list of a YAML file comes with or without.
func (h *hookMap) Set(text string) error {
	*h = make(hookMap)
	for _, name := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []", r) }) {
		module, hook, ok := strings.Cut(name, ".")
		if !ok {
			return fmt.Errorf("%q is not named module.hook", name)
		}
		(*h)[module] = append((*h)[module], hook)
	}
	return nil
}

// Type is shown in the help.
func (h *hookMap) Type() string { return "strings" }

// validate finds hooks that there are none of.
func (h *hookMap) validate(source observer.Source, known []string) error {
	for module, hooks := range *h {
		if !slices.Contains(known, module) {
			return fmt.Errorf("--ebpf-disabled-hooks: unknown module %q: allowed are %s", module, strings.Join(known, ", "))
		}
		names, err := source.Hooks(module)
		if err != nil {
			// A broken object is no fault of the flag: it is told when the module is opened.
			continue
		}
		for _, hook := range hooks {
			if !slices.Contains(names, hook) {
				return fmt.Errorf("--ebpf-disabled-hooks: module %s has no hook %q: allowed are %s", module, hook, strings.Join(names, ", "))
			}
		}
	}
	return nil
}
