#!/usr/bin/env bash
# Builds the pages of the dashboard, which are committed so that building rwasm needs no npm.
#
# usage: tools/build-ui.sh          writes scheduler/dashboard/ui/dist
#        tools/build-ui.sh --check  builds beside it, and fails if the two differ
set -euo pipefail

ui=$(cd "$(dirname "${BASH_SOURCE[0]}")/../scheduler/dashboard/ui" && pwd)
cd "$ui"
out=dist
case "${1:-}" in
    '') ;;
    --check) out=$(mktemp -d) && trap 'rm -rf "$out"' EXIT ;;
    *) printf 'usage: tools/build-ui.sh [--check]\n' >&2 && exit 2 ;;
esac

npm ci --no-audit --no-fund --loglevel=error >&2
npx tsc --noEmit
npx esbuild test/wit.test.ts --bundle --platform=node --format=esm --outfile=node_modules/.cache/wit.test.mjs --log-level=error
node --test node_modules/.cache/wit.test.mjs >&2
npx vite build --outDir "$out" --emptyOutDir --logLevel warn
if [ "$out" != dist ]; then
    diff -rq dist "$out" >&2 ||
        { printf 'build-ui: error: the committed pages are not what their source gives; run tools/build-ui.sh\n' >&2; exit 1; }
fi
