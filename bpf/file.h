/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Which file an event is about, besides which work it belongs to (work.h).
 *
 * Files are told apart by their shape: the path, from the file upwards, without what is numbered. seg-20260101 is
 * seg-#, 000000000000002a.seg is #.seg. A shape gets a number when it is first seen, and user space reads its text. So
 * no folder has to be registered, a new one is counted from its first event, and BPF does not know what folders mean.
 *
 * A file is recognized by a tag of 48 bits, from its inode and, for a descriptor, its name; only for a tag that is not
 * in the table the path is followed. So a file that is renamed is another one, for descriptors at once, for pages when
 * its tag is displaced. After a folder is renamed, both take until then.
 *
 * A module counts in cells: a cell is a pair of work and file. The sum of the cells of a work is what the work did, the
 * sum of those of a file what was done to it.
 *
 *	struct eaten_by_work {
 *		counter_t attributed_eaten_total[FRUIT__COUNT] ... PART_OF("eaten_total") BY_FILE("Fruit eaten, by
 *file.");
 *	};
 *
 *	struct metrics {
 *		counter_t eaten_total[FRUIT__COUNT] ...
 *		BY_WORK_AND_FILE(eaten_by_work);
 *	};
 *
 *	__u32 who = work_who(), cell = cell_of(work_of(who), file_of_fd(fd));
 *
 *	work_add(&m->by_work[cell].attributed_eaten_total[fruit], 1);
 *
 * A kernel before Linux 6.2 in lockdown does not let a program follow a path: then all files are FILE_OTHER.
 */
#ifndef FILE_H
#define FILE_H

#include "work.h"

/*
 * The member is also exported by file, as ebpf_<module>_file_<what follows attributed_>, with the labels catalog, kind
 * and group; and with the label work before them.
 */
#define BY_FILE(help) TAG("file:" help)
#define BY_FILE_AND_WORK(help) TAG("file_and_work:" help)

/* In place of BY_WORK. */
#define BY_WORK_AND_FILE(type)                 \
	struct updates updates TAG("updates"); \
	struct type by_work[CELLS] TAG("by:work,file")

/* The number of shapes that a module tells apart. Numbers below FILE_FIRST are no shapes. */
enum {
	FILE_OTHER,   /* more shapes than numbers, or unknown */
	FILE_UNNAMED, /* was not seen before it lost its name */
	FILE_NONE,    /* no file: a call without a descriptor, epoll and the like */
	FILE_SOCKET,
	FILE_PIPE,
	FILE_FIRST,
	FILE_BITS = 9,
	FILES = 1 << FILE_BITS
};
enum { FILE_PROBES = 16, FILE_TAG_BITS = 12, FILE_TAGS = 1 << FILE_TAG_BITS, FILE_LEVELS = 10, FILE_NAME_WORDS = 4 };

/* The first WORKS cells are those of FILE_OTHER. They also count what finds no cell. */
enum { CELLS = 1024, CELL_PROBES = 16 };

/* Whether the programs may follow paths. Set before they are loaded. */
const volatile __u32 file_known;

struct file_shape {
	__u64 name[FILE_LEVELS][FILE_NAME_WORDS];
};

struct file_table {
	__u64 tags[FILE_TAGS]; /* 48 bits, and the file's number */
	__u64 keys[FILES];     /* a hash of the shape */
	__u64 cells[CELLS];    /* the work, and the file << WORK_BITS */
	struct file_shape shapes[FILES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_table);
} file_table SEC(".maps");

/* As in work.h. The key is a file's number, or FILES and a cell's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FILES + CELLS);
	__type(key, __u32);
	__type(value, __u64);
} file_claims SEC(".maps");

/* A shape is larger than the stack. */
struct file_scratch {
	__u64 owner;
	struct file_shape shape;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_scratch);
} file_scratch SEC(".maps");

/*
 * Where the kernel has bpf_rdonly_cast (Linux 6.2), a program reads by any pointer without bpf_probe_read_kernel, which
 * lockdown forbids.
 */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define FILE_FIELD(p, field)                                                         \
	({                                                                           \
		typeof((p)->field) file_field;                                       \
		if (bpf_rdonly_cast)                                                 \
			file_field = (p)->field;                                     \
		else                                                                 \
			bpf_core_read(&file_field, sizeof(file_field), &(p)->field); \
		file_field;                                                          \
	})
#define FILE_CAST(p, type) \
	(bpf_rdonly_cast ? (type *)bpf_rdonly_cast((const void *)(p), bpf_core_type_id_kernel(type)) : (type *)(p))

/* The bytes of the four words that a name of each length fills. A table, since branches would multiply what is
 * verified. */
