//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * Programs that do nothing: what a hook costs before anything is counted. A pair that only reads the clock: no tool
 * that times every call can be cheaper. And a program that only checks whose page it is: no tool that counts one
 * process's pages can be. Linux 5.10; lookup 6.8.
 */
#include "../../../../bpf/kernel.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define EMPTY(section, name) \
	SEC(section)         \
	int name(void *ctx)  \
	{                    \
		return 0;    \
	}

EMPTY("tp_btf/sys_enter", tp_btf_enter)
EMPTY("tp_btf/sys_exit", tp_btf_exit)
EMPTY("tracepoint/raw_syscalls/sys_enter", tracepoint_enter)
EMPTY("tracepoint/raw_syscalls/sys_exit", tracepoint_exit)
EMPTY("tp_btf/mm_filemap_add_to_page_cache", fill)
EMPTY("tracepoint/syscalls/sys_enter_pread64", pread_enter)
EMPTY("tracepoint/syscalls/sys_exit_pread64", pread_exit)
EMPTY("tp_btf/mm_filemap_get_pages", lookup)

SEC("tp_btf/sys_enter")
int clock_enter(void *ctx)
{
	bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit")
int clock_exit(void *ctx)
{
	bpf_ktime_get_ns();
	return 0;
}

/* Thread group id in the initial pid namespace. */
const volatile __u32 scope_tgid;

SEC("tp_btf/mm_filemap_add_to_page_cache")
int fill_whose(void *ctx)
{
	return bpf_get_current_pid_tgid() >> 32 == scope_tgid;
}
