#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows every lint check a folder with one fault in it: a check that sees nothing there
proves nothing here. The sound folder beside it must pass."""
import pathlib
import sys
import tempfile

import budgets
import circles
import layers
import style

HEAD = "/* SPDX-License-Identifier: Apache-2.0 */\n"
SOUND = HEAD + "/* exit(1) and strcpy() in a comment are fine. */\n" \
    "static int add(int a, int b)\n{\n    return a + b; /* \"printf(\" */\n}\n"


def body(line):
    return HEAD + f"static void f(void)\n{{\n    {line}\n}}\n"


# (check, file, its text, a part of the problem)
PLANTED = [
    (layers, "lib/core/a.c", HEAD + '#include "store/x.h"\n', "may not include store/x.h"),
    (layers, "lib/tensor/a.c", HEAD + '#include "backend.h"\n', "may not include backend.h"),
    (layers, "lib/plan/a.c", HEAD + '#include "common/stage.h"\n', "may not include common"),
    (layers, "lib/extra/a.c", SOUND, "not in ORDER"),
    (layers, "backends/ref/a.c", HEAD + '#include "cpu/gemm.h"\n', "may not include cpu"),
    (layers, "backends/cpu/a.c", HEAD + '#include "model/model.h"\n', "may not include model"),
    (layers, "include/vgg/a.h", HEAD + '#include "core/error.h"\n', "may not include core"),
    (layers, "include/vgg/a.h", HEAD + "#include <zlib/zlib.h>\n", "may not include zlib"),
    (layers, "examples/vgg/a.c", HEAD + '#include "core/error.h"\n', "may not include core"),
    (budgets, "lib/core/a.c", HEAD + "int x;\n" * 600, "601 lines"),
    (budgets, "lib/core/a.c", HEAD + "static void f(void)\n{\n" + "    ;\n" * 99 + "}\n",
     "f: 101 lines"),
    (budgets, "lib/core/a.c", HEAD + "static int f(int a, int b, int c,\n"
     "             int d, void (*e)(int, int), int g, int h)\n{\n}\n", "f: 7 parameters"),
    (budgets, "lib/core/a.c", HEAD + "/* " + "x" * 90 + " */\n", "96 columns"),
    (budgets, "backends/cudnn/kernels/a.cu", HEAD + "/* " + "x" * 90 + " */\n", "96 columns"),
    (layers, "backends/cudnn/kernels/a.cuh", HEAD + '#include "mma/a.h"\n', "may not include"),
    (style, "lib/core/a.c", HEAD + "\tint x;\n", "tab"),
    (style, "lib/core/a.c", HEAD + "int x; \n", "blank at the end"),
    (style, "docs/a.md", "text", "no newline"),
    (style, "docs/a.md", "text\n\n", "empty line"),
    (style, "lib/core/a.c", "int x;\n", "no line SPDX"),
    (style, "scripts/demo", "#!/bin/sh\n", "no line SPDX"),
    (style, "lib/core/a.c", HEAD + "/* TO" "DO */\n", "unfinished"),
    (style, "docs/a.md", "@@OUTPUT@" "@\n", "unfinished"),
    (style, "lib/core/a.c", body("strcpy(a, b);"), "strcpy(): unbounded"),
    (style, "lib/core/a.c", body("exit(1);"), "exit(): ends"),
    (style, "lib/core/a.c", body("printf(\"x\");"), "printf(): prints"),
    (style, "backends/cpu/a.c", body("char *p = getenv(x);"), "getenv(): reads"),
    (style, "backends/cpu/a.c", body("void *p = malloc(8);"), "malloc(): allocates"),
    (style, "lib/core/a.c", body("goto done;"), "goto another"),
    (style, "lib/core/a.c", HEAD + "#define NAME(x) vgg_##x\n", "can't be searched"),
    (style, "backends/cpu/meson.build", "c_args: '-ffast-" "math'\n", "changes the host"),
]

# ([(file, what it defines, what it needs)], the files of the problems)
CIRCLES = [
    ([("a.c", {"a"}, {"b", "malloc"}), ("b.c", {"b", "c"}, {"b"})], []),
    ([("a.c", {"a"}, {"b"}), ("b.c", {"b"}, {"a"}), ("c.c", {"c"}, {"a"})], ["a.c", "b.c"]),
    ([("a.c", {"a"}, {"b"}), ("b.c", {"b"}, {"c"}), ("c.c", {"c"}, {"a"})],
     ["a.c", "b.c", "c.c"]),
    ([("d.c", {"d"}, {"a"}), ("a.c", {"a"}, {"b"}), ("b.c", {"b"}, {"a"})], ["a.c", "b.c"]),
]


def main():
    failures = 0
    for objects, expected in CIRCLES:
        found = circles.check(objects)
        if [line.partition(":")[0] for line in found] != expected:
            failures += 1
            print(f"circles: {objects}: expected {expected}, found {found}")
    for check, name, text, expected in [(c, "lib/core/a.c", SOUND, None)
                                        for c in (layers, budgets, style)] + PLANTED:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            path = root / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
            found = check.check(root)
        seen = [p for p in found if expected and expected in p and p.startswith(name)]
        if (len(found) > 0) != (expected is not None) or expected and not seen:
            failures += 1
            print(f"{check.__name__}: {name}: expected {expected!r}, found {found}")
    total = len(CIRCLES) + len(PLANTED) + 3
    print(f"Checks: {total}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
