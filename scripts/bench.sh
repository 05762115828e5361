#!/usr/bin/env bash
# Ratios within one run: the online change beside the database's own blocking way, and beside the peers that are here.
#
#   scripts/bench.sh [mysql]
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet -p replank
[[ ${1-} == mysql ]] || cargo bench --quiet -p replank-integration-tests --bench sqlite

scripts/docker-engine.sh start
environment=$(scripts/docker-engine.sh env)
eval "$environment"
scripts/server-images.sh mysql-9.7
containers=()
trap 'docker rm --force --volumes "${containers[@]}" >/dev/null' EXIT
server=$(docker run --detach --publish 127.0.0.1::3306 --env MYSQL_ROOT_PASSWORD=replank \
  --volume "$PWD/integration-tests/benches/mysql.cnf:/etc/bench/my.cnf:ro" --env MYSQL_HOME=/etc/bench \
  replank-test/mysql:9.7)
containers+=("$server")
port=$(docker port "$server" 3306/tcp | head --lines=1 | cut --delimiter=: --fields=2)
until docker logs "$server" 2>&1 | grep --quiet "port: 3306  "; do
  [[ $(docker inspect --format '{{.State.Running}}' "$server") == true ]] || { docker logs --tail 5 "$server" && exit 1; }
  sleep 1
done

# Percona's tool is a package of Debian's sid; where the server's image was pulled there is no base to put it on.
percona=
if docker image inspect replank-test/debian:sid >/dev/null 2>&1; then
  docker build --quiet --network=host --tag replank-test/percona-toolkit integration-tests/images/percona-toolkit >/dev/null
  percona=$(docker run --detach --network=host replank-test/percona-toolkit)
  containers+=("$percona")
fi

REPLANK_BENCH_MYSQL=mysql://root:replank@127.0.0.1:$port \
REPLANK_BENCH_PROCESS=$(docker inspect --format '{{.State.Pid}}' "$server") \
REPLANK_BENCH_PERCONA=$percona \
  cargo bench --quiet -p replank-integration-tests --bench mysql
