//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * cache: what this process does to the page cache, and what it waits for there.
 *
 * Unit: pages of the system's page size, whatever the size of their folio; lookups, waits and pauses in events;
 * nanoseconds. Linux 5.10; lookups 6.8.
 */
#define TIMER_SLOT_BITS 9
#include "probe.bpf.h"
#include "file.h"

struct cache_by_work {
	counter_t attributed_filled_pages_total HOOKS("fill") PART_OF("filled_pages_total")
		HELP("Pages that this process added to the page cache, by the work that needed them.")
			BY_FILE("Pages that this process added to the page cache, by file.");
	counter_t attributed_deleted_pages_total HOOKS("delete") PART_OF("deleted_pages_total")
		HELP("Pages that this process removed from the page cache, by the work that removed them.")
			BY_FILE("Pages that this process removed from the page cache, by file.");
	counter_t attributed_dropped_pages_total HOOKS("dirty") PART_OF("dropped_pages_total")
		HELP("Pages that this process dropped by fadvise, by the work that dropped them.")
			BY_FILE_AND_WORK("Pages that this process dropped by fadvise, by the work that dropped them, "
					 "and by file.");
	counter_t attributed_dirtied_pages_total HOOKS("dirty") PART_OF("dirtied_pages_total")
		HELP("Pages of files that this process made dirty, by the work that wrote them.");
	counter_t attributed_regret_pages_total HOOKS("dirty") PART_OF("regret_pages_total") HELP(
		"Pages that this process dropped by fadvise and needed again within 60 seconds, by the work that needed "
		"them again. Zero unless pages are dropped too early.")
		BY_FILE("Pages that this process dropped by fadvise and needed again within 60 seconds, by file. Zero "
			"unless pages are dropped too early.");
	counter_t attributed_dropped_early_pages_total HOOKS("dirty") PART_OF("regret_pages_total") HELP(
		"The same pages, by the work that had dropped them: of a run of 64 pages, or of a larger folio, the one that dropped last. Zero "
		"unless pages are dropped too early.")
		BY_FILE_AND_WORK("Pages that this process dropped by fadvise and needed again within 60 seconds, by "
				 "the work that had dropped them, and by file. Zero unless pages are dropped too "
				 "early.");
	counter_t attributed_writeback_waits_total HOOKS("wait") PART_OF("writeback_waits_total")
		HELP("Times a thread of this process waited for the writeback of a page, by the work that waited. Zero "
		     "unless threads wait for writeback.");
	counter_ns_t attributed_writeback_wait_seconds_total HOOKS("wait_time") PART_OF("writeback_wait_seconds") HELP(
		"Time that threads of this process waited for the writeback of a page, by the work that waited. Zero "
		"unless threads wait for writeback.");
	counter_ns_t attributed_throttle_seconds_total HOOKS("throttle_time") PART_OF("throttle_seconds_total")
		HELP("Time that threads of this process spent in the kernel's throttling of writers, by the work that "
		     "wrote. Zero unless writes outpace the disk.");
	counter_t attributed_refaults_total HOOKS("refault") PART_OF("refaults_total")
		HELP("Pages of files that this process needed again soon after reclaim had evicted them from the page "
		     "cache, by the work that needed them. Zero unless memory is short.");
};

struct cache_receipt {
	counter_t filled_pages HOOKS("fill") HELP("Pages that were added to the page cache.");
	counter_t regret_pages HOOKS("dirty")
		HELP("Pages that fadvise had dropped, and that were needed again within 60 seconds.");
};

