#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/results/gpu.md and gpu.json of what scripts/gpu-check measured.

    report.py [--check] [DIR...]

DIR are folders of gpu-check's --out; where two have the same row, the later one counts. With
none, the page says that nothing has been measured. gpu.json keeps every row, and the page is
made from it alone: --check tells whether the committed page is that of the committed rows.
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


def collect(folders):
    """{"runs": [machine rows], "stages": {stage: {row name: row}}}."""
    data = {"runs": [], "stages": {}}
    for folder in folders:
        files = sorted(pathlib.Path(folder).glob("*.jsonl"))
        if not files:
            sys.exit(f"report: expected files STAGE.jsonl in {folder}, found none")
        for path in files:
            run = None
            for row in read_rows(path):
                stage = data["stages"].setdefault(path.stem, {})
                if row["row"] == "machine":
                    run = len(data["runs"])
                    data["runs"].append(row)
                elif row["row"] == "plan":
                    for name in row["rows"]:  # told at once: a kill leaves no word
                        stage.setdefault(name, {"row": name, "status": "unfinished", "run": run,
                                                "reason": "the run was ended before it"})
                else:
                    stage[row["row"]] = {**row, "run": run}
    return data


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    p.add_argument("--page", type=pathlib.Path, default=PAGE)
    p.add_argument("--json", type=pathlib.Path, default=ROWS)
    p.add_argument("folders", nargs="*")
    args = p.parse_args()
    if args.check:
        same = tables.page(json.loads(args.json.read_text())) == args.page.read_text()
        print("the page is that of its rows" if same else
              f"{args.page} was not made from {args.json}")
        sys.exit(0 if same else 1)
    data = collect(args.folders)
    if args.page == PAGE and any("--rehearse" in run["asked"] for run in data["runs"]):
        sys.exit("report: rows of a rehearsal are no results: name another --page and --json")
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    args.page.write_text(tables.page(data), encoding="utf-8")
    print(f"{args.page}: {sum(map(len, data['stages'].values()))} rows")


if __name__ == "__main__":
    main()
