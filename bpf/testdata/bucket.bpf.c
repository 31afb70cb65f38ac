//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Runs the header's arithmetic for a test, with the value as the first argument. */
#include "../probe.bpf.h"

struct raw_tp_args {
	__u64 args[1];
};

SEC("raw_tp/log2_ceil")
int log2_ceil_of(struct raw_tp_args *ctx)
{
	return log2_ceil(ctx->args[0]);
}

SEC("raw_tp/hist_slot")
int hist_slot_of(struct raw_tp_args *ctx)
{
	return hist_slot(ctx->args[0], HIST_NS_LE, 1, HIST_NS_SLOTS);
}

SEC("raw_tp/hist_slot_wide")
int hist_slot_wide_of(struct raw_tp_args *ctx)
{
	return hist_slot(ctx->args[0], HIST_BYTES_LE, 2, HIST_BYTES_SLOTS);
}
