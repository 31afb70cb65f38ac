//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/* An iterator over the file descriptors of all tasks that counts those of one file. */
#include "../../bpf/probe.bpf.h"

const volatile __u64 wanted_inode;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} found SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};

#pragma clang attribute pop

SEC("iter/task_file")
int files__iter(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	__u32 zero = 0;
	__u64 *n;

	if (!file || file->f_inode->i_ino != wanted_inode)
		return 0;
	n = bpf_map_lookup_elem(&found, &zero);
	if (n)
		++*n;
	return 0;
}
