#!/usr/bin/env bash
# Everything that is tested, layer by layer, with the time of each. Any failure fails the run.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
readonly root
source scripts/server-rows.sh

started=$SECONDS

# The images are built while cargo compiles. Whatever happens, the containers of this run go.
scripts/docker-engine.sh start
environment=$(scripts/docker-engine.sh env)
eval "$environment"
export REPLANK_TEST_LABEL=replank-run=$$
clean_up() {
  rm --force "${images_log:-}" "${row_log:-}"
  docker ps --all --quiet --filter "label=$REPLANK_TEST_LABEL" | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
}
trap clean_up EXIT
images_log=$(mktemp)
row_log=$(mktemp)
scripts/server-images.sh >"$images_log" 2>&1 &
images=$!
wait_for_images() {
  if ! wait "$images"; then
    cat "$images_log" >&2
    echo "the images of the test servers could not be built" >&2
    return 1
  fi
}

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

# One selection of packages everywhere, or cargo builds the dependencies once more for each.
layer "build" build
layer "unit tests, simulation" cargo test --workspace --lib --bins
layer "protocol model" cargo test --workspace --test protocol_model
layer "driver tests: SQLite" cargo test --workspace --test sqlite
layer "end to end: SQLite, kills, bad input, documents" cargo test --workspace --test all -- --skip mysql:: --skip postgres:: --skip mongo::
layer "images of the test servers" wait_for_images
# A row of servers.toml: the tests of its driver. What only one of two products has is not run on the other.
on_server() {
  local server=$1 driver threads=2
  shift
  driver=$(row_field "$server" kind)
  # Most of the time its tests wait for something; MySQL's keep two cores busy.
  if [ "$driver" = postgres ]; then threads=4; fi
  # SecantusDB does one thing at a time, and what waits for it counts as lag.
  if [ "$driver" = mongo ]; then threads=1; fi
  RUST_TEST_THREADS=$threads REPLANK_TEST_SERVER=$server timeout 1500 cargo test --workspace --test all -- "$driver::" "$@" | tee "$row_log"
  scripts/record-server.sh "$server" "$(sed -n 's/^test result: ok. \([0-9]*\) passed.*/\1/p' "$row_log")"
}
# What kills the server and strikes every message is tried on the newest one, what takes longest on the newest and the
# oldest, and what a version may do otherwise on each: `make soak CASE=faults` has the others.
layer "end to end: PostgreSQL 18" on_server postgres-18
# A release candidate: what it alone has, the contract, and there and back under load; the rest is `make soak CASE=server`.
# One by one: a repack waits for whoever writes on the server, and its slots are the whole server's.
on_19() {
  RUST_TEST_THREADS=1 REPLANK_TEST_SERVER=postgres-19 cargo test --workspace --test all -- postgres::repack:: \
    on_postgres_every_sentence_of_the_contract_holds on_postgres_a_retype_and_its_revert_under_load_lose_nothing
}
layer "end to end: PostgreSQL 19, a part" on_19
layer "end to end: PostgreSQL 15" on_server postgres-15 --skip postgres::server_kills:: --skip postgres::round_trips:: \
  --skip postgres::repack::
layer "end to end: PostgreSQL 17" on_server postgres-17 --skip postgres::server_kills:: --skip postgres::round_trips:: \
  --skip postgres::repack:: --skip postgres::rebuild_kills:: --skip postgres::carried:: --skip postgres::keeping:: --skip postgres::doctor:: \
  --skip postgres::cuts:: --skip postgres::ended:: --skip postgres::partitioned_swap:: --skip postgres::standby:: --skip postgres::holders:: \
  --skip postgres::known_failures::
layer "end to end: MySQL 9.7" on_server mysql-9.7 --skip mysql::mariadb::
layer "end to end: MariaDB 11.8" on_server mariadb-11.8
layer "end to end: MariaDB 10.11" on_server mariadb-10.11 --skip killed_at_every_step_of_moving \
  --skip swap_of_two_sessions_survives --skip mysql::kills:: --skip mysql::server_kills:: --skip mysql::cuts:: --skip mysql::round_trips::
# Each step of a takeover takes two runs and a fence's time. Kills under load meet what this server loses by itself (docs/mongodb.md).
# Large documents have stopped it once for minutes. `make soak CASE=faults N=secantus-0.7` has them all.
layer "end to end: MongoDB (SecantusDB)" on_server secantus-0.7 --skip on_mongo_killed_at_each_step_of_a_takeover --skip mongo::kills::on_mongo_killed --skip on_mongo_a_batch_of_large_documents
echo "== all: $((SECONDS - started)) s"
