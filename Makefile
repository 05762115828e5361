# The commands of this project. Each does its own set-up on a Debian machine with Rust.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

CARGO ?= cargo
export CARGO_TERM_COLOR ?= auto

.PHONY: help demo test quick lint soak bench

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo:  ## no server needed: an online change under live writers, verified and taken back
	@$(CARGO) build --release --quiet -p replank
	target/release/replank demo

test:  ## everything, on real databases
	@scripts/test.sh

quick:  ## build, unit tests, protocol model, simulator (few seeds), SQLite end to end; no servers
	@REPLANK_SIM_SEEDS=200 $(CARGO) test --workspace --quiet -- --skip mysql:: --skip postgres:: --skip mongo::

lint:  ## rustfmt, clippy with warnings denied
	@$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features --quiet -- -D warnings

soak:  ## CASE=simulation|model|kills|roundtrips|faults|server N=…: what CI has no time for
	@scripts/soak.sh "$(CASE)" "$(N)"

bench:  ## ratios within one run, beside the database's own blocking way
	@scripts/bench.sh
