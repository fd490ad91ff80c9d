#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Is the GPU engine right, and how fast is it? The stages of scripts/gpu-check:

  parity    the GPU computes what the processor does; the test programs; memory that stays
  bench     seconds of an epoch of the main job, turn about with PyTorch
  vgg16     the same with VGG-16
  accuracy  the chapter's recipe to its end
  sanitize  our kernels under compute-sanitizer
  profile   where a step's time goes, by Nsight Compute
  first     instead of stages: what matters most of the four, in nine minutes

Rows go to OUT/STAGE.jsonl as they come; report.py makes docs/results/gpu.md of them. Every
stage has a deadline of its own and does its most important rows first; together they end
within 25 minutes (--within), for which each gives up its share; what gpu-check itself took
before them, a build among it, is of that time. All use the CUDA libraries of
this Python's packages, which PyTorch has, if it has some. Ends with status 0 if all rows are
there and ok.
"""
import argparse
import fcntl
import math
import os
import pathlib
import re
import shlex
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
# What "first" stands for: its stages with their seconds, where what one leaves is for those
# after it; and options, for which others may be given.
FIRST = {"parity": 200, "bench": 180, "profile": 40, "sanitize": 120}
FIRST_OPTIONS = ["--within", str(sum(FIRST.values())), "--precisions", "bf16",
                 "--rows", "bf16-graph-compile", "--run-limit", "60"]

LOOK = 20  # seconds for `vgg devices`
MOST_FILES, MOST_BYTES = 8, 16 << 20  # of --out: what comes back from a machine that is lent
HIDDEN = argparse.SUPPRESS  # gpu-check gives these
EPILOG = f"""first: {','.join(FIRST)} {shlex.join(FIRST_OPTIONS)}

