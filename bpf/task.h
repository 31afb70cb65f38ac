/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A pass over the threads of the observed process: the hook "task", for what the kernel keeps for each task anyway.
 *
 * Nothing is traced. The kernel runs an iterator when it is asked to, once for each task of the host, and a last time
 * without a task. A module that includes this after its METRICS has a `struct usage`, and defines each_task and
 * end_of_pass.
 *
 * Only the iterator writes what it counts, and the loader runs one at a time, on any CPU: all of it stands in the entry
 * of CPU 0, since the sum over all entries is what is exported, and plain additions are exact.
 */
#ifndef TASK_H
#define TASK_H

/* What the kernel had kept of the process when the module was opened: counting begins there. */
static struct usage begun;

/* The pass that is under way. */
static struct {
	__u64 session;
	__u64 threads; /* that were seen so far */
	struct usage usage;
} pass;

/* How many passes have been completed. */
static __u32 passes;

/* Adds a thread of the process to pass.usage. */
static __always_inline void each_task(struct metrics *m, struct task_struct *t);

/* All threads were seen. */
static __always_inline void end_of_pass(struct metrics *m);

/*
 * Whether now is the time to read what the kernel keeps of threads that have ended, to which it adds each that ends.
 * Read before all threads, that lacks who ends during the pass, which the next pass puts right; read after them, it
 * could have someone twice.
 */
static __always_inline int ended_are_due(void)
{
	return !pass.threads && !scope_tid;
}

/* The total that has grown from begun to now. It does not fall, also if now lacks who ended during the pass. */
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
