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
	{"iterate over other processes", "bpf/task.h", "if (t && !in_scope(", "if (0 && !in_scope(", "./observer", "TestSchedOthers"},
	{"forget who has ended", "bpf/sched.bpf.c", "pass.usage.runtime = t->signal->sum_sched_runtime;", "", "./observer", "TestSchedExact"},
	{"let a total fall", "bpf/task.h", "(__s64)(now - begun) > (__s64)total ? now - begun : total", "now - begun", "./observer", "TestSchedExact"},
	{"forget where a wait began", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 1;", "./observer", "TestSchedExact"},
	{"forget new threads' waits", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 0;", "./observer", "TestSchedExact"},
	{"take another thread's place", "bpf/sched.bpf.c", "seen[place].pass + 1 < now", "1", "./observer", "TestSchedFull"},
	{"forget faults of who has ended", "bpf/memory.bpf.c", "pass.usage.faults[FAULT_KIND_MINOR] = t->signal->min_flt;", "", "./observer", "TestPageFaults"},
	{"take minor faults for major", "bpf/memory.bpf.c", "+= t->maj_flt;", "+= t->min_flt;", "./observer", "TestPageFaults"},
	{"count faults of all threads", "bpf/task.h", "return !pass.threads && !scope_tid;", "return !pass.threads;", "./observer", "TestPageFaultsOfThread"},
	{"take anonymous pages for files", "bpf/memory.bpf.c", "mm->rss_stat[MM_FILEPAGES].count", "mm->rss_stat[MM_ANONPAGES].count", "./observer", "TestResidentPages"},
	{"count compactions twice", "bpf/memory.bpf.c", "m->compactions_total++;", "m->compactions_total += 2;", "./observer", "TestCompactions"},
	{"time no compaction", "bpf/memory.bpf.c", "timer_start(&compactions, pid_tgid, 0);", ";", "./observer", "TestCompactions"},
	{"count each thread of a victim", "bpf/memory.bpf.c", "if (victims[i] == victim)", "if (0)", "./observer", "TestOOMKills"},
	{"take each victim for ours", "bpf/memory.bpf.c", "tgid == scope_tgid ? OOM_VICTIM_SELF", "1 ? OOM_VICTIM_SELF", "./observer", "TestOOMKills"},
	{"take failed huge pages for made", "bpf/memory.bpf.c", "status == COLLAPSED ?", "1 ?", "./observer", "TestTHPCollapses"},
	{"count huge pages of others", "bpf/memory.bpf.c", ": owner != scope_tgid)", ": 0)", "./observer", "TestTHPCollapsesOthers"},
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
