# SPDX-License-Identifier: Apache-2.0
"""Stages `bench` and `vgg16`: libvgg and PyTorch on the same work, turn about.

`bench` is the main job: epochs of VGG-11 / 4 on all of Fashion-MNIST at 224x224, batch 128.
`vgg16` is VGG-16 on noise of CIFAR-10's size enlarged to 3x224x224, batch 64. A row of PyTorch
(tests/bench/torch_vgg.py) is a process that warms up and then waits; libvgg and it take turns,
so that both see the same hour of the same GPU. The one that waits computes nothing. Both use
PyTorch's copies of cuDNN and cuBLAS, if it brings some, as every stage does.
"""
import json
import os
import pathlib
import statistics
import sys
import time

import peer
import rows
import trainer as trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TORCH = ROOT / "tests/bench/torch_vgg.py"

# PyTorch's rows: tests/bench/torch_vgg.py has the same.
WAYS = ("eager", "compile", "autotune", "graph", "graph-compile", "graph-eager", "master")
ROWS = tuple(f"{p}-{way}" for p in ("bf16", "tf32", "fp32") for way in WAYS
             if p == "bf16" or way != "master")
# PyTorch's rows in order of importance: what is expected to be its best way first, after what
# comes close to it and compiles in a fraction of the time.
MAIN_ROWS = ("bf16-graph-compile", "bf16-graph", "tf32-eager", "bf16-eager", "bf16-autotune",
             "bf16-master", "tf32-graph", "fp32-eager", "bf16-compile", "fp32-graph",
             "tf32-autotune", "bf16-graph-eager", "tf32-compile", "fp32-autotune",
             "fp32-compile", "tf32-graph-compile", "fp32-graph-compile")
MAIN_QUICK = ("bf16-graph-compile", "bf16-graph", "tf32-eager")
VGG16_ROWS = ("bf16-graph-compile", "bf16-graph", "tf32-graph", "bf16-eager", "tf32-eager",
              "bf16-autotune", "tf32-autotune", "bf16-master", "fp32-eager")
VGG16_QUICK = ("bf16-graph-compile", "tf32-eager")


class Torch(peer.Peer):
    """One row of PyTorch, waiting for turns."""

    def __init__(self, args, memory, name, net):
        self.memory, self.base = memory, memory.mark()
        command = [sys.executable, "-B", TORCH, "--row", name, "--net", net, *args.torch_flags]
        if net == "main":
            command += ["--data", args.data]
        if args.quick:
            command += ["--tail", "eager"]
        env = dict(os.environ)
        if args.device == "cpu":
            command += ["--device", "cpu"]
        cache = "inductor-" + name if args.fresh_compiler_cache else "inductor"
        env["TORCHINDUCTOR_CACHE_DIR"] = str(pathlib.Path(args.work) / cache)
        text = " ".join(map(str, command[2:]))
        super().__init__([*command, "--serve", "--started", time.time()],
                         "python3 " + text.replace(str(ROOT) + "/", ""), env)

    def turn(self, epochs, limit):
        return self.ask(f"epochs {epochs}", "epochs", limit)


class Ours:
    """Turns of libvgg in one precision, and all that they gave."""

    def __init__(self, args, trainer, memory, precision, net):
        self.args, self.trainer, self.memory = args, trainer, memory
        self.precision, self.net = precision, net
        self.seconds, self.peak, self.command, self.losses = [], None, None, []
        self.wall = {}  # of a whole process: tests, checkpoints and all
        self.flags = trainer.on(precision)
        self.env = trainer.fresh_cache()
        self.images = args.images if net == "main" else args.vgg16_steps * args.vgg16_batch

    def vgg16_flags(self, steps, warmup):
        return ["bench", "--mode", "train", *self.args.vgg16_net, "--data-loading",
                "--dataset", "cifar10", "--data", self.trainer.noise(), "--batch",
                self.args.vgg16_batch, "--steps", steps, "--warmup", warmup, *self.flags,
                "--format", "json"]

    def bench(self, steps, warmup, limit):
        flags = self.vgg16_flags(steps, warmup)
        done = self.trainer.call(*flags, limit=limit, env=self.env)
        command = self.trainer.shown(flags)
        if done.why():
            raise done.failure(command=command)
        return json.loads(done.out), done.seconds, command

    def one_step(self, limit):
        """Seconds from nothing to a process that has made one step and ended."""
        if self.net != "main":
            _, seconds, command = self.bench(1, 0, limit)
            return seconds, command
        out, done, command = self.trainer.train(
            [*self.flags, "--steps", 1, "--seed", 1], limit, self.env)
        trainers.drop(out)
        return done.seconds, command

    def turn(self, epochs, limit):
        """Seconds of each epoch, the first of a process not counted."""
        base = self.memory.mark()
        found = self.main(epochs, limit) if self.net == "main" else self.vgg16(epochs, limit)
        peak = self.memory.above(base)
        self.peak = max(self.peak or 0.0, peak) if peak is not None else None
        self.seconds += found
        return found

    def main(self, epochs, limit):
        out, done, self.command = self.trainer.train(
            [*self.flags, "--epochs", epochs + 1, "--seed", 1], limit, self.env)
        table = trainers.epochs(out)
        self.wall = {"process_s": round(done.seconds, 2), "process_epochs": epochs + 1}
        trainers.drop(out)
        if len(table) != epochs + 1:
            raise rows.Failed(f"{len(table)} epochs, expected {epochs + 1}", tail=done.tail(),
                              command=self.command)
        self.losses = [row["train_loss"] for row in table]
        return [self.images / row["images_per_s"] for row in table[1:]]

    def vgg16(self, epochs, limit):
        steps = self.args.vgg16_steps
        found, _, self.command = self.bench(steps * epochs, steps, limit)
        return [self.images / found["images_per_s"]]

    def figures(self):
        return {"command": self.command, "precision": self.precision,
                **spread(self.seconds, self.images), "device_mib": self.peak, **self.wall,
                **({"train_loss": self.losses} if self.losses else {})}


