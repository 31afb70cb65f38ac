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

// Command mutate checks that the tests find faults: in a copy of the repository it breaks one line at a time, and
// requires that a certain test fails. It is an error if a mutation survives, or if its line no longer exists.
//
//	mutate [-run REGEX] [-j N]
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/checkout"
)

// mutation replaces text in a file, and names the package and the test that must fail.
type mutation struct {
	name, file, old, new, pkg, test string
}

var mutations = []mutation{
	{"count other processes", "bpf/probe.bpf.h", "if (pid_tgid >> 32 != scope_tgid)", "if (0)", "./observer", "TestIOOthers"},
	{"round the bucket down", "bpf/probe.bpf.h", "\tv--;\n", "", "./bpf", "TestBuckets"},
	{"shift the bucket by one", "bpf/probe.bpf.h", "(e - le + step - 1) / step;", "(e - le + step) / step;", "./bpf", "TestBuckets"},
	{"do not read the clock at the end", "bpf/probe.bpf.h", "((bpf_ktime_get_ns() - (word", "(((word >> TIMER_TIME_SHIFT) - (word", "./observer", "TestIOExact"},
	{"leave the start where it is", "bpf/probe.bpf.h", "\tif (!timer_begun(word, tid)) {\n", "\tif (1) {\n", "./observer", "TestIOExact"},
	{"take failures for successes", "bpf/io.bpf.c", "if (ret >= 0) {", "if (1) {", "./observer", "TestIOExact"},
	{"count calls instead of bytes", "bpf/io.bpf.c", "m->bytes_total[transfer] += ret;", "m->bytes_total[transfer]++;", "./observer", "TestIOExact"},
	{"take pread for read", "bpf/io.bpf.c", "[SYS_PREAD64] = IO_OP_PREAD + 1", "[SYS_PREAD64] = IO_OP_READ + 1", "./observer", "TestIOExact"},
	{"forget preadv", "bpf/io.bpf.c", "[SYS_PREADV] = IO_OP_PREADV + 1", "[SYS_PREADV] = 0", "./observer", "TestIOOtherOps"},
	{"forget the advice", "bpf/io.bpf.c", "m->fadvise_total[arg]++;", "m->fadvise_total[0]++;", "./observer", "TestIOExact"},
	{"count folios instead of pages", "bpf/cache.bpf.c", "return bpf_core_field_exists(memdesc->_nr_pages) ? memdesc->_nr_pages : folio->_folio_nr_pages;", "return memdesc ? 1 : 0;", "./observer", "TestCacheExact"},
	{"count deletions twice", "bpf/cache.bpf.c", "m->deleted_pages_total += pages;", "m->deleted_pages_total += 2 * pages;", "./observer", "TestCacheExact"},
	{"count no lookups", "bpf/cache.bpf.c", "m->lookups_total++;", ";", "./observer", "TestCacheLookups"},
	{"take used pages for unused", "bpf/cache.bpf.c", "if (!(flags & used) && ", "if (used && ", "./observer", "TestCacheUnused"},
	{"read once is not used", "bpf/cache.bpf.c", "PAGE_FLAG(PG_referenced) | PAGE_FLAG(PG_active)", "PAGE_FLAG(PG_active)", "./observer", "TestCacheUnused"},
	{"read twice is not used", "bpf/cache.bpf.c", " | PAGE_FLAG(PG_active) | PAGE_FLAG(PG_workingset)", "", "./observer", "TestCacheUnused"},
	{"take written pages for unused", "bpf/cache.bpf.c", " && inode->i_writecount.counter <= 0)", ")", "./observer", "TestCacheUnused"},
	{"take a removed file's pages for unused", "bpf/cache.bpf.c", " && inode->i_nlink && ", " && ", "./observer", "TestCacheUnused"},
	{"count dirty folios", "bpf/cache.bpf.c", "m->dirtied_pages_total += pages;", "m->dirtied_pages_total++;", "./observer", "TestCacheDirtied"},
	{"regret what is appended", "bpf/cache.bpf.c", "if (in_file(inode, index)) {", "if (1) {", "./observer", "TestCacheRegret"},
	{"regret what was truncated", "bpf/cache.bpf.c", "inode->i_nlink && in_file(inode, index)", "inode->i_nlink", "./observer", "TestCacheRegret"},
	{"regret what reclaim took", "bpf/cache.bpf.c", "flags & PAGE_FLAG(PG_lru) && ", "", "./observer", "TestCacheReclaimed"},
	{"regret twice", "bpf/cache.bpf.c", "\trun->pages &= ~pages;\n", "", "./observer", "TestCacheReclaimed"},
	{"regret the whole run", "bpf/cache.bpf.c", "((1ULL << pages) - 1) << (index & (RUN_PAGES - 1))", "~0ULL", "./observer", "TestCacheRegret"},
	{"regret one run of a folio", "bpf/cache.bpf.c", "note_filled(m, run_hash(hash, index + i * RUN_PAGES), ~0ULL);", ";", "./observer", "TestCacheRegret"},
	{"regret for ever", "bpf/cache.bpf.c", "return now - run->time <= regret_ns >> RUN_TIME_SHIFT;", "return 1;", "./observer", "TestCacheRegretInTime"},
	{"take a file for the one before it", "bpf/cache.bpf.c", "(__u64)inode->i_generation << 32 | ", "", "./observer", "TestCacheSameNumber"},
	{"take a place and say nothing", "bpf/cache.bpf.c", "m->regret_forgotten_pages_total += ones(run->pages);", ";", "./observer", "TestCacheForgotten"},
	{"drop one run of a folio", "bpf/cache.bpf.c", "note_dropped(m, work, run_hash(file, index + i * RUN_PAGES), ~0ULL);", ";", "./observer", "TestCacheRegret"},
	{"take one run for another", "bpf/cache.bpf.c", "\tif (!is_run(run, hash))\n\t\treturn;\n", "", "./observer", "TestCacheForgotten"},
	{"count others' pages", "bpf/probe.bpf.h", "if (pid_tgid >> 32 != scope_tgid)", "if (0)", "./observer", "TestCacheOthers"},
	{"count no waits for writeback", "bpf/cache.bpf.c", "m->writeback_waits_total++;", ";", "./observer", "TestCacheWritebackWaits"},
	{"hide events from perf", "bpf/probe.bpf.h", "name##__body(ctx);                               \\\n\t\treturn 1;", "name##__body(ctx);                               \\\n\t\treturn 0;", "./observer", "TestCacheWritebackWaits"},
	{"take memcg for direct reclaim", "bpf/memory.bpf.c", "TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)\n{\n\treturn begin(RECLAIM_KIND_MEMCG);", "TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)\n{\n\treturn begin(RECLAIM_KIND_DIRECT);", "./observer", "TestMemcgReclaim"},
	{"count requests instead of bytes", "bpf/block.bpf.c", "[sync & 1], bytes);", "[sync & 1], 1);", "./observer", "TestBlockExact"},
	{"report no time in the queue", "bpf/block.bpf.c", "hist_ns_wide_add_atomic(&m->queue_seconds[op], now - p->begun);", "hist_ns_wide_add_atomic(&m->queue_seconds[op], 0);", "./observer", "TestBlockExact"},
	{"take the queue for the duration", "bpf/block.bpf.c", "took = bpf_ktime_get_ns() - p->begun;", "took = p->issued - p->begun;", "./observer", "TestBlockDirect"},
	{"count requests twice", "bpf/block.bpf.c", "sync_of(rq->cmd_flags, op)], 1);", "sync_of(rq->cmd_flags, op)], 2);", "./observer", "TestBlockExact"},
	{"count others' requests", "bpf/block.bpf.c", "!in_scope(bpf_get_current_pid_tgid())", "0", "./observer", "TestBlockOthers"},
	{"forget who lost the CPU", "bpf/sched_trace.bpf.c", "if (preempt || state_of(t) == STATE_RUNNING) {", "if (0) {", "./observer", "TestSchedTraceExact"},
	{"take every wait for a sleep", "bpf/sched_trace.bpf.c", "state & STATE_UNINTERRUPTIBLE ?", "0 ?", "./observer", "TestSchedTraceOffCPU"},
	{"count new threads as off the CPU", "bpf/sched_trace.bpf.c", "timer_start(&off, tid, NEW);", "timer_start(&off, tid, SCHED_TRACE_STATE_SLEEP);", "./observer", "TestSchedTraceExact"},
	{"trace the switches of others", "bpf/sched_trace.bpf.c", "if (task_in_scope(next))", "if (1)", "./observer", "TestSchedTraceExact"},
	{"count migrations twice", "bpf/sched_trace.bpf.c", "m->migrations_total++;", "m->migrations_total += 2;", "./observer", "TestSchedTraceMigrations"},
	{"take futex wakes for waits", "bpf/lock.bpf.c", "if (!asks_to_wait(op))", "if (asks_to_wait(op) < 0)", "./observer", "TestLockExact"},
	{"forget a futex operation", "bpf/lock.bpf.c", "\tcase FUTEX_WAIT_BITSET:\n", "", "./observer", "TestLockExact"},
	{"take timeouts for wakes", "bpf/lock.bpf.c", "if (ret >= 0)", "if (ret >= 0 || ret == -ETIMEDOUT)", "./observer", "TestLockExact"},
	{"report no time of a futex", "bpf/lock.bpf.c", "hist_ns_wide_add(&m->futex_wait_seconds, ns);", "hist_ns_wide_add(&m->futex_wait_seconds, 0);", "./observer", "TestLockExact"},
	{"count messages instead of bytes", "bpf/net.bpf.c", "&m->bytes_total[direction], bytes);", "&m->bytes_total[direction], 1);", "./observer", "TestNetBytes"},
	{"count what is peeked at", "bpf/net.bpf.c", "flags & MSG_PEEK ? 0 : moved(sk,", "moved(sk,", "./observer", "TestNetBytes"},
	{"count sockets of no network", "bpf/net.bpf.c", "if (family != AF_INET && family != AF_INET6)", "if (family == 0xffff)", "./observer", "TestNetBytes"},
	{"take refusals for connections", "bpf/net.bpf.c", "if (old != TCP_SYN_SENT || now != TCP_ESTABLISHED)", "if (old != TCP_SYN_SENT)", "./observer", "TestNetConnections"},
	{"swap resets", "bpf/net.bpf.c", "return happened(sk, NET_DIRECTION_SENT);", "return happened(sk, NET_DIRECTION_RECEIVED);", "./observer", "TestNetConnections"},
	{"count no retransmission", "bpf/net.bpf.c", "return err ? 0 : happened(sk, RETRANSMIT);", "return 0;", "./observer", "TestNetConnections"},
	{"track the sockets of others", "bpf/net.bpf.c", "if (in_scope(bpf_get_current_pid_tgid()))", "if (1)", "./observer", "TestNetOthers"},
	{"iterate over other processes", "bpf/task.h", "if (t && !in_scope(", "if (0 && !in_scope(", "./observer", "TestSchedOthers"},
	{"forget ended threads", "bpf/sched.bpf.c", "pass.usage.runtime = t->signal->sum_sched_runtime;", "", "./observer", "TestSchedExact"},
	{"let a total fall", "bpf/task.h", "(__s64)(now - begun) > (__s64)total ? now - begun : total", "now - begun", "./observer", "TestSchedExact"},
	{"forget where a wait began", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 1;", "./observer", "TestSchedExact"},
	{"forget new threads' waits", "bpf/sched.bpf.c", "int ours = start_time >= opened;", "int ours = 0;", "./observer", "TestSchedExact"},
	{"take another thread's place", "bpf/sched.bpf.c", "seen[place].pass + 1 < now", "1", "./observer", "TestSchedFull"},
	{"forget the faults of ended threads", "bpf/memory.bpf.c", "pass.usage.faults[FAULT_KIND_MINOR] = t->signal->min_flt;", "", "./observer", "TestPageFaults"},
	{"take minor faults for major", "bpf/memory.bpf.c", "+= t->maj_flt;", "+= t->min_flt;", "./observer", "TestPageFaults"},
	{"count faults of all threads", "bpf/task.h", "return !pass.threads && !scope_tid;", "return !pass.threads;", "./observer", "TestPageFaultsOfThread"},
	{"take anonymous pages for files", "bpf/memory.bpf.c", "mm->rss_stat[MM_FILEPAGES].count", "mm->rss_stat[MM_ANONPAGES].count", "./observer", "TestResidentPages"},
	{"count compactions twice", "bpf/memory.bpf.c", "m->compactions_total++;", "m->compactions_total += 2;", "./observer", "TestCompactions"},
	{"time no compaction", "bpf/memory.bpf.c", "timer_start(&compactions, pid_tgid, 0);", ";", "./observer", "TestCompactions"},
	{"count each thread of a victim", "bpf/memory.bpf.c", "if (victims[i] == victim)", "if (0)", "./observer", "TestOOMKills"},
	{"take each victim for ours", "bpf/memory.bpf.c", "tgid == scope_tgid ? OOM_VICTIM_SELF", "1 ? OOM_VICTIM_SELF", "./observer", "TestOOMKills"},
	{"take failed huge pages for made", "bpf/memory.bpf.c", "status == COLLAPSED ?", "1 ?", "./observer", "TestTHPCollapses"},
	{"count huge pages of others", "bpf/memory.bpf.c", ": owner != scope_tgid)", ": 0)", "./observer", "TestTHPCollapsesOthers"},
	{"take every errno for another", "bpf/io.bpf.c", "\t\treturn IO_ERRNO_EAGAIN;", "\t\treturn IO_ERRNO_OTHER;", "./observer", "TestIOErrors"},
	{"take a size for its bytes", "bpf/io.bpf.c", "hist_bytes_add(&m->size_bytes[transfer], ret);", "hist_bytes_add(&m->size_bytes[transfer], 1);", "./observer", "TestIOExact"},
	{"forget what is mapped", "bpf/io.bpf.c", "m->mapping_bytes_total[mapping] += arg;", ";", "./observer", "TestIOCalls"},
	{"count a heap that shrinks", "bpf/io.bpf.c", "if (heap_end && ret > heap_end)", "if (heap_end)", "./observer", "TestIOCalls"},
	{"forget the time of unlink", "bpf/io.bpf.c", "m->operation_seconds_total[untimed] += ns * weight;", ";", "./observer", "TestIOCalls"},
	{"let a sampled call stand for one", "bpf/io.bpf.c", "weight = sampling.weight;", "weight = 1;", "./observer", "TestIOSampling"},
	{"time all that are sampled", "bpf/probe.bpf.h", "if (threshold == 0xffffffff) ", "if (1) ", "./observer", "TestIOSampling"},
	{"pass over one too many", "bpf/probe.bpf.h", "(2 * weight - 1) >> 32", "(2 * weight + 7) >> 32", "./observer", "TestIOSampling"},
	{"do not count a sampled thread's wait down", "bpf/probe.bpf.h", "= word - (1ULL << TIMER_TIME_SHIFT);", "= word;", "./observer", "TestIOSampling"},
	{"count a part twice", "bpf/io.bpf.c", "work_add(&by->attributed_operations_total[class], 1);", "work_add(&by->attributed_operations_total[class], 2);", "./observer", "TestWork"},
	{"blame who needs a page, not who dropped it", "bpf/cache.bpf.c", "cell_of(*(volatile __u64 *)&m->updates.note, file)", "cell_of(work_now(), file)", "./observer", "TestWorkOfRegret"},
	{"forget a label set", "bpf/work.h", "return entry >> 48;", "return 0;", "./observer", "TestWork"},
	{"take a thread's own stack for nobody's", "bpf/work.h", "return work < 0 ? work_of_g0(t, g) : work;", "return work < 0 ? work_of_g0(t, 0) : work;", "./observer", "TestWorkOfRuntime"},
	{"read parts that are being counted", "observer/attribution_linux.go", "return after == before", "return true", "./observer", "TestWork"},
	{"name a label set after the one before it", "observer/attribution_linux.go", "uint64(label+1) |", "uint64(label) |", "./observer", "TestWork"},
	{"put nothing on a receipt", "bpf/work.h", "\t\twork |= label >> 8 << WORK_BITS;\n", "\t\t;\n", "./observer", "TestReceipts"},
	{"put what loops do on a receipt", "observer/attribution_linux.go", "atomic.StoreUint64(&w.loops[i], 1)", "atomic.StoreUint64(&w.loops[i], 0)", "./observer", "TestReceiptsOfLoops"},
	{"bill what others did before", "observer/receipts.go", "entry.Receipt.values[i] -= before.values[i]", "entry.Receipt.values[i] -= 0", "./observer", "TestReceipts"},
	{"keep the slot of a receipt", "observer/receipts.go", "defer func() { of.pool.free <- slot }()", "defer func() {}()", "./observer", "TestReceiptsRefused"},
	{"bill what was not counted all the time", "observer/receipts.go", "entry.Receipt.of != before.of", "before.of == nil", "./observer", "TestReceiptsRefused"},
	{"keep the cheapest", "observer/ledger.go", "waited > p.waited[least]", "waited < p.waited[least]", "./observer", "TestLedger"},
	{"keep the last hour for ever", "observer/ledger.go", "p.number > periodOf(now)-ledgerPeriods", "p.number > 0", "./observer", "TestLedger"},
	{"know a file by its inode alone", "bpf/file.h", "(__u64)FILE_FIELD(d, d_name.hash) << 32 | FILE_FIELD(d, d_name.len)", "1", "./observer", "TestFiles"},
	{"take an opened file for none", "bpf/io.bpf.c", "[IO_OP_OPENAT] = SUBJECT_RESULT", "[IO_OP_OPENAT] = SUBJECT_NONE", "./observer", "TestFiles"},
	{"leave numbers in a path", "bpf/file.h", "- '0' < 10", "- '0' < 0", "./observer", "TestFileShapes"},
	{"forget the end of a long extension", "bpf/file.h", "high * (~0ULL / unit + 1)", "0", "./observer", "TestFileShapes"},
	{"lose what finds no cell", "bpf/file.h", "\treturn work;\n}\n\n/* The cell of", "\treturn CELLS - 1;\n}\n\n/* The cell of", "./observer", "TestFilesFull"},
	{"have a group for each folder", "observer/file.go", "len(p.groups) < maxFileGroups", "len(p.groups) < 1000", "./observer", "TestFileShapes"},
	{"forget the work of a file", "observer/attribution_linux.go", "place = n.both", "place = n.file", "./observer", "TestFilePages"},
	{"search for the bucket before the work", "bpf/io.bpf.c", "\n\tbarrier_var(ret);\n", "\n", "./observer", "TestVerifierEffort"},
	{"let a loop inherit its work", "observer/work.go", "if i := ruleFor(w.Loops, function); i >= 0 {", "if i := ruleFor(nil, function); i >= 0 {", "./observer", "TestWork"},
	{"take another process's goroutines for ours", "observer/work.go", "self.TGID != scope.TGID", "self.TGID == 0", "./observer", "TestWorksAbsent"},
	{"name a goroutine after its wrapper", "observer/internal/goruntime/name_linux.go", "if g := runtime.FuncForPC(to); g != nil", "if g := runtime.FuncForPC(0); g != nil", "./observer/internal/goruntime", "TestName"},
	{"leave a faulty verification's programs attached", "observer/verify.go", "defer func() { err = errors.Join(err, alone.Close()) }()", "", "./observer", "TestVerifyPanic"},
	{"believe every metric", "observer/verify.go", "if got != want {", "if false {", "./observer", "TestVerifyBites"},
	{"believe every time", "observer/verify.go", "|| passed > took)", ")", "./observer", "TestVerifyBites"},
	{"overlook what nobody did", "observer/verify.go", "!is && n+ns != 0 {", "!is && n+ns > 1<<62 {", "./observer", "TestVerifyCompare"},
	{"export what is wrong", "observer/observer.go", "return verdict.LeftOut", "return false", "./observer", "TestVerifyBites"},
	{"leave the scratch folder", "observer/internal/work/scratch_linux.go", "errs = append(errs, os.RemoveAll(w.dir))", "", "./observer", "TestVerify"},
	{"verify the page cache in memory", "observer/internal/work/scratch_linux.go", "w.onDisk = err == nil", "w.onDisk = true", "./observer", "TestVerifyInMemory"},
	{"keep what has begun", "kprobe/load_linux.go", "if err := p.clearTimers(); err != nil {", "if err := error(nil); err != nil {", "./observer", "TestShedForgetsTheBegun"},
	{"take one event for two", "observer/overhead.go", "grown := time.Duration(events-a.events) * a", "grown := 2 * time.Duration(events-a.events) * a", "./observer", "TestOverhead"},
	{"shed the wrong module", "observer/configure.go", "o.name(m) == name })", "true })", "./observer", "TestShed"},
	{"forget the time of iterators", "observer/observer.go", "m.overhead += cost", "_ = cost", "./observer", "TestRefreshCosts"},
	{"sample a shed module less", "observer/configure.go", "if s.level >= LevelSampled {", "if false {", "./observer", "TestShed"},
	{"pass over zeros", "observer/counters_linux.go", "add(dst[h.from+1:h.from+2], of, h.from+1)\n", "\n", "./observer", "TestCountersSumHistograms"},
	{"push nanoseconds for seconds", "observer/snapshot.go", "float64(s.words[0]) * s.Metric.scale }", "float64(s.words[0]) }", "./meterbridge", "TestCollectNanoseconds"},
	{"trust no prototype", "kprobe/prototype.go", "if have[i] != w {", "if false {", "./kprobe", "TestCheckPrototype"},
	{"sum one CPU only", "observer/counters_linux.go", "+ atomic.LoadUint64(&b[i]) + atomic.LoadUint64(&c[i]) + atomic.LoadUint64(&d[i])", "+ 0*(b[i]+c[i]+d[i])", "./observer", "TestCountersSum"},
	{"sum four CPUs only", "observer/counters_linux.go", "range c.entries {", "range c.entries[:min(1, len(c.entries))] {", "./observer", "TestCountersSum"},
	{"look for zeros on three of four CPUs", "observer/counters_linux.go", "|atomic.LoadUint64(&of[3][word])", "", "./observer", "TestCountersSumHistograms"},
	{"push values for differences", "meterbridge/bridge.go", "total-s.shown)\n", "total)\n", "./meterbridge", "TestCollect"},
	{"make buckets not cumulative", "meterbridge/bridge.go", "cumulative += n\n", "cumulative = n\n", "./meterbridge", "TestCollectHistogram"},
	{"read an iterator once", "kprobe/load_linux.go", "const maxReads = 1000", "const maxReads = 1", "./kprobe", "TestIterateBeyondAMillion"},
	{"attach once", "kprobe/load_linux.go", "const maxTries = 10", "const maxTries = 1", "./kprobe", "TestAttachAgain"},
	{"put programs before those that they follow", "kprobe/load_linux.go", "case loaded.link != nil && changed[event]:", "case false:", "./kprobe", "TestAttachOrder"},
	{"reload another module", "kprobe/load_linux.go", "if err = p.checkSame(l.spec, all); err != nil {", "if false {", "./kprobe", "TestReloadAnother"},
	{"reload another layout", "kprobe/load_linux.go", "case layouts[name] != p.layouts[name]:", "case layouts[name] == \"\":", "./kprobe", "TestReloadAnother"},
	{"take a user namespace for the host's", "kprobe/diagnose_linux.go", "stat.Ino != initial", "false", "./kprobe", "TestRemedies"},
	{"take a lack of memory for an old kernel", "kprobe/load_linux.go", "if plain := plainMaps(spec); plain != nil {", "if plain := error(nil); plain != nil {", "./kprobe", "TestRemedies"},
	{"take a masked BTF for none", "kprobe/diagnose_linux.go", "case !exists(kernelBTF):", "default:", "./kprobe", "TestRemedies"},
	{"load another architecture's module", "kprobe/architecture.go", "if arch != runtime.GOARCH && hasMember(registers, name) {", "if false {", "./kprobe", "TestArchitecture"},
	{"follow a link out of the folder", "observer/moduledir_linux.go", "case strings.HasPrefix(target, \"/\"):", "case false:", "./observer", "TestModuleDir"},
	{"climb out of the folder", "observer/moduledir_linux.go", "if len(way) == 1 {", "if false {", "./observer", "TestModuleDir"},
	{"follow links for ever", "observer/moduledir_linux.go", "links > maxLinks {", "links > 1000 {", "./observer", "TestModuleDirOfLinks"},
	{"leave a link open", "kprobe/load_linux.go", "if err := loaded.link.Close(); err != nil {", "if err := error(nil); err != nil {", "./observer", "TestOpenCloseLeavesNothing"},
	{"leave memory mapped", "observer/counters_linux.go", "err := unix.Munmap(c.memory)", "err := error(nil)", "./observer", "TestOpenCloseLeavesNothing"},
	{"export what is not fed", "observer/observer.go", "if !fed(metric, health.Plan) ||", "if false ||", "./observer", "TestAbsent"},
	{"take back nothing", "meterbridge/bridge.go", "\t\ts.takeBack()\n", "\t\t_ = s\n", "./meterbridge", "TestCollectChange"},
	{"come back from nothing", "meterbridge/bridge.go", "clear(s.buckets)\n", "", "./meterbridge", "TestCollectChange"},
	{"leave a gauge of 0 out", "observer/snapshot.go", "case Gauge:\n\t\treturn false\n", "case Gauge:\n\t\treturn s.words[0] == 0\n", "./observer/collector", "TestGauge"},
	{"come back a digit lower", "meterbridge/bridge.go", "max(0, total-s.shown)\n", "float64(uint64((now.Value()-s.last)*1e9+0.5)) / 1e9\n", "./meterbridge", "TestCollectNeverFalls"},
	{"count what was not asked for", "observer/configure.go", "errs = append(errs, o.skipDisabled(m))", "_ = o.skipDisabled", "./observer", "TestConfigureIterated"},
	{"show what a disabled hook fed", "observer/configure.go", "m.probes.Plan().Attached(hook) && ", "true || ", "./observer", "TestConfigureHook"},
	{"leave what a change opened", "observer/configure.go", "o.settle(old), o.forget(opened))", "o.settle(old), o.forget(max(opened, len(o.modules))))", "./observer", "TestConfigureFails"},
	{"never try again what is down", "observer/configure.go", "(name == retry || !slices", "(!slices", "./observer", "TestEnableWhatIsDown"},
	{"trust what others may write", "observer/moduledir_linux.go", "(unix.S_IWGRP|unix.S_IWOTH)", "unix.S_IWOTH", "./observer", "TestModuleDir"},
	{"trust a stranger's object", "observer/moduledir_linux.go", "stat.Uid != 0 && int(stat.Uid) != owner", "false", "./observer", "TestModuleDir"},
	{"let a module meddle", "kprobe/bounds.go", "ins.IsBuiltinCall() && slices", "false && slices", "./observer", "TestBadModules"},
	{"let a module outlive the server", "kprobe/bounds.go", "if m.Pinning != ebpf.PinNone {", "if false {", "./observer", "TestBadModules"},
	{"take any size of maps", "kprobe/bounds.go", "if memory > maxMapMemory {", "if false {", "./observer", "TestBadModules"},
	{"say nothing of nanoseconds", "observer/schema.go", "\tcase m.scale == nanosecond:\n\t\treturn unitSeconds\n", "", "./observer", "TestUnits"},
	{"take any token", "observer/api/credentials.go", "subtle.ConstantTimeCompare(t[:], hash[:]) == 1", "subtle.ConstantTimeCompare(t[:], hash[:]) <= 1", "./observer/api", "TestToken"},
	{"answer to any host", "observer/api/listen.go", "host != \"localhost\" && net.ParseIP(host) == nil {", "false {", "./observer/api", "TestConfig"},
	{"take what another site sends", "observer/api/http.go", "http.NewCrossOriginProtection().Check(r); err != nil", "error(nil); err != nil", "./observer/api", "TestConfig"},
	{"listen to others without a token", "observer/api/listen.go", "!loopback(host) && o.TokenFile == \"\"", "false", "./observer/api", "TestAddresses"},
	{"let strangers stay", "observer/api/connections.go", "return cmp.Or(a.worth()-b.worth(), ", "return cmp.Or(b.worth()-a.worth(), ", "./observer/api", "TestStrangersMakeWay"},
	{"close what is answered", "observer/api/connections.go", "if out.worth() == answered {", "if false {", "./observer/api", "TestIdleMakesWay"},
	{"close the most recently idle", "observer/api/connections.go", "a.since.Compare(b.since)", "b.since.Compare(a.since)", "./observer/api", "TestIdleMakesWay"},
	{"take all for strangers", "observer/api/listen.go", ".connection.admit()\n\tif", ".connection.end()\n\tif", "./observer/api", "TestStrangersMakeWay"},
	{"wait for handshakes", "observer/api/listen.go", "\t\ts.grpcListener.refuse()\n", "", "./observer/api", "TestCloseSilent"},
	{"refuse pings", "observer/api/listen.go", "MinTime: pingInterval, PermitWithoutStream: true", "MinTime: idleTimeout, PermitWithoutStream: true", "./observer/api", "TestLongStream"},
	{"refuse pings without a stream", "observer/api/listen.go", "MinTime: pingInterval, PermitWithoutStream: true", "MinTime: pingInterval", "./observer/api", "TestPings"},
	{"give up on a slow client", "observer/api/listen.go", "Timeout: pingTimeout}", "Timeout: headerTimeout}", "./observer/api", "TestSlowClient"},
	{"cut a change off", "observer/api/listen.go", "time.Now().Add(changeTimeout)", "time.Now().Add(ioTimeout)", "./observer/api", "TestLongChange"},
	{"say nothing of what is skipped", "observer/api/grpc.go", "uint64(now - sent - 1)", "0", "./observer/api", "TestSlowStream"},
	{"wait for a slow client", "observer/api/grpc.go", "max(sent+1, int64(time.Since(start)/interval))", "sent + 1", "./observer/api", "TestSlowStream"},
	{"let one change undo another", "observer/configure.go", "\to.callMu.Lock()\n\tdefer o.callMu.Unlock()\n\tif o.closed {\n\t\treturn ErrClosed\n\t}\n\tc, err := change(o.config.clone())\n", "\tc, err := change(o.config.clone())\n\to.callMu.Lock()\n\tdefer o.callMu.Unlock()\n", "./runservice", "TestChangesTakeTurns"},
	{"keep what was read for a change", "runservice/configure.go", "\tdefer giveBack()\n", "", "./runservice", "TestMemoryIsGivenBack"},
	{"open what is refused", "observer/sources.go", "if err := s.refusals[name]; err != nil {", "if err := s.refusals[name]; err != nil && false {", "./observer", "TestCollisions"},
	{"reword a remedy", "kprobe/diagnose_linux.go", "give the module's maps fewer entries", "give the maps fewer entries", "./observer", "TestTroubleshooting"},
	{"log a failure only once", "runservice/service.go", "\t\t*e = episode{}\n", "", "./runservice", "TestEpisodes"},
	{"log a failure each time", "runservice/service.go", "err != nil && err.Error() == e.cause:", "false:", "./runservice", "TestEpisodes"},
	{"name a key with a blank", "runservice/configure.go", "\"disabled_hooks\", &hooks", "\"disabled hooks\", &hooks", "./runservice", "TestLogLines"},
	{"name the module twice", "runservice/service.go", "Str(\"ebpf_module\", m.Name)", "Str(\"module\", m.Name)", "./runservice", "TestLogLines"},
	{"shed an idle server", "observer/budget.go", "overheadFloor*float64(u.wall)", "0*float64(u.wall)", "./observer", "TestBudgetSheds"},
	{"let a busy server wait", "observer/budget.go", "m.budget.busy(share, recent):", "m.budget.busy(share, usage{wall: recent.wall}):", "./observer", "TestBudgetSheds"},
	{"let a shed module wait for an hour", "observer/budget.go", "restoreAtMost = 4", "restoreAtMost = 64", "./observer", "TestBudget"},
	{"call a shed module healthy", "observer/budget.go", "h.Up, h.Cause = false,", "h.Cause =", "./observer", "TestShed"},
	{"show what a shed module fed", "observer/configure.go", "return !m.state.off() && (", "return !m.state.disabled && (", "./observer", "TestShed"},
	{"run a shed module's iterators each time", "observer/budget.go", "return m.rested%shedRefresh == 0", "return true", "./observer", "TestShedIterators"},
	{"take an unknown cost for none", "observer/overhead.go", "if each, ok = assumed[m.cost]; !ok {", "if each, ok = known[m.cost]; !ok {", "./observer", "TestVerifyScratch"},
	{"fall back to no other folder", "observer/internal/work/scratch_linux.go", "range dirs {", "range dirs[:1] {", "./observer", "TestVerifyFallback"},
	{"take the first folder, on a disk or not", "observer/internal/work/scratch_linux.go", "if w.onDisk || best == nil {", "if best == nil {", "./observer", "TestVerifyFallback"},
	{"say nothing of what was not verified", "observer/verify.go", "case v.err != nil:\n\t\treturn []Warning", "case false:\n\t\treturn []Warning", "./observer", "TestVerifyScratch"},
	{"compare what was disturbed before", "observer/verify.go", "!maps.Equal(ahead, from)", "!maps.Equal(ahead, ahead)", "./observer", "TestVerifyDisturbed"},
	{"compare what was disturbed after", "observer/verify.go", "!maps.Equal(to, after)", "!maps.Equal(after, after)", "./observer", "TestVerifyDisturbed"},
	{"verify what was not all done", "observer/verify.go", "!v.metrics[k].LeftOut && !undone[k]", "!v.metrics[k].LeftOut", "./observer", "TestVerifyUndone"},
	{"say nothing of a collection that failed", "meterbridge/bridge.go", "\t\tif err != nil {\n\t\t\tsuccess = 0", "\t\tif false {\n\t\t\tsuccess = 0", "./meterbridge", "TestCollectSuccess"},
	{"listen to SIGHUP no more", "runservice/service.go", "\t\t\ts.reload()\n", "", "./runservice", "TestReload"},
	{"take a wrong file for a refusal", "runservice/configure.go", "--ebpf-config-file: %w: %w\", observer.ErrInvalidConfig, err", "--ebpf-config-file: %w\", err", "./runservice", "TestReload"},
	{"store whatever the labels are", "runservice/labels.go", "same := sameLabels(m, want)", "same := want != nil", "./runservice", "TestLabelCheck"},
	{"store before the labels are compared", "runservice/labels.go", "gateClosed gateState = iota\n\tgateOpen\n", "gateOpen gateState = iota\n\tgateClosed\n", "./runservice", "TestLabelCheck"},
	{"forget what waited", "runservice/labels.go", "\t\t\tg.write(s.value, s.labelValues...)\n", "\t\t\t_ = s\n", "./runservice", "TestLabelCheck"},
	{"compare only the names of the tags", "runservice/labels.go", "slices.Equal(a.GetEntity().GetTagNames(), b.GetEntity().GetTagNames()) &&", "len(a.GetTagFamilies()) > 0 &&", "./runservice", "TestSameLabels"},
	{"compare the series' labels only", "runservice/labels.go", "return v.GetName() == w.GetName()", "return v != w", "./runservice", "TestSameLabels"},
	{"compare only what is there at the start", "runservice/labels.go", "\tcase c.added <- struct{}{}:\n", "\tcase make(chan struct{}) <- struct{}{}:\n", "./runservice", "TestLabelCheckRuns"},
	{"refresh for each reader", "observer/collector/limit.go", "now.Sub(l.last) >= refreshInterval", "now.Sub(l.last) >= 0", "./observer/collector", "TestRefreshes"},
	{"show what was tested before", "integration/tools/testrun/main.go", "append([]string{\"-count=1\"}, args...)", "append([]string{}, args...)", "./integration/tools/testrun", "TestOtherModulesFiles"},
	{"run again what is on no list", "integration/tools/testrun/main.go", "if r.reason(of, test) == \"\" {", "if false && r.reason(of, test) == \"\" {", "./integration/tools/testrun", "TestAgain"},
	{"leave the objects out of the digest", "integration/tools/kernels/digest.go", ", \"*/*.bpf.o\"}", "}", "./integration/tools/kernels", "TestDigest"},
	{"leave the load running", "integration/tools/busy/main.go", "defer end()", "_ = end", "./integration/tools/busy", "TestRun"},
	{"take any name of a module", "observer/sources.go", "if !slices.Contains(s.names, module) {", "if false {", "./runservice", "TestConfigFileIsChecked"},
}

func main() {
	filter := flag.String("run", "", "mutate only what matches this regular expression")
	at := flag.Int("j", 2, "how many mutations are tried at once, each in a copy of its own")
	flag.Parse()
	if err := run(*filter, *at); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(filter string, atOnce int) error {
	wanted, err := regexp.Compile(filter)
	if err != nil {
		return err
	}
	queue := make(chan mutation, len(mutations))
	for _, m := range mutations {
		if wanted.MatchString(m.name) {
			queue <- m
		}
	}
	close(queue)
	tried := len(queue)
	var workers sync.WaitGroup
	var caught atomic.Int64
	errs := make([]error, atOnce)
	for i := range errs {
		workers.Go(func() { errs[i] = work(queue, &caught) })
	}
	workers.Wait()
	fmt.Printf("\n%d of %d mutations caught\n", caught.Load(), tried)
	if int(caught.Load()) < tried || tried == 0 {
		errs = append(errs, errors.New("the tests miss some mutations"))
	}
	return errors.Join(errs...)
}

// work tries mutations from the queue in a copy of the repository until it is empty.
func work(queue <-chan mutation, caught *atomic.Int64) error {
	dir, err := os.MkdirTemp("", "mutate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err = checkout.Copy(dir); err != nil {
		return fmt.Errorf("copying the repository: %w", err)
	}
	// Package runservice needs the server's packages, which git does not track.
	server, err := filepath.Abs("banyandb")
	if err != nil {
		return err
	}
	if err = os.Symlink(server, filepath.Join(dir, "integration", "banyandb")); err != nil {
		return err
	}
	for m := range queue {
		start := time.Now()
		verdict := "caught by " + m.test
		if err := m.try(dir); err == nil {
			caught.Add(1)
		} else {
			verdict = "NOT CAUGHT: " + err.Error()
		}
		fmt.Printf("%5.1f s  %-40s %s\n", time.Since(start).Seconds(), m.name, verdict)
	}
	return nil
}

// try breaks one line, runs the test, and restores the file. It returns nil if the test failed as it should.
func (m mutation) try(dir string) (err error) {
	files := []string{filepath.Join(dir, m.file)}
	ofModules := strings.HasPrefix(m.file, "bpf/")
	if ofModules {
		for _, folder := range []string{"bpf", "bpf/testdata", "observer/testdata"} {
			objects, err := filepath.Glob(filepath.Join(dir, folder, runtime.GOARCH, "*.o"))
			if err != nil {
				return err
			}
			files = append(files, objects...)
		}
	}
	whole := make(map[string][]byte)
	for _, file := range files {
		if whole[file], err = os.ReadFile(file); err != nil {
			return err
		}
	}
	defer func() {
		for file, content := range whole {
			err = errors.Join(err, os.WriteFile(file, content, 0o644))
		}
	}()
	text := string(whole[files[0]])
	if n := strings.Count(text, m.old); n != 1 {
		return fmt.Errorf("%q occurs %d times in %s, want once", m.old, n, m.file)
	}
	if err = os.WriteFile(files[0], []byte(strings.Replace(text, m.old, m.new, 1)), 0o644); err != nil {
		return err
	}
	if ofModules {
		if err = compile(dir, m.file); err != nil {
			return err
		}
	}
	return m.fails(dir)
}

func (m mutation) fails(dir string) error {
	command := []string{"go", "test", "-count=1", "-vet=off", "-failfast", "-v", "-run", "^" + m.test + "$", m.pkg}
	other := []string{"./runservice", "./meterbridge", "./observer/api", "./integration/"} // not in the root module
	if slices.ContainsFunc(other, func(folder string) bool { return strings.HasPrefix(m.pkg, folder) }) {
		command = append([]string{"env", "GOWORK=" + filepath.Join(dir, "integration", "go.work")}, command...)
	}
	out, err := checkout.Run(dir, command[0], command[1:]...)
	switch {
	case strings.Contains(out, "--- FAIL: "+m.test):
		return nil
	case err != nil:
		return err
	default:
		return fmt.Errorf("%s passes", m.test)
	}
}

// compile compiles the probe modules that are built from the file, for this architecture only.
func compile(dir, file string) error {
	sources := []string{filepath.Base(file)}
	if strings.HasSuffix(file, ".h") {
		sources = []string{".", "testdata", "../observer/testdata"}
	}
	for _, source := range sources {
		if _, err := checkout.Run(filepath.Join(dir, "bpf"), "go", "run", "./gen", "-arch="+runtime.GOARCH, source); err != nil {
			return err
		}
	}
	return nil
}
