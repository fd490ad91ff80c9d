# SPDX-License-Identifier: Apache-2.0
"""The page docs/results/gpu.md from gpu-check's rows: tables, goals met or not, and what no row
shows."""
import statistics

import parity as parities
import sanitize

HEAD = """# On a GPU

Made by `scripts/gpu/report.py` from the rows of `scripts/gpu-check`, which are all in
[gpu.json](gpu.json). Do not edit.
"""

NOTHING = """
**Nothing has been measured on a GPU yet.** What is known of the [GPU engine](../gpu.md) comes
from tests without one; that page also says how to measure.
"""

CHAPTER = {"loss": 0.369, "train": 0.866, "test": 0.882, "f1": 0.891,
           "first": (2.116, 0.625), "fifth": (0.482, 0.854)}
PRECISIONS = ("bf16", "tf32", "fp32")
# Most seconds for an epoch of the main job in bf16, by what the GPU's name has in it.
EPOCH_GOAL = {"H200": 0.50, "H100": 0.75}


def number(value, form="{:.3f}"):
    return "-" if value is None else form.format(value)


def table(head, lines):
    rule = ["---"] + ["---:"] * (len(head) - 1)
    rows = [head, rule, *lines]
    return "\n" + "".join("| " + " | ".join(map(cell, row)) + " |\n" for row in rows)


def cell(value):
    """A value that stays in its cell."""
    return str(value).replace("\n", " ").replace("|", "\\|")


def goal(text, met, unseen="not measured"):
    """A line about a goal; `met` is None where it could not be seen."""
    return f"* {text}: **{ {True: 'met', False: 'not met', None: unseen}[met] }**\n"


def gpu_of(row, runs):
    return runs[row["run"]].get("gpu") or "no GPU"


def same_gpu(one, other, runs):
    """Were rows of one run, or of runs on GPUs of one name?"""
    names = [runs[row["run"]].get("gpu") for row in (one, other)]
    return one["run"] == other["run"] or None is not names[0] == names[1]


def libraries(data, run):
    """cuDNN and cuBLASLt that libvgg used in a run; a run says it, or a row of it."""
    text = data["runs"][run].get("engine") or ""
    row = data["stages"].get("parity", {}).get("devices", {})
    if not text and row.get("run") == run:
        text = next((d["text"] for d in row.get("devices", []) if d["engine"] == "cudnn"), "")
    return text.partition("; ")[2] or "not recorded"


def machines(data):
    text = "\n## Runs\n"
    lines = []
    for i, run in enumerate(data["runs"], 1):
        packages = run.get("packages", {})
        lines.append([i, run["stage"], run.get("date", "-"), run.get("gpu") or "no GPU",
                      run.get("driver", "-"), packages.get("torch") or "-",
                      packages.get("nvidia-cudnn-cu13") or "-",
                      packages.get("nvidia-cublas") or "-", libraries(data, i - 1),
                      f"`{run['commit'][:12]}`"
                      + (" (changed)" if run["commit"].endswith("-changed") else "")])
    text += table(["run", "stage", "date (UTC)", "GPU", "driver", "PyTorch", "its cuDNN",
                   "its cuBLAS", "libvgg's", "commit"], lines)
    text += """
`its`: of PyTorch's packages; `libvgg's`: what `vgg devices` found then. A figure is that of its
run's commit: what the engine gained since (`git log COMMIT.. -- backends/cudnn`) is not in it.
"""
    if any(not run["asked"].startswith("scripts/gpu-check") for run in data["runs"]):
        text += """Runs of other commands than `scripts/gpu-check` were made by hand with the programs of the pack, and
their rows written down from what they printed.
"""
    text += "\n```sh\n" + "".join(
        f"{run['asked']}   # run {i}\n" for i, run in enumerate(data["runs"], 1)) + "```\n"
    text += "".join(f"\nRun {i}: the packed programs did not start there; they were built there "
                    "from the packed sources.\n" for i, run in enumerate(data["runs"], 1)
                    if not run.get("prebuilt", True))
    return text


TWICE = {"twice-": "`--deterministic`", "again-": "timed choices, kept from the first run"}


