#!/usr/bin/env bash
# Writes into docs/servers.md that all tests of a row of integration-tests/servers.toml passed: SERVER COUNT.
# The version is asked of the image; a `+` after the commit says that files were changed.
set -euo pipefail
cd "$(dirname "$0")/.."
server=$1
count=$2
page=docs/servers.md

[[ $count =~ ^[1-9][0-9]*$ ]] || { echo "no test of $server was counted: \`$count\`" >&2; exit 1; }
# As the tests choose it: the official image where it is here.
field() {
  awk -v row="name = \"$server\"" -v field="$1" \
    '$0 == row { found = 1 } found && $1 == field { gsub(/"/, ""); print $3; exit }' integration-tests/servers.toml
}
image=$(field official)
docker image inspect "$image" >/dev/null 2>&1 || image=$(field image)
version=$(docker run --rm --entrypoint sh "$image" -c 'mysqld --version || mariadbd --version' 2>/dev/null \
  | sed -n 's/.*Ver \([0-9][0-9.]*\).*/\1/p')
[[ -n $version ]] || { echo "the version of $image could not be read" >&2; exit 1; }
commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- . ":!$page" || commit=$commit+
row="| $server | $version | $count | $(date --utc +%F) | $commit |"

if grep --quiet "^| $server |" "$page"; then
  sed --in-place "s#^| $server |.*#$row#" "$page"
else
  echo "$row" >>"$page"
fi
