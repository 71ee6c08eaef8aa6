#!/usr/bin/env bash
# Tests the dashboard from outside, on a cluster of its own: the pages in a real browser, and the API by its OpenAPI document.
#
# usage: tools/test-ui.sh
#
# RWASM is the program to use, target/debug/rwasm by default; RWASM_GUESTS is where the guests are. Pictures of the pages are kept in
# target/ui. What cannot be installed here is skipped, loudly; with RWASM_TEST_UI=required that is an error.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly target="${CARGO_TARGET_DIR:-$root/target}"
readonly RWASM="${RWASM:-$target/debug/rwasm}"
readonly GUESTS="${RWASM_GUESTS:-$root/target/guests}"
readonly PICTURES="$target/ui"

say() { printf '== %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
skip() {
    printf '\n**********\n** SKIPPED: %s\n** The dashboard was NOT tested %s.\n**********\n\n' "$1" "$2" >&2
    [ "${RWASM_TEST_UI:-}" != required ] || exit 1
}

# Debian's browser, if there is none and we may install it.
install_chromium() {
    have chromium && return
    have apt-get && [ "$(id -u)" = 0 ] || return 1
    say "installing chromium"
    apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends chromium fonts-dejavu-core >&2
}

# The checker of the API, in an environment of its own that is kept.
install_schemathesis() {
    local venv="$target/schemathesis"
    [ -x "$venv/bin/schemathesis" ] && return
    say "installing schemathesis"
    python3 -m venv "$venv" >&2 && "$venv/bin/pip" install --quiet --disable-pip-version-check 'schemathesis==4.*' >&2
}

[ -x "$RWASM" ] || { say "there is no $RWASM; run \`cargo build\`"; exit 1; }
home=$(mktemp -d)
export RWASM_RUNTIME_DIR="$home/runtime" RWASM_STATE_DIR="$home/state" RWASM_CACHE_DIR="${RWASM_CACHE_DIR:-$target/ui-cache}"
clean() {
    "$RWASM" stop --force >/dev/null 2>&1 || true
    rm -rf "$home"
}
trap clean EXIT

say "starting a cluster of two nodes"
ready=$("$RWASM" start --head --port 0 --client-port 0 --dashboard-port 0 --num-cpus 2 --name head --json)
field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$ready"; }
base="http://$(field dashboard_address)"
token=$(cat "$(field state_dir)/token")
"$RWASM" start --address "$(field head_address)" --num-cpus 2 --name second --json >/dev/null

if ! have npm; then
    skip "there is no npm" "in a browser"
elif ! (cd "$root/scheduler/dashboard/ui" && npm ci --no-audit --no-fund --loglevel=error >&2); then
    skip "npm cannot fetch what the pages are built with" "in a browser"
elif ! "$root/tools/build-ui.sh" --check; then
    exit 1
elif ! install_chromium; then
    skip "there is no chromium, and it cannot be installed" "in a browser"
else
    say "the pages in a browser"
    node "$root/scheduler/dashboard/ui/test/browser.mjs" "$base" "$token" "$GUESTS" "$PICTURES"
fi

if ! install_schemathesis; then
    skip "schemathesis cannot be installed" "by its OpenAPI document"
else
    say "the API by its document"
    # Events go on for ever, and so does output that is followed: their ends are tested in the room.
    # It leaves files where it runs.
    cd "$home"
    "$target/schemathesis/bin/schemathesis" --config-file "$root/scheduler/dashboard/ui/test/schemathesis.toml" run "$base/api/v1/openapi.json" \
        --header "Authorization: Bearer $token" --url "$base"
fi
