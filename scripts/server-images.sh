#!/usr/bin/env bash
# The images of the test servers: pulled where that works, else built out of Debian's packages.
#
#   scripts/server-images.sh [--build] [NAME…]
#
# NAME is a row of integration-tests/servers.toml (all rows by default). --build skips the attempt
# to pull. Needs an engine (scripts/docker-engine.sh) and, to build, root for debootstrap.
#
# A built image is tagged by a hash of everything it is made from, so that a second run does nothing;
# the tag without the hash, which servers.toml names, is the one built or found last.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly images=$root/integration-tests/images
readonly pull_seconds=300
source "$root/scripts/server-rows.sh"

main() {
    local may_pull=yes name names
    if [[ ${1-} == --build ]]; then
        may_pull=no
        shift
    fi
    use_engine
    # Two runs at once would only do the same work twice.
    exec 9<"$images"
    flock 9
    mapfile -t names < <(if (($#)); then printf '%s\n' "$@"; else row_names; fi)
    for name in "${names[@]}"; do
        provide "$name" "$may_pull"
    done
}

use_engine() {
    local environment
    environment=$("$root/scripts/docker-engine.sh" env)
    eval "$environment"
}

provide() {
    local name=$1 may_pull=$2 official image
    official=$(row_field "$name" official)
    image=$(row_field "$name" image)
    [[ -n $image ]] || die "$servers has no row $name"
    if [[ $may_pull == yes ]] && is_or_can_be_here "$official"; then
        say "$name: $official"
    else
        build_server "$name" "$image"
    fi
}

is_or_can_be_here() {
    [[ -n $1 ]] || return 1
    image_exists "$1" || timeout "$pull_seconds" docker pull --quiet "$1" >/dev/null 2>&1
}

build_server() {
    local name=$1 image=$2 folder suite newer series base exact
    folder=$images/$(row_field "$name" folder)
    suite=$(row_field "$name" suite)
    newer=$(row_field "$name" newer)
    series=$(row_field "$name" expected)
    base=replank-test/debian:$suite-$(base_hash "$suite")
    exact=$image-$(server_hash "$folder" "$base" "$newer" "$series")
    if ! image_exists "$exact"; then
        image_exists "$base" || build_base "$suite" "$base"
        docker tag "$base" "replank-test/debian:$suite"
        local authorities=()
        # Only what is fetched over TLS needs them, and says so.
        if grep --quiet '^ARG AUTHORITIES' "$folder/Dockerfile"; then
            authorities=(--build-arg "AUTHORITIES=$(own_authorities)")
        fi
        # --network: the mirror may only be reachable by this machine's own routes and names.
        timed "built $exact" docker build --quiet --force-rm --network=host \
            --build-arg "SUITE=$suite" ${newer:+--build-arg "NEWER=$newer"} --build-arg "SERIES=$series" \
            "${authorities[@]}" --tag "$exact" "$folder"
    fi
    docker tag "$exact" "$image"
    remove_older "$image" "$exact"
    say "$name: $exact"
}

# Images of earlier inputs; one that a container still uses stays until the next run.
remove_older() {
    local old
    docker image ls --filter "reference=$1-*" --format '{{.Repository}}:{{.Tag}}' |
        while read -r old; do
            [[ $old == "$2" ]] || docker image rm "$old" >/dev/null 2>&1 || true
        done
}

# Debian's smallest system of one suite, with the package mirror that this machine uses.
build_base() {
    timed "built $2" make_base "$1" "$2"
}

make_base() {
    local suite=$1 tag=$2
    [[ $EUID -eq 0 ]] || die "debootstrap needs root"
    command -v debootstrap >/dev/null || install_debootstrap
    work=$(mktemp -d /var/tmp/replank-base.XXXXXX)
    trap remove_work EXIT
    debootstrap --variant=minbase "$suite" "$work/root" "$(mirror)" >"$work/log" 2>&1 ||
        { tail -n 30 "$work/log" >&2 && die "debootstrap $suite failed"; }
    apt_settings >"$work/root/etc/apt/apt.conf.d/90machine"
    tar -C "$work/root" --create --exclude='./var/cache/apt/archives/*.deb' . |
        docker import --change 'ENV DEBIAN_FRONTEND=noninteractive' - "$tag"
    remove_work
    trap - EXIT
}

# An interrupted debootstrap leaves these mounted.
remove_work() {
    umount "$work/root/proc" "$work/root/sys" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}

install_debootstrap() {
    apt_get install debootstrap || { apt_get update && apt_get install debootstrap; } || die "cannot install debootstrap"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends "$@" >&2
}

# Where this machine gets Debian's packages from.
mirror() {
    local uri
    # shellcheck disable=SC2016 # apt-get fills in $(REPO_URI), not the shell.
    uri=$(apt-get indextargets 'Identifier: Packages' 'Origin: Debian' 'Component: main' --format '$(REPO_URI)' |
        grep -v -e security -m 1) || uri=http://deb.debian.org/debian
    echo "$uri"
}

# A frozen mirror's Release file is past its date, and a proxy is needed inside as well.
apt_settings() {
    echo 'Acquire::Check-Valid-Until "false";'
    apt-config dump | grep -E '^Acquire::(Check-Date|https?::Proxy)' || true
}

# Certificates that this machine trusts besides Debian's own: those of a proxy, for example.
own_authorities() {
    cat /usr/local/share/ca-certificates/*.crt 2>/dev/null || true
}

# How a base is made counts as well as its suite.
base_hash() {
    { echo "$1" && declare -f make_base apt_settings; } | short_hash
}

server_hash() {
    local folder=$1 base=$2 newer=$3 series=$4
    (
        cd "$folder"
        echo "$base${newer:+ $newer} $series"
        find . -type f -printf '%m %p\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | short_hash
}

short_hash() {
    sha256sum | cut -c 1-12
}

timed() {
    local what=$1 from=$SECONDS
    shift
    "$@" >&2
    say "$what in $((SECONDS - from)) s"
}

say() {
    echo "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

main "$@"
