# SPDX-License-Identifier: Apache-2.0
"""Stage `sanitize`: our kernels under compute-sanitizer, at the small shapes of the
conformance suites. cuDNN's and cuBLAS's kernels run beside them and are not looked at."""
import re

import machine
import parity
import rows

PROGRAMS = (("memcheck", "test-gpu-conv-mma"), ("racecheck", "test-gpu-conv-mma"),
            ("memcheck", "test-gpu-stages-bf16"), ("racecheck", "test-gpu-stages-bf16"),
            ("memcheck", "test-gpu-stages-fp32"), ("racecheck", "test-gpu-stages-fp32"),
            ("memcheck", "test-gpu-program"), ("memcheck", "test-gpu-update"),
            ("synccheck", "test-gpu-stages-bf16"), ("racecheck", "test-gpu-update"))
SANITIZER = "compute-sanitizer"
# Every kernel of ours takes one argument, whose type's name is in the kernel's own.
OURS = "vgg__"
FAULTS = re.compile(r"^========= ((?:Invalid|Error|Warning|Uninitialized|Race|Potential|"
                    r"Divergent|Barrier|Program hit)[^\n]*)$", re.M)
SUMMARY = re.compile(r"^========= (?:ERROR|RACECHECK) SUMMARY: (\d+)[^\n]*$", re.M)


def filters():
    """The option that names kernels has had two names."""
    known = machine.ask(machine.tool(SANITIZER), "--help")
    return next(([option, f"kns={OURS}"] for option in ("--kernel-name", "--kernel-regex")
                 if option in known), [])


def look(trainer, tool, path, left):
    wrap = [machine.tool(SANITIZER), "--tool", tool, "--error-exitcode", "9", *filters()]
    if tool == "memcheck":  # libraries try calls that fail; ours are looked at where made
        wrap += ["--report-api-errors", "no"]
    seen = {"command": " ".join([SANITIZER, *wrap[1:], path.name]), "faults": []}

    def output(text):
        seen["faults"] = FAULTS.findall(text)[:10]
        found = SUMMARY.search(text)
        seen["found"] = int(found[1]) if found else None
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


def run(stage, args, trainer, memory):
    found = [(tool, path) for tool, name in PROGRAMS
             for path in trainer.tree.glob(f"tests/*/{name}")]
    if args.quick:
        found = found[:2]
    stage.plan([f"{tool}-{path.name}" for tool, path in found] or ["programs"])
    if not found:
        stage.row("programs", "failed", reason="the pack has no test program for the GPU")
    for tool, path in found:
        name = f"{tool}-{path.name}"
        if machine.tool(SANITIZER) is None:
            stage.row(name, "skipped", reason=f"{SANITIZER} is neither on the PATH nor in the "
                      "toolkit's bin")
            continue
        stage.do(name, lambda left, t=tool, p=path: look(
            trainer, t, p, min(left - 2, args.program_limit or 150)))