struct metrics {
	counter_t lookups_total HOOKS("lookup") VERIFY("cached_reads") COST("call") SINCE("6.8")
		HELP("Times a buffered read looked up pages in the page cache. One lookup returns a batch of pages. "
		     "Not counted: page faults on a mapping.");
	counter_t filled_pages_total HOOKS("fill") VERIFY("filled_pages") COST("page")
		HELP("Pages that this process added to the page cache, by reads and their readahead, writes and page "
		     "faults.");
	counter_t deleted_pages_total HOOKS("delete") VERIFY("deleted_pages") COST("page")
		HELP("Pages that this process removed from the page cache, by fadvise, truncation, unlink and reclaim "
		     "in its own threads. Not counted: pages removed by kswapd or by other processes.");
	/*
	 * The next four need the page itself, which a classic tracepoint does not provide. The hook dirty has no
	 * variant of that kind, so it is attached only where fill and delete get the page.
	 */
	counter_t dropped_pages_total HOOKS("dirty") VERIFY("dropped_pages")
		HELP("Pages that this process dropped by fadvise. Punching a hole, and direct I/O over cached pages, "
		     "count like fadvise. Not counted: pages beyond the end of the file, and pages removed by "
		     "truncation, unlink or reclaim.");
	counter_t unused_pages_total HOOKS("dirty") VERIFY("unused_pages")
		HELP("Pages that this process dropped by fadvise before anything had used them, such as readahead in "
		     "vain. A page of a larger folio counts as used if any page of the folio was. Not counted: files "
		     "open for writing, and pages removed by truncation, unlink or reclaim. A page that one descriptor "
		     "reads twice in a row, and that was dropped in between, looks unused. Zero unless unused pages "
		     "are dropped.");
	counter_t regret_pages_total HOOKS("dirty") VERIFY("refilled_pages")
		HELP("Pages that this process dropped by fadvise and needed again within 60 seconds, for a read, a "
		     "write or a page fault. Punching a hole, and direct I/O over cached pages, count like fadvise. "
		     "Not counted: pages beyond the end of the file, and pages removed by truncation, unlink or "
		     "reclaim. Zero unless pages are dropped too early.");
	counter_t regret_forgotten_pages_total HOOKS("dirty")
		HELP("Dropped pages that were pushed out of the table of 1024 runs of 64 pages within their 60 "
		     "seconds. Needing them again would not have counted as regret. Zero unless the table is too "
		     "small.");
	counter_t dirtied_pages_total HOOKS("dirty") VERIFY("dirtied_pages")
		HELP("Pages of files that this process made dirty, by a write or through a mapping, and that have to "
		     "be written back. A page that is already dirty is not counted again. Not counted: direct I/O, and "
		     "file systems in memory.");
	counter_t writeback_waits_total HOOKS("wait")
		HELP("Times a thread of this process waited for the writeback of a page, mostly in fsync. Zero unless "
		     "threads wait for writeback.");
	struct hist_ns_wide writeback_wait_seconds HOOKS("wait_time")
		HELP("Time that threads of this process waited for the writeback of a page. Not counted: waits that a "
		     "fatal signal can interrupt. Zero unless threads wait for writeback.");
	counter_t throttle_pauses_total HOOKS("throttle")
		HELP("Times the kernel put a thread of this process to sleep because too many pages were dirty. Zero "
		     "unless writes outpace the disk.");
	counter_ns_t throttle_seconds_total HOOKS("throttle_time")
		HELP("Time that threads of this process spent in the kernel's throttling of writers: pauses, and a few "
		     "microseconds for each check whether a pause is due. Zero unless writes outpace the disk.");
	counter_t refaults_total HOOKS("refault")
		HELP("Pages of files that this process needed again soon after reclaim had evicted them from the page "
		     "cache. Not counted: pages dropped by fadvise. Zero unless memory is short.");
	EVENTS_LOST;
	BY_WORK_AND_FILE(cache_by_work);
	ON_RECEIPTS(cache_receipt);
} __attribute__((aligned(64)));
METRICS;

/*
 * All programs run in the process's context, without preemption (see UPDATE), and no interrupt changes the page cache
 * for it: plain increments are exact.
 */

#define PAGE_FLAG(name) (1UL << bpf_core_enum_value(enum pageflags, name))

static __always_inline unsigned long folio_flags(struct folio *folio)
{
	struct folio___memdesc *memdesc = (void *)folio;

	return bpf_core_field_exists(memdesc->flags.f) ? memdesc->flags.f : folio->flags;
}

static __always_inline __u32 folio_pages(struct folio *folio)
{
	struct folio___memdesc *memdesc = (void *)folio;

	if (!(folio_flags(folio) & PAGE_FLAG(PG_head)))
		return 1;
	return bpf_core_field_exists(memdesc->_nr_pages) ? memdesc->_nr_pages : folio->_folio_nr_pages;
}