#define FILE_MASK(len, word) \
	((len) >= 8 * (word) + 8 ? ~0ULL : (len) <= 8 * (word) ? 0 : (1ULL << (((len)-8 * (word)) & 7) * 8) - 1)
#define FILE_MASKS(len)                                                                    \
	{                                                                                  \
		FILE_MASK(len, 0), FILE_MASK(len, 1), FILE_MASK(len, 2), FILE_MASK(len, 3) \
	}
#define FILE_MASKS8(len)                                                                                     \
	FILE_MASKS(len), FILE_MASKS(len + 1), FILE_MASKS(len + 2), FILE_MASKS(len + 3), FILE_MASKS(len + 4), \
		FILE_MASKS(len + 5), FILE_MASKS(len + 6), FILE_MASKS(len + 7)
enum { FILE_NAME_BYTES = 8 * FILE_NAME_WORDS };
static const volatile __u64 file_masks[FILE_NAME_BYTES + 1][FILE_NAME_WORDS] = {
	FILE_MASKS8(0), FILE_MASKS8(8), FILE_MASKS8(16), FILE_MASKS8(24), FILE_MASKS(32)};

/* The first 32 bytes of a name. What follows its end is 0. */
static __always_inline void file_name(struct dentry *d, volatile __u64 *name)
{
	struct dentry___shortname *s = (void *)d;
	__u32 len = FILE_FIELD(d, d_name.len);
	unsigned long at = (unsigned long)FILE_FIELD(d, d_name.name);
	unsigned long inside = bpf_core_field_exists(s->d_shortname) ? bpf_core_field_offset(s->d_shortname)
								     : bpf_core_field_offset(d->d_iname);

	/* A long name stands elsewhere. It is read as if it stood inside of a dentry. */
	d = FILE_CAST(at - inside, struct dentry);
	s = (void *)d;
	if (len > FILE_NAME_BYTES)
		len = FILE_NAME_BYTES;
	if (!bpf_rdonly_cast) {
		__u64 copy[FILE_NAME_WORDS] = {};

		bpf_probe_read_kernel(copy, sizeof(copy), (void *)at);
		for (int i = 0; i < FILE_NAME_WORDS; i++)
			name[i] = copy[i] & file_masks[len][i];
	} else if (bpf_core_field_exists(s->d_shortname)) {
		for (int i = 0; i < FILE_NAME_WORDS; i++)
			name[i] = *(__u64 *)((void *)s->d_shortname.string + 8 * i) & file_masks[len][i];
	} else {
		for (int i = 0; i < FILE_NAME_WORDS; i++)
			name[i] = *(__u64 *)((void *)d->d_iname + 8 * i) & file_masks[len][i];
	}
}

/* The highest bit of each byte that is a dot; above the first, others may be set too. */
static __always_inline __u64 file_dots(__u64 word)
{
	__u64 x = word ^ 0x2e2e2e2e2e2e2e2eULL;

	return (x - 0x0101010101010101ULL) & ~x & 0x8080808080808080ULL;
}

/* Four bytes from the first dot on. There is no loop over bytes: the verifier would check ten times as much. */
static __always_inline __u64 file_extension(const volatile __u64 *name)
{
	__u64 low = name[0], high = name[1], d = file_dots(low), unit;

	if (!d) {
		low = high;
		high = name[2];
		d = file_dots(low);
	}
	if (!d) {
		low = high;
		high = name[3];
		d = file_dots(low);
	}
	unit = (d & -d) >> 7; /* 256 to the power of the dot's place in its word */
	if (!unit)
		return 0;
	return (low / unit | (unit == 1 ? 0 : high * (~0ULL / unit + 1))) & 0xffffffff;
}

/*
 * Leaves out what is numbered: of a name that begins with a digit stays # and, if it is the last one of the path, the
 * extension; of one that begins with seg- or shard- that and #. Of a last name whose extension begins with t, which is
 * how files of tags end whose name is the tag's, the rest is *.
 *
 * What the branches find goes through memory: the verifier then forgets it, and checks what follows once.
 */
static __always_inline void file_shorten(volatile __u64 *name, __u64 to)
{
	name[0] = to;
	name[1] = name[2] = name[3] = 0;
}

static __always_inline void file_shorten_name(volatile __u64 *name, int level)
{
	__u64 extension = level ? 0 : file_extension(name);

	if ((name[0] & 0xff) - '0' < 10)
		file_shorten(name, '#' | extension << 8);
	else if ((name[0] & 0xffffffff) == 0x2d676573) /* seg- */
		file_shorten(name, 0x2d676573 | (__u64)'#' << 32);
	else if ((name[0] & 0xffffffffffff) == 0x2d6472616873) /* shard- */
		file_shorten(name, 0x2d6472616873 | (__u64)'#' << 48);
	else if ((extension & 0xffff) == ('.' | 't' << 8))
		file_shorten(name, '*' | extension << 8);
}

