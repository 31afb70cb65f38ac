//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * sched_trace: how long each wait of this process's threads for a CPU takes, and each time off the CPU.
 *
 * A program runs at every context switch, wake-up and migration of the host. The module sched has the sums at no cost;
 * this one has the distributions. Unit: nanoseconds, events. Linux 5.10.
 */
#include "probe.bpf.h"

enum sched_trace_state {
	SCHED_TRACE_STATE_SLEEP,
	SCHED_TRACE_STATE_UNINTERRUPTIBLE,
	SCHED_TRACE_STATE_PREEMPTED,
	SCHED_TRACE_STATE__COUNT,
};
LABEL_VALUES(sched_trace_state);

struct metrics {
	struct hist_ns run_queue_wait_seconds HOOKS("switch")
		HELP("Time from when a thread of this process became runnable, because it was woken or preempted, "
		     "until it ran. Every context switch and wake-up of the host is slowed down a little.");
	struct hist_ns off_cpu_seconds[SCHED_TRACE_STATE__COUNT] HOOKS("switch") LABELS("state=sched_trace_state")
		HELP("Time from when a thread of this process left its CPU until it ran again, by how it left: waiting "
		     "for an event or stopped (sleep); waiting where no signal interrupts, such as for a disk or a "
		     "kernel lock (uninterruptible); or losing the CPU to another thread (preempted). The wait for a "
		     "CPU is included. Every context switch and wake-up of the host is slowed down a little. Not "
		     "counted: a thread that does not run again.");
	counter_t migrations_total HOOKS("migrate")
		HELP("Times a thread of this process was moved to another CPU. Every migration of the host is slowed "
		     "down a little.");
	EVENTS_LOST;
} __attribute__((aligned(64)));
METRICS;

/* From the kernel's linux/sched.h: the states of a thread. */
enum { STATE_RUNNING = 0, STATE_UNINTERRUPTIBLE = 0x2, STATE_DEAD = 0x80 };

/* Threads that are ready but not running, and threads off the CPU, with a sched_trace_state or NEW as the note. */
TIMER(ready);
TIMER(off);

/* A thread that has never run. */
enum { NEW = SCHED_TRACE_STATE__COUNT };

/*
 * All programs run with interrupts off, and add to the entry of the CPU that they run on, so plain increments are
 * exact. The times of one thread do not race either: it leaves and enters its CPU under the lock of that CPU's run
 * queue, and a wake-up waits until it has left.
 */

static __always_inline int task_in_scope(struct task_struct *t)
{
	return in_scope((__u64)t->tgid << 32 | (__u32)t->pid);
}

static __always_inline int woken(struct task_struct *t)
{
	__u32 tid = t->pid;

	/*
	 * A thread that is running, or was preempted, may also be woken, if it was about to sleep. The field on_cpu has
	 * become a byte.
	 */
	if (task_in_scope(t) && !BPF_CORE_READ_BITFIELD(t, on_cpu) && timer_note(&ready, tid) < 0)
		timer_start(&ready, tid, 0);
	return 0;
}

static __always_inline int woken_new(struct task_struct *t)
{
	__u32 tid = t->pid;

	if (!task_in_scope(t))
		return 0;
	timer_start(&ready, tid, 0);
	timer_start(&off, tid, NEW);
	return 0;
}

static __always_inline __u32 state_of(struct task_struct *t)
{
	struct task_struct___state *old = (void *)t;

	return bpf_core_field_exists(t->__state) ? t->__state : old->state;
}

/* state is what the thread left with. By now it may be RUNNING, kept awake by a signal, or already woken. */
static __always_inline void leave(struct task_struct *t, bool preempt, __u32 state)
{
	__u32 tid = t->pid;

	if (state & STATE_DEAD)
		return;
	if (preempt || state_of(t) == STATE_RUNNING) {
		timer_start(&ready, tid, 0);
		timer_start(&off, tid, SCHED_TRACE_STATE_PREEMPTED);
		return;
	}
	timer_start(
		&off, tid, state & STATE_UNINTERRUPTIBLE ? SCHED_TRACE_STATE_UNINTERRUPTIBLE : SCHED_TRACE_STATE_SLEEP);
}

static __always_inline void enter(struct task_struct *t)
{
	struct metrics *m = metrics_here();
	__u32 tid = t->pid, state;
	__s64 ns;

	if (!m)
		return;
	timer_stop(&ready, tid, &m->run_queue_wait_seconds, m->events_lost_total);
	state = timer_note(&off, tid);
	ns = timer_end(&off, tid, m->events_lost_total);
	barrier_var(state);
	if (ns != TIMER_NONE && state < SCHED_TRACE_STATE__COUNT)
		hist_ns_add(&m->off_cpu_seconds[state], ns);
}

static __always_inline int switched(bool preempt, struct task_struct *prev, struct task_struct *next, __u32 state)
{
	if (task_in_scope(prev))
		leave(prev, preempt, state);
	if (task_in_scope(next))
		enter(next);
	return 0;
}

TP_BTF(switch__tp_btf__wakeup, sched_wakeup, struct task_struct *t)
{
	return woken(t);
}

TP_BTF(switch__tp_btf__wakeup_new, sched_wakeup_new, struct task_struct *t)
{
	return woken_new(t);
}

TP_BTF(switch__tp_btf__switch, sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next,
	unsigned int prev_state)
{
	return switched(preempt, prev, next, prev_state);
}

/* Before Linux 5.18 the state is read from the thread. If it is already being woken, the state it slept in is lost. */
TP_BTF(switch__tp_btf_three__wakeup, sched_wakeup, struct task_struct *t)
{
	return woken(t);
}

TP_BTF(switch__tp_btf_three__wakeup_new, sched_wakeup_new, struct task_struct *t)
{
	return woken_new(t);
}

TP_BTF(switch__tp_btf_three__switch, sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return switched(preempt, prev, next, state_of(prev));
}

TP_BTF(migrate__tp_btf, sched_migrate_task, struct task_struct *t)
{
	struct metrics *m = task_in_scope(t) ? metrics_here() : 0;

	if (m)
		m->migrations_total++;
	return 0;
}
