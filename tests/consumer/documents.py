#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""README.md and docs/getting-started.md do what they say.

    documents.py BUILD SOURCE PREFIX LIBDIR

Against an installed copy of the finished BUILD, block by block:

    ```c NAME, ```python NAME   is written to the file NAME (and compiled, if Python)
    ```sh run                   is run where those files are; it must end with status 0
    ```text output              is what the block before it must have printed
    ```sh                       is for the reader's machine (sudo, long trainings)

Any other kind of block is an error, and so is a link, in any page, to a file that does not
exist.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import tree

DOCUMENTS = ("README.md", "docs/getting-started.md")
LINKED = ("docs/architecture.md", "docs/conventions.md", "docs/security.md",
          "docs/testing.md", "docs/trainer.md")
DATA = pathlib.Path("/usr/share/datasets/fashion-mnist")
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")


def run_block(text, folder, env):
    done = subprocess.run(["bash", "-euc", text], cwd=folder, env=env, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=300)
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}:\n{done.stdout}")
    return done.stdout


def do_block(kind, text, folder, env, output):
    """Carry out one block; returns what it printed, if it was run."""
    language, _, name = kind.partition(" ")
    if language in ("c", "python") and re.fullmatch(r"[\w.]+", name):
        (folder / name).write_text(text)
        if language == "python":
            compile(text, name, "exec")
    elif kind == "sh run":
        return run_block(text, folder, env)
    elif kind == "text output":
        if output != text:
            raise RuntimeError(f"the document says:\n{text}and the program:\n{output}")
    elif kind != "sh":
        raise RuntimeError(f"no such kind of block: {kind!r}")
    return None


def follow(source, name, env):
    """Failures of one document, and how many things were looked at."""
    path = source / name
    text = path.read_text()
    failures, count, output = 0, 0, None
    for target in LINK.findall(text):
        count += 1
        if not (path.parent / target).exists():
            failures += 1
            print(f"FAILED  {name}: links to {target}, which does not exist")
    if name in LINKED:
        return failures, count
    with tempfile.TemporaryDirectory(prefix="vgg-documents-") as folder:
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            count += 1
            try:
                output = do_block(match[1].strip(), match[2], pathlib.Path(folder), env, output)
                print(f"ok      {name}:{line}: {match[1]}", flush=True)
            except Exception as error:
                failures += 1
                print(f"FAILED  {name}:{line}: {match[1]}: {error}", flush=True)
    return failures, count


def main():
    build, source, prefix, libdir = sys.argv[1:]
    if not DATA.exists() or not shutil.which("pkg-config"):
        print(f"needs {DATA} (package dataset-fashion-mnist) and pkg-config")
        return 77
    failures, count = 0, 0
    with tempfile.TemporaryDirectory(prefix="vgg-documents-") as destdir:
        installed = tree.install(build, destdir, prefix, libdir)
        env = installed.env()
        env["PATH"] = f"{installed.prefix}/bin:{env['PATH']}"
        for name in DOCUMENTS + LINKED:
            bad, done = follow(pathlib.Path(source), name, env)
            failures, count = failures + bad, count + done
    print(f"Checks: {count}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
