#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu/report.py adds runs to the rows that are there, on runs made up."""
import json
import os
import pathlib
import re
import runpy
import subprocess
import sys
import tempfile

import checks
import sanitize

REPORT = [sys.executable, "-B", checks.ROOT / "scripts/gpu/report.py"]
OLDER, OLD = "1999-12-31 00:00:00", "2000-01-01 00:00:00"
NEW, NEWEST = "2000-01-02 00:00:00", "2000-01-03 00:00:00"


class Place:
    """A page, its rows, and folders of runs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.json, self.page = self.folder / "gpu.json", self.folder / "gpu.md"

    def ran(self, name, date, plan=(), commit="c0ffee", gpu="made up", rehearse=False,
            stage="parity", **rows):
        """A folder of one run of a stage; rows are NAME=(status, passed). The plan is
        told before and after them, as by a stage that plans more."""
        out = self.folder / name
        out.mkdir(exist_ok=True)
        lines = [{"row": "machine", "stage": stage, "date": date, "commit": commit,
                  "gpu": gpu, "rehearse": rehearse, "asked": f"scripts/gpu-check {stage}"}]
        planned = [{"row": "plan", "stage": stage, "rows": list(plan)}] if plan else []
        lines += planned
        lines += [{"row": row, "stage": stage, "status": status, "program": row,
                   "passed": passed} for row, (status, passed) in rows.items()]
        lines += planned
        with open(out / f"{stage}.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return name

    def timed(self, name, date, gpu, stage="bench", **rows):
        """A folder of one run of a stage of speed; rows are NAME=(seconds, more figures), "_"
        standing for "-"."""
        out = self.folder / name
        out.mkdir()
        lines = [{"row": "machine", "stage": stage, "date": date, "commit": "c0ffee", "gpu": gpu,
                  "asked": f"scripts/gpu-check {stage}"}]
        for row, (seconds, more) in rows.items():
            row = row.replace("_", "-")
            lines.append({"row": row, "stage": stage, "status": "ok",
                          "precision": row.split("-")[1], "s_per_epoch": seconds,
                          "s_least": seconds, "s_most": seconds, "epochs": 3,
                          "images_per_s": 1 / seconds, "device_mib": None, **more})
        (out / f"{stage}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return name

    def says(self, *words):
        """The page after a report."""
        self.report(*words)
        return self.page.read_text()

    def ask(self, *words):
        return subprocess.run([*REPORT, "--json", self.json, "--page", self.page, *words],
                              cwd=self.folder, capture_output=True, text=True)

    def report(self, *words):
        """{row name: (status, passed, date of its run)} after a report."""
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        data = json.loads(self.json.read_text())
        self.dates = [run["date"] for run in data["runs"]]
        return {name: (row["status"], row.get("passed"), self.dates[row["run"]])
                for name, row in data["stages"].get("parity", {}).items()}


def with_place(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Place(folder))
    return call


@with_place
def test_rows_are_added(place):
    place.report(place.ran("old", OLD, a=("ok", 1), b=("ok", 1)))
    found = place.report(place.ran("new", NEW, b=("failed", 2), c=("ok", 2)))
    assert found == {"a": ("ok", 1, OLD), "b": ("failed", 2, NEW), "c": ("ok", 2, NEW)}, found
    text = place.page.read_text()
    assert OLD in text and NEW in text and "| `a` | 1 |" in text and "| `c` | 2 |" in text


@with_place
def test_a_run_is_added_once(place):
    old, new = place.ran("old", OLD, a=("ok", 1)), place.ran("new", NEW, a=("ok", 2))
    place.report(old, new)
    before = place.json.read_text(), place.page.read_text()
    for again in ([old], [new, old], []):
        assert place.report(*again) == {"a": ("ok", 2, NEW)}, again
        assert (place.json.read_text(), place.page.read_text()) == before, again
    place.report(place.ran("other", OLD, commit="decade", a=("ok", 3)))
    assert place.dates == [OLD, NEW, OLD]


@with_place
def test_a_run_goes_on(place):
    """What a run wrote after it was first reported."""
    run = place.ran("run", OLD, plan="ab", a=("ok", 1))
    assert place.report(run)["b"] == ("unfinished", None, OLD)
    place.ran("run", OLD, plan="ab", b=("ok", 2))
    assert place.report(run) == {"a": ("ok", 1, OLD), "b": ("ok", 2, OLD)}
    assert place.dates == [OLD]


@with_place
def test_newest_counts(place):
    place.report(place.ran("newest", NEWEST, a=("ok", 3)))
    assert place.report(place.ran("new", NEW, a=("ok", 2))) == {"a": ("ok", 3, NEWEST)}
    found = place.report(place.ran("same", NEWEST, commit="decade", a=("ok", 4)))
    assert found == {"a": ("ok", 4, NEWEST)}, found


@with_place
def test_unfinished_replaces_nothing_finished(place):
    place.report(place.ran("old", OLD, plan="c", a=("ok", 1), b=("failed", 1)))
    found = place.report(place.ran("new", NEW, plan="abcd", a=("unfinished", 2),
                                   c=("unfinished", 2)))
    assert found == {"a": ("ok", 1, OLD), "b": ("failed", 1, OLD), "c": ("unfinished", 2, NEW),
                     "d": ("unfinished", None, NEW)}, found
    # A finished row comes in its place, though it be older.
    found = place.report(place.ran("older", OLD, commit="decade", c=("ok", 3), d=("failed", 3)))
    assert found["c"] == ("ok", 3, OLD) and found["d"] == ("failed", 3, OLD), found


@with_place
def test_afresh(place):
    place.report(place.ran("old", OLD, a=("ok", 1)))
    assert place.report("--afresh", place.ran("new", NEW, b=("ok", 2))) == {"b": ("ok", 2, NEW)}
    assert place.dates == [NEW] and OLD not in place.page.read_text()
    assert place.report("--afresh") == {}
    assert "Nothing has been measured" in place.page.read_text()


@with_place
def test_check(place):
    place.report(place.ran("old", OLD, a=("ok", 1)))
    assert place.ask("--check").returncode == 0
    place.page.write_text(place.page.read_text().replace("| `a` | 1 |", "| `a` | 2 |"))
    done = place.ask("--check")
    assert done.returncode == 1 and "was not made from" in done.stdout


@with_place
def test_refused(place):
    (place.folder / "empty").mkdir()
    done = place.ask("empty")
    assert done.returncode == 1 and "found none" in done.stderr
    file = place.folder / "empty/parity.jsonl"
    for text, said in (
            ('{"row": "a", "stage": "parity", "status": "ok"}', "expected a machine's row first"),
            ("[1]", "parity.jsonl:1: expected an object"),
            ('{"row": "machine", "stage": "parity"}', "parity.jsonl:1: machine: expected a text"),
            ('{"row": "a", "stage": "parity", "status": "ok", "x": [NaN]}', "a: a number is not"),
            ('{"row": "a", "stage": "b", "status": "ok", "s_per_epoch": 0}', "a: 0 s an epoch")):
        file.write_text(text + "\n", encoding="utf-8")
        done = place.ask("empty")
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert "Traceback" not in done.stderr and not place.json.exists()
    for text, said in (("{", "is not what report.py writes"), ("[]", "is not what report.py")):
        place.json.write_text(text)
        done = place.ask("--check")
        assert done.returncode == 1 and said in done.stderr, done.stderr


@with_place
def test_no_results(place):
    """Rehearsals, and runs that found no GPU, never come into the committed page."""
    committed = checks.ROOT / "docs/results/gpu.json"
    before = committed.read_text()
    rehearsed = place.ran("rehearsed", OLD, rehearse=True)
    without = place.ran("without", OLD, gpu=None)
    cut = pathlib.Path(os.path.relpath(committed))  # the same file by another name
    try:
        done = subprocess.run([*REPORT, "--json", cut, "--page", place.page,
                               place.folder / rehearsed], capture_output=True, text=True)
        assert done.returncode == 1 and "no result" in done.stderr, done.stderr
        for folder in (rehearsed, without):
            done = subprocess.run([*REPORT, "--page", place.page, place.folder / folder],
                                  capture_output=True, text=True)
            assert done.returncode == 1 and "no result" in done.stderr, done.stderr
            assert committed.read_text() == before
    finally:
        if committed.read_text() != before:
            committed.write_text(before)


@with_place
def test_all_or_nothing(place):
    """Rows that make no page, and a page that can't be written, leave the rows as they were."""
    name = place.ran("good", OLD, a=("ok", 1))
    place.report(name)
    before = place.json.read_text()
    for text in ('{"row": "torch-x", "stage": "bench", "status": "ok", "s_per_epoch": 1}',
                 '{"row": "trace-x", "stage": "bench", "status": "ok", "curve": "x|y"}'):
        place.ran("odd", NEW)
        file = place.folder / "odd/parity.jsonl"
        file.write_text(file.read_text().replace('"parity"', '"bench"') + text + "\n")
        done = place.ask("odd")
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == 0 or place.json.read_text() == before
        (place.folder / "odd/parity.jsonl").unlink()
    place.json.write_text(before)
    place.page.unlink()
    place.page.mkdir()
    done = place.ask(name)
    assert done.returncode == 1 and "is a folder" in done.stderr, done.stderr
    assert place.json.read_text() == before


