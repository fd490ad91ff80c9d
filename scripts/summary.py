#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up what scripts/check ran.

    summary.py FOLDER

FOLDER holds NAME.build ("passed", "failed" or "skipped: why") and, for a build that was
tested, NAME.json (Meson's log of its tests) and NAME.seconds. The pack is a test of its own:
pack.build says how it ended, pack.txt is what it printed. What is not there at all has
failed, but for cudnn.build, which is there only where that engine was left out. A test program
that prints Check's line "100%: Checks: 12, Failures: 0, Errors: 0" counts for as many tests,
and a line "skipped NAME: why" is one skipped. Those of a build that were skipped for one reason
are counted each and named in one line. Ends with status 1 if anything failed or a
sanitizer reported something.
"""
import json
import pathlib
import re
import sys

CHECKS = re.compile(r"Checks: (\d+), Failures: (\d+), Errors: (\d+)")
SKIPPED = re.compile(r"^skipped (.*)$", re.M)
REPORT = re.compile(r"ERROR: \w+Sanitizer|runtime error: ")


def count(test):
    """(passed, failed, skipped) of one entry of Meson's log."""
    if test["result"] == "SKIP":
        return 0, 0, 1
    found = [tuple(map(int, m)) for m in CHECKS.findall(test.get("stdout") or "")]
    left_out = len(SKIPPED.findall(test.get("stdout") or ""))
    bad = sum(failures + errors for _, failures, errors in found)
    total = max(sum(checks for checks, _, _ in found), 1)
    if test["result"] in ("OK", "EXPECTEDFAIL"):
        return total, 0, left_out
    return max(total - max(bad, 1), 0), max(bad, 1), left_out


def reasons(test):
    """What a test left out and why; of a skipped one, the last line that it said."""
    if test["result"] != "SKIP":
        return SKIPPED.findall(test.get("stdout") or "")
    lines = ((test.get("stdout") or "") + (test.get("stderr") or "")).strip().splitlines()
    return [lines[-1].strip().removeprefix("skipped: ") if lines else "no reason given"]


def by_reason(lines):
    """The first of each build's and reason's, and how many others there are."""
    found = {}
    for line in lines:
        what, _, why = line.partition(": ")
        found.setdefault((what.split()[0], why), []).append(what)
    return [what + (f" and {len(more)} more" if more else "") + f": {why}"
            for (_, why), (what, *more) in found.items()]


def state_of(folder, name):
    path = folder / f"{name}.build"
    return path.read_text().strip() if path.exists() else "not run"


def add_build(folder, name, told):
    state = state_of(folder, name)
    if state.startswith("skipped"):
        told["skipped"].append(f"{name} build: {state.partition(': ')[2]}")
        return 0, 0, 1
    if state != "passed":
        told["failed"].append(f"{name} build ({state})")
        return 0, 1, 0
    return 1, 0, 0


def add_pack(folder, told):
    state, said = state_of(folder, "pack"), folder / "pack.txt"
    test = {"result": "OK" if state == "passed" else "FAIL",
            "stdout": said.read_text(errors="replace") if said.exists() else ""}
    if state != "passed":
        told["failed"].append(f"pack ({state})")
    told["skipped"] += [f"pack {why}" for why in reasons(test)]
    return count(test)


def add_tests(folder, name, told):
    sums = [0, 0, 0]
    log = folder / f"{name}.json"
    tests = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    if not tests:
        told["failed"].append(f"{name}: no test ran")
        return [0, 1, 0]
    for test in tests:
        counts = count(test)
        sums = [a + b for a, b in zip(sums, counts)]
        if counts[1]:
            told["failed"].append(f"{name} {test['name']} ({test['result'].lower()})")
        for why in reasons(test):
            told["skipped"].append(f"{name} {test['name']}: {why}")
        output = (test.get("stdout") or "") + (test.get("stderr") or "")
        told["reports"] += [f"{name} {test['name']}" for _ in REPORT.findall(output)]
    return sums


def main():
    folder = pathlib.Path(sys.argv[1])
    told = {"failed": [], "skipped": [], "reports": []}
    whole = [0, 0, 0]
    print("== summary")
    for name in ("release", "sanitizers", "clang", "aarch64"):
        sums = list(add_build(folder, name, told))
        seconds = folder / f"{name}.seconds"
        if seconds.exists():
            sums = [a + b for a, b in zip(sums, add_tests(folder, name, told))]
        took = f" in {seconds.read_text().strip()} s" if seconds.exists() else ""
        print("{:10}  {} passed, {} failed, {} skipped{}".format(name, *sums, took))
        whole = [a + b for a, b in zip(whole, sums)]
    sums = add_pack(folder, told)
    print("{:10}  {} passed, {} failed, {} skipped".format("pack", *sums))
    whole = [a + b for a, b in zip(whole, sums)]
    if (folder / "cudnn.build").exists():
        whole = [a + b for a, b in zip(whole, add_build(folder, "cudnn", told))]
    print("sanitizer reports: {}".format(len(told["reports"])))
    whole[1] += len(told["reports"])
    for title, lines in (("failed", told["failed"]), ("skipped", by_reason(told["skipped"]))):
        for line in lines:
            print(f"{title}: {line}")
    for line in sorted(set(told["reports"])):
        print(f"failed: sanitizer report in {line}")
    print("{} passed, {} failed, {} skipped".format(*whole))
    return 1 if whole[1] else 0


sys.exit(main())
