#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds what scripts/gpu-check measured to docs/results/gpu.json, and makes gpu.md of it.

    report.py [--check] [--afresh] [DIR...]

DIR are folders of gpu-check's --out. Their rows join those of gpu.json; --afresh takes theirs
alone. A run that is there already (the same stage, date and commit) is not added again. Of
rows of one name that of the newest run counts, of equal dates the one given later; but a row
that came to an end (ok, failed) always counts before one that did not.

The page is made of gpu.json alone, with no DIR too: --check tells whether the committed page
is that of the committed rows. Without any row it says that nothing has been measured.
"""
import argparse
import json
import pathlib
import sys

import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results/gpu.md"
ROWS = ROOT / "docs/results/gpu.json"


def read_rows(path):
    """The rows of a file; the last one may have been cut off by a kill."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def runs_of(path):
    """[(machine row, {row name: row})] of a file."""
    found = []
    for row in read_rows(path):
        if row["row"] == "machine":
            found.append((row, {}))
        elif not found:
            sys.exit(f"report: expected a machine's row first in {path}, found {row['row']}")
        elif row["row"] == "plan":
            for name in row["rows"]:  # told at once: a kill leaves no word
                found[-1][1].setdefault(name, {"row": name, "status": "unfinished",
                                               "reason": "the run was ended before it"})
        else:
            found[-1][1][row["row"]] = row
    return found


def identity(run):
    return run["stage"], run.get("date"), run["commit"]


def worth(data, row):
    """Of rows of one name the one with the most counts."""
    date = data["runs"][row["run"]].get("date", "")
    return row["status"] in ("ok", "failed"), date


def add(data, machine, rows):
    """Adds a run to {"runs": [machine rows], "stages": {stage: {row name: row}}}."""
    known = [identity(run) for run in data["runs"]]
    if identity(machine) not in known:
        known.append(identity(machine))
        data["runs"].append(machine)
    run = known.index(identity(machine))
    stage = data["stages"].setdefault(machine["stage"], {})
    for name, row in rows.items():
        row = {**row, "run": run}
        if name not in stage or worth(data, row) >= worth(data, stage[name]):
            stage[name] = row


def collect(data, folders):
    """Adds what lies in the folders."""
    for folder in folders:
        files = sorted(pathlib.Path(folder).glob("*.jsonl"))
        if not files:
            sys.exit(f"report: expected files STAGE.jsonl in {folder}, found none")
        for path in files:
            for machine, rows in runs_of(path):
                add(data, machine, rows)
    return data


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    p.add_argument("--afresh", action="store_true", help="forget the rows of gpu.json")
    p.add_argument("--page", type=pathlib.Path, default=PAGE)
    p.add_argument("--json", type=pathlib.Path, default=ROWS)
    p.add_argument("folders", nargs="*")
    args = p.parse_args()
    if args.check:
        data = json.loads(args.json.read_text(encoding="utf-8"))
        same = tables.page(data) == args.page.read_text(encoding="utf-8")
        print("the page is that of its rows" if same else
              f"{args.page} was not made from {args.json}")
        sys.exit(0 if same else 1)
    data = {"runs": [], "stages": {}}
    if args.json.exists() and not args.afresh:
        data = json.loads(args.json.read_text(encoding="utf-8"))
    collect(data, args.folders)
    if (args.page == PAGE or args.json == ROWS) and any(
            "--rehearse" in run["asked"] for run in data["runs"]):
        sys.exit("report: rows of a rehearsal are no results: name another --page and --json")
    text = tables.page(data)
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    args.page.write_text(text, encoding="utf-8")
    print(f"{args.page}: {sum(map(len, data['stages'].values()))} rows")


if __name__ == "__main__":
    main()
