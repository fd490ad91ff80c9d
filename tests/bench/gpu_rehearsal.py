#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The stages of scripts/gpu-check with the trainer itself, on the processor and at small sizes, and
the page of their rows. What needs a GPU or PyTorch is left out; a test program and the sanitizer
are scripts. The stage `profile` is rehearsed by gpu_profile.py.

    gpu_rehearsal.py VGG
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import checks

VGG = pathlib.Path(sys.argv[1]).resolve()
PROGRAM = "echo '100%: Checks: 7, Failures: 0, Errors: 0'"
SANITIZER = """case $* in *--help*) echo --kernel-name; exit ;; esac
while [ $# -gt 1 ]; do shift; done
"$1" && echo '========= ERROR SUMMARY: 0 errors'"""
STAGES = ("parity", "bench", "vgg16", "accuracy", "sanitize")
# Rows without which a stage did not do its work.
WANTED = {
    "parity": ("devices", "trace-quick-fp32", "trace-adam-fp32", "twice-fp32", "again-fp32",
               "test-gpu-update"),
    "bench": ("cold-fp32", "alone-fp32", "vgg-fp32"),
    "vgg16": ("cold-fp32", "alone-fp32", "vgg-fp32"),
    "accuracy": ("fp32-seed-4",),
    "sanitize": ("memcheck-test-gpu-update", "racecheck-test-gpu-update"),
}
NOTHING_TO_SEE = {"describe-device", "leak"}  # without a GPU: skipped, and no success


def rehearse(folder):
    """(status, {stage: {row: row}}) of all of them."""
    checks.script(folder / "tree/examples/vgg/vgg", f'exec {VGG} "$@"')
    checks.script(folder / "tree/tests/gpu/test-gpu-update", PROGRAM)
    checks.script(folder / "bin/compute-sanitizer", SANITIZER)
    checks.cli().make_data(str(folder / "data"), side=28)
    done = subprocess.run(
        [sys.executable, "-B", checks.ROOT / "scripts/gpu/check.py", ",".join(STAGES), "--rehearse",
         "--rows", "none", "--seeds", "4", "--tree", folder / "tree", "--data", folder / "data",
         "--out", folder / "out"], capture_output=True, text=True, timeout=240,
        env=dict(os.environ, PATH=f"{folder}/bin:{os.environ['PATH']}"))
    assert "Traceback" not in done.stderr and not done.stderr, done.stderr
    return done.returncode, {stage: {row["row"]: row for row in map(
        json.loads, (folder / f"out/{stage}.jsonl").read_text(encoding="utf-8").splitlines())}
        for stage in STAGES}


def test_rehearsal():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        status, found = rehearse(folder)
        for stage, names in WANTED.items():
            told = {row: found[stage][row]["status"] for row in found[stage]["plan"]["rows"]}
            assert set(names) <= set(told), told
            bad = {row for row, status in told.items() if status != "ok"}
            assert bad == NOTHING_TO_SEE & set(told), [found[stage][row] for row in bad]
        assert status == 1
        trace = found["parity"]["trace-quick-fp32"]
        assert trace["losses"] == trace["cpu_losses"] and len(trace["losses"]) == 20, trace
        assert trace["last_loss"] < trace["first_loss"] / 2, trace
        run = found["accuracy"]["fp32-seed-4"]
        curve = run["test_accuracy_curve"]
        assert len(curve) == 2 and abs(run["eval"]["accuracy"] - curve[-1]) < 1e-6, run
        page = folder / "gpu.md"
        done = subprocess.run(
            [sys.executable, "-B", checks.ROOT / "scripts/gpu/report.py", "--json",
             folder / "gpu.json", "--page", page, folder / "out"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        text = page.read_text(encoding="utf-8")
        for line in ("| quick-fp32 |", "| **libvgg fp32** |", "| fp32-seed-4 (2 epochs) |",
                     "* fp32, `--deterministic`, the same run twice: equal to the bit",
                     "| `racecheck-test-gpu-update` | 7 | 0 |", "## VGG-16"):
            assert line in text, (line, text)
        assert text.count("| **libvgg fp32** |") == 2, text


checks.main(globals())
