# The targets of this project; `make` alone lists them.

CARGO ?= cargo
NODE_MODULES := tests/interop/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help setup build install demo test dist test-dist package soak soak-durable simulate mutants check lint features semver audit fuzz bench bench-chart bench-sql bench-durable bench-state recipes pictures generated

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

# The purpose of the tools to install: build, bench, test, dist, test-dist, check or all; more than one in quotes.
FOR ?= test

setup: ## Install the missing tools for building and testing; FOR=dist, check, test-dist or all installs more
	@scripts/setup.sh $(FOR)

build: ## Build the program: target/release/pgio
	@scripts/missing.sh build
	$(CARGO) build --release --locked --features cli

install: ## Build the program and install it into ~/.cargo/bin
	@scripts/missing.sh build
	$(CARGO) install --locked --path . --features cli

demo: setup $(NODE_MODULES) ## Run a demo: a private Postgres, pgio serve and a Node server, and an event for the clients of both
	@scripts/demo.sh

# The feature cli includes all others but vendored, which builds OpenSSL from source.
test: setup $(NODE_MODULES) ## Run all tests, against real Postgres servers and the Node packages
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --features cli; \
	else \
		set -x; $(CARGO) test --locked --features cli --lib --bins --tests; \
	fi
	$(CARGO) test --locked --features cli --doc

dist: ## Build the packages of a release into target/dist: .deb, .rpm, tarball, npm, SBOM, SHA256SUMS
	@scripts/missing.sh dist
	@scripts/dist.sh

test-dist: ## Install each package of target/dist in an empty place and run it there; needs root for chroots
	@scripts/missing.sh test-dist
	@scripts/test-dist.sh

package: ## Build the crate from the files of its package only, as a registry gets it
	@scripts/missing.sh build
	$(CARGO) package --locked
	$(CARGO) package --locked --features cli

# The duration, the seed of the faults, and the list of faults (such as reset,silence-10,failover).
DURATION ?= 90s
SEED ?= $(shell date +%s)
FAULTS ?=

soak: $(NODE_MODULES) ## Run a cluster with injected faults, and check its guarantees: DURATION=90s SEED=1 FAULTS=reset,silence-10
	$(CARGO) test --locked --features cli --test soak -- --duration $(DURATION) --seed $(SEED) $(if $(FAULTS),--faults $(FAULTS))

# The number of outages, and the length of the longest in milliseconds.
OUTAGES ?= 10
LONGEST ?= 8000

soak-durable: $(NODE_MODULES) ## Send a numbered durable stream through outages: OUTAGES=10 LONGEST=8000
	DURABLE_OUTAGES=$(OUTAGES) DURABLE_LONGEST_MS=$(LONGEST) $(CARGO) test --locked --features cli --test suite -- \
		--exact durable::stream::a_numbered_durable_stream_arrives_once_and_in_order_through_outages --nocapture

# The number of simulated worlds of `make simulate`, and the seed of the first one.
SEEDS ?= 20000
FIRST ?= 1

simulate: ## Run simulated clusters against the state machine: SEEDS=20000 FIRST=1
	SIMULATION_SEEDS=$(SEEDS) SIMULATION_FIRST=$(FIRST) $(CARGO) test --locked --profile simulation \
		--test simulation -- --exact seeds --nocapture

mutants: ## Break the state machine in many ways (mutation testing), and check that the simulation detects each
	@scripts/mutants.sh

check: ## Check formatting, lints and documentation; names and skips each tool that is not installed
	@scripts/missing.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --features cli -- -D warnings
	$(CARGO) clippy --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --features cli
	@# The lock file of the fuzz targets has to follow the dependencies.
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny --locked check; \
	else echo 'skipped: cargo-deny is not installed; make setup FOR=check installs it'; fi
	@if $(CARGO) audit --version >/dev/null 2>&1; then set -x; $(CARGO) audit; \
	else echo 'skipped: cargo-audit is not installed; make setup FOR=check installs it'; fi
	@scripts/lint.sh

lint: ## Lint scripts, workflows, the container file and the Kubernetes manifests
	@scripts/lint.sh

features: ## Lint every combination of two features with cargo-hack
	$(CARGO) hack --feature-powerset --depth 2 --exclude-features default,vendored clippy --locked --lib --bins -- -D warnings

semver: ## Compare the public API with the last tag
	@scripts/semver.sh

audit: ## Check the dependencies for known vulnerabilities and licences
	$(CARGO) deny --locked check
	$(CARGO) audit

# The number of mutated inputs for each target, and the seed of the first one.
COUNT ?= 1000000

fuzz: ## Run the fuzz targets on mutated inputs of their corpus, with any compiler: COUNT=1000000 SEED=1
	$(CARGO) run --release --locked --manifest-path fuzz/Cargo.toml --bin drive -- $(COUNT) $(SEED)

# The parts to measure, and the number of rounds. Only a complete run with the default rounds writes its results.
PARTS ?=
ROUNDS ?=

bench: $(NODE_MODULES) ## Benchmark pgio beside Node, socketioxide, psql and pgbench, and write docs/benchmarks.md; PARTS='serving latency' ROUNDS=1 only prints
	$(CARGO) bench --locked --features cli --bench peers -- $(PARTS) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(PARTS)$(ROUNDS),,--write)

bench-chart: ## Draw the chart of docs/benchmarks.md again from bench/results.json, without a measurement
	$(CARGO) bench --locked --features cli --profile dev --bench peers -- --draw

bench-sql: ## Measure the time that emitting from SQL adds to a transaction
	$(CARGO) bench --locked --features cli --profile dev --bench sql

bench-durable: ## Measure a durable event beside an inline one, and a replay
	$(CARGO) bench --locked --features cli --profile dev --bench durable

bench-state: ## Measure the time of a notification in the cluster's state machine
	$(CARGO) bench --locked --profile simulation --bench state

recipes: $(NODE_MODULES) ## Run the commands of docs/recipes.md and write their output into it; needs psql, tmux and jq
	@scripts/recipes.sh

pictures: $(NODE_MODULES) ## Take the pictures of the README and its cast from real runs; needs Chromium and tmux
	@scripts/cast.sh
	@scripts/pictures.sh

generated: ## Write completions and manual pages again, from the help of the program
	$(CARGO) build --locked --features cli --bin pgio
	rm -rf man && target/debug/pgio man man
	for shell in bash:pgio.bash elvish:pgio.elv fish:pgio.fish powershell:_pgio.ps1 zsh:_pgio; do \
		mkdir -p completions && target/debug/pgio completions "$${shell%:*}" >"completions/$${shell#*:}" || exit 1; \
	done

# The Socket.IO packages for Node of the tests, at pinned versions.
$(NODE_MODULES): tests/interop/package-lock.json
	@scripts/missing.sh bench
	npm ci --prefix tests/interop --no-audit --no-fund --no-update-notifier --loglevel=error
