#!/usr/bin/env bash
# Runs docs/docker.md, command by command, against a Docker engine of its own, and looks at what the document does not show.
#
#   tools/test-docker.sh            skips, loudly, where no engine can be started
#   DOCKER=required tools/test-docker.sh
#
# Nothing is pulled: base images are put together from Debian's packages. The engine runs in namespaces of its own for processes, mounts and
# the network, so it disturbs nothing on this machine, finds all ports free, and is gone with the test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# What the binary is linked with has to be in the image: this machine's own suite has it.
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
# Has the Compose and the Prometheus that are tested with.
tools_suite=trixie
binary=${RWASM_BINARY:-${CARGO_TARGET_DIR:-$root/target}/debug/rwasm}

say() { printf '== %s\n' "$*"; }

skip() {
    printf '\n################################################################\n'
    printf '##  SKIPPED: the Docker test did not run.\n##  %s\n' "$*"
    printf '################################################################\n\n'
    [ "${DOCKER:-}" != required ]
    exit
}

# --- outside: packages, images, and then in

prepare() {
    [ "$(id -u)" = 0 ] || skip "an engine of its own needs root"
    [ -x "$binary" ] || { echo "$binary is missing: cargo build"; exit 1; }
    export PATH=$PATH:/usr/sbin:/sbin
    for tool in dockerd docker iptables mmdebstrap ip curl strip; do
        command -v $tool >/dev/null || { install; break; }
    done
    unshare --net --mount --pid --fork true 2>/dev/null || skip "the kernel makes no namespaces here"

    work=$(mktemp -d /var/tmp/rwasm-docker-XXXXXX)
    trap 'rm -rf "$work" "$root/docker/rwasm"' EXIT
    say "putting base images together from Debian's packages"
    bootstrap "$suite" base libc6,libgcc-s1 && bootstrap "$suite" builder libc6,busybox-static &&
        bootstrap "$tools_suite" tools prometheus,docker-compose || skip "Debian's packages cannot be had"
    chroot "$work/builder" /bin/busybox --install -s /bin
    mkdir -p "$work/tools/prometheus" && chown 65534:65534 "$work/tools/prometheus"
    strip --strip-debug -o docker/rwasm "$binary"
    # All that runs in there is gone when this ends, however it ends.
    unshare --net --mount --pid --fork --kill-child --mount-proc "$0" --inside "$work" "$binary"
}

install() {
    command -v apt-get >/dev/null || skip "dockerd and mmdebstrap are missing, and there is no apt-get"
    say "installing an engine from Debian's packages"
    local packages=(docker.io iptables mmdebstrap iproute2 curl binutils) policy=/usr/sbin/policy-rc.d
    apt-get update -qq >/dev/null 2>&1 || true
    # The client is a package of its own by now.
    apt-cache show docker-cli >/dev/null 2>&1 && packages+=(docker-cli)
    # The machine's own engine is not to start because a test was run.
    [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy; }
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null 2>&1 || packages=()
    grep -q '^exit 101$' $policy && rm -f $policy
    [ ${#packages[@]} -gt 0 ] || skip "Debian's packages cannot be installed"
}

# bootstrap SUITE NAME PACKAGES: their files, unpacked below the work directory.
bootstrap() {
    mmdebstrap --quiet --mode=root --variant=extract --include="$3" "$1" "$work/$2" >"$work/$2.log" 2>&1
}

# --- inside: the engine, the document, and the rest

inside() {
    work=$1
    export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/client
    export PATH=$work/bin:$PATH
    mkdir -p "$work/bin" "$DOCKER_CONFIG/cli-plugins" "$work/home"
    ln -s "$2" "$work/bin/rwasm"
    cp "$work/tools/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
    ip link set lo up
    # What the document leaves in /tmp is its own.
    mount -t tmpfs tmpfs /tmp

    say "starting an engine"
    dockerd --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/docker.pid" --host "$DOCKER_HOST" \
        >"$work/dockerd.log" 2>&1 &
    local look
    for look in $(seq 100); do
        docker version >/dev/null 2>&1 && break
        kill -0 $! 2>/dev/null || break
        sleep 0.2
    done
    docker version >/dev/null 2>&1 || { tail -5 "$work/dockerd.log"; skip "the engine does not start here; its last words are above"; }
    say "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short), cgroup $(docker info --format '{{.CgroupVersion}}')"
    trap 'docker ps -aq | xargs -r docker rm -fv >/dev/null 2>&1' EXIT

    tar -C "$work/base" -c . | docker import - test/base >/dev/null
    tar -C "$work/builder" -c . | docker import - test/builder >/dev/null
    tar -C "$work/tools" -c --exclude ./usr/share --exclude ./usr/libexec --exclude ./usr/bin/promtool --exclude ./var . |
        docker import -c 'USER 65534:65534' -c 'ENTRYPOINT ["/usr/bin/prometheus"]' - prom/prometheus:debian >/dev/null

    # What stands in for what would be pulled. Grafana is in no package; what it would ask is asked by check_dashboards.
    export RWASM_BASE=test/base RWASM_BUILDER=test/builder PROMETHEUS_VERSION=debian
    printf 'services:\n  grafana:\n    profiles: [grafana]\n' >"$work/no-grafana.yaml"
    export COMPOSE_FILE=$root/docker/compose.yaml:$work/no-grafana.yaml
    export HOME=$work/home RWASM_RUNTIME_DIR=$work/home/run RWASM_STATE_DIR=$work/home/state RWASM_CACHE_DIR=$work/home/cache
    [ -e target/guests/hello.wasm ] || { echo "the guests are missing: make guests"; exit 1; }

    python3 tools/walk.py docs/docker.md --checks tools/docker-checks.sh
    say "not run here: Grafana itself, which no package has; every query of its dashboards was put to Prometheus"
    say "all is well: every command of docs/docker.md, and the checks between them"
}

case ${1:-} in
    --inside) inside "$2" "$3" ;;
    *) prepare ;;
esac
