#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stage `profile` of scripts/gpu-check, with the trainer on the processor and a program in
the place of Nsight Compute's `ncu`.

    gpu_profile.py VGG

fixtures/ncu.csv is a cut of what ncu printed on an H200: two kernels of autotuning and one that
copies weights, 27 of the 84 of a step, and four of these again as the next step's beginning.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types

import checks
import check
import kernels
import rows

VGG = pathlib.Path(sys.argv[1]).resolve()
PRINTED = (pathlib.Path(__file__).parent / "fixtures/ncu.csv").read_text(encoding="utf-8")
CAT, SLEEP = shutil.which("cat"), shutil.which("sleep")
CHECK = [sys.executable, "-B", checks.ROOT / "scripts/gpu/check.py"]
REPORT = [sys.executable, "-B", checks.ROOT / "scripts/gpu/report.py"]

# Both note what they are asked; ncu runs the program that follows its own options, then does
# what FAKE says: print the fixture, or something else, or end badly.
TRAINER = """#!/bin/sh
echo "vgg $VGG_CACHE_DIR $*" >>"$NOTES"
exec "$PROGRAM" "$@"
"""
NCU = """#!/bin/sh
echo "ncu $*" >>"$NOTES"
if [ "$1" = --version ]; then
    printf 'Some words\\nVersion 1.2.3 (build 4)\\n'
    exit
fi
while [ "${1##*/}" != vgg ]; do shift; done
"$@" || exit
eval "$FAKE"
"""


