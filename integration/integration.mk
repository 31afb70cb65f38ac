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

# Included by the Makefile at the root. Go decides what is up to date, so that nothing here is a file target.

prepare := GOWORK=off go run -C integration/prepare .

.PHONY: prepare banyand bydbctl demo demo-picture test-integration clean-integration

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

test-integration: banyand bydbctl ## Test the preparation, the load, the queries and the real server
	@cd integration/prepare && GOWORK=off go test -race ./...
	@cd integration && go test -race ./...

clean-integration: ## Remove the copy of the upstream server and all that was built from it
	rm -rf integration/banyandb integration/bin integration/out
