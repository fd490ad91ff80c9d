#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes docs/results/cpu.md and cpu.svg of the rows in cpu.json, and of nothing else.

    report.py [--check] [cpu.json]

--check tells whether the page and the picture there are those of the rows.
"""
import argparse
import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "gpu"))

import page  # noqa: E402
import picture  # noqa: E402

ROWS = pathlib.Path(__file__).resolve().parents[2] / "docs/results/cpu.json"


def products(path):
    """What belongs beside the rows: {path: text}."""
    data = json.loads(path.read_text(encoding="utf-8"))
    drawing = path.with_suffix(".svg")
    return {path.with_suffix(".md"): page.page(data, drawing.name),
            drawing: picture.picture(data)}


def write(path):
    for place, text in products(path).items():
        place.write_text(text, encoding="utf-8")


def main():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true")
    p.add_argument("json", type=pathlib.Path, nargs="?", default=ROWS)
    args = p.parse_args()
    if not args.json.exists():
        sys.exit(f"report: no {args.json}: scripts/bench-cpu makes it")
    if not args.check:
        write(args.json)
        return
    other = [place for place, text in products(args.json).items()
             if not place.exists() or place.read_text(encoding="utf-8") != text]
    for place in other:
        print(f"{place} was not made from {args.json}")
    if not other:
        print("the page and the picture are those of the rows")
    sys.exit(1 if other else 0)


if __name__ == "__main__":
    main()
