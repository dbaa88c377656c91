# Copyright 2026 The Telemetry Gateway Authors
# SPDX-License-Identifier: Apache-2.0

.DEFAULT_GOAL := help
.PHONY: help demo run example build test web race fuzz bench generate check ci clean

BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
# The released binaries, without the paths they were built in. telemetry is
# static and pure Go; telemetry-pipeline links DuckDB, which is C++.
RELEASE := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/telemetry and bin/telemetry-pipeline
	@scripts/need c++
	CGO_ENABLED=0 go build $(RELEASE) -o $(BIN)/telemetry ./cmd/telemetry
	CGO_ENABLED=1 go build $(RELEASE) -o $(BIN)/telemetry-pipeline ./cmd/telemetry-pipeline

demo: build ## send a click down the whole road and ask the warehouse what came of it
	@scripts/need curl
	@scripts/demo $(BIN)

run: build ## keep the whole road running, with live data and a page to click on
	@scripts/need curl
	@scripts/demo $(BIN) --keep

example: build ## keep a managed service running, with a gateway and a real OAuth provider
	@scripts/need curl glewlwyd node npm
	@scripts/example $(BIN)/telemetry

# The journey takes longest, and so begins first.
test: web ## run every test, against real parts
	@scripts/need c++ curl java mkfs.ext4 pubsub-emulator postgres chromium glewlwyd ip
	go test -timeout 20m ./journey ./...

web: web/node_modules/.bin/protoc-gen-es ## build and test the client for web pages
	@scripts/need node npm
	cd web && npm run build && npm test

# What a process that is killed leaves behind, on disk, is the same under the
# race detector, which never gets to report what it saw there.
race: ## run tests under the race detector, but for one of sheer volume and those of killing
	@scripts/need c++ java pubsub-emulator postgres glewlwyd
	go test -race -timeout 20m -skip '^(TestMutations$$|TestKilled)' . ./buffer ./client ./cmd/... ./eventlog ./examples/... ./exporter ./intake ./internal/... ./queue ./telemetrytest

fuzz: ## fuzz each target for FUZZTIME (default 30s)
	@scripts/fuzz $(or $(FUZZTIME),30s)

bench: ## measure speed and memory side by side with the obvious way, with the flags in BENCH
	@scripts/need c++ postgres
	go run ./bench $(BENCH)

# The descriptor is what the contract is held against, so it only ever follows
# a contract that breaks nothing.
generate: $(BIN)/buf web/node_modules/.bin/protoc-gen-es ## make gen/, web/src/gen/ and the committed descriptor from proto/
	$(BIN)/buf breaking --against proto/telemetrygateway.binpb
	$(BIN)/buf generate
	$(BIN)/buf generate --template buf.gen.web.yaml
	$(BIN)/buf build -o proto/telemetrygateway.binpb --as-file-descriptor-set

check: $(BIN)/buf $(BIN)/staticcheck $(BIN)/gofumpt web/node_modules/.bin/protoc-gen-es ## lint, and compare what is generated with what is committed
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/telemetrygateway.binpb
	@scripts/regenerated
	@files=$$($(BIN)/gofumpt -l $$(git ls-files '*.go' ':!gen/')); test -z "$$files" || { echo "not formatted; run gofumpt -w on:"; echo "$$files"; exit 1; }
	@scripts/need c++
	go vet ./...
	$(BIN)/staticcheck ./...
	go mod verify
	go mod tidy -diff

ci: ## what CI runs: everything must be there and pass
	CI=true $(MAKE) check
	CI=true $(MAKE) test
	CI=true $(MAKE) race
	CI=true $(MAKE) demo
	@timeout 5m scripts/example $(BIN)/telemetry --check
	@scripts/need postgres
	go run ./bench -quick

clean: ## remove what was built
	rm -rf $(BIN) $(addprefix web/,node_modules dist build) $(addprefix examples/service/page/,node_modules public/app.js)

web/node_modules/.bin/protoc-gen-es: web/package-lock.json
	@scripts/need node npm
	cd web && npm ci --no-update-notifier --no-fund --no-audit
	@touch $@

# Tools have a module of their own, because their dependencies clash with ours.
$(BIN)/buf $(BIN)/staticcheck $(BIN)/gofumpt: tools/go.mod
	@echo "building $(@F) (the first time takes minutes)"
	@cd tools && go build -o ../$@ $$(go list -f '{{.ImportPath}}' tool | grep "/$(@F)$$")
