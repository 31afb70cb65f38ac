//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* wrong: for the test of verification: metrics that are right, wrong, or impossible to verify. */
#include "../../bpf/probe.bpf.h"

struct metrics {
	counter_t right_total HOOKS("call") HELP("Calls of pread.") VERIFY("pread");
	counter_t doubled_total HOOKS("call") HELP("Twice the calls of pread.") VERIFY("pread");
	counter_t others_total HOOKS("call") HELP("Calls of pread of all processes, and other calls.") VERIFY("pread");
	counter_t unknown_total HOOKS("call") HELP("Calls of pread.") VERIFY("preads_of_another_name");
	counter_t silent_total HOOKS("call") HELP("Calls of pread.");
	struct hist_ns early_seconds HOOKS("call") HELP("More time than there was.") VERIFY("pread");
} __attribute__((aligned(64)));
METRICS;

TP_BTF(call__tp_btf, sys_exit, struct pt_regs *regs, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	UPDATE(m)
		__sync_fetch_and_add(&m->others_total, 1);
	if (!in_scope(pid_tgid) || SYSCALL_NR(regs) != SYS_PREAD64)
		return 0;
	UPDATE(m) {
		m->right_total++;
		m->doubled_total += 2;
		m->unknown_total++;
		m->silent_total++;
		hist_ns_add(&m->early_seconds, bpf_ktime_get_ns());
	}
	return 0;
}
