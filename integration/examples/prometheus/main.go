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

// Command prometheus is an ordinary server: it keeps keys and values in an embedded store, answers over HTTP, and has
// its own metrics in a Prometheus registry. A few lines add kernel metrics.
//
//	curl -X PUT -d value http://127.0.0.1:8080/keys/key
//	curl http://127.0.0.1:8080/keys/key
//	curl http://127.0.0.1:8080/metrics
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	bolt "go.etcd.io/bbolt"

	"github.com/apache/skywalking-banyandb/ebpf/observer"           // For kernel metrics.
	"github.com/apache/skywalking-banyandb/ebpf/observer/collector" // For kernel metrics.
)

// puts attributes kernel events to requests that store a value.
var puts = observer.NewWorkLabel(observer.Work{Name: "put"}) // For kernel metrics.

func main() {
	address := flag.String("address", "127.0.0.1:8080", "where to listen")
	file := flag.String("file", "keys.db", "where to keep keys and values")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *address, *file); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address, file string) error {
	store, err := bolt.Open(file, 0o600, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "store_writes_total", Help: "Writes that the store has made.",
	}, func() float64 {
		stats := store.Stats()
		return float64(stats.TxStats.GetWrite())
	}))

	// Kernel metrics begin here.
	kernel, err := observer.Open(ctx, observer.Options{
		Config: observer.Config{Modules: []string{"io", "cache", "memory", "sched"}}, Verify: true,
		Works: &observer.Works{Labels: []*observer.WorkLabel{puts}},
	})
	if err != nil {
		log.Printf("there are no kernel metrics: %v", err)
	} else {
		defer kernel.Close()
		registry.MustRegister(collector.New(kernel))
	}
	// Kernel metrics end here.

	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(store, registry)}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	log.Printf("listening on http://%s", listener.Addr())
	if err = server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(store *bolt.DB, registry *prometheus.Registry) http.Handler {
	bucket := []byte("keys")
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("PUT /keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		value, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		puts.Do(r.Context(), func() { // For kernel metrics.
			err = store.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists(bucket)
				if err != nil {
					return err
				}
				return b.Put([]byte(r.PathValue("key")), value)
			})
		})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /keys/{key}", func(w http.ResponseWriter, r *http.Request) {
		var value []byte
		err := store.View(func(tx *bolt.Tx) error {
			if b := tx.Bucket(bucket); b != nil {
				value = append(value, b.Get([]byte(r.PathValue("key")))...)
			}
			return nil
		})
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case value == nil:
			http.NotFound(w, r)
		default:
			_, _ = w.Write(value)
		}
	})
	return mux
}
