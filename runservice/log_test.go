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

package runservice

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	databasev1 "github.com/apache/skywalking-banyandb/api/proto/banyandb/database/v1"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe"
	"github.com/apache/skywalking-banyandb/ebpf/observer"
	"github.com/apache/skywalking-banyandb/pkg/logger"
)

// logged returns the lines that do logs, as the server logs them.
func logged(t *testing.T, do func(s *Service)) []map[string]any {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	require.NoError(t, err)
	stderr := os.Stderr
	os.Stderr = file
	err = logger.Init(logger.Logging{Env: "prod", Level: "debug"})
	os.Stderr = stderr
	require.NoError(t, err)
	defer func() { require.NoError(t, logger.Init(logger.Logging{Env: "dev", Level: "info"})) }()
	s := New(nil, observer.Options{})
	s.log = logger.GetLogger(name)
	do(s)
	require.NoError(t, file.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var lines []map[string]any
	for line := range bytes.Lines(text) {
		lines = append(lines, strictly(t, line))
	}
	return lines
}

var keys = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// strictly parses a line as a strict reader: it rejects duplicate keys, and keys that a query cannot name.
func strictly(t *testing.T, line []byte) map[string]any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(line))
	var object func()
	object = func() {
		seen := map[string]bool{}
		for decoder.More() {
			key, err := decoder.Token()
			require.NoError(t, err)
			require.Regexp(t, keys, key, string(line))
			require.False(t, seen[key.(string)], "key %s is duplicated in %s", key, line)
			seen[key.(string)] = true
			value, err := decoder.Token()
			require.NoError(t, err)
			switch value {
			case json.Delim('{'):
				object()
			case json.Delim('['):
				for decoder.More() {
					_, err = decoder.Token()
					require.NoError(t, err)
				}
				_, err = decoder.Token()
				require.NoError(t, err)
			}
		}
		_, err := decoder.Token()
		require.NoError(t, err)
	}
	begin, err := decoder.Token()
	require.NoError(t, err, string(line))
	require.Equal(t, json.Delim('{'), begin)
	object()
	var fields map[string]any
	require.NoError(t, json.Unmarshal(line, &fields))
	for _, key := range []string{"level", "module", "time", "message"} {
		require.NotEmpty(t, fields[key], string(line))
	}
	require.Equal(t, "EBPF", fields["module"])
	return fields
}

// TestLogLines checks that strict readers accept each line that the service can log, whatever the modules' names.
func TestLogLines(t *testing.T) {
	modules := []observer.ModuleHealth{
		{Name: "module", Up: true}, {Name: "level", Cause: "a cause", Remedy: "a remedy"}, {Name: "message", Up: true, Level: observer.LevelSampled, Shed: "it cost much"},
	}
	health := observer.Health{Modules: modules, Warnings: []observer.Warning{{Cause: "a cause", Remedy: "a remedy"}}}
	_, down := observer.Open(t.Context(), observer.Options{Sources: []observer.Source{observer.Files(fstest.MapFS{"io.bpf.o": {}})}})
	require.Error(t, down)
	lines := logged(t, func(s *Service) {
		for _, h := range []observer.Health{{}, {Modules: modules[:1]}, {Modules: modules}, {Modules: modules[:1], Warnings: health.Warnings}, health} {
			s.setHealth(h)
			s.logHealth(nil)
			s.logHealth(down)
		}
		s.logLevels(observer.Health{Modules: []observer.ModuleHealth{{Name: "message"}}}, health)
		s.logLevels(health, observer.Health{Modules: []observer.ModuleHealth{{Name: "message"}, {Name: "new"}}})
		off := observer.Health{Modules: []observer.ModuleHealth{{Name: "message", Level: observer.LevelOff}}}
		s.logLevels(off, health)
		logSlow(t, s, time.Nanosecond)
		tell(testEntry(), nil)
		s.logConfig(observer.Config{Modules: []string{"io"}, DisabledHooks: map[string][]string{"cache": {"lookup"}}})
		s.off(errors.New("a cause"))
		var failing episode
		s.logEpisode(&failing, kprobe.WithRemedy(errors.New("a cause"), "a remedy"))
		s.logEpisode(&failing, nil)
		d := newDatabase()
		d.measures = []*databasev1.Measure{measure("ebpf_x", "op")}
		c := d.check(t)
		c.NewCounter("ebpf_x", "direction")
		compared(t, c)
		s.flags.listen.HTTPAddr = "127.0.0.1:http"
		s.serveAPI()
		s.reload()
	})
	var messages []string
	for _, line := range lines {
		messages = append(messages, fmt.Sprint(line["message"]))
	}
	// All messages in the sources, except unprovoked, were logged here.
	sources, err := filepath.Glob("*.go")
	require.NoError(t, err)
	message := regexp.MustCompile(`\.Msg\("([^"]+)"\)`)
	field := regexp.MustCompile(`\.(?:Str|Strs|Stringer|Int|Uint32|Float64|Interface|Dict)\("([^"]+)"`)
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		for _, m := range field.FindAllStringSubmatch(string(text), -1) {
			require.Regexp(t, keys, m[1], source)
			require.NotContains(t, []string{"module", "level", "time", "message", "error"}, m[1], source)
		}
		for _, m := range message.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(unprovoked, m[1]) {
				require.Contains(t, messages, m[1])
			}
		}
	}
	require.Contains(t, messages, messageOff)
	require.Contains(t, messages, "eBPF observation is on")
	require.Contains(t, messages, "eBPF observation is on, with warnings")
}

