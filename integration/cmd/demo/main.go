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

// Command demo runs the server with eBPF enabled, drives a real load, and prints what the server's own group
// _monitoring then reports about the kernel's work for it. Every kernel figure of the report comes from there, through
// BydbQL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/ask"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/load"
)

const (
	// interval is how often the demo's server collects from the kernel and writes to _monitoring.
	interval = time.Second
	// quietPeriod lets the last collection reach _monitoring before it is queried.
	quietPeriod = 3 * interval
)

func main() {
	keep := flag.Bool("keep", false, "leave the server running")
	duration := flag.Duration("duration", 20*time.Second, "how long to drive the load")
	binary := flag.String("binary", banyandtest.DefaultBinary(), "the server to run")
	picture := flag.String("svg", "", "also draw the report into this file, as SVG")
	pages := flag.String("page", "", "also take pictures of the page at the end of the load into this folder: page-light.png, page-dark.png")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, options{binary: *binary, picture: *picture, pages: *pages, duration: *duration, keep: *keep}, newScreen(os.Stdout))
	switch {
	case err != nil && ctx.Err() != nil:
		// Errors caused by the user's interrupt are not reported.
		fmt.Println("\nInterrupted. The server is stopped and its folder removed.")
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type options struct {
	binary   string
	picture  string // A file, or empty.
	pages    string // A folder, or empty.
	duration time.Duration
	keep     bool
}

func run(ctx context.Context, opts options, out *screen) (err error) {
	page, err := banyandtest.FreeAddress()
	if err != nil {
		return err
	}
	out.progressf("starting banyand standalone --ebpf-enabled")
	server, err := banyandtest.Start(ctx, banyandtest.Options{
		Binary: opts.binary,
		Flags: append([]string{
			"--ebpf-enabled", "--ebpf-collect-interval=" + interval.String(), "--ebpf-http-addr=" + page,
			"--observability-modes=native,prometheus", "--observability-native-flush-interval=" + interval.String(),
		}, load.ServerFlags...),
		Detached: opts.keep,
	})
	if err != nil {
		return err
	}
	kept := false
	defer func() {
		out.clear()
		if !kept {
			err = errors.Join(err, server.Stop())
		}
	}()

	pictures := func() error { return nil }
	var pause time.Duration
	if opts.pages != "" {
		// Leave CPU to the browsers: a server starved of CPU would not make a typical picture.
		pause = 100 * time.Millisecond
		pictures = watchPage(ctx, page, opts)
	}
	stats, err := drive(ctx, server, opts.duration, pause, out)
	if err = errors.Join(err, pictures()); err != nil {
		return err
	}
	// Before the demo's own queries of _monitoring.
	queries, err := ask.Queries(ctx, page)
	if err != nil && !errors.Is(err, ask.ErrAbsent) {
		return err
	}
	files, err := ask.Scrape(ctx, page)
	if err != nil {
		return err
	}
	out.progressf("waiting for the last counters to reach _monitoring")
	if err = sleep(ctx, quietPeriod); err != nil {
		return err
	}
	found, err := gather(ctx, ask.BydbQL(server.HTTP))
	if err != nil {
		return err
	}
	for _, metric := range fileMetrics {
		found[metric] = ask.SamplesOf(files[metric])
	}
	out.clear()
	if !found.has(operations) {
		return fmt.Errorf("the server has no kernel counters; this is what its log says about eBPF:\n%s", ebpfLog(server))
	}
	writeReport(out, found, queries.MostExpensive, stats)
	if opts.picture != "" {
		if err = savePicture(opts.picture, found, queries.MostExpensive, stats); err != nil {
			return err
		}
	}
	kept = opts.keep
	writeHowToAsk(out, server, page, kept)
	return nil
}

// drive runs the load and shows its progress.
func drive(ctx context.Context, server *banyandtest.Server, duration, pause time.Duration, out *screen) (load.Stats, error) {
	conn, err := server.Dial()
	if err != nil {
		return load.Stats{}, err
	}
	defer conn.Close()
	out.progressf("creating the groups and schemas of the load")
	stats, err := load.Run(ctx, conn, load.Options{
		Duration: duration,
		Pause:    pause,
		Progress: func(s load.Stats) {
			total := s.Total()
			out.progressf("%2.0f of %.0f s: %s points written, %s queries answered with %s rows",
				s.Elapsed.Seconds(), duration.Seconds(), count(total.Written), count(total.Queries), count(total.Rows))
		},
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return stats, fmt.Errorf("driving the load: %w", err)
	}
	return stats, nil
}

// watchPage opens the page in a browser while the load runs, and takes the pictures shortly before it ends. The
// returned function waits for that.
func watchPage(ctx context.Context, address string, opts options) func() error {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..", "..")
	seconds := strconv.Itoa(int((opts.duration - 5*time.Second).Seconds()))
	script := filepath.Join(root, "observer", "api", "page", "e2e", "pictures.mjs")
	cmd := exec.CommandContext(ctx, "node", script, "http://"+address+"/", opts.pages, seconds)
	taken := make(chan error, 1)
	go func() {
		text, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("taking pictures of the page (make setup page-packages installs what that needs): %w\n%s", err, text)
		}
		taken <- err
	}()
	return func() error {
		return errors.Join(<-taken, shrink(filepath.Join(opts.pages, "page-light.png")), shrink(filepath.Join(opts.pages, "page-dark.png")))
	}
}

// ebpfLog returns the log lines about eBPF, which give the reason if there are no counters.
func ebpfLog(server *banyandtest.Server) string {
	log, err := server.Log()
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(strings.ToLower(line), "ebpf") && !strings.Contains(line, "register flags") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// writeHowToAsk prints commands that query the same figures, and how to stop the server if it keeps running.
func writeHowToAsk(out io.Writer, server *banyandtest.Server, page string, kept bool) {
	bydbctl := filepath.Join(filepath.Dir(banyandtest.DefaultBinary()), "bydbctl")
	if kept {
		fmt.Fprintf(out, "\nThe server is still running: page http://%s/, gRPC %s, HTTP %s, metrics %s, pid %d. To end it:\n",
			page, server.GRPC, server.HTTP, server.Metrics, server.PID())
		fmt.Fprintf(out, "\n  kill %[1]d && tail --pid=%[1]d -f /dev/null && rm -r %[2]s\n", server.PID(), server.Root)
		fmt.Fprintln(out, "\nAsk it yourself:")
	} else {
		fmt.Fprintln(out, "\nTo ask such a server yourself, keep it with \"make demo KEEP=1\". It prints these commands with its own ports:")
	}
	fmt.Fprintf(out, `
  # BydbQL
  Q="SELECT op, result, value FROM MEASURE %[1]s IN _monitoring"
  Q="$Q TIME > '-1m' ORDER BY TIME DESC LIMIT 20"
  curl -s http://%[2]s/api/v1/bydbql/query -d "{\"query\": \"$Q\"}"; echo

  # bydbctl
  %[3]s --config - -a http://%[2]s measure query -s -1m -f - <<EOF
  groups: [_monitoring]
  name: %[1]s
  tagProjection: {tagFamilies: [{name: default, tags: [op, result]}]}
  fieldProjection: {names: [value]}
  orderBy: {sort: SORT_DESC}
  limit: 20
  EOF

  # Prometheus
  curl -s http://%[4]s/metrics | grep ^banyandb_ebpf_
`, operations, server.HTTP, relative(bydbctl), server.Metrics)
}

// relative makes a path below the working directory relative to it.
func relative(path string) string {
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	short, err := filepath.Rel(dir, path)
	if err != nil || strings.HasPrefix(short, "..") {
		return path
	}
	return short
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
