# SPDX-License-Identifier: Apache-2.0
"""Stage `parity`: does the GPU compute what the processor does?

Rows: what `vgg devices` says; the device's description (kept as a file of DIR, such as
DIR/h200.json, to be committed in tests/plans/devices); every test program for the GPU; losses of
20 steps beside the cpu engine's, in every precision; equal bits from equal runs; memory that
stays where it was. Programs that tell most in the least time come first, those of minutes after
everything but the memory; the cpu engine computes its losses while the first ones run.
"""
import json
import pathlib
import re
import threading

import rows
import trainer as trainers

# Test programs that take the plugin from VGG_PLUGIN_DIR, in tests/ of the pack.
PROGRAMS = "tests/*/test-gpu-*"
# Before anything else: each is of seconds, so that one that takes FIRST_LIMIT hangs.
FIRST = tuple(f"test-gpu-{name}" for name in (
    "conv-mma", "steps", "update", "semantics", "linear-step", "stages-bf16"))
FIRST_LIMIT = 60
# What the others begin with, where not all have the time; those that are timed come last.
NEXT = tuple(f"test-gpu-{name}" for name in ("flat", "stages-fp32", "stages-tf32", "program"))
TIMED = tuple(f"test-gpu-stages-{precision}-timed" for precision in ("bf16", "tf32", "fp32"))
DESCRIBE = "tests/*/gpu-describe"  # prints the device's description as JSON
CLOSING = re.compile(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)")
TAP = re.compile(r"^(not )?ok \d+ - (.*)$", re.M)

NICE = ("nice", "-n", "10")
STEPS = 20
TRACES = {  # recipes; He's start lets losses fall at once
    "d2l": [],  # the chapter's start and rate, dropout on: small gradients, nothing grows
    "d2l-he": ["--init", "he", "--lr", "0.002", "--dropout", "0"],
    "quick": ["--init", "he", "--lr", "0.005"],
    "adam": ["--init", "he", "--bn", "--optimizer", "adam", "--lr", "0.002"],
}
# The same run two times: without timing, and with the choices that the first one kept.
TWICE = {"twice": ["--deterministic"], "again": []}
# Largest difference of a step's loss, by recipe where the default is not meant. fp32: what the
# CPU engine keeps to PyTorch; with d2l-he two times what that engine's own two matrix products
# have between them (7.7e-4: in enlarged images neighbouring pixels nearly tie, and rounding
# decides which is the largest). bf16: three times what PyTorch's autocast has to its fp32 on
# d2l-he (6.2e-3 in 20 steps), and with d2l, where that is 1e-5 without dropout, 1e-3. TF32
# rounds products to 11 bits, between the two.
ALLOWED = {"fp32": 1e-4, "tf32": 5e-3, "bf16": 2e-2}
ALLOWED_BY = {"d2l": {"fp32": 1e-4, "tf32": 5e-4, "bf16": 1e-3},
              "d2l-he": {"fp32": 2e-3, "tf32": 5e-3, "bf16": 2e-2}}


class Reference(threading.Thread):
    """The cpu engine's losses, computed while the GPU is at other rows, with what the
    processors have to spare."""

    def __init__(self, trainer, names, limit):
        super().__init__(daemon=True)
        self.trainer, self.names, self.limit = trainer, names, limit
        self.found = {}
        self.ready = {name: threading.Event() for name in names}
        self.ended = False
        self.start()

    def stop(self):
        """No run of it goes on beside what comes after."""
        self.ended = True
        while self.is_alive():
            for process in list(rows.started):
                rows.end_group(process)
            self.join(0.1)

    def run(self):
        for name in self.names:
            if self.ended:
                return
            try:
                out, _, _ = self.trainer.train(
                    [*flags_of(name), "--device", "cpu"], self.limit, wrap=NICE)
                self.found[name] = trainers.losses(out)
                trainers.drop(out)
            except Exception as error:
                self.found[name] = error
            self.ready[name].set()

    def losses(self, name, limit):
        if not self.ready[name].wait(limit):
            raise rows.Failed("the cpu engine's run has not ended", late=True)
        if isinstance(self.found[name], Exception):
            raise self.found[name]
        return self.found[name]


def flags_of(name):
    """A trace's flags but the device's."""
    preset = "d2l" if name.startswith("d2l") else "quick"
    return ["--preset", preset, *TRACES[name], "--steps", STEPS, "--seed", 1]


