# SPDX-License-Identifier: Apache-2.0
"""Stage `sanitize`: our kernels under compute-sanitizer, at the small shapes of the
conformance suites. cuDNN's and cuBLAS's kernels run beside them and are not looked at."""
import re

import machine
import parity
import rows

# What has worked before first. conv-mma is where products of warp groups are, which the tools
# may misread, and racecheck of the bf16 stages is where one has stopped by itself.
PROGRAMS = (("memcheck", "test-gpu-update"), ("memcheck", "test-gpu-linear-step"),
            ("memcheck", "test-gpu-stages-bf16"), ("racecheck", "test-gpu-update"),
            ("racecheck", "test-gpu-linear-step"), ("memcheck", "test-gpu-steps"),
            ("memcheck", "test-gpu-conv-mma"), ("memcheck", "test-gpu-stages-fp32"),
            ("memcheck", "test-gpu-program"), ("synccheck", "test-gpu-stages-bf16"),
            ("racecheck", "test-gpu-stages-fp32"), ("racecheck", "test-gpu-stages-bf16"),
            ("racecheck", "test-gpu-conv-mma"))
SANITIZER = "compute-sanitizer"
# Every kernel of ours takes one argument, whose type's name is in the kernel's own.
OURS = "vgg__"
FAULTS = re.compile(r"^========= ((?:Invalid|Error|Warning|Uninitialized|Race|Potential|"
                    r"Divergent|Barrier|Program hit)[^\n]*)$", re.M)
# A fault's place in a kernel of warp groups: some sanitizers tell of accesses by their products
# that are none (NVIDIA/compute-sanitizer-samples, issue 19).
IN_GROUPS = re.compile(r"^=========\s+at [^\n]*wgmma", re.M)
NO_GROUPS = ["--check-warpgroup-mma", "no"]
SUMMARY = re.compile(r"^========= (?:ERROR|RACECHECK) SUMMARY: (\d+)[^\n]*$", re.M)


def known():
    """What the sanitizer says of its options."""
    return machine.ask(machine.tool(SANITIZER), "--help")


def options(tool):
    """Of those that it has: the one that names kernels has had two names; and a kernel that is
    at fault should not take the program's other tests with it."""
    has = known()
    found = next(([option, f"kns={OURS}"] for option in ("--kernel-name", "--kernel-regex")
                  if option in has), [])
    if tool == "memcheck":  # libraries try calls that fail; ours are looked at where made
        found += ["--report-api-errors", "no"]
        if "--destroy-on-device-error" in has:
            found += ["--destroy-on-device-error", "kernel"]
    return found


def look(trainer, tool, path, left, more, groups):
    """`more` are options beside the usual ones; `groups` gets what is in warp groups."""
    wrap = [machine.tool(SANITIZER), "--tool", tool, "--error-exitcode", "9", *options(tool), *more]
    seen = {"command": " ".join([SANITIZER, *wrap[1:], path.name]), "faults": []}

    def output(text):
        seen["faults"] = FAULTS.findall(text)[:10]
        found = SUMMARY.search(text)
        seen["found"] = int(found[1]) if found else None
        groups.extend(IN_GROUPS.findall(text))
    try:
        figures = parity.program(trainer, path, left, wrap, output)
    except rows.Failed as error:
        if seen["faults"]:
            raise rows.Failed(f"{error}; {seen['faults'][0]}", error.late,
                              **{**error.figures, **seen}) from None
        error.figures.update(seen)
        raise
    if seen["found"] != 0:
        raise rows.Failed("faults" if seen["found"] else "no summary", **seen, **figures)
    return {**seen, **figures}


def check(stage, trainer, tool, path, most):
    """A row; and another one without a look at products of warp groups, where it is of them."""
    name, groups = f"{tool}-{path.name}", []
    stage.do(name, lambda left: look(trainer, tool, path, min(left - 2, most), [], groups))
    if groups and tool != "racecheck" and NO_GROUPS[0] in known():
        stage.do(f"{name}-without-groups", lambda left: look(
            trainer, tool, path, min(left - 2, most), NO_GROUPS, []))


def run(stage, args, trainer, memory):
    found = [(tool, path) for tool, name in PROGRAMS
             for path in trainer.tree.glob(f"tests/*/{name}")]
    if args.quick:
        found = found[:2]
    stage.plan([f"{tool}-{path.name}" for tool, path in found] or ["programs"])
    if not found:
        stage.row("programs", "failed", reason="the pack has no test program for the GPU")
    for tool, path in found:
        if machine.tool(SANITIZER) is None:
            stage.row(f"{tool}-{path.name}", "skipped", reason=f"{SANITIZER} is neither on the "
                      "PATH nor in the toolkit's bin")
            continue
        check(stage, trainer, tool, path, args.program_limit or 150)
