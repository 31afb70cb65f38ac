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

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bluekeyes/go-gitdiff/gitdiff"
)

// applyPatch applies a unified diff to the files below dir. Every hunk must fit exactly.
func applyPatch(patch []byte, dir string) error {
	files, _, err := gitdiff.Parse(bytes.NewReader(patch))
	if err != nil {
		return fmt.Errorf("parsing it: %w", err)
	}
	for _, file := range files {
		path := filepath.Join(dir, filepath.FromSlash(file.NewName))
		before, readErr := os.ReadFile(path)
		if readErr != nil {
			return readErr
		}
		var after bytes.Buffer
		if err = gitdiff.Apply(&after, bytes.NewReader(before), file); err != nil {
			return fmt.Errorf("%s: %w", file.NewName, err)
		}
		if err = writeFile(path, after.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
