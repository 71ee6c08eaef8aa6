# Every target says what it does and takes seconds when nothing changed. `make help` lists them.

CARGO ?= cargo
# Where cargo builds. The scripts below look there too.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
# Where the guests are put, for the tests and the demo.
RWASM_GUESTS ?= $(CURDIR)/target/guests
export RWASM_GUESTS

# How many seeds `make sim` runs.
SEEDS ?= 20000

say = @printf '== %s\n' "$(1)"

.DEFAULT_GOAL := help
.PHONY: help setup guests build demo test test-guests test-ui test-docker ui image lint sim bench install clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install what building needs and is missing
	$(call say,checking the tools)
	@tools/setup.sh

guests: setup ## Build the example guests and the hostile ones
	$(call say,building the guests)
	@tools/build-guests.sh

build: setup ## Build rwasm, optimised
	$(call say,building rwasm (once 10 to 15 minutes on two cores, then seconds))
	@$(CARGO) build --release --locked

demo: build guests ## Sum up 336,776 flights on a cluster of three processes
	$(call say,running the demo)
	@tools/demo.sh

test: setup guests ## Run all tests
	$(call say,running the tests)
	@tools/fetch-flights.sh >/dev/null
	@$(CARGO) test --workspace --locked --quiet

test-guests: setup ## Check the guests' side: the SDK, the examples, the template
	$(call say,checking the guests' side)
	@tools/check-guests.sh

test-ui: setup guests ## Test the dashboard: its pages in a browser, its API by the document
	$(call say,building rwasm for tests)
	@$(CARGO) build --locked --quiet
	$(call say,testing the dashboard)
	@tools/test-ui.sh

test-docker: setup guests ## Run docs/docker.md in a Docker engine of its own; skips where none can be started
	$(call say,building rwasm for tests)
	@$(CARGO) build --locked --quiet
	$(call say,testing in Docker)
	@tools/test-docker.sh

ui: ## Build the dashboard's pages, which are committed
	$(call say,building the pages)
	@tools/build-ui.sh

image: build ## Build the Docker image, with the program that is built here
	$(call say,building the image)
	@install -m 755 "$(CARGO_TARGET_DIR)/release/rwasm" docker/rwasm
	@docker build --tag rwasm --file docker/Dockerfile .; status=$$?; rm -f docker/rwasm; exit $$status

lint: setup ## Check format, lints and documentation
	$(call say,format)
	@$(CARGO) fmt --all --check
	$(call say,clippy)
	@$(CARGO) clippy --workspace --all-targets --locked --quiet -- -D warnings
	$(call say,documentation)
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

sim: ## Run the scheduler's simulator over many seeds: make sim SEEDS=100000
	$(call say,simulating $(SEEDS) seeds)
	@SEEDS=$(SEEDS) $(CARGO) test --release --locked --quiet -p rwasm-sim whatever_happens -- --nocapture

bench: build ## Measure what a task costs, layer by layer
	$(call say,measuring)
	@"$(CARGO_TARGET_DIR)/release/rwasm" bench

install: build ## Install rwasm where cargo installs programs
	$(call say,installing)
	@$(CARGO) install --locked --path . --quiet

clean: ## Remove what was built
	$(call say,removing what was built)
	@$(CARGO) clean --quiet
	@rm -rf "$(RWASM_GUESTS)"
