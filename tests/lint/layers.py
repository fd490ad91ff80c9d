#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data flows one way: who may include what.

  include/vgg   the standard library and <vgg/...>
  lib/X         "Y/..." where Y is X or stands before it in ORDER; "backend.h" from data on
  backends/X    "backend.h", "core/...", "common/..." and its own files
  examples/X    <vgg/...> and its own files
"""
import re

import source

ORDER = ("core", "io", "tensor", "data", "model", "device", "plan", "train", "store")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.M)


def in_headers(path, kind, name):
    return kind == "<" and (name.startswith("vgg/") or "/" not in name)


def in_lib(path, kind, name):
    if kind == "<":
        return True
    room = path.parent.name
    if name == "backend.h":
        return ORDER.index(room) >= ORDER.index("data")
    if "/" not in name:
        return (path.parent / name).exists()
    other = name.split("/")[0]
    return other in ORDER and ORDER.index(other) <= ORDER.index(room)


def in_backends(path, kind, name):
    if kind == "<" or name == "backend.h":
        return True
    if "/" not in name:
        return (path.parent / name).exists()
    return name.split("/")[0] in ("core", "common", path.parent.name)


def in_examples(path, kind, name):
    return kind == "<" or "/" not in name and (path.parent / name).exists()


RULES = {"include": in_headers, "lib": in_lib, "backends": in_backends,
         "examples": in_examples}


def check(root):
    problems = []
    for room, allowed in RULES.items():
        for path in source.files(root, (".c", ".h", ".cpp", ".cc", ".cu", ".cuh"), (room,)):
            if room == "lib" and path.parent.name not in ORDER:
                problems.append(source.problem(root, path, 1, "folder is not in ORDER"))
                continue
            text = path.read_text()
            for match in INCLUDE.finditer(text):
                if not allowed(path, *match.groups()):
                    line = text.count("\n", 0, match.start(2)) + 1
                    problems.append(source.problem(root, path, line,
                                                   f"may not include {match.group(2)}"))
    return problems


if __name__ == "__main__":
    source.main(check)