/* Gives a shape a number. Returns -1 if another shape took it at the same moment. */
static __noinline int file_claim(struct file_table *t, struct file_scratch *s, __u32 number, __u64 key)
{
	__u32 claim = number;
	__u64 *owner;

	if (!t || !s)
		return -1;
	if (bpf_map_update_elem(&file_claims, &claim, &key, BPF_NOEXIST)) {
		owner = bpf_map_lookup_elem(&file_claims, &claim);
		if (!owner || *owner != key)
			return -1;
	}
	/* By each CPU that sees the shape at once: the text must be there before the first count. */
	barrier_var(number);
	number &= FILES - 1;
	__builtin_memcpy(&t->shapes[number], &s->shape, sizeof(s->shape));
	barrier();
	*(volatile __u64 *)&t->keys[number] = key;
	return number;
}

static __always_inline int file_number(struct file_table *t, struct file_scratch *s, __u64 key)
{
	__u32 at = key * 0x9e3779b97f4a7c15ULL >> (64 - FILE_BITS), free = 0;

	for (int i = 0; i < FILE_PROBES; i++) {
		__u32 number = (at + i) & (FILES - 1);
		__u64 owner;

		if (number < FILE_FIRST)
			continue;
		owner = *(volatile __u64 *)&t->keys[number];
		if (owner == key)
			return number;
		if (!owner) {
			free = number;
			break;
		}
	}
	return free ? file_claim(t, s, free, key) : FILE_OTHER;
}

/* Follows the path. */
static __noinline int file_walk(struct file_table *t, struct dentry *d)
{
	__u32 zero = 0;
	struct file_scratch *s = bpf_map_lookup_elem(&file_scratch, &zero);
	__u64 key = 0, owner = bpf_get_current_pid_tgid();

	if (!t || !s)
		return FILE_OTHER;
	*(volatile __u64 *)&s->owner = owner;
	__builtin_memset(&s->shape, 0, sizeof(s->shape));
	for (int i = 0; i < FILE_LEVELS; i++) {
		struct dentry *parent = FILE_FIELD(d, d_parent);
		volatile __u64 *name = s->shape.name[i];

		if (parent == d)
			break;
		file_name(d, name);
		file_shorten_name(name, i);
		d = parent;
	}
	for (int i = 0; i < FILE_LEVELS; i++)
		for (int j = 0; j < FILE_NAME_WORDS; j++)
			key = (key ^ key >> 29 ^ s->shape.name[i][j]) * 0x9e3779b97f4a7c15ULL;
	/* Before Linux 6.10 another thread may have preempted this one and used the scratch. */
	if (*(volatile __u64 *)&s->owner != owner)
		return -1;
	return key ? file_number(t, s, key) : FILE_NONE;
}

enum { FILE_TYPE = 0170000, FILE_TYPE_PIPE = 0010000, FILE_TYPE_SOCKET = 0140000 };

/* d is 0 if only the inode is known. */
static __noinline int file_by_tag(__u64 tag, struct inode *inode, struct dentry *d)
{
	struct dentry___alias *newer = 0;
	struct file_table *t;
	__u64 *at, was;
	__u32 zero = 0, slot;
	int number, type;

	t = bpf_map_lookup_elem(&file_table, &zero);
	if (!t || !inode)
		return FILE_OTHER;
	tag = tag * 0xff51afd7ed558ccdULL & ~0xffffULL;
	slot = tag >> (64 - FILE_TAG_BITS);
	barrier_var(slot);
	at = &t->tags[slot & (FILE_TAGS - 1)];
	was = *(volatile __u64 *)at;
	if (was && (was & ~0xffffULL) == tag)
		return was & 0xffff;
	type = FILE_FIELD(inode, i_mode) & FILE_TYPE;
	if (type == FILE_TYPE_SOCKET || type == FILE_TYPE_PIPE) {
		number = type == FILE_TYPE_SOCKET ? FILE_SOCKET : FILE_PIPE;
	} else {
		if (!d) {
			struct hlist_node *first = FILE_FIELD(inode, i_dentry.first);

			if (!first)
				return FILE_UNNAMED;
			d = FILE_CAST((unsigned long)first -
					      (bpf_core_field_exists(newer->d_alias)
							      ? bpf_core_field_offset(newer->d_alias)
							      : bpf_core_field_offset(struct dentry, d_u.d_alias)),
				struct dentry);
		}
		number = file_walk(t, d);
		if (number < 0)
			return FILE_OTHER;
	}
	*(volatile __u64 *)at = tag | number;
	return number;
}

