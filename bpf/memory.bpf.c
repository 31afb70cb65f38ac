//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * memory: what this process waits for to get memory, and how much it has.
 *
 * Reclaim, by who did it. direct: a thread of this process, because the system had no free memory. memcg: a thread of
 * this process, because its memory cgroup was full. kswapd: the kernel's own thread, for the whole host. Compaction by
 * threads of this process. Page faults and resident pages, which the kernel keeps for each task and an iterator reads.
 * The durations of page faults. Huge pages collapsed from small ones. Processes that the kernel killed for their
 * memory. Unit: events, nanoseconds, pages. Linux 5.10.
 */
/* Few threads wait for memory at once. */
#define TIMER_SLOT_BITS 9
#include "probe.bpf.h"
#include "file.h"

enum reclaim_kind { RECLAIM_KIND_DIRECT, RECLAIM_KIND_MEMCG, RECLAIM_KIND_KSWAPD, RECLAIM_KIND__COUNT };
LABEL_VALUES(reclaim_kind);

enum fault_kind { FAULT_KIND_MINOR, FAULT_KIND_MAJOR, FAULT_KIND__COUNT };
LABEL_VALUES(fault_kind);

enum fault_area { FAULT_AREA_FILE, FAULT_AREA_ANON, FAULT_AREA__COUNT };
LABEL_VALUES(fault_area);

enum resident_kind { RESIDENT_KIND_FILE, RESIDENT_KIND_ANON, RESIDENT_KIND_SHMEM, RESIDENT_KIND__COUNT };
LABEL_VALUES(resident_kind);

enum oom_victim { OOM_VICTIM_SELF, OOM_VICTIM_OTHER, OOM_VICTIM__COUNT };
LABEL_VALUES(oom_victim);

enum thp_result { THP_RESULT_OK, THP_RESULT_FAILED, THP_RESULT__COUNT };
LABEL_VALUES(thp_result);

struct memory_by_work {
	counter_t attributed_page_faults_total[FAULT_KIND__COUNT] HOOKS("fault") LABELS("kind=fault_kind")
		PART_OF("page_fault_duration_seconds")
			HELP("Page faults of this process whose duration was measured, by the work that had them.");
	counter_ns_t attributed_page_fault_seconds_total HOOKS("fault") PART_OF("page_fault_duration_seconds") HELP(
		"Time from the first attempt of a page fault of this process to its end, by the work that had "
		"it.")
		BY_FILE("Time from the first attempt of a page fault of this process to its end, by the file of the "
			"mapping. Anonymous memory has the kind none.");
	counter_t attributed_reclaim_stalls_total HOOKS("direct,memcg") PART_OF("reclaim_duration_seconds") HELP(
		"Times that threads of this process were stalled in memory reclaim, by the work that was stalled. Zero "
		"unless memory is short.");
	counter_ns_t attributed_reclaim_seconds_total HOOKS("direct,memcg") PART_OF("reclaim_duration_seconds") HELP(
		"Time that threads of this process were stalled in memory reclaim, by the work that was stalled. Zero "
		"unless memory is short.");
};

struct memory_receipt {
	counter_t major_faults HOOKS("fault") HELP("Major page faults, as in ebpf_memory_page_fault_duration_seconds.");
	counter_ns_t major_fault_seconds HOOKS("fault") HELP("Time in major page faults.");
	counter_ns_t reclaim_seconds HOOKS("direct,memcg") HELP("Time in direct reclaim of memory.");
};