static __always_inline __u32 event_pages(struct trace_event_raw_mm_filemap_op_page_cache *event)
{
	return bpf_core_field_exists(event->order) ? 1U << event->order : 1;
}

/* Whether a page is before the end of its file. */
static __always_inline int in_file(struct inode *inode, unsigned long index)
{
	__u64 page_size = bpf_core_field_offset(struct bpf_ringbuf, producer_pos) -
			  bpf_core_field_offset(struct bpf_ringbuf, consumer_pos);

	return index * page_size < (__u64)inode->i_size;
}

/*
 * Recently dropped pages: a table of runs of 64 pages. The slot of a run is a hash of the file and of the run's number
 * in it, chosen so that consecutive runs of a file are in different slots. A run replaces the one that was in its slot.
 *
 * The time of a run is that of its last dropped page. If two threads drop and fill pages of one slot at the same
 * moment, these pages may be miscounted.
 */
enum { RUN_SHIFT = 6 };
enum { RUN_PAGES = 1 << RUN_SHIFT };
enum { RUN_SLOT_BITS = 10 };
enum { RUN_TIME_SHIFT = 20 };
/* The most runs that a folio has. */
enum { FOLIO_RUNS = 64 };

static struct run {
	/* The rest of the hash, the number of the work that dropped last, and the time, which may wrap. */
	__u32 tag;
	__u32 time;
	/* A bit for each page that was dropped and has not come back. */
	__u64 pages;
} runs[1 << RUN_SLOT_BITS];

/* A page that is needed again within this many nanoseconds was dropped too early. */
const volatile __u64 regret_ns = 60000000000;

/* The generation distinguishes files that had the same number one after the other. */
static __always_inline __u64 file_hash(struct inode *inode)
{
	__u64 h = inode->i_ino;

	h = (h ^ ((__u64)inode->i_generation << 32 | inode->i_sb->s_dev)) * 0xff51afd7ed558ccdULL;
	return (h ^ h >> 32) * 0xc4ceb9fe1a85ec53ULL;
}

/* The multiple of the golden ratio spreads neighbours evenly. */
static __always_inline __u64 run_hash(__u64 file, unsigned long index)
{
	return file + (index >> RUN_SHIFT) * 0x9e3779b97f4a7c15ULL;
}

static __always_inline struct run *run_place(__u64 hash)
{
	return &runs[hash >> (64 - RUN_SLOT_BITS)];
}

/* The lower bits hold the work. */
static __always_inline __u32 run_tag(__u64 hash)
{
	return (__u32)(hash >> (64 - RUN_SLOT_BITS - 32)) & ~(WORKS - 1);
}

static __always_inline int is_run(struct run *run, __u64 hash)
{
	return (run->tag & ~(WORKS - 1)) == run_tag(hash);
}

/* The pages of a folio that belong to one run. A folio begins at a multiple of its size. */
static __always_inline __u64 run_mask(unsigned long index, __u32 pages)
{
	return pages < RUN_PAGES ? ((1ULL << pages) - 1) << (index & (RUN_PAGES - 1)) : ~0ULL;
}

/*
 * The time in units of 1.05 ms. Reading the clock costs more than everything else that is done for a page, so it is
 * read once per kernel tick. The word has the tick in its upper half, and the time of the reading in its lower half.
 */
static __always_inline __u32 run_clock(void)
{
	static __u64 last;
	__u32 tick = bpf_jiffies64();
	__u64 word = *(volatile __u64 *)&last;

	if (word >> 32 != tick) {
		word = (__u64)tick << 32 | (__u32)(bpf_ktime_get_ns() >> RUN_TIME_SHIFT);
		*(volatile __u64 *)&last = word;
	}
	return word;
}

static __always_inline int recent(struct run *run, __u32 now)
{
	return now - run->time <= regret_ns >> RUN_TIME_SHIFT;
}

static __always_inline __u32 ones(__u64 bits)
{
	return __builtin_popcountll(bits);
}

