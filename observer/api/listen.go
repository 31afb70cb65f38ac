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

package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// Limits of clients.
const (
	maxConnections = 256 // per listener
	maxHeader      = 16 << 10
	maxStreams     = 64 // per connection
	headerTimeout  = 5 * time.Second
	// ioTimeout is for a whole request and its answer.
	ioTimeout = 30 * time.Second
	// changeTimeout is for a change of the configuration: it waits for the one before it, and the modules that it
	// enables are loaded and verified, which takes more than ten seconds on a slow disk.
	changeTimeout = 5 * time.Minute
	idleTimeout   = time.Minute
	// pingInterval is how often a gRPC client may ping, with or without a stream. Clients usually ping every 10
	// seconds; gRPC's default limit is 5 minutes.
	pingInterval = time.Second / 2
	// pingTimeout is how long a gRPC client may take to answer the ping that it is sent after idleTimeout.
	pingTimeout = 20 * time.Second
	// stopTimeout is how long Close lets calls in progress finish.
	stopTimeout = 2 * time.Second
)

// ListenOptions say where and how an API listens. The zero value listens nowhere.
type ListenOptions struct {
	// Report is called with errors that occur while the API is served, such as a certificate that cannot be reread. It
	// may be called from any goroutine. Nil drops them.
	Report func(error)
	// HTTPAddr and GRPCAddr are host:port. A port alone is on 127.0.0.1. Empty means off. An address that other
	// machines can reach needs a token.
	HTTPAddr, GRPCAddr string
	// TLSCert and TLSKey are PEM files, both or none. They are reread when they change; the old pair stays in use if
	// the new one cannot be used.
	TLSCert, TLSKey string
	// TokenFile holds the bearer token that clients must have. It is reread when it changes, and must not be readable
	// by everybody.
	TokenFile string
}

// Validate checks the options, and reads the files for that. Files matter only if an address is set.
func (o ListenOptions) Validate() error {
	_, err := o.prepare()
	return err
}

// prepared holds what valid options result in.
type prepared struct {
	token      *watched[token]
	tls        *tls.Config
	http, grpc string
}

func (o ListenOptions) prepare() (*prepared, error) {
	p := &prepared{}
	var err error
	if p.http, err = o.address(o.HTTPAddr); err != nil {
		return nil, fmt.Errorf("HTTP address %q: %w", o.HTTPAddr, err)
	}
	if p.grpc, err = o.address(o.GRPCAddr); err != nil {
		return nil, fmt.Errorf("gRPC address %q: %w", o.GRPCAddr, err)
	}
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, errors.New("TLS needs both a certificate and its key")
	}
	if p.http == "" && p.grpc == "" {
		return p, nil
	}
	if o.TLSCert != "" {
		certificate, certErr := watchCertificate(o.TLSCert, o.TLSKey, o.report)
		if certErr != nil {
			return nil, certErr
		}
		p.tls = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certificate.get(), nil },
		}
	}
	if o.TokenFile != "" {
		p.token, err = watchToken(o.TokenFile, o.report)
	}
	return p, err
}

func (o ListenOptions) report(err error) {
	if o.Report != nil {
		o.Report(err)
	}
}