struct metrics {
	counter_t reclaim_total[RECLAIM_KIND__COUNT] HOOKS("direct,memcg,kswapd") LABELS("kind=reclaim_kind")
		HELP("Reclaim runs. The kinds direct and memcg are runs of this process's threads; kswapd counts the "
		     "wake-ups of kswapd on the whole host. Zero unless memory is short.");
	struct hist_ns reclaim_duration_seconds[RECLAIM_KIND__COUNT] HOOKS("direct,memcg") LABELS("kind=reclaim_kind")
		HELP("Time that threads of this process were stalled in memory reclaim. Not counted: kswapd, which "
		     "stalls nobody. Zero unless memory is short.");
	counter_t reclaim_scanned_pages_total[RECLAIM_KIND__COUNT] HOOKS("scan") LABELS("kind=reclaim_kind")
		HELP("Pages of the inactive lists that reclaim scanned; kswapd is the whole host's. Not counted: scans "
		     "that could isolate no page. Zero unless memory is short.");
	counter_t reclaim_reclaimed_pages_total[RECLAIM_KIND__COUNT] HOOKS("scan") LABELS("kind=reclaim_kind")
		HELP("Pages of the inactive lists that reclaim freed; kswapd is the whole host's. Not counted: slab. "
		     "Zero unless memory is short.");
	counter_t compactions_total HOOKS("compaction")
		HELP("Times a thread of this process had to compact a memory zone to get contiguous pages. Not "
		     "counted: the kernel thread kcompactd, and zones that were checked and not compacted. Zero unless "
		     "memory is fragmented.");
	struct hist_ns_wide compaction_duration_seconds HOOKS("compaction")
		HELP("Time that threads of this process were stalled in compaction, for each zone. Zero unless memory "
		     "is fragmented.");
	counter_t page_faults_total[FAULT_KIND__COUNT] HOOKS("task") LABELS("kind=fault_kind") VERIFY(
		"kind=minor: minor_faults; kind=major: major_faults")
		HELP("Page faults of this process, including threads that have ended, as the kernel counts them. Major "
		     "faults had to wait for a disk. Not counted: failed faults, and faults of child processes.");
	struct hist_ns_wide page_fault_duration_seconds[FAULT_KIND__COUNT][FAULT_AREA__COUNT] HOOKS("fault") COST(
		"fault") LABELS("kind=fault_kind,area=fault_area")
		VERIFY("kind=minor: minor_faults; kind=major: major_faults") HELP(
			"Time from the first attempt of a page fault of this process to its end. The area file is a "
			"mapping of a file, including shared anonymous memory; all other faults are anon. Not counted: "
			"the processor's entry to and exit from the kernel, and failed faults. Every page fault of the "
			"host is slowed down: by two short calls with fentry, or, where the kernel has no fentry, by two "
			"breakpoints with kprobe, which cost several times as much.");
	gauge_t resident_pages[RESIDENT_KIND__COUNT] HOOKS("resident") LABELS("kind=resident_kind")
		HELP("Pages that this process has in memory: of files, anonymous, and shared memory. The kernel may "
		     "hold back a few tens of pages on each CPU before it counts them, before Linux 6.2 in each "
		     "thread. Not counted: huge pages of hugetlbfs.");
	counter_t oom_kills_total[OOM_VICTIM__COUNT] HOOKS("oom") LABELS("victim=oom_victim")
		HELP("Processes that the kernel chose to kill because memory ran out. The victim self is this process, "
		     "which rarely lives to report it; other is any other process of the host. Not counted: processes "
		     "killed only because they share the victim's memory. Zero unless memory runs out.");
	counter_t thp_collapses_total[THP_RESULT__COUNT] HOOKS("collapse") LABELS("result=thp_result")
		HELP("Attempts to collapse small anonymous pages of this process into a huge page, by the kernel "
		     "thread khugepaged or by madvise. Not counted: attempts that were abandoned before any work was "
		     "done, and pages of files. Zero unless huge pages are enabled.");
	EVENTS_LOST;
	BY_WORK_AND_FILE(memory_by_work);
	ON_RECEIPTS(memory_receipt);
} __attribute__((aligned(64)));
METRICS;

/* Direct and memcg reclaim do not nest, since a thread that reclaims takes from the reserves. One timer serves both. */
TIMER(runs);

/* Compaction may include reclaim, so it has a timer of its own. */
TIMER(compactions);

/* A page fault may include reclaim and compaction. */
TIMER(faults);

/* The kswapd of each memory node, learned when it wakes. Nodes beyond the table share entries. */
enum { NODES = 64 };
static __u32 kswapd_tid[NODES];

/*
 * The programs of reclaim and compaction run in the thread that does it, without preemption, and no interrupt does
 * either: plain increments are exact.
 */
