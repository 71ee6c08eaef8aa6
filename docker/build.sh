#!/bin/sh
# Inside the builder's image: puts what the image gets into a directory. Builds rwasm, unless it was built outside.
set -eu
out=$1
mkdir -p "$out/state" "$out/shared/join" "$out/shared/ca"
# An empty directory is not copied by every builder.
touch "$out/state/.keep" "$out/shared/join/.keep" "$out/shared/ca/.keep"
if [ ! -e docker/rwasm ]; then
    cargo build --release --locked --bin rwasm
    cp target/release/rwasm docker/rwasm
fi
cp docker/rwasm "$out/rwasm"
chmod 755 "$out/rwasm"
