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
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

var _ pflag.Value = (*moduleList)(nil)

// moduleList is the value of --ebpf-modules. Unlike pflag's string slices it understands the list of a YAML file, which
// reaches a flag as "[io cache]".
type moduleList []string

// String returns the names separated by commas.
func (l *moduleList) String() string { return strings.Join(*l, ",") }

// Set takes names that are separated by commas or spaces.
func (l *moduleList) Set(text string) error {
	*l = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", []", r) })
	return nil
}

// Type returns the word that the help text has for the value.
func (l *moduleList) Type() string { return "strings" }

func (l *moduleList) validate(known []string) error {
	allowed := strings.Join(known, ", ")
	if len(*l) == 0 {
		return fmt.Errorf("--ebpf-modules is empty: allowed are %s", allowed)
	}
	for i, name := range *l {
		if !slices.Contains(known, name) {
			return fmt.Errorf("--ebpf-modules: unknown module %q: allowed are %s", name, allowed)
		}
		if slices.Contains((*l)[:i], name) {
			return fmt.Errorf("--ebpf-modules: module %q is named twice", name)
		}
	}
	return nil
}
