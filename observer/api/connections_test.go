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
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
)

// maxConnections is how many open connections a listener has at most.
const maxConnections = 256

// slow is a source that, while it is held, answers only when it is released.
type slow struct {
	*fake.Source
	asked, goOn chan struct{}
	held        atomic.Bool
}

func (s *slow) Health() observer.Health {
	if s.held.Load() {
		select {
		case s.asked <- struct{}{}:
			<-s.goOn
		case <-s.goOn:
		}
	}
	return s.Source.Health()
}

// peer is a client with one connection, which it redials if it is closed.
type peer struct {
	ask   func(token string) error
	close func()
	dials atomic.Int32
}

func (p *peer) dial(ctx context.Context, address string) (net.Conn, error) {
	p.dials.Add(1)
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// way is a way to ask a server.
type way struct {
	name         string
	secure, grpc bool
	http2        bool
}

var ways = []way{{name: "HTTP"}, {name: "HTTPS", secure: true}, {name: "HTTP2", secure: true, http2: true}, {name: "gRPC", grpc: true}, {name: "gRPC with TLS", secure: true, grpc: true}}

// serve serves a source, and returns the server, its address, and a function that makes clients.
func (w way) serve(t *testing.T, source collector.Source) (*api.Server, string, func() *peer) {
	t.Helper()
	o := api.ListenOptions{TokenFile: write(t, "token", "secret", 0o600), Report: func(error) {}}
	var config *tls.Config
	if w.secure {
		o.TLSCert, o.TLSKey = certificate(t, "one")
		config = trusting(t, o.TLSCert)
	}
	if w.grpc {
		o.GRPCAddr = "0"
	} else {
		o.HTTPAddr = "0"
	}
	s, err := api.New(source, nil).Listen(o)
	require.NoError(t, err)
	if w.grpc {
		return s, s.GRPCAddr().String(), func() *peer { return overGRPC(t, s.GRPCAddr().String(), config) }
	}
	return s, s.HTTPAddr().String(), func() *peer { return overHTTP(s.HTTPAddr().String(), config, w.http2) }
}

func overHTTP(address string, config *tls.Config, http2 bool) *peer {
	p := &peer{}
	url := "http://" + address
	if config != nil {
		url = "https://" + address
	}
	transport := http.RoundTripper(&oneConnection{peer: p, address: address, config: config})
	p.close = transport.(*oneConnection).close
	if http2 {
		pooled := &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx, address) }, TLSClientConfig: config, ForceAttemptHTTP2: true,
		}
		transport, p.close = pooled, pooled.CloseIdleConnections
	}
	p.ask = func(token string) error {
		r, err := http.NewRequest(http.MethodGet, url+"/health", nil)
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if _, err = io.Copy(io.Discard, answer.Body); err != nil {
			return err
		}
		if http2 != (answer.ProtoMajor == 2) {
			return fmt.Errorf("the answer is over %s", answer.Proto)
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", answer.Status)
		}
		return nil
	}
	return p
}

// oneConnection keeps its connection as long as the server does. http.Transport does so for HTTP/2 only: on a busy
// machine it closes a connection if it has not seen the request written 50 ms after the answer
// (maxWriteWaitBeforeConnReuse).
type oneConnection struct {
	*peer
	config  *tls.Config
	conn    net.Conn
	answers *bufio.Reader
	address string
}

// RoundTrip retries on a new connection if the old one has been closed.
func (c *oneConnection) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.conn != nil {
		if answer, err := c.exchange(r); err == nil {
			return answer, nil
		}
		c.close()
	}
	conn, err := c.dial(r.Context(), c.address)
	if err != nil {
		return nil, err
	}
	if c.config != nil {
		config := c.config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(c.address)
		conn = tls.Client(conn, config)
	}
	c.conn, c.answers = conn, bufio.NewReader(conn)
	return c.exchange(r)
}

