#!/bin/bash
# Starts PostgreSQL as process 1, so that a kill of the container is a kill of the server.
# The arguments are those of postgres; POSTGRES_PASSWORD is postgres's password from every host. With PRIMARY it is a
# standby of the server there, which has the same password.
set -euo pipefail

readonly data=/var/lib/postgresql/data
readonly seed=/var/lib/postgresql/seed

main() {
    # Left by a killed server; its process number, 1, is ours now and looks alive.
    rm -f "$data/postmaster.pid" /run/postgresql/.s.PGSQL.*
    if [[ ! -e $data/PG_VERSION ]]; then
        if [[ -n ${PRIMARY-} ]]; then
            copy_primary
        else
            cp -a "$seed/." "$data/"
            set_password
        fi
    fi
    exec setpriv --reuid=postgres --regid=postgres --clear-groups -- /usr/local/pgsql/postgres -D "$data" -c listen_addresses='*' "$@"
}

# Before anybody can connect: a single-user server, which takes one statement a line.
set_password() {
    local password=${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}
    password=${password//\'/\'\'}
    as_postgres /usr/local/pgsql/postgres --single -D "$data" postgres >/dev/null \
        <<<"ALTER USER postgres PASSWORD '$password'"
}

copy_primary() {
    PGPASSWORD=$POSTGRES_PASSWORD as_postgres /usr/local/pgsql/pg_basebackup --pgdata="$data" --host="$PRIMARY" \
        --username=postgres --checkpoint=fast --write-recovery-conf
}

as_postgres() {
    setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
}

main "$@"
