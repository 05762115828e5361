#!/usr/bin/env bash
# Ratios within one run: the online change beside the database's own blocking way, and beside the peers that are here.
#
#   scripts/bench.sh [sqlite] [mysql] [postgres]
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
readonly root
source scripts/server-rows.sh

cargo build --release --quiet -p replank
containers=()
trap '((${#containers[@]})) && docker rm --force --volumes "${containers[@]}" >/dev/null' EXIT

main() {
  (($#)) || set -- sqlite mysql postgres
  local database
  for database in "$@"; do
    "bench_$database"
  done
}

bench_sqlite() {
  cargo bench --quiet -p replank-integration-tests --bench sqlite
}

bench_mysql() {
  use_engine mysql-9.7
  local tools=
  # Percona's tool is a package of Debian's sid; where the server's image was pulled there is no base to put it on.
  if docker image inspect replank-test/debian:sid >/dev/null 2>&1; then
    build_tools percona-toolkit
    tools=$(docker run --detach --network=host replank-test/percona-toolkit)
    containers+=("$tools")
  fi
  start mysql-9.7 3306 --env MYSQL_ROOT_PASSWORD=replank --env MYSQL_HOME=/etc/bench \
    --volume "$PWD/integration-tests/benches/mysql.cnf:/etc/bench/my.cnf:ro" replank-test/mysql:9.7
  measure mysql://root:replank "$tools"
}

bench_postgres() {
  use_engine postgres-18
  local image=replank-test/postgres:18 settings tools=
  # So is pg_repack, half of which lives in the server.
  if docker image inspect "$image" >/dev/null 2>&1; then
    build_tools pg-repack
    image=replank-test/pg-repack
  else
    image=$(row_field postgres-18 official)
  fi
  mapfile -t settings < <(sed 's/^/--/' integration-tests/benches/postgres.conf)
  start postgres-18 5432 --env POSTGRES_PASSWORD=replank "$image" "${settings[@]}"
  if [[ $image == replank-test/pg-repack ]]; then
    tools=$server
    until docker exec --user postgres "$server" psql --quiet --command 'CREATE EXTENSION pg_repack' 2>/dev/null; do sleep 1; done
  fi
  measure postgres://postgres:replank "$tools"
}

use_engine() {
  local environment
  scripts/docker-engine.sh start
  environment=$(scripts/docker-engine.sh env)
  eval "$environment"
  scripts/server-images.sh "$1"
}

build_tools() {
  docker build --quiet --network=host --tag "replank-test/$1" "integration-tests/images/$1" >/dev/null
}

# Starts the server of a row, with arguments of `docker run`; sets `server` and `port`.
start() {
  local row=$1 inside=$2 ready
  shift 2
  ready=$(row_field "$row" ready)
  server=$(docker run --detach --publish "127.0.0.1::$inside" "$@")
  containers+=("$server")
  port=$(docker port "$server" "$inside/tcp" | head --lines=1 | cut --delimiter=: --fields=2)
  until docker logs "$server" 2>&1 | grep --quiet "$ready"; do
    [[ $(docker inspect --format '{{.State.Running}}' "$server") == true ]] || { docker logs --tail 5 "$server" && exit 1; }
    sleep 1
  done
}

measure() {
  local login=$1 tools=$2
  REPLANK_BENCH_SERVER=$login@127.0.0.1:$port \
  REPLANK_BENCH_PROCESS=$(docker inspect --format '{{.State.Pid}}' "$server") \
  REPLANK_BENCH_TOOLS=$tools \
    cargo bench --quiet -p replank-integration-tests --bench online
}

main "$@"
