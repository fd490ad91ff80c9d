#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""C sources look as .clang-format says. Status 77 (skipped) without clang-format."""
import shutil
import subprocess
import sys

import source


def check(root):
    problems = []
    for path in source.files(root, (".c", ".h", ".cpp")):
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", str(path)],
                             capture_output=True, text=True)
        if run.returncode:
            line = run.stderr.split(":")[1] if ":" in run.stderr else "1"
            problems.append(source.problem(root, path, line, "not as clang-format leaves it"))
    return problems


if __name__ == "__main__":
    if not shutil.which("clang-format"):
        print("clang-format is not installed")
        sys.exit(77)
    source.main(check)
