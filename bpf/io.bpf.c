//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * io: the system calls of this process that transfer, sync, name or map data: how many, how much, how long.
 *
 * Unit: calls, bytes, nanoseconds. Counted at the return of the call; sockets, pipes and eventfds are files too. A call
 * that a signal interrupts and the kernel restarts counts once for each entry. Linux 5.10.
 */
/* For the threads that are in a call at the same time. */
#define TIMER_SLOT_BITS 11
#include "probe.bpf.h"
#include "file.h"

/* Calls that return how many bytes they transferred. */
#define TRANSFERS(E) \
	E(READ) E(PREAD) E(READV) E(PREADV) E(WRITE) E(PWRITE) E(WRITEV) E(PWRITEV) E(COPY_FILE_RANGE) E(SENDFILE)
/* Other calls with a duration histogram. */
#define TIMED(E) E(FSYNC) E(FDATASYNC) E(SYNC_FILE_RANGE) E(FADVISE) E(OPENAT) E(CLOSE) E(IO_URING_ENTER)
/* Calls on names and sizes, with only a total of their time. */
#define METADATA(E) E(FTRUNCATE) E(FALLOCATE) E(UNLINKAT) E(RENAMEAT) E(MKDIRAT) E(FLOCK) E(GETDENTS)
/* The same, on the address space. */
#define MAPPING(E) E(MMAP) E(MUNMAP) E(MADVISE) E(BRK)

/* Label values. Each enum begins where a group does, so that a call's number in one gives that in the others. */
#define AS_OP(name) IO_OP_##name,
#define AS_TRANSFER(name) IO_TRANSFER_##name,
#define AS_TIMED(name) IO_TIMED_##name,
#define AS_UNTIMED(name) IO_UNTIMED_##name,
#define AS_MAPPING(name) IO_MAPPING_##name,
enum io_op { TRANSFERS(AS_OP) TIMED(AS_OP) METADATA(AS_OP) MAPPING(AS_OP) IO_OP__COUNT };
enum io_transfer { TRANSFERS(AS_TRANSFER) IO_TRANSFER__COUNT };
enum io_timed { TRANSFERS(AS_TIMED) TIMED(AS_TIMED) IO_TIMED__COUNT };
enum io_untimed { METADATA(AS_UNTIMED) MAPPING(AS_UNTIMED) IO_UNTIMED__COUNT };
enum io_mapping { MAPPING(AS_MAPPING) IO_MAPPING__COUNT };
LABEL_VALUES(io_op);
LABEL_VALUES(io_transfer);
LABEL_VALUES(io_timed);
LABEL_VALUES(io_untimed);
LABEL_VALUES(io_mapping);
enum { IO_OP_FIRST_MAPPING = IO_OP__COUNT - IO_MAPPING__COUNT };

enum io_result { IO_RESULT_OK, IO_RESULT_ERROR, IO_RESULT__COUNT };
LABEL_VALUES(io_result);

enum io_errno {
	IO_ERRNO_ENOENT,
	IO_ERRNO_EINTR,
	IO_ERRNO_EIO,
	IO_ERRNO_EAGAIN,
	IO_ERRNO_ENOSPC,
	IO_ERRNO_OTHER,
	IO_ERRNO__COUNT,
};
LABEL_VALUES(io_errno);

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

/* The classes counted for each work: single operations would be too many series. Begins like io_direction. */
enum io_class {
	IO_CLASS_READ,
	IO_CLASS_WRITE,
	IO_CLASS_SYNC,
	IO_CLASS_FADVISE,
	IO_CLASS_OTHER,
	IO_CLASS__COUNT,
};
LABEL_VALUES(io_class);
enum io_direction { IO_DIRECTION_READ, IO_DIRECTION_WRITE, IO_DIRECTION__COUNT };
LABEL_VALUES(io_direction);
/* What users wait for, separate from the rest. */
enum io_wait { IO_WAIT_READ, IO_WAIT_SYNC, IO_WAIT_OTHER, IO_WAIT__COUNT };
LABEL_VALUES(io_wait);

