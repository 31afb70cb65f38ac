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

// Command ktm runs the eBPF module of BanyanDB's sidecar agent as the agent runs it, for comparison. It is compiled inside
// the agent's own tree, whose packages are internal. It reads commands from its standard input, one a line, and answers each
// with one line: numbers, or "error" and what went wrong.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/apache/skywalking-banyandb/fodc/agent/internal/ktm"
	"github.com/apache/skywalking-banyandb/fodc/agent/internal/ktm/iomonitor"
)

// preads is the agent's count of pread calls.
const preads = "ktm_sys_pread_latency_seconds_count"

func main() {
	testing.Init()
	if err := flag.Set("test.benchtime", "200ms"); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	p := &peer{}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := p.do(lines.Text())
		if err != nil {
			answer = "error " + err.Error()
		}
		fmt.Println(answer)
	}
	if p.collector != nil {
		_ = p.collector.Close()
	}
}

type peer struct {
	collector *iomonitor.Collector
}

func (p *peer) do(command string) (string, error) {
	if command != "start" && p.collector == nil {
		return "", errors.New("not started")
	}
	switch command {
	case "start":
		begin := time.Now()
		config := ktm.DefaultConfig()
		collector, err := iomonitor.New(iomonitor.CollectorConfig{Modules: config.Modules, Interval: config.Interval, EBPF: config.EBPF}, zerolog.Nop())
		if err != nil {
			return "", err
		}
		if err = collector.Start(context.Background()); err != nil {
			return "", errors.Join(err, collector.Close())
		}
		p.collector = collector
		return fmt.Sprint(time.Since(begin).Nanoseconds()), nil
	case "stop":
		err := p.collector.Close()
		p.collector = nil
		return "0", err
	case "count":
		p.collector.Collect()
		for _, m := range p.collector.GetMetrics() {
			if m.Name == preads {
				return fmt.Sprint(m.Value), nil
			}
		}
		return "", fmt.Errorf("no metric %s", preads)
	case "collect":
		r := testing.Benchmark(func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.collector.Collect()
			}
		})
		return fmt.Sprint(r.N, r.NsPerOp(), r.AllocsPerOp(), r.AllocedBytesPerOp()), nil
	}
	return "", fmt.Errorf("unknown command %q", command)
}
