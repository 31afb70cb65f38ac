//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Hooks on one event, each of which records when it ran. */
#include "../../bpf/probe.bpf.h"

#define HOOKS_COUNT 6

struct times {
	__u64 ran; /* runs, over all events */
	__u64 at[HOOKS_COUNT];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct times);
} times SEC(".maps");

const volatile __u64 step = 1;
__u64 unused SEC(".data.unused");

static __always_inline int note(__u32 hook)
{
	__u32 zero = 0;
	struct times *t;

	if (!in_scope(bpf_get_current_pid_tgid()))
		return 0;
	t = bpf_map_lookup_elem(&times, &zero);
	if (t)
		t->at[hook] = t->ran += step;
	return 0;
}

#define HOOK(name, number)                \
	TP_BTF(name##__tp_btf, sys_enter) \
	{                                 \
		return note(number);      \
	}

HOOK(first, 0)
HOOK(second, 1)
HOOK(third, 2)
HOOK(fourth, 3)
HOOK(fifth, 4)
HOOK(sixth, 5)
