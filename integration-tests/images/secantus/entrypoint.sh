#!/bin/bash
# Starts SecantusDB as process 1, so that a kill of the container is a kill of the server.
# The arguments are options of secantusd-py; PORT is where it listens, and what it calls itself in `hello`.
set -euo pipefail

readonly data=/var/lib/secantus

install -d -m 0750 -o secantus -g secantus "$data"
# It looks for a file of settings where it is and at home, which must be places that it can read.
cd "$data"
export HOME=$data
# By default it acknowledges what is still in a buffer of its own. So what it acknowledged has left the process, and
# survives a kill of it. Its --sync-on-commit does more than that, and waits for the disk once a document in a rename:
# seconds for some hundred.
export WIREDTIGER_CONFIG='transaction_sync=(enabled=true,method=none)'
exec setpriv --reuid=secantus --regid=secantus --clear-groups -- /opt/secantus/bin/secantusd-py \
    --host 0.0.0.0 --port "${PORT:-27017}" --storage-path "$data" "$@"