def spread(seconds, images):
    middle = statistics.median(seconds)
    return {"s_per_epoch": round(middle, 5), "s_least": round(min(seconds), 5),
            "s_most": round(max(seconds), 5), "epochs": len(seconds),
            "images_per_s": round(images / middle, 1)}


def measure_cold(ours, left):
    cold, command = ours.one_step(left)
    warm, _ = ours.one_step(left - cold)
    return {"command": command, "precision": ours.precision, "cold_s": round(cold, 2),
            "warm_s": round(warm, 2)}


def measure_alone(ours, left):
    """A turn of ours beside nothing; more come beside PyTorch's rows."""
    ours.turn(1 if ours.precision == "fp32" else ours.args.epochs, left)
    return ours.figures()


def take_turns(torch, ours, ready, args, end):
    """Ours, PyTorch, ours, PyTorch; figures of both."""
    slow = ready["warm_epoch_s"] > 2.0
    turns, epochs = (3, 1) if slow else (args.turns, args.epochs)
    mine, theirs, peak, last, trouble = [], [], None, {}, None
    for _ in range(turns):
        if theirs and end - time.monotonic() < 4 * epochs * ready["warm_epoch_s"] + 5:
            break
        try:
            mine += ours.turn(epochs, end - time.monotonic())
        except rows.Failed as error:
            trouble = str(error)
        torch.memory.mark()
        last = torch.turn(epochs, end - time.monotonic())
        theirs += last["wall_s"]
        above = torch.memory.above(torch.base)
        peak = above if peak is None or above is None else max(peak, above)
    figures = {**spread(theirs, ours.images), "device_mib": peak, "loss": last["loss"],
               "allocated_mib": last.get("allocated_mib"),
               "reserved_mib": last.get("reserved_mib")}
    if mine:
        beside = statistics.median(mine)
        figures["ours_beside_s"] = round(beside, 5)
        figures["ratio"] = round(statistics.median(theirs) / beside, 3)
    if trouble:
        raise rows.Failed(f"libvgg's turn: {trouble}", **figures)
    return figures


def measure_torch(args, memory, name, ours, left):
    """A row of PyTorch, with a turn of ours before each turn of its own."""
    end = time.monotonic() + min(left, args.row_limit)
    torch = Torch(args, memory, name, ours.net)
    try:
        ready = torch.next("ready", end - time.monotonic())
        figures = take_turns(torch, ours, ready, args, end)
    finally:
        torch.close()
    for key in ("event", "row", "net"):
        ready.pop(key)
    figures = {"command": torch.shown(), "precision": ours.precision, **ready, **figures,
               "compiler_cache": "its own" if args.fresh_compiler_cache else "the stage's"}
    if "DIFFERS" in ready["check"]:
        raise rows.Failed("the compiled step is not eager's", **figures)
    return figures


def run(stage, args, trainer, memory):
    net = "main" if stage.name == "bench" else "vgg16"
    every = (MAIN_ROWS, MAIN_QUICK) if net == "main" else (VGG16_ROWS, VGG16_QUICK)
    precisions = args.precisions
    names = [n for n in args.rows or every[1 if args.quick else 0]
             if n.partition("-")[0] in precisions]
    # Quick: all of the first precision before the others. Strict fp32 of VGG-16, which has no
    # tensor cores, takes longest and comes behind them.
    groups = [[p] for p in precisions] if args.quick else [precisions]
    if net == "vgg16" and not args.quick:
        groups = [[p for p in precisions if p != "fp32"], [p for p in precisions if p == "fp32"]]
    ours = {p: Ours(args, trainer, memory, p, net) for p in precisions}
    cold = precisions[:1] if args.quick else precisions
    stage.plan([*(f"cold-{p}" for p in cold), *(f"alone-{p}" for p in precisions),
                *(f"torch-{n}" for n in names), *(f"vgg-{p}" for p in precisions)])

    def own(p):
        if p in cold:
            stage.do(f"cold-{p}", lambda left: measure_cold(ours[p], left))
        stage.do(f"alone-{p}", lambda left: measure_alone(ours[p], left))

    def beside(name):
        partner = ours[name.partition("-")[0]]
        stage.do(f"torch-{name}",
                 lambda left: measure_torch(args, memory, name, partner, left), need=15)

    for group in groups:
        for p in group:
            own(p)
        for name in names:
            if name.partition("-")[0] in group:
                beside(name)
    for p in precisions:
        if ours[p].seconds:
            stage.row(f"vgg-{p}", "ok", **ours[p].figures())
        elif f"alone-{p}" in stage.told:
            stage.row(f"vgg-{p}", "failed", reason="no turn of it came to its end")
