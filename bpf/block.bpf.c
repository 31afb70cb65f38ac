//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * block: what this process's own threads ask of block devices.
 *
 * Unit: requests, bytes, nanoseconds from the request's start to its completion. What others write back for this
 * process is theirs. Linux 5.10; requests that a scheduler hands to a kernel thread only from 6.5.
 */
#include "probe.bpf.h"

enum block_op { BLOCK_OP_READ, BLOCK_OP_WRITE, BLOCK_OP_FLUSH, BLOCK_OP_DISCARD, BLOCK_OP__COUNT };
LABEL_VALUES(block_op);

enum block_sync { BLOCK_SYNC_FALSE, BLOCK_SYNC_TRUE, BLOCK_SYNC__COUNT };
LABEL_VALUES(block_sync);

struct metrics {
	counter_t requests_total[BLOCK_OP__COUNT][BLOCK_SYNC__COUNT] HOOKS("start") LABELS("op=block_op,sync=block_sync") HELP(
		"Requests to block devices that threads of this process started. Not counted: writeback by kernel threads.");
	counter_t bytes_total[BLOCK_OP__COUNT][BLOCK_SYNC__COUNT] HOOKS("complete")
		LABELS("op=block_op,sync=block_sync") HELP("Bytes of these requests that have completed.");
	struct hist_ns duration_seconds[BLOCK_OP__COUNT] HOOKS("complete") LABELS("op=block_op")
		HELP("Time from the start of a request to its completion, waiting in the queue included.");
} __attribute__((aligned(64)));
METRICS;

/* What is under way. A request that is used again overwrites its entry; a full map loses the request. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} started SEC(".maps");

static __always_inline __u32 op_of(__u32 flags)
{
	__u32 op = flags & 0xff;

	barrier_var(op);
	return op;
}

static __always_inline __u32 sync_of(__u32 flags, __u32 op)
{
	/* As the block layer has it: a read is waited for. */
	return op == BLOCK_OP_READ || flags & 1U << bpf_core_enum_value(enum req_flag_bits, __REQ_SYNC);
}

/* A completion interrupts whatever runs, another program of this file too: the additions are atomic. */
static __always_inline int start(struct request *rq)
{
	struct metrics *m = metrics_in_scope(bpf_get_current_pid_tgid());
	__u64 key = (__u64)rq, now = bpf_ktime_get_ns();
	__u32 op = op_of(rq->cmd_flags);

	if (!m || op >= BLOCK_OP__COUNT)
		return 0;
	if (bpf_map_update_elem(&started, &key, &now, 0))
		return 0;
	__sync_fetch_and_add(&m->requests_total[op][sync_of(rq->cmd_flags, op)], 1);
	return 0;
}

TP_BTF(start__tp_btf, block_io_start, struct request *rq)
{
	return start(rq);
}

/* Before Linux 6.5 the first event of a request is that it goes to the device. */
TP_BTF(start__tp_btf_issue, block_rq_issue, struct request *rq)
{
	return start(rq);
}

/* The second argument, an error, has changed its type and is not read. */
TP_BTF(complete__tp_btf, block_rq_complete, struct request *rq)
{
	__u32 bytes = (__u32)ctx[2], op = op_of(rq->cmd_flags), sync = sync_of(rq->cmd_flags, op);
	__u64 key = (__u64)rq, *begun = bpf_map_lookup_elem(&started, &key);
	struct metrics *m;
	__u64 took;

	if (!begun || op >= BLOCK_OP__COUNT)
		return 0;
	took = bpf_ktime_get_ns() - *begun;
	m = metrics_here();
	if (!m)
		return 0;
	__sync_fetch_and_add(&m->bytes_total[op][sync & 1], bytes);
	/* A request may complete in parts. */
	if (bytes < rq->__data_len)
		return 0;
	bpf_map_delete_elem(&started, &key);
	hist_ns_add_atomic(&m->duration_seconds[op], took);
	return 0;
}