def parity(rows):
    if not rows:
        return ""
    text = "\n## The same results as on the processor\n"
    traces = [(n, r) for n, r in rows.items() if n.startswith("trace-") and
              "largest_difference" in r]
    if traces:
        text += "\nLosses of 20 training steps beside the cpu engine's, from equal seeds.\n"
        text += table(["recipe and precision", "largest difference", "allowed", "first loss",
                       "last loss", ""],
                      [[n[6:], f"{r['largest_difference']:.1e}", f"{r['allowed']:.0e}",
                        number(r["first_loss"]), number(r["last_loss"]), r["status"]]
                       for n, r in traces])
    programs = [(n, r) for n, r in rows.items() if "program" in r]
    if programs:
        passed = sum(r.get("passed", 0) for _, r in programs)
        bad = sum(r.get("failed_tests", 0) for _, r in programs)
        text += f"\nTest programs on the GPU: {passed} tests passed, {bad} failed.\n"
        text += table(["program", "passed", "failed", "seconds", ""],
                      [[f"`{n}`", r.get("passed", "-"), r.get("failed_tests", "-"),
                        r.get("seconds", "-"), r["status"]] for n, r in programs])
    text += "\n" + "".join(f"* {name[6:]}, {TWICE[name[:6]]}, the same run twice: "
                    + ("equal to the bit\n" if row["status"] == "ok"
                       else f"**{row['status']}**: {row.get('reason', '')}\n")
                    for name, row in rows.items() if name[:6] in TWICE)
    return text


def speed_rows(rows, runs):
    """(ours by precision, PyTorch's rows): figures of rows that have some. Ours are lists, the
    newest run's first, and of one run the row of turns beside PyTorch before the one alone."""
    ours = {}
    for kind in ("vgg-", "alone-"):
        for name, row in rows.items():
            if name.startswith(kind) and row["status"] == "ok":
                ours.setdefault(name[len(kind):], []).append(row)
    for found in ours.values():
        found.sort(key=lambda row: runs[row["run"]].get("date", ""), reverse=True)
    theirs = {n[6:]: r for n, r in rows.items() if n.startswith("torch-") and "s_per_epoch" in r}
    return ours, theirs


def no_figures(gone):
    return ("\n" if gone else "") + "".join(
        f"* no figure for `{n}` ({r['status']}): {r.get('reason', '')}\n" for n, r in gone)


def ratio_of(peer, mine, runs):
    """How many times as fast as a row of PyTorch ours is: by turns beside it, else by our row of
    the same run or, failing that, of the same GPU; None where there is none."""
    if "ratio" in peer:
        return peer["ratio"]
    here = sorted((row for row in mine if same_gpu(row, peer, runs)),
                  key=lambda row: row["run"] != peer["run"])
    return peer["s_per_epoch"] / here[0]["s_per_epoch"] if here else None


def faster(mine, theirs, precision, runs):
    """(PyTorch's best row, how many times as fast as that ours is): of the rows that can be
    compared the fastest, on the GPU of our first one if there are some. The ratio is None where
    no row can be compared, both are where a side has none."""
    peers = {n: r for n, r in theirs.items() if r["precision"] == precision and r["status"] == "ok"}
    if not mine or not peers:
        return None, None
    ratios = {name: ratio_of(row, mine, runs) for name, row in peers.items()}
    best = min(peers, key=lambda name: (
        ratios[name] is None, not same_gpu(peers[name], mine[0], runs),
        peers[name]["s_per_epoch"]))
    return best, ratios[best]


def whose(found, mine, theirs, runs):
    """Of what faster() gave: PyTorch's row, and where it is not our first one's the GPU."""
    peer, ratio = found
    if peer is None:
        return None
    if same_gpu(theirs[peer], mine[0], runs):
        return peer
    there = gpu_of(theirs[peer], runs)
    return f"{peer}, both on {there}" if ratio else (
        f"{peer}, on {there}; libvgg on {gpu_of(mine[0], runs)}")


def beside_goal(text, least, who, ratio, known=True):
    """The goal to be so many times as fast as PyTorch's row `who`, None where there is none."""
    if who and not ratio:
        return goal(f"{text} ({who})", None, "not beside")
    seen = ratio and known
    return goal(text + (f" ({who}): {ratio:.2f}" if seen else ""), ratio >= least if seen else None)


def beside(ours, theirs, precision, runs):
    """A line about a precision that has no goal; none without a row of PyTorch."""
    mine = ours.get(precision, [])
    peer, ratio = found = faster(mine, theirs, precision, runs)
    if peer is None:
        return ""
    return (f"* {precision} beside PyTorch's best {precision} row "
            f"({whose(found, mine, theirs, runs)}): "
            + (f"{ratio:.2f} times as fast\n" if ratio else "**not beside**\n"))


