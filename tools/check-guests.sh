#!/usr/bin/env bash
# Checks the guests' side of the repository: format, lints, documentation and tests of the Rust SDK and of the examples, and that a project made
# from the SDK's template passes its test and builds. Stops at the first failure.
#
# usage: tools/check-guests.sh
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root

step() { printf 'check-guests: %s\n' "$*" >&2; "$@"; }

for workspace in guest-sdk/rust examples-wasm; do
    cd "$root/$workspace"
    step cargo fmt --all --check
    # What is written for Wasm alone, with WASI's bindings, does not link elsewhere.
    exclude=()
    [ "$workspace" = guest-sdk/rust ] || exclude=(--exclude evil-compute --exclude evil-wasi --exclude evil-async --exclude async-example)
    step cargo clippy --quiet --workspace --all-targets --all-features --locked "${exclude[@]}" -- -D warnings
    step cargo test --quiet --workspace --all-features --locked "${exclude[@]}"
done
cd "$root/guest-sdk/rust"
RUSTDOCFLAGS="-D warnings" step cargo doc --quiet --workspace --no-deps --all-features --locked

settings=$("$root/tools/setup-guests.sh")
eval "$settings"
cd "$root/examples-wasm"
for target in wasm32-unknown-unknown wasm32-wasip2; do
    # The lints of clippy need clippy's own compiler; the warnings of rustc are had with any.
    RUSTFLAGS="-D warnings" RUSTC="$RUSTC" step cargo check --quiet --release --workspace --exclude evil-generate --locked --target "$target"
done

project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cp -r "$root/guest-sdk/rust/template/." "$project"
find "$project" -type f -exec sed -i "s|{{name}}|my-tasks|g; s|{{sdk}}|{ path = \"$root/guest-sdk/rust\" }|g" {} +
cd "$project"
step cargo fmt --check
step cargo test --quiet
RUSTC="$RUSTC" step cargo build --quiet --release --target wasm32-unknown-unknown