static __always_inline void note_dropped(struct metrics *m, __u32 work, __u64 hash, __u64 pages)
{
	struct run *run = run_place(hash);
	__u32 now = run_clock();

	if (!is_run(run, hash) || !recent(run, now)) {
		if (run->pages && recent(run, now))
			m->regret_forgotten_pages_total += ones(run->pages);
		run->pages = 0;
	}
	run->tag = run_tag(hash) | work;
	run->time = now;
	run->pages |= pages;
}

/* Notes the work that had dropped the pages, if they are regretted. */
static __always_inline void note_filled(struct metrics *m, __u64 hash, __u64 pages)
{
	struct run *run = run_place(hash);

	if (!is_run(run, hash))
		return;
	pages &= run->pages;
	if (!pages)
		return;
	run->pages &= ~pages;
	if (!recent(run, run_clock()))
		return;
	m->regret_pages_total += ones(pages);
	*(volatile __u64 *)&m->updates.note = run->tag;
}

static __always_inline int looked_up(void)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		UPDATE_IN_TRACEPOINT(m)
			m->lookups_total++;
	return 0;
}

static __always_inline void add_filled(struct metrics *m, struct inode *inode, unsigned long index, __u32 pages)
{
	__u64 hash, regret = m->regret_pages_total;
	__u32 who, file;
	struct cache_by_work *by;

	m->filled_pages_total += pages;
	if (in_file(inode, index)) {
		hash = file_hash(inode);
		note_filled(m, run_hash(hash, index), run_mask(index, pages));
		for (__u32 i = 1; i < FOLIO_RUNS && i * RUN_PAGES < pages; i++)
			note_filled(m, run_hash(hash, index + i * RUN_PAGES), ~0ULL);
	}
	/*
	 * Only tracepoints run this, one at a time on a CPU. A sum of the runs would have the verifier check more
	 * paths, and so would the search for the work and the file if it came first.
	 */
	regret = m->regret_pages_total - regret;
	who = work_who();
	file = file_of_inode(inode);
	by = &m->by_work[cell_of(work_of(who), file)];
	work_add(&by->attributed_filled_pages_total, pages);
	work_add(&by->attributed_regret_pages_total, regret);
	if (regret)
		work_add(&m->by_work[cell_of(*(volatile __u64 *)&m->updates.note, file)]
				  .attributed_dropped_early_pages_total,
			regret);
	ON_RECEIPT(m, who, r) {
		work_add(&r->filled_pages, pages);
		work_add(&r->regret_pages, regret);
	}
}

static __always_inline void filled(struct inode *inode, unsigned long index, __u32 pages)
{
	UPDATE_IN_TRACEPOINT(m)
		AT_ONCE(m)
			add_filled(m, inode, index, pages);
}

/* Reclaim takes a page off its LRU list before it deletes it; all others leave it there. */
static __always_inline int invalidated(unsigned long flags, struct inode *inode, unsigned long index)
{
	return flags & PAGE_FLAG(PG_lru) && inode->i_nlink && in_file(inode, index);
}

static __always_inline void add_deleted(struct metrics *m, struct cache_by_work *by, __u32 pages)
{
	m->deleted_pages_total += pages;
	work_add(&by->attributed_deleted_pages_total, pages);
}

static __always_inline void add_dropped(struct metrics *m, struct cache_by_work *by, __u32 pages)
{
	m->dropped_pages_total += pages;
	work_add(&by->attributed_dropped_pages_total, pages);
}

static __always_inline void deleted(unsigned long flags, struct inode *inode, unsigned long index, __u32 pages)
{
	unsigned long used = PAGE_FLAG(PG_referenced) | PAGE_FLAG(PG_active) | PAGE_FLAG(PG_workingset);
	struct cache_by_work *by;
	__u64 file;
	__u32 work, dropped;

	UPDATE_IN_TRACEPOINT(m) {
		work = work_now();
		by = &m->by_work[cell_of(work, file_of_inode(inode))];
		dropped = invalidated(flags, inode, index);
		AT_ONCE(m) {
			add_deleted(m, by, pages);
			if (dropped)
				add_dropped(m, by, pages);
		}
		if (dropped) {
			if (!(flags & used) && inode->i_writecount.counter <= 0)
				m->unused_pages_total += pages;
			file = file_hash(inode);
			note_dropped(m, work, run_hash(file, index), run_mask(index, pages));
			for (__u32 i = 1; i < FOLIO_RUNS && i * RUN_PAGES < pages; i++)
				note_dropped(m, work, run_hash(file, index + i * RUN_PAGES), ~0ULL);
		}
	}
}

