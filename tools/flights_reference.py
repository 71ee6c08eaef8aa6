#!/usr/bin/env python3
"""Computes what examples-wasm/flights computes, by other means, so that the two can be compared: JSON with exact integers.

usage: tools/flights_reference.py FILE.csv

Prints an array of objects, sorted by carrier, with the names that the records have in JSON.
"""

import csv
import json
import sys

LATE_MINUTES = 30


def summarise(rows):
    """The figures of each carrier, as a dictionary from its code."""
    carriers = {}
    for row in rows:
        stats = carriers.setdefault(row["carrier"], {"flights": 0, "arrivals": 0, "delay-minutes": 0, "late": 0})
        stats["flights"] += 1
        if row["arr_delay"] not in ("", "NA"):
            delay = int(row["arr_delay"])
            stats["arrivals"] += 1
            stats["delay-minutes"] += delay
            stats["late"] += delay > LATE_MINUTES
    return carriers


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        with open(sys.argv[1], newline="", encoding="utf-8") as file:
            carriers = summarise(csv.DictReader(file))
    except OSError as error:
        sys.exit(f"flights_reference: {error}")
    print(json.dumps([{"carrier": carrier, **carriers[carrier]} for carrier in sorted(carriers)], indent=2))


if __name__ == "__main__":
    main()
