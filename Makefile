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

# Tools run with go run at a pinned version, so that nothing has to be installed.
golangci := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
buf      := go run github.com/bufbuild/buf/cmd/buf@v1.59.0

c_files  = $(shell git ls-files --cached --others --exclude-standard '*.bpf.c' 'bpf/*.h')

# The Go modules that do not depend on the server.
libraries := . meterbridge observer/api

# The SDK for users' own probe modules.
sdk := integration/out/banyandb-ebpf-sdk

# Debian packages that tests and generation need besides Go and a C compiler. Node and npm may be installed already from
# another source.
packages := clang-14 llvm-14 libbpf-dev clang-format-14 strace chromium $(if $(shell command -v node),,nodejs) $(if $(shell command -v npm),,npm)

.DEFAULT_GOAL := help
.PHONY: help sdk test-kernels test-busy mutations setup generate generate-api generate-check format lint build build-race test test-static test-here test-unit

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

include integration/integration.mk

setup: ## Install the Debian packages that test and generate need, as root
	@missing=; for p in $(packages); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null \
			|| { echo "cannot install$$missing: install them by hand"; exit 1; }; \
	fi

generate: setup ## Compile the probe modules for amd64 and arm64, with clang-14
	go generate ./bpf

generate-api: ## Generate the Go code of the API's proto files
	cd observer/api/ebpfpb && $(buf) generate

# The folders with probe modules, and where freshly compiled objects go for comparison.
modules   := bpf bpf/testdata kprobe/testdata observer/testdata integration/tools/bench/bpf
generated := $(CURDIR)/integration/out/generated

generate-check: setup ## Fail if what is committed as generated is not what the sources give
	@rm -rf $(generated)
	@set -e; for d in $(modules); do \
		mkdir -p $(generated)/$$d; (cd bpf && go run ./gen ../$$d $(generated)/$$d); \
		for o in $$(cd $(generated)/$$d && ls */*.bpf.o) $$(cd $$d && ls */*.bpf.o); do \
			cmp $$d/$$o $(generated)/$$d/$$o || { echo "$$d/$$o differs from its source: run make generate and commit"; exit 1; }; \
		done; done
	@cd observer/api/ebpfpb && $(buf) generate -o $(generated)/api
	@set -e; for f in metrics.pb.go metrics_grpc.pb.go; do \
		cmp observer/api/ebpfpb/skywalking/ebpf/v1/$$f $(generated)/api/skywalking/ebpf/v1/$$f || { echo "$$f differs from its proto file: run make generate-api and commit"; exit 1; }; \
		done
	@echo "the committed objects and the API's code are those of their sources"

sdk: ## Pack what users write modules of their own with: integration/out/banyandb-ebpf-sdk.tar.gz
	@rm -rf $(sdk) && mkdir -p $(sdk)/include $(sdk)/example $(sdk)/docs
	@cp bpf/sdk/Makefile bpf/sdk/README.md LICENSE $(sdk) && cp bpf/sdk/*.bpf.c $(sdk)/example
	@cp bpf/probe.bpf.h bpf/kernel.h bpf/task.h bpf/work.h bpf/file.h $(sdk)/include && cp docs/sdk.md docs/adding-a-module.md $(sdk)/docs
	@tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar -C $(dir $(sdk)) -cf - $(notdir $(sdk)) \
		| gzip -9n >$(sdk).tar.gz
	@rm -rf $(sdk)
	@echo "$(sdk).tar.gz"

format: setup ## Format Go and C
	for m in $(libraries); do (cd $$m && $(golangci) fmt ./...) || exit 1; done
	cd integration && $(golangci) fmt ../runservice/... ./...
	clang-format-14 -i $(c_files)

lint: setup prepare ## Check format, vet and lint
	@clang-format-14 --dry-run --Werror $(c_files)
	for m in $(libraries); do (cd $$m && $(golangci) run ./... && GOOS=darwin go vet ./... && GOOS=windows go vet ./...) || exit 1; done
	cd integration && $(golangci) run ../runservice/... ./...
	cd integration/examples/prometheus && GOWORK=off $(golangci) run ./...
	cd observer/api/ebpfpb && $(buf) lint && $(buf) breaking --against released.binpb

build: ## Build the library for Linux, macOS and Windows
	for m in $(libraries); do (cd $$m && go build ./... && GOOS=darwin go build ./... && GOOS=windows go build ./...) || exit 1; done

# In parallel: a virtual machine has one CPU, and many tests mostly wait. Lockdown kernels run only in the full matrix,
# since lockdown only removes hooks.
test: ## Run every test that this machine can run, the oldest and the newest kernel included; at the end stands what it cannot
	@$(MAKE) --no-print-directory setup page-packages prepare
	@$(MAKE) --no-print-directory -j3 test-kernels test-static test-here ONLY=5.10,newest

test-static: build lint generate-check

test-here: build-race banyand bydbctl
	go test -run xxx -bench . -benchtime=1x ./observer ./bpf ./kprobe
	cd meterbridge && go test -run xxx -bench . -benchtime=1x .
	@cd integration && go run ./tools/testrun .. ../observer/api tools/prepare examples/prometheus .:../meterbridge,../runservice/...,./... -- -race -timeout 2h

build-race: prepare
	@go build -race ./... && cd integration && go build -race ./... ../meterbridge ../observer/api/... ../runservice/...

# ONLY=5.10,newest selects kernels, and skips tests that do not depend on the kernel.
test-kernels: prepare ## Boot Linux 5.10 to the newest in QEMU, run the tests inside, and write docs/kernels.md
	@cd integration && go run ./tools/kernels $(if $(ONLY),-short -only $(ONLY),-out ../docs/kernels.md)

# RUNS=1 runs everything once.
test-busy: ## Run make demo and make test five times from a clean clone of HEAD, on a machine that is kept busy
	@go run ./integration/tools/busy/main.go $(if $(RUNS),-runs $(RUNS))

mutations: setup prepare ## Break the code on purpose, line by line, and see that the tests notice
	@cd integration && go run ./tools/mutate

test-unit: ## Run the tests of the library alone
	for m in $(libraries); do (cd $$m && go test -race -count=1 ./...) || exit 1; done
