# SPDX-License-Identifier: Apache-2.0
"""What the peers of a measurement on a CPU share: which network, and turns.

A peer is a process. It says "ready" when it could go, or "failed" with its reason; then
stdin asks `turn N` for one step to warm up and N timed ones, until `end`. stdout has one
JSON object a line. Without --serve there is one turn of --steps.
"""
import argparse
import json
import sys
import time

NETS = {"main": (1, 4, 10), "vgg16": (3, 1, 1000)}  # channels, ratio, classes


def arguments(doc, rows):
    p = argparse.ArgumentParser(description=doc,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--row", choices=rows, required=True)
    p.add_argument("--net", choices=NETS, default="main",
                   help="VGG-11 with channels / 4 on 1x224x224, or VGG-16 on 3x224x224")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=5, help="timed ones of a turn")
    p.add_argument("--serve", action="store_true", help="take turns from stdin")
    p.add_argument("--size", type=int, default=224)
    p.add_argument("--ratio", type=int, default=0, help="4, or 1 with vgg16")
    p.add_argument("--hidden", type=int, default=4096)
    return p


def complete(args):
    """What follows from --net."""
    args.channels, ratio, args.classes = NETS[args.net]
    args.ratio = args.ratio or ratio
    args.way = "eager"  # how tests/bench/torch_vgg.py builds it
    return args


def say(**row):
    print(json.dumps(row), flush=True)


def peak_rss_bytes():
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def turn(step, steps):
    step()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    say(event="turn", seconds=seconds, peak_rss_bytes=peak_rss_bytes())


def serve(args, make):
    """`make(args)` is (version, step): a step is one batch, and returns when it is done."""
    try:
        version, step = make(args)
        step()
    except Exception as error:  # a row that can't run is told, never hidden
        lines = str(error).strip().splitlines() or [""]
        say(event="failed", row=args.row, reason=f"{type(error).__name__}: {lines[0][:200]}")
        sys.exit(1)
    say(event="ready", row=args.row, version=version)
    if not args.serve:
        turn(step, args.steps)
        return
    for line in sys.stdin:
        words = line.split()
        if words[:1] != ["turn"]:
            break
        turn(step, int(words[1]))
