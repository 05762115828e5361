#!/bin/bash
# Starts MySQL as process 1, so that a kill of the container is a kill of the server.
# The arguments are options of mysqld; MYSQL_ROOT_PASSWORD is root's password from every host.
set -euo pipefail

readonly data=/var/lib/mysql
readonly seed=/var/lib/mysql-seed
readonly first_sql=/run/mysqld/first-start.sql

main() {
    install -d -o mysql -g mysql "$data" /run/mysqld
    # Left by a killed server; its process number, 1, is ours now and looks alive.
    rm -f /run/mysqld/*.lock /run/mysqld/*.pid

    local options=()
    if [[ ! -e $data/mysql.ibd ]]; then
        # How names are compared is decided when the data is made; the seed was made with the usual way.
        if [[ "$*" == *lower-case-table-names* ]]; then
            mysqld --initialize-insecure "$@"
        else
            cp -a "$seed/." "$data/"
        fi
        write_first_sql
        options+=("--init-file=$first_sql")
    fi
    exec mysqld "${options[@]}" "$@"
}

# The server runs this before it accepts connections, so nobody meets it without the password.
# Outside the binary log: a new server has executed no GTID, whatever its role will be.
write_first_sql() {
    local password=${MYSQL_ROOT_PASSWORD:?set MYSQL_ROOT_PASSWORD}
    password=${password//\\/\\\\}
    password=${password//\'/\'\'}
    install -m 0600 -o mysql -g mysql /dev/null "$first_sql"
    cat >"$first_sql" <<SQL
SET sql_log_bin = 0;
ALTER USER 'root'@'localhost' IDENTIFIED BY '$password';
CREATE USER 'root'@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
SQL
}

main "$@"
