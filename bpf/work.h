/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Which work of a Go process an event belongs to, for programs that run in the thread that does the work.
 *
 * The goroutine that a thread runs, g, is found from the thread: on amd64 in a thread-local variable, on arm64 in
 * register x28. A g has the profiler labels, which goroutines that it starts inherit, and the function that it was
 * started with. While a thread is on its own stack, where the runtime itself runs, g is g0, which has neither: the
 * goroutine that it works for is g0.m.curg. User space finds all of these offsets by experiment.
 *
 * Events are counted by the pair of labels and function, since neither is enough: a loop that a request happens to
 * start inherits the request's labels, and all requests begin with the same function. A pair gets a number when it is
 * first seen, and user space names it. So no function has to be known in advance, and nothing is lost.
 *
 * A module has one more struct, with what it counts for each work:
 *
 *	struct eaten_by_work {
 *		counter_t attributed_eaten_total[FRUIT__COUNT] HELP("...") LABELS("fruit=fruit") HOOKS("eat")
 *			PART_OF("eaten_total");
 *	};
 *
 *	struct metrics {
 *		counter_t eaten_total[FRUIT__COUNT] ...
 *		BY_WORK(eaten_by_work);
 *	};
 *	METRICS;
 *
 *	static __always_inline void eaten(struct metrics *m, __u32 fruit)
 *	{
 *		m->eaten_total[fruit]++;
 *		work_add(&m->by_work[work_now()].attributed_eaten_total[fruit], 1);
 *	}
 *
 *	UPDATE(m)
 *		AT_ONCE(m)
 *			eaten(m, FRUIT_APPLE);
 *
 * These metrics have the labels work and catalog before their own. They are absent where works are not distinguished,
 * and on arm64 before Linux 5.15.
 */
#ifndef WORK_H
#define WORK_H

/*
 * The metrics of the module, "metric + metric", that this one breaks down by work: the sum over all of its series is
 * the sum over all of theirs. This is verified at start, in place of VERIFY.
 */
#define PART_OF(metrics) TAG("part_of:" metrics)

struct updates {
	__u64 under_way; /* programs inside AT_ONCE */
	__u64 done;	 /* that have left it */
	__u64 note;	 /* for a program's own use: the verifier does not follow what goes through memory */
};

/* The last member of struct metrics, except for ON_RECEIPTS. */
#define BY_WORK(type)                          \
	struct updates updates TAG("updates"); \
	struct type by_work[WORKS] TAG("by:work")

/*
 * After BY_WORK: what the module counts for a single piece of work, such as a query, in a struct of counter_t and
 * counter_ns_t with HELP and HOOKS. Slot 0 is not used.
 *
 *	__u32 who = work_who();
 *
 *	work_add(&m->by_work[work_of(who)].attributed_eaten_total[fruit], 1);
 *	ON_RECEIPT(m, who, r)
 *		work_add(&r->eaten, 1);
 */
#define ON_RECEIPTS(type) struct type receipts[RECEIPTS] TAG("by:receipt")
#define ON_RECEIPT(m, who, r) \
	for (typeof(&(m)->receipts[0]) r = receipt_of(who) ? &(m)->receipts[receipt_of(who)] : (typeof(r))0; r; r = 0)

/*
 * Adds to a word that several programs add to. Before Linux 6.10 one may preempt another, and a plain addition would
 * then lose counts.
 */
static __always_inline void work_add(__u64 *word, __u64 n)
{
	if (bpf_preempt_disable)
		*word += n;
	else
		__sync_fetch_and_add(word, n);
}

/*
 * AT_ONCE(m) statement: a snapshot has all of what the statement adds, or nothing of it, so that the parts always add
 * up to the whole. The statement must not leave by return, break or goto. On arm64 the CPU may reorder the stores, so
 * in rare cases a snapshot has a part that is one ahead.
 */
