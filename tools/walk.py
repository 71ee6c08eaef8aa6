#!/usr/bin/env python3
"""Runs a document: every command in it, in order, in one shell, and compares what is printed with what the document shows.

    walk.py DOCUMENT [--checks FILE.sh]

In indented blocks, a line that begins with `$ ` is a command, and goes on in the next line if it ends with a backslash. The lines after it
are what it prints: `…` stands for anything in a line, and a line of nothing else for any lines. Where nothing is shown, anything may be
printed. A command has to end with 0, and in time. `<!-- check: NAME -->` runs the function NAME of the checks.
"""

import argparse
import os
import re
import selectors
import shlex
import subprocess
import sys
import time

# More than any command needs, so that a busy machine fails none.
DEADLINE_S = 180
END = "\x01"


def steps(text):
    """What is to be run: (line number, command or None for a check, shown lines)."""
    found, block = [], None
    lines = text.split("\n")
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        check = re.fullmatch(r"<!-- check: (\w+) -->", line.strip())
        if check:
            found.append((number, check.group(1), [], True))
        elif line.startswith("    $ "):
            begun, command = number, line[6:]
            while command.endswith("\\"):
                command = command + "\n" + lines[number][4:]
                number += 1
            block = []
            found.append((begun, command, block, False))
        elif line.startswith("    ") and block is not None:
            block.append(line[4:])
        elif line.strip():
            block = None
    return found


def fits(shown, printed):
    """Whether what was printed is what is shown."""
    if not shown:
        return not printed
    if shown[0] == "…":
        return any(fits(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    if not printed:
        return False
    pattern = ".*".join(re.escape(part) for part in shown[0].split("…"))
    return bool(re.fullmatch(pattern, printed[0])) and fits(shown[1:], printed[1:])


class Shell:
    """One bash, to which commands are given one after the other."""

    def __init__(self, checks):
        self.process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        if checks:
            self.run("source " + shlex.quote(os.path.abspath(checks)))

    def run(self, command):
        """The status and what was printed; the status is None if it did not end in time."""
        line = f"eval {shlex.quote(command)} </dev/null; printf '{END}%d{END}' $?\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        printed, end = b"", time.monotonic() + DEADLINE_S
        while True:
            done = re.search(f"{END}(\\d+){END}$".encode(), printed)
            if done:
                return int(done.group(1)), printed[: done.start()].decode(errors="replace")
            if time.monotonic() > end or self.process.poll() is not None:
                return None, printed.decode(errors="replace")
            if self.selector.select(timeout=1):
                printed += self.process.stdout.read() or b""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("document")
    parser.add_argument("--checks")
    args = parser.parse_args()
    with open(args.document, encoding="utf-8") as file:
        todo = steps(file.read())
    shell = Shell(args.checks)
    for line, command, shown, is_check in todo:
        begun = time.monotonic()
        status, printed = shell.run(command)
        while shown and not shown[-1].strip():
            shown.pop()
        lines = [line.rstrip() for line in printed.rstrip("\n").split("\n")] if printed.strip() else []
        good = status == 0 and (not shown or fits([line.rstrip() for line in shown], lines))
        took = time.monotonic() - begun
        print(f"{'ok  ' if good else 'FAIL'} {took:5.1f} s  {args.document}:{line}  {'check ' if is_check else '$ '}{command.splitlines()[0]}", flush=True)
        if not good:
            how = "did not end in time" if status is None else f"ended with {status}"
            print(f"--- it {how}, and printed\n{printed}\n--- the document shows\n" + "\n".join(shown))
            if args.checks and status is not None:
                print(shell.run("on_failure")[1])
            sys.exit(1)
    checks = sum(is_check for *_, is_check in todo)
    print(f"walked {args.document}: {len(todo) - checks} commands, {checks} checks")
    print(f"{args.document}: {len(todo)} passed, 0 failed")


if __name__ == "__main__":
    main()
