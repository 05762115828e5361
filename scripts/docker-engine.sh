#!/usr/bin/env bash
# A Docker engine for the tests: the one that already answers here, else one of our own.
#
#   scripts/docker-engine.sh start   find or start an engine
#   scripts/docker-engine.sh env     print `export DOCKER_HOST=…` of the engine that answers
#   scripts/docker-engine.sh stop    stop our own engine; images stay in its folder
#
# Our own engine keeps its socket, data, log and process number in one folder,
# REPLANK_DOCKER_DIR (default /var/tmp/replank-docker), and shares nothing with another one
# but the bridge docker0.
set -euo pipefail

readonly dir=${REPLANK_DOCKER_DIR:-/var/tmp/replank-docker}
readonly host=unix://$dir/docker.sock
readonly pid_file=$dir/dockerd.pid
readonly log_file=$dir/dockerd.log
readonly start_seconds=60
readonly stop_seconds=60

main() {
    case ${1-} in
        start) start ;;
        env) print_env ;;
        stop) stop ;;
        *) die "usage: ${0##*/} start|stop|env" ;;
    esac
}

start() {
    local answering
    if ! answering=$(answering_host); then
        if foreign_host_named; then
            die "DOCKER_HOST=$DOCKER_HOST does not answer; start that engine or unset DOCKER_HOST"
        fi
        launch
        answering=$host
    fi
    if [[ $answering == "$host" ]]; then
        remove_orphans
    fi
    say "docker engine: $answering"
}

launch() {
    prepare_folder
    # Two test runs may come here together; the second one waits and finds the first one's engine.
    exec 9>"$dir/start.lock"
    flock 9
    if ! answers "$host"; then
        install_engine
        start_daemon
        await_daemon
    fi
}

print_env() {
    local answering
    answering=$(answering_host) || die "no docker engine answers; run ${0##*/} start"
    printf 'export DOCKER_HOST=%q\n' "$answering"
}

stop() {
    local pid
    if pid=$(daemon_pid); then
        kill -TERM "$pid"
        await_end "$pid"
        say "docker engine stopped"
    else
        rm -f "$pid_file"
        say "no docker engine of ours runs"
    fi
    # dockerd leaves these mounted, and then the folder cannot be removed.
    umount "$dir/exec/netns/default" "$dir/data" 2>/dev/null || true
}

await_end() {
    local deadline=$((SECONDS + stop_seconds))
    while ((SECONDS < deadline)); do
        [[ -e /proc/$1 ]] || return 0
        sleep 0.2
    done
    fail_with_log "dockerd (process $1) still runs $stop_seconds s after SIGTERM"
}

# The engine that the docker client reaches as it is set up, else our own one.
# A client without an engine is common, so only an answer counts.
answering_host() {
    if answers "${DOCKER_HOST-}"; then
        # Spelt out, because test programs do not read the client's contexts.
        docker context inspect --format '{{.Endpoints.docker.Host}}'
    elif ! foreign_host_named && answers "$host"; then
        echo "$host"
    else
        return 1
    fi
}

# Somebody who names an engine wants that one: do not quietly take another.
foreign_host_named() {
    [[ -n ${DOCKER_HOST-} && $DOCKER_HOST != "$host" ]]
}

# With an empty argument, asks the client's own default.
answers() {
    command -v docker >/dev/null || return 1
    local version
    version=$(DOCKER_HOST=$1 timeout 10 docker info --format '{{.ServerVersion}}' 2>/dev/null) && [[ -n $version ]]
}

prepare_folder() {
    [[ $EUID -eq 0 ]] || die "no docker engine answers, and only root can start one"
    # The longest socket is exec/containerd/containerd.sock.ttrpc; Linux allows 107 characters.
    ((${#dir} <= 70)) || die "REPLANK_DOCKER_DIR is too long for the paths of sockets: $dir"
    [[ $dir == /* ]] || die "REPLANK_DOCKER_DIR is not an absolute path: $dir"
    mkdir -p "$dir"
    # The default lies in a folder that everybody may write to.
    [[ $(stat -c %u "$dir") -eq 0 ]] || die "$dir does not belong to root"
    chmod 0711 "$dir"
}

install_engine() {
    if ! command -v dockerd >/dev/null || ! command -v docker >/dev/null; then
        command -v apt-get >/dev/null || die "dockerd is missing, and so is apt-get to install it"
        say "installing docker.io"
        apt_install docker.io || { apt_get update && apt_install docker.io; } || die "cannot install docker.io"
        # Newer Debian releases have the client in a package of its own.
        command -v docker >/dev/null || apt_install docker-cli || die "cannot install docker-cli"
    fi
}

apt_install() {
    apt_get install -y --no-install-recommends "$@"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >&2 9>&-
}

start_daemon() {
    remove_stale_pids
    # --ip: on the default network, ports are published on the loopback interface only.
    # --userland-proxy: a process that copies every byte took a third of a processor; the kernel does it for nothing.
    # setsid: an interrupt at the terminal ends the tests, not the engine.
    setsid dockerd \
        --host="$host" \
        --data-root="$dir/data" \
        --exec-root="$dir/exec" \
        --pidfile="$pid_file" \
        --ip=127.0.0.1 \
        --userland-proxy=false \
        --shutdown-timeout=5 \
        </dev/null >"$log_file" 2>&1 9>&- &
}

# After a crash or on a restarted machine the numbers in these files may be anyone's, and both
# dockerd and its containerd take a live process for their own.
remove_stale_pids() {
    daemon_pid >/dev/null || rm -f "$pid_file"
    local containerd=$dir/exec/containerd/containerd
    has_argument "$(read_pid "$containerd.pid")" "$containerd.toml" || rm -f "$containerd.pid"
}

await_daemon() {
    local child=$! deadline=$((SECONDS + start_seconds))
    while ((SECONDS < deadline)); do
        if answers "$host"; then
            return
        fi
        kill -0 "$child" 2>/dev/null || fail_with_log "dockerd ended at its start"
        sleep 0.2
    done
    stop || true
    fail_with_log "dockerd did not answer within $start_seconds s"
}

# Containers of test runs that were killed before they could clean up: their label is the process
# number of the run. Only on our own engine, where that number is one of this machine.
remove_orphans() {
    local id owner
    DOCKER_HOST=$host docker ps --all --filter label=replank-test \
        --format '{{.ID}} {{.Label "replank-test"}}' |
        while read -r id owner; do
            [[ -e /proc/$owner ]] || DOCKER_HOST=$host docker rm --force --volumes "$id" >/dev/null
        done
}

# Prints the process number of our daemon; fails when it does not run.
daemon_pid() {
    local pid
    pid=$(read_pid "$pid_file")
    has_argument "$pid" "--pidfile=$pid_file" && echo "$pid"
}

read_pid() {
    [[ ! -r $1 ]] || tr -cd 0-9 <"$1"
}

has_argument() {
    [[ -n $1 && -r /proc/$1/cmdline ]] && tr '\0' '\n' <"/proc/$1/cmdline" | grep -qxF -e "$2"
}

fail_with_log() {
    say "the end of $log_file:"
    tail -n 30 "$log_file" >&2 || true
    die "$1"
}

say() {
    echo "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

main "$@"
