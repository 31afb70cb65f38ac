// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * listen: what waits at the door of this process, and who it lets in.
 *
 * A connection that the kernel has accepted waits in the queue of the listening socket until the process takes it with
 * accept(2). A queue that is full turns connections away.
 *
 * Unit: connections, calls. The queues are read when a collection begins, and cost nothing in between. Linux 5.11.
 */
#include "probe.bpf.h"

enum accept_result { ACCEPT_RESULT_TAKEN, ACCEPT_RESULT_EMPTY, ACCEPT_RESULT_FAILED, ACCEPT_RESULT__COUNT };
LABEL_VALUES(accept_result);

struct metrics {
	gauge_t waiting_connections HOOKS("queue") SINCE("5.11") HELP(
		"TCP connections that wait for this process to accept them, on all its listening sockets. A socket that is "
		"open twice counts twice. Not counted under lockdown=confidentiality: sockets of MPTCP, which Go's are.");
	gauge_t waiting_limit_connections HOOKS("queue") SINCE("5.11")
		HELP("TCP connections that could wait, on all listening sockets of this process.");
	counter_t dropped_total HOOKS("queue") SINCE("5.11") HELP(
		"Attempts to connect over TCP that were turned away, since the queue was full or the packet wrong. Not "
		"counted: those since the last collection before a socket was closed.");
	counter_t accepts_total[ACCEPT_RESULT__COUNT] HOOKS("accept") LABELS("result=accept_result") HELP(
		"Calls of accept4(2) that returned a connection (taken), found none (empty), or failed. Not counted: "
		"accept(2), and io_uring.");
} __attribute__((aligned(64)));
METRICS;

/* From the kernel's net/tcp_states.h, user-space API and system call tables. */
enum { TCP_LISTEN = 10 };
enum { IPPROTO_TCP = 6, IPPROTO_MPTCP = 262 };
enum { EAGAIN = 11 };
enum { SYS_ACCEPT4 = SYS_NR(288, 242) };

/*
 * What we read of the kernel, and kernel.h does not have. The loader finds each field in the running kernel by its
 * name. Of what follows three underscores it takes no notice: these are further fields of structs that kernel.h
 * declares.
 */
struct sock_common___listen {
	unsigned char skc_state;
} __attribute__((preserve_access_index));

struct sock___listen {
	struct sock_common___listen __sk_common;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
	struct {
		int counter;
	} sk_drops;
} __attribute__((preserve_access_index));

struct mptcp_sock {
	struct sock *first;
} __attribute__((preserve_access_index));

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
} __attribute__((preserve_access_index));

/* The pass over all files that is under way. The loader runs one at a time. */
static struct {
	__u64 session;
	__u64 waiting;
	__u64 limit;
	__u64 dropped;
} pass;

/* What the sockets had dropped at the end of the last pass, and how many passes there were. */
static __u64 dropped_before;
static __u32 passes;

static __always_inline void add(unsigned char state, __u32 waiting, __u32 limit, __u32 dropped)
{
	if (state != TCP_LISTEN)
		return;
	pass.waiting += waiting;
	pass.limit += limit;
	pass.dropped += dropped;
}

static __always_inline void each_socket(const struct sock___listen *sk)
{
	add(sk->__sk_common.skc_state, sk->sk_ack_backlog, sk->sk_max_ack_backlog, sk->sk_drops.counter);
}

/* All files have been seen. */
static __always_inline void end_of_pass(void)
{
	struct metrics *m;
	__u32 entry = 0;

	m = bpf_map_lookup_elem(&metrics, &entry);
	if (!m)
		return;
	m->waiting_connections = pass.waiting;
	m->waiting_limit_connections = pass.limit;
	/* What was dropped before the first pass is not ours, and a total does not fall when a socket is closed. */
	if (passes && pass.dropped > dropped_before)
		m->dropped_total += pass.dropped - dropped_before;
	dropped_before = pass.dropped;
	passes++;
}

/*
 * Runs for each open file of each task, and once more without. Only this program writes its metrics, all into the entry
 * of CPU 0, so plain additions are exact. Returns the socket if it is one of the process's.
 */
static __always_inline struct sock *next_socket(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u64 session = ctx->meta->session_id;
	struct socket *socket;

	if (pass.session != session) {
		__builtin_memset(&pass, 0, sizeof(pass));
		pass.session = session;
	}
	if (!task || !file) {
		end_of_pass();
		return 0;
	}
	/* Files are the process's: none belongs to one thread of it. */
	if (scope_tid || task->tgid != scope_tgid)
		return 0;
	socket = bpf_sock_from_file(file);
	return socket ? socket->sk : 0;
}

/*
 * Go listens by MPTCP, where the queue is that of the first TCP socket within. No pointer that the verifier knows leads
 * there, so these fields are copied, which a kernel in lockdown=confidentiality refuses.
 */
SEC("iter/task_file")
int queue__mptcp(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = next_socket(ctx);
	struct sock___listen *first;

	if (!sk)
		return 0;
	if (sk->sk_protocol == IPPROTO_TCP)
		each_socket((struct sock___listen *)sk);
	if (sk->sk_protocol != IPPROTO_MPTCP)
		return 0;
	first = (struct sock___listen *)BPF_CORE_READ((struct mptcp_sock *)sk, first);
	if (!first)
		return 0;
	add(BPF_CORE_READ(first, __sk_common.skc_state), BPF_CORE_READ(first, sk_ack_backlog),
		BPF_CORE_READ(first, sk_max_ack_backlog), BPF_CORE_READ(first, sk_drops.counter));
	return 0;
}

/* There, and where the kernel has no MPTCP. */
SEC("iter/task_file")
int queue__tcp(struct bpf_iter__task_file *ctx)
{
	struct sock *sk = next_socket(ctx);

	if (sk && sk->sk_protocol == IPPROTO_TCP)
		each_socket((struct sock___listen *)sk);
	return 0;
}

/* Runs in the thread that calls accept4, without preemption: a plain increment is exact. */
static __always_inline void accepted(long ret)
{
	__u32 result = ACCEPT_RESULT_TAKEN;

	if (!in_scope(bpf_get_current_pid_tgid()))
		return;
	if (ret < 0)
		result = ret == -EAGAIN ? ACCEPT_RESULT_EMPTY : ACCEPT_RESULT_FAILED;
	UPDATE_IN_TRACEPOINT(m)
		m->accepts_total[result]++;
}

/* Runs at this system call alone, and needs tracefs. */
TRACEPOINT(accept__tracepoint, syscalls, sys_exit_accept4, struct trace_event_raw_sys_exit *ctx)
{
	accepted(ctx->ret);
}

/* Runs at every system call. */
TP_BTF(accept__tp_btf, sys_exit, struct pt_regs *regs, long ret)
{
	if (SYSCALL_NR(regs) == SYS_ACCEPT4)
		accepted(ret);
	return 0;
}
