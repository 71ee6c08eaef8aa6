#!/usr/bin/env bash
# Sums up all flights that left New York in 2013, as sandboxed tasks on a cluster of three processes: a head with a node, and two nodes.
#
# usage: tools/demo.sh [--json]
#
# Starts a cluster of its own on free ports, puts the data into the object store once, runs `flights.wasm` for each range of it, merges the parts
# with one more task, prints a line for each carrier (with --json, the merged figures as they are), and stops the cluster. RWASM is the program to use,
# target/release/rwasm by default; RWASM_GUESTS is where the guests are; CHUNKS is how many tasks there are, 96 by default.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly RWASM="${RWASM:-${CARGO_TARGET_DIR:-$root/target}/release/rwasm}"
readonly GUEST="${RWASM_GUESTS:-$root/target/guests}/flights.wasm"
readonly CHUNKS="${CHUNKS:-96}"

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf 'demo: error: %s\n' "$*" >&2; exit 1; }

case "${1:-}" in '' | --json) ;; *) die "usage: tools/demo.sh [--json]" ;; esac
[ -x "$RWASM" ] || die "there is no $RWASM; run \`make build\`"
[ -f "$GUEST" ] || die "there is no $GUEST; run \`make guests\`"

csv=$("$root/tools/fetch-flights.sh")

work=$(mktemp -d)
# A cluster of its own, whatever else runs here.
export RWASM_RUNTIME_DIR="$work/runtime" RWASM_STATE_DIR="$work/state"
unset RWASM_ADDRESS RWASM_TOKEN
finish() {
    "$RWASM" stop >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT

say "a head with a node, and two more nodes"
head=$("$RWASM" --json start --head --port 0 --client-port 0 --name head |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["head_address"])')
for name in worker-1 worker-2; do
    "$RWASM" start --address "$head" --name "$name" >&2
done

say "$(($(wc -l <"$csv") - 1)) flights, put once, in $CHUNKS ranges: one task each, which sees its range through a window"
file=$("$RWASM" put "$csv")
size=$(wc -c <"$csv")
for ((chunk = 0; chunk < CHUNKS; chunk++)); do
    printf '[{"$ref": "%s"}, %d, %d]\n' "$file" $((size * chunk / CHUNKS)) $((size * (chunk + 1) / CHUNKS))
done >"$work/chunks.jsonl"
"$RWASM" submit "$GUEST" --map "$work/chunks.jsonl" --func summarise --name summarise --output "$work/parts.jsonl"

say "one more task merges the parts"
# One line of arguments: an array with the list of all parts.
python3 -c 'import sys; print("[[" + ",".join(line.strip() for line in open(sys.argv[1])) + "]]")' "$work/parts.jsonl" >"$work/merge.jsonl"
"$RWASM" submit "$GUEST" --map "$work/merge.jsonl" --func merge --name merge --output "$work/merged.jsonl"

say "who did it"
"$RWASM" status --verbose >&2
"$RWASM" job list >&2

if [ "${1:-}" = --json ]; then
    cat "$work/merged.jsonl"
    exit
fi
say "arrival delays by carrier"
python3 - "$work/merged.jsonl" <<'PYTHON'
import json, sys

carriers = json.load(open(sys.argv[1]))
print(f"{'CARRIER':<8}{'FLIGHTS':>9}{'MEAN DELAY':>13}{'> 30 MIN':>11}")
for carrier in sorted(carriers, key=lambda carrier: -carrier["flights"]):
    arrivals = carrier["arrivals"]
    mean = f"{carrier['delay-minutes'] / arrivals:.1f} min" if arrivals else "-"
    late = f"{100 * carrier['late'] / arrivals:.1f} %" if arrivals else "-"
    print(f"{carrier['carrier']:<8}{carrier['flights']:>9,}{mean:>13}{late:>11}")
PYTHON
