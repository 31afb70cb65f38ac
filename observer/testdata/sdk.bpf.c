//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* sdk: a user's module that is correct, or wrong in one way if a test asks for it. */
#include "../../bpf/probe.bpf.h"

enum sdk_result { SDK_RESULT_OK, SDK_RESULT_ERROR, SDK_RESULT__COUNT };
LABEL_VALUES(sdk_result);

struct metrics {
	counter_t calls_total[SDK_RESULT__COUNT] HOOKS("call") LABELS("result=sdk_result") HELP("Calls of pread.");
	struct hist_bytes call_bytes HOOKS("call")
		HELP("Bytes that a call of pread got. Not counted: calls that failed.");
} __attribute__((aligned(64)));
METRICS;

/* What the module does wrong in a test. */
enum fault { FAULT_NONE, FAULT_DOUBLED, FAULT_SILENT, FAULT_EVERYBODY, FAULT_ALL_THREADS, FAULT_SERIES };
const volatile __u32 fault;

static __always_inline int counts(__u64 pid_tgid)
{
	if (fault == FAULT_EVERYBODY)
		return 1;
	if (fault == FAULT_ALL_THREADS)
		return pid_tgid >> 32 == scope_tgid;
	return fault != FAULT_SILENT && in_scope(pid_tgid);
}

TP_BTF(call__tp_btf, sys_exit, struct pt_regs *regs, long ret)
{
	__u32 result = ret < 0 && fault != FAULT_SERIES ? SDK_RESULT_ERROR : SDK_RESULT_OK;

	if (!counts(bpf_get_current_pid_tgid()) || SYSCALL_NR(regs) != SYS_PREAD64)
		return 0;
	UPDATE(m) {
		m->calls_total[result] += fault == FAULT_DOUBLED ? 2 : 1;
		if (ret >= 0)
			hist_bytes_add(&m->call_bytes, ret);
	}
	return 0;
}
