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

// Command mutate proves that the tests bite: in a copy of the repository it breaks one line after the other on purpose,
// and wants a certain test to fail for it. A mutation that survives, or whose line is no longer there, is a failure.
//
//	mutate [-run REGEX]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/integration/checkout"
)

// mutation replaces a piece of a file, and names the package and the test that must notice.
type mutation struct {
	name, file, old, new, pkg, test string
}

var mutations = []mutation{
	{"count other processes", "bpf/probe.bpf.h", "if (pid_tgid >> 32 != scope_tgid)", "if (0)", "./observer", "TestIOOthers"},
	{"round the bucket down", "bpf/probe.bpf.h", "\tv--;\n", "", "./bpf", "TestBuckets"},
	{"shift the bucket by one", "bpf/probe.bpf.h", "\te -= le;\n", "\te -= le - 1;\n", "./bpf", "TestBuckets"},
	{"read no clock at the end", "bpf/probe.bpf.h", "((bpf_ktime_get_ns() - (word", "(((word >> TIMER_TIME_SHIFT) - (word", "./observer", "TestIOExact"},
	{"leave the start where it is", "bpf/probe.bpf.h", "\tif (!word) {\n", "\tif (1) {\n", "./observer", "TestIOExact"},
	{"take failures for successes", "bpf/io.bpf.c", "[ret < 0 ? IO_RESULT_ERROR : IO_RESULT_OK]", "[IO_RESULT_OK]", "./observer", "TestIOExact"},
	{"count calls for bytes", "bpf/io.bpf.c", "m->bytes_total[op] += ret;", "m->bytes_total[op]++;", "./observer", "TestIOExact"},
	{"take pread for read", "bpf/io.bpf.c", "[SYS_PREAD64] = IO_OP_PREAD + 1", "[SYS_PREAD64] = IO_OP_READ + 1", "./observer", "TestIOExact"},
	{"forget preadv", "bpf/io.bpf.c", "[SYS_PREADV] = IO_OP_PREADV + 1", "[SYS_PREADV] = 0", "./observer", "TestIOOtherOps"},
	{"forget the advice", "bpf/io.bpf.c", "m->fadvise_total[advice]++;", "m->fadvise_total[0]++;", "./observer", "TestIOExact"},
	{"count folios for pages", "bpf/cache.bpf.c", "memdesc->flags.f & large ? memdesc->_nr_pages : 1", "1", "./observer", "TestCacheExact"},
	{"count deletions twice", "bpf/cache.bpf.c", "m->deleted_pages_total += pages;", "m->deleted_pages_total += 2 * pages;", "./observer", "TestCacheExact"},
	{"count no lookups", "bpf/cache.bpf.c", "m->lookups_total++;", ";", "./observer", "TestCacheLookups"},
	{"take memcg for direct reclaim", "bpf/memory.bpf.c", "TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)\n{\n\treturn begin(MEMORY_KIND_MEMCG);", "TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)\n{\n\treturn begin(MEMORY_KIND_DIRECT);", "./observer", "TestMemcgReclaim"},
	{"count requests for bytes", "bpf/block.bpf.c", "[sync & 1], bytes);", "[sync & 1], 1);", "./observer", "TestBlockExact"},
	{"tell no time in the queue", "bpf/block.bpf.c", "hist_ns_wide_add_atomic(&m->queue_seconds[op], now - p->begun);", "hist_ns_wide_add_atomic(&m->queue_seconds[op], 0);", "./observer", "TestBlockExact"},
	{"take the queue for the duration", "bpf/block.bpf.c", "took = bpf_ktime_get_ns() - p->begun;", "took = p->issued - p->begun;", "./observer", "TestBlockDirect"},
	{"count requests twice", "bpf/block.bpf.c", "sync_of(rq->cmd_flags, op)], 1);", "sync_of(rq->cmd_flags, op)], 2);", "./observer", "TestBlockExact"},
	{"count others' requests", "bpf/block.bpf.c", "m = metrics_in_scope(bpf_get_current_pid_tgid());", "m = metrics_here();", "./observer", "TestBlockOthers"},
	{"forget who lost the CPU", "bpf/sched_trace.bpf.c", "if (preempt || state_of(t) == STATE_RUNNING) {", "if (0) {", "./observer", "TestSchedTraceExact"},
	{"take every wait for a sleep", "bpf/sched_trace.bpf.c", "state & STATE_UNINTERRUPTIBLE ?", "0 ?", "./observer", "TestSchedTraceOffCPU"},
	{"have new threads been off", "bpf/sched_trace.bpf.c", "timer_start(&off, tid, NEW);", "timer_start(&off, tid, SCHED_TRACE_STATE_SLEEP);", "./observer", "TestSchedTraceExact"},
	{"trace the switches of others", "bpf/sched_trace.bpf.c", "if (task_in_scope(next))", "if (1)", "./observer", "TestSchedTraceExact"},
	{"count migrations twice", "bpf/sched_trace.bpf.c", "m->migrations_total++;", "m->migrations_total += 2;", "./observer", "TestSchedTraceMigrations"},
	{"take futex wakes for waits", "bpf/lock.bpf.c", "if (!asks_to_wait(op))", "if (asks_to_wait(op) < 0)", "./observer", "TestLockExact"},
	{"forget a futex operation", "bpf/lock.bpf.c", "\tcase FUTEX_WAIT_BITSET:\n", "", "./observer", "TestLockExact"},
	{"take timeouts for wakes", "bpf/lock.bpf.c", "if (ret >= 0)", "if (ret >= 0 || ret == -ETIMEDOUT)", "./observer", "TestLockExact"},
	{"tell no time of a futex", "bpf/lock.bpf.c", "hist_ns_wide_add(&m->futex_wait_seconds, ns);", "hist_ns_wide_add(&m->futex_wait_seconds, 0);", "./observer", "TestLockExact"},
	{"count messages for bytes", "bpf/net.bpf.c", "&m->bytes_total[direction], bytes);", "&m->bytes_total[direction], 1);", "./observer", "TestNetBytes"},
	{"count what is peeked at", "bpf/net.bpf.c", "flags & MSG_PEEK ? 0 : moved(sk,", "moved(sk,", "./observer", "TestNetBytes"},
	{"count sockets of no network", "bpf/net.bpf.c", "if (family != AF_INET && family != AF_INET6)", "if (family == 0xffff)", "./observer", "TestNetBytes"},
	{"take refusals for connections", "bpf/net.bpf.c", "if (old != TCP_SYN_SENT || now != TCP_ESTABLISHED)", "if (old != TCP_SYN_SENT)", "./observer", "TestNetConnections"},
	{"swap resets", "bpf/net.bpf.c", "return happened(sk, NET_DIRECTION_SENT);", "return happened(sk, NET_DIRECTION_RECEIVED);", "./observer", "TestNetConnections"},
	{"count no retransmission", "bpf/net.bpf.c", "return err ? 0 : happened(sk, RETRANSMIT);", "return 0;", "./observer", "TestNetConnections"},
	{"know the sockets of others", "bpf/net.bpf.c", "m = metrics_in_scope(bpf_get_current_pid_tgid());", "m = metrics_here();", "./observer", "TestNetOthers"},
	{"iterate over other processes", "bpf/sched.bpf.c", "if (t && !in_scope(", "if (0 && !in_scope(", "./observer", "TestSchedOthers"},
	{"forget who has ended", "bpf/sched.bpf.c", "pass.usage.runtime = t->signal->sum_sched_runtime;", "", "./observer", "TestSchedExact"},
	{"let a total fall", "bpf/sched.bpf.c", "(__s64)(now - begun) > (__s64)total ? now - begun : total", "now - begun", "./observer", "TestSchedExact"},
	{"forget where a wait began", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 1;", "./observer", "TestSchedExact"},
	{"forget new threads' waits", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 0;", "./observer", "TestSchedExact"},
	{"take another thread's place", "bpf/sched.bpf.c", "seen[place].pass + 1 < now", "1", "./observer", "TestSchedFull"},
	{"push nanoseconds for seconds", "meterbridge/bridge.go", "s.delta(0, value)*s.metric.Scale", "s.delta(0, value)", "./meterbridge", "TestCollectNanoseconds"},
	{"trust no prototype", "kprobe/prototype.go", "if have[i] != w {", "if false {", "./kprobe", "TestCheckPrototype"},
	{"sum one CPU only", "observer/counters_linux.go", "range c.entries[1:]", "range c.entries[1:1]", "./observer", "TestCountersSum"},
	{"push values for differences", "meterbridge/bridge.go", "grown := value - s.last[i]", "grown := value", "./meterbridge", "TestCollect"},
	{"make buckets not cumulative", "meterbridge/bridge.go", "cumulative += n\n", "cumulative = n\n", "./meterbridge", "TestCollectHistogram"},
	{"leave a link open", "kprobe/load_linux.go", "errs = append(errs, l.Close())\n\t}\n\tfor _, prog", "_ = l\n\t}\n\tfor _, prog", "./observer", "TestOpenCloseLeavesNothing"},
	{"leave memory mapped", "observer/counters_linux.go", "return unix.Munmap(c.memory)", "return nil", "./observer", "TestOpenCloseLeavesNothing"},
	{"export what is not fed", "observer/observer.go", "if fed(metric, health.Plan) {", "if true {", "./observer", "TestAbsent"},
}

func main() {
	filter := flag.String("run", "", "mutate only what matches this regular expression")
	flag.Parse()
	if err := run(*filter); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(filter string) error {
	wanted, err := regexp.Compile(filter)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err = checkout.Copy(dir); err != nil {
		return fmt.Errorf("copying the repository: %w", err)
	}
	caught, tried := 0, 0
	for _, m := range mutations {
		if !wanted.MatchString(m.name) {
			continue
		}
		tried++
		start := time.Now()
		err := m.try(dir)
		verdict := "caught by " + m.test
		if err == nil {
			caught++
		} else {
			verdict = "NOT CAUGHT: " + err.Error()
		}
		fmt.Printf("%5.1f s  %-32s %s\n", time.Since(start).Seconds(), m.name, verdict)
	}
	fmt.Printf("\n%d of %d mutations caught\n", caught, tried)
	if caught < tried || tried == 0 {
		return errors.New("the tests do not see everything that they should")
	}
	return nil
}

// try breaks one line, runs the test, and mends the line. It returns nil if the test failed as it should.
func (m mutation) try(dir string) error {
	path := filepath.Join(dir, m.file)
	whole, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(whole), m.old); n != 1 {
		return fmt.Errorf("%q stands %d times in %s, once is needed", m.old, n, m.file)
	}
	broken := strings.Replace(string(whole), m.old, m.new, 1)
	if err = os.WriteFile(path, []byte(broken), 0o644); err != nil {
		return err
	}
	err = m.fails(dir)
	return errors.Join(err, os.WriteFile(path, whole, 0o644), generate(dir, m.file))
}

func (m mutation) fails(dir string) error {
	if err := generate(dir, m.file); err != nil {
		return err
	}
	out, err := checkout.Run(dir, "go", "test", "-count=1", "-v", "-run", "^"+m.test+"$", m.pkg)
	switch {
	case strings.Contains(out, "--- FAIL: "+m.test):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%s passes", m.test)
	}
}

// generate compiles the modules if the file is one of their sources.
func generate(dir, file string) error {
	if !strings.HasPrefix(file, "bpf/") {
		return nil
	}
	_, err := checkout.Run(dir, "go", "generate", "./bpf")
	return err
}