@with_place
def test_cut_lines(place):
    """What a kill has cut off is left out; a reason is one line of the page."""
    name = place.ran("cut", OLD, a=("ok", 1))
    with open(place.folder / name / "parity.jsonl", "ab") as file:
        file.write(b'{"row": "b", "stage": "par\xff\n')
        file.write(b'{"row": "c", "stage": "parity", "status": "failed", '
                   b'"reason": "one\\n## two"}\n')
    text = place.says(name)
    assert "\n## two" not in text and json.loads(place.json.read_text())["stages"]["parity"][
        "c"]["reason"] == "one ## two", text


GOAL = "* bf16 at least 1.5 times as fast as PyTorch's best bf16 row"
BESIDE = "* tf32 beside PyTorch's best tf32 row"


@with_place
def test_other_gpus_are_not_compared(place):
    text = place.says(place.timed("a", OLD, "GPU A", torch_bf16_graph=(4.0, {}),
                                  torch_tf32_graph=(8.0, {})),
                      place.timed("b", NEW, "GPU B", alone_bf16=(1.0, {}), alone_tf32=(1.0, {})))
    apart = "on GPU A; libvgg on GPU B"
    assert f"{GOAL} (bf16-graph, {apart}): **not beside**\n" in text, text
    assert f"{BESIDE} (tf32-graph, {apart}): **not beside**\n" in text, text
    assert "| PyTorch bf16-graph | 4.0000 | 4.0000 to 4.0000 | 3 | 0 | not beside |" in text, text
    # Slower ones on our GPU come before faster ones on another.
    text = place.says(place.timed("c", NEWEST, "GPU B", torch_bf16_compile=(6.0, {})))
    assert f"{GOAL} (bf16-compile): 6.00: **met**\n" in text, text


