/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The API for writing probe modules.
 *
 * A module is one C file that describes itself. `struct metrics` names its metrics; the tags on each member say what it
 * counts, over which labels, and which hooks feed it. The name of a program says which hook it belongs to:
 *
 *	<hook>__<variant>[__<part>]
 *
 * A hook uses the first of its variants, in file order, whose parts all load and attach. Its metrics are exported if it
 * is attached, and absent otherwise.
 *
 *	enum fruit { FRUIT_APPLE, FRUIT_PEAR, FRUIT__COUNT };
 *
 *	struct metrics {
 *		counter_t eaten_total[FRUIT__COUNT] HELP("Fruit eaten.") LABELS("fruit=fruit") HOOKS("eat");
 *		struct hist_ns chew_seconds HELP("Time from bite to swallow.") HOOKS("eat");
 *	};
 *	METRICS;
 *	LABEL_VALUES(fruit);
 *
 *	TP_BTF(eat__tp_btf, some_tracepoint, struct apple *a)
 *	{
 *		if (in_scope(bpf_get_current_pid_tgid()))
 *			UPDATE_IN_TRACEPOINT(m)
 *				m->eaten_total[FRUIT_APPLE]++;
 *		return 0;
 *	}
 */
#ifndef PROBE_BPF_H
#define PROBE_BPF_H

#ifndef __VMLINUX_H__
#include "kernel.h"
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define TAG(text) __attribute__((btf_decl_tag(text)))

/* What a metric counts, and what it does not. */
#define HELP(text) TAG("help:" text)
/* The labels, outermost array first: "name=enum,name=enum". The enumerators are the values. */
#define LABELS(text) TAG("labels:" text)
/* The hooks that feed the metric; any is enough: "hook,hook". */
#define HOOKS(text) TAG("hooks:" text)
/* The first Linux version that can feed the metric, if later than 5.10, which all modules need. */
#define SINCE(version) TAG("since:" version)
/*
 * What the known work at start must add to the metric, as "labels: quantities; ...", for example
 * "result=ok: reads; result=error: failed_reads + bad_reads". The quantities are those that observer/internal/work
 * returns; "{op}" stands for each value of the label op in turn. A part applies to the sum of all series that have its
 * labels. A time must be above 0 and at most what the work took, or equal if the quantity ends with _ns. A metric
 * without VERIFY is exported as unverified.
 */
#define VERIFY(text) TAG("verify:" text)
/*
 * The cost to the process of each count of the metric, measured at start with this operation: a "call" that reads a
 * cached page, a "page" that enters or leaves the page cache, a "fault" on new memory.
 */
#define COST(operation) TAG("cost:" operation)
/* The metric is common to all modules: it is exported as ebpf_<metric>, with the module as a label. */
#define COMMON TAG("common")

/* Keeps an enum in the object, so that its enumerators can be read as label values. */
#define LABEL_VALUES(name) const volatile enum name label_values_##name

/* A count of events, or of the unit at the end of the metric's name (bytes, pages). Only grows. */
typedef __u64 counter_t;

/* A sum of nanoseconds, exported in seconds. Only grows. */
typedef __u64 counter_ns_t;

/* A value that may decrease. The exported value is the sum over all CPUs. */
typedef __u64 gauge_t;

/*
 * A histogram. Slot i counts the values up to 2^(le + i * step) that the slot before it does not. le and step (1 if
 * absent) are in the slot's tag. The first slot counts all smaller values, the last one all larger ones. So each bound
 * is inclusive, like Prometheus' `le`. Each slot of each series that counts is stored as a series of its own: a
 * histogram with wide steps costs half.
 */

/* The sum comes before the slots, so that a reader needs only one cache line to find that a histogram is empty. */

/* Nanoseconds, exported in seconds: 256 ns to 1.07 s by powers of two. */
enum { HIST_NS_SLOTS = 24, HIST_NS_LE = 8 };
struct hist_ns {
	__u64 sum;
	__u64 slot[HIST_NS_SLOTS] TAG("le:8");
};

/* The same with fewer slots: 1.02 us to 1.07 s by powers of four. */
enum { HIST_NS_WIDE_SLOTS = 12, HIST_NS_WIDE_LE = 10 };
struct hist_ns_wide {
	__u64 sum;
	__u64 slot[HIST_NS_WIDE_SLOTS] TAG("le:10,step:2");
};

