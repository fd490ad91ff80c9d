# SPDX-License-Identifier: Apache-2.0
"""Stage `profile`: where a training step of the main job spends its time on the GPU. (Python
has a module of the stage's name.)

Rows of each precision: what the plan says of its stages, and the kernels of one training step
in order, as Nsight Compute (`ncu`) sees them. All runs of a precision share a plan cache that
is new to the first of them, so that those seen are of the plan that is told, and none tries
algorithms under ncu.
"""
import csv
import json
import re
import time

import machine
import rows
import trainer as trainers

METRICS = {  # ncu's names and the row's
    "gpu__time_duration.sum": "us", "dram__bytes.sum": "mb", "sm__inst_executed.sum": "minst",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps_pct",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue_pct",
}
SCALES = {  # ncu's units to microseconds, megabytes, millions of warps' instructions
    "ns": 1e-3, "nsecond": 1e-3, "us": 1.0, "usecond": 1.0, "ms": 1e3, "msecond": 1e3,
    "byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1.0, "Gbyte": 1e3, "inst": 1e-6, "%": 1.0,
}
# Caches and clocks as the program has them.
OPTIONS = ["--csv", "--print-units", "base", "--cache-control", "none", "--clock-control", "none",
           "--metrics", ",".join(METRICS)]
DENIED = re.compile(r"^==ERROR==\s*(ERR_NVGPUCTRPERM[^\n]*)", re.M)
STEPS = 3
BEGINS = ("set_step", "gather")  # the kernels that a step on a resident data set begins with


def short(name):
    """A kernel's name and template arguments, without its namespace, type and parameters."""
    name = re.sub(r"(<unnamed>|\(anonymous namespace\))::", "", name)
    begin, depth = 0, 0
    for i, char in enumerate(name):
        depth += {"<": 1, ">": -1}.get(char, 0)
        if depth == 0 and char == "(":
            return name[begin:i]
        if depth == 0 and char in " :":
            begin = i + 1
    return name[begin:]


def value(line):
    """A metric in the row's unit; None for what ncu could not tell."""
    try:
        return round(float(line["Metric Value"].replace(",", "")) * SCALES[line["Metric Unit"]], 6)
    except (KeyError, ValueError):
        return None


def size(text):
    """(396, 1, 1) as 396x1x1."""
    return "x".join(re.findall(r"\d+", text))


def kernels_of(text):
    """The kernels in the order they ran, of ncu's CSV: a line for each kernel and metric. Lines
    without a quote at their beginning are ncu's remarks and what the program itself printed."""
    found = {}
    for line in csv.DictReader(line for line in text.splitlines() if line.startswith('"')):
        kernel = found.setdefault(line["ID"], {
            "name": short(line["Kernel Name"]), "stream": line["Stream"],
            "grid": size(line["Grid Size"]), "block": size(line["Block Size"])})
        if line["Metric Name"] in METRICS:
            kernel[METRICS[line["Metric Name"]]] = value(line)
    return list(found.values())


def step_of(kernels):
    """Those of the first whole step: up to what the second one begins with."""
    lead, mark = BEGINS
    starts = [i - 1 if i > 0 and lead in kernels[i - 1]["name"] else i
              for i, kernel in enumerate(kernels) if mark in kernel["name"]]
    if len(starts) < 2:
        raise rows.Failed(f"ncu shows {len(kernels)} kernels and {len(starts)} beginnings of a "
                          f"step ({mark}), expected two at least")
    step = kernels[starts[0]:starts[1]]
    for kernel in step:
        if kernel.get("us") is None:
            raise rows.Failed(f"ncu gives no time of {kernel['name']}")
    return step


def plan(trainer, precision, env, left):
    """The plan's own words, of the one that `vgg train` makes."""
    flags = ["bench", "--preset", trainer.preset, "--data-loading", "--data", trainer.data,
             *trainer.on(precision), "--steps", 5, "--format", "json"]
    done = trainer.call(*flags, limit=left, env=env)
    if done.why():
        raise done.failure(command=trainer.shown(flags))
    return {"command": trainer.shown(flags), "precision": precision,
            "plan": json.loads(done.out)["plan"]}


def step(trainer, precision, env, left):
    """The kernels of a step, after a run that fills the plan cache."""
    ncu = machine.tool("ncu")
    if ncu is None:
        raise rows.Skipped("ncu (Nsight Compute) is neither on the PATH nor in the toolkit's bin")
    end = time.monotonic() + left
    flags = ["--steps", STEPS, "--seed", 1, *trainer.on(precision)]
    trainers.drop(trainer.train(flags, left, env)[0])
    try:
        out, done, command = trainer.train(flags, end - time.monotonic(), env, [ncu, *OPTIONS])
    except rows.Failed as error:
        denied = DENIED.search(error.figures.get("tail", ""))
        if denied:
            raise rows.Skipped(denied[1].strip(), command=error.figures["command"]) from None
        raise
    trainers.drop(out)
    figures = {"command": command, "precision": precision,
               "ncu": machine.ask(ncu, "--version").rpartition("Version ")[2]}
    try:
        found = step_of(kernels_of(done.out))
    except rows.Failed as error:
        raise rows.Failed(str(error), tail=done.tail(), **figures) from None
    return {**figures, "us": round(sum(kernel["us"] for kernel in found), 3), "kernels": found}


def run(stage, args, trainer, memory):
    precisions = args.precisions[:1] if args.quick else args.precisions
    stage.plan([f"{kind}-{p}" for p in precisions for kind in ("plan", "step")])
    for p in precisions:
        env = trainer.fresh_cache()
        stage.do(f"plan-{p}", lambda left, p=p, e=env: plan(trainer, p, e, left))
        stage.do(f"step-{p}", lambda left, p=p, e=env: step(trainer, p, e, left))