@with_place
def test_unknown_gpus_are_not_compared(place):
    text = place.says(place.timed("a", OLD, None, torch_bf16_graph=(4.0, {})),
                      place.timed("b", NEW, None, alone_bf16=(1.0, {})))
    assert f"{GOAL} (bf16-graph, on no GPU; libvgg on no GPU): **not beside**\n" in text, text
    text = place.says(place.timed("c", NEWEST, None, torch_bf16_graph=(4.0, {}),
                                  vgg_bf16=(2.0, {})))
    assert f"{GOAL} (bf16-graph): 2.00: **met**\n" in text, text


@with_place
def test_turns_beside_count(place):
    """Whatever row of ours is there, also of another GPU."""
    text = place.says(place.timed("a", OLD, "GPU A", torch_bf16_graph=(4.0, {"ratio": 1.25})),
                      place.timed("b", NEW, "GPU B", alone_bf16=(1.0, {})))
    assert f"{GOAL} (bf16-graph, both on GPU A): 1.25: **not met**\n" in text, text
    assert "| 0 | 1.25 |" in text and "not beside" not in text, text
    # A faster one that can't be compared does not hide it.
    text = place.says(place.timed("d", OLDER, "GPU C", torch_bf16_compile=(3.0, {})))
    assert f"{GOAL} (bf16-graph, both on GPU A): 1.25: **not met**\n" in text, text
    text = place.says(place.timed("c", NEWEST, "GPU A", vgg_bf16=(1.0, {})))
    assert f"{GOAL} (bf16-graph): 1.25: **not met**\n" in text, text