/* The verifier takes the result for any number (see work_who). */
static __always_inline __u32 file_checked(int number)
{
	__u32 file = number + *(volatile __u32 *)&work_zero;

	barrier_var(file);
	return file & (FILES - 1);
}

/* The file of a page. The generation distinguishes files that had the same number one after the other. */
static __always_inline __u32 file_of_inode(struct inode *inode)
{
	struct super_block *sb;
	__u64 hash;

	if (!file_known)
		return FILE_OTHER;
	sb = FILE_FIELD(inode, i_sb);
	hash = FILE_FIELD(inode, i_ino) * 0x9e3779b97f4a7c15ULL;
	return file_checked(file_by_tag(
		hash ^ hash >> 32 ^ ((__u64)FILE_FIELD(inode, i_generation) << 32 | FILE_FIELD(sb, s_dev)), inode, 0));
}

/* The number of an open file. Not every file system gives its inodes a generation: the name is part of the tag. */
static __always_inline int file_number_of(struct file *file)
{
	struct dentry *d = FILE_FIELD(file, f_path.dentry);
	struct inode *inode = FILE_FIELD(file, f_inode);
	__u64 hash;

	if (!d || !inode)
		return FILE_NONE;
	hash = FILE_FIELD(inode, i_ino) * 0x9e3779b97f4a7c15ULL;
	return file_by_tag(
		hash ^ hash >> 32 ^ ((__u64)FILE_FIELD(d, d_name.hash) << 32 | FILE_FIELD(d, d_name.len)) ^ 1, inode,
		d);
}

/* Of one that may be a number to the verifier. */
static __always_inline __u32 file_of(struct file *file)
{
	if (!file_known)
		return FILE_OTHER;
	return file ? file_checked(file_number_of(FILE_CAST(file, struct file))) : FILE_NONE;
}

/* The number of the file that a descriptor of the current thread stands for. */
static __noinline int file_find(__u32 fd)
{
	struct files_struct *files = FILE_FIELD(work_task(), files);
	struct fdtable *table;
	struct file **slot, *file = 0;

	if (!files)
		return FILE_NONE;
	table = FILE_FIELD(files, fdt);
	if (!table || fd >= FILE_FIELD(table, max_fds))
		return FILE_NONE;
	slot = FILE_FIELD(table, fd) + fd;
	if (bpf_rdonly_cast)
		file = FILE_CAST(slot, struct kiocb)->ki_filp;
	else
		bpf_probe_read_kernel(&file, sizeof(file), slot);
	return file ? file_number_of(file) : FILE_NONE;
}

/* A descriptor below 0 is none. */
static __always_inline __u32 file_of_fd(int fd)
{
	if (!file_known)
		return FILE_OTHER;
	return fd < 0 ? FILE_NONE : file_checked(file_find(fd));
}

static __noinline int cell_find(__u32 work, __u32 file)
{
	__u64 pair = work | file << WORK_BITS, owner, *claimed;
	struct file_table *t;
	__u32 zero = 0, at = (pair * 0x9e3779b97f4a7c15ULL >> 32) * (CELLS - WORKS) >> 32, claim;

	t = bpf_map_lookup_elem(&file_table, &zero);
	if (!t || file == FILE_OTHER)
		return work;
	for (int i = 0; i < CELL_PROBES; i++) {
		__u32 cell = WORKS + (at + i) % (CELLS - WORKS);

		/* The verifier does not follow the division. */
		barrier_var(cell);
		if (cell >= CELLS)
			break;
		owner = *(volatile __u64 *)&t->cells[cell];
		if (owner == pair)
			return cell;
		if (owner)
			continue;
		claim = FILES + cell;
		if (bpf_map_update_elem(&file_claims, &claim, &pair, BPF_NOEXIST)) {
			claimed = bpf_map_lookup_elem(&file_claims, &claim);
			if (!claimed || *claimed != pair)
				continue;
		}
		*(volatile __u64 *)&t->cells[cell] = pair;
		return cell;
	}
	return work;
}

/* The cell of a work and a file. */
static __always_inline __u32 cell_of(__u32 work, __u32 file)
{
	__u32 cell;

	if (!file_known)
		return work & (WORKS - 1);
	cell = cell_find(work & (WORKS - 1), file) + *(volatile __u32 *)&work_zero;
	barrier_var(cell);
	return cell & (CELLS - 1);
}

#endif /* FILE_H */
