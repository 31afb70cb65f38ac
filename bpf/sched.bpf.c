//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * sched: how much CPU time this process's threads get, and how long they wait for it.
 *
 * Nothing is traced: the scheduler keeps all this for each task anyway. An iterator reads it on request, and adds the
 * increase. Unit: nanoseconds, events. Linux 5.10 with CONFIG_SCHED_INFO, which distributions enable.
 */
#include "probe.bpf.h"

enum sched_kind { SCHED_KIND_VOLUNTARY, SCHED_KIND_INVOLUNTARY, SCHED_KIND__COUNT };
LABEL_VALUES(sched_kind);

struct metrics {
	counter_ns_t run_queue_wait_seconds_total HOOKS("task") VERIFY("run_queue_wait_ns")
		HELP("Time that threads of this process were runnable but had no CPU. A wait is counted when it ends. "
		     "Not counted: the last moments of a thread that ended between two passes.");
	counter_t run_queue_waits_total HOOKS("task") VERIFY("run_queue_waits")
		HELP("Times a thread of this process got a CPU, after a wait of any length, including none. Not "
		     "counted: the last ones of a thread that ended between two passes.");
	counter_ns_t cpu_seconds_total HOOKS("task") VERIFY("cpu_ns")
		HELP("CPU time of this process, including threads that have ended. Not counted: what a running thread "
		     "has used since the last tick of the clock.");
	counter_t switches_total[SCHED_KIND__COUNT] HOOKS("task") LABELS("kind=sched_kind")
		VERIFY("kind=voluntary: voluntary_switches; kind=involuntary: involuntary_switches") HELP(
			"Times a thread of this process, including threads that have ended, gave up its CPU to wait "
			"(voluntary) or lost it to another thread (involuntary).");
	gauge_t threads HOOKS("task") HELP("Threads of this process.");
	counter_t run_queue_wait_skipped_total HOOKS("task")
		HELP("Times a pass could not determine the wait of a thread, because the table of 1024 threads had no "
		     "place for it. Zero unless there are more threads than that.");
} __attribute__((aligned(64)));
METRICS;

/* The kernel's totals for the process since it started. */
struct usage {
	__u64 runtime;
	__u64 switches[SCHED_KIND__COUNT];
};

#include "task.h"

/* When the first pass began, on the clock of a task's start_time. */
static __u64 opened;

/*
 * How long each thread had waited when it was last seen. This value is lost when a thread ends, so only differences are
 * added.
 *
 * A thread's place is one of a few that begin at the low bits of its id: the first not held by a thread that may be
 * alive. A thread that was not seen for a whole pass has ended. One that finds no place is counted, and looks again in
 * the next pass.
 */
enum { PLACES = 1024 };
enum { PLACES_OF_A_THREAD = 8 };
enum { NO_PLACE = PLACES };

/* A thread's id and start time, to distinguish threads that had the same id. Ids end at 2^22; none is 0. */
enum { TID_BITS = 22 };

static struct {
	__u64 thread;
	__u64 run_delay;
	__u32 pcount; /* differences survive a wrap */
	__u32 pass;
} seen[PLACES];

static __always_inline __u32 place_of(__u64 thread, __u32 tid, __u32 now)
{
	__u32 free = NO_PLACE;

	for (__u32 i = 0; i < PLACES_OF_A_THREAD; i++) {
		__u32 place = (tid + i) & (PLACES - 1);

		if (seen[place].thread == thread)
			return place;
		if (free == NO_PLACE && seen[place].pass + 1 < now)
			free = place;
	}
	return free;
}

static __always_inline void add_wait(struct metrics *m, struct task_struct *t)
{
	__u64 start_time = t->start_time, run_delay = t->sched_info.run_delay;
	__u32 tid = t->pid, pcount = t->sched_info.pcount;
	__u64 thread = start_time << TID_BITS | tid;
	/* Only completed passes, so that an aborted one makes no thread look ended. Places begin with pass 0. */
	__u32 now = passes + 2;
	__u32 place = place_of(thread, tid, now);

	barrier_var(place);
	if (place >= PLACES) {
		m->run_queue_wait_skipped_total++;
		return;
	}
	if (!opened)
		opened = bpf_ktime_get_ns();
	if (seen[place].thread != thread) {
		int ours = start_time >= opened;

		seen[place].thread = thread;
		seen[place].run_delay = ours ? 0 : run_delay;
		seen[place].pcount = ours ? 0 : pcount;
	}
	m->run_queue_wait_seconds_total += run_delay - seen[place].run_delay;
	m->run_queue_waits_total += pcount - seen[place].pcount;
	seen[place].run_delay = run_delay;
	seen[place].pcount = pcount;
	seen[place].pass = now;
}

static __always_inline void each_task(struct metrics *m, struct task_struct *t)
{
	add_wait(m, t);
	if (ended_are_due()) {
		pass.usage.runtime = t->signal->sum_sched_runtime;
		pass.usage.switches[SCHED_KIND_VOLUNTARY] = t->signal->nvcsw;
		pass.usage.switches[SCHED_KIND_INVOLUNTARY] = t->signal->nivcsw;
	}
	pass.usage.runtime += t->se.sum_exec_runtime;
	pass.usage.switches[SCHED_KIND_VOLUNTARY] += t->nvcsw;
	pass.usage.switches[SCHED_KIND_INVOLUNTARY] += t->nivcsw;
}

static __always_inline void end_of_pass(struct metrics *m)
{
	m->cpu_seconds_total = grown(m->cpu_seconds_total, begun.runtime, pass.usage.runtime);
	for (__u32 kind = 0; kind < SCHED_KIND__COUNT; kind++)
		m->switches_total[kind] =
			grown(m->switches_total[kind], begun.switches[kind], pass.usage.switches[kind]);
	m->threads = pass.threads;
}