#define AT_ONCE(m) for (int m##_inside = work_begin(&(m)->updates); m##_inside; m##_inside = work_end(&(m)->updates))

static __always_inline int work_begin(struct updates *u)
{
	work_add(&u->under_way, 1);
	barrier();
	return 1;
}

static __always_inline int work_end(struct updates *u)
{
	barrier();
	work_add(&u->done, 1);
	work_add(&u->under_way, -1);
	return 0;
}

/* The number of works that a module counts. Numbers below WORK_FIRST are not for pairs. */
enum {
	WORK_OTHER,   /* more pairs than numbers, or a g that cannot be read */
	WORK_RUNTIME, /* a thread without a goroutine: in the scheduler, in C code, or just started */
	WORK_FIRST,
	WORK_BITS = 7,
	WORKS = 1 << WORK_BITS
};
enum { WORK_PROBES = 16, WORK_LABEL_BITS = 12, WORK_LABELS = 1 << WORK_LABEL_BITS, WORK_LABEL_PROBES = 4 };

/* The number of receipts that a module counts at once, and slot 0. */
enum { RECEIPTS = 256 };

/* Set before the programs are loaded. In bytes, except the offsets within the block, which are in words. */
const volatile __u32 work_known;					/* whether the others are set */
const volatile __s64 work_g;						/* from the FS base to the variable; amd64 */
const volatile __u32 work_block, work_block_labels, work_block_startpc; /* 64 bytes of g, and both fields in them */
const volatile __u32 work_m, work_curg;
const volatile __u64 work_mix; /* chosen so that all label sets fit the table */

struct work_table {
	/* Set by user space: the pointer to a label set, the label's number << 48, the receipt's slot << 56. */
	__u64 labels[WORK_LABELS];
	/* Set by the programs: the function, the label's number << 56. */
	__u64 pairs[WORKS];
	/* Set by user space: not 0 for pairs that are on no receipt, such as a loop that a query has started. */
	__u64 loops[WORKS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct work_table);
} work_table SEC(".maps");

/* Arbitrates between CPUs that see a pair at once: one inserts it. BPF has atomic exchange only since Linux 5.12. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WORKS);
	__type(key, __u32);
	__type(value, __u64);
} work_claims SEC(".maps");

/* The label's number, and the receipt's slot << 8, or 0 if user space has not written this label set. */
static __always_inline __u32 work_label(const struct work_table *t, __u64 labels)
{
	__u32 at = labels * work_mix >> (64 - WORK_LABEL_BITS);

	for (int i = 0; i < WORK_LABEL_PROBES; i++) {
		__u64 entry = *(volatile __u64 *)&t->labels[(at + i) & (WORK_LABELS - 1)];

		if (!entry)
			break;
		if ((entry & 0xffffffffffff) == labels)
			return entry >> 48;
	}
	return 0;
}

/* Assigns a number to the pair, unless another has it. */
static __noinline int work_claim(struct work_table *t, __u32 number, __u64 pair)
{
	__u64 *owner;

	if (!t)
		return 0;
	if (bpf_map_update_elem(&work_claims, &number, &pair, BPF_NOEXIST)) {
		owner = bpf_map_lookup_elem(&work_claims, &number);
		if (!owner || *owner != pair)
			return 0;
	}
	/* Stored even by a CPU that was not first: a reader must find the pair before the first count. */
	*(volatile __u64 *)&t->pairs[number & (WORKS - 1)] = pair;
	return 1;
}

static __always_inline __u32 work_number(struct work_table *t, __u64 pair)
{
	__u32 at = pair * 0x9e3779b97f4a7c15 >> (64 - WORK_BITS); /* The label is only in the upper bits. */

	for (int i = 0; i < WORK_PROBES; i++) {
		__u32 number = (at + i) & (WORKS - 1);
		__u64 owner;

		if (number < WORK_FIRST)
			continue;
		owner = *(volatile __u64 *)&t->pairs[number];
		if (owner == pair || (!owner && work_claim(t, number, pair)))
			return number;
	}
	return WORK_OTHER;
}

