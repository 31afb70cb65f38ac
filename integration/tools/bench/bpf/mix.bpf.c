//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Counts system calls by number: those of one process, and those of all others. Linux 5.10. */
#include "../../../../bpf/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

enum { NUMBERS = 512 };

/* Thread group id in the initial pid namespace. */
const volatile __u32 scope_tgid;

__u64 own[NUMBERS];
__u64 others[NUMBERS];

SEC("tp_btf/sys_enter")
int BPF_PROG(mix, struct pt_regs *regs, long number)
{
	__u64 at = number;

	if (at >= NUMBERS)
		return 0;
	if (bpf_get_current_pid_tgid() >> 32 == scope_tgid)
		__sync_fetch_and_add(&own[at], 1);
	else
		__sync_fetch_and_add(&others[at], 1);
	return 0;
}
