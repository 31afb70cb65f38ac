//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * A tracepoint whose arguments swapped places in Linux 7.2. The flags of an allocation, taken for its order, are larger
 * than any order.
 */
#include "../../bpf/probe.bpf.h"

typedef __u32 gfp_t;

struct metrics {
	counter_t runs_total HELP("Reclaim runs.") HOOKS("memcg");
	gauge_t max_order HELP("The largest order of an allocation that had to reclaim.") HOOKS("memcg");
} __attribute__((aligned(64)));
METRICS;

static __always_inline int ran(__u32 order)
{
	if (!in_scope(bpf_get_current_pid_tgid()))
		return 0;
	UPDATE(m) {
		m->runs_total++;
		if (order > m->max_order)
			m->max_order = order;
	}
	return 0;
}

TP_BTF(memcg__order_first, mm_vmscan_memcg_reclaim_begin, int order, gfp_t flags)
{
	return ran(order);
}

TP_BTF(memcg__flags_first, mm_vmscan_memcg_reclaim_begin, gfp_t flags, int order)
{
	return ran(order);
}
