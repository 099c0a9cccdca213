# `make up` runs the product on this machine, `make test` proves it. Everything else is a part of
# one of the two.

.DEFAULT_GOAL := help
.PHONY: help up down test check nextest doctest soak bench fuzz load latency bootstrap build

# Tools that scripts/bootstrap builds, beside those already on the path.
ifeq ($(shell id -u),0)
export PATH := /opt/coditect/tools/bin:$(PATH)
else
export PATH := $(HOME)/.local/share/coditect/tools/bin:$(PATH)
endif

help:
	@echo "make up      bootstrap, build, start the server, link this machine, import, sync"
	@echo "make down    stop a server that make up left behind"
	@echo "make test    everything that must pass"
	@echo "make check   its quick part: formatting, lints, tidy, dependencies"
	@echo "make soak    kills, set-backs and 10,000 seeds of the simulation (about an hour)"
	@echo "make bench   figures of both programs, with PostgreSQL's own beside them (a quarter of an hour)"
	@echo "make fuzz    random requests, made from openapi.json, against a server (10 minutes)"
	@echo "make load    100 people on one server (10 minutes)"
	@echo "make latency a decision from one machine to the others, and 1,000 idle connections"

up: build
	@scripts/up

down:
	@scripts/down

build:
	@scripts/bootstrap
	cargo build --locked -p coditect -p coditect-server

test:
	@scripts/bootstrap --test
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory nextest
	@$(MAKE) --no-print-directory doctest

check:
	cargo fmt --all --check
	cargo xtask tidy
	cargo xtask generate --check
	cargo fetch --locked --quiet
	cargo deny --log-level error --locked --offline check licenses bans sources
	cargo clippy --locked --quiet --workspace --all-targets -- -D warnings

nextest:
	cargo nextest run --locked --workspace --profile ci

doctest:
	cargo test --locked --quiet --workspace --doc

soak: build
	KILL_ROUNDS=$${KILL_ROUNDS:-210} SET_BACK_ROUNDS=$${SET_BACK_ROUNDS:-72} \
		BACKUP_KILL_ROUNDS=$${BACKUP_KILL_ROUNDS:-200} \
		cargo nextest run --locked --profile soak --test-threads 1 -p coditect-end-to-end \
		-E 'binary(kill) | binary(kill_backup) | binary(kill_joined) | binary(kill_local) | binary(set_back) | binary(copies)'
	FUZZ_MINUTES=$${FUZZ_MINUTES:-60} cargo nextest run --locked --profile soak \
		-p coditect-capture -p coditect-daemon \
		-E 'binary(fuzz) | test(no_damage_of_its_files_makes_it_panic)'
	LONG_LINE_MB=$${LONG_LINE_MB:-1024} cargo nextest run --locked --profile soak \
		-p coditect-daemon -E 'binary(transcripts)'
	SIMULATION_SEEDS=$${SIMULATION_SEEDS:-10000} SCENARIO_SEEDS=$${SCENARIO_SEEDS:-1000} \
		cargo nextest run --locked --profile soak --cargo-profile soak \
		-p coditect-simulation -E 'test(seeds_) | test(scenario_)'

bench:
	@scripts/bootstrap
	cargo xtask bench --json target/bench.json

fuzz: build
	scripts/fuzz-api --minutes $${FUZZ_MINUTES:-10} --seed $${FUZZ_SEED:-1}

load:
	@scripts/bootstrap --test
	scripts/load

# Without debug assertions, because milliseconds are what it is about.
latency:
	@scripts/bootstrap --test
	cargo build --locked --release -p coditect -p coditect-server
	cargo run --locked --release -p coditect-end-to-end --example latency
	cargo run --locked --release -p coditect-end-to-end --example idle_sockets