static __always_inline int begin(__u32 kind)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		timer_start(&runs, pid_tgid, kind);
	return 0;
}

static __always_inline void stalled(struct metrics *m, __u32 kind, __u64 ns)
{
	__u32 who = work_who();
	struct memory_by_work *by = &m->by_work[work_of(who)];

	hist_ns_add(&m->reclaim_duration_seconds[kind], ns);
	work_add(&by->attributed_reclaim_stalls_total, 1);
	work_add(&by->attributed_reclaim_seconds_total, ns);
	ON_RECEIPT(m, who, r)
		work_add(&r->reclaim_seconds, ns);
}

static __always_inline int end(__u32 kind)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__s64 ns;

	if (!in_scope(pid_tgid))
		return 0;
	UPDATE(m) {
		m->reclaim_total[kind]++;
		ns = timer_end(&runs, pid_tgid, m->events_lost_total);
		if (ns != TIMER_NONE)
			AT_ONCE(m)
				stalled(m, kind, ns);
	}
	return 0;
}

static __always_inline int woken(int nid)
{
	UPDATE(m) {
		kswapd_tid[nid & (NODES - 1)] = bpf_get_current_pid_tgid();
		m->reclaim_total[RECLAIM_KIND_KSWAPD]++;
	}
	return 0;
}

/* Who is reclaiming now, as a reclaim_kind, or -1 for others. */
static __always_inline int reclaimer(int nid)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		return timer_note(&runs, pid_tgid);
	return kswapd_tid[nid & (NODES - 1)] == (__u32)pid_tgid ? RECLAIM_KIND_KSWAPD : -1;
}

static __always_inline int scanned(int nid, unsigned long nr_scanned, unsigned long nr_reclaimed)
{
	int kind = reclaimer(nid);

	if (kind < 0 || kind >= RECLAIM_KIND__COUNT)
		return 0;
	UPDATE(m) {
		m->reclaim_scanned_pages_total[kind] += nr_scanned;
		m->reclaim_reclaimed_pages_total[kind] += nr_reclaimed;
	}
	return 0;
}

/* No argument is read: order and flags swapped places in Linux 7.2. */
TP_BTF(direct__tp_btf__begin, mm_vmscan_direct_reclaim_begin)
{
	return begin(RECLAIM_KIND_DIRECT);
}

TP_BTF(direct__tp_btf__end, mm_vmscan_direct_reclaim_end)
{
	return end(RECLAIM_KIND_DIRECT);
}

TRACEPOINT(direct__tracepoint__begin, vmscan, mm_vmscan_direct_reclaim_begin, void *ctx)
{
	begin(RECLAIM_KIND_DIRECT);
}

TRACEPOINT(direct__tracepoint__end, vmscan, mm_vmscan_direct_reclaim_end, void *ctx)
{
	end(RECLAIM_KIND_DIRECT);
}

TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)
{
	return begin(RECLAIM_KIND_MEMCG);
}

TP_BTF(memcg__tp_btf__end, mm_vmscan_memcg_reclaim_end)
{
	return end(RECLAIM_KIND_MEMCG);
}

TRACEPOINT(memcg__tracepoint__begin, vmscan, mm_vmscan_memcg_reclaim_begin, void *ctx)
{
	begin(RECLAIM_KIND_MEMCG);
}

TRACEPOINT(memcg__tracepoint__end, vmscan, mm_vmscan_memcg_reclaim_end, void *ctx)
{
	end(RECLAIM_KIND_MEMCG);
}

TP_BTF(kswapd__tp_btf, mm_vmscan_kswapd_wake, int nid)
{
	return woken(nid);
}

TRACEPOINT(kswapd__tracepoint, vmscan, mm_vmscan_kswapd_wake, struct trace_event_raw_mm_vmscan_kswapd_wake *ctx)
{
	woken(ctx->nid);
}

/* Pages leave memory from the inactive lists. Each pass over one reports what it scanned and freed. */
TP_BTF(scan__tp_btf, mm_vmscan_lru_shrink_inactive, int nid, unsigned long nr_scanned, unsigned long nr_reclaimed)
{
	return scanned(nid, nr_scanned, nr_reclaimed);
}

