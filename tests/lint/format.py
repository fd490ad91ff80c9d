#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""C sources look as .clang-format says. Status 77 (skipped) without clang-format."""
import pathlib
import re
import shutil
import subprocess
import sys

import source


def check(root):
    paths = source.files(root, (".c", ".h", ".cpp", ".cu", ".cuh"))
    run = subprocess.run(["clang-format", "--dry-run", "-Werror", *map(str, paths)],
                         capture_output=True, text=True)
    first = {}  # of each file, the first line that differs
    for path, line in re.findall(r"^(/.*?):(\d+):\d+: error:", run.stderr, re.M):
        first.setdefault(path, line)
    problems = [source.problem(root, pathlib.Path(path), line, "not as clang-format leaves it")
                for path, line in first.items()]
    return problems or ([run.stderr] if run.returncode else [])


if __name__ == "__main__":
    if not shutil.which("clang-format"):
        print("clang-format is not installed")
        sys.exit(77)
    source.main(check)