def line_of(what, row, ratio, cold):
    return [what, number(row["s_per_epoch"], "{:.4f}"),
            f"{number(row['s_least'], '{:.4f}')} to {number(row['s_most'], '{:.4f}')}",
            row["epochs"], number(row["images_per_s"], "{:.0f}"), ratio, cold,
            number(row["device_mib"], "{:.0f}"), row["run"] + 1]


def speed(rows, runs, unit):
    ours, theirs = speed_rows(rows, runs)
    lines = []
    for precision in PRECISIONS:
        for row in ours.get(precision, [])[:1]:
            cold = rows.get(f"cold-{precision}", row)  # the row itself has no such figures
            if not same_gpu(cold, row, runs):
                cold = row
            times = [number(cold.get(key), "{:.1f}") for key in ("cold_s", "warm_s")]
            lines.append(line_of(f"**libvgg {precision}**", row, "", " / ".join(times)))
        for name, row in theirs.items():
            if row["precision"] == precision:
                good = row["status"] == "ok"
                note = "" if good else f" ({row['status']}: {row['reason']})"
                ratio = "not beside" if good and "ratio" not in row else number(
                    row.get("ratio"), "{:.2f}")
                lines.append(line_of(f"PyTorch {name}{note}", row, ratio,
                                     number(row.get("cold_s"), "{:.1f}")))
    text = table(["", f"s, {unit}", "least to most", "counted", "images/s", "libvgg is faster by",
                  "cold start s (first / again)", "device MiB", "run"], lines)
    gone = [(n, r) for n, r in rows.items() if r["status"] != "ok" and "s_per_epoch" not in r]
    return text + no_figures(gone)


def main_job(rows, runs):
    if not rows:
        return ""
    text = """
## The main job

VGG-11 with channels / 4 on the 60,000 images of Fashion-MNIST at 224x224, batch 128, plain SGD,
dropout: whole training epochs, the last batch of 96 and the images' enlargement included, on both
sides with images resident on the device. libvgg's end with the last batch's loss: its update, a
thousandth of an epoch, is not in them. Medians; libvgg and the PyTorch row take turns, and
"faster by" compares with the turns beside that row. Below the table a row of PyTorch that had no
turns beside it is compared with libvgg's on the same GPU alone, of the same run if there is one.
`compile` and `autotune` are torch.compile's default and its max-autotune. `graph` is the whole step
in a CUDA graph made by hand around what max-autotune made, `graph-compile` around the default's,
`graph-eager` around no compiler's; `master` is `graph` with bf16 parameters and fp32 masters. Cold
start: from nothing to a first step; libvgg's to the end of a process that makes one, without and
with what an earlier one left on disk. Device MiB: the most in use while training, seen from
outside.
"""
    text += speed(rows, runs, "an epoch")
    ours, theirs = speed_rows(rows, runs)
    mine = ours.get("bf16", [])
    peer, ratio = found = faster(mine, theirs, "bf16", runs)
    # Its best way is a compiled one: without a figure of one nobody knows its best.
    known = peer and any(not name.endswith("eager") for name, row in theirs.items()
                         if "bf16" in name and same_gpu(row, theirs[peer], runs))
    text += "\n" + beside_goal("bf16 at least 1.5 times as fast as PyTorch's best bf16 row", 1.5,
                               whose(found, mine, theirs, runs), ratio, known)
    for gpu, most in EPOCH_GOAL.items():
        here = mine and gpu in gpu_of(mine[0], runs)
        text += goal(f"an epoch in bf16 at most {most:.2f} s on an {gpu}"
                     + (f": {mine[0]['s_per_epoch']:.3f} s" if here else ""),
                     mine[0]["s_per_epoch"] <= most if here else None)
    return text + "".join(beside(ours, theirs, p, runs) for p in ("tf32", "fp32"))


def vgg16(rows, runs):
    if not rows:
        return ""
    text = """
## VGG-16

Training steps on noise of CIFAR-10's size, enlarged to 3x224x224 on the device, batch 64.
"""
    text += speed(rows, runs, "50 steps") + "\n"
    ours, theirs = speed_rows(rows, runs)
    for precision in ("bf16", "tf32"):
        mine = ours.get(precision, [])
        found = faster(mine, theirs, precision, runs)
        text += beside_goal(
            f"{precision} at least 1.1 times as fast as PyTorch's best {precision} row", 1.1,
            whose(found, mine, theirs, runs), found[1])
    return text + beside(ours, theirs, "fp32", runs)