def trace(trainer, reference, name, precision, left):
    flags = [*flags_of(name), *trainer.on(precision)]
    out, done, command = trainer.train(flags, left)
    mine = trainers.losses(out)
    trainers.drop(out)
    wanted = reference.losses(name, left - done.seconds)
    allowed = ALLOWED_BY.get(name, ALLOWED)[precision]
    apart = [abs(a - b) for a, b in zip(mine, wanted)]
    figures = {"command": command, "steps": len(mine), "first_loss": mine[0],
               "last_loss": mine[-1], "cpu_last_loss": wanted[-1],
               "first_difference": apart[0], "largest_difference": max(apart),
               "allowed": allowed, "losses": mine, "cpu_losses": wanted}
    if len(mine) != STEPS or len(wanted) != STEPS:
        raise rows.Failed(f"{len(mine)} and {len(wanted)} steps, expected {STEPS}", **figures)
    if not max(apart) <= allowed:
        raise rows.Failed("losses differ from the cpu engine's", **figures)
    return figures


def twice(trainer, precision, flags, left):
    """The same run two times: losses and weights to the bit."""
    found = []
    for _ in range(2):
        out, _, command = trainer.train(
            [*flags, *trainer.on(precision), "--steps", STEPS, "--seed", 7], left / 2)
        found.append((trainers.losses(out), trainers.digest(out)))
        trainers.drop(out)
    (one, hash_one), (two, hash_two) = found
    differing = [i + 1 for i, (a, b) in enumerate(zip(one, two)) if a != b]
    figures = {"command": command, "weights": hash_one[:16]}
    if hash_one != hash_two or differing:
        raise rows.Failed(f"steps with another loss: {differing or 'none'}; weights "
                          f"{hash_one[:16]} and {hash_two[:16]}", **figures)
    return figures


def program(trainer, path, limit, wrap=(), output=lambda text: None):
    """Run a test program, by itself or under another: the tests that passed, also those
    before a kill. `output` is called with all that it printed."""
    tap = trainer.work / (path.name + ".tap")
    tap.unlink(missing_ok=True)  # of the program under another tool
    # One process: a CUDA context does not outlive a fork.
    env = dict(trainer.env, CK_FORK="no", CK_TAP_LOG_FILE_NAME=str(tap))
    done = rows.run([*wrap, path], limit, env)
    output(done.out + done.err)
    text = tap.read_text(encoding="utf-8", errors="replace") if tap.exists() else ""
    ended = TAP.findall(text)
    bad = [what for no, what in ended if no]
    figures = {"program": path.name, "passed": len(ended) - len(bad), "failed_tests": len(bad),
               "seconds": round(done.seconds, 1)}
    if done.returncode == 77:
        raise rows.Skipped((done.tail().strip().splitlines() or ["no reason given"])[-1],
                           **figures)
    if done.why() or bad:
        last = ended[-1][1] if ended else "none"
        raise rows.Failed(f"{done.why() or 'tests failed'}; last test: {last[:160]}",
                          late=done.late, failures=bad[:20], tail=done.tail(), **figures)
    closing = CLOSING.search(done.out)
    ran, failures, errors = map(int, closing.groups()) if closing else (len(ended), 0, 0)
    if failures or errors:
        raise rows.Failed(f"{failures} failures and {errors} errors, though its status is 0",
                          tail=done.tail(), **{**figures, "failed_tests": failures + errors})
    figures["passed"] = max(figures["passed"], ran)
    if figures["passed"] == 0:
        raise rows.Failed("ran no test", tail=done.tail(), **figures)
    return figures


def short_name(gpu):
    """Of a GPU, as tests/plans/devices has it: h200 of "NVIDIA H200"."""
    found = re.search(r"\b[A-Za-z]*\d\w*", gpu or "")
    return found[0].lower() if found else "device"


