#!/usr/bin/env bash
# Writes into docs/servers.md that all tests of a row of integration-tests/servers.toml passed: SERVER COUNT.
# The version is asked of the image; a `+` after the commit says that files were changed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
source "$root/scripts/server-rows.sh"
cd "$root"
server=$1
count=$2
page=docs/servers.md

[[ $count =~ ^[1-9][0-9]*$ ]] || { echo "no test of $server was counted: \`$count\`" >&2; exit 1; }
# As the tests choose it: the official image where it is here.
image=$(row_field "$server" official)
image_exists "$image" || image=$(row_field "$server" image)
case $(row_field "$server" kind) in
  mysql) ask='mysqld --version || mariadbd --version' word=Ver ;;
  # The official image has it on the PATH, ours where Debian puts it.
  postgres) ask='PATH=$PATH:/usr/local/pgsql postgres --version' word='(PostgreSQL)' ;;
  mongo) ask='/opt/secantus/bin/pip show SecantusDB' word=Version: ;;
esac
version=$(docker run --rm --entrypoint sh "$image" -c "$ask" 2>/dev/null | sed -n "s/.*$word \([0-9][0-9.]*\(\(b\|beta\|rc\)[0-9]*\)\?\).*/\1/p")
[[ -n $version ]] || { echo "the version of $image could not be read" >&2; exit 1; }
# A tree without its history can be tested as well.
if commit=$(git rev-parse --short HEAD 2>/dev/null); then
  git diff --quiet HEAD -- . ":!$page" || commit=$commit+
else
  commit=unknown
fi
row="| $server | $version | $count | $(date --utc +%F) | $commit |"

if grep --quiet "^| $server |" "$page"; then
  sed --in-place "s#^| $server |.*#$row#" "$page"
else
  echo "$row" >>"$page"
fi
