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

package api_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
)

// The tests in this file let hours pass on a fake clock, which advances when all goroutines wait. So the connections
// are in memory.

// memory is an in-memory listener.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (m *memory) dial() (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case m.conns <- there:
		return here, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{} }

// inMemory serves over gRPC or HTTP, and returns a function to dial it.
func inMemory(t *testing.T, control api.Control, o api.ListenOptions) (s *api.Server, dial func() (net.Conn, error)) {
	t.Helper()
	m := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	s, err := api.ListenIn(api.New(fake.New(t, "io"), control), o, func(string, string) (net.Listener, error) { return m, nil })
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, m.dial
}

// TestLongStream: a client that sends keepalive pings as often as gRPC permits keeps its stream.
func TestLongStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, dial := inMemory(t, nil, api.ListenOptions{GRPCAddr: "0"})
		dials := 0
		conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
				dials++
				return dial()
			}))
		require.NoError(t, err)
		defer conn.Close()
		hourly := stream(t, conn, time.Hour)
		start := time.Now()
		for i := range 3 {
			_, err = hourly.Recv()
			require.NoError(t, err)
			require.Equal(t, time.Duration(i)*time.Hour, time.Since(start))
		}
		require.Equal(t, 1, dials)
	})
}

// TestPings: a client may ping every second, even without a stream, until it is idle for too long.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, dial := inMemory(t, nil, api.ListenOptions{GRPCAddr: "0"})
		conn, err := dial()
		require.NoError(t, err)
		defer conn.Close()
		framer := http2.NewFramer(conn, conn)
		answers := make(chan error, 2)
		go func() {
			defer close(answers)
			for {
				frame, err := framer.ReadFrame()
				if err != nil {
					return
				}
				switch f := frame.(type) {
				case *http2.PingFrame:
					answers <- nil
				case *http2.GoAwayFrame:
					answers <- fmt.Errorf("got GOAWAY: %s", f.DebugData())
				}
			}
		}()
		_, err = io.WriteString(conn, http2.ClientPreface)
		require.NoError(t, err)
		require.NoError(t, framer.WriteSettings())
		for range 50 {
			time.Sleep(time.Second)
			require.NoError(t, framer.WritePing(false, [8]byte{}))
			err, ok := <-answers
			require.NoError(t, err)
			require.True(t, ok)
		}
		require.NoError(t, conn.Close())
		_, ok := <-answers
		require.False(t, ok)
	})
}

// TestSlowClient: a stream survives if its client cannot be reached for some time, as when the network is down or the
// client is stopped.
func TestSlowClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, dial := inMemory(t, nil, api.ListenOptions{GRPCAddr: "0"})
		conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
				c, err := dial()
				return &late{Conn: c}, err
			}))
		require.NoError(t, err)
		defer conn.Close()
		hourly := stream(t, conn, time.Hour)
		for range 2 {
			_, err = hourly.Recv()
			require.NoError(t, err)
		}
	})
}

// late is a connection on which data arrives some seconds late.
type late struct{ net.Conn }

func (l *late) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	time.Sleep(15 * time.Second)
	return n, err
}

// TestCloseSilent: the server does not wait for the handshake of a silent gRPC client.
func TestCloseSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, dial := inMemory(t, nil, api.ListenOptions{GRPCAddr: "0"})
		conn, err := dial()
		require.NoError(t, err)
		defer conn.Close()
		synctest.Wait()
		start := time.Now()
		require.NoError(t, s.Close())
		require.Zero(t, time.Since(start))
	})
}

// TestLongChange: a change of the configuration has time to wait for another one, to load modules, and to verify them
// on a slow disk.
func TestLongChange(t *testing.T) {
	for scheme, proto := range map[string]int{"http": 1, "https": 2} {
		t.Run(scheme, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				slow := &patient{control: control{config: base()}, takes: 2 * time.Minute}
				o, transport := api.ListenOptions{HTTPAddr: "0"}, &http.Transport{ForceAttemptHTTP2: true}
				if proto == 2 {
					o.TLSCert, o.TLSKey = certificate(t, "one")
					transport.TLSClientConfig = trusting(t, o.TLSCert)
				}
				_, dial := inMemory(t, slow, o)
				transport.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial() }
				defer transport.CloseIdleConnections()
				start := time.Now()
				answer, err := (&http.Client{Transport: transport}).Post(scheme+"://127.0.0.1/api/v1/config", "application/json", strings.NewReader(`{"latency_sampling":2}`))
				require.NoError(t, err)
				require.Equal(t, proto, answer.ProtoMajor)
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.NoError(t, answer.Body.Close())
				require.Equal(t, slow.takes, time.Since(start))
				require.Equal(t, uint32(2), slow.Config().LatencySampling)
			})
		})
	}
}

// patient is a control that gives up when the request ends.
type patient struct {
	control
	takes time.Duration // by a change
}

func (p *patient) Configure(ctx context.Context, change func(observer.Config) (observer.Config, error)) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(p.takes):
		return p.control.Configure(ctx, change)
	}
}