def description_text(description):
    """As the files of tests/plans/devices are: a line for each value."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in description.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def describe(trainer, out, limit):
    path = next(iter(sorted(trainer.tree.glob(DESCRIBE))), None)
    if path is None:
        raise rows.Skipped("the pack has no gpu-describe")
    done = rows.run([path], min(limit, 30), trainer.env)
    if done.why():
        raise done.failure()
    description = json.loads(done.out)
    name = short_name(description.get("deviceName")) + ".json"
    with rows.writing():
        (pathlib.Path(out) / name).write_text(description_text(description), encoding="utf-8")
    return {"file": name, "description": description}


def leak(trainer, memory, epochs, left):
    """A run of several epochs, each with an evaluation and a checkpoint: what the device has
    in use must not grow after the first one."""
    base, marks = memory.mark(), []
    if base is None:
        raise rows.Skipped("the device's memory can't be seen from outside")
    out, stop = trainer.folder(), threading.Event()

    def watch():
        while not stop.wait(0.02):
            try:
                ended = (out / "metrics.csv").read_text().count("\n") - 1
            except OSError:
                continue
            while len(marks) < ended:
                marks.append(memory.now)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    flags = ["train", "--preset", "quick", *trainer.on("bf16"), "--epochs", epochs, "--seed", 1,
             "--data", trainer.data, "--out", out, "--quiet"]
    done = trainer.call(*flags, limit=left)
    stop.set()
    watcher.join()
    trainers.drop(out)
    figures = {"command": trainer.shown(flags)}
    if done.why():
        raise done.failure(**figures)
    if memory.above(base) is None or None in marks:
        raise rows.Skipped("the device's memory could not be read all the while", **figures)
    grown = [round(m - base, 1) for m in marks]
    figures["mib_after_each_epoch"] = grown
    if len(grown) < 3:
        raise rows.Skipped("too short to see", **figures)
    if max(grown[1:-1]) > grown[0] + 1.0:  # the last mark may be of a process that ends
        raise rows.Failed("memory in use grows", **figures)
    return figures


def compare(stage, args, trainer, reference, trace_rows):
    """Beside the cpu engine, and a run beside itself."""
    for row, name, precision in trace_rows:
        stage.do(row, lambda left, n=name, p=precision: trace(trainer, reference, n, p, left))
    for precision in twice_precisions(args):
        for kind, flags in TWICE.items():
            stage.do(f"{kind}-{precision}", lambda left, p=precision, f=flags: twice(
                trainer, p, ["--init", "he", *f], left))


def twice_precisions(args):
    return [p for p in (["bf16"] if args.quick else args.precisions) if p in args.precisions]


def of_precisions(path, precisions):
    """A program of one precision alone is run where that is asked for."""
    named = [p for p in ("bf16", "tf32", "fp32") if p in path.name.split("-")]
    return not named or named[0] in precisions


def programs_of(args, trainer):
    """(those that come first, the others), each in order of importance."""
    found = sorted(p for p in trainer.tree.glob(PROGRAMS)
                   if args.rehearse or of_precisions(p, args.precisions))
    first = [p for p in found if p.name in FIRST]
    others = [p for p in found if p.name not in FIRST]
    return (sorted(first, key=lambda p: FIRST.index(p.name)),
            sorted(others, key=lambda p: NEXT.index(p.name) if p.name in NEXT else len(NEXT)))


def run_programs(stage, args, trainer, paths, most):
    most = args.program_limit or (min(40, most) if args.quick else most)
    for path in paths:
        stage.do(path.name, lambda left, p=path: program(trainer, p, min(left - 2, most)))


def run(stage, args, trainer, memory):
    quick, precisions = args.quick, args.precisions
    traces = ["d2l-he", "quick"] if quick else list(TRACES)
    if args.rehearse:
        traces = [name for name in traces if not name.startswith("d2l")]
    first, others = programs_of(args, trainer)
    description = f"describe-{short_name((trainer.engine() or '').partition(', ')[0])}"
    trace_rows = [(f"trace-{name}-{p}", name, p) for name in traces
                  for p in (precisions if name != "quick" or not quick else precisions[-1:])]
    stage.plan(["devices", description, *[p.name for p in first], *(r[0] for r in trace_rows),
                *(f"{kind}-{p}" for p in twice_precisions(args) for kind in TWICE),
                *([p.name for p in others] or ([] if first else ["programs"])), "leak"])
    stage.do("devices", trainer.devices)
    stage.do(description, lambda left: describe(trainer, args.out, left))
    reference = Reference(trainer, traces, stage.left())
    try:
        run_programs(stage, args, trainer, first, FIRST_LIMIT)
        compare(stage, args, trainer, reference, trace_rows)
    finally:
        reference.stop()
    if not first and not others:
        stage.row("programs", "failed", reason="the pack has no test program for the GPU")
    run_programs(stage, args, trainer, others, 150)
    stage.do("leak", lambda left: leak(trainer, memory, 5, left), need=8)
