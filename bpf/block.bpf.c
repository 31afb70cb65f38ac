//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * block: requests to block devices by this process's own threads.
 *
 * Unit: requests, bytes, nanoseconds. A request begins when a thread makes it; before Linux 6.5, when it is inserted
 * into a queue, or issued to a device without a scheduler. Linux 5.10.
 *
 * Writeback that others submit for this process's pages is absent, since it cannot be attributed: such a request
 * carries the cgroup that dirties most of the file, if any, and pages of several processes.
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
		LABELS("op=block_op,sync=block_sync") VERIFY("op=read: device_read_bytes")
			HELP("Bytes of these requests, counted when they complete.");
	struct hist_ns duration_seconds[BLOCK_OP__COUNT] HOOKS("complete") LABELS("op=block_op")
		HELP("Time from the start of a request to its completion, waiting in the queue included.");
	struct hist_ns_wide queue_seconds[BLOCK_OP__COUNT] HOOKS("issue") LABELS("op=block_op") HELP(
		"Time from the start of a request until it was issued to the device, which is a part of its duration. Not "
		"counted: requests that never reached a device, such as a flush with nothing to write. Before Linux 6.5 the "
		"time in a thread's plug, which holds requests back to batch them, is not included.");
	counter_t untracked_total HOOKS("start") HELP(
		"Requests counted without bytes and times, because the table of 4096 requests in flight was full.");
} __attribute__((aligned(64)));
METRICS;

/*
 * Requests in flight. A request that is reused overwrites its entry, or removes it if another process reuses it: the
 * kernel has then skipped the completion.
 */
struct progress {
	__u64 begun;
	__u64 issued;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct progress);
} started SEC(".maps");

static __always_inline __u32 op_of(__u32 flags)
{
	__u32 op = flags & 0xff;

	barrier_var(op);
	return op;
}

static __always_inline __u32 sync_of(__u32 flags, __u32 op)
{
	/* As in the block layer, reads are synchronous. */
	return op == BLOCK_OP_READ || flags & 1U << bpf_core_enum_value(enum req_flag_bits, __REQ_SYNC);
}

/* A completion may interrupt anything, even another program of this file: the additions are atomic. */
static __always_inline int start(struct request *rq)
{
	struct progress p = {.begun = bpf_ktime_get_ns()};
	__u32 op = op_of(rq->cmd_flags);
	__u64 key = (__u64)rq;

	if (!in_scope(bpf_get_current_pid_tgid()) || op >= BLOCK_OP__COUNT) {
		if (bpf_map_lookup_elem(&started, &key))
			bpf_map_delete_elem(&started, &key);
		return 0;
	}
	UPDATE(m) {
		__sync_fetch_and_add(&m->requests_total[op][sync_of(rq->cmd_flags, op)], 1);
		if (bpf_map_update_elem(&started, &key, &p, 0))
			__sync_fetch_and_add(&m->untracked_total, 1);
	}
	return 0;
}

/* A request that was merged into another one never completes. */
static __always_inline int merged(struct request *rq)
{
	__u64 key = (__u64)rq;

	bpf_map_delete_elem(&started, &key);
	return 0;
}

TP_BTF(start__tp_btf__start, block_io_start, struct request *rq)
{
	return start(rq);
}

TP_BTF(start__tp_btf__merge, block_rq_merge, struct request *rq)
{
	return merged(rq);
}

/* Before Linux 6.5 the first event of a request is its insertion into a queue, in the context of its creator. */
TP_BTF(start__tp_btf_insert__insert, block_rq_insert, struct request *rq)
{
	return start(rq);
}

/*
 * Or its issue to the device, if there is no scheduler. With a scheduler, any thread may issue what others have queued.
 * The hook start comes before the hook issue, so its program is attached first and runs first.
 */
TP_BTF(start__tp_btf_insert__issue, block_rq_issue, struct request *rq)
{
	__u64 key = (__u64)rq;

	if (rq->q->elevator || bpf_map_lookup_elem(&started, &key))
		return 0;
	return start(rq);
}

TP_BTF(start__tp_btf_insert__merge, block_rq_merge, struct request *rq)
{
	return merged(rq);
}

/* A busy device returns a request and gets it again later: only the first time counts. */
TP_BTF(issue__tp_btf, block_rq_issue, struct request *rq)
{
	__u64 now = bpf_ktime_get_ns(), key = (__u64)rq;
	struct progress *p = bpf_map_lookup_elem(&started, &key);
	__u32 op = op_of(rq->cmd_flags);

	if (!p || p->issued || op >= BLOCK_OP__COUNT)
		return 0;
	p->issued = now;
	UPDATE(m)
		hist_ns_wide_add_atomic(&m->queue_seconds[op], now - p->begun);
	return 0;
}

/* The second argument, an error, is not read, since its type has changed. */
TP_BTF(complete__tp_btf, block_rq_complete, struct request *rq)
{
	__u32 bytes = (__u32)ctx[2], op = op_of(rq->cmd_flags), sync = sync_of(rq->cmd_flags, op);
	__u64 key = (__u64)rq;
	struct progress *p = bpf_map_lookup_elem(&started, &key);
	__u64 took;

	if (!p || op >= BLOCK_OP__COUNT)
		return 0;
	took = bpf_ktime_get_ns() - p->begun;
	UPDATE(m) {
		__sync_fetch_and_add(&m->bytes_total[op][sync & 1], bytes);
		/* A request may complete in parts. */
		if (bytes >= rq->__data_len) {
			bpf_map_delete_elem(&started, &key);
			hist_ns_add_atomic(&m->duration_seconds[op], took);
		}
	}
	return 0;
}