TRACEPOINT(scan__tracepoint, vmscan, mm_vmscan_lru_shrink_inactive,
	struct trace_event_raw_mm_vmscan_lru_shrink_inactive *ctx)
{
	scanned(ctx->nid, ctx->nr_scanned, ctx->nr_reclaimed);
}

static __always_inline int compact_begin(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		timer_start(&compactions, pid_tgid, 0);
	return 0;
}

static __always_inline int compact_end(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	UPDATE(m) {
		m->compactions_total++;
		timer_stop_wide(&compactions, pid_tgid, &m->compaction_duration_seconds, m->events_lost_total);
	}
	return 0;
}

/* No argument is read: they differ between Linux 5.10 and 6.1. */
TP_BTF(compaction__tp_btf__begin, mm_compaction_begin)
{
	return compact_begin();
}

TP_BTF(compaction__tp_btf__end, mm_compaction_end)
{
	return compact_end();
}

TRACEPOINT(compaction__tracepoint__begin, compaction, mm_compaction_begin, void *ctx)
{
	compact_begin();
}

TRACEPOINT(compaction__tracepoint__end, compaction, mm_compaction_end, void *ctx)
{
	compact_end();
}

/* The kernel's totals for the process since it started. */
struct usage {
	__u64 faults[FAULT_KIND__COUNT];
};

#include "task.h"

static __always_inline void each_task(struct metrics *m, struct task_struct *t)
{
	if (ended_are_due()) {
		pass.usage.faults[FAULT_KIND_MINOR] = t->signal->min_flt;
		pass.usage.faults[FAULT_KIND_MAJOR] = t->signal->maj_flt;
	}
	pass.usage.faults[FAULT_KIND_MINOR] += t->min_flt;
	pass.usage.faults[FAULT_KIND_MAJOR] += t->maj_flt;
}

static __always_inline void end_of_pass(struct metrics *m)
{
	for (__u32 kind = 0; kind < FAULT_KIND__COUNT; kind++)
		m->page_faults_total[kind] =
			grown(m->page_faults_total[kind], begun.faults[kind], pass.usage.faults[kind]);
}

/*
 * Resident pages. They have their own iterator, so that the rest works without the right to copy kernel memory: before
 * Linux 6.2 the verifier does not let a program follow a pointer to the counters. As in task.h, one runs at a time, and
 * writes to the entry of CPU 0.
 */
static __always_inline struct mm_struct *mm_in_scope(struct task_struct *t)
{
	return t && in_scope((__u64)t->tgid << 32 | (__u32)t->pid) ? t->mm : 0;
}

/* What CPUs hold back may make a counter negative. */
static __always_inline __u64 at_least_none(__s64 n)
{
	return n > 0 ? n : 0;
}

/* All threads of a process share these. */
static __always_inline int resident(__s64 file, __s64 anon, __s64 shmem)
{
	__u32 entry = 0;
	struct metrics *m = bpf_map_lookup_elem(&metrics, &entry);

	if (!m)
		return 0;
	m->resident_pages[RESIDENT_KIND_FILE] = at_least_none(file);
	m->resident_pages[RESIDENT_KIND_ANON] = at_least_none(anon);
	m->resident_pages[RESIDENT_KIND_SHMEM] = at_least_none(shmem);
	return 0;
}

SEC("iter/task")
int resident__iter(struct bpf_iter__task *ctx)
{
	struct mm_struct *mm = mm_in_scope(ctx->task);

	if (!mm)
		return 0;
	return resident(
		mm->rss_stat[MM_FILEPAGES].count, mm->rss_stat[MM_ANONPAGES].count, mm->rss_stat[MM_SHMEMPAGES].count);
}

