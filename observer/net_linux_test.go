// Licensed to Apache Software Foundation (ASF) under one or more contributor
// license agreements. See the NOTICE file distributed with
// this work for additional information regarding copyright
// ownership. Apache Software Foundation (ASF) licenses this file to you under
// the Apache License, Version 2.0 (the "License"); you may
// not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//     http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing,
// software distributed under the License is distributed on an
// "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
// KIND, either express or implied.  See the License for the
// specific language governing permissions and limitations
// under the License.

//go:build linux

package observer_test

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
)

// inNetwork reports whether the test runs in a child process with its own network namespace, which has only the
// loopback. What the kernel counts there is only the test's.
func inNetwork(t *testing.T) bool {
	t.Helper()
	kprobetest.Require(t)
	if !kprobetest.InChild(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}) {
		return false
	}
	fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	up, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	up.SetUint16(unix.IFF_UP)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(up)))
	require.Zero(t, errno)
	return true
}

func socket(t *testing.T, family, kind int) int {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	return fd
}

func loopback(family int) unix.Sockaddr {
	if family == unix.AF_INET6 {
		return &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
}

// listen returns a socket that listens on a port of the kernel's choice, and its address.
func listen(t *testing.T, family, backlog int) (int, unix.Sockaddr) {
	t.Helper()
	fd := socket(t, family, unix.SOCK_STREAM)
	require.NoError(t, unix.Bind(fd, loopback(family)))
	require.NoError(t, unix.Listen(fd, backlog))
	addr, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return fd, addr
}

// useAndReset makes a connection whose other end has received something, and closes it without lingering, which resets it.
func useAndReset(t *testing.T, listener int, addr unix.Sockaddr) {
	t.Helper()
	client, server := connected(t, listener, addr)
	_, err := unix.Write(client, []byte("x"))
	require.NoError(t, err)
	_, err = unix.Read(server, make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	require.NoError(t, unix.Close(client))
	// Wait for the reset: closing the server earlier would send a FIN to a closed socket, which the kernel answers by
	// another reset.
	_, err = unix.Read(server, make([]byte, 1))
	require.ErrorIs(t, err, unix.ECONNRESET)
	require.NoError(t, unix.Close(server))
}

// connected returns both ends of a connection.
func connected(t *testing.T, listener int, addr unix.Sockaddr) (client, server int) {
	t.Helper()
	family := unix.AF_INET
	if _, ok := addr.(*unix.SockaddrInet6); ok {
		family = unix.AF_INET6
	}
	client = socket(t, family, unix.SOCK_STREAM)
	require.NoError(t, unix.Connect(client, addr))
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	require.NoError(t, err)
	return client, server
}

// snmp returns what the kernel counts for TCP in the network namespace.
func snmp(t *testing.T) counts {
	t.Helper()
	text, err := os.ReadFile("/proc/self/net/snmp")
	require.NoError(t, err)
	var names []string
	c := counts{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, value := range fields[1:] {
			if !strings.HasPrefix(value, "-") {
				c[names[i+1]] = number(t, "="+value, "=")
			}
		}
	}
	return c
}

const (
	sent            = "ebpf_net_bytes_total{sent}"
	received        = "ebpf_net_bytes_total{received}"
	resetsSent      = "ebpf_net_resets_total{sent}"
	resetsReceived  = "ebpf_net_resets_total{received}"
	retransmits     = "ebpf_net_retransmits_total{}"
	connectionCount = "ebpf_net_connect_seconds_count{}"
	connectionSum   = "ebpf_net_connect_seconds_sum{}"
)

// TestNetBytes: what is sent and received by each kind of call, over TCP and UDP, IPv4 and IPv6. Sockets of other
// families, peeked data and failed calls are not counted.
func TestNetBytes(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	if health := open(t, "net").Health().Modules[0]; !health.Plan.Attached("bytes") {
		t.Skipf("this kernel has no such hook: %v", health.Plan.Refusals())
	}
	eachAttach(t, "net", []string{"bytes"}, testNetBytes)
}

func testNetBytes(t *testing.T, o *observer.Observer) {
	const rounds, size = 100, 1000
	data := make([]byte, size)
	quiet(t)
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		listener, addr := listen(t, family, 8)
		client, server := connected(t, listener, addr)
		udp := socket(t, family, unix.SOCK_DGRAM)
		require.NoError(t, unix.Bind(udp, loopback(family)))
		udpAddr, err := unix.Getsockname(udp)
		require.NoError(t, err)
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		require.NoError(t, err)
		moved := func(n int, err error) {
			require.NoError(t, err)
			require.Equal(t, size, n)
		}
		before := count(t, o)
		for range rounds {
			moved(unix.Write(client, data))
			moved(unix.SendmsgN(client, data, nil, nil, 0))
			n, _, err := unix.Recvfrom(server, data, unix.MSG_PEEK)
			moved(n, err)
			moved(unix.Read(server, data))
			n, _, _, _, err = unix.Recvmsg(server, data, nil, 0)
			moved(n, err)
			require.NoError(t, unix.Sendto(udp, data, 0, udpAddr))
			n, _, err = unix.Recvfrom(udp, data, 0)
			moved(n, err)
			moved(unix.Write(pair[0], data))
			moved(unix.Read(pair[1], data))
			_, _, err = unix.Recvfrom(server, data, unix.MSG_DONTWAIT)
			require.ErrorIs(t, err, unix.EAGAIN)
		}
		require.Equal(t, counts{sent: 3 * rounds * size, received: 3 * rounds * size}, count(t, o).since(before).without("connect"))
		for _, fd := range []int{listener, client, server, udp, pair[0], pair[1]} {
			require.NoError(t, unix.Close(fd))
		}
	}
}

// TestNetConnections: a known number of connections, resets and retransmissions. The kernel counts the same in a
// network namespace that nothing else uses.
func TestNetConnections(t *testing.T) {
	if !inNetwork(t) {
		return
	}
	eachAttach(t, "net", []string{"socket", "reset", "retransmit"}, testNetConnections)
}

func testNetConnections(t *testing.T, o *observer.Observer) {
	const connections, resets, refused = 50, 20, 10
	quiet(t)
	listener, addr := listen(t, unix.AF_INET, 8)
	during := func(do func()) (got, truth counts) {
		before, truthBefore := count(t, o), snmp(t)
		do()
		return count(t, o).since(before).without("bytes", "_slot"), snmp(t).since(truthBefore)
	}

	start := time.Now()
	got, truth := during(func() {
		for range connections {
			client, server := connected(t, listener, addr)
			require.NoError(t, unix.Close(client))
			require.NoError(t, unix.Close(server))
		}
	})
	require.Equal(t, uint64(connections), truth["ActiveOpens"])
	require.Equal(t, uint64(connections), got[connectionCount])
	require.Less(t, time.Duration(got[connectionSum]), time.Since(start))
	require.Positive(t, got[connectionSum])
	require.Equal(t, counts{connectionCount: connections}, got.without("_sum"))

	// Closing without lingering resets. The other end is known once it has received something.
	got, truth = during(func() {
		for range resets {
			useAndReset(t, listener, addr)
		}
	})
	require.Equal(t, uint64(resets), truth["OutRsts"])
	require.Equal(t, uint64(2*resets), truth["EstabResets"], "both ends")
	want := counts{resetsSent: resets, connectionCount: resets}
	if o.Health().Modules[0].Plan.Attached("bytes") {
		want[resetsReceived] = resets
	}
	require.Equal(t, want, got.without("_sum"))

	// Connections that no socket listens for are refused by the kernel, not by one of our sockets.
	got, truth = during(func() {
		free, freeAddr := listen(t, unix.AF_INET, 8)
		require.NoError(t, unix.Close(free))
		for range refused {
			client := socket(t, unix.AF_INET, unix.SOCK_STREAM)
			require.ErrorIs(t, unix.Connect(client, freeAddr), unix.ECONNREFUSED)
			require.NoError(t, unix.Close(client))
		}
	})
	require.Equal(t, uint64(refused), truth["AttemptFails"])
	require.Equal(t, counts{resetsReceived: refused}, got)

	// A listener whose queue is full does not answer, so the second one retransmits after a second.
	full, fullAddr := listen(t, unix.AF_INET, 0)
	var first, second int
	got, truth = during(func() {
		first = socket(t, unix.AF_INET, unix.SOCK_STREAM)
		require.NoError(t, unix.Connect(first, fullAddr))
		second = socket(t, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
		require.ErrorIs(t, unix.Connect(second, fullAddr), unix.EINPROGRESS)
		time.Sleep(1500 * time.Millisecond)
	})
	require.Positive(t, truth["RetransSegs"])
	require.Equal(t, counts{retransmits: truth["RetransSegs"], connectionCount: 1}, got.without("_sum"))
	for _, fd := range []int{first, second, full, listener} {
		require.NoError(t, unix.Close(fd))
	}
}

// TestNetOthers: what this process sends is not counted for another one.
func TestNetOthers(t *testing.T) {
	if os.Getenv(workerEnv) != "" {
		work()
	}
	if !inNetwork(t) {
		return
	}
	o := openOn(t, "net", newWorker(t))
	listener, addr := listen(t, unix.AF_INET, 8)
	useAndReset(t, listener, addr)
	require.Empty(t, count(t, o))
}
