//go:build ignore

// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * net: what this process sends and receives over IP, and what goes wrong with its TCP connections.
 *
 * Retransmissions and resets happen in interrupts, where the current process is unrelated. So a socket is recorded as
 * the process's when it connects, or first sends or receives. Unit: bytes, events, nanoseconds. Linux 5.10.
 */
#include "probe.bpf.h"

enum net_direction { NET_DIRECTION_SENT, NET_DIRECTION_RECEIVED, NET_DIRECTION__COUNT };
LABEL_VALUES(net_direction);

struct metrics {
	counter_t bytes_total[NET_DIRECTION__COUNT] HOOKS("bytes") LABELS("direction=net_direction")
		HELP("Bytes that this process sent to and received from IP sockets, without protocol headers. Every "
		     "send and receive of the host is slowed down a little. Not counted: splice(2) from a socket, a "
		     "receive that only peeks; before Linux 6.5 also sendfile(2) and splice(2) to a socket.");
	counter_t retransmits_total HOOKS("retransmit")
		HELP("Times TCP retransmitted on a connection of this process. Segments that the network card splits "
		     "count once. Not counted: retransmitted answers to clients that connect to this process, and "
		     "connections that this process accepted and has not yet sent or received on.");
	counter_t resets_total[NET_DIRECTION__COUNT] HOOKS("reset") LABELS("direction=net_direction")
		HELP("Resets of TCP connections of this process, sent and received. A peer sends one to refuse a "
		     "connection or to abort it. Not counted: answers to packets that belong to no connection, and "
		     "connections that this process accepted and has not yet sent or received on.");
	struct hist_ns_wide connect_seconds HOOKS("socket")
		HELP("Time from when this process began a TCP connect until the connection was established. Every new "
		     "connection of the host is slowed down a little. Not counted: connections that were refused or "
		     "timed out.");
	counter_t sockets_unknown_total HOOKS("socket,bytes")
		HELP("Sockets of this process whose retransmissions, resets and connect times are not counted, because "
		     "the table of 4096 sockets was full. Counted again at each send and receive.");
} __attribute__((aligned(64)));
METRICS;

/* From the kernel's net/tcp_states.h, and from its user-space API. */
enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_CLOSE = 7 };
enum { AF_INET = 2, AF_INET6 = 10 };
enum { IPPROTO_TCP = 6 };
enum { MSG_PEEK = 2 };

/* The process's TCP sockets, and when they began to connect, or 0. Removed when the kernel destroys them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} sockets SEC(".maps");

/* Packets arrive in interrupts, so programs of this file may interrupt each other: all additions are atomic. */

static __always_inline void know(struct metrics *m, __u64 key, __u64 begun)
{
	if (bpf_map_update_elem(&sockets, &key, &begun, 0))
		__sync_fetch_and_add(&m->sockets_unknown_total, 1);
}

static __always_inline int moved(const struct sock *sk, __u32 direction, int bytes)
{
	__u64 key = (__u64)sk;
	__u16 family;

	if (bytes <= 0 || !in_scope(bpf_get_current_pid_tgid()))
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	UPDATE(m) {
		__sync_fetch_and_add(&m->bytes_total[direction], bytes);
		if (sk->sk_protocol == IPPROTO_TCP && !bpf_map_lookup_elem(&sockets, &key))
			know(m, key, 0);
	}
	return 0;
}

TP_BTF(bytes__tp_btf__send, sock_send_length, struct sock *sk, int ret, int flags)
{
	return moved(sk, NET_DIRECTION_SENT, ret);
}

TP_BTF(bytes__tp_btf__receive, sock_recv_length, struct sock *sk, int ret, int flags)
{
	return flags & MSG_PEEK ? 0 : moved(sk, NET_DIRECTION_RECEIVED, ret);
}

/* Before Linux 6.3, and where the tracepoints are rejected. */
#define BYTES_SENT(name, function)                                                                            \
	FEXIT(bytes__fentry__##name, function, struct socket *sock, struct msghdr *msg, size_t size, int ret) \
	{                                                                                                     \
		return moved(sock->sk, NET_DIRECTION_SENT, ret);                                              \
	}

#define BYTES_RECEIVED(name, function)                                                                          \
	FEXIT(bytes__fentry__##name, function, struct socket *sock, struct msghdr *msg, size_t size, int flags, \
		int ret)                                                                                        \
	{                                                                                                       \
		return flags & MSG_PEEK ? 0 : moved(sock->sk, NET_DIRECTION_RECEIVED, ret);                     \
	}

BYTES_SENT(send, "inet_sendmsg")
BYTES_SENT(send6, "inet6_sendmsg")
BYTES_RECEIVED(receive, "inet_recvmsg")
BYTES_RECEIVED(receive6, "inet6_recvmsg")

/* A connection begins in the connecting thread's context, and is established in an interrupt's. */
TP_BTF(socket__tp_btf__state, inet_sock_set_state, const struct sock *sk, const int old, const int now)
{
	__u64 key = (__u64)sk, *begun;

	if (old == TCP_CLOSE && now == TCP_SYN_SENT) {
		if (in_scope(bpf_get_current_pid_tgid()))
			UPDATE(m)
				know(m, key, bpf_ktime_get_ns());
		return 0;
	}
	if (old != TCP_SYN_SENT || now != TCP_ESTABLISHED)
		return 0;
	begun = bpf_map_lookup_elem(&sockets, &key);
	if (!begun || !*begun)
		return 0;
	UPDATE(m)
		hist_ns_wide_add_atomic(&m->connect_seconds, bpf_ktime_get_ns() - *begun);
	*begun = 0;
	return 0;
}

/* A socket that is closed may still have to send a reset. */
TP_BTF(socket__tp_btf__destroy, tcp_destroy_sock, struct sock *sk)
{
	__u64 key = (__u64)sk;

	bpf_map_delete_elem(&sockets, &key);
	return 0;
}

static __always_inline int happened(const struct sock *sk, __u32 what)
{
	__u64 key = (__u64)sk;

	if (!bpf_map_lookup_elem(&sockets, &key))
		return 0;
	UPDATE(m) {
		if (what < NET_DIRECTION__COUNT)
			__sync_fetch_and_add(&m->resets_total[what], 1);
		else
			__sync_fetch_and_add(&m->retransmits_total, 1);
	}
	return 0;
}

enum { RETRANSMIT = NET_DIRECTION__COUNT };

TP_BTF(reset__tp_btf__send, tcp_send_reset, const struct sock *sk)
{
	return happened(sk, NET_DIRECTION_SENT);
}

TP_BTF(reset__tp_btf__receive, tcp_receive_reset, struct sock *sk)
{
	return happened(sk, NET_DIRECTION_RECEIVED);
}

/* Newer kernels also report what could not be sent. */
TP_BTF(retransmit__tp_btf_err, tcp_retransmit_skb, const struct sock *sk, const struct sk_buff *skb, int err)
{
	return err ? 0 : happened(sk, RETRANSMIT);
}

TP_BTF(retransmit__tp_btf, tcp_retransmit_skb, const struct sock *sk, const struct sk_buff *skb)
{
	return happened(sk, RETRANSMIT);
}
