#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds what scripts/gpu-check measured to docs/results/gpu.json, and makes gpu.md of it.

    report.py [--check] [--afresh] [DIR...]

DIR are folders of gpu-check's --out. Their rows join those of gpu.json; --afresh takes theirs
alone. A run that is there already (the same stage, date and commit) is not added again. Of
rows of one name that of the newest run counts, of equal dates the one given later; but a row
that came to an end (ok, failed) always counts before one that did not. Rehearsals and runs that
found no GPU are no results, and refused.

The page is made of gpu.json alone, with no DIR too: --check tells whether the committed page
is that of the committed rows. Without any row it says that nothing has been measured.
"""
import argparse
import json
import os
import pathlib
import sys

import rows
import tables

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/results/gpu.md"
ROWS = ROOT / "docs/results/gpu.json"


STRINGS = {"machine": ("stage", "commit", "asked"), "plan": ("stage",)}
ROW = ("stage", "status")  # of all others


def wrong_with(row):
    """What is wrong with a row, None if nothing."""
    if not isinstance(row, dict) or not isinstance(row.get("row"), str) or (
            not row["row"].isprintable()):
        return "expected an object with the name of a row"
    for key in STRINGS.get(row["row"], ROW):
        if not isinstance(row.get(key), str):
            return f"{row['row']}: expected a text {key!r}"
    if row["row"] == "plan" and not (isinstance(row.get("rows"), list) and
                                     all(isinstance(name, str) for name in row["rows"])):
        return "plan: expected the names of rows"
    if not rows.finite(row):
        return f"{row['row']}: a number is not finite"
    seconds = row.get("s_per_epoch", 1)
    if not isinstance(seconds, (int, float)) or not seconds > 0:
        return f"{row['row']}: {seconds} s an epoch"
    return None


def read_rows(path):
    """The rows of a file; lines may have been cut off by a kill or a full disk."""
    found = []
    for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        wrong = wrong_with(row)
        if wrong:
            sys.exit(f"report: {path}:{number}: {wrong}")
        if isinstance(row.get("reason"), str):  # one line of the page
            row["reason"] = " ".join(row["reason"].split())
        found.append(row)
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


def add(data, machine, found):
    """Adds a run to {"runs": [machine rows], "stages": {stage: {row name: row}}}."""
    known = [identity(run) for run in data["runs"]]
    if identity(machine) not in known:
        known.append(identity(machine))
        data["runs"].append(machine)
    run = known.index(identity(machine))
    stage = data["stages"].setdefault(machine["stage"], {})
    for name, row in found.items():
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
            for machine, found in runs_of(path):
                add(data, machine, found)
    return data


def read_data(path):
    """gpu.json."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data["runs"], list) or not isinstance(data["stages"], dict):
            raise KeyError
        return data
    except OSError as error:
        sys.exit(f"report: {path}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        sys.exit(f"report: {path} is not what report.py writes; take the committed one")


def page_of(data):
    try:
        return tables.page(data)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        sys.exit(f"report: rows that are not gpu-check's: {rows.named(error)}")


def write(texts):
    """All files or none."""
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise IsADirectoryError(0, "is a folder")
            path.with_name(path.name + ".new").write_text(text, encoding="utf-8")
        for path in texts:
            os.replace(path.with_name(path.name + ".new"), path)
    except OSError as error:
        sys.exit(f"report: {path}: {error.strerror}")


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
        text = page_of(read_data(args.json))
        same = args.page.is_file() and text == args.page.read_text(encoding="utf-8")
        print("the page is that of its rows" if same else
              f"{args.page} was not made from {args.json}")
        sys.exit(0 if same else 1)
    data = {"runs": [], "stages": {}}
    if args.json.exists() and not args.afresh:
        data = read_data(args.json)
    collect(data, args.folders)
    committed = PAGE in (args.page.resolve(), args.json.resolve()) or ROWS in (
        args.page.resolve(), args.json.resolve())
    for run in data["runs"] if committed else ():
        what = ("a rehearsal" if run.get("rehearse") else
                "a run without a GPU" if not run.get("gpu") else None)
        if what:
            sys.exit(f"report: {run['stage']} of {run.get('date')} is {what} and no result: name "
                     "another --page and --json")
    write({args.json: json.dumps(data, indent=1) + "\n", args.page: page_of(data)})
    print(f"{args.page}: {sum(map(len, data['stages'].values()))} rows")


if __name__ == "__main__":
    main()
