# SPDX-License-Identifier: Apache-2.0
"""The page docs/results/cpu.md from the rows of bench-cpu: tables, goals met or not, and what
no row shows."""
import math

from contest import OURS, STORED_BF16
from results import peak_bytes, ratio, ratios, seconds
from tables import goal, number, table

HEAD = """# On a CPU

Made by `scripts/cpu/report.py` from the rows of `scripts/bench-cpu`, which are all in
[{json}]({json}). Do not edit. How to measure: [testing.md](../testing.md).

A row is a contest: in every round libvgg and one peer have a turn each on the same work, and
"faster by" is the median of the rounds' ratios. Figures of a step are medians over turns, and a
turn's is the median of its steps. Random images on both sides; no environment variable is set
for libvgg.
"""
# An image and training step of the main job by the direct algorithm, the images' own
# gradient left out: three passes of its convolutions and linear layers.
TRAIN_GFLOP = 3.06
INFER_TITLES = {
    "infer-vgg11-b32": "VGG-11 with channels / 4, 1x224x224, batch 32",
    "infer-vgg11-b1": "VGG-11 with channels / 4, 1x224x224, batch 1",
    "infer-vgg16-b1": "VGG-16, 3x224x224, batch 1",
    "infer-vgg16-b16": "VGG-16, 3x224x224, batch 16"}
# Rows that could be the best: PyTorch's in fp32, and the runtimes'.
TRAIN_ROWS = 4
INFER_ROWS = {"infer-vgg11-b32": 7, "infer-vgg11-b1": 8, "infer-vgg16-b1": 7,
              "infer-vgg16-b16": 6}
# Least ratio to the best peer that computes in fp32, and with weights stored in bf16.
INFER_GOALS = {
    "infer-vgg11-b32": (2.1, None), "infer-vgg11-b1": (1 / 0.8, 1 / 0.55),
    "infer-vgg16-b1": (1 / 0.65, 1 / 0.55), "infer-vgg16-b16": (1.8, None)}
TRAIN_GOAL, MEMORY_GOAL, SCALING_GOAL = 4.5, 0.4, 1.85
CONV_TITLES = {"forward": "forward", "data": "backward, data", "weights": "backward, weights"}
CONV_GOALS = {"forward": 2.2, "data": 1.8, "weights": 1.6}


def group(data, name):
    """The rows of a group by the rest of their names."""
    begin = name + "/"
    return {n[len(begin):]: r for n, r in data["rows"].items() if n.startswith(begin)}


def good(rows):
    return {name: row for name, row in rows.items() if row["status"] == "ok"}


def hardest(rows, who=OURS):
    """(ratio, row) to the best peer: where libvgg is faster by the least. What a peer does in
    bf16 does not count. None, None without any."""
    found = [(ratio(row, who), name) for name, row in good(rows).items()
             if row["counts"] and ratio(row, who)]
    least = min(found, default=None)
    return (least[0], rows[least[1]]) if least else (None, None)


def against_best(what, wanted, rows, all_rows, who=OURS):
    """A goal's line. It is met only where every row was measured that could be the best."""
    least, row = hardest(rows, who)
    if not row:
        return goal(what, None)
    count = sum(r["counts"] and bool(ratio(r, who)) for r in good(rows).values())
    part = f", beside {count} of {all_rows}" if count < all_rows else ""
    met = least >= wanted and (None if part else True)
    return goal(f"{what} ({row['peer']}): {least:.2f}{part}", met)