SEC("iter/task")
int resident__iter_copy(struct bpf_iter__task *ctx)
{
	struct mm_struct___atomic *mm = (void *)mm_in_scope(ctx->task);

	if (!mm)
		return 0;
	return resident(BPF_CORE_READ(mm, rss_stat.count[MM_FILEPAGES].counter),
		BPF_CORE_READ(mm, rss_stat.count[MM_ANONPAGES].counter),
		BPF_CORE_READ(mm, rss_stat.count[MM_SHMEMPAGES].counter));
}

/*
 * Page faults.
 *
 * A fault that has to wait releases its locks and is retried. It begins at the first attempt, and the kernel counts it
 * when the last one ends, as major if its result or FAULT_FLAG_TRIED says so. A retry has that flag, except after an
 * attempt under the lock of one area (Linux 6.4), which is retried under the lock of all areas. A fault that a signal
 * keeps from being retried has not ended, and never will.
 */
enum { FAULT_NOTE_FILE = 1, FAULT_NOTE_TRIED = 2, FAULT_NOTE_AREA_LOCK = 4, FAULT_NOTE_AGAIN = 8 };
enum {
	VM_FAULT_FAILED = VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_HWPOISON |
			  VM_FAULT_HWPOISON_LARGE | VM_FAULT_FALLBACK
};

static __always_inline int continues(int was, __u32 note)
{
	if (was < 0 || !(was & FAULT_NOTE_AGAIN))
		return 0;
	return note & FAULT_NOTE_TRIED || (was & FAULT_NOTE_AREA_LOCK && !(note & FAULT_NOTE_AREA_LOCK));
}

/* The file that a fault is in, beside its timer: at the end the area may be gone. */
static __u16 fault_files[TIMER_SLOTS];

static __always_inline void note_file(__u64 pid_tgid, struct file *file)
{
	preempt_off();
	fault_files[pid_tgid & (TIMER_SLOTS - 1)] = file_of(file);
	preempt_on();
}

static __always_inline int fault_begin(__u64 pid_tgid, struct file *file, __u32 flags)
{
	__u32 note = 0;

	if (file)
		note |= FAULT_NOTE_FILE;
	if (flags & FAULT_FLAG_TRIED)
		note |= FAULT_NOTE_TRIED;
	if (flags & FAULT_FLAG_VMA_LOCK)
		note |= FAULT_NOTE_AREA_LOCK;
	if (continues(timer_note(&faults, pid_tgid), note)) {
		timer_renote(&faults, pid_tgid, note);
	} else {
		note_file(pid_tgid, file);
		timer_start(&faults, pid_tgid, note);
	}
	return 0;
}

static __always_inline void faulted(struct metrics *m, __u32 kind, __u32 area, __u32 file, __u64 ns)
{
	__u32 who = work_who();
	struct memory_by_work *by = &m->by_work[cell_of(work_of(who), file)];

	/* Before Linux 6.10 another thread's fault may preempt this program. */
	hist_ns_wide_add_atomic(&m->page_fault_duration_seconds[kind][area], ns);
	work_add(&by->attributed_page_faults_total[kind], 1);
	work_add(&by->attributed_page_fault_seconds_total, ns);
	if (kind == FAULT_KIND_MAJOR)
		ON_RECEIPT(m, who, r) {
			work_add(&r->major_faults, 1);
			work_add(&r->major_fault_seconds, ns);
		}
}

/* The area is not read: without its lock it may be gone. */
static __always_inline int fault_end(__u64 pid_tgid, __u32 ret)
{
	int note = timer_note(&faults, pid_tgid);
	__u32 kind = FAULT_KIND_MINOR, area = FAULT_AREA_ANON;
	__s64 ns;

	if (ret & VM_FAULT_FAILED)
		return 0;
	if (ret & VM_FAULT_RETRY) {
		if (note >= 0)
			timer_renote(&faults, pid_tgid, note | FAULT_NOTE_AGAIN);
		return 0;
	}
	if (ret & VM_FAULT_MAJOR || note & FAULT_NOTE_TRIED)
		kind = FAULT_KIND_MAJOR;
	if (note & FAULT_NOTE_FILE)
		area = FAULT_AREA_FILE;
	UPDATE(m) {
		ns = timer_end(&faults, pid_tgid, m->events_lost_total);
		if (ns != TIMER_NONE)
			AT_ONCE(m)
				faulted(m, kind, area, fault_files[pid_tgid & (TIMER_SLOTS - 1)], ns);
	}
	return 0;
}

