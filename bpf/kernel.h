/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * All kernel types and fields that the modules read, declared for CO-RE.
 *
 * A struct names only the fields that are read; the loader finds them in the running kernel by name. A name with three
 * underscores (folio___memdesc) is one flavour of a type that changed; the code that reads it checks which flavour the
 * kernel has. A module that includes a full vmlinux.h before probe.bpf.h gets that instead of this file.
 */
#ifndef KERNEL_H
#define KERNEL_H

/* Tells libbpf's headers to use the kernel's register names. */
#define __VMLINUX_H__

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef _Bool bool;
typedef __s64 loff_t;
typedef unsigned long size_t;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

/* From the kernel's user-space API. */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
};

enum {
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_MMAPABLE = 1 << 10,
};

enum { BPF_NOEXIST = 1 };

/* Helpers that not all kernels have. A program checks whether the running one does. */
enum bpf_func_id { BPF_FUNC_get_current_task_btf = 158, BPF_FUNC_task_pt_regs = 175 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/*
 * The registers at a system call. The number and these arguments can still be read at the exit: on arm64, where the
 * first argument shares its register with the result, the kernel keeps a copy.
 */
#if defined(__TARGET_ARCH_arm64)
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};

struct user_pt_regs {
	__u64 regs[31];
};
#define SYSCALL_NR(r) ((r)->syscallno)
#define SYSCALL_ARG1(r) ((r)->orig_x0)
#define SYSCALL_ARG2(r) ((r)->regs[1])
#define SYSCALL_ARG2_COPY(r) BPF_CORE_READ(r, regs[1])
#define SYSCALL_ARG4(r) ((r)->regs[3])
#define SYSCALL_ARG4_COPY(r) BPF_CORE_READ(r, regs[3])
#else
struct pt_regs {
	unsigned long r10;
	unsigned long ax;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
#define SYSCALL_NR(r) ((long)(r)->orig_ax)
#define SYSCALL_ARG1(r) ((r)->di)
#define SYSCALL_ARG2(r) ((r)->si)
#define SYSCALL_ARG2_COPY(r) BPF_CORE_READ(r, si)
#define SYSCALL_ARG4(r) ((r)->r10)
#define SYSCALL_ARG4_COPY(r) BPF_CORE_READ(r, r10)
#endif

/* Classic tracepoints, as tracefs describes them in events/<group>/<name>/format. */
struct trace_event_raw_sys_enter {
	long id;
	unsigned long args[6];
};

struct trace_event_raw_sys_exit {
	long id;
	long ret;
};

/* Since Linux 5.16 a page cache event is for a folio, and has its order. */
struct trace_event_raw_mm_filemap_op_page_cache {
	unsigned char order;
};

struct trace_event_raw_mm_vmscan_kswapd_wake {
	int nid;
};

struct trace_event_raw_mm_vmscan_lru_shrink_inactive {
	int nid;
	unsigned long nr_scanned;
	unsigned long nr_reclaimed;
};

/* The values are those of the running kernel, found by name. */
enum pageflags {
	PG_writeback = 1,
	PG_referenced = 2,
	PG_lru = 5,
	PG_head = 6,
	PG_active = 8,
	PG_workingset = 9,
	PG_swapbacked = 17,
};

/* What a page of a file belongs to. On 32-bit machines, i_ino became wider in Linux 7. */
struct super_block {
	__u32 s_dev;
};

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct inode {
	unsigned short i_mode;
	struct super_block *i_sb;
	struct hlist_head i_dentry;
	unsigned long i_ino;
	unsigned int i_nlink;
	loff_t i_size;
	__u32 i_generation;
	struct {
		int counter;
	} i_writecount;
};

struct address_space {
	struct inode *host;
};

/* A name in a folder. A short one stands in the dentry itself. */
struct qstr {
	__u32 hash;
	__u32 len;
	const unsigned char *name;
};

union dentry_alias {
	struct hlist_node d_alias;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
	unsigned char d_iname[32];
	union dentry_alias d_u;
};

/* Linux 6.18 has it; older ones have d_iname. */
union shortname_store {
	unsigned char string[40];
};

struct dentry___shortname {
	union shortname_store d_shortname;
};

/* Linux 7.2 has it; older ones have d_u. */
struct dentry___alias {
	struct hlist_node d_alias;
};

/* An open file, and the table of a process's descriptors. */
struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

/* Begins with a pointer to a file, as an entry of the table of descriptors does. */
struct kiocb {
	struct file *ki_filp;
};

/* The two positions are on pages of their own, exactly one page apart. */
struct bpf_ringbuf {
	unsigned long consumer_pos;
	unsigned long producer_pos;
};

/* Only the field's presence matters. */
struct srcu_struct {
	__u8 srcu_reader_flavor;
};

struct bdi_writeback;
struct dirty_throttle_control;

struct trace_event_raw_balance_dirty_pages {
	long pause;
};

/* The page cache before folios (Linux 5.15 and older). */
struct page {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
};

/* Linux 5.16 to 6.17: flags is a plain word. The number of pages is valid in a large folio only. */
struct folio {
	unsigned long flags;
	struct address_space *mapping;
	unsigned long index;
	unsigned int _folio_nr_pages;
};

/* Linux 6.18: flags moved into a struct (commit 53fbef56e07d). The number of pages got a shorter name in 6.15. */
struct folio___memdesc {
	struct {
		unsigned long f;
	} flags;
	unsigned int _nr_pages;
};

/* A request to a block device. The low byte of the flags is the operation. */
struct elevator_queue;

struct request_queue {
	struct elevator_queue *elevator;
};

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
};

/* The value is that of the running kernel, found by name. */
enum req_flag_bits {
	__REQ_SYNC = 11,
};

