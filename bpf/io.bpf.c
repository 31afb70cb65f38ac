//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * io: the file system calls of this process, how often, how much, how long.
 *
 * Unit: calls, bytes, nanoseconds. Counted at the return of the call; sockets, pipes and eventfds are files too. A call
 * that a signal interrupts and the kernel restarts counts as often as it was entered. Linux 5.10.
 */
#include "probe.bpf.h"

enum io_op {
	IO_OP_READ,
	IO_OP_PREAD,
	IO_OP_READV,
	IO_OP_PREADV,
	IO_OP_WRITE,
	IO_OP_PWRITE,
	IO_OP_WRITEV,
	IO_OP_PWRITEV,
	IO_OP_FSYNC,
	IO_OP_FDATASYNC,
	IO_OP_FADVISE,
	IO_OP_OPENAT,
	IO_OP_CLOSE,
	IO_OP__COUNT,
};
LABEL_VALUES(io_op);

enum io_result { IO_RESULT_OK, IO_RESULT_ERROR, IO_RESULT__COUNT };
LABEL_VALUES(io_result);

/* In the order of POSIX_FADV_*, which x86-64 and arm64 share. */
enum io_advice {
	IO_ADVICE_NORMAL,
	IO_ADVICE_RANDOM,
	IO_ADVICE_SEQUENTIAL,
	IO_ADVICE_WILLNEED,
	IO_ADVICE_DONTNEED,
	IO_ADVICE_NOREUSE,
	IO_ADVICE__COUNT,
};
LABEL_VALUES(io_advice);

struct metrics {
	counter_t operations_total[IO_OP__COUNT][IO_RESULT__COUNT] HOOKS("syscall") LABELS("op=io_op,result=io_result")
		HELP("System calls that returned. Not counted: memory mapped access, io_uring, sendfile, copy_file_range.");
	counter_t bytes_total[IO_OP__COUNT] HOOKS("syscall") LABELS("op=io_op")
		HELP("Bytes that read- and write-like calls moved, as they returned them. A failed call moves none.");
	struct hist_ns duration_seconds[IO_OP__COUNT] HOOKS("syscall") LABELS("op=io_op") HELP(
		"Time from the entry of a call to its return, failed calls too. Waiting on a socket or pipe is part of it.");
	counter_t fadvise_total[IO_ADVICE__COUNT] HOOKS("syscall") LABELS("advice=io_advice")
		HELP("Calls of fadvise by advice, failed ones too. Not counted: an advice that Linux does not know.");
	EVENTS_LOST;
} __attribute__((aligned(64)));
METRICS;

static struct timer calls;

/* The operation of each system call, plus one. Libraries use the vectored calls with flags for the plain ones too. */
enum { NR_TRACED = 512 };
static const volatile __u8 op_of[NR_TRACED] = {
	[SYS_READ] = IO_OP_READ + 1,
	[SYS_PREAD64] = IO_OP_PREAD + 1,
	[SYS_READV] = IO_OP_READV + 1,
	[SYS_PREADV] = IO_OP_PREADV + 1,
	[SYS_PREADV2] = IO_OP_PREADV + 1,
	[SYS_WRITE] = IO_OP_WRITE + 1,
	[SYS_PWRITE64] = IO_OP_PWRITE + 1,
	[SYS_WRITEV] = IO_OP_WRITEV + 1,
	[SYS_PWRITEV] = IO_OP_PWRITEV + 1,
	[SYS_PWRITEV2] = IO_OP_PWRITEV + 1,
	[SYS_FSYNC] = IO_OP_FSYNC + 1,
	[SYS_FDATASYNC] = IO_OP_FDATASYNC + 1,
	[SYS_FADVISE64] = IO_OP_FADVISE + 1,
	[SYS_OPENAT] = IO_OP_OPENAT + 1,
	[SYS_CLOSE] = IO_OP_CLOSE + 1,
};

/* The operation of a system call, or IO_OP__COUNT. */
static __always_inline __u32 io_op(unsigned long nr)
{
	if (nr >= NR_TRACED)
		return IO_OP__COUNT;
	/* 0 - 1 is out of range too. */
	__u32 op = op_of[nr] - 1;

	barrier_var(op);
	return op < IO_OP__COUNT ? op : IO_OP__COUNT;
}

/* Both run in the context of the caller, pinned, so nothing else adds to the entry meanwhile. */
static __always_inline int enter(__u64 pid_tgid, __u32 op, unsigned long advice)
{
	struct metrics *m;

	if (op >= IO_OP__COUNT)
		return 0;
	pin();
	if (op == IO_OP_FADVISE && advice < IO_ADVICE__COUNT) {
		m = metrics_here();
		if (m)
			m->fadvise_total[advice]++;
	}
	timer_start(&calls, pid_tgid, op);
	unpin();
	return 0;
}

static __always_inline int leave(__u64 pid_tgid, __u32 op, long ret)
{
	struct metrics *m;

	if (op >= IO_OP__COUNT)
		return 0;
	pin();
	m = metrics_here();
	if (m) {
		m->operations_total[op][ret < 0 ? IO_RESULT_ERROR : IO_RESULT_OK]++;
		if (ret > 0 && op <= IO_OP_PWRITEV)
			m->bytes_total[op] += ret;
		timer_stop(&calls, pid_tgid, &m->duration_seconds[op], m->events_lost_total);
	}
	unpin();
	return 0;
}

/* For the programs that are there once for each call: one copy of the code serves them all. */
static __noinline int enter_call(__u64 pid_tgid, __u32 op, unsigned long advice)
{
	return enter(pid_tgid, op, advice);
}

static __noinline int leave_call(__u64 pid_tgid, __u32 op, long ret)
{
	return leave(pid_tgid, op, ret);
}