@with_place
def test_the_same_run_is_preferred(place):
    """Of ours on the same GPU; without one of the run another's will do."""
    old = place.timed("a", OLD, "GPU A", alone_bf16=(2.0, {}), torch_bf16_graph=(4.0, {}))
    text = place.says(old, place.timed("b", NEW, "GPU A", vgg_bf16=(1.0, {})))
    assert f"{GOAL} (bf16-graph): 2.00: **met**\n" in text, text
    text = place.says(place.timed("c", NEWEST, "GPU A", torch_bf16_graph=(3.0, {})))
    assert f"{GOAL} (bf16-graph): 3.00: **met**\n" in text, text


@with_place
def test_newest_of_ours_is_shown(place):
    """A newer row alone before an older one of turns; a cold start of its GPU only."""
    place.says(place.timed("a", OLD, "GPU A", vgg_bf16=(2.0, {}),
                           cold_bf16=(1.0, {"cold_s": 9.0, "warm_s": 3.0})))
    assert "| **libvgg bf16** | 2.0000 |" in place.page.read_text()
    assert "| 9.0 / 3.0 |" in place.page.read_text()
    text = place.says(place.timed("b", NEW, "an H200", alone_bf16=(0.4, {})))
    line = "| **libvgg bf16** | 0.4000 | 0.4000 to 0.4000 | 3 | 2 |  | - / - | - | 2 |\n"
    assert line in text, text
    assert "an epoch in bf16 at most 0.50 s on an H200: 0.400 s: **met**" in text, text


@with_place
def test_best_is_known_of_one_gpu(place):
    """A compiled row elsewhere does not tell PyTorch's best here."""
    text = place.says(place.timed("a", OLD, "GPU A", torch_bf16_graph=(4.0, {"ratio": 3.0})),
                      place.timed("b", NEW, "GPU B", torch_bf16_eager=(9.0, {"ratio": 9.0}),
                                  vgg_bf16=(1.0, {})))
    assert f"{GOAL}: **not measured**\n" in text, text


@with_place
def test_vgg16_goals(place):
    text = place.says(place.timed("a", OLD, "GPU A", "vgg16", torch_bf16_graph=(4.0, {}),
                                  torch_tf32_graph=(3.0, {"ratio": 1.5})),
                      place.timed("b", NEW, "GPU B", "vgg16", alone_bf16=(1.0, {}),
                                  alone_tf32=(1.0, {})))
    begin = "at least 1.1 times as fast as PyTorch's best"
    assert (f"* bf16 {begin} bf16 row (bf16-graph, on GPU A; libvgg on GPU B): **not beside**\n"
            in text), text
    assert f"* tf32 {begin} tf32 row (tf32-graph, both on GPU A): 1.50: **met**\n" in text, text


def unverified(text, since=False):
    """The names of rows in the page's last part: those that have never passed, or of what the
    engine has gained since they passed."""
    lines = text[text.index("## Not verified"):].splitlines()
    return {name for line in lines if ("not run since by" in line) == since
            for name in re.findall(r"`([a-z0-9-]+)`", line)}


