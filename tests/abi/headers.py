#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every public header compiles alone and twice, in C11 and in C++98 to C++20, pedantic and
with warnings as errors, and so does every INIT macro where it is meant to be used. No
struct has padding without a name: what a caller left there would be read when it grows.

headers.py INCLUDE_DIR CC... -- [CXX...]"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys

STRICT = ["-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Wundef", "-Werror",
          "-fsyntax-only"]
C_STANDARDS = ["c11", "c17"]
CXX_STANDARDS = ["c++98", "c++11", "c++14", "c++17", "c++20"]
INIT = re.compile(r"^#define (VGG_\w+_INIT)\b", re.M)


def struct_of(init):
    """Name of the struct that an INIT macro is for."""
    return init.removesuffix("_INIT").lower()


def sources(include):
    """(what it is, text) of every file to compile."""
    headers = sorted(p.name for p in (include / "vgg").glob("*.h"))
    for name in headers:
        yield f"{name} alone", f"#include <vgg/{name}>\n"
        yield f"{name} twice", f"#include <vgg/{name}>\n#include <vgg/{name}>\n"
    yield "all, backwards", "".join(f"#include <vgg/{n}>\n" for n in reversed(headers))
    text = "".join((include / "vgg" / name).read_text() for name in headers)
    inits = INIT.findall(text)
    yield "INIT macros", "".join(f"#include <vgg/{n}>\n" for n in headers) + "".join(
        f"extern {struct_of(i)} x{n};\n{struct_of(i)} x{n} = {i};\n"
        for n, i in enumerate(inits)) + "int main(void)\n{\n" + "".join(
        f"    {struct_of(i)} y{n} = {i};\n    if (y{n}.size != sizeof y{n}) return 1;\n"
        for n, i in enumerate(inits)) + "    return 0;\n}\n"


def compile_one(job):
    what, text, include, command = job
    done = subprocess.run(command + ["-I", str(include), "-"], input=text, text=True,
                          stderr=subprocess.PIPE, check=False)
    if done.returncode == 0:
        return []
    lines = [line for line in done.stderr.splitlines() if "error" in line][:3]
    return [f"{what}: {' '.join(command[:2])}: {line}" for line in lines or ["failed"]]


def check(include, cc, cxx):
    """Problems of all headers below `include`."""
    languages = [cc + [f"-std={s}", "-x", "c"] for s in C_STANDARDS]
    if cxx:
        languages += [cxx + [f"-std={s}", "-x", "c++"] for s in CXX_STANDARDS]
    jobs = [(what, text, include, language + STRICT)
            for what, text in sources(include) for language in languages]
    everything = "".join(f"#include <vgg/{p.name}>\n"
                         for p in sorted((include / "vgg").glob("*.h")))
    jobs += [("padding", everything, include, languages[0] + STRICT + ["-Wpadded"])]
    with concurrent.futures.ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return [p for problems in pool.map(compile_one, jobs) for p in problems]


def main():
    split = sys.argv.index("--")
    problems = check(pathlib.Path(sys.argv[1]), sys.argv[2:split], sys.argv[split + 1:])
    for line in problems:
        print(line)
    if not sys.argv[split + 1:]:
        print("no C++ compiler: C only")
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
