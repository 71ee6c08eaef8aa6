#!/usr/bin/env python3
"""Asks a Prometheus every query of Grafana dashboards: each has to be understood, and to find data.

    check-dashboards.py DASHBOARD.json… --prometheus URL
"""

import argparse
import json
import sys
import urllib.error
import urllib.parse
import urllib.request


def queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def found(prometheus, expression):
    """How many series there are; raises ValueError for what is not understood."""
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return len(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get("error", error)) from error


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("dashboards", nargs="+")
    parser.add_argument("--prometheus", required=True)
    args = parser.parse_args()
    asked, bad = 0, []
    for path in args.dashboards:
        with open(path, encoding="utf-8") as file:
            dashboard = json.load(file)
        ids = [panel["id"] for panel in dashboard["panels"]]
        if len(ids) != len(set(ids)):
            bad.append(f"{path}: two panels have one id")
        for title, expression in queries(dashboard):
            asked += 1
            try:
                if found(args.prometheus, expression) == 0:
                    bad.append(f"{title}: no data for {expression}")
            except ValueError as error:
                bad.append(f"{title}: {error} in {expression}")
    print("\n".join(bad) or f"{asked} queries, all with data")
    sys.exit(bool(bad) or asked == 0)


if __name__ == "__main__":
    main()
