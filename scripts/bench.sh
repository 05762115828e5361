#!/usr/bin/env bash
# Ratios within one run: the online change beside the database's own blocking way on a copy of the table.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --quiet -p replank
cargo bench --quiet -p replank-integration-tests --bench sqlite

scripts/docker-engine.sh start
environment=$(scripts/docker-engine.sh env)
eval "$environment"
scripts/server-images.sh
# As durable as a server that a company lives on; the settings for all contenders.
container=$(docker run --detach --publish 127.0.0.1::3306 --env MYSQL_ROOT_PASSWORD=replank replank-test/mysql:9.7 \
  --server-id=1 --log-bin=binlog --gtid-mode=ON --enforce-gtid-consistency=ON --sync-binlog=1 \
  --innodb-flush-log-at-trx-commit=1 --innodb-buffer-pool-size=1G --innodb-redo-log-capacity=2G)
trap 'docker rm --force --volumes "$container" >/dev/null' EXIT
port=$(docker port "$container" 3306/tcp | head --lines=1 | cut --delimiter=: --fields=2)
until docker logs "$container" 2>&1 | grep --quiet "port: 3306  "; do sleep 1; done
REPLANK_BENCH_MYSQL=mysql://root:replank@127.0.0.1:$port \
  cargo bench --quiet -p replank-integration-tests --bench mysql
