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
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/apache/skywalking-banyandb/ebpf/observer/api"
	ebpfv1 "github.com/apache/skywalking-banyandb/ebpf/observer/api/ebpfpb/skywalking/ebpf/v1"
	"github.com/apache/skywalking-banyandb/ebpf/observer/internal/fake"
)

// patience is how long something may take on a slow and busy machine: it only keeps a test from hanging.
const patience = 2 * time.Minute

// goroutines waits until there are no more than want.
func goroutines(t *testing.T, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > want && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := runtime.NumGoroutine(); got > want {
		stacks := make([]byte, 1<<20)
		t.Fatalf("%d goroutines, want at most %d\n%s", got, want, stacks[:runtime.Stack(stacks, true)])
	}
}

// settled returns how many goroutines there are once those of earlier tests have ended.
func settled() int {
	n, since := runtime.NumGoroutine(), time.Now()
	for time.Since(since) < 300*time.Millisecond {
		time.Sleep(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != n {
			n, since = now, time.Now()
		}
	}
	return n
}

// TestOff: with no address there is no listener and no goroutine.
func TestOff(t *testing.T) {
	before := settled()
	s, err := api.New(fake.New(t, "io"), nil).Listen(api.ListenOptions{TLSCert: "none", TLSKey: "none", TokenFile: "none"})
	require.NoError(t, err)
	require.Equal(t, before, runtime.NumGoroutine())
	require.Nil(t, s.HTTPAddr())
	require.Nil(t, s.GRPCAddr())
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	goroutines(t, before)
}

// TestOneOff: HTTP and gRPC can each be off alone.
func TestOneOff(t *testing.T) {
	s := listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{HTTPAddr: "0"})
	require.Nil(t, s.GRPCAddr())
	require.Equal(t, http.StatusOK, request(t, http.MethodGet, "http://"+s.HTTPAddr().String()+"/health", "").status)
	s = listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{GRPCAddr: "0"})
	require.Nil(t, s.HTTPAddr())
	_, err := ebpfv1.NewEBPFMetricsClient(dial(t, s)).GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	require.NoError(t, err)
}

func TestAddresses(t *testing.T) {
	secret := write(t, "token", "secret", 0o600)
	for address, loopback := range map[string]bool{
		"0": true, ":0": true, "127.0.0.1:0": true, "[::1]:0": true, "localhost:0": true,
		"0.0.0.0:0": false, "[::]:0": false, "example.com:0": false, "192.0.2.1:0": false,
	} {
		for _, o := range []api.ListenOptions{{HTTPAddr: address}, {GRPCAddr: address}} {
			if loopback {
				require.NoError(t, o.Validate(), address)
			} else {
				require.ErrorContains(t, o.Validate(), "there is no token file", address)
			}
			o.TokenFile = secret
			require.NoError(t, o.Validate(), address)
		}
	}
	for address, cause := range map[string]string{
		"localhost": "port", "127.0.0.1:": "port", ":70000": "0 to 65535", "-1": "0 to 65535", "::1": "too many colons", "a:b:c": "too many colons", ":http": "port",
	} {
		require.ErrorContains(t, api.ListenOptions{HTTPAddr: address}.Validate(), cause, address)
	}
	s := listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{HTTPAddr: "0", GRPCAddr: ":0"})
	require.True(t, s.HTTPAddr().(*net.TCPAddr).IP.Equal(net.IPv4(127, 0, 0, 1)))
	require.True(t, s.GRPCAddr().(*net.TCPAddr).IP.Equal(net.IPv4(127, 0, 0, 1)))

	// An address in use is an error, and the other listener is closed.
	before := settled()
	_, err := api.New(fake.New(t, "io"), nil).Listen(api.ListenOptions{HTTPAddr: "0", GRPCAddr: s.GRPCAddr().String()})
	require.ErrorContains(t, err, "address already in use")
	goroutines(t, before)
}

func TestFilesAreChecked(t *testing.T) {
	cert, key := certificate(t, "one")
	with := func(o api.ListenOptions) error {
		o.HTTPAddr = "0"
		return o.Validate()
	}
	require.NoError(t, with(api.ListenOptions{TLSCert: cert, TLSKey: key}))
	require.ErrorContains(t, with(api.ListenOptions{TLSCert: cert}), "both a certificate and its key")
	require.ErrorContains(t, with(api.ListenOptions{TLSKey: key}), "both a certificate and its key")
	require.ErrorContains(t, with(api.ListenOptions{TLSCert: key, TLSKey: cert}), "TLS certificate "+key)
	require.ErrorContains(t, with(api.ListenOptions{TokenFile: "/nowhere/token"}), "token file /nowhere/token")
	require.ErrorContains(t, with(api.ListenOptions{TokenFile: write(t, "empty", " \n", 0o600)}), "it is empty")
	require.ErrorContains(t, with(api.ListenOptions{TokenFile: write(t, "words", "two words", 0o600)}), "one word")
	require.ErrorContains(t, with(api.ListenOptions{TokenFile: write(t, "large", string(make([]byte, 5000)), 0o600)}), "larger than 4096")
	if runtime.GOOS != "windows" {
		require.ErrorContains(t, with(api.ListenOptions{TokenFile: write(t, "open", "secret", 0o644)}), "everybody may read")
		require.NoError(t, with(api.ListenOptions{TokenFile: write(t, "group", "secret", 0o640)}))
	}
}

