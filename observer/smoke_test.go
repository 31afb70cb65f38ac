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

package observer_test

import (
	"fmt"
	"testing"
	"context"
	"os"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

func TestSmoke(t *testing.T) {
	o, err := observer.Open(context.Background(), observer.Options{})
	require.NoError(t, err)
	defer o.Close()
	fmt.Print(o.Health())
	f, _ := os.Open("/proc/self/exe")
	b := make([]byte, 100)
	var s0, s1 observer.Snapshot
	o.Snapshot(&s0)
	for i := 0; i < 1234; i++ {
		unix.Pread(int(f.Fd()), b, 0)
	}
	o.Snapshot(&s1)
	for _, m := range o.Schema() {
		for i := range m.Series() {
			if m.Kind == observer.Histogram {
				fmt.Println(m.Name, m.LabelValues(i), s1.Slots(&m, i), s1.Sum(&m, i))
				continue
			}
			if v:=s1.Value(&m, i)-s0.Value(&m,i); v != 0 {
				fmt.Println(m.Name, m.LabelValues(i), v)
			}
		}
	}
}