/*
 * Tasks, and the context of an iterator over them, whose task is null at the end. What ended threads used is in their
 * process's signal_struct.
 */
struct sched_info {
	unsigned long pcount;
	unsigned long long run_delay;
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct signal_struct {
	unsigned long nvcsw;
	unsigned long nivcsw;
	unsigned long min_flt;
	unsigned long maj_flt;
	unsigned long long sum_sched_runtime;
};

/* amd64. */
struct thread_struct {
	unsigned long fsbase;
};

struct task_struct {
	struct thread_struct thread;
	struct sched_entity se;
	struct sched_info sched_info;
	int on_cpu;
	unsigned int __state;
	int pid;
	int tgid;
	unsigned long nvcsw;
	unsigned long nivcsw;
	unsigned long min_flt;
	unsigned long maj_flt;
	__u64 start_time;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	struct mm_struct *mm;
	struct files_struct *files;
};

/* Before Linux 5.14 (commit 2f064a59a11f). */
struct task_struct___state {
	long state;
};

struct bpf_iter_meta {
	__u64 session_id;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

/*
 * A process's memory. Resident pages are counted by kind. Since Linux 6.2 (commit f1a7941243c1) each CPU collects some
 * before it adds them.
 */
enum { MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES, NR_MM_COUNTERS };

struct percpu_counter {
	__s64 count;
};

struct mm_struct {
	struct percpu_counter rss_stat[NR_MM_COUNTERS];
	struct task_struct *owner;
};

/* Linux 6.1 and older. */
typedef struct {
	__s64 counter;
} atomic_long_t;

struct mm_rss_stat {
	atomic_long_t count[NR_MM_COUNTERS];
};

struct mm_struct___atomic {
	struct mm_rss_stat rss_stat;
};

/* A memory area. A page fault is passed the one that it is in. */
struct vm_area_struct {
	struct file *vm_file;
};

typedef unsigned int vm_fault_t;

/* Missing in kernels whose fault flags are macros. The values that modules use have been the same in all kernels. */
enum fault_flag {
	FAULT_FLAG_TRIED = 0x20,
	FAULT_FLAG_VMA_LOCK = 0x1000,
};

enum vm_fault_reason {
	VM_FAULT_OOM = 0x1,
	VM_FAULT_SIGBUS = 0x2,
	VM_FAULT_MAJOR = 0x4,
	VM_FAULT_HWPOISON = 0x10,
	VM_FAULT_HWPOISON_LARGE = 0x20,
	VM_FAULT_SIGSEGV = 0x40,
	VM_FAULT_RETRY = 0x400,
	VM_FAULT_FALLBACK = 0x800,
};

/* As tracefs describes it: the pid of the marked thread. */
struct trace_event_raw_mark_victim {
	int pid;
};

struct trace_event_raw_mm_collapse_huge_page {
	struct mm_struct *mm;
	int status;
};

/* Sockets: sock for the protocols, socket for user space. */
struct sock_common {
	unsigned short skc_family;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
};

struct socket {
	struct sock *sk;
};

struct msghdr;
struct sk_buff;

#pragma clang attribute pop

/* System calls: the function of each, and its number. arm64 uses the generic table, x86-64 its own. */
#if defined(__TARGET_ARCH_arm64)
#define SYS_FN(name) "__arm64_sys_" #name
#define SYS_FADVISE_FN SYS_FN(fadvise64_64)
#define SYS_NR(x86, generic) generic
#else
#define SYS_FN(name) "__x64_sys_" #name
#define SYS_FADVISE_FN SYS_FN(fadvise64)
#define SYS_NR(x86, generic) x86
#endif

enum syscall_nr {
	SYS_READ = SYS_NR(0, 63),
	SYS_WRITE = SYS_NR(1, 64),
	SYS_CLOSE = SYS_NR(3, 57),
	SYS_MMAP = SYS_NR(9, 222),
	SYS_MUNMAP = SYS_NR(11, 215),
	SYS_BRK = SYS_NR(12, 214),
	SYS_PREAD64 = SYS_NR(17, 67),
	SYS_PWRITE64 = SYS_NR(18, 68),
	SYS_READV = SYS_NR(19, 65),
	SYS_WRITEV = SYS_NR(20, 66),
	SYS_MADVISE = SYS_NR(28, 233),
	SYS_SENDFILE = SYS_NR(40, 71),
	SYS_FLOCK = SYS_NR(73, 32),
	SYS_FSYNC = SYS_NR(74, 82),
	SYS_FDATASYNC = SYS_NR(75, 83),
	SYS_FTRUNCATE = SYS_NR(77, 46),
	SYS_GETDENTS64 = SYS_NR(217, 61),
	SYS_FUTEX = SYS_NR(202, 98),
	SYS_FADVISE64 = SYS_NR(221, 223),
	SYS_OPENAT = SYS_NR(257, 56),
	SYS_MKDIRAT = SYS_NR(258, 34),
	SYS_UNLINKAT = SYS_NR(263, 35),
	SYS_RENAMEAT = SYS_NR(264, 38),
	SYS_SYNC_FILE_RANGE = SYS_NR(277, 84),
	SYS_FALLOCATE = SYS_NR(285, 47),
	SYS_PREADV = SYS_NR(295, 69),
	SYS_PWRITEV = SYS_NR(296, 70),
	SYS_RENAMEAT2 = SYS_NR(316, 276),
	SYS_COPY_FILE_RANGE = SYS_NR(326, 285),
	SYS_PREADV2 = SYS_NR(327, 286),
	SYS_PWRITEV2 = SYS_NR(328, 287),
	SYS_IO_URING_ENTER = 426,
};

#endif /* KERNEL_H */