def programs():
    """Those that tests/gpu/meson.build makes."""
    text = (checks.ROOT / "tests/gpu/meson.build").read_text(encoding="utf-8")
    loops = re.findall(r"^foreach \w+(?:, \w+)? : ([\[{].*[\]}])\n\s+gpu_tests \+= executable\("
                       r"'(test-gpu-[a-z-]*)'", text, re.M)
    return {begin + name for names, begin in loops
            for name in re.findall(r"'([a-z0-9-]+)'(?=[,:\]])", names)}


@with_place
def test_every_program_is_told(place):
    """Every test program, and every run under the sanitizer, until it has passed."""
    names = programs()
    assert len(names) == 13 and "test-gpu-conv-mma" in names, names
    pairs = {f"{tool}-{program}" for tool, program in sanitize.PROGRAMS}
    assert {program for _, program in sanitize.PROGRAMS} <= names
    place.ran("none", OLD, other=("ok", 1))
    text = place.says("none")
    assert "one by one, those by Hopper's warp groups among them: not run\n" in text, text
    assert unverified(text) == names - {"test-gpu-conv-mma"} | pairs, text
    for stage, every in (("parity", names), ("sanitize", pairs)):
        for name in sorted(every)[1:]:
            place.ran(stage, NEW, stage=stage, **{name: ("ok", 1)})
    text = place.says("parity", "sanitize")
    assert "warp groups" in text[text.index("## Not verified"):], text  # the first of all
    assert unverified(text) == {sorted(pairs)[0]}, text
    place.ran("last", NEWEST, **{"test-gpu-conv-mma": ("failed", 1)})
    assert unverified(place.says("last")) == {sorted(pairs)[0], "test-gpu-conv-mma"}


@with_place
def test_what_was_gained_since(place):
    """A row that passed before the engine could do more has not seen that."""
    names = {f"test-gpu-stages-{p}" for p in ("bf16", "fp32", "tf32")}
    place.ran("before", OLD, **{name: ("ok", 1) for name in names})
    assert unverified(place.says("before"), since=True) == names
    one, *rest = sorted(names)
    place.ran("after", "2099-01-01 00:00:00",
              **{name: ("failed" if name == one else "ok", 1) for name in names})
    assert unverified(place.says("before", "after"), since=True) == {one}


@with_place
def test_head_of_plans(place):
    """It says whose description is a GPU's own, and which layers the figures are of."""
    plans = runpy.run_path(str(checks.ROOT / "scripts/plans"))
    said = plans["descriptions"]
    said.__globals__["MEASURED"] = place.json
    place.json.write_text('{"stages": {}}')
    assert said(["h200", "t4"]) == (
        "H200, T4: described by hand, in which a GPU's own description may differ.\n"), said
    h200 = json.loads((checks.ROOT / "tests/plans/devices/h200.json").read_text())
    row = {"describe-h200": {"description": h200}, "describe": {"status": "ok"}}
    place.json.write_text(json.dumps({"stages": {"parity": row}}))
    assert said(["h200", "t4"]).splitlines()[1] == "H200: described by such a GPU itself.", said
    h200["totalGlobalMem"] += 1
    place.json.write_text(json.dumps({"stages": {"parity": row}}))
    assert "itself" not in said(["h200", "t4"])
    found = plans["LINE"].findall("".join(
        f"h200 bf16 n {n} 8->{i}@4 mask: 1 plans, 0 not deterministic; x\n"
        for n, count in ((64, 9), (96, 7)) for i in 2 * list(range(count))))
    assert [plans["layers"](found, n) for n in (64, 96)] == ["all", 7], found


@with_place
def test_committed_page(place):
    """The page in docs/results is that of its rows, and stays so when it is made again."""
    for path in (place.json, place.page):
        path.write_text((checks.ROOT / "docs/results" / path.name).read_text())
    before = place.json.read_text(), place.page.read_text()
    assert place.ask("--check").returncode == 0
    place.report()
    assert (place.json.read_text(), place.page.read_text()) == before


checks.main(globals())
