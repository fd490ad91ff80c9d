# SPDX-License-Identifier: Apache-2.0
"""Stage `sanitize`: our kernels under compute-sanitizer, at the shapes of their tests."""
import re
import shutil

import parity
import rows

# Test programs and what they are run under; the kernels' own come first. racecheck looks at
# shared memory, which only our kernels' tests use in earnest, and is slow.
PROGRAMS = (("memcheck", "tests/*/test-gpu-kernels*"), ("racecheck", "tests/*/test-gpu-kernels*"),
            ("memcheck", "tests/*/test-gpu-stages*"), ("synccheck", "tests/*/test-gpu-kernels*"),
            ("initcheck", "tests/*/test-gpu-kernels*"))
FAULTS = re.compile(r"^========= ((?:Invalid|Error|Warning|Uninitialized|Race|Potential|"
                    r"Divergent|Barrier|Program hit)[^\n]*)$", re.M)
SUMMARY = re.compile(r"^========= (?:ERROR|RACECHECK) SUMMARY: (\d+)[^\n]*$", re.M)


def look(trainer, tool, path, left):
    wrap = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9"]
    seen = {"command": " ".join(wrap + [path.name]), "faults": []}

    def output(text):
        seen["faults"] = FAULTS.findall(text)[:10]
        found = SUMMARY.search(text)
        seen["found"] = int(found[1]) if found else None
    try:
        figures = parity.program(trainer, path, left, wrap, output)
    except rows.Failed as error:
        if seen["faults"]:
            raise rows.Failed(f"{error}; {seen['faults'][0]}",
                              **{**error.figures, **seen}) from None
        error.figures.update(seen)
        raise
    if seen["found"] != 0:
        raise rows.Failed("faults" if seen["found"] else "no summary", **seen, **figures)
    return {**seen, **figures}


def run(stage, args, trainer, memory):
    found = [(tool, path) for tool, pattern in PROGRAMS
             for path in sorted(trainer.tree.glob(pattern))]
    if args.quick:
        found = found[:2]
    stage.plan([f"{tool}-{path.name}" for tool, path in found] or ["programs"])
    if not found:
        stage.row("programs", "failed", reason="the pack has no test program of the kernels")
    for tool, path in found:
        name = f"{tool}-{path.name}"
        if shutil.which("compute-sanitizer") is None:
            stage.row(name, "skipped", reason="compute-sanitizer is not installed")
            continue
        stage.do(name, lambda left, t=tool, p=path: look(
            trainer, t, p, min(left - 2, args.program_limit or 200)))