struct io_by_work {
	counter_t attributed_operations_total[IO_CLASS__COUNT] HOOKS("syscall") LABELS("class=io_class") PART_OF(
		"operations_total")
		HELP("System calls that returned, including those that failed, by the work that made them. The class "
		     "other has the calls on names, sizes and the address space, openat, close and io_uring_enter.")
			BY_FILE("System calls that returned, including those that failed, by the file of their "
				"descriptor. Calls that have none, and close, have the kind none.");
	counter_t attributed_bytes_total[IO_DIRECTION__COUNT] HOOKS("syscall") LABELS("direction=io_direction") PART_OF(
		"bytes_total")
		HELP("Bytes that read-like and write-like calls returned as transferred, by the work that made them. "
		     "copy_file_range and sendfile count as write.")
			BY_FILE("Bytes that read-like and write-like calls returned as transferred, by file. "
				"copy_file_range counts as write and for the file that it reads.");
	counter_ns_t attributed_seconds_total[IO_WAIT__COUNT] HOOKS("syscall") LABELS("class=io_wait")
		PART_OF("duration_seconds + operation_seconds_total")
			HELP("Time from the entry of calls to their return, by the work that made them.")
				BY_FILE("Time from the entry of calls to their return, by file.");
};

struct io_receipt {
	counter_t operations HOOKS("syscall") HELP("System calls, as in ebpf_io_operations_total.");
	counter_t reads HOOKS("syscall") HELP("System calls that read.");
	counter_t read_bytes HOOKS("syscall") HELP("Bytes that calls read.");
	counter_t written_bytes HOOKS("syscall") HELP("Bytes that calls wrote.");
	counter_ns_t read_seconds HOOKS("syscall") HELP("Time in calls that read.");
};

struct metrics {
	counter_t operations_total[IO_OP__COUNT][IO_RESULT__COUNT] HOOKS("syscall") LABELS("op=io_op,result=io_result")
		HELP("System calls that returned. Not counted: memory-mapped access, and work that io_uring does after "
		     "its call returned. With fentry on Linux 6.1 and older, also not counted: copy_file_range, flock, "
		     "io_uring_enter, madvise.") VERIFY("result=ok: {op}; result=error: {op}_errors") COST("call");
	counter_t errors_total[IO_OP__COUNT][IO_ERRNO__COUNT] HOOKS("syscall") LABELS("op=io_op,errno=io_errno")
		HELP("System calls that failed, by error. A call that is restarted after a signal counts as EINTR. "
		     "EAGAIN is how a socket reports that it has no data, and is not a fault.")
			VERIFY("op=openat,errno=enoent: openat_errors; op=read,errno=other: read_errors");
	counter_t bytes_total[IO_TRANSFER__COUNT] HOOKS("syscall") LABELS("op=io_transfer")
		HELP("Bytes that read-like and write-like calls returned as transferred. Not counted: failed calls.")
			VERIFY("{op}_bytes");
	struct hist_bytes size_bytes[IO_TRANSFER__COUNT] HOOKS("syscall") LABELS("op=io_transfer")
		HELP("Bytes of each read-like or write-like call that succeeded, including calls that transferred "
		     "none.") VERIFY("{op}");
	struct hist_ns duration_seconds[IO_TIMED__COUNT] HOOKS("syscall") LABELS("op=io_timed")
		HELP("Time from the entry of a call to its return, including failed calls and the time spent waiting "
		     "on a socket or a pipe.") VERIFY("{op} + {op}_errors");
	counter_ns_t operation_seconds_total[IO_UNTIMED__COUNT] HOOKS("syscall") LABELS("op=io_untimed")
		HELP("Total time of calls on names, sizes and the address space, for which no histogram is kept. "
		     "Divide by operations_total for the average. The time of flock includes waiting for the lock.")
			VERIFY("{op}");
	counter_t mapping_bytes_total[IO_MAPPING__COUNT] HOOKS("syscall") LABELS("op=io_mapping")
		HELP("Bytes that mmap, munmap and madvise were asked for, including failed calls, and bytes by which "
		     "brk grew the heap. Not counted: growth by the first brk after the start.") VERIFY("{op}_bytes");
	counter_t fadvise_total[IO_ADVICE__COUNT] HOOKS("syscall") LABELS("advice=io_advice")
		HELP("Calls of fadvise by advice, including failed calls. Not counted: an advice that Linux does not "
		     "know.") VERIFY("fadvise_{advice}");
	EVENTS_LOST;
	BY_WORK_AND_FILE(io_by_work);
	ON_RECEIPTS(io_receipt);
} __attribute__((aligned(128)));
METRICS;