/* The function of each system call by itself: costs nothing to who does not call it. */
#define CALL_BY_FENTRY(variant, name, function, op)                                                \
	FENTRY(syscall__##variant##__##name##_enter, function)                                     \
	{                                                                                          \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                       \
                                                                                                   \
		if (!in_scope(pid_tgid))                                                           \
			return 0;                                                                  \
		return enter_call(pid_tgid, op, 0);                                                \
	}                                                                                          \
                                                                                                   \
	FEXIT(syscall__##variant##__##name##_exit, function, const struct pt_regs *regs, long ret) \
	{                                                                                          \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                       \
                                                                                                   \
		if (!in_scope(pid_tgid))                                                           \
			return 0;                                                                  \
		return leave_call(pid_tgid, op, ret);                                              \
	}

#define CALL_FENTRY(name, function, op) CALL_BY_FENTRY(fentry, name, function, op)
#define CALL_FENTRY_INNER(name, function, op) CALL_BY_FENTRY(fentry_inner, name, function, op)

/* An advice is read at the entry, where the registers are the call's arguments. */
FENTRY(syscall__fentry__fadvise_enter, SYS_FADVISE_FN, const struct pt_regs *regs)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter_call(pid_tgid, IO_OP_FADVISE, SYSCALL_ARG4(regs));
}

FEXIT(syscall__fentry__fadvise_exit, SYS_FADVISE_FN, const struct pt_regs *regs, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave_call(pid_tgid, IO_OP_FADVISE, ret);
}

/*
 * The BTF of Linux 6.1 and older does not tell the layout of these registers. There the function inside of the call
 * serves, of which the advice is an argument. It comes second since a compiler may have drawn it into the call.
 */
FENTRY(syscall__fentry_inner__fadvise_enter, "ksys_fadvise64_64", int fd, loff_t offset, loff_t len, int advice)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter_call(pid_tgid, IO_OP_FADVISE, advice);
}

FEXIT(syscall__fentry_inner__fadvise_exit, "ksys_fadvise64_64", int fd, loff_t offset, loff_t len, int advice, int ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave_call(pid_tgid, IO_OP_FADVISE, ret);
}

/* The same by breakpoint, where the kernel has no trampolines: dearer. */
#define CALL_KPROBE(name, function, op)                                                             \
	SEC("kprobe/" function)                                                                     \
	int BPF_KPROBE(syscall__kprobe__##name##_enter, const struct pt_regs *regs)                 \
	{                                                                                           \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                        \
                                                                                                    \
		if (!in_scope(pid_tgid))                                                            \
			return 0;                                                                   \
		return enter_call(pid_tgid, op, op == IO_OP_FADVISE ? SYSCALL_ARG4_COPY(regs) : 0); \
	}                                                                                           \
                                                                                                    \
	SEC("kretprobe/" function)                                                                  \
	int BPF_KRETPROBE(syscall__kprobe__##name##_exit, long ret)                                 \
	{                                                                                           \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                        \
                                                                                                    \
		if (!in_scope(pid_tgid))                                                            \
			return 0;                                                                   \
		return leave_call(pid_tgid, op, ret);                                               \
	}

#define EACH_CALL(PROGRAMS)                                     \
	PROGRAMS(read, SYS_FN(read), IO_OP_READ)                \
	PROGRAMS(pread64, SYS_FN(pread64), IO_OP_PREAD)         \
	PROGRAMS(readv, SYS_FN(readv), IO_OP_READV)             \
	PROGRAMS(preadv, SYS_FN(preadv), IO_OP_PREADV)          \
	PROGRAMS(preadv2, SYS_FN(preadv2), IO_OP_PREADV)        \
	PROGRAMS(write, SYS_FN(write), IO_OP_WRITE)             \
	PROGRAMS(pwrite64, SYS_FN(pwrite64), IO_OP_PWRITE)      \
	PROGRAMS(writev, SYS_FN(writev), IO_OP_WRITEV)          \
	PROGRAMS(pwritev, SYS_FN(pwritev), IO_OP_PWRITEV)       \
	PROGRAMS(pwritev2, SYS_FN(pwritev2), IO_OP_PWRITEV)     \
	PROGRAMS(fsync, SYS_FN(fsync), IO_OP_FSYNC)             \
	PROGRAMS(fdatasync, SYS_FN(fdatasync), IO_OP_FDATASYNC) \
	PROGRAMS(openat, SYS_FN(openat), IO_OP_OPENAT)          \
	PROGRAMS(close, SYS_FN(close), IO_OP_CLOSE)

EACH_CALL(CALL_FENTRY)
EACH_CALL(CALL_FENTRY_INNER)

TP_BTF(syscall__tp_btf__enter, sys_enter, struct pt_regs *regs, long nr)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter(pid_tgid, io_op(nr), SYSCALL_ARG4(regs));
}

TP_BTF(syscall__tp_btf__exit, sys_exit, struct pt_regs *regs, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave(pid_tgid, io_op(SYSCALL_NR(regs)), ret);
}

SEC("tracepoint/raw_syscalls/sys_enter")
int syscall__tracepoint__enter(struct trace_event_raw_sys_enter *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return enter(pid_tgid, io_op(ctx->id), ctx->args[3]);
}

SEC("tracepoint/raw_syscalls/sys_exit")
int syscall__tracepoint__exit(struct trace_event_raw_sys_exit *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (!in_scope(pid_tgid))
		return 0;
	return leave(pid_tgid, io_op(ctx->id), ctx->ret);
}

EACH_CALL(CALL_KPROBE)
CALL_KPROBE(fadvise, SYS_FADVISE_FN, IO_OP_FADVISE)
