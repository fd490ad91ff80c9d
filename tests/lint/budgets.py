#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How large things may be: a file 600 lines, a function 100, a line 88 columns, a function
6 parameters. A table made by a script has neither length nor width."""
import re

import source

FILE_LINES = 600
FUNCTION_LINES = 100
PARAMETERS = 6
COLUMNS = 88

# Functions with more parameters, and why.
WIDE = {
    "vgg_tensor_wrap": "a callback and its cookie are one thing",
    "lt_algo_check": "the signature is cuBLASLt's",
    "lt_get_heuristic": "the signature is cuBLASLt's",
    "lt_matmul": "the signature is cuBLASLt's",
    "vgg_transform_apply": "seed, epoch and index are the place of one sample",
}


def signature(lines, brace):
    """Name and number of parameters of the function whose body opens on line `brace`."""
    first = brace
    while first > 0 and lines[first - 1].strip() and not re.match(
            r"\s*#|.*[;}]\s*$", lines[first - 1]):
        first -= 1
    text = " ".join(line.strip() for line in lines[first:brace])
    text = re.sub(r"__attribute__\s*\(\(.*?\)\)(?=\s|$)", "", text)
    match = re.search(r"(\w+)\s*\(", text)
    if not match:
        return text, 0
    depth, commas = 0, 0
    for char in text[match.end() - 1:]:
        depth += {"(": 1, ")": -1}.get(char, 0)
        commas += char == "," and depth == 1
        if depth == 0:
            break
    return match.group(1), commas + 1


def functions(text):
    """(name, parameters, first line, length) of each function; bodies open with a brace in
    the first column, as the formatter leaves them."""
    lines = source.code(text).split("\n")
    start = None
    for number, line in enumerate(lines):
        if line.rstrip() == "{":
            start = None if lines[number - 1].startswith("namespace") else number
        elif line.startswith("}") and start is not None:
            name, parameters = signature(lines, start)
            yield name, parameters, start + 1, number - start + 1
            start = None


def check(root):
    problems = []
    for path in source.files(root, (".c", ".h", ".cpp", ".cc", ".cu", ".cuh")):
        text = path.read_text()
        lines = text.splitlines()
        table = source.is_table(text)

        def add(line, what, path=path):
            problems.append(source.problem(root, path, line, what))

        if len(lines) > FILE_LINES and not table:
            add(len(lines), f"{len(lines)} lines, at most {FILE_LINES}")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS and not table:
                add(number, f"{len(line)} columns, at most {COLUMNS}")
        for name, parameters, line, length in functions(text):
            if length > FUNCTION_LINES:
                add(line, f"{name}: {length} lines, at most {FUNCTION_LINES}")
            if parameters > PARAMETERS and name not in WIDE:
                add(line, f"{name}: {parameters} parameters, at most {PARAMETERS}")
    return problems


if __name__ == "__main__":
    source.main(check)