// address completes an address, and refuses one that other machines can reach if there is no token.
func (o ListenOptions) address(given string) (string, error) {
	if given == "" {
		return "", nil
	}
	if !strings.Contains(given, ":") {
		given = ":" + given
	}
	host, port, err := net.SplitHostPort(given)
	if err != nil {
		return "", err
	}
	if _, err = strconv.ParseUint(port, 10, 16); err != nil {
		return "", fmt.Errorf("port %q is not a number from 0 to 65535", port)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	if !loopback(host) && o.TokenFile == "" {
		return "", errors.New("other machines can reach it, but there is no token file: name one, or listen on 127.0.0.1")
	}
	return net.JoinHostPort(host, port), nil
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Server is an API that listens. It must be closed.
type Server struct {
	http         *http.Server
	grpc         *grpc.Server
	endRequests  context.CancelFunc // of HTTP
	endStreams   context.CancelFunc // of gRPC
	httpListener *connections
	grpcListener *connections
	running      sync.WaitGroup // accept loops, and requests being answered
}

// Listen serves the API as the options say. Without an address it does nothing, and starts no goroutine.
func (a *API) Listen(o ListenOptions) (*Server, error) { return a.listen(o, net.Listen) }

func (a *API) listen(o ListenOptions, listen func(network, address string) (net.Listener, error)) (*Server, error) {
	p, err := o.prepare()
	if err != nil {
		return nil, err
	}
	s := &Server{}
	var requests, streams context.Context
	requests, s.endRequests = context.WithCancel(context.Background())
	streams, s.endStreams = context.WithCancel(context.Background())
	for _, l := range []struct {
		listener **connections
		address  string
	}{{&s.httpListener, p.http}, {&s.grpcListener, p.grpc}} {
		if l.address == "" {
			continue
		}
		listener, listenErr := listen("tcp", l.address)
		if listenErr != nil {
			return nil, errors.Join(listenErr, s.Close())
		}
		*l.listener = &connections{Listener: listener, max: maxConnections, open: make(map[*connection]struct{})}
	}
	if s.httpListener != nil {
		s.serveHTTP(requests, a, p, o.report)
	}
	if s.grpcListener != nil {
		s.serveGRPC(streams, a, p, o.report)
	}
	return s, nil
}

// HTTPAddr returns where HTTP is served, nil if it is not.
func (s *Server) HTTPAddr() net.Addr { return addr(s.httpListener) }

// GRPCAddr returns where gRPC is served, nil if it is not.
func (s *Server) GRPCAddr() net.Addr { return addr(s.grpcListener) }

func addr(listener *connections) net.Addr {
	if listener == nil {
		return nil
	}
	return listener.Addr()
}

func (s *Server) serveHTTP(ctx context.Context, a *API, p *prepared, report func(error)) {
	handler := a.handler(p.admit)
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.running.Add(1)
			defer s.running.Done()
			handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         noteState,
		TLSConfig:         p.tls.Clone(), // The server writes into it.
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       ioTimeout,
		WriteTimeout:      ioTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(reporter(report), "", 0),
	}
	s.running.Go(func() {
		serve := s.http.Serve
		if p.tls != nil {
			serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
		}
		if err := serve(s.httpListener); !errors.Is(err, http.ErrServerClosed) {
			report(fmt.Errorf("serving HTTP: %w", err))
		}
	})
}

// noteState tells a connection when a request begins and when it has been answered. HTTP/2 has several at a time:
// net/http reports the beginning of the first one and the end of the last one.
func noteState(conn net.Conn, state http.ConnState) {
	c := conn.LocalAddr().(localAddr).connection
	switch state {
	case http.StateActive:
		c.begin()
	case http.StateIdle:
		c.end()
	}
}

// reporter reports the lines of a log.
type reporter func(error)

func (r reporter) Write(line []byte) (int, error) {
	r(errors.New(strings.TrimSpace(string(line))))
	return len(line), nil
}

func (s *Server) serveGRPC(ctx context.Context, a *API, p *prepared, report func(error)) {
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxBody),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: idleTimeout, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingInterval, PermitWithoutStream: true}),
		grpc.UnaryInterceptor(func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (_ any, err error) {
			defer survive(&err)
			c, err := p.authorize(ctx)
			if err != nil {
				return nil, err
			}
			defer c.end()
			return handle(ctx, request)
		}),
		grpc.StreamInterceptor(func(server any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) (err error) {
			defer survive(&err)
			c, err := p.authorize(stream.Context()) //nolint:contextcheck // the stream has it
			if err != nil {
				return err
			}
			defer c.end()
			ends, cancel := context.WithCancel(stream.Context())
			defer cancel()
			defer context.AfterFunc(ctx, cancel)()
			return handle(server, endingStream{ServerStream: stream, ctx: ends})
		}),
	}
	if p.tls != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(p.tls)))
	}
	s.grpc = grpc.NewServer(options...)
	a.Register(s.grpc)
	healthpb.RegisterHealthServer(s.grpc, &standardHealth{api: a})
	reflection.Register(s.grpc)
	s.running.Go(func() {
		if err := s.grpc.Serve(s.grpcListener); err != nil {
			report(fmt.Errorf("serving gRPC: %w", err))
		}
	})
}

