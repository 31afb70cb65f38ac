//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * sched: what this process's threads get of the CPUs, and what they wait for it.
 *
 * Nothing is traced: the scheduler keeps all this for each task anyway. An iterator reads it when it is asked for, and
 * adds what has grown. Unit: nanoseconds, events. Linux 5.10 with CONFIG_SCHED_INFO, which the distributions have.
 */
#include "probe.bpf.h"

enum sched_kind { SCHED_KIND_VOLUNTARY, SCHED_KIND_INVOLUNTARY, SCHED_KIND__COUNT };
LABEL_VALUES(sched_kind);

struct metrics {
	counter_ns_t run_queue_wait_seconds_total HOOKS("task") HELP(
		"Time that threads of this process were ready to run and had no CPU. A wait is counted when it ends. Not "
		"counted: the last moments of a thread that ended between two passes.") VERIFY("run_queue_wait_ns");
	counter_t run_queue_waits_total HOOKS("task") HELP(
		"Times that a thread of this process got a CPU, after a wait of any length, of none too. Not counted: the "
		"last ones of a thread that ended between two passes.") VERIFY("run_queue_waits");
	counter_ns_t cpu_seconds_total HOOKS("task") HELP(
		"CPU time of this process, of threads that have ended too. Not counted: what a running thread has used "
		"since the last tick of the clock.");
	counter_t switches_total[SCHED_KIND__COUNT] HOOKS("task") LABELS("kind=sched_kind") HELP(
		"Times that a thread of this process, one that has ended too, gave its CPU up because it had to wait "
		"(voluntary), or lost it to another (involuntary).") VERIFY("{kind}_switches");
	gauge_t threads HOOKS("task") HELP("Threads of this process.");
	counter_t run_queue_wait_skipped_total HOOKS("task") HELP(
		"Times that a pass could not tell a thread's wait, since the table of 4096 threads had no place for it.");
} __attribute__((aligned(64)));
METRICS;

/*
 * Only an iterator writes here, and the loader runs one at a time, on any CPU: all of it stands in the entry of CPU 0,
 * since the sum over all entries is what is exported, and plain additions are exact.
 */

/* What the kernel has kept of the process since it began. */
struct usage {
	__u64 runtime;
	__u64 switches[SCHED_KIND__COUNT];
};

/* What it had kept when the module was opened: counting begins there. */
static struct usage begun;

/* The pass that is under way: one run of the program for each task, and a last one without a task. */
static struct {
	__u64 session;
	__u64 threads;
	struct usage usage;
} pass;

/* How many passes have been completed. */
static __u32 passes;

/* When the first pass began, on the clock of a task's start. */
static __u64 opened;

/*
 * What each thread had waited when it was seen last: an ended thread takes it along, so only the difference may be
 * added.
 *
 * A thread's place is one of a few that begin at the low bits of its id, the first that no thread has which may be
 * alive: one that was not seen for a whole pass has ended. Who finds no place is counted, and looks again at the next
 * pass.
 */
enum { PLACES = 4096 };
enum { PLACES_OF_A_THREAD = 8 };
enum { NO_PLACE = PLACES };

static struct {
	__u64 start_time; /* tells apart who had the same id */
	__u64 run_delay;
	__u64 pcount;
	__u32 tid;
	__u32 pass;
} seen[PLACES];

static __always_inline __u32 place_of(__u32 tid, __u64 start_time, __u32 now)
{
	__u32 free = NO_PLACE;

	for (__u32 i = 0; i < PLACES_OF_A_THREAD; i++) {
		__u32 place = (tid + i) & (PLACES - 1);

		if (seen[place].tid == tid && seen[place].start_time == start_time)
			return place;
		if (free == NO_PLACE && seen[place].pass + 1 < now)
			free = place;
	}
	return free;
}

static __always_inline void add_wait(struct metrics *m, struct task_struct *t)
{
	__u64 start_time = t->start_time, run_delay = t->sched_info.run_delay, pcount = t->sched_info.pcount;
	__u32 tid = t->pid;
	/* Of passes that are completed, so that one that is not makes no thread look ended. Places begin with pass 0.
	 */
	__u32 now = passes + 2;
	__u32 place = place_of(tid, start_time, now);

	barrier_var(place);
	if (place >= PLACES) {
		m->run_queue_wait_skipped_total++;
		return;
	}
	if (seen[place].tid != tid || seen[place].start_time != start_time) {
		int ours = start_time >= opened;

		seen[place].tid = tid;
		seen[place].start_time = start_time;
		seen[place].run_delay = ours ? 0 : run_delay;
		seen[place].pcount = ours ? 0 : pcount;
	}
	m->run_queue_wait_seconds_total += run_delay - seen[place].run_delay;
	m->run_queue_waits_total += pcount - seen[place].pcount;
	seen[place].run_delay = run_delay;
	seen[place].pcount = pcount;
	seen[place].pass = now;
}

static __always_inline void add_usage(struct task_struct *t)
{
	/*
	 * The kernel adds a thread that ends to its process. Read before all threads, that lacks who ends during the
	 * pass, which the next pass puts right; read after them, it could have someone twice.
	 */
	if (!pass.threads && !scope_tid) {
		pass.usage.runtime = t->signal->sum_sched_runtime;
		pass.usage.switches[SCHED_KIND_VOLUNTARY] = t->signal->nvcsw;
		pass.usage.switches[SCHED_KIND_INVOLUNTARY] = t->signal->nivcsw;
	}
	pass.usage.runtime += t->se.sum_exec_runtime;
	pass.usage.switches[SCHED_KIND_VOLUNTARY] += t->nvcsw;
	pass.usage.switches[SCHED_KIND_INVOLUNTARY] += t->nivcsw;
	pass.threads++;
}

/* The total that has grown from begun to now. It does not fall, also if now lacks who ended during the pass. */
static __always_inline __u64 grown(__u64 total, __u64 begun, __u64 now)
{
	return (__s64)(now - begun) > (__s64)total ? now - begun : total;
}

static __always_inline void complete(struct metrics *m)
{
	if (!passes)
		begun = pass.usage;
	passes++;
	m->cpu_seconds_total = grown(m->cpu_seconds_total, begun.runtime, pass.usage.runtime);
	for (__u32 kind = 0; kind < SCHED_KIND__COUNT; kind++)
		m->switches_total[kind] =
			grown(m->switches_total[kind], begun.switches[kind], pass.usage.switches[kind]);
	m->threads = pass.threads;
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
		if (!opened)
			opened = bpf_ktime_get_ns();
	}
	if (t) {
		add_wait(m, t);
		add_usage(t);
	} else {
		complete(m);
	}
	return 0;
}