class Place:
    """A tree with the trainer, a small data set, a folder of programs with ncu or without."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        checks.script(self.folder / "tree/examples/vgg/vgg", TRAINER)
        checks.cli().make_data(str(self.folder / "data"), side=28)

    def ask(self, *more, ncu=f'{CAT} "$FIXTURE"', toolkit=False):
        """(status, rows by name) of the stage; `ncu` is None where there is none, and in the
        toolkit's folder alone where that is said."""
        bare = os.pathsep.join(folder for folder in os.environ["PATH"].split(os.pathsep)
                               if not shutil.which("ncu", path=folder))
        fake = self.folder / ("toolkit/bin" if toolkit else "bin") / "ncu"
        if ncu is not None:
            checks.script(fake, NCU)
        self.notes = self.folder / "notes"
        self.notes.write_text("")
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        env = dict(os.environ, PATH=f"{self.folder}/bin:{bare}", FAKE=ncu or "",
                   CUDA_HOME=str(self.folder / "toolkit"), NOTES=str(self.notes),
                   PROGRAM=str(VGG), FIXTURE=str(self.folder / "ncu.csv"))
        (self.folder / "ncu.csv").write_text(PRINTED, encoding="utf-8")
        done = subprocess.run([*CHECK, "profile", "--tree", self.folder / "tree", "--data",
                               self.folder / "data", "--out", out, "--rehearse", *more],
                              env=env, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr, done.stderr
        lines = (out / "profile.jsonl").read_text(encoding="utf-8").splitlines()
        found = {row["row"]: row for row in map(json.loads, lines)}
        assert found["plan"]["rows"] == ["plan-fp32", "step-fp32"], found
        return done.returncode, found

    def page(self):
        """The page of the rows that are there."""
        done = subprocess.run([*REPORT, "--json", self.folder / "gpu.json", "--page",
                               self.folder / "gpu.md", self.folder / "out"],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (self.folder / "gpu.md").read_text(encoding="utf-8")


def with_place(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Place(folder))
    return call


def refused(function, *given):
    try:
        function(*given)
    except rows.Failed as error:
        return str(error)
    raise AssertionError("nothing was refused")


def test_names():
    for name, wanted in {
        "void <unnamed>::gather<vgg::bf16>(vgg__gather_args)": "gather<vgg::bf16>",
        "vgg::set_step(vgg__set_step_args)": "set_step",
        "void vgg::(anonymous namespace)::conv_mma<(int)32, (bool)1>(vgg__conv_mma_args)":
            "conv_mma<(int)32, (bool)1>",
        "nvjet_sm90_tss_64x64_64x13_2x1_v_bz_TNT": "nvjet_sm90_tss_64x64_64x13_2x1_v_bz_TNT",
        "void a::Kernel2<b_16<c::d>>(T1::Params)": "Kernel2<b_16<c::d>>",
        "std::enable_if<a::b<1>, void>::type n::f<x(y)>(int, g<z>)": "f<x(y)>",
    }.items():
        assert kernels.short(name) == wanted, (name, kernels.short(name))


def test_step():
    """The first step, from set_step on; figures in the row's units."""
    found = kernels.kernels_of(PRINTED)
    assert len(found) == 34, len(found)
    step = kernels.step_of(found)
    assert len(step) == 27 and step == found[3:30], step
    assert [k["name"] for k in step[:3]] == ["set_step", "gather<vgg::bf16>",
                                             "conv_first<vgg::bf16>"], step[:3]
    assert step[-1]["name"] == "update" and {k["stream"] for k in step} == {"13", "15"}, step
    assert step[1] == {"name": "gather<vgg::bf16>", "stream": "13", "grid": "896x1x1",
                       "block": "256x1x1", "us": 22.656, "mb": 7.284736, "minst": 12.29312,
                       "warps_pct": 42.27, "issue_pct": 59.43}, step[1]
    # A set_step that is not there is not missed.
    assert kernels.step_of([k for k in found if k["name"] != "set_step"])[0] == step[1]
    scaled = PRINTED.replace('"ns","22,656"', '"us","22.656"').replace(
        '"byte","7,284,736"', '"Mbyte","7.284736"').replace('"inst","12,293,120"', '"inst","n/a"')
    assert kernels.step_of(kernels.kernels_of(scaled))[1] == {**step[1], "minst": None}


def test_no_step():
    found = kernels.kernels_of(PRINTED)
    said = refused(kernels.step_of, found[:30])
    assert "30 kernels and 1 beginnings" in said, said
    said = refused(kernels.step_of, kernels.kernels_of("==WARNING== No kernels were profiled.\n"))
    assert "0 kernels" in said, said
    said = refused(kernels.step_of, kernels.kernels_of(
        PRINTED.replace('"ns","22,656"', '"ns","n/a"')))
    assert "no time of gather<vgg::bf16>" in said, said


@with_place
def test_stage(place):
    status, found = place.ask()
    assert status == 0, found
    plan, step = found["plan-fp32"], found["step-fp32"]
    assert plan["status"] == "ok" and plan["plan"][0].startswith("device cpu: "), plan
    assert plan["command"].startswith("vgg bench --preset quick --data-loading --data DATA "), plan
    assert any(line.startswith("conv1_1") for line in plan["plan"]), plan
    wanted = kernels.step_of(kernels.kernels_of(PRINTED))
    assert step["status"] == "ok" and step["kernels"] == wanted, step
    assert abs(step["us"] - sum(k["us"] for k in wanted)) < 1e-6, step["us"]
    assert step["ncu"] == "1.2.3 (build 4)", step
    assert step["command"].startswith("ncu --csv ") and " --metrics gpu__time_duration.sum," in \
        step["command"] and " vgg train --preset quick --steps 3 " in step["command"], step
    noted = [line.split() for line in place.notes.read_text().splitlines()]
    ran = [line[:1] if line[0] == "ncu" else line[2:3] for line in noted]
    assert sum(ran, []) == ["devices", "bench", "train", "ncu", "train", "ncu"], noted
    # What the first two put into their cache, the profiled one has; nothing was there before.
    caches = [line[1] for line in noted if line[0] == "vgg"]
    assert len(set(caches[1:])) == 1 and caches[0] not in caches[1:], noted


def test_deadlines():
    """Stages that take more than there is give up their shares; what one leaves is the others'."""
    args = types.SimpleNamespace(deadline=None, quick=False, first=False,
                                 stages=list(check.STAGES))
    left, given = 1500.0, []
    for name in args.stages:
        given.append(check.deadline(args, name, left))
        left -= given[-1]
    assert abs(sum(given) - 1500) < 1 and min(given) > 150, given
    assert check.deadline(args, args.stages[-1], 1500) == 300
    args.stages = ["parity"]
    assert check.deadline(args, "parity", 1500) == 480
    args.deadline = 700
    assert check.deadline(args, "parity", 1500) == 700
    args = types.SimpleNamespace(deadline=None, quick=False, first=True, stages=list(check.FIRST))
    assert check.deadline(args, "parity", 540) == 200
    assert check.deadline(args, "bench", 510) == 270  # parity took 30
    assert check.deadline(args, "sanitize", 30) == 30


@with_place
def test_toolkit(place):
    """Where ncu is not on the PATH but in the toolkit."""
    status, found = place.ask(toolkit=True)
    assert status == 0 and found["step-fp32"]["status"] == "ok", found


@with_place
def test_without(place):
    status, found = place.ask(ncu=None)
    assert status == 1 and found["plan-fp32"]["status"] == "ok", found
    step = found["step-fp32"]
    assert step["status"] == "skipped" and "ncu" in step["reason"], step
    assert "kernels" not in step
    text = place.page()
    assert "### Plan, fp32 (run 1, no GPU)" in text and "### Kernels" not in text, text
    assert "* no figure for `step-fp32` (skipped): ncu " in text, text
    assert "* where a step's time goes: `step-fp32` skipped" in text, text


@with_place
def test_refused(place):
    """Counters that this user may not read are nothing to measure; other ends are failures."""
    for fake, status, reason in (
            ("echo '==ERROR== ERR_NVGPUCTRPERM - The user has no permission'; exit 1", "skipped",
             "ERR_NVGPUCTRPERM - The user has no permission"),
            ("echo '==ERROR== An error occurred'; exit 9", "failed", "status 9"),
            ("echo '==WARNING== No kernels were profiled.'", "failed", "0 kernels")):
        found = place.ask(ncu=fake)[1]["step-fp32"]
        assert (found["status"], reason in found["reason"]) == (status, True), found
        assert found["command"].startswith("ncu "), found


@with_place
def test_deadline(place):
    status, found = place.ask("--deadline", "8", ncu=f'echo $$ >>"$NOTES"; exec {SLEEP} 120')
    assert status == 1 and found["step-fp32"]["status"] == "unfinished", found
    last = place.notes.read_text().split()[-1]
    assert not last.isdigit() or not os.path.exists(f"/proc/{last}"), last


def cells(text, begin):
    """The line of a table that begins so, cut into cells."""
    found = [line for line in text.splitlines() if line.startswith(f"| {begin} |")]
    assert len(found) == 1, (begin, text)
    return [cell.strip() for cell in found[0].strip("|").split("|")][1:]


@with_place
def test_page(place):
    status, found = place.ask()
    assert status == 0, found
    text = place.page()
    step = found["step-fp32"]["kernels"]
    whole = sum(k["us"] for k in step)
    assert f"One step: 27 kernels, {whole:.0f} us together" in text, text
    assert "### Kernels, fp32 (run 1, no GPU)" in text, text
    three = [k for k in step if k["name"] == "linear_step<vgg::bf16>"]
    assert len(three) == 3 and {k["stream"] for k in three} == {"15"}
    us, mb = sum(k["us"] for k in three), sum(k["mb"] for k in three)
    issuing = sum(k["issue_pct"] * k["us"] for k in three) / us
    assert cells(text, "`linear_step<vgg::bf16>`") == [
        "3", f"{us:.1f}", f"{100 * us / whole:.1f} %", f"{mb:.1f}", f"{1e3 * mb / us:.0f}",
        f"{sum(k['minst'] for k in three):.1f}", f"{issuing:.0f}"], text
    for stream in ("13", "15"):
        mine = [k for k in step if k["stream"] == stream]
        us = sum(k["us"] for k in mine)
        assert cells(text, f"`{stream}`")[:3] == [
            f"{len(mine)}", f"{us:.1f}", f"{100 * us / whole:.1f} %"], text
    # Most time first.
    table = text[text.index("| kernel |"):text.index("| stream |")]
    times = [float(line.split("|")[3]) for line in table.splitlines() if line.startswith("| `")]
    assert len(times) == len({k["name"] for k in step}), table
    assert times == sorted(times, reverse=True) and abs(sum(times) - whole) < 2, times
    assert "".join(line + "\n" for line in found["plan-fp32"]["plan"]) in text, text
    assert "Every row is there" not in text and "where a step's time goes" not in text, text


checks.main(globals())