/* Bytes: 64 B to 64 MiB by powers of four. */
enum { HIST_BYTES_SLOTS = 12, HIST_BYTES_LE = 6 };
struct hist_bytes {
	__u64 sum;
	__u64 slot[HIST_BYTES_SLOTS] TAG("le:6,step:2");
};

/* The counters: one entry per CPU. The loader creates them, and user space maps and reads them without system calls. */
#define METRICS                                                                           \
	struct {                                                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                         \
		__uint(map_flags, BPF_F_MMAPABLE);                                        \
		__uint(max_entries, 1);                                                   \
		__type(key, __u32);                                                       \
		__type(value, struct metrics);                                            \
	} metrics SEC(".maps");                                                           \
                                                                                          \
	/* This CPU's entry. */                                                           \
	__attribute__((unused)) static __always_inline struct metrics *metrics_here(void) \
	{                                                                                 \
		__u32 cpu = bpf_get_smp_processor_id();                                   \
                                                                                          \
		return bpf_map_lookup_elem(&metrics, &cpu);                               \
	}                                                                                 \
	struct metrics

/*
 * UPDATE(m) statement: runs the statement with m, this CPU's entry of the counters, and with preemption disabled where
 * the kernel allows it (Linux 6.10). An increment there needs no atomics, unless an interrupt adds to the same entry.
 *
 * Tracepoint programs since Linux 7, and fentry and fexit programs before that too, run with preemption enabled. While
 * one is preempted, the kernel skips every other run of it on that CPU, and events would be missed for that long. Runs
 * that are still missed, just before and after the statement, are counted by the kernel and reported by the loader.
 *
 * The statement must not leave by return, break or goto. The verifier rejects a program that ends non-preemptible.
 */
#define UPDATE(m) UPDATE_BETWEEN(m, preempt_off, preempt_on)

/*
 * The same for a program that only a tracepoint runs. Since Linux 7.0 (commit a46023d5616e) tracepoints use a sleepable
 * guard, which takes a read-side counter of the kind in srcu_reader_flavor. Before, they disabled preemption
 * themselves, and disabling it again would cost as much as counting.
 */
#define UPDATE_IN_TRACEPOINT(m) UPDATE_BETWEEN(m, preempt_off_in_tracepoint, preempt_on_in_tracepoint)