gpu-check's own: --rebuild builds the packed sources instead of taking the packed programs,
--no-build never builds them; --self-test, alone, tries whether the programs run here. A plan
for 15 minutes stands in docs/gpu.md."""


def items(text):
    found = list(dict.fromkeys(item for item in text.split(",") if item))
    if not found:
        raise argparse.ArgumentTypeError("expected names with commas between them, found none")
    return found


def one_of(known):
    def check(text):
        found = items(text)
        for item in found:
            if item not in known:
                raise argparse.ArgumentTypeError(
                    f"no {item!r}: expected {', '.join(known)}")
        return found
    return check


def positive(kind):
    def check(text):
        value = kind(text)
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
        return value
    check.__name__ = "number"
    return check


def whole_numbers(text):
    found = items(text)
    if not all(item.isascii() and item.isdigit() for item in found):
        raise argparse.ArgumentTypeError(f"expected whole numbers, found {text}")
    return found


def parser():
    seconds, count = positive(float), positive(int)
    p = argparse.ArgumentParser(
        prog="gpu-check", description=__doc__, epilog=EPILOG, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("stages", type=one_of((*STAGES, "first")), metavar="STAGE[,STAGE...]")
    p.add_argument("--out", required=True, metavar="DIR", help="folder for the rows")
    p.add_argument("--tree", required=True, help=HIDDEN)
    p.add_argument("--data", required=True, help=HIDDEN)
    p.add_argument("--commit", default="unknown", help=HIDDEN)
    p.add_argument("--built-here", action="store_true", help=HIDDEN)
    p.add_argument("--used", type=float, default=0, help=HIDDEN)
    p.add_argument("--quick", action="store_true", help="few rows, and short deadlines")
    p.add_argument("--deadline", type=seconds, metavar="S",
                   help="seconds for each stage (480; profile 300; --quick 90 to 150; of first: "
                   f"{', '.join(map(str, FIRST.values()))})")
    p.add_argument("--within", type=seconds, default=1500, metavar="S",
                   help=f"seconds for all stages (1500; of first: {sum(FIRST.values())})")
    p.add_argument("--precisions", type=one_of(("bf16", "tf32", "fp32")),
                   default=["bf16", "tf32", "fp32"], metavar="LIST",
                   help="in order of importance (bf16,tf32,fp32)")
    p.add_argument("--rows", type=one_of(("none", *bench.ROWS)), metavar="LIST",
                   help=f"bench, vgg16: PyTorch's rows, of {', '.join(bench.ROWS)}; or none")
    p.add_argument("--turns", type=count, metavar="N",
                   help="bench, vgg16: turns of each side (2; --quick 1)")
    p.add_argument("--epochs", type=count, metavar="N", help="bench, vgg16: epochs a turn (3)")
    p.add_argument("--row-limit", type=seconds, default=240, metavar="S",
                   help="seconds for a row of PyTorch (240); its compiler may take over 100")
    p.add_argument("--run-limit", type=seconds, metavar="S",
                   help="seconds for a run of vgg (150; --quick 45)")
    p.add_argument("--program-limit", type=seconds, metavar="S",
                   help="seconds for a test program (150, those that come first 60; --quick 40)")
    p.add_argument("--fresh-compiler-cache", action="store_true",
                   help="each row of PyTorch compiles anew, so that all cold starts are cold")
    p.add_argument("--seeds", type=whole_numbers, default=["0", "1", "2"], metavar="LIST",
                   help="accuracy: (0,1,2)")
    p.add_argument("--rehearse", action="store_true",
                   help="on the processor and at small sizes, to try the scripts")
    return p


def arguments():
    args = parser().parse_args()
    args.first = args.stages == ["first"]
    if args.first:
        args = parser().parse_args([*FIRST_OPTIONS, *sys.argv[1:]])
        args.first, args.stages = True, list(FIRST)
    elif "first" in args.stages:
        die("first stands for its stages: name it alone")
    args.turns = args.turns or (1 if args.quick else 2)
    args.epochs = args.epochs or 3
    args.run_limit = args.run_limit or (600 if args.rehearse else 45 if args.quick else 150)
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
        args.rows = [re.sub("^(bf16|tf32)-", "fp32-", row) for row in args.rows or []] or None
    if args.rows == ["none"]:
        args.rows = ["none-none"]  # a list that selects nothing


def deadline(args, name, left):
    """Seconds for a stage, of `left` for it and those that come after it."""
    usual = {n: args.deadline or (FIRST[n] if args.first else STAGES[n][2 if args.quick else 1])
             for n in args.stages}
    share = left / sum(usual[n] for n in args.stages[args.stages.index(name):])
    grows = args.first and not args.deadline
    return usual[name] * (share if grows else min(1.0, share))


def die(text, status=2):
    print(f"gpu-check: {text}", file=sys.stderr)
    sys.exit(status)


def open_out(args):
    """The folder of rows, which no other run writes to meanwhile."""
    try:
        if not args.out:
            raise OSError("no folder is named")
        pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
        folder = os.open(args.out, os.O_RDONLY | os.O_DIRECTORY)
        with tempfile.TemporaryFile(dir=args.out):
            pass
    except OSError as error:
        die(f"--out {args.out!r}: {error.strerror or error}: name a folder that can be written")
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        die(f"--out {args.out!r}: another run is writing there: name another folder")


def too_much(folder):
    """What is wrong with the size of the folder of rows, None if nothing."""
    sizes = [path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()]
    if len(sizes) <= MOST_FILES and sum(sizes) <= MOST_BYTES:
        return None
    return (f"{len(sizes)} files of {sum(sizes) / 2**20:.1f} MiB, expected at most {MOST_FILES} "
            f"of {MOST_BYTES >> 20} MiB together")


def find_gpu(args, trainer):
    """(the GPU's name, the words that choose it for nvidia-smi); no GPU, no stages."""
    print("gpu-check: looking for the GPU", flush=True)
    trainer.look(LOOK)
    if args.rehearse:
        return None, None
    if trainer.engine() is None:
        die(f"no GPU to check: {trainer.seen['trouble']}")
    trainer.share_libraries(LOOK)
    name = trainer.engine().partition(", ")[0]
    return name, machine.smi_choice(name)


def run_stage(name, args, trainer, found, end):
    """One stage; True if all of its rows are there and ok."""
    described, memory = found
    module = STAGES[name][0]
    left = max(0.0, end - time.monotonic())
    stage = rows.Stage(name, args.out, deadline(args, name, left), {
        **described, "asked": asked(name, sys.argv[1:]), "rehearse": args.rehearse,
        "engine": trainer.engine()})
    good = True
    try:
        module.run(stage, args, trainer, memory)
    except rows.Unwritable:
        raise
    except Exception as error:  # rows take care of their own; the next stage may do
        stage.row("stage", "failed", reason=rows.named(error))
    finally:
        good = stage.close() and good
    return good


def main():
    args = arguments()
    end = time.monotonic() + args.within - args.used
    ending = (signal.SIGTERM, signal.SIGHUP)
    for number in ending:
        signal.signal(number, lambda *_: sys.exit(1))
    rows.LIBC.prctl(rows.PR_SET_PDEATHSIG, signal.SIGTERM)  # where gpu-check is killed
    open_out(args)
    args.work = tempfile.mkdtemp(prefix="gpu-check-")
    good = True
    try:
        trainer = Trainer(args)
        gpu, choice = find_gpu(args, trainer)
        found = (machine.describe(args.commit, not args.built_here, gpu, choice),
                 rows.Memory(choice))
        for name in args.stages:
            good = run_stage(name, args, trainer, found, end) and good
    except KeyboardInterrupt:
        die("interrupted; the rows until then are kept", 130)
    except rows.Unwritable as error:
        die(f"--out {args.out!r}: {error}: name another folder")
    finally:
        for number in ending:
            signal.signal(number, signal.SIG_IGN)
        rows.end_all()
        shutil.rmtree(args.work, ignore_errors=True)
    print(f"rows: {args.out}")
    wrong = too_much(args.out)
    if wrong:
        die(f"--out {args.out!r}: {wrong}: take what is not of this run out of it, or name an "
            "empty folder", 1)
    sys.exit(0 if good else 1)


def asked(stage, words):
    """The command that was asked for, without the paths that gpu-check adds."""
    given = ("--tree", "--data", "--commit", "--out", "--used")
    kept, skip, named = [], False, False
    for word in words:
        if skip or word in given:
            skip = not skip
        elif word == "--built-here" or word.startswith(tuple(f"{g}=" for g in given)):
            continue
        elif not named and set(word.split(",")) <= {*STAGES, "first", ""}:
            stage, named = "first" if word == "first" else stage, True
        else:
            kept.append(word)
    return shlex.join(["scripts/gpu-check", stage, *kept])


if __name__ == "__main__":
    main()
