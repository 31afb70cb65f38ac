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

package guide_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/banyandtest"
	"github.com/apache/skywalking-banyandb/ebpf/integration/internal/checkout"
	"github.com/apache/skywalking-banyandb/ebpf/kprobe/kprobetest"
)

// shown maps the commands of README.md and docs/install.md to their expected output, as a regular expression for grep.
// Other documents have their own tests.
var shown = map[string]string{
	`integration/bin/banyand ebpf plan`:                                                                    `^io +syscall +[a-z]`,
	`curl -s http://127.0.0.1:17913/api/v1/bydbql/query -d "{\"query\": \"$Q\"}"`:                          `"dataPoints":\[\{`,
	`curl -s http://127.0.0.1:8080/metrics | grep ^ebpf_`:                                                  `^ebpf_io_operations_total\{.*\} [1-9]`,
	`setcap cap_bpf,cap_perfmon+ep integration/bin/banyand`:                                                ``,
	`kill -HUP $(pidof banyand)`:                                                                           ``,
	`curl -s http://127.0.0.1:17920/api/v1/config -H 'Content-Type: application/json' -d '{"modules":[]}'`: `"modules":\[\]`,
	`curl -s http://127.0.0.1:17920/api/v1/config -H 'Content-Type: application/json' -d '{"modules":["io","cache"],"disabled_hooks":{}}'`: `"modules":\["io","cache"\]`,
	`curl -s -X POST http://127.0.0.1:17920/api/v1/config/reload -H 'Content-Type: application/json'`:                                      `"modules":\["io"\]`,
}

// prelude defines shell functions: show repeats a command until its output matches, serve runs a server.
const prelude = `show() {
	for _ in $(seq 1200); do
		if out=$(eval "$1" 2>&1) && grep -qE "$2" <<<"$out"; then printf '$ %s\n%s\n' "$1" "$(head -3 <<<"$out" | cut -c-200)"; return; fi
		sleep 0.25
	done
	printf 'in vain: %s\n%s\n' "$1" "$out"
	tail -5 server.log || true
	exit 1
}
server=
serve() {
	if [ -n "$server" ]; then kill $server; wait $server || true; fi
	$1 >server.log 2>&1 &
	server=$!
	show 'curl -sf http://127.0.0.1:17913/api/healthz' SERVING
}
`

// TestCommands follows README.md and docs/install.md as one shell session, in its own network namespace, where the
// default ports are free.
func TestCommands(t *testing.T) {
	kprobetest.Require(t)
	dir := t.TempDir()
	require.NoError(t, checkout.Copy(dir))
	// A copy, since setcap changes it.
	binary, err := os.ReadFile(banyandtest.DefaultBinary())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "integration", "bin"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "integration", "bin", "banyand"), binary, 0o700))
	config := filepath.Join(dir, "ebpf.yaml")
	require.NoError(t, os.WriteFile(config, []byte("modules: [io]\n"), 0o600))

	script := prelude
	for _, name := range []string{"README.md", "docs/install.md"} {
		document, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		for line := range strings.Lines(code(string(document), "sh")) {
			line = strings.TrimSpace(line)
			want, known := shown[line]
			target, isMake := strings.CutPrefix(line, "make ")
			switch {
			case known:
				script += "show " + quoted(line) + " " + quoted(want) + "\n"
			case isMake:
				// The gate runs these targets.
				script += "make --dry-run " + target + " >make.log\n"
			case strings.HasPrefix(line, "integration/bin/banyand standalone "):
				script += "serve " + quoted(line) + "\n"
			case strings.HasPrefix(line, "Q="), strings.HasSuffix(line, "&"):
				script += line + "\n"
			default:
				t.Errorf("%s: %q has no test", name, line)
			}
		}
	}
	env := []string{
		"BYDB_NODE_HOST_PROVIDER=flag", "BYDB_NODE_HOST=127.0.0.1", "BYDB_EBPF_HTTP_ADDR=17920", "BYDB_EBPF_CONFIG_FILE=" + config,
		"BYDB_OBSERVABILITY_NATIVE_FLUSH_INTERVAL=1s",
	}
	for _, of := range []string{"MEASURE", "STREAM", "TRACE", "PROPERTY", "SCHEMA_SERVER", "METADATA"} {
		env = append(env, "BYDB_"+of+"_ROOT_PATH="+filepath.Join(dir, "data"))
	}
	out, err := session(t, dir, script, env...)
	require.NoErrorf(t, err, "%s", out)
	t.Logf("%s", out)
}

// quoted quotes a text as one word for the shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
