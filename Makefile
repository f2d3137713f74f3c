# The habits of this repository. "make" alone lists them; CONTRIBUTING.md says when to use which.
#
# Tools are pinned in tools/go.mod and built by go itself. golangci-lint takes about 90 seconds to build the first time on
# two cores; fmt and verify use only the small ones.
#
# CI runs "make ci" and nothing else. The linter is part of it: cold, everything together stays within 15 minutes on two
# cores. In a hurry, "make check" before a commit and "make lint test" before a push find the same.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
TOOL = $(GO) tool -modfile=$(CURDIR)/tools/go.mod
MODULE = github.com/gosequencer/sequencer

# Sums up "go test": a table of packages, what was skipped and why, and "N passed, N failed" at the end.
TESTSUM = $(GO) run ./scripts/testsum

# For the targets that may leave out no backend: the servers' addresses, after installing or starting them.
SERVICES = env=$$(scripts/services.sh env) && eval "$$env" && export SEQUENCER_TEST_REQUIRE=all

# Directories of modules of their own, tested from here.
MODULES = benchmarks,examples,telemetry,dashboard/browsertest

# The Go files of all modules, tracked or about to be, without those deleted and not yet committed; NUL after each.
GOFILES = git ls-files -z --cached --others --exclude-standard -- '*.go' | \
	xargs -0 -r sh -c 'for f; do if [ -f "$$f" ]; then printf "%s\0" "$$f"; fi; done' sh

FUZZTIME ?= 10s

.PHONY: help build fmt check test race conformance crash fuzz bench cover lint docs verify ci

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## compile everything; the commands go to bin/
	$(GO) build ./...
	@if [ -d cmd ]; then mkdir -p bin && $(GO) build -o bin/ ./cmd/...; fi

fmt: ## format all Go files (gofumpt, goimports)
	@$(GOFILES) | xargs -0 -r $(TOOL) goimports -local $(MODULE) -w
	@$(GOFILES) | xargs -0 -r $(TOOL) gofumpt -w

.PHONY: formatted
formatted:
	@bad=$$($(GOFILES) | xargs -0 -r $(TOOL) gofumpt -l; \
	$(GOFILES) | xargs -0 -r $(TOOL) goimports -local $(MODULE) -l); \
	if [ -n "$$bad" ]; then printf 'Not formatted (make fmt):\n%s\n' "$$bad" >&2; exit 1; fi

check: formatted ## what a commit needs: format, vet, build, lint, quick tests on the backends within reach
	$(GO) vet ./...
	$(GO) build ./...
	@$(MAKE) lint
	@$(TESTSUM) -race -short ./...

# -count=1: go's cache of results does not see the servers.
test: ## EVERYTHING: every backend (servers are installed or started), every module, race detector
	@$(SERVICES) && $(TESTSUM) -modules $(MODULES) -race -count=1 -timeout=20m ./...

race: ## look for rare failures: tests three times over, race detector (PKG=./internal/engine COUNT=100)
	@$(SERVICES) && $(TESTSUM) -race -count=$(or $(COUNT),3) -timeout=60m $(or $(PKG),./...)

conformance: ## the suite that every backend must pass, by name
	@$(SERVICES) && $(GO) test -race -count=1 -v -run Conformance ./storage/...

# Without the race detector, with which (in "make test") fleets of workers have less to do; many tests wait for a lease.
crash: ## the tests that kill worker processes and look at what is left
	@$(SERVICES) && $(TESTSUM) -count=1 -run Crash ./...

fuzz: ## every fuzz target for FUZZTIME (10s)
	@found=$$(grep -rEo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . || true); \
	if [ -z "$$found" ]; then echo 'There is no fuzz target yet.'; fi; \
	while IFS=: read -r file name; do \
		[ -n "$$file" ] || continue; \
		echo "$$(dirname "$$file") $${name#func }"; \
		$(GO) test -run='^$$' -fuzz="^$${name#func }$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")" </dev/null; \
	done <<<"$$found"

bench: ## compare with peers and floors on this machine (ARGS="…" for the benchmark program)
	@[ -f benchmarks/go.mod ] || { echo 'There is no benchmarks/ yet.' >&2; exit 1; }
	@$(SERVICES) && cd benchmarks && $(GO) run . $(ARGS)

cover: ## coverage of all packages by all tests; coverage.html to look at
	@$(SERVICES) && $(GO) test -count=1 -coverpkg=./... -coverprofile=coverage.out ./... | grep -v 'no test files'
	@$(GO) tool cover -html=coverage.out -o coverage.html
	@$(GO) tool cover -func=coverage.out | tail -n 1

lint: ## golangci-lint with .golangci.yml, all modules
	$(TOOL) golangci-lint run
	@for dir in benchmarks examples telemetry dashboard/browsertest; do \
		if [ -f $$dir/go.mod ]; then echo "lint $$dir"; (cd $$dir && $(TOOL) golangci-lint run); fi; \
	done

docs: ## run the examples, compare the README with them, list exported names without a comment
	$(GO) test -count=1 -run 'Example|Readme|Guides|Comment' ./...
	@echo 'To read the documentation in a browser: go doc -http'

# tools/go.mod is left out of "go mod tidy": it would fetch the tests of every linter.
verify: formatted ## nothing is left to generate, format or tidy
	@for mod in $$(git ls-files --cached --others --exclude-standard -- 'go.mod' '*/go.mod'); do \
		if [ -f "$$mod" ] && [ "$$mod" != tools/go.mod ]; then $(GO) -C "$$(dirname "$$mod")" mod tidy -diff; fi; \
	done
	@state() { git ls-files -z --cached --others --exclude-standard | xargs -0 sha256sum 2>/dev/null | sort -k 2 || true; }; \
	before=$$(state); $(GO) generate ./...; \
	if ! changed=$$(diff <(echo "$$before") <(state)); then \
		printf 'Generated files were out of date and are renewed now; look at them and commit them:\n%s\n' "$$changed" >&2; exit 1; \
	fi

ci: ## what CI runs, nothing else
	@scripts/services.sh up
	@TIMEFORMAT='ci: verify took %0Rs'; time $(MAKE) verify
	@TIMEFORMAT='ci: lint took %0Rs'; time $(MAKE) lint
	@$(MAKE) test
