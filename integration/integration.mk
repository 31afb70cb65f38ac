# Licensed to Apache Software Foundation (ASF) under one or more contributor
# license agreements. See the NOTICE file distributed with
# this work for additional information regarding copyright
# ownership. Apache Software Foundation (ASF) licenses this file to you under
# the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing,
# software distributed under the License is distributed on an
# "AS IS" BASIS, WITHOUT WARRANTIES OR CONDITIONS OF ANY
# KIND, either express or implied.  See the License for the
# specific language governing permissions and limitations
# under the License.

# Included by the Makefile at the root. Go decides what is up to date, so no target here is a file.

prepare := GOWORK=off go run -C integration/tools/prepare .

.PHONY: prepare banyand bydbctl bench bench-quick demo demo-picture page-packages page-pictures test-integration clean-integration

prepare: ## Make the copy of the upstream server in integration/banyandb
	@$(prepare)

banyand: ## Build the server with eBPF: integration/bin/banyand
	@$(prepare) bin/banyand=./cmd/banyand

bydbctl: ## Build the command line client: integration/bin/bydbctl
	@$(prepare) bin/bydbctl=./banyandb/bydbctl/cmd/cli

demo: ## Run the server under load and print what it says of the kernel. KEEP=1 leaves it running
	@$(prepare) bin/banyand=./cmd/banyand bin/bydbctl=./banyandb/bydbctl/cmd/cli bin/demo=./cmd/demo
	@integration/bin/demo $(if $(KEEP),-keep)

demo-picture: ## Run the demo and draw what it prints: docs/demo.svg
	@$(prepare) bin/banyand=./cmd/banyand bin/demo=./cmd/demo
	@integration/bin/demo -svg docs/demo.svg

page-packages: ## Install what the page is built and tested with into observer/api/page/node_modules
	@cd observer/api/page && { cmp -s package-lock.json node_modules/.lock || { npm ci --no-progress --loglevel=error && cp package-lock.json node_modules/.lock; }; }

page-pictures: setup page-packages ## Take pictures of the page of a server under load: docs/page-light.png, docs/page-dark.png
	@$(prepare) bin/banyand=./cmd/banyand bin/demo=./cmd/demo
	@integration/bin/demo -duration 2m -page docs

bench: ## Measure what the observer costs, beside others, as root on a quiet machine; write docs/performance.md and its charts
	@$(MAKE) --no-print-directory setup packages=bpftrace
	@$(prepare) bin/banyand=./cmd/banyand bin/bench=./tools/bench
	@integration/bin/bench -docs docs -results integration/tools/bench/results/bench.txt

bench-quick: ## The same in under three minutes, with few rounds: print the table, write nothing into docs
	@$(prepare) bin/banyand=./cmd/banyand bin/bench=./tools/bench
	@integration/bin/bench -quick -results integration/out/bench-quick.txt

test-integration: setup page-packages banyand bydbctl ## Test the preparation, the load, the queries and the real server
	@cd integration/tools/prepare && GOWORK=off go test -race -count=1 ./...
	@cd integration && go test -race -count=1 ./...

clean-integration: ## Remove the copy of the upstream server and all that was built from it
	rm -rf integration/banyandb integration/bin integration/out
