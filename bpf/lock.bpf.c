//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * lock: how long this process's threads wait in futex(2), in which user-space locks sleep.
 *
 * Unit: calls that ask to wait, counted when they return; nanoseconds. Linux 5.10.
 */
#include "probe.bpf.h"

enum lock_result {
	LOCK_RESULT_WOKEN,
	LOCK_RESULT_TIMEOUT,
	LOCK_RESULT_INTERRUPTED,
	LOCK_RESULT_AGAIN,
	LOCK_RESULT_ERROR,
	LOCK_RESULT__COUNT,
};
LABEL_VALUES(lock_result);

struct metrics {
	counter_t futex_waits_total[LOCK_RESULT__COUNT] HOOKS("futex") LABELS("result=lock_result")
		HELP("Calls of futex(2) that asked to wait or to lock, by result: woken (or got the lock), timeout, "
		     "interrupted by a signal, again (the word had already changed), or error. An idle thread of the "
		     "Go runtime waits here too. Every futex call of the host is slowed down a little, and every "
		     "system call of the host where the kernel cannot attach to this call alone by fentry. Not "
		     "counted: futex_waitv(2) and futex_wait(2), a wait that restart_syscall(2) resumes, and a wait "
		     "that began before the module was attached.");
	struct hist_ns_wide futex_wait_seconds HOOKS("futex")
		HELP("Time from the entry of these calls to their return, for all results.");
	counter_t futex_lost_total HOOKS("futex")
		HELP("Waits that are not counted at all, because two threads shared one slot of the table of start "
		     "times.");
} __attribute__((aligned(64)));
METRICS;

/* From the kernel's user-space API. */
enum {
	FUTEX_WAIT = 0,
	FUTEX_LOCK_PI = 6,
	FUTEX_WAIT_BITSET = 9,
	FUTEX_WAIT_REQUEUE_PI = 11,
	FUTEX_LOCK_PI2 = 13,
	FUTEX_FLAGS = 128 | 256,
};

enum {
	EINTR = 4,
	EAGAIN = 11,
	ETIMEDOUT = 110,
	/* What a call returns inside the kernel, to be restarted after a signal. */
	ERESTARTSYS = 512,
	ERESTART_RESTARTBLOCK = 516,
};

TIMER(waits);

static __always_inline int asks_to_wait(int op)
{
	switch (op & ~FUTEX_FLAGS) {
	case FUTEX_WAIT:
	case FUTEX_LOCK_PI:
	case FUTEX_WAIT_BITSET:
	case FUTEX_WAIT_REQUEUE_PI:
	case FUTEX_LOCK_PI2:
		return 1;
	}
	return 0;
}

static __always_inline __u32 result_of(long ret)
{
	if (ret >= 0)
		return LOCK_RESULT_WOKEN;
	if (ret == -ETIMEDOUT)
		return LOCK_RESULT_TIMEOUT;
	if (ret == -EINTR || (ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK))
		return LOCK_RESULT_INTERRUPTED;
	return ret == -EAGAIN ? LOCK_RESULT_AGAIN : LOCK_RESULT_ERROR;
}

/* Both run in the caller's context, without preemption (see UPDATE), so nothing else adds to the entry meanwhile. */
static __always_inline int enter(__u64 pid_tgid, int op)
{
	if (!asks_to_wait(op))
		return 0;
	UPDATE(m) {
		/*
		 * Not every kind of hook knows at the return whether the call was one that waits: the presence of a
		 * start says so.
		 */
		if (*(volatile __u64 *)timer_word(&waits, pid_tgid) && timer_note(&waits, pid_tgid) < 0)
			m->futex_lost_total++;
		timer_start(&waits, pid_tgid, 0);
	}
	return 0;
}

static __always_inline int leave(__u64 pid_tgid, long ret)
{
	counter_t lost[LOST_REASON__COUNT] = {};
	__s64 ns;

	if (timer_note(&waits, pid_tgid) < 0)
		return 0;
	ns = timer_end(&waits, pid_tgid, lost);
	if (ns == TIMER_NONE)
		return 0;
	UPDATE(m) {
		m->futex_waits_total[result_of(ret)]++;
		hist_ns_wide_add(&m->futex_wait_seconds, ns);
	}
	return 0;
}

/*
 * Rejected where BTF lacks the layout of these registers, as on Linux 5.10. The inner function of the call has more
 * arguments than such kernels can pass.
 */
FENTRY(futex__fentry__enter, SYS_FN(futex), const struct pt_regs *regs)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter(pid_tgid, SYSCALL_ARG2(regs));
}

FEXIT(futex__fentry__exit, SYS_FN(futex), const struct pt_regs *regs, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave(pid_tgid, ret);
}

/* The tracepoints of this one call cost other calls less than those of all calls. */
TRACEPOINT(futex__tracepoint__enter, syscalls, sys_enter_futex, struct trace_event_raw_sys_enter *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		enter(pid_tgid, ctx->args[1]);
}

TRACEPOINT(futex__tracepoint__exit, syscalls, sys_exit_futex, struct trace_event_raw_sys_exit *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		leave(pid_tgid, ctx->ret);
}

TP_BTF(futex__tp_btf__enter, sys_enter, struct pt_regs *regs, long nr)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (nr != SYS_FUTEX || !in_scope(pid_tgid))
		return 0;
	return enter(pid_tgid, SYSCALL_ARG2(regs));
}

TP_BTF(futex__tp_btf__exit, sys_exit, struct pt_regs *regs, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid) || SYSCALL_NR(regs) != SYS_FUTEX)
		return 0;
	return leave(pid_tgid, ret);
}

SEC("kprobe/" SYS_FN(futex))
int BPF_KPROBE(futex__kprobe__enter, const struct pt_regs *regs)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter(pid_tgid, SYSCALL_ARG2_COPY(regs));
}

SEC("kretprobe/" SYS_FN(futex))
int BPF_KRETPROBE(futex__kprobe__exit, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave(pid_tgid, ret);
}