func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(file, []byte(content), mode))
	require.NoError(t, os.Chmod(file, mode))
	return file
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	pkcs, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return write(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o600),
		write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs})), 0o600)
}

// replace replaces a file's content by another file's, atomically.
func replace(t *testing.T, file, by string) {
	t.Helper()
	content, err := os.ReadFile(by)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".new", content, 0o600))
	require.NoError(t, os.Rename(file+".new", file))
}

func trusting(t *testing.T, cert string) *tls.Config {
	t.Helper()
	content, err := os.ReadFile(cert)
	require.NoError(t, err)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(content))
	return &tls.Config{RootCAs: pool}
}

// reports collects what is reported.
type reports struct {
	all []string
	mu  sync.Mutex
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, err.Error())
}

func (r *reports) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}

// TestTLS: both listeners use the certificate, plaintext clients and clients that do not trust it are refused, a new
// pair is used without a restart, and a broken one is not.
func TestTLS(t *testing.T) {
	cert, key := certificate(t, "one")
	var reported reports
	s := listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{
		HTTPAddr: "0", GRPCAddr: "0", TLSCert: cert, TLSKey: key, Report: reported.add,
	})
	works := func(cert string) error {
		config := trusting(t, cert)
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
		answer, err := c.Get("https://" + s.HTTPAddr().String() + "/health")
		if err != nil {
			return err
		}
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode)
		_, err = ebpfv1.NewEBPFMetricsClient(dialWith(t, s, credentials.NewTLS(config))).GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
		return err
	}
	require.NoError(t, works(cert))
	other, otherKey := certificate(t, "two")
	require.ErrorContains(t, works(other), "certificate signed by unknown authority")
	plain := request(t, http.MethodGet, "http://"+s.HTTPAddr().String()+"/health", "")
	require.Equal(t, http.StatusBadRequest, plain.status)
	_, err := ebpfv1.NewEBPFMetricsClient(dial(t, s)).GetHealth(t.Context(), &ebpfv1.GetHealthRequest{})
	code(t, codes.Unavailable, err)

	old := write(t, "old.pem", "", 0o600)
	replace(t, old, cert)
	reported.take()
	// A certificate without its key is not used; it is reported once.
	replace(t, cert, other)
	require.NoError(t, works(old))
	require.NoError(t, works(old))
	told := reported.take()
	// A handshake that failed before may be reported late.
	told = slices.DeleteFunc(told, func(line string) bool { return !strings.Contains(line, "the old one stays") })
	require.Len(t, told, 1)
	require.Contains(t, told[0], "TLS certificate "+cert)
	replace(t, key, otherKey)
	require.NoError(t, works(other))
	require.ErrorContains(t, works(old), "certificate signed by unknown authority")
}

