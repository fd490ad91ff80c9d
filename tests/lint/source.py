# SPDX-License-Identifier: Apache-2.0
"""What all lint scripts share: finding the project's files, reading C without comments and
strings, reporting. A check is a function from a folder to a list of problems, so that
planted.py can show each of them a folder with a fault in it."""
import pathlib
import re
import sys

# Folders with code and text of the project; build trees and data are not among them.
ROOMS = ("include", "lib", "backends", "examples", "tests", "docs", "pkgconfig", "scripts",
         ".ci")
TOKEN = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)


def files(root, suffixes, rooms=ROOMS):
    """Paths below the rooms whose names end in one of the suffixes, and in the root."""
    found = [p for p in root.iterdir() if p.is_file() and rooms is ROOMS]
    for room in rooms:
        found += [p for p in (root / room).rglob("*")
                  if p.is_file() and "__pycache__" not in p.parts]
    return sorted(p for p in found if p.name.endswith(suffixes))


def code(text):
    """C source with comments and strings blanked; lines and columns stay."""
    return TOKEN.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


def is_table(text):
    """Made by a script: one that switches the formatter off in its first three lines."""
    return "/* clang-format off */" in text.split("\n")[:3]


def problem(root, path, line, text):
    return f"{path.relative_to(root)}:{line}: {text}"


def main(check):
    """Run a check on the folder named on the command line."""
    problems = check(pathlib.Path(sys.argv[1]).resolve())
    for line in problems:
        print(line)
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)
