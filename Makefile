# What there is to do here; `make` alone says it.

CARGO ?= cargo
NODE_MODULES := tests/interop/node_modules/.package-lock.json

.DEFAULT_GOAL := help
.PHONY: help build install demo test soak soak-durable simulate mutants check audit fuzz bench bench-sql bench-durable bench-state generated dependencies

help: ## Say what there is to do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 13

build: dependencies ## Build the program: target/release/pgio
	$(CARGO) build --release --locked

install: dependencies ## Build it and install it into ~/.cargo/bin
	$(CARGO) install --locked --path .

demo: dependencies $(NODE_MODULES) ## Show it: a private Postgres, pgio serve and a Node server, and an event for the clients of both
	@scripts/demo.sh

test: dependencies $(NODE_MODULES) ## Run all tests, against real Postgres servers and the Node packages
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run --locked --all-features; \
	else \
		set -x; $(CARGO) test --locked --all-features --lib --bins --tests; \
	fi
	$(CARGO) test --locked --all-features --doc

# How long, which choice of faults, and only these faults (such as reset,silence-10,failover).
DURATION ?= 90s
SEED ?= $(shell date +%s)
FAULTS ?=

soak: dependencies $(NODE_MODULES) ## Run a cluster under faults and judge it: DURATION=90s SEED=1 FAULTS=reset,silence-10
	$(CARGO) test --locked --all-features --test soak -- --duration $(DURATION) --seed $(SEED) $(if $(FAULTS),--faults $(FAULTS))

# How many outages, and how long the longest is in milliseconds.
OUTAGES ?= 10
LONGEST ?= 8000

soak-durable: dependencies $(NODE_MODULES) ## Send a numbered durable stream through outages: OUTAGES=10 LONGEST=8000
	DURABLE_OUTAGES=$(OUTAGES) DURABLE_LONGEST_MS=$(LONGEST) $(CARGO) test --locked --all-features --test suite -- \
		--exact durable::stream::a_numbered_durable_stream_arrives_once_and_in_order_through_outages --nocapture

# How many simulated worlds `make simulate` runs, and the first one's seed.
SEEDS ?= 20000
FIRST ?= 1

simulate: ## Run simulated clusters against the state machine: SEEDS=20000 FIRST=1
	SIMULATION_SEEDS=$(SEEDS) SIMULATION_FIRST=$(FIRST) $(CARGO) test --locked --profile simulation --no-default-features \
		--test simulation -- --exact seeds --nocapture

mutants: ## Break the state machine in many ways, and see that the simulation catches each
	@scripts/mutants.sh

check: dependencies ## Formatting, lints and documentation
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings
	$(CARGO) clippy --locked --no-default-features -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --all-features
	@if $(CARGO) deny --version >/dev/null 2>&1; then set -x; $(CARGO) deny --locked check; \
	else echo 'cargo-deny is not installed: make audit installs it and checks the dependencies'; fi
	@if $(CARGO) audit --version >/dev/null 2>&1; then set -x; $(CARGO) audit; \
	else echo 'cargo-audit is not installed: make audit installs it and checks the dependencies'; fi

audit: ## Check the dependencies for known vulnerabilities and licences; installs cargo-deny and cargo-audit if they are missing
	$(CARGO) deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) audit --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-audit
	$(CARGO) deny --locked check
	$(CARGO) audit

# How many mutants each target gets, and the first one's seed.
COUNT ?= 1000000

fuzz: ## Run the fuzz targets on mutants of their corpus, with any compiler: COUNT=1000000 SEED=1
	$(CARGO) run --release --locked --manifest-path fuzz/Cargo.toml --bin drive -- $(COUNT) $(SEED)

bench: dependencies $(NODE_MODULES) ## Measure it beside the Node emitter and psql
	$(CARGO) bench --locked --bench peers

bench-sql: dependencies ## Measure what emitting from SQL adds to a transaction
	$(CARGO) bench --locked --profile dev --bench sql

bench-durable: dependencies ## Measure a durable event beside an inline one, and a replay
	$(CARGO) bench --locked --profile dev --bench durable

bench-state: ## Measure what a notification costs the cluster's state machine
	$(CARGO) bench --locked --profile simulation --no-default-features --bench state

generated: ## Write completions and manual pages anew, from what the program says of itself
	$(CARGO) build --locked --bin pgio
	rm -rf man && target/debug/pgio man man
	for shell in bash:pgio.bash elvish:pgio.elv fish:pgio.fish powershell:_pgio.ps1 zsh:_pgio; do \
		mkdir -p completions && target/debug/pgio completions "$${shell%:*}" >"completions/$${shell#*:}" || exit 1; \
	done

dependencies:
	@scripts/install-missing.sh

# What the tests talk to: the Socket.IO packages for Node, at pinned versions.
$(NODE_MODULES): tests/interop/package-lock.json | dependencies
	npm ci --prefix tests/interop --no-audit --no-fund --no-update-notifier --loglevel=error
