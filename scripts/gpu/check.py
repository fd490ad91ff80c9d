#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stages of scripts/gpu-check, which unpacks the pack and calls this.

    check.py STAGE[,STAGE...] --tree DIR --data DIR --out DIR [OPTIONS]

Rows go to OUT/STAGE.jsonl as they come; report.py makes docs/results/gpu.md of them. Every
stage has a deadline of its own and does its most important rows first; together they end
within 25 minutes (--within), for which each gives up its share. --quick does a few rows of
each. Ends with status 0 if all rows are there and ok.
"""
import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import accuracy
import bench
import kernels
import machine
import parity
import rows
import sanitize
from trainer import Trainer

STAGES = {  # module, deadline in seconds, and that of --quick
    "parity": (parity, 480, 90), "bench": (bench, 480, 150), "vgg16": (bench, 480, 120),
    "accuracy": (accuracy, 480, 120), "sanitize": (sanitize, 480, 120),
    "profile": (kernels, 300, 100),
}


def items(text):
    return [item for item in text.split(",") if item]


def arguments():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stages", type=items, help=", ".join(STAGES))
    p.add_argument("--out", required=True, help="folder for the rows")
    p.add_argument("--tree", required=True, help="the unpacked programs")
    p.add_argument("--data", required=True, help="folder of Fashion-MNIST")
    p.add_argument("--commit", default="unknown")
    p.add_argument("--built-here", action="store_true", help="the pack's programs did not start")
    p.add_argument("--quick", action="store_true", help="few rows, and short deadlines")
    p.add_argument("--deadline", type=float, help="seconds for each stage")
    p.add_argument("--within", type=float, default=1500, help="seconds for all stages (1500)")
    p.add_argument("--precisions", type=items, default=["bf16", "tf32", "fp32"],
                   help="in order of importance (bf16,tf32,fp32)")
    p.add_argument("--rows", type=items, help="bench, vgg16: rows of PyTorch, as "
                   "tests/bench/torch_vgg.py --list names them; none for none")
    p.add_argument("--turns", type=int, help="bench, vgg16: turns of each side (2)")
    p.add_argument("--epochs", type=int, help="bench, vgg16: epochs a turn (3)")
    p.add_argument("--row-limit", type=float, default=240, help="seconds for a row of PyTorch")
    p.add_argument("--run-limit", type=float, help="seconds for a run of vgg (150; quick 75)")
    p.add_argument("--program-limit", type=float, help="seconds for a test program")
    p.add_argument("--fresh-compiler-cache", action="store_true",
                   help="each row of PyTorch compiles anew, so that all cold starts are cold")
    p.add_argument("--seeds", type=items, default=["0", "1", "2"], help="accuracy: (0,1,2)")
    p.add_argument("--rehearse", action="store_true",
                   help="on the processor and at small sizes, to try the scripts")
    args = p.parse_args()
    for stage in args.stages:
        if stage not in STAGES:
            p.error(f"no stage {stage!r}: expected {', '.join(STAGES)}")
    args.turns = args.turns or (1 if args.quick else 2)
    args.epochs = args.epochs or 3
    args.run_limit = args.run_limit or (600 if args.rehearse else 75 if args.quick else 150)
    sizes(args)
    return args


def sizes(args):
    """What is run: the real thing, or a rehearsal of it."""
    args.device, args.preset, args.recipe_epochs = "cuda:0", "d2l", 10
    args.images, args.torch_flags = 60000, []
    args.vgg16_net = ["--arch", "vgg16", "--resize", "224"]
    args.vgg16_batch, args.vgg16_steps = 64, 50
    if args.rehearse:
        args.device, args.preset, args.recipe_epochs = "cpu", "quick", 2
        args.precisions = ["fp32"]
        args.torch_flags = ["--limit", "80", "--batch", "16", "--ratio", "16", "--hidden", "64",
                            "--size", "64", "--steps", "5"]
        args.vgg16_net = ["--blocks", "1x8,1x16", "--resize", "32"]
        args.vgg16_batch, args.vgg16_steps = 8, 5
        args.epochs = 1
    if args.rows == ["none"]:
        args.rows = ["none-none"]  # a list that selects nothing


def deadline(args, name, left):
    """Seconds for a stage, of `left` for it and those that come after it."""
    usual = {n: args.deadline or STAGES[n][2 if args.quick else 1] for n in args.stages}
    rest = sum(usual[n] for n in args.stages[args.stages.index(name):])
    return usual[name] * min(1.0, left / rest)


def main():
    args = arguments()
    end = time.monotonic() + args.within
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    args.work = tempfile.mkdtemp(prefix="gpu-check-")
    described = machine.describe(args.commit, not args.built_here)
    memory = rows.Memory()
    good = True
    try:
        trainer = Trainer(args)
        trainer.look(60)
        for name in args.stages:
            module = STAGES[name][0]
            if getattr(module, "SHARES_LIBRARIES", False):
                trainer.share_libraries(60)
            asked = " ".join(["scripts/gpu-check", name, *shown(sys.argv)])
            stage = rows.Stage(name, args.out, deadline(args, name, end - time.monotonic()),
                               {**described, "asked": asked, "engine": trainer.engine()})
            try:
                module.run(stage, args, trainer, memory)
            finally:
                good = stage.close() and good
    finally:
        rows.end_all()
        shutil.rmtree(args.work, ignore_errors=True)
    print(f"rows: {args.out}")
    sys.exit(0 if good else 1)


def shown(argv):
    """The options that were asked for, without the paths that gpu-check adds."""
    mine = ("--tree", "--data", "--commit", "--out")
    kept, skip = [], False
    for word in argv[2:]:
        if skip or word in mine:
            skip = not skip
        elif word != "--built-here":
            kept.append(word)
    return kept


if __name__ == "__main__":
    main()