def geometric(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def spread(values):
    return f"{min(values):.2f} to {max(values):.2f}" if values else "-"


def rate(row, who):
    found = seconds(row, who)
    return number(found and row["batch"] / found, "{:.1f}")


def milliseconds(row, who):
    found = seconds(row, who)
    return number(found and 1e3 * found, "{:.2f}")


def mib(row, who):
    found = peak_bytes(row, who)
    return number(found and found / 2**20, "{:,.0f}")


def run_of(row):
    return row["run"] + 1


def version(row):
    """Of the peer, without what its builders add."""
    found = row.get("versions", {}).get(row["peer"], "-")
    return found.split("-")[0].split("+")[0] or "-"


def runs(data):
    text = "\n## Runs\n" + table(
        ["run", "date (UTC)", "processor", "processors", "memory GiB", "system", "kernel",
         "compiler", "commit"],
        [[i, r["date"], r["processor"], r["processors"], r["memory_gib"], r["system"],
          r["kernel"], r["compiler"], f"`{r['commit'][:12]}`"
          + (" (changed)" if r["commit"].endswith("-changed") else "")]
         for i, r in enumerate(data["runs"], 1)])
    text += "\n```sh\n" + "".join(f"{r['asked']}   # run {i}\n"
                                  for i, r in enumerate(data["runs"], 1)) + "```\n\n"
    for i, r in enumerate(data["runs"], 1):
        packages = ", ".join(f"{name} {value}" for name, value in r["packages"].items())
        touched = ", ".join(r["environment"])
        text += (f"* run {i}: load before it {r['load_before']}; {packages or 'no peers'}"
                 + (f"; **variables found set: {touched}**" if touched else "")
                 + ("; **quick: no results**" if r["quick"] else "") + "\n")
    return text


def limits(data):
    """(text, the most multiply-adds that all threads did, GFLOP/s)"""
    rows = good(group(data, "peak"))
    if not rows:
        return "", None
    lines, most = [], None
    for row in sorted(rows.values(), key=lambda r: r["threads"]):
        turns = row["turns"]["peak"]
        top = {key: max(turn[key] for turn in turns)
               for key in ("fma_gflops", "read_gb_s", "copy_gb_s")}
        most = top["fma_gflops"]
        lines.append([row["threads"], turns[0]["vector_bits"], f"{most:.1f}",
                      f"{top['read_gb_s']:.1f}", f"{top['copy_gb_s']:.1f}", run_of(row)])
    text = """
## What the machine could do

Multiply-adds of fp32 vectors count as two operations; copying counts what it reads and what it
writes. The best of all rounds.
"""
    return text + table(["threads", "bits of a vector", "GFLOP/s", "GB/s read", "GB/s copied",
                         "run"], lines), most


def training(data, most):
    rows = group(data, "train")
    if not rows:
        return ""
    lines = [[row["peer"], version(row), rate(row, row["peer"]), rate(row, OURS),
              f"**{ratio(row):.2f}**", spread(ratios(row)), mib(row, row["peer"]),
              mib(row, OURS), run_of(row)] for row in good(rows).values()]
    text = """
## Training step of the main job

VGG-11 with channels / 4 on 1x224x224: forward, loss, backward and SGD.
"""
    text += table(["beside", "version", "its images/s", "libvgg's", "faster by",
                   "least to most", "its peak MiB", "libvgg's", "run"], lines)
    text += "\n" + against_best(
        f"at least {TRAIN_GOAL} times as fast as PyTorch's best row in fp32", TRAIN_GOAL, rows,
        TRAIN_ROWS)
    _, row = hardest(rows)
    wall = most / TRAIN_GFLOP if most else None
    mine = seconds(row, OURS) if row else None
    text += goal("above what direct convolution at all of the machine's multiply-adds could do"
                 + (f", {wall:.1f} images/s ({TRAIN_GFLOP} GFLOP an image)" if wall else "")
                 + (f": {row['batch'] / mine:.1f}" if mine else ""),
                 row["batch"] / mine > wall if mine and wall else None)
    share = peak_bytes(row, OURS) / peak_bytes(row, row["peer"]) if row else None
    return text + goal(f"peak resident memory at most {MEMORY_GOAL} of that row's"
                       + (f": {share:.2f}" if row else ""),
                       share <= MEMORY_GOAL if row else None)


def scaling(data):
    rows = group(data, "scaling")
    text = "\n## From 1 thread to more\n" if rows else ""
    for row in good(rows).values():
        threads = row["turns"][OURS][0]["threads"]
        text += (f"\nThe same training step: {rate(row, row['peer'])} images/s with 1 thread, "
                 f"{rate(row, OURS)} with {threads} (run {run_of(row)}).\n\n")
        if threads == 2:
            text += goal(f"at least {SCALING_GOAL} times as fast with 2 threads: "
                         f"{ratio(row):.2f} ({spread(ratios(row))})",
                         ratio(row) >= SCALING_GOAL)
    return text


def inference(data):
    text = ""
    for name, title in INFER_TITLES.items():
        rows = group(data, name)
        if not rows:
            continue
        lines = []
        for row in good(rows).values():
            stored = ratio(row, STORED_BF16)
            lines.append([row["peer"], version(row), milliseconds(row, row["peer"]),
                          milliseconds(row, OURS), f"**{ratio(row):.2f}**",
                          spread(ratios(row)), milliseconds(row, STORED_BF16),
                          number(stored, "**{:.2f}**"), run_of(row)])
        text += f"\n### {title}\n" + table(
            ["beside", "version", "its ms", "libvgg's ms", "faster by", "least to most",
             "ms, weights stored in bf16", "faster by", "run"], lines)
        text += "\n" + inference_goals(name, rows)
    return ("\n## Inference\n\nMilliseconds of a batch. ncnn runs one image at a time, so it has "
            "batch 1 alone.\n" + text) if text else ""


def inference_goals(name, rows):
    text, (plain, stored) = "", INFER_GOALS[name]
    for wanted, who, how in ((plain, OURS, ""),
                             (stored, STORED_BF16, " with weights stored in bf16")):
        if wanted is None:
            continue
        text += against_best(
            f"at least {wanted:.2f} times as fast as the best peer in fp32{how}", wanted, rows,
            INFER_ROWS[name], who)
    absent = {why for row in rows.values()
              for who, why in row.get("absent", {}).items() if who == STORED_BF16}
    return text + "".join(f"* weights stored in bf16: {why}\n" for why in sorted(absent))


def conv_mean(data, kind):
    """(geometric mean over the stages, its ratios)"""
    found = [ratio(row) for row in good(group(data, f"conv-{kind}")).values()]
    return geometric(found), found


def gflops(row, who):
    turn = row["turns"][who][0]
    return turn["gflops"] * turn["seconds"] / seconds(row, who)


def convolutions(data):
    kinds = {kind: group(data, f"conv-{kind}") for kind in CONV_TITLES}
    numbers = sorted({number for rows in kinds.values() for number in rows})
    if not numbers:
        return ""
    lines = []
    for index in numbers:
        rows = {kind: kinds[kind].get(index) for kind in kinds}
        line = [next(row["stage"] for row in rows.values() if row)]
        for row in rows.values():
            done = row and row["status"] == "ok"
            line += [f"{gflops(row, who):.0f}" if done else "-" for who in (OURS, "oneDNN")]
            line.append(f"**{ratio(row):.2f}**" if done else "-")
        lines.append(line)
    means = {kind: conv_mean(data, kind) for kind in kinds}
    lines.append(["geometric mean"] + [cell for mean, _ in means.values()
                                       for cell in ("", "", number(mean, "**{:.2f}**"))])
    every = [row for rows in kinds.values() for row in good(rows).values()]
    batch = sorted({row["batch"] for row in every})
    text = f"""
## Convolutions of the main job

GFLOP/s by the direct algorithm's operations, batch {', '.join(map(str, batch)) or '-'}, beside
oneDNN's fastest of all its algorithms in its own layout and in channels last. libvgg's stages
have bias, ReLU and where told the 2x2 pool, oneDNN's bias and ReLU; backward, libvgg's begin at
the pool's output, oneDNN's at the convolution's.
"""
    text += table(["channels and side"] + [f"{title}: {column}" for title in
                                           CONV_TITLES.values()
                                           for column in ("libvgg", "oneDNN", "ratio")], lines)
    text += "\n"
    for kind, (mean, found) in means.items():
        whole = len(found) == len(kinds[kind]) > 0
        text += goal(f"{CONV_TITLES[kind]}: geometric mean at least {CONV_GOALS[kind]}"
                     + (f": {mean:.2f}" if mean else ""),
                     mean >= CONV_GOALS[kind] if whole else None)
    return text


def unfinished(data):
    gone = [f"* `{name}`: {row['status']} ({row['reason']})\n"
            for name, row in data["rows"].items() if row["status"] != "ok"]
    return ("\n## Not measured\n\n" + "".join(gone)) if gone else ""


def page(data, drawing):
    name = drawing.replace(".svg", ".json")
    text, most = limits(data)
    return (HEAD.format(json=name) + f"\n![How many times as fast]({drawing})\n" + runs(data)
            + text + training(data, most) + scaling(data) + inference(data)
            + convolutions(data) + unfinished(data))
