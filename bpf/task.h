/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A pass over the threads of the observed process: the hook "task", for values that the kernel keeps per task anyway.
 *
 * Nothing is traced. The kernel runs the iterator on request, once for each task of the host, and a last time without a
 * task. A module that includes this after its METRICS has a `struct usage`, and defines each_task and end_of_pass.
 *
 * Only the iterator writes what it counts, and the loader runs one at a time, on any CPU. All of it is in the entry of
 * CPU 0, since the exported value is the sum over all entries. So plain additions are exact.
 */
#ifndef TASK_H
#define TASK_H

/* The process's totals in the kernel when the module was opened: counting starts there. */
static struct usage begun;

/* The current pass. */
static struct {
	__u64 session;
	__u64 threads; /* seen so far */
	struct usage usage;
} pass;

/* The number of completed passes. */
static __u32 passes;

/* Adds a thread of the process to pass.usage. */
static __always_inline void each_task(struct metrics *m, struct task_struct *t);

/* All threads were seen. */
static __always_inline void end_of_pass(struct metrics *m);

/*
 * Whether to read the kernel's totals of ended threads now. The kernel adds each thread to them when it ends. Read
 * before all threads, they lack those that end during the pass, which the next pass corrects. Read after them, they
 * could count a thread twice.
 */
static __always_inline int ended_are_due(void)
{
	return !pass.threads && !scope_tid;
}

/* The growth from begun to now, but at least total: now may lack threads that ended during the pass. */
static __always_inline __u64 grown(__u64 total, __u64 begun, __u64 now)
{
	return (__s64)(now - begun) > (__s64)total ? now - begun : total;
}

SEC("iter/task")
int task__iter(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	__u64 session = ctx->meta->session_id;
	struct metrics *m;
	__u32 entry = 0;

	if (t && !in_scope((__u64)t->tgid << 32 | (__u32)t->pid))
		return 0;
	m = bpf_map_lookup_elem(&metrics, &entry);
	if (!m)
		return 0;
	if (pass.session != session) {
		__builtin_memset(&pass, 0, sizeof(pass));
		pass.session = session;
	}
	if (t) {
		each_task(m, t);
		pass.threads++;
		return 0;
	}
	if (!passes)
		begun = pass.usage;
	passes++;
	end_of_pass(m);
	return 0;
}

#endif /* TASK_H */