/* The work of a goroutine, with the receipt's slot above it, or -1 for a g0. */
static __always_inline int work_of_g(struct work_table *t, __u64 g)
{
	__u64 block[8], labels, startpc;
	__u32 label, work;

	if (bpf_probe_read_user(block, sizeof(block), (void *)(g + work_block)))
		return WORK_OTHER;
	labels = block[work_block_labels & 7];
	startpc = block[work_block_startpc & 7];
	if (!startpc)
		return -1;
	label = labels ? work_label(t, labels) : 0;
	work = work_number(t, startpc | (__u64)label << 56);
	if (label >> 8 && !*(volatile __u64 *)&t->loops[work])
		work |= label >> 8 << WORK_BITS;
	return work;
}

/* The work of a thread that is on its own stack. */
static __noinline int work_of_g0(struct work_table *t, __u64 g0)
{
	__u64 m = 0, curg = 0;
	int work;

	if (!t)
		return WORK_OTHER;
	if (bpf_probe_read_user(&m, sizeof(m), (void *)(g0 + work_m)) ||
		bpf_probe_read_user(&curg, sizeof(curg), (void *)(m + work_curg)))
		return WORK_OTHER;
	if (!curg)
		return WORK_RUNTIME;
	work = work_of_g(t, curg);
	return work < 0 ? WORK_OTHER : work;
}

static __always_inline struct task_struct *work_task(void)
{
	/* Before Linux 5.11 it is a number, which only bpf_core_read can dereference. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		return (struct task_struct *)bpf_get_current_task_btf();
	return (struct task_struct *)bpf_get_current_task();
}

/* Reads the g of the current thread, 0 if it has none. Returns false if it cannot be read. */
static __always_inline int work_current_g(__u64 *g)
{
#if defined(__TARGET_ARCH_arm64)
	if (!bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return 0;
	*g = ((struct pt_regs *)bpf_task_pt_regs(work_task()))->regs[28];
	return 1;
#else
	struct task_struct *task = work_task();
	unsigned long base;

	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_get_current_task_btf))
		base = task->thread.fsbase;
	else
		base = BPF_CORE_READ(task, thread.fsbase);
	return !bpf_probe_read_user(g, sizeof(*g), (void *)(base + work_g));
#endif
}

/* The work that the current thread does, with the receipt's slot above it. */
static __noinline int work_find(void)
{
	struct work_table *t;
	__u32 zero = 0;
	__u64 g = 0;
	int work;

	if (!work_known)
		return WORK_OTHER;
	t = bpf_map_lookup_elem(&work_table, &zero);
	if (!t || !work_current_g(&g))
		return WORK_OTHER;
	if (!g)
		return WORK_RUNTIME;
	work = work_of_g(t, g);
	return work < 0 ? work_of_g0(t, g) : work;
}

/* Always 0, which the verifier does not know. */
static __u32 work_zero;

/* Who does the work that the current thread does. Read it by work_of and receipt_of. */
static __always_inline __u32 work_who(void)
{
	/* The sum is any number to the verifier, which then checks what follows once, and not for each way to find one.
	 */
	__u32 who = work_find() + *(volatile __u32 *)&work_zero;

	barrier_var(who);
	return who;
}

/*
 * Both are indexes that the verifier accepts. Compute nothing with branches before work_who that is needed after it:
 * the verifier checks work_who once for each path to it (TestVerifierEffort).
 */
static __always_inline __u32 work_of(__u32 who)
{
	return who & (WORKS - 1);
}

static __always_inline __u32 receipt_of(__u32 who)
{
	return who >> WORK_BITS & (RECEIPTS - 1);
}

static __always_inline __u32 work_now(void)
{
	return work_of(work_who());
}

#endif /* WORK_H */