// unprovoked are messages that need a kernel, database, file or listener to fail or change while the service runs.
var unprovoked = []string{
	"eBPF metrics are not stored yet: the database does not have their measures", "eBPF metrics are not stored, except those that have been compared",
	"the eBPF configuration file cannot be used; the flags apply", "detaching eBPF probes", "closing the eBPF API", "serving the eBPF API",
}

// TestEpisodes checks that a failure is logged when it begins, when its cause changes and when it ends, not each time.
func TestEpisodes(t *testing.T) {
	full := kprobe.WithRemedy(errors.New("too many open files"), "allow more")
	other := errors.New("another")
	lines := logged(t, func(s *Service) {
		var e episode
		for _, err := range []error{nil, full, full, other, other, nil, nil, full, nil} {
			s.logEpisode(&e, err)
		}
	})
	var got []string
	for _, line := range lines {
		got = append(got, fmt.Sprint(line["level"], " ", line["error"], " ", line["remedy"]))
	}
	require.Equal(t, []string{
		"error too many open files allow more", "error another <nil>", "info <nil> <nil>", "error too many open files allow more", "info <nil> <nil>",
	}, got)
}

// TestChangesTakeTurns checks that concurrent changes, by whatever means, are all applied.
func TestChangesTakeTurns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ebpf.yaml")
	require.NoError(t, os.WriteFile(file, []byte("latency_sampling: 7\n"), 0o600))
	logged(t, func(s *Service) {
		flags := s.FlagSet()
		require.NoError(t, flags.Parse([]string{"--ebpf-config-file=" + file}))
		o, err := observer.Open(t.Context(), observer.Options{Config: observer.Config{Modules: []string{"io"}}})
		if err != nil {
			t.Skipf("no module can be opened: %v", err)
		}
		defer func() { require.NoError(t, o.Close()) }()
		s.observer = o
		inside, both := make(chan struct{}), make(chan error)
		go func() {
			both <- s.Configure(t.Context(), func(c observer.Config) (observer.Config, error) {
				close(inside)
				// Without serialization, the other change would be done by now.
				time.Sleep(100 * time.Millisecond)
				c.LatencySampling = 3
				return c, nil
			})
		}()
		<-inside
		require.NoError(t, s.Configure(t.Context(), func(c observer.Config) (observer.Config, error) {
			c.MaxOverheadPercent = 5
			return c, nil
		}))
		require.NoError(t, <-both)
		require.Equal(t, uint32(3), s.Config().LatencySampling)
		require.InDelta(t, 5, s.Config().MaxOverheadPercent, 0)
		require.Equal(t, uint32(3), o.Config().LatencySampling)
		require.InDelta(t, 5, o.Config().MaxOverheadPercent, 0)

		// A reload by signal waits too.
		inside = make(chan struct{})
		go func() {
			both <- s.Configure(t.Context(), func(c observer.Config) (observer.Config, error) {
				close(inside)
				time.Sleep(100 * time.Millisecond)
				c.LatencySampling = 4
				return c, nil
			})
		}()
		<-inside
		s.reload()
		require.NoError(t, <-both)
		require.Equal(t, uint32(7), s.Config().LatencySampling)
		require.Equal(t, uint32(7), o.Config().LatencySampling)
	})
}

// TestScratchDirs checks the order: the configured folder, the system's folder, then the data folders.
func TestScratchDirs(t *testing.T) {
	s := New(nil, observer.Options{})
	require.Equal(t, []string{os.TempDir()}, s.scratchDirs())
	s.flags.scratchDir = "/scratch"
	s.root = func() *pflag.FlagSet {
		flags := pflag.NewFlagSet("data", pflag.ContinueOnError)
		for name, dir := range map[string]string{"stream-root-path": "/data/stream", "measure-root-path": "/data/measure", "trace-root-path": os.TempDir(), "other": "/x"} {
			flags.String(name, dir, "")
		}
		return flags
	}
	require.Equal(t, []string{"/scratch", os.TempDir(), "/data/measure", "/data/stream"}, s.scratchDirs())
}