func (c *oneConnection) exchange(r *http.Request) (*http.Response, error) {
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	if err := r.Write(c.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(c.answers, r)
}

func (c *oneConnection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func overGRPC(t *testing.T, address string, config *tls.Config) *peer {
	t.Helper()
	p := &peer{}
	c := insecure.NewCredentials()
	if config != nil {
		c = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(c), grpc.WithContextDialer(p.dial))
	require.NoError(t, err)
	p.close = func() { require.NoError(t, conn.Close()) }
	p.ask = func(token string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_, err := ebpfv1.NewEBPFMetricsClient(conn).GetHealth(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), &ebpfv1.GetHealthRequest{})
		return err
	}
	return p
}

// descriptors returns how many file descriptors the process has, or 0 if that is not known.
func descriptors(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(files)
}

// TestStrangersMakeWay: however many connections without the token there are, in whatever state, a client with it is
// served, and earlier clients with it keep their connections. Nothing leaks.
func TestStrangersMakeWay(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			source := &slow{Source: fake.New(t, "io"), asked: make(chan struct{}), goOn: make(chan struct{})}
			routines, files := settled(), descriptors(t)
			s, address, client := w.serve(t, source)
			idle, busy := client(), client()
			require.NoError(t, idle.ask("secret"))
			source.held.Store(true)
			answered := make(chan error)
			go func() { answered <- busy.ask("secret") }()
			<-source.asked
			source.held.Store(false)

			var strangers []io.Closer
			var refused []*peer
			for i := range maxConnections * 3 / 2 {
				if i%4 > 0 {
					// The request is refused, and the connection stays.
					p := client()
					require.Regexp(t, "401|Unauthenticated", p.ask("wrong"))
					refused = append(refused, p)
					continue
				}
				conn, err := net.Dial("tcp", address)
				require.NoError(t, err)
				strangers = append(strangers, conn)
				switch i % 3 {
				case 1:
					if w.secure {
						// It is silent after the handshake.
						_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
					}
				case 2:
					// Half a request, or half a handshake.
					_, err = conn.Write([]byte("GET /metrics HTTP/1.1\r\nHo"))
					if w.secure {
						_, err = conn.Write([]byte("\x16\x03\x01\x02\x00\x01"))
					}
					require.NoError(t, err)
				}
			}
			newcomer := client()
			require.NoError(t, newcomer.ask("secret"))
			close(source.goOn)
			require.NoError(t, <-answered)
			for _, p := range []*peer{idle, busy, newcomer} {
				require.NoError(t, p.ask("secret"))
				require.Equal(t, int32(1), p.dials.Load())
				p.close()
			}
			require.NoError(t, s.Close())
			for _, conn := range strangers {
				require.NoError(t, conn.Close())
			}
			for _, p := range refused {
				p.close()
			}
			goroutines(t, routines)
			require.Eventually(t, func() bool { return descriptors(t) == files }, time.Minute, 10*time.Millisecond)
		})
	}
}

// TestIdleMakesWay: if all connections have shown the token, the one that is idle the longest is closed. One that is
// being answered is not.
func TestIdleMakesWay(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			source := &slow{Source: fake.New(t, "io"), asked: make(chan struct{}), goOn: make(chan struct{})}
			s, _, client := w.serve(t, source)
			defer func() { require.NoError(t, s.Close()) }()
			var all []*peer
			for range maxConnections {
				p := client()
				defer p.close()
				require.NoError(t, p.ask("secret"))
				all = append(all, p)
			}
			// The server may record the end of an answer after the client has it.
			noted := func() {
				require.Eventually(t, func() bool { return s.Answering() == 0 }, time.Minute, time.Millisecond)
			}
			askOthers := func() {
				noted()
				for _, p := range all[1:] {
					require.NoError(t, p.ask("secret"))
					require.Equal(t, int32(1), p.dials.Load())
				}
				noted()
			}
			askOthers()
			newcomer, last := client(), client()
			defer newcomer.close()
			defer last.close()
			require.NoError(t, newcomer.ask("secret"))
			askOthers()
			// It reconnects, and the newcomer is closed.
			require.NoError(t, all[0].ask("secret"))
			require.Equal(t, int32(2), all[0].dials.Load())

			source.held.Store(true)
			answered := make(chan error)
			for _, p := range all {
				go func() { answered <- p.ask("secret") }()
			}
			for range all {
				<-source.asked
			}
			refused := make(chan error)
			go func() { refused <- last.ask("secret") }()
			select {
			case err := <-refused:
				require.Error(t, err)
			case <-source.asked:
				t.Error("a connection that was being answered was closed")
				go func() { <-refused }()
			}
			source.held.Store(false)
			close(source.goOn)
			for range all {
				require.NoError(t, <-answered)
			}
			for _, p := range all[1:] {
				require.Equal(t, int32(1), p.dials.Load())
			}
			again := client()
			defer again.close()
			require.NoError(t, again.ask("secret"))
		})
	}
}
