#!/usr/bin/env bash
# Ratios within one run: the online change beside the database's own blocking way on a copy of the table.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet -p replank
cargo bench --quiet -p replank-integration-tests --bench sqlite
