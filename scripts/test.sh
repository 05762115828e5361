#!/usr/bin/env bash
# Everything that is tested, layer by layer, with the time of each. Any failure fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."

started=$SECONDS
layer() {
  local name=$1
  shift
  local at=$SECONDS
  echo "== $name"
  "$@"
  echo "== $name: $((SECONDS - at)) s"
}

build() {
  cargo build --workspace --all-targets --quiet
  export REPLANK_TEST_BINARY=${CARGO_TARGET_DIR:-$PWD/target}/debug/replank
}

layer "build" build
layer "core: unit, model, simulation" cargo test -p replank-core --features testkit
layer "drivers and command line: unit" cargo test -p replank-driver-sqlite -p replank
layer "end to end: SQLite, kills, bad input, documents" cargo test -p replank-integration-tests
echo "== all: $((SECONDS - started)) s"