// TestToken: all data requires the token, the page does not, and a new token is used without a restart.
func TestToken(t *testing.T) {
	file := write(t, "token", "secret\n", 0o600)
	var reported reports
	s := listen(t, api.New(fake.New(t, "io"), &control{config: base()}), api.ListenOptions{
		HTTPAddr: "0", GRPCAddr: "0", TokenFile: file, Report: reported.add,
	})
	url := "http://" + s.HTTPAddr().String()
	for _, path := range []string{"/metrics", "/health", "/api/v1/stats", "/api/v1/config"} {
		for _, wrong := range []string{
			"X: y", "Authorization: Bearer wrong", "Authorization: Bearer ", "Authorization: secret", "Authorization: Basic secret",
			"Authorization: Bearer secretx",
		} {
			r := request(t, http.MethodGet, url+path, "", wrong)
			refused(t, r, http.StatusUnauthorized, "token is missing or wrong")
			require.Equal(t, "Bearer", r.header.Get("WWW-Authenticate"))
		}
		require.Equal(t, http.StatusOK, request(t, http.MethodGet, url+path, "", "Authorization: Bearer secret").status, path)
	}
	refused(t, request(t, http.MethodPost, url+"/api/v1/config", "{}", jsonType), http.StatusUnauthorized, "token")
	refused(t, request(t, http.MethodPost, url+"/api/v1/config/reload", "", jsonType), http.StatusUnauthorized, "token")
	require.Equal(t, http.StatusOK, request(t, http.MethodPost, url+"/api/v1/config", "{}", jsonType, "Authorization: bearer secret").status)
	require.Equal(t, http.StatusOK, request(t, http.MethodGet, url+"/", "").status)
	refused(t, request(t, http.MethodGet, url+"/nothing", ""), http.StatusNotFound, "there is no")
	// With a token, any host name is accepted.
	require.Equal(t, http.StatusOK, request(t, http.MethodGet, url+"/health", "", "Authorization: Bearer secret", "Host: banyandb.example").status)

	conn := dial(t, s)
	everyCall(t, conn, "", codes.Unauthenticated)
	everyCall(t, conn, "Bearer wrong", codes.Unauthenticated)
	everyCall(t, conn, "Bearer secret", codes.OK)

	status := func(token string) int {
		return request(t, http.MethodGet, url+"/health", "", "Authorization: Bearer "+token).status
	}
	replace(t, file, write(t, "next", "next", 0o600))
	require.Equal(t, http.StatusUnauthorized, status("secret"))
	require.Equal(t, http.StatusOK, status("next"))
	everyCall(t, conn, "Bearer secret", codes.Unauthenticated)
	everyCall(t, conn, "Bearer next", codes.OK)
	require.Empty(t, reported.take())

	// An invalid token leaves the old one in use.
	for _, content := range []string{"", "two words"} {
		replace(t, file, write(t, "wrong", content, 0o600))
		require.Equal(t, http.StatusOK, status("next"))
		require.Equal(t, http.StatusOK, status("next"))
		require.Len(t, reported.take(), 1)
	}
	if runtime.GOOS != "windows" {
		require.NoError(t, os.WriteFile(file, []byte("leaked"), 0o600))
		require.NoError(t, os.Chmod(file, 0o644))
		require.Equal(t, http.StatusUnauthorized, status("leaked"))
		require.Equal(t, http.StatusOK, status("next"))
		require.NoError(t, os.Chmod(file, 0o600))
		require.Equal(t, http.StatusOK, status("leaked"))
	}
	require.NoError(t, os.Remove(file))
	require.Equal(t, http.StatusOK, status("leaked"))
}

// TestClose: Close takes a bounded time, whatever clients do, and leaves no goroutine.
func TestClose(t *testing.T) {
	before := settled()
	s, err := api.New(fake.New(t, "io"), nil).Listen(api.ListenOptions{HTTPAddr: "0", GRPCAddr: "0"})
	require.NoError(t, err)
	// A client that sends nothing, one that sends half a request, one that streams, and one that does not read its stream.
	idle, err := net.Dial("tcp", s.HTTPAddr().String())
	require.NoError(t, err)
	half, err := net.Dial("tcp", s.HTTPAddr().String())
	require.NoError(t, err)
	_, err = half.Write([]byte("POST /api/v1/config HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{"))
	require.NoError(t, err)
	conn := newConn(t, s)
	reading, stuck := stream(t, conn, 100*time.Millisecond), stream(t, conn, 100*time.Millisecond)
	_, err = reading.Recv()
	require.NoError(t, err)
	_, err = stuck.Recv()
	require.NoError(t, err)

	// A server that waited for them would take half a minute, until the half request times out.
	start := time.Now()
	require.NoError(t, s.Close())
	require.Less(t, time.Since(start), 30*time.Second)
	require.NoError(t, s.Close())
	for err == nil {
		_, err = reading.Recv()
	}
	code(t, codes.Canceled, err)
	require.NoError(t, idle.Close())
	require.NoError(t, half.Close())
	require.NoError(t, conn.Close())
	goroutines(t, before)
	_, err = net.Dial("tcp", s.HTTPAddr().String())
	require.Error(t, err)
}

// TestRestart: a client that disconnects in the middle of its calls leaves nothing, and is served again when it
// reconnects.
func TestRestart(t *testing.T) {
	s := listen(t, api.New(fake.New(t, "io"), nil), api.ListenOptions{})
	before := settled()
	for range 3 {
		conn := newConn(t, s)
		for range 5 {
			r, err := stream(t, conn, 100*time.Millisecond).Recv()
			require.NoError(t, err)
			require.Zero(t, r.GetSkipped())
		}
		half, err := net.Dial("tcp", s.HTTPAddr().String())
		require.NoError(t, err)
		_, err = half.Write([]byte("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\nGET /met"))
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, request(t, http.MethodGet, "http://"+s.HTTPAddr().String()+"/health", "").status)
		require.NoError(t, half.Close())
		require.NoError(t, conn.Close())
		goroutines(t, before)
	}
}
