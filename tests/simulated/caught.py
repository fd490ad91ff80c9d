#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Has every check of the simulation been shown failing on a planted fault?

    caught.py PROGRAM...

A check names its place in the sources in a text of its own (site.h), which is found in the
programs; a test that plants a fault writes down the place whose message it has expected. A
place that no test of these programs has written down is told, and fails.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

SITE = re.compile(rb"refused at [ -~]*?(tests/simulated/[ -~]+?:\d+)\0")


def sites(program):
    """The places of the checks that a program has."""
    return {match.decode() for match in SITE.findall(program.read_bytes())}


def caught(program):
    """The places that its tests have told, or None if a test fails."""
    with tempfile.TemporaryDirectory() as folder:
        told = pathlib.Path(folder) / "told"
        env = {key: value for key, value in os.environ.items() if not key.startswith("CK_")}
        run = subprocess.run([program], env={**env, "VGG_CAUGHT": told}, check=False,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if run.returncode != 0:
            sys.stdout.buffer.write(run.stdout)
            return None
        text = told.read_bytes() if told.exists() else b""
    return {match.decode() for match in SITE.findall(text.replace(b"\n", b"\0"))}


def main():
    programs = [pathlib.Path(name) for name in sys.argv[1:]]
    known = set().union(*(sites(program) for program in programs))
    by_program = [caught(program) for program in programs]
    problems = [f"{program}: its own tests fail"
                for program, found in zip(programs, by_program) if found is None]
    told = set().union(*(found for found in by_program if found))
    problems += [f"{site}: no planted fault is refused here" for site in
                 sorted(known - told, key=lambda s: (s.split(":")[0], int(s.split(":")[1])))]
    # And this check on its own: a program's tests that are left out are missed.
    for i, program in enumerate(programs):
        others = set().union(*(found for k, found in enumerate(by_program) if k != i and found))
        if not problems and not known - others:
            problems.append(f"{program}: is not missed where it is left out")
    print("".join(f"{problem}\n" for problem in problems), end="")
    print(f"{len(known & told)} of {len(known)} checks have refused a planted fault")
    print(f"Checks: {len(known)}, Failures: {len(problems)}, Errors: 0")
    return 1 if problems or not known else 0


sys.exit(main())