TIMER(calls);
SAMPLING;

static const volatile __u8 class_of[IO_OP__COUNT] = {
	[IO_OP_READ... IO_OP_PREADV] = IO_CLASS_READ,
	[IO_OP_WRITE... IO_OP_SENDFILE] = IO_CLASS_WRITE,
	[IO_OP_FSYNC... IO_OP_SYNC_FILE_RANGE] = IO_CLASS_SYNC,
	[IO_OP_FADVISE] = IO_CLASS_FADVISE,
	[IO_OP_OPENAT... IO_OP_BRK] = IO_CLASS_OTHER,
};

/* The operation of each system call, plus one. Libraries also use the vectored calls with flags for the plain ones. */
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
	[SYS_COPY_FILE_RANGE] = IO_OP_COPY_FILE_RANGE + 1,
	[SYS_SENDFILE] = IO_OP_SENDFILE + 1,
	[SYS_SYNC_FILE_RANGE] = IO_OP_SYNC_FILE_RANGE + 1,
	[SYS_FADVISE64] = IO_OP_FADVISE + 1,
	[SYS_OPENAT] = IO_OP_OPENAT + 1,
	[SYS_CLOSE] = IO_OP_CLOSE + 1,
	[SYS_IO_URING_ENTER] = IO_OP_IO_URING_ENTER + 1,
	[SYS_FTRUNCATE] = IO_OP_FTRUNCATE + 1,
	[SYS_FALLOCATE] = IO_OP_FALLOCATE + 1,
	[SYS_UNLINKAT] = IO_OP_UNLINKAT + 1,
	[SYS_RENAMEAT] = IO_OP_RENAMEAT + 1,
	[SYS_RENAMEAT2] = IO_OP_RENAMEAT + 1,
	[SYS_MKDIRAT] = IO_OP_MKDIRAT + 1,
	[SYS_FLOCK] = IO_OP_FLOCK + 1,
	[SYS_GETDENTS64] = IO_OP_GETDENTS + 1,
	[SYS_MMAP] = IO_OP_MMAP + 1,
	[SYS_MUNMAP] = IO_OP_MUNMAP + 1,
	[SYS_MADVISE] = IO_OP_MADVISE + 1,
	[SYS_BRK] = IO_OP_BRK + 1,
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

/* What a call is about: the file of its first argument, or that of its result. The descriptor of close is gone by then.
 */
enum { SUBJECT_NONE, SUBJECT_ARG1, SUBJECT_RESULT };
static const volatile __u8 subject_of[IO_OP__COUNT] = {
	[IO_OP_READ... IO_OP_FADVISE] = SUBJECT_ARG1,
	[IO_OP_OPENAT] = SUBJECT_RESULT,
	[IO_OP_FTRUNCATE... IO_OP_FALLOCATE] = SUBJECT_ARG1,
	[IO_OP_FLOCK... IO_OP_GETDENTS] = SUBJECT_ARG1,
};

/* In place of the descriptor where the arguments cannot be read at the exit. */
enum { FD_UNKNOWN = -0x10000 };

