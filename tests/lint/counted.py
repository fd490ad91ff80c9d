#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What scripts/check counts: whatever failed or did not run at all must be in the closing line
and in the status."""
import json
import pathlib
import subprocess
import sys
import tempfile

SUMMARY = pathlib.Path(sys.argv[1]).resolve() / "scripts/summary.py"
SUITE = json.dumps({"name": "a", "result": "OK", "stdout": "Checks: 5, Failures: 0, Errors: 0"})
GOOD = {"release.build": "passed", "release.json": SUITE, "release.seconds": "1",
        "sanitizers.build": "passed", "sanitizers.json": SUITE, "sanitizers.seconds": "1",
        "clang.build": "passed", "aarch64.build": "passed", "aarch64.json": SUITE,
        "aarch64.seconds": "1", "pack.build": "passed",
        "pack.txt": "skipped plugin: no nvcc\n100%: Checks: 4, Failures: 0, Errors: 0\n"}
BAD = json.dumps({"name": "a", "result": "FAIL", "stdout": "Checks: 5, Failures: 2, Errors: 0"})
REPORT = json.dumps({"name": "a", "result": "OK", "stderr": "x.c:1:2: runtime error: overflow"})

# (changes to GOOD, None being a file that is not there; the closing line; another line)
CASES = [
    ({}, "23 passed, 0 failed, 1 skipped", "skipped: pack plugin: no nvcc"),
    ({"pack.build": "failed", "pack.txt": "git: command not found\n"},
     "19 passed, 1 failed, 0 skipped", "failed: pack (failed)"),
    ({"pack.build": "failed", "pack.txt": "75%: Checks: 4, Failures: 1, Errors: 0\n"},
     "22 passed, 1 failed, 0 skipped", "failed: pack (failed)"),
    ({"pack.build": "failed"}, "22 passed, 1 failed, 1 skipped", "failed: pack (failed)"),
    ({"pack.build": None, "pack.txt": None}, "19 passed, 1 failed, 0 skipped",
     "failed: pack (not run)"),
    ({"clang.build": None}, "22 passed, 1 failed, 1 skipped", "failed: clang build (not run)"),
    ({"clang.build": "failed"}, "22 passed, 1 failed, 1 skipped",
     "failed: clang build (failed)"),
    ({"clang.build": "skipped: none here"}, "22 passed, 0 failed, 2 skipped",
     "skipped: clang build: none here"),
    ({"aarch64.build": "skipped: no compiler", "aarch64.json": None, "aarch64.seconds": None},
     "17 passed, 0 failed, 2 skipped", "skipped: aarch64 build: no compiler"),
    ({"aarch64.json": BAD}, "21 passed, 2 failed, 1 skipped", "failed: aarch64 a (fail)"),
    ({"cudnn.build": "skipped: no nvcc"}, "23 passed, 0 failed, 2 skipped",
     "skipped: cudnn build: no nvcc"),
    ({"release.json": BAD}, "21 passed, 2 failed, 1 skipped", "failed: release a (fail)"),
    ({"release.json": None}, "18 passed, 1 failed, 1 skipped", "failed: release: no test ran"),
    ({"sanitizers.json": REPORT}, "19 passed, 1 failed, 1 skipped",
     "failed: sanitizer report in sanitizers a"),
]

# Tests without a GPU: each is counted, and all are one line.
SKIPS = "".join("\n" + json.dumps({"name": f"gpu-{name}", "result": "SKIP",
                                  "stdout": f"skipped: {why}\n"})
                for name, why in (("a", "no GPU"), ("b", "no GPU"), ("c", "no nvcc"),
                                  ("d", "no GPU")))
for told in ("skipped: release gpu-a and 2 more: no GPU", "skipped: release gpu-c: no nvcc"):
    CASES.append(({"release.json": SUITE + SKIPS}, CASES[0][1].replace("1 skipped", "5 skipped"),
                  told))


def main():
    failures = 0
    for changes, closing, line in CASES:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**GOOD, **changes}.items():
                if text is not None:
                    (pathlib.Path(folder) / name).write_text(text)
            done = subprocess.run([sys.executable, "-B", SUMMARY, folder], capture_output=True,
                                  text=True)
        said = done.stdout.splitlines()
        status = 0 if ", 0 failed," in closing else 1
        if done.returncode != status or said[-1:] != [closing] or line not in said:
            failures += 1
            print(f"{changes}: expected {line!r}, {closing!r} and status {status}, found status "
                  f"{done.returncode} and\n{done.stdout}{done.stderr}")
    print(f"Checks: {len(CASES)}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