def means(rows):
    """A line for each precision that has more than one whole run."""
    lines = []
    for precision in PRECISIONS:
        ends = [r["curve"][max(r["curve"], key=int)] for r in rows.values()
                if r["status"] == "ok" and r["precision"] == precision]
        if len(ends) > 1:
            values = [statistics.mean(e[key] for e in ends) for key in
                      ("train_loss", "train_accuracy", "test_accuracy", "macro_f1")]
            lines.append([f"mean of {len(ends)}, {precision}", *map(number, values),
                          "", "", ""])
    return lines


def accuracy(rows):
    if not rows:
        return ""
    lines = [["the chapter", number(CHAPTER["loss"]), number(CHAPTER["train"]),
              number(CHAPTER["test"]), number(CHAPTER["f1"]),
              "{:.3f}, {:.3f}".format(*CHAPTER["first"]),
              "{:.3f}, {:.3f}".format(*CHAPTER["fifth"]), "-"]]
    for name, r in rows.items():
        curve = r.get("curve")
        if not curve:
            continue
        last = curve[max(curve, key=int)]
        first, fifth = curve.get("1"), curve.get("5")
        lines.append([f"{name} ({r['epochs']} epochs)" + ("" if r["status"] == "ok" else
                                                         f", {r['status']}"),
                      number(last["train_loss"]), number(last["train_accuracy"]),
                      number(last["test_accuracy"]), number(last["macro_f1"]),
                      *("{:.3f}, {:.3f}".format(e["train_loss"], e["test_accuracy"])
                        if e else "-" for e in (first, fifth)),
                      number(r.get("wall_s"), "{:.1f}")])
    lines += means(rows)
    text = """
## The recipe to its end

`vgg train --preset d2l`, ten epochs. Training loss and accuracy are means over the last epoch;
macro F1 is of the test images.
"""
    text += table(["", "loss", "train accuracy", "test accuracy", "macro F1",
                   "first epoch: loss, test", "fifth epoch: loss, test", "wall s"], lines)
    return text + no_figures([(n, r) for n, r in rows.items() if "curve" not in r])


def sanitizers(rows):
    if not rows:
        return ""
    return "\n## compute-sanitizer\n" + table(
        ["run", "tests passed", "faults", "seconds", ""],
        [[f"`{n}`", r.get("passed", "-"), r.get("found", "-"), r.get("seconds", "-"),
          r["status"] + (f": {r['reason']}" if "reason" in r else "")] for n, r in rows.items()])


def total(kernels, key):
    """A sum over kernels, of those that have the figure; None where none has."""
    known = [kernel[key] for kernel in kernels if kernel.get(key) is not None]
    return sum(known) if known else None


def issuing(kernels):
    """Share of the cycles in which an instruction was issued, in percent, over the kernels' time;
    None where one has none."""
    if any(kernel.get("issue_pct") is None for kernel in kernels):
        return None
    return sum(kernel["issue_pct"] * kernel["us"] for kernel in kernels) / total(kernels, "us")


def kernel_rows(step, key):
    """Lines of a table: the step's kernels by a key of theirs, most time first."""
    groups = {}
    for kernel in step["kernels"]:
        groups.setdefault(kernel[key], []).append(kernel)
    lines = []
    for name, found in sorted(groups.items(), key=lambda item: -total(item[1], "us")):
        us, mb = total(found, "us"), total(found, "mb")
        lines.append([f"`{name}`", len(found), f"{us:.1f}", f"{100 * us / step['us']:.1f} %",
                      number(mb, "{:.1f}"), number(mb and 1e3 * mb / us, "{:.0f}"),
                      number(total(found, "minst"), "{:.1f}"), number(issuing(found), "{:.0f}")])
    return lines


def step_tables(step):
    figures = ["us", "share", "DRAM MB", "GB/s", "M warp instructions", "issuing %"]
    text = (f"\nOne step: {len(step['kernels'])} kernels, {step['us']:.0f} us together, each run "
            "alone.\n")
    text += table(["kernel", "launches", *figures], kernel_rows(step, "name"))
    return text + table(["stream", "kernels", *figures], kernel_rows(step, "stream"))


def origin(row, runs):
    return f"run {row['run'] + 1}, {gpu_of(row, runs)}"


