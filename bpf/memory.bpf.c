//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * memory: reclaim, by who had to do it.
 *
 * direct: a thread of this process, because the system had no free memory. memcg: a thread of this process, because its
 * memory cgroup was full. kswapd: the kernel's own thread, for the whole host. Unit: events, nanoseconds, pages.
 * Linux 5.10.
 */
#include "probe.bpf.h"

enum memory_kind { MEMORY_KIND_DIRECT, MEMORY_KIND_MEMCG, MEMORY_KIND_KSWAPD, MEMORY_KIND__COUNT };
LABEL_VALUES(memory_kind);

struct metrics {
	counter_t reclaim_total[MEMORY_KIND__COUNT] HOOKS("direct,memcg,kswapd") LABELS("kind=memory_kind") HELP(
		"Reclaim runs: direct and memcg are those of this process's threads, kswapd counts the wake-ups of the whole "
		"host's kswapd.");
	struct hist_ns reclaim_duration_seconds[MEMORY_KIND__COUNT] HOOKS("direct,memcg") LABELS("kind=memory_kind") HELP(
		"Time that threads of this process stood still to reclaim memory. Not counted: kswapd, which stalls nobody.");
	counter_t reclaim_scanned_pages_total[MEMORY_KIND__COUNT] HOOKS("scan") LABELS("kind=memory_kind") HELP(
		"Pages of the inactive lists that reclaim looked at; kswapd is the whole host's. Not counted: a pass over a "
		"list that could take none.");
	counter_t reclaim_reclaimed_pages_total[MEMORY_KIND__COUNT] HOOKS("scan") LABELS("kind=memory_kind")
		HELP("Pages of the inactive lists that reclaim freed; kswapd is the whole host's. Not counted: slab.");
	EVENTS_LOST;
} __attribute__((aligned(64)));
METRICS;

/* Direct and memcg reclaim do not nest, as a thread that reclaims takes from the reserves. One timer serves both. */
static struct timer runs;

/* The kswapd of each memory node, learned when it wakes. A node beyond the table shares a place. */
enum { NODES = 64 };
static __u32 kswapd_tid[NODES];

/*
 * All programs run in the context of the thread that reclaims, pinned, and an interrupt does not reclaim: plain
 * increments are exact.
 */
static __always_inline int begin(__u32 kind)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		timer_start(&runs, pid_tgid, kind);
	return 0;
}

static __always_inline int end(__u32 kind)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct metrics *m;

	pin();
	m = metrics_in_scope(pid_tgid);
	if (m) {
		m->reclaim_total[kind]++;
		timer_stop(&runs, pid_tgid, &m->reclaim_duration_seconds[kind], m->events_lost_total);
	}
	unpin();
	return 0;
}

static __always_inline int woken(int nid)
{
	struct metrics *m;

	pin();
	m = metrics_here();
	if (m) {
		kswapd_tid[nid & (NODES - 1)] = bpf_get_current_pid_tgid();
		m->reclaim_total[MEMORY_KIND_KSWAPD]++;
	}
	unpin();
	return 0;
}

/* Who reclaims just now, as a memory_kind, or -1 for others. */
static __always_inline int reclaimer(int nid)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		return timer_note(&runs, pid_tgid);
	return kswapd_tid[nid & (NODES - 1)] == (__u32)pid_tgid ? MEMORY_KIND_KSWAPD : -1;
}

static __always_inline int scanned(int nid, unsigned long nr_scanned, unsigned long nr_reclaimed)
{
	int kind = reclaimer(nid);
	struct metrics *m;

	if (kind < 0 || kind >= MEMORY_KIND__COUNT)
		return 0;
	pin();
	m = metrics_here();
	if (m) {
		m->reclaim_scanned_pages_total[kind] += nr_scanned;
		m->reclaim_reclaimed_pages_total[kind] += nr_reclaimed;
	}
	unpin();
	return 0;
}

/* No argument is read: order and flags changed places in Linux 7.2. */
TP_BTF(direct__tp_btf__begin, mm_vmscan_direct_reclaim_begin)
{
	return begin(MEMORY_KIND_DIRECT);
}

TP_BTF(direct__tp_btf__end, mm_vmscan_direct_reclaim_end)
{
	return end(MEMORY_KIND_DIRECT);
}

SEC("tracepoint/vmscan/mm_vmscan_direct_reclaim_begin")
int direct__tracepoint__begin(void *ctx)
{
	return begin(MEMORY_KIND_DIRECT);
}

SEC("tracepoint/vmscan/mm_vmscan_direct_reclaim_end")
int direct__tracepoint__end(void *ctx)
{
	return end(MEMORY_KIND_DIRECT);
}

TP_BTF(memcg__tp_btf__begin, mm_vmscan_memcg_reclaim_begin)
{
	return begin(MEMORY_KIND_MEMCG);
}

TP_BTF(memcg__tp_btf__end, mm_vmscan_memcg_reclaim_end)
{
	return end(MEMORY_KIND_MEMCG);
}

SEC("tracepoint/vmscan/mm_vmscan_memcg_reclaim_begin")
int memcg__tracepoint__begin(void *ctx)
{
	return begin(MEMORY_KIND_MEMCG);
}

SEC("tracepoint/vmscan/mm_vmscan_memcg_reclaim_end")
int memcg__tracepoint__end(void *ctx)
{
	return end(MEMORY_KIND_MEMCG);
}

TP_BTF(kswapd__tp_btf, mm_vmscan_kswapd_wake, int nid)
{
	return woken(nid);
}

SEC("tracepoint/vmscan/mm_vmscan_kswapd_wake")
int kswapd__tracepoint(struct trace_event_raw_mm_vmscan_kswapd_wake *ctx)
{
	return woken(ctx->nid);
}

/* The inactive lists are where pages leave memory; each pass over one reports what it saw and freed. */
TP_BTF(scan__tp_btf, mm_vmscan_lru_shrink_inactive, int nid, unsigned long nr_scanned, unsigned long nr_reclaimed)
{
	return scanned(nid, nr_scanned, nr_reclaimed);
}

SEC("tracepoint/vmscan/mm_vmscan_lru_shrink_inactive")
int scan__tracepoint(struct trace_event_raw_mm_vmscan_lru_shrink_inactive *ctx)
{
	return scanned(ctx->nid, ctx->nr_scanned, ctx->nr_reclaimed);
}
