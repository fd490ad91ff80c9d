#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data flows one way, from file to file: no two files of lib, backends or examples need each
other, by themselves or by way of others. Read from the symbols of what was compiled:

  circles.py ROOT BUILD    BUILD: a build folder with its compile_commands.json

The other lints read sources; planted.py shows this one what two object files would say."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOMS = ("lib", "backends", "examples")


def symbols(path):
    """(what an object file defines for others, what it needs of others)"""
    text = subprocess.run(["nm", "-P", "-g", path], check=True, capture_output=True,
                          text=True).stdout
    rows = [line.split() for line in text.splitlines()]
    return ({row[0] for row in rows if row[1] != "U"}, {row[0] for row in rows if row[1] == "U"})


def objects(root, build):
    """(source, object) for every object file of the rooms."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        folder = pathlib.Path(entry["directory"])
        source = pathlib.Path(os.path.normpath(folder / entry["file"]))
        if source.is_relative_to(root) and source.relative_to(root).parts[0] in ROOMS:
            path = folder / entry["output"]
            if "tests" not in pathlib.Path(entry["output"]).parts:
                yield str(source.relative_to(root)), path


def needs(files):
    """For every file {file that it needs: a symbol}, of (file, defines, needs)."""
    owner = {name: file for file, defines, _ in files for name in defines}
    found = {file: {} for file, _, _ in files}
    for file, _, wanted in files:
        for name in sorted(wanted):
            if owner.get(name, file) != file:
                found[file].setdefault(owner[name], name)
    return found


def circles(graph):
    """Lists of files that all need each other: strongly connected components (Tarjan 1972)."""
    order, low, stack, found = {}, {}, [], []

    def visit(file):
        order[file] = low[file] = len(order)
        stack.append(file)
        for other in sorted(graph[file]):
            if other not in order:
                visit(other)
                low[file] = min(low[file], low[other])
            elif other in stack:
                low[file] = min(low[file], order[other])
        if low[file] == order[file]:
            at = stack.index(file)
            found.append(stack[at:])
            del stack[at:]

    for file in sorted(graph):
        if file not in order:
            visit(file)
    return [sorted(circle) for circle in found if len(circle) > 1]


def check(files):
    """Problems of (file, symbols that it defines, symbols that it needs)."""
    graph, problems = needs(files), []
    for circle in circles(graph):
        for file in circle:
            problems += [f"{file}: needs {other} ({name}), which needs it in turn"
                         for other, name in sorted(graph[file].items()) if other in circle]
    return problems


def main():
    root, build = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    if not shutil.which("nm"):
        print("nm is not installed: it reads what was compiled")
        return 77
    found = list(objects(root, build))
    missing = [str(path) for _, path in found if not path.exists()]
    if missing or not found:
        print(f"not built: {', '.join(missing[:3]) or 'anything'}: build first")
        return 1
    files = [(source, *symbols(path)) for source, path in found]
    problems = check(files)
    for line in problems:
        print(line)
    print(f"{len(files)} object files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