static __always_inline __u32 file_of_call(__u32 op, int fd, long ret)
{
	__u32 of = subject_of[op];

	if (fd == FD_UNKNOWN)
		return FILE_OTHER;
	return file_of_fd(of == SUBJECT_ARG1 ? fd : of == SUBJECT_RESULT ? ret : -1);
}

/* The end of the heap after the last brk. brk takes a lock, so each call starts where the last one ended. */
static __u64 heap_end;

/* Both run in the caller's context, without preemption (see UPDATE), so nothing else adds to the entry meanwhile. */

/* arg is the fourth argument of fadvise, the second of other calls. */
static __always_inline void enter(struct metrics *m, __u64 pid_tgid, __u32 op, unsigned long arg)
{
	__u32 mapping = op - IO_OP_FIRST_MAPPING;

	if (op == IO_OP_FADVISE && arg < IO_ADVICE__COUNT)
		m->fadvise_total[arg]++;
	barrier_var(mapping);
	if (mapping < IO_MAPPING_BRK)
		m->mapping_bytes_total[mapping] += arg;
	if (sampled(&calls, pid_tgid))
		timer_start(&calls, pid_tgid, 0);
}

static __always_inline __u32 errno_of(long ret)
{
	switch (-ret) {
	case 2:
		return IO_ERRNO_ENOENT;
	case 4:
	case 512: /* ERESTARTSYS and the like, which user space does not see */
	case 513:
	case 514:
	case 516:
		return IO_ERRNO_EINTR;
	case 5:
		return IO_ERRNO_EIO;
	case 11:
		return IO_ERRNO_EAGAIN;
	case 28:
		return IO_ERRNO_ENOSPC;
	default:
		return IO_ERRNO_OTHER;
	}
}

/*
 * The number within a group is a separate variable that is opaque to the compiler: older verifiers do not follow the
 * bound of op through a comparison of its lower half.
 */
static __always_inline void returned(
	struct metrics *m, struct io_by_work *by, __u32 who, __u32 class, __u32 op, long ret)
{
	__u32 transfer = op;

	m->operations_total[op][IO_RESULT_OK]++;
	barrier_var(transfer);
	if (transfer < IO_TRANSFER__COUNT) {
		m->bytes_total[transfer] += ret;
		work_add(&by->attributed_bytes_total[class & 1], ret);
		ON_RECEIPT(m, who, r)
			work_add(class & 1 ? &r->written_bytes : &r->read_bytes, ret);
		hist_bytes_add(&m->size_bytes[transfer], ret);
	}
	if (op == IO_OP_BRK) {
		if (heap_end && ret > heap_end)
			m->mapping_bytes_total[IO_MAPPING_BRK] += ret - heap_end;
		heap_end = ret;
	}
}

static __always_inline __u32 wait_of(__u32 class)
{
	if (class == IO_CLASS_READ)
		return IO_WAIT_READ;
	return class == IO_CLASS_SYNC ? IO_WAIT_SYNC : IO_WAIT_OTHER;
}

static __always_inline void took(struct metrics *m, struct io_by_work *by, __u32 who, __u32 class, __u32 op, __s64 ns)
{
	__u32 timed = op, untimed = op - IO_TIMED__COUNT, weight = sampling.weight;

	if (ns == TIMER_NONE)
		return;
	work_add(&by->attributed_seconds_total[wait_of(class)], ns * weight);
	if (class == IO_CLASS_READ)
		ON_RECEIPT(m, who, r)
			work_add(&r->read_seconds, ns * weight);
	barrier_var(timed);
	barrier_var(untimed);
	if (timed < IO_TIMED__COUNT)
		hist_ns_add_weighted(&m->duration_seconds[timed], ns, weight);
	else if (untimed < IO_UNTIMED__COUNT)
		m->operation_seconds_total[untimed] += ns * weight;
}

