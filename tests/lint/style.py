#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What no text and no source of the project may hold."""
import re

import source

TEXT = (".c", ".h", ".cpp", ".cc", ".py", ".md", ".build", ".txt", ".in", ".map", ".json",
        ".yml", "setup", "demo", "check", "peers", "run")
LICENSED = (".c", ".h", ".cpp", ".cc", ".py", ".cmake.in", "setup", "demo", "check", "peers",
            "run")
SPDX = "SPDX-License-Identifier: Apache-2.0"
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|@@\w+@" "@")

# Calls that a library in someone else's process must not make, and why.
BANNED = {
    "unbounded": "strcpy strcat sprintf vsprintf gets stpcpy",
    "reads without saying what was wrong": "atoi atol atoll atof",
    "not safe in threads": "strtok strerror localtime gmtime ctime asctime rand srand",
    "reads the environment unsafely": "getenv",
    "ends or disturbs the host": "exit _exit abort raise signal sigaction atexit setlocale",
    "prints": "printf vprintf fprintf vfprintf dprintf puts fputs putchar putc perror",
    "allocates unseen": "malloc calloc realloc aligned_alloc posix_memalign strdup asprintf",
    "depends on the locale": "strtod strtof strtold",
    "grows the stack": "alloca",
}
# Where the rule's own answer lives: (file, function). JSON's numbers are written and read
# back with the C locale set for the calling thread.
HOME = {
    ("lib/io/json_out.c", "strtod"),
    ("lib/core/allocator.c", "posix_memalign"),
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(w for v in BANNED.values() for w in v.split())
                  + r")\s*\(")
WHY = {word: why for why, words in BANNED.items() for word in words.split()}


def check_text(root, path):
    data = path.read_bytes()
    found = []
    if data and not data.endswith(b"\n"):
        found.append((data.count(b"\n") + 1, "no newline at the end"))
    if data.endswith(b"\n\n"):
        found.append((data.count(b"\n"), "empty line at the end"))
    lines = data.decode("utf-8", "replace").split("\n")
    for number, line in enumerate(lines, 1):
        if "\t" in line:
            found.append((number, "tab"))
        if line != line.rstrip():
            found.append((number, "blank at the end of the line"))
        if UNFINISHED.search(line):
            found.append((number, "unfinished: " + line.strip()[:60]))
    if path.name.endswith(LICENSED) and SPDX not in "\n".join(lines[:3]):
        found.append((1, "no line " + SPDX))
    return [source.problem(root, path, *item) for item in found]


def check_library(root, path):
    found = []
    name = str(path.relative_to(root))
    for number, line in enumerate(source.code(path.read_text()).split("\n"), 1):
        for match in CALL.finditer(line):
            if (name, match.group(1)) not in HOME:
                found.append((number, f"{match.group(1)}(): {WHY[match.group(1)]}"))
        if re.search(r"\bgoto\s+(?!fail\b)", line):
            found.append((number, "goto another label than fail"))
        if "##" in line:
            found.append((number, "a name put together by a macro can't be searched for"))
    return [source.problem(root, path, *item) for item in found]


def check(root):
    problems = []
    for path in source.files(root, TEXT):
        problems += check_text(root, path)
    for path in source.files(root, (".c", ".h"), ("lib", "backends", "include")):
        problems += check_library(root, path)
    for path in source.files(root, ("meson.build",)):
        if "fast-math" in path.read_text():
            problems.append(source.problem(root, path, 1, "-ffast-math changes the host"))
    return problems


if __name__ == "__main__":
    source.main(check)
