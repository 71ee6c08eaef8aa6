#!/usr/bin/env bash
# Makes a machine ready to build and test rwasm: checks the compiler, and installs the system packages that are missing.
#
# usage: tools/setup.sh
#
# Takes no time when nothing is missing. Packages come from apt, as root or with sudo; elsewhere it says what is missing and ends.
# The compiler for guests is the business of tools/setup-guests.sh.
set -euo pipefail

readonly RUST_MIN=1.95

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

have cargo && have rustc || die "there is no cargo here; install Rust $RUST_MIN or newer (https://rustup.rs), then run this again"
version=$(rustc --version | awk '{ print $2 }')
printf '%s\n%s\n' "$RUST_MIN" "$version" | sort --version-sort --check=quiet ||
    die "rustc is $version, and rwasm needs $RUST_MIN or newer; run \`rustup update stable\`"

missing=()
have cc || missing+=(gcc libc6-dev)
have python3 || missing+=(python3)
python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
have git || missing+=(git)
if [ ${#missing[@]} -gt 0 ]; then
    have apt-get || die "these are missing: ${missing[*]}; install them, then run this again"
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || die "these are missing: ${missing[*]}; install them as root, then run this again"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >&2
fi
for component in rustfmt clippy-driver; do
    have "$component" || say "note: there is no $component here, which \`make lint\` needs"
done
