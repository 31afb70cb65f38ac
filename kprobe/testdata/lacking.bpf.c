//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* Hooks that need what no kernel has, or what only another architecture has. */
#include "../../bpf/probe.bpf.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct task_struct___lacking {
	int no_such_field;
};

#pragma clang attribute pop

SEC("iter/task")
int field__iter(struct bpf_iter__task *ctx)
{
	struct task_struct___lacking *task = (void *)ctx->task;

	return task ? task->no_such_field & 1 : 0;
}

SEC("kprobe/no_such_function")
int function__kprobe(void *ctx)
{
	return 0;
}

SEC("kprobe/__x64_sys_getpgid")
int x86__kprobe(void *ctx)
{
	return 0;
}

SEC("kprobe/__arm64_sys_getpgid")
int arm__kprobe(void *ctx)
{
	return 0;
}

SEC("tracepoint/no_such/event")
int event__tracepoint(void *ctx)
{
	return 0;
}

SEC("tracepoint/sched/sched_process_exit")
int exit__tracepoint(void *ctx)
{
	return 1;
}