static __always_inline int dirtied(__u32 pages)
{
	UPDATE_IN_TRACEPOINT(m)
		AT_ONCE(m) {
			m->dirtied_pages_total += pages;
			work_add(&m->by_work[work_now()].attributed_dirtied_pages_total, pages);
		}
	return 0;
}

TP_BTF(lookup__tp_btf, mm_filemap_get_pages)
{
	return looked_up();
}

TRACEPOINT(lookup__tracepoint, filemap, mm_filemap_get_pages, void *ctx)
{
	looked_up();
}

TP_BTF(fill__tp_btf, mm_filemap_add_to_page_cache, struct folio *folio)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		filled(folio->mapping->host, folio->index, folio_pages(folio));
	return 0;
}

/* Before folios, a file's pages were added one by one. Only shared memory had huge ones, and it uses another path. */
TP_BTF(fill__tp_btf_page, mm_filemap_add_to_page_cache, struct page *page)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		filled(page->mapping->host, page->index, 1);
	return 0;
}

TRACEPOINT(
	fill__tracepoint, filemap, mm_filemap_add_to_page_cache, struct trace_event_raw_mm_filemap_op_page_cache *ctx)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		UPDATE_IN_TRACEPOINT(m)
			AT_ONCE(m) {
				m->filled_pages_total += event_pages(ctx);
				work_add(&m->by_work[work_now()].attributed_filled_pages_total, event_pages(ctx));
			}
}

TP_BTF(delete__tp_btf, mm_filemap_delete_from_page_cache, struct folio *folio)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		deleted(folio_flags(folio), folio->mapping->host, folio->index, folio_pages(folio));
	return 0;
}

TP_BTF(delete__tp_btf_page, mm_filemap_delete_from_page_cache, struct page *page)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		deleted(page->flags, page->mapping->host, page->index, 1);
	return 0;
}

TRACEPOINT(delete__tracepoint, filemap, mm_filemap_delete_from_page_cache,
	struct trace_event_raw_mm_filemap_op_page_cache *ctx)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		UPDATE_IN_TRACEPOINT(m)
			AT_ONCE(m)
				add_deleted(m, &m->by_work[work_now()], event_pages(ctx));
}

TP_BTF(dirty__tp_btf, writeback_dirty_folio, struct folio *folio)
{
	return in_scope(bpf_get_current_pid_tgid()) ? dirtied(folio_pages(folio)) : 0;
}

TP_BTF(dirty__tp_btf_page, writeback_dirty_page, struct page *page)
{
	return in_scope(bpf_get_current_pid_tgid()) ? dirtied(1) : 0;
}

TIMER(writeback_waits);
TIMER(throttle_waits);

static __always_inline int wait_begin(struct timer *t)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		UPDATE(m)
			timer_start_counted(t, pid_tgid, m->events_lost_total);
	return 0;
}

static __always_inline int waited(void)
{
	if (in_scope(bpf_get_current_pid_tgid()))
		UPDATE_IN_TRACEPOINT(m)
			AT_ONCE(m) {
				m->writeback_waits_total++;
				work_add(&m->by_work[work_now()].attributed_writeback_waits_total, 1);
			}
	return 0;
}

static __always_inline int wait_returned(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__s64 ns;

	if (!in_scope(pid_tgid) || timer_note(&writeback_waits, pid_tgid) < 0)
		return 0;
	UPDATE(m) {
		ns = timer_end(&writeback_waits, pid_tgid, m->events_lost_total);
		if (ns != TIMER_NONE)
			AT_ONCE(m) {
				hist_ns_wide_add(&m->writeback_wait_seconds, ns);
				work_add(&m->by_work[work_now()].attributed_writeback_wait_seconds_total, ns);
			}
	}
	return 0;
}

