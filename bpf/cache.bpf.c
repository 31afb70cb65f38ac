//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * cache: what this process does to the page cache.
 *
 * Unit: pages of the system's page size, whatever the size of the folio that carries them; lookups in events.
 * Linux 5.10; lookups 6.8.
 */
#include "probe.bpf.h"

struct metrics {
	counter_t lookups_total HOOKS("lookup") HELP(
		"Times a buffered read looked for pages in the page cache; one lookup serves a run of pages. Not counted: "
		"page faults on a mapping.") SINCE("6.8") VERIFY("cached_reads");
	counter_t filled_pages_total HOOKS("fill") HELP(
		"Pages that this process added to the page cache: by reads and their readahead, writes, and page faults.")
		VERIFY("filled_pages");
	counter_t deleted_pages_total HOOKS("delete") HELP(
		"Pages that this process removed from the page cache: by fadvise, truncation, unlink, and reclaim that its "
		"threads did themselves. Not counted: what kswapd or other processes removed.") VERIFY("deleted_pages");
} __attribute__((aligned(64)));
METRICS;

/* All programs run in the context of the process, pinned: plain increments are exact. */

static __always_inline __u32 folio_pages(struct folio *folio)
{
	struct folio___memdesc *memdesc = (void *)folio;
	unsigned long large = 1UL << bpf_core_enum_value(enum pageflags, PG_head);

	if (bpf_core_field_exists(memdesc->flags.f))
		return memdesc->flags.f & large ? memdesc->_nr_pages : 1;
	if (!(folio->flags & large))
		return 1;
	return bpf_core_field_exists(memdesc->_nr_pages) ? memdesc->_nr_pages : folio->_folio_nr_pages;
}

static __always_inline __u32 event_pages(struct trace_event_raw_mm_filemap_op_page_cache *event)
{
	return bpf_core_field_exists(event->order) ? 1U << event->order : 1;
}

static __always_inline int looked_up(void)
{
	struct metrics *m;

	pin();
	m = metrics_in_scope(bpf_get_current_pid_tgid());
	if (m)
		m->lookups_total++;
	unpin();
	return 0;
}

static __always_inline int filled(__u32 pages)
{
	struct metrics *m;

	pin();
	m = metrics_in_scope(bpf_get_current_pid_tgid());
	if (m)
		m->filled_pages_total += pages;
	unpin();
	return 0;
}

static __always_inline int deleted(__u32 pages)
{
	struct metrics *m;

	pin();
	m = metrics_in_scope(bpf_get_current_pid_tgid());
	if (m)
		m->deleted_pages_total += pages;
	unpin();
	return 0;
}

TP_BTF(lookup__tp_btf, mm_filemap_get_pages)
{
	return looked_up();
}

SEC("tracepoint/filemap/mm_filemap_get_pages")
int lookup__tracepoint(void *ctx)
{
	return looked_up();
}

TP_BTF(fill__tp_btf, mm_filemap_add_to_page_cache, struct folio *folio)
{
	return filled(folio_pages(folio));
}

/* Before folios a file's pages came one by one: only shared memory had huge ones, and that goes another way. */
TP_BTF(fill__tp_btf_page, mm_filemap_add_to_page_cache, struct page *page)
{
	return filled(1);
}

SEC("tracepoint/filemap/mm_filemap_add_to_page_cache")
int fill__tracepoint(struct trace_event_raw_mm_filemap_op_page_cache *ctx)
{
	return filled(event_pages(ctx));
}

TP_BTF(delete__tp_btf, mm_filemap_delete_from_page_cache, struct folio *folio)
{
	return deleted(folio_pages(folio));
}

TP_BTF(delete__tp_btf_page, mm_filemap_delete_from_page_cache, struct page *page)
{
	return deleted(1);
}

SEC("tracepoint/filemap/mm_filemap_delete_from_page_cache")
int delete__tracepoint(struct trace_event_raw_mm_filemap_op_page_cache *ctx)
{
	return deleted(event_pages(ctx));
}