// survive is deferred: a panic would end the observed server. net/http recovers by itself.
func survive(err *error) {
	if p := recover(); p != nil {
		*err = status.Errorf(codes.Internal, "panic: %v", p)
	}
}

// endingStream is a stream that ends when the server is closed.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }

// admit is the guard of the API's own HTTP server: it marks the connection as admitted, and gives a change more time.
func (p *prepared) admit(w http.ResponseWriter, r *http.Request) error {
	if err := p.guard(r); err != nil {
		return err
	}
	r.Context().Value(http.LocalAddrContextKey).(localAddr).connection.admit()
	if r.Method != http.MethodPost {
		return nil
	}
	return http.NewResponseController(w).SetWriteDeadline(time.Now().Add(changeTimeout))
}

// guard checks a request for data.
func (p *prepared) guard(r *http.Request) error {
	if p.token == nil {
		return checkHost(r)
	}
	if !p.allows(r.Header.Values("Authorization")) {
		return fail(http.StatusUnauthorized, "the token is missing or wrong: send it in the header Authorization, as Bearer <token>")
	}
	return nil
}

// checkHost refuses host names other than localhost. Without a token, another site could otherwise resolve its name to
// this address, and be the same origin to the browser.
func checkHost(r *http.Request) error {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if host = strings.Trim(host, "[]"); host != "localhost" && net.ParseIP(host) == nil {
		return fail(http.StatusForbidden, "host %q is not allowed: without a token, it must be localhost or an IP address", host)
	}
	return nil
}

// authorize checks a call, and returns its connection. The caller must call its end when the call ends.
func (p *prepared) authorize(ctx context.Context) (*connection, error) {
	headers, _ := metadata.FromIncomingContext(ctx)
	if p.token == nil || p.allows(headers.Get("authorization")) {
		client, _ := peer.FromContext(ctx)
		c := client.LocalAddr.(localAddr).connection
		c.begin()
		c.admit()
		return c, nil
	}
	return nil, status.Error(codes.Unauthenticated, "the token is missing or wrong: send it in the metadata key authorization, as Bearer <token>")
}

func (p *prepared) allows(authorization []string) bool {
	if len(authorization) != 1 {
		return false
	}
	scheme, given, _ := strings.Cut(authorization[0], " ")
	return strings.EqualFold(scheme, "Bearer") && p.token.get().is(strings.TrimSpace(given))
}

// Close stops listening and ends all calls. Requests in progress have two seconds, streams end at once. It returns an
// error if a request is still being answered two seconds later. Calling it again does nothing.
func (s *Server) Close() error {
	s.endStreams()
	var stopping sync.WaitGroup
	if s.http != nil {
		stopping.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			if s.http.Shutdown(ctx) != nil {
				s.endRequests()
				_ = s.http.Close()
			}
		})
	} else if s.httpListener != nil {
		_ = s.httpListener.Close()
	}
	if s.grpc != nil {
		// GracefulStop would wait for their handshakes.
		s.grpcListener.refuse()
		timer := time.AfterFunc(stopTimeout, s.grpc.Stop)
		s.grpc.GracefulStop()
		timer.Stop()
	}
	stopping.Wait()
	s.endRequests()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(stopTimeout):
		return errors.New("a request is still being answered")
	}
}