def profile(rows, runs):
    if not rows:
        return ""
    text = """
## Where a step's time goes

The kernels of one training step of the main job as Nsight Compute times them: one after the
other, with clocks and caches left alone. In a run kernels of different streams overlap, so a step
takes less than their sum. `issuing` is the share of a multiprocessor's cycles with an instruction
issued, a mean over the kernels' time. Below them what the plan says (`vgg bench --plan`).
"""
    for precision in PRECISIONS:
        step, plan = (rows.get(f"{kind}-{precision}", {}) for kind in ("step", "plan"))
        if "kernels" in step:
            text += f"\n### Kernels, {precision} ({origin(step, runs)})\n" + step_tables(step)
        if "plan" in plan:
            text += f"\n### Plan, {precision} ({origin(plan, runs)})\n\n```text\n"
            text += "".join(f"{line}\n" for line in plan["plan"]) + "```\n"
    return text + no_figures([(n, r) for n, r in rows.items()
                              if "kernels" not in r and "plan" not in r])


# Every test program for the GPU and every run under the sanitizer is told by its name.
PROGRAMS = [name for name in (*parities.FIRST, *parities.NEXT, *parities.TIMED)
            if name != "test-gpu-conv-mma"]  # which has words of its own


def sanitized(tool):
    return "sanitize", f"{tool}-", *(f"{tool}-{p}" for t, p in sanitize.PROGRAMS if t == tool)


# What must have been seen, by (stage, beginning of row names, names that must be among them).
# Without such names one row is enough.
WANTED = {
    "the GPU's own description of itself, for the tests of plans": ("parity", "describe-"),
    "the engine's losses beside the cpu engine's": ("parity", "trace-"),
    "equal bits from equal runs": ("parity", "twice-"),
    "equal bits from equal runs by timed choices": ("parity", "again-"),
    "the test programs on the GPU": ("parity", "test-", *PROGRAMS),
    "convolutions on tensor cores one by one, those by Hopper's warp groups among them": (
        "parity", "test-gpu-conv-mma"),
    "memory that does not grow": ("parity", "leak"),
    **{f"libvgg's speed on the main job, {p}": ("bench", f"alone-{p}") for p in PRECISIONS},
    **{f"PyTorch's speed on the main job, {p}": ("bench", f"torch-{p}") for p in PRECISIONS},
    "cold start": ("bench", "cold-"),
    **{f"libvgg's speed on VGG-16, {p}": ("vgg16", f"alone-{p}") for p in PRECISIONS},
    **{f"PyTorch's speed on VGG-16, {p}": ("vgg16", f"torch-{p}") for p in PRECISIONS},
    "the recipe's accuracy": ("accuracy", ""),
    **{f"our kernels under {tool}": sanitized(tool)
       for tool in ("memcheck", "racecheck", "synccheck")},
    "where a step's time goes": ("profile", "step-"),
}


# What the engine has gained since a run of these rows may have been: (what, day and time in UTC,
# names of rows that see it, all of one stage).
GAINED = [
    ("gradients of taps", "2026-11-27 22:55:00", "parity",
     [f"test-gpu-stages-{p}" for p in PRECISIONS]),
]


def gained_since(stages, runs):
    for what, since, stage, names in GAINED:
        rows = stages.get(stage, {})
        new = [n for n in names if n in rows
               and runs[rows[n]["run"]].get("date", "") >= since and rows[n]["status"] == "ok"]
        if missing := ", ".join(f"`{n}`" for n in names if n not in new):
            yield f"* {what}: not run since by {missing}\n"


def unverified(stages, runs):
    text = "\n## Not verified\n\n"
    gained = list(gained_since(stages, runs))
    found = len(gained)
    for what, (stage, begin, *names) in WANTED.items():
        rows = {n: r for n, r in stages.get(stage, {}).items() if n.startswith(begin)}
        said = [f"`{n}` {r['status']}" + (f" ({r['reason'][:160]})" if r.get("reason") else "")
                for n, r in rows.items() if r["status"] != "ok"]
        missing = ", ".join(f"`{n}`" for n in names if n not in rows)
        if missing:
            said.append(missing + " not run")
        if not rows and not names:
            said.append("not run")
        text += f"* {what}: {'; '.join(said)}\n" if said else ""
        found += bool(said)
    return text + "".join(gained) + ("" if found else "Every row is there and ok.\n")


def page(data):
    if not data["runs"]:
        return HEAD + NOTHING
    stages, runs = data["stages"], data["runs"]
    get = stages.get
    return (HEAD + machines(data) + parity(get("parity", {})) + main_job(get("bench", {}), runs)
            + profile(get("profile", {}), runs) + vgg16(get("vgg16", {}), runs)
            + accuracy(get("accuracy", {})) + sanitizers(get("sanitize", {}))
            + unverified(stages, runs))