FENTRY(fault__fentry__begin, "handle_mm_fault", struct vm_area_struct *vma, unsigned long address, unsigned int flags)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return fault_begin(pid_tgid, vma->vm_file, flags);
}

FEXIT(fault__fentry__end, "handle_mm_fault", struct vm_area_struct *vma, unsigned long address, unsigned int flags,
	struct pt_regs *regs, vm_fault_t ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return fault_end(pid_tgid, ret);
}

SEC("kprobe/handle_mm_fault")
int BPF_KPROBE(fault__kprobe__begin, struct vm_area_struct *vma, unsigned long address, unsigned int flags)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return fault_begin(pid_tgid, BPF_CORE_READ(vma, vm_file), flags);
}

SEC("kretprobe/handle_mm_fault")
int BPF_KRETPROBE(fault__kprobe__end, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return fault_end(pid_tgid, ret);
}

/*
 * OOM victims.
 *
 * The kernel marks a process that it kills, and later each of its threads that finds no memory while it exits: a
 * process among the last victims is not counted again. The kernel holds a system-wide lock meanwhile, so plain
 * increments are exact.
 */
enum { VICTIMS = 8 };
static __u64 victims[VICTIMS];
static __u32 next_victim;

static __always_inline int marked(__u32 tgid, __u64 victim)
{
	for (__u32 i = 0; i < VICTIMS; i++)
		if (victims[i] == victim)
			return 0;
	victims[next_victim++ & (VICTIMS - 1)] = victim;
	UPDATE(m)
		m->oom_kills_total[tgid == scope_tgid ? OOM_VICTIM_SELF : OOM_VICTIM_OTHER]++;
	return 0;
}

/* The first mark has the first thread's id, unless that has ended; later ones have the current thread's. */
static __always_inline int marked_pid(int pid)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tgid = (__u32)pid_tgid == pid ? pid_tgid >> 32 : pid;

	return marked(tgid, tgid);
}

TP_BTF(oom__tp_btf, mark_victim, struct task_struct *task)
{
	return marked(task->tgid, task->group_leader->start_time << 22 | task->tgid);
}

/* Kernels from before 2024, including stable ones, pass only the thread's id. */
TP_BTF(oom__tp_btf_pid, mark_victim, int pid)
{
	return marked_pid(pid);
}

TRACEPOINT(oom__tracepoint, oom, mark_victim, struct trace_event_raw_mark_victim *ctx)
{
	marked_pid(ctx->pid);
}

/* SCAN_SUCCEED of the kernel's enum scan_result, which has been 1 in all kernels. */
enum { COLLAPSED = 1 };

/*
 * khugepaged works for all processes: the owner of the memory counts. A kernel without memory cgroups does not record
 * it.
 */
static __always_inline int collapsed(__u32 owner, int status)
{
	if (scope_tid ? !in_scope(bpf_get_current_pid_tgid()) : owner != scope_tgid)
		return 0;
	UPDATE(m)
		m->thp_collapses_total[status == COLLAPSED ? THP_RESULT_OK : THP_RESULT_FAILED]++;
	return 0;
}

TP_BTF(collapse__tp_btf, mm_collapse_huge_page, struct mm_struct *mm, int isolated, int status)
{
	struct task_struct *owner;

	if (!bpf_core_field_exists(mm->owner))
		return collapsed(bpf_get_current_pid_tgid() >> 32, status);
	owner = mm->owner;
	return collapsed(owner ? owner->tgid : 0, status);
}

TRACEPOINT(collapse__tracepoint, huge_memory, mm_collapse_huge_page, struct trace_event_raw_mm_collapse_huge_page *ctx)
{
	struct mm_struct *mm = ctx->mm;

	if (bpf_core_field_exists(mm->owner))
		collapsed(BPF_CORE_READ(mm, owner, tgid), ctx->status);
	else
		collapsed(bpf_get_current_pid_tgid() >> 32, ctx->status);
}
