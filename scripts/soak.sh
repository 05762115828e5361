#!/usr/bin/env bash
# What CI has no time for, by name: CASE says which, N how often or how long. Write the result, with the
# commit, into docs/reliability.md.
set -euo pipefail
cd "$(dirname "$0")/.."
case=${1:-}
number=${2:-}
commit=$(git rev-parse --short HEAD)

case "$case" in
  simulation)
    # N seeds of the deterministic simulator.
    REPLANK_SIM_SEEDS=${number:-50000} cargo test --release -p replank-core --features testkit --lib -- simulat --nocapture
    ;;
  model)
    # The protocol model with larger bounds.
    REPLANK_MODEL_BOUNDS=large cargo test --release -p replank-core --test protocol_model -- model --nocapture
    ;;
  kills)
    # N rounds of every kill test on real databases, each round with other seeds.
    for round in $(seq 1 "${number:-20}"); do
      echo "== round $round"
      REPLANK_SEED=$RANDOM$RANDOM cargo test -p replank-integration-tests --test all -- kill oracle --nocapture
    done
    ;;
  roundtrips)
    # Every message to a server goes wrong once, in each way: some hours. N names ways, as CutBefore,Reset.
    REPLANK_ROUND_TRIPS=${number:-all} cargo test -p replank-integration-tests --test all -- every_round_trip_may_fail_once --nocapture
    ;;
  faults)
    # What `make test` tries on one version of a server, on another: N is its row of servers.toml.
    case ${number:?N=postgres-15, say} in
      postgres-*) names=(postgres::{server_kills,round_trips,repack,rebuild_kills,carried,keeping,doctor,cuts,ended,partitioned_swap,standby,holders,known_failures}::) ;;
      secantus-*) names=(mongo::{kills,fences,takeover,server_kills}::) ;;
      *) names=(mysql::{kills,server_kills,cuts,round_trips}:: killed_at_every_step_of_moving swap_of_two_sessions_survives) ;;
    esac
    # SecantusDB does one thing at a time.
    case $number in secantus-*) threads=1 ;; *) threads=2 ;; esac
    REPLANK_TEST_SERVER=$number RUST_TEST_THREADS=$threads cargo test -p replank-integration-tests --test all -- "${names[@]}"
    ;;
  server)
    # Everything on a version of PostgreSQL of which `make test` tries a part: N is its row of servers.toml.
    REPLANK_TEST_SERVER=${number:-postgres-19} RUST_TEST_THREADS=4 cargo test -p replank-integration-tests --test all -- postgres::
    ;;
  *)
    echo "usage: make soak CASE=simulation|model|kills|roundtrips|faults|server N=…" >&2
    exit 2
    ;;
esac
echo "soak $case N=${number:-default}: passed at commit $commit"