/* Two loops that run at most once: the compiler makes straight-line code. */
#define UPDATE_BETWEEN(m, off, on)                                    \
	for (int m##_once = (off(), 1); m##_once; on(), m##_once = 0) \
		for (struct metrics *m = metrics_here(); m; m = 0)

extern void bpf_preempt_disable(void) __ksym __weak;
extern void bpf_preempt_enable(void) __ksym __weak;

static __always_inline void preempt_off(void)
{
	if (bpf_preempt_disable)
		bpf_preempt_disable();
}

static __always_inline void preempt_on(void)
{
	if (bpf_preempt_enable)
		bpf_preempt_enable();
}

static __always_inline void preempt_off_in_tracepoint(void)
{
	if (bpf_core_field_exists(struct srcu_struct, srcu_reader_flavor))
		preempt_off();
}

static __always_inline void preempt_on_in_tracepoint(void)
{
	if (bpf_core_field_exists(struct srcu_struct, srcu_reader_flavor))
		preempt_on();
}

/*
 * What to observe, set before the programs are loaded: the process, by its thread group id in the initial pid
 * namespace, or one of its threads. As these are constants, the verifier removes the test that is not needed.
 */
const volatile __u32 scope_tgid;
const volatile __u32 scope_tid;

static __always_inline int in_scope(__u64 pid_tgid)
{
	if (pid_tgid >> 32 != scope_tgid)
		return 0;
	return !scope_tid || (__u32)pid_tgid == scope_tid;
}

/* The smallest e with v <= 2^e. */
static __always_inline __u32 log2_ceil(__u64 v)
{
	__u32 e = 0;

	if (v <= 1)
		return 0;
	v--;
	if (v >> 32) {
		v >>= 32;
		e += 32;
	}
	if (v >> 16) {
		v >>= 16;
		e += 16;
	}
	if (v >> 8) {
		v >>= 8;
		e += 8;
	}
	if (v >> 4) {
		v >>= 4;
		e += 4;
	}
	if (v >> 2) {
		v >>= 2;
		e += 2;
	}
	return e + (v >> 1) + 1;
}

static __always_inline __u32 hist_slot(__u64 v, __u32 le, __u32 step, __u32 slots)
{
	__u32 e = log2_ceil(v);

	if (e <= le)
		return 0;
	e = (e - le + step - 1) / step;
	return e < slots ? e : slots - 1;
}

static __always_inline void hist_add(__u64 *slot, __u64 *sum, __u64 v, __u32 i, __u32 slots)
{
	/* The compiler knows that i is in bounds and would drop the test, but the verifier needs it. */
	barrier_var(i);
	if (i < slots)
		slot[i]++;
	*sum += v;
}

/* The same where another program that adds to the same entry may interrupt this one. */
static __always_inline void hist_add_atomic(__u64 *slot, __u64 *sum, __u64 v, __u32 i, __u32 slots)
{
	barrier_var(i);
	if (i < slots)
		__sync_fetch_and_add(&slot[i], 1);
	__sync_fetch_and_add(sum, v);
}

static __always_inline void hist_ns_add(struct hist_ns *h, __u64 ns)
{
	hist_add(h->slot, &h->sum, ns, hist_slot(ns, HIST_NS_LE, 1, HIST_NS_SLOTS), HIST_NS_SLOTS);
}

/* The same for a duration that stands for several. */
static __always_inline void hist_ns_add_weighted(struct hist_ns *h, __u64 ns, __u32 weight)
{
	__u32 i = hist_slot(ns, HIST_NS_LE, 1, HIST_NS_SLOTS);

	barrier_var(i);
	if (i < HIST_NS_SLOTS)
		h->slot[i] += weight;
	h->sum += ns * weight;
}

static __always_inline void hist_ns_add_atomic(struct hist_ns *h, __u64 ns)
{
	hist_add_atomic(h->slot, &h->sum, ns, hist_slot(ns, HIST_NS_LE, 1, HIST_NS_SLOTS), HIST_NS_SLOTS);
}

static __always_inline void hist_ns_wide_add(struct hist_ns_wide *h, __u64 ns)
{
	hist_add(h->slot, &h->sum, ns, hist_slot(ns, HIST_NS_WIDE_LE, 2, HIST_NS_WIDE_SLOTS), HIST_NS_WIDE_SLOTS);
}

static __always_inline void hist_ns_wide_add_atomic(struct hist_ns_wide *h, __u64 ns)
{
	hist_add_atomic(
		h->slot, &h->sum, ns, hist_slot(ns, HIST_NS_WIDE_LE, 2, HIST_NS_WIDE_SLOTS), HIST_NS_WIDE_SLOTS);
}

static __always_inline void hist_bytes_add(struct hist_bytes *h, __u64 bytes)
{
	hist_add(h->slot, &h->sum, bytes, hist_slot(bytes, HIST_BYTES_LE, 2, HIST_BYTES_SLOTS), HIST_BYTES_SLOTS);
}

/*
 * Start times of events in progress, by thread.
 *
 * A table of single words, indexed by the low bits of the thread id. By default, a word is the start in nanoseconds (50
 * bits: 13 days, and differences survive a wrap), a note of 4 bits, and the rest of the thread id (10 bits, since ids
 * end at 2^22). A start is one store, an end one load and one store. A word cannot tear, so a time is never computed
 * from another thread's start. What two threads in one slot lose is counted. TIMER(name) defines a table, which the
 * loader clears before it attaches programs again.
 *
 * A module may define TIMER_SLOT_BITS before it includes this, to have smaller tables: each bit less halves the memory,
 * and costs one bit of time.
 */
#ifndef TIMER_SLOT_BITS
#define TIMER_SLOT_BITS 12
#endif
enum { TIMER_SLOTS = 1 << TIMER_SLOT_BITS, TIMER_TAG_BITS = 22 - TIMER_SLOT_BITS };
enum { TIMER_NOTE_BITS = 4 };
enum { TIMER_TIME_SHIFT = TIMER_TAG_BITS + TIMER_NOTE_BITS };

struct timer {
	__u64 word[TIMER_SLOTS];
};

#define TIMER(name) static struct timer name SEC(".data.timers")

enum lost_reason { LOST_REASON_NO_START, LOST_REASON_COLLISION, LOST_REASON__COUNT };
LABEL_VALUES(lost_reason);

#define EVENTS_LOST                                                                                                \
	counter_t events_lost_total[LOST_REASON__COUNT] COMMON LABELS("reason=lost_reason") HELP(                  \
		"Events counted without their duration: begun before the probes were attached (no_start), or two " \
		"threads in one slot of the table of start times (collision). Zero unless there are any.")         \
		VERIFY("events_lost")

static __always_inline __u64 *timer_word(struct timer *t, __u32 tid)
{
	return &t->word[tid & (TIMER_SLOTS - 1)];
}

static __always_inline __u64 timer_tag(__u32 tid)
{
	return (tid >> TIMER_SLOT_BITS) & ((1 << TIMER_TAG_BITS) - 1);
}

static __always_inline void timer_start(struct timer *t, __u32 tid, __u32 note)
{
	__u64 word = bpf_ktime_get_ns() << TIMER_TIME_SHIFT | (__u64)note << TIMER_TAG_BITS | timer_tag(tid);

	*(volatile __u64 *)timer_word(t, tid) = word;
}

/* The note of a word that is not a start: see SAMPLING. */
enum { TIMER_WAITING = (1 << TIMER_NOTE_BITS) - 1 };

static __always_inline __u32 timer_note_of(__u64 word)
{
	return word >> TIMER_TAG_BITS & ((1 << TIMER_NOTE_BITS) - 1);
}

/* Whether the word is the start of an event of the thread. */
static __always_inline int timer_begun(__u64 word, __u32 tid)
{
	return word && (word & ((1 << TIMER_TAG_BITS) - 1)) == timer_tag(tid) && timer_note_of(word) != TIMER_WAITING;
}

/* The note of the thread's event, or -1. */
static __always_inline int timer_note(struct timer *t, __u32 tid)
{
	__u64 word = *(volatile __u64 *)timer_word(t, tid);

	return timer_begun(word, tid) ? (int)timer_note_of(word) : -1;
}

/* Changes the note of the thread's event, if it has one. */
static __always_inline void timer_renote(struct timer *t, __u32 tid, __u32 note)
{
	__u64 *slot = timer_word(t, tid);
	__u64 word = *(volatile __u64 *)slot;
	__u64 notes = ((1ULL << TIMER_NOTE_BITS) - 1) << TIMER_TAG_BITS;

	if (timer_begun(word, tid))
		*(volatile __u64 *)slot = (word & ~notes) | (__u64)note << TIMER_TAG_BITS;
}

/* What timer_end returns for a thread that has begun no event. */
enum { TIMER_NONE = -1LL };

/*
 * timer_start for ends that may be seen without a start, and so cannot detect a loss: the start counts what it
 * overwrites.
 */
static __always_inline void timer_start_counted(struct timer *t, __u32 tid, counter_t *lost)
{
	if (*(volatile __u64 *)timer_word(t, tid) && timer_note(t, tid) < 0)
		lost[LOST_REASON_COLLISION]++;
	timer_start(t, tid, 0);
}

/* Ends the thread's event and returns its duration in nanoseconds, or counts it as lost: TIMER_NONE. */
static __always_inline __s64 timer_end(struct timer *t, __u32 tid, counter_t *lost)
{
	__u64 *slot = timer_word(t, tid);
	__u64 word = *(volatile __u64 *)slot;

	if (!timer_begun(word, tid)) {
		lost[word && timer_note_of(word) != TIMER_WAITING ? LOST_REASON_COLLISION : LOST_REASON_NO_START]++;
		return TIMER_NONE;
	}
	*(volatile __u64 *)slot = 0;
	/* Shifted up, both are modulo the time's range; so is their difference. */
	return ((bpf_ktime_get_ns() - (word >> TIMER_TIME_SHIFT)) << TIMER_TIME_SHIFT) >> TIMER_TIME_SHIFT;
}

/* The same, and adds the duration to h. */
static __always_inline void timer_stop(struct timer *t, __u32 tid, struct hist_ns *h, counter_t *lost)
{
	__s64 ns = timer_end(t, tid, lost);

	if (ns != TIMER_NONE)
		hist_ns_add(h, ns);
}

static __always_inline void timer_stop_wide(struct timer *t, __u32 tid, struct hist_ns_wide *h, counter_t *lost)
{
	__s64 ns = timer_end(t, tid, lost);

	if (ns != TIMER_NONE)
		hist_ns_wide_add(h, ns);
}

/*
 * For a module with so many events that reading the clock twice for each may cost too much: `SAMPLING;`. It times those
 * for which sampled() is true, and calls sampled_on() when a timed one has ended. The duration of one stands for as
 * many as the weight says. All are counted. At first all are timed; the loader changes that while the programs run.
 *
 * How many events a thread then skips is random, from 0 to twice the weight less 2, and counted down in its slot of the
 * table of start times, since a random number for each event would cost as much as counting it. A thread that does not
 * find its own count there draws for each event.
 */
struct sampling {
	__u32 threshold;
	__u32 weight;
};

#define SAMPLING                                                                                         \
	static volatile struct sampling sampling SEC(".data.sampling") = {0xffffffff, 1};                \
                                                                                                         \
	static __always_inline __u64 sampling_wait(__u32 tid)                                            \
	{                                                                                                \
		return (__u64)TIMER_WAITING << TIMER_TAG_BITS | timer_tag(tid);                          \
	}                                                                                                \
                                                                                                         \
	/* Whether the event that begins is timed. */                                                    \
	static __always_inline int sampled(struct timer *t, __u32 tid)                                   \
	{                                                                                                \
		__u64 *slot = timer_word(t, tid), word;                                                  \
		__u32 threshold = sampling.threshold;                                                    \
                                                                                                         \
		if (threshold == 0xffffffff)                                                             \
			return 1;                                                                        \
		word = *(volatile __u64 *)slot;                                                          \
		if ((word & ((1ULL << TIMER_TIME_SHIFT) - 1)) != sampling_wait(tid))                     \
			return bpf_get_prandom_u32() <= threshold;                                       \
		if (!(word >> TIMER_TIME_SHIFT))                                                         \
			return 1;                                                                        \
		*(volatile __u64 *)slot = word - (1ULL << TIMER_TIME_SHIFT);                             \
		return 0;                                                                                \
	}                                                                                                \
                                                                                                         \
	static __always_inline void sampled_on(struct timer *t, __u32 tid)                               \
	{                                                                                                \
		__u32 weight = sampling.weight;                                                          \
		__u64 passed;                                                                            \
                                                                                                         \
		if (weight == 1)                                                                         \
			return;                                                                          \
		passed = (__u64)bpf_get_prandom_u32() * (2 * weight - 1) >> 32;                          \
		*(volatile __u64 *)timer_word(t, tid) = passed << TIMER_TIME_SHIFT | sampling_wait(tid); \
	}                                                                                                \
	struct sampling

/*
 * Programs. The expected prototype of the target is in a tag. The loader compares it with the running kernel's before
 * it trusts the arguments, since prototypes have changed silently before.
 */
#define TP_BTF(name, target, args...) SEC("tp_btf/" #target) TAG("args:" #args) int BPF_PROG(name, ##args)

/* At the entry of a kernel function, and at its return, where the last argument is the result. */
#define FENTRY(name, target, args...) SEC("fentry/" target) TAG("args:" #args) int BPF_PROG(name, ##args)
#define FEXIT(name, target, args...) SEC("fexit/" target) TAG("args:" #args) int BPF_PROG(name, ##args)

/*
 * On a classic tracepoint, as tracefs describes it in events/<group>/<event>/format. The body returns nothing: the
 * program returns 1, since on 0 the kernel hides the event from all perf users.
 */
#define TRACEPOINT(name, group, event, context)                  \
	static __always_inline void name##__body(context);       \
	SEC("tracepoint/" #group "/" #event) int name(void *ctx) \
	{                                                        \
		name##__body(ctx);                               \
		return 1;                                        \
	}                                                        \
	static __always_inline void name##__body(context)

#endif /* PROBE_BPF_H */