static __always_inline void leave(struct metrics *m, __u64 pid_tgid, __u32 op, int fd, long ret)
{
	__u32 who = work_who(), class = class_of[op], cell = cell_of(work_of(who), file_of_call(op, fd, ret));
	struct io_by_work *by = &m->by_work[cell];

	/*
	 * Otherwise the compiler puts the search for the bucket of ret first, and the verifier checks work_who once for
	 * each path of it.
	 */
	barrier_var(ret);
	barrier_var(class);
	if (class >= IO_CLASS__COUNT)
		return;
	work_add(&by->attributed_operations_total[class], 1);
	ON_RECEIPT(m, who, r) {
		work_add(&r->operations, 1);
		if (class == IO_CLASS_READ)
			work_add(&r->reads, 1);
	}
	if (ret >= 0) {
		returned(m, by, who, class, op, ret);
	} else {
		m->operations_total[op][IO_RESULT_ERROR]++;
		m->errors_total[op][errno_of(ret)]++;
	}
	/* With sampling, a call without a start is not a loss. */
	if (sampling.weight == 1 || timer_note(&calls, pid_tgid) >= 0) {
		took(m, by, who, class, op, timer_end(&calls, pid_tgid, m->events_lost_total));
		sampled_on(&calls, pid_tgid);
	}
}

/* For the programs that exist once per system call: they all share one copy of the code. */
static __noinline int enter_call(__u64 pid_tgid, __u32 op, unsigned long arg)
{
	if (op < IO_OP__COUNT)
		UPDATE(m)
			enter(m, pid_tgid, op, arg);
	return 0;
}

static __noinline int leave_call(__u64 pid_tgid, __u32 op, int fd, long ret)
{
	if (op < IO_OP__COUNT)
		UPDATE(m)
			AT_ONCE(m)
				leave(m, pid_tgid, op, fd, ret);
	return 0;
}

/*
 * Attaches to the function of each system call, at no cost for other system calls. Arguments are read at the entry,
 * where the registers have them.
 */
