#!/usr/bin/env python3
"""Cuts a CSV file into calls for `rwasm submit --map`: one line per chunk, each a JSON array with the chunk as its only argument.

usage: tools/split_csv.py FILE.csv CHUNKS > chunks.jsonl

Every chunk has the header line. Bytes are base64 text in JSON. Chunks are about equally long and cut at line breaks, so a field must not
hold a line break.
"""

import base64
import json
import os
import sys


def chunks(path, count):
    """Yields the file's rows in at most `count` parts of about the same size, each after the header line."""
    with open(path, "rb") as file:
        header = file.readline()
        if not header.endswith(b"\n"):
            raise ValueError("the file has no row after its header line")
        size = os.fstat(file.fileno()).st_size - len(header)
        for number in range(count):
            end = len(header) + size * (number + 1) // count
            rows = file.read(max(0, end - file.tell())) + file.readline()
            if rows:
                yield header + rows


def main():
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal() or int(sys.argv[2]) < 1:
        sys.exit(__doc__)
    try:
        for chunk in chunks(sys.argv[1], int(sys.argv[2])):
            json.dump([base64.b64encode(chunk).decode()], sys.stdout)
            sys.stdout.write("\n")
    except BrokenPipeError:
        # The reader has enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError) as error:
        sys.exit(f"split_csv: {error}")


if __name__ == "__main__":
    main()
