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

// Package ext4 makes file systems in files.
package ext4

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// Make creates a sparse file of size bytes with an ext4 file system and a journal. Lazy initialization is off: the
// kernel's later writes would disturb tests that count block requests, and benchmarks.
func Make(ctx context.Context, name string, size int64) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	err = file.Truncate(size)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making a file system in %s: mkfs.ext4: %w: %s", name, err, out)
	}
	return nil
}
