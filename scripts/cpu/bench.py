#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures libvgg on this processor, turn about with its peers.

    scripts/bench-cpu [OPTIONS]

A row is a contest of libvgg and one peer on the same work: in every round both have a turn.
Rows are kept as they come, and take the place of older ones of their names in --out; those that
did not come to their end are told with the reason. The page and the picture are made of the
rows alone (scripts/cpu/report.py). No environment variable is set for libvgg. All rows take
the better part of an hour on two cores, and 4 GB of memory.
"""
import argparse
import pathlib
import shlex
import signal
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "gpu"))  # processes, turns and tables are the same there

import contest  # noqa: E402
import plans  # noqa: E402
import report  # noqa: E402
import results  # noqa: E402
import rows  # noqa: E402

ROOT = plans.ROOT


def arguments():
    p = argparse.ArgumentParser(prog="bench-cpu", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default="", help="beginnings of row names, with commas between: "
                   "train, infer-vgg16-b1/ncnn, conv-data (all)")
    p.add_argument("--list", action="store_true", help="the rows that there are")
    p.add_argument("--missing", action="store_true", help="only rows that --out has not got")
    p.add_argument("--rounds", type=int, help="turns of each contestant (5)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--quick", action="store_true",
                   help="one round, one step a turn, small batches: to try the script")
    p.add_argument("--build", type=pathlib.Path, default=ROOT / "build",
                   help="folder of a release build with tests (build)")
    p.add_argument("--peers", type=pathlib.Path, default=ROOT / ".venv",
                   help="what scripts/peers --speed has made (.venv)")
    p.add_argument("--out", type=pathlib.Path, default=report.ROWS,
                   help="cpu.json; the page and the picture go beside it")
    args = p.parse_args()
    if args.quick and args.out == report.ROWS:
        p.error("--quick gives no results: name another --out")
    args.build, args.peers = args.build.resolve(), args.peers.absolute()
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.steps = 1 if args.quick else None
    args.train_batch = 16 if args.quick else 128
    args.conv_batch = 4 if args.quick else 128
    return args


def look(args, places):
    """What is needed is there, or the reason why not."""
    for path, remedy in ((places.vgg, "meson setup build && ninja -C build"),
                         (places.stages, "ninja -C build (with tests)"),
                         (places.python, "scripts/peers --speed")):
        if not path.exists():
            sys.exit(f"bench-cpu: no {path}: {remedy}")


def asked(argv):
    """The command as a reader would give it, without the places of this machine."""
    kept, skip = [], False
    for word in argv:
        if skip or word in ("--build", "--peers", "--out"):
            skip = not skip
        elif not word.startswith(("--build=", "--peers=", "--out=")):
            kept.append(word)
    return shlex.join(["scripts/bench-cpu", *kept])


def chosen(args, places, have):
    begins = tuple(args.rows.split(","))
    for row, contestants in plans.every(args, places):
        if row["row"].startswith(begins) and not (
                args.missing and have.get(row["row"], {}).get("status") == "ok"):
            yield row, contestants


def one(row, contestants, args, kept):
    try:
        players = contestants()
    except Exception as error:  # a program that could not be compiled
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        row.update(status="failed", reason=said[-1] if said else type(error).__name__)
        kept.put(row)
    else:
        contest.play(row, players, args.rounds, kept.put)
    print(f"{row['row']:40} {results.brief(row)}", flush=True)


def main():
    args = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="bench-cpu-") as folder:
        places = plans.Places(args, folder)
        kept = results.Results(args.out)
        todo = list(chosen(args, places, kept.rows))
        if not todo:
            sys.exit(f"bench-cpu: --rows {args.rows}: expected a row of --list that is wanted")
        if args.list:
            print("\n".join(row["row"] for row, _ in todo))
            return
        look(args, places)
        kept.begin(asked(sys.argv[1:]), args, [row for row, _ in todo])
        try:
            for row, contestants in todo:
                one(row, contestants, args, kept)
        finally:
            rows.end_all()
            report.write(args.out)
    bad = [row["row"] for row, _ in todo if row.get("status") != "ok"]
    print(f"{len(todo) - len(bad)} of {len(todo)} rows; {args.out.with_suffix('.md')}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