#define CALL_ENTER(variant, name, function, op, arg)                                       \
	FENTRY(syscall__##variant##__##name##_enter, function, const struct pt_regs *regs) \
	{                                                                                  \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                               \
                                                                                           \
		return in_scope(pid_tgid) ? enter_call(pid_tgid, op, arg) : 0;             \
	}

#define CALL_EXIT(variant, name, function, op, fd, args...)                        \
	FEXIT(syscall__##variant##__##name##_exit, function, ##args)               \
	{                                                                          \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                       \
                                                                                   \
		return in_scope(pid_tgid) ? leave_call(pid_tgid, op, fd, ret) : 0; \
	}

#define CALL_BY_FENTRY(variant, name, function, op, arg) \
	CALL_ENTER(variant, name, function, op, arg)     \
	CALL_EXIT(variant, name, function, op, SYSCALL_ARG1(regs), const struct pt_regs *regs, long ret)

/* The same by breakpoint, for kernels without trampolines: more expensive. */
#define CALL_BY_KPROBE(variant, name, function, op, arg)                                   \
	SEC("kprobe/" function)                                                            \
	int BPF_KPROBE(syscall__##variant##__##name##_enter, const struct pt_regs *regs)   \
	{                                                                                  \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                               \
                                                                                           \
		return in_scope(pid_tgid) ? enter_call(pid_tgid, op, arg) : 0;             \
	}                                                                                  \
                                                                                           \
	SEC("kretprobe/" function)                                                         \
	int BPF_KRETPROBE(syscall__##variant##__##name##_exit, long ret)                   \
	{                                                                                  \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                               \
                                                                                           \
		return in_scope(pid_tgid) ? leave_call(pid_tgid, op, FD_UNKNOWN, ret) : 0; \
	}

/* Calls whose arguments are not read. */
#define PLAIN_CALLS(CALL, variant)                                                        \
	CALL(variant, read, SYS_FN(read), IO_OP_READ, 0)                                  \
	CALL(variant, pread64, SYS_FN(pread64), IO_OP_PREAD, 0)                           \
	CALL(variant, readv, SYS_FN(readv), IO_OP_READV, 0)                               \
	CALL(variant, preadv, SYS_FN(preadv), IO_OP_PREADV, 0)                            \
	CALL(variant, preadv2, SYS_FN(preadv2), IO_OP_PREADV, 0)                          \
	CALL(variant, write, SYS_FN(write), IO_OP_WRITE, 0)                               \
	CALL(variant, pwrite64, SYS_FN(pwrite64), IO_OP_PWRITE, 0)                        \
	CALL(variant, writev, SYS_FN(writev), IO_OP_WRITEV, 0)                            \
	CALL(variant, pwritev, SYS_FN(pwritev), IO_OP_PWRITEV, 0)                         \
	CALL(variant, pwritev2, SYS_FN(pwritev2), IO_OP_PWRITEV, 0)                       \
	CALL(variant, sendfile, SYS_FN(sendfile64), IO_OP_SENDFILE, 0)                    \
	CALL(variant, fsync, SYS_FN(fsync), IO_OP_FSYNC, 0)                               \
	CALL(variant, fdatasync, SYS_FN(fdatasync), IO_OP_FDATASYNC, 0)                   \
	CALL(variant, sync_file_range, SYS_FN(sync_file_range), IO_OP_SYNC_FILE_RANGE, 0) \
	CALL(variant, openat, SYS_FN(openat), IO_OP_OPENAT, 0)                            \
	CALL(variant, close, SYS_FN(close), IO_OP_CLOSE, 0)                               \
	CALL(variant, ftruncate, SYS_FN(ftruncate), IO_OP_FTRUNCATE, 0)                   \
	CALL(variant, fallocate, SYS_FN(fallocate), IO_OP_FALLOCATE, 0)                   \
	CALL(variant, unlinkat, SYS_FN(unlinkat), IO_OP_UNLINKAT, 0)                      \
	CALL(variant, renameat, SYS_FN(renameat), IO_OP_RENAMEAT, 0)                      \
	CALL(variant, renameat2, SYS_FN(renameat2), IO_OP_RENAMEAT, 0)                    \
	CALL(variant, mkdirat, SYS_FN(mkdirat), IO_OP_MKDIRAT, 0)                         \
	CALL(variant, getdents64, SYS_FN(getdents64), IO_OP_GETDENTS, 0)                  \
	CALL(variant, brk, SYS_FN(brk), IO_OP_BRK, 0)

/* Calls that Linux 6.1 has twice in its BTF, so that they cannot be told apart. */
#define DOUBLE_CALLS(CALL, variant)                                                       \
	CALL(variant, copy_file_range, SYS_FN(copy_file_range), IO_OP_COPY_FILE_RANGE, 0) \
	CALL(variant, flock, SYS_FN(flock), IO_OP_FLOCK, 0)                               \
	CALL(variant, io_uring_enter, SYS_FN(io_uring_enter), IO_OP_IO_URING_ENTER, 0)

PLAIN_CALLS(CALL_BY_FENTRY, fentry)
DOUBLE_CALLS(CALL_BY_FENTRY, fentry)
CALL_BY_FENTRY(fentry, fadvise, SYS_FADVISE_FN, IO_OP_FADVISE, SYSCALL_ARG4(regs))
CALL_BY_FENTRY(fentry, mmap, SYS_FN(mmap), IO_OP_MMAP, SYSCALL_ARG2(regs))
CALL_BY_FENTRY(fentry, munmap, SYS_FN(munmap), IO_OP_MUNMAP, SYSCALL_ARG2(regs))
CALL_BY_FENTRY(fentry, madvise, SYS_FN(madvise), IO_OP_MADVISE, SYSCALL_ARG2(regs))

/*
 * For Linux 6.1 and older, whose BTF lacks the register layout of fadvise and madvise, or has these calls twice. For
 * fadvise, the inner function is used. This variant comes second, since a compiler may have inlined that function, as
 * it has madvise's. Not counted here: madvise, and the calls that are in BTF twice.
 */
PLAIN_CALLS(CALL_BY_FENTRY, fentry_inner)
CALL_BY_FENTRY(fentry_inner, mmap, SYS_FN(mmap), IO_OP_MMAP, SYSCALL_ARG2(regs))
CALL_BY_FENTRY(fentry_inner, munmap, SYS_FN(munmap), IO_OP_MUNMAP, SYSCALL_ARG2(regs))

FENTRY(syscall__fentry_inner__fadvise_enter, "ksys_fadvise64_64", int fd, loff_t offset, loff_t len, int advice)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	return in_scope(pid_tgid) ? enter_call(pid_tgid, IO_OP_FADVISE, advice) : 0;
}

CALL_EXIT(fentry_inner, fadvise, "ksys_fadvise64_64", IO_OP_FADVISE, fd, int fd, loff_t offset, loff_t len, int advice,
	int ret)

/* The advice of fadvise, the second argument of other calls. */
static __always_inline unsigned long arg_of(__u32 op, unsigned long arg2, unsigned long arg4)
{
	/* Two loads: the compiler would make one from a computed address, which the verifier rejects. */
	barrier_var(arg2);
	barrier_var(arg4);
	return op == IO_OP_FADVISE ? arg4 : arg2;
}

/*
 * The tracepoint programs run for every system call of the host. They check first which call it is: that is a table
 * lookup, while checking whose it is calls a kernel function, and not all calls are of interest.
 */
static __always_inline void enter_any(__u32 op, unsigned long arg2, unsigned long arg4)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		UPDATE_IN_TRACEPOINT(m)
			enter(m, pid_tgid, op, arg_of(op, arg2, arg4));
}

static __always_inline void leave_any(__u32 op, int fd, long ret)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	if (in_scope(pid_tgid))
		UPDATE_IN_TRACEPOINT(m)
			AT_ONCE(m)
				leave(m, pid_tgid, op, fd, ret);
}

TP_BTF(syscall__tp_btf__enter, sys_enter, struct pt_regs *regs, long nr)
{
	__u32 op = io_op(nr);

	if (op < IO_OP__COUNT)
		enter_any(op, SYSCALL_ARG2(regs), SYSCALL_ARG4(regs));
	return 0;
}

TP_BTF(syscall__tp_btf__exit, sys_exit, struct pt_regs *regs, long ret)
{
	__u32 op = io_op(SYSCALL_NR(regs));

	if (op < IO_OP__COUNT)
		leave_any(op, SYSCALL_ARG1(regs), ret);
	return 0;
}

TRACEPOINT(syscall__tracepoint__enter, raw_syscalls, sys_enter, struct trace_event_raw_sys_enter *ctx)
{
	__u32 op = io_op(ctx->id);

	if (op < IO_OP__COUNT)
		enter_any(op, ctx->args[1], ctx->args[3]);
}

TRACEPOINT(syscall__tracepoint__exit, raw_syscalls, sys_exit, struct trace_event_raw_sys_exit *ctx)
{
	__u32 op = io_op(ctx->id);

	if (op < IO_OP__COUNT)
		leave_any(op, FD_UNKNOWN, ctx->ret);
}

PLAIN_CALLS(CALL_BY_KPROBE, kprobe)
DOUBLE_CALLS(CALL_BY_KPROBE, kprobe)
CALL_BY_KPROBE(kprobe, fadvise, SYS_FADVISE_FN, IO_OP_FADVISE, SYSCALL_ARG4_COPY(regs))
CALL_BY_KPROBE(kprobe, mmap, SYS_FN(mmap), IO_OP_MMAP, SYSCALL_ARG2_COPY(regs))
CALL_BY_KPROBE(kprobe, munmap, SYS_FN(munmap), IO_OP_MUNMAP, SYSCALL_ARG2_COPY(regs))
CALL_BY_KPROBE(kprobe, madvise, SYS_FN(madvise), IO_OP_MADVISE, SYSCALL_ARG2_COPY(regs))
