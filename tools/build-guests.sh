#!/usr/bin/env bash
# Builds the example guests and the hostile ones, and puts them into one directory: target/guests, or RWASM_GUESTS.
#
# usage: tools/build-guests.sh
#
# Prints a line for each guest with its size. Takes seconds when nothing changed, and under two minutes from nothing. It takes the compiler
# from tools/setup-guests.sh. Cargo builds in CARGO_TARGET_DIR/guests-build, and without that variable in target/guests-build.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly OUT="${RWASM_GUESTS:-$root/target/guests}"
readonly TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}/guests-build"

# PACKAGE TARGET NAME: the package of examples-wasm/Cargo.toml, what it is built for, and the file it becomes.
# What only computes is built without WASI; commands and what needs WASI 0.2, for wasm32-wasip2. Two are core modules of preview 1 as well.
readonly GUESTS="
hello           wasm32-unknown-unknown  hello
mandelbrot      wasm32-unknown-unknown  mandelbrot
flights         wasm32-unknown-unknown  flights
objects         wasm32-unknown-unknown  objects
parallel        wasm32-unknown-unknown  parallel
async-example   wasm32-unknown-unknown  async-example
counter         wasm32-unknown-unknown  counter
wordcount       wasm32-wasip2           wordcount
wordcount       wasm32-wasip1           wordcount-p1
evil-compute    wasm32-unknown-unknown  evil-compute
evil-tasks      wasm32-unknown-unknown  evil-tasks
evil-async      wasm32-unknown-unknown  evil-async
evil-actor      wasm32-unknown-unknown  evil-actor
evil-wasi       wasm32-wasip2           evil-wasi
evil-command    wasm32-wasip2           evil-command
evil-command    wasm32-wasip1           evil-command-p1
"

say() { printf 'build-guests: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# artifact PACKAGE TARGET: the file that cargo made. Programs keep the hyphens of their name, libraries do not.
artifact() {
    local directory="$TARGET_DIR/$2/release" name
    for name in "$1" "${1//-/_}"; do
        if [ -f "$directory/$name.wasm" ]; then
            printf '%s\n' "$directory/$name.wasm"
            return
        fi
    done
    die "cargo made no $1.wasm for $2"
}

# publish FILE NAME: copies a guest to the output directory so that nobody sees a part of it, and leaves it alone if it is the same.
publish() {
    local to="$OUT/$2.wasm"
    if ! cmp --silent "$1" "$to"; then
        cp "$1" "$to.part"
        mv "$to.part" "$to"
    fi
}

settings=$("$root/tools/setup-guests.sh")
# `RUSTC=…`, quoted for a shell.
eval "$settings"
[ -x "$RUSTC" ] || die "tools/setup-guests.sh named no compiler"

mkdir -p "$OUT"
cd "$root/examples-wasm"

mapfile -t targets < <(awk 'NF { print $2 }' <<<"$GUESTS" | sort -u)
for target in "${targets[@]}"; do
    mapfile -t packages < <(awk -v target="$target" '$2 == target { print "--package=" $1 }' <<<"$GUESTS")
    RUSTC="$RUSTC" cargo build --quiet --release --locked --target-dir "$TARGET_DIR" --target "$target" "${packages[@]}" ||
        die "the guests for $target do not build; see cargo's message above"
done
while read -r package target name; do
    [ -z "$package" ] || publish "$(artifact "$package" "$target")" "$name"
done <<<"$GUESTS"

# What no compiler makes. The generator runs here, so the ordinary compiler builds it.
env -u RUSTC cargo build --quiet --release --locked --target-dir "$TARGET_DIR" --package evil-generate || die "evil-generate does not build; see cargo's message above"
"$TARGET_DIR/release/evil-generate" text "$OUT" '' sum/sum.wat
"$TARGET_DIR/release/evil-generate" text "$OUT" evil- evil/wat/*.wat
"$TARGET_DIR/release/evil-generate" huge "$OUT" evil-

for guest in "$OUT"/*.wasm; do
    printf '%9d  %s\n' "$(stat --format %s "$guest")" "$guest"
done