TP_BTF(wait__tp_btf, folio_wait_writeback)
{
	return waited();
}

TP_BTF(wait__tp_btf_page, wait_on_page_writeback)
{
	return waited();
}

TRACEPOINT(wait__tracepoint, writeback, folio_wait_writeback, void *ctx)
{
	waited();
}

TRACEPOINT(wait__tracepoint_page, writeback, wait_on_page_writeback, void *ctx)
{
	waited();
}

/* folio_wait_writeback waits in here. */
FENTRY(wait_time__fentry__begin, "folio_wait_bit", struct folio *folio, int bit)
{
	return bit == bpf_core_enum_value(enum pageflags, PG_writeback) ? wait_begin(&writeback_waits) : 0;
}

FEXIT(wait_time__fentry__end, "folio_wait_bit", struct folio *folio, int bit)
{
	return wait_returned();
}

FENTRY(wait_time__fentry_page__begin, "wait_on_page_bit", struct page *page, int bit)
{
	return bit == bpf_core_enum_value(enum pageflags, PG_writeback) ? wait_begin(&writeback_waits) : 0;
}

FEXIT(wait_time__fentry_page__end, "wait_on_page_bit", struct page *page, int bit)
{
	return wait_returned();
}

/* The event also occurs when no pause is due. The unit of the pause does not matter. */
static __always_inline int paused(long pause)
{
	if (pause > 0 && in_scope(bpf_get_current_pid_tgid()))
		UPDATE_IN_TRACEPOINT(m)
			m->throttle_pauses_total++;
	return 0;
}

static __always_inline int pause_returned(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__s64 ns;

	if (!in_scope(pid_tgid) || timer_note(&throttle_waits, pid_tgid) < 0)
		return 0;
	UPDATE(m) {
		ns = timer_end(&throttle_waits, pid_tgid, m->events_lost_total);
		if (ns != TIMER_NONE)
			AT_ONCE(m) {
				m->throttle_seconds_total += ns;
				work_add(&m->by_work[work_now()].attributed_throttle_seconds_total, ns);
			}
	}
	return 0;
}

/* Linux 6.16 moved the first integers into a struct (commit d5386670ee51). */
TP_BTF(throttle__tp_btf, balance_dirty_pages, struct bdi_writeback *wb, struct dirty_throttle_control *dtc,
	unsigned long ratelimit, unsigned long own, unsigned long dirtied, unsigned long period, long pause)
{
	return paused(pause);
}

TP_BTF(throttle__tp_btf_words, balance_dirty_pages, struct bdi_writeback *wb, unsigned long thresh,
	unsigned long bg_thresh, unsigned long dirty, unsigned long wb_thresh, unsigned long wb_dirty,
	unsigned long ratelimit, unsigned long own, unsigned long dirtied, unsigned long period, long pause)
{
	return paused(pause);
}

TRACEPOINT(throttle__tracepoint, writeback, balance_dirty_pages, struct trace_event_raw_balance_dirty_pages *ctx)
{
	paused(ctx->pause);
}

FENTRY(throttle_time__fentry__begin, "balance_dirty_pages")
{
	return wait_begin(&throttle_waits);
}

FEXIT(throttle_time__fentry__end, "balance_dirty_pages")
{
	return pause_returned();
}

static __always_inline int refaulted(unsigned long flags, __u32 pages)
{
	/* Shared and anonymous memory that comes back from swap. */
	if (flags & PAGE_FLAG(PG_swapbacked))
		return 0;
	UPDATE(m)
		AT_ONCE(m) {
			m->refaults_total += pages;
			work_add(&m->by_work[work_now()].attributed_refaults_total, pages);
		}
	return 0;
}

FENTRY(refault__fentry, "workingset_refault", struct folio *folio)
{
	return in_scope(bpf_get_current_pid_tgid()) ? refaulted(folio_flags(folio), folio_pages(folio)) : 0;
}

FENTRY(refault__fentry_page, "workingset_refault", struct page *page)
{
	return in_scope(bpf_get_current_pid_tgid()) ? refaulted(page->flags, 1) : 0;
}
