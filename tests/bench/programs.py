#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The programs that bench-cpu measures with run, and count operations right.

    programs.py BENCH-STAGES [CC]
"""
import json
import math
import subprocess
import sys
import tempfile

import checks

STAGES = sys.argv[1]
CC = sys.argv[2] if len(sys.argv) > 2 else "cc"


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True)


def stage(*words):
    done = run(STAGES, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def look(engine, kind, *more):
    found = stage(kind, 3, 5, 9, 8, 2, "--engine", engine, "--threads", 2, "--repeats", 4, *more)
    assert (found["engine"], found["pass"], found["threads"]) == (engine, kind, 2)
    assert len(found["samples_ms"]) == 4 and min(found["samples_ms"]) > 0
    assert min(found["samples_ms"]) <= found["median_ms"] <= max(found["samples_ms"])
    flops = 2 * 9 * 3 * 5 * 9 * 8 * 2
    assert math.isclose(found["gflops"], flops / found["median_ms"] / 1e6, rel_tol=1e-4)


def test_stages():
    for engine in ("cpu", "ref"):
        for kind in ("forward", "data", "weights"):
            look(engine, kind)
            look(engine, kind, "--pool")


def test_stages_pooled_output():
    assert "3x8x8 -> 5x4x4" in " ".join(
        stage("forward", 3, 5, 8, 8, 1, "--pool")["stage"].split())


def test_stages_misused():
    for words in ((), ("forward", 1, 2, 3, 4), ("sideways", 1, 2, 3, 4, 5),
                  ("forward", 1, 2, 3, 4, 0), ("forward", 1, 2, 3, 4, "5x"),
                  ("forward", 1, 2, 3, 4, 5, "--engine", "gpu"),
                  ("forward", 1, 2, 3, 4, 5, "--repeats", 1001),
                  ("forward", 1, 2, 3, 4, 5, "--threads", -1)):
        done = run(STAGES, *words)
        assert done.returncode == 2, (words, done.returncode)
        assert "usage: stages" in done.stderr and not done.stdout, words


def test_peak():
    with tempfile.TemporaryDirectory() as folder:
        program = folder + "/peak"
        built = run(CC, "-O2", "-Wall", "-Werror", "-D_GNU_SOURCE", "-march=native", "-pthread",
                    checks.ROOT / "tests/bench/peak.c", "-o", program)
        assert built.returncode == 0, built.stderr
        found = json.loads(run(program, 1).stdout)
        assert found["threads"] == 1 and found["vector_bits"] in (128, 256, 512)
        for key in ("fma_gflops", "read_gb_s", "copy_gb_s"):
            assert 0.1 < found[key] < 1e4, found
        assert run(program).returncode == 2 and run(program, 0).returncode == 2


checks.main(globals())
