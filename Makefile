# Centram. `make help` lists the targets. What is built once for a machine (llama.cpp) is kept in the user's cache.
SHELL := /bin/bash
BACKEND ?= cpu
TAGS := $(filter-out cpu,$(BACKEND))
GO_TAGS := $(if $(TAGS),-tags $(TAGS))
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT := $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.backend=$(BACKEND)
WEB_SOURCES := $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print 2>/dev/null)

.DEFAULT_GOAL := build
.PHONY: help deps native build cuda metal vulkan web run test lint e2e bench race fuzz clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

deps: ## Install what a fresh Debian or Ubuntu lacks, or say how
	@build/deps.sh

native: ## Build llama.cpp for BACKEND (cpu), once for this machine
	@vendor-cpp/build.sh $(BACKEND)

build: native web ## Build bin/centram for the processor
	go build $(GO_TAGS) -ldflags '$(LDFLAGS)' -o bin/centram ./cmd/centram

cuda: ## Build with CUDA (needs NVIDIA's toolkit)
	@$(MAKE) --no-print-directory build BACKEND=cuda

metal: ## Build with Metal (macOS)
	@$(MAKE) --no-print-directory build BACKEND=metal

vulkan: ## Build with Vulkan
	@$(MAKE) --no-print-directory build BACKEND=vulkan

web: server/web/dist/.built ## Build the web apps into the binary (skipped with a note without npm)

server/web/dist/.built: $(WEB_SOURCES)
	@build/web.sh

run: deps build ## Build and serve on http://127.0.0.1:9740
	bin/centram serve

test: deps ## Everything that has to pass: lint, Go, web, the page in a real browser
	@build/test.sh

lint: native web ## Style and vetting of Go, C++, shell and the web apps
	@build/lint.sh

e2e: ## The page in a real browser, with a daemon of its own
	@build/e2e.sh

bench: ## Measure beside llama-bench and llama-server of the same pin
	@build/bench.sh

race: native ## Go tests under the race detector
	go test -race ./...

fuzz: native ## Every fuzz target for FUZZTIME (20s)
	@build/fuzz.sh $(FUZZTIME)

clean: ## Remove what was built in this checkout (the cache stays)
	rm -rf bin build/native server/web/dist/.built web/dist web/node_modules
