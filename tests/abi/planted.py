#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Shows each check of this folder something with one fault in it, and the sound one beside
it: a check that sees nothing there proves nothing here.

planted.py CC... -- [CXX...]"""
import pathlib
import sys
import tempfile

import coverage
import headers
import plugin
import symbols

HEADER = "VGG_API int vgg_a(void);\nVGG_API const char *\nvgg_b(int x,\n      int y);\n" \
    "/* VGG_API int vgg_c(void); */\n#define VGG_API x(y)\n"
MAP = "/* text */\nVGG_0.1 {\nglobal:\n    vgg_a;\n    vgg_b;\nlocal:\n    *;\n};\n"
EXPORTS = "0 A VGG_0.1\n1 T vgg_a@@VGG_0.1\n2 T vgg_b@@VGG_0.1\n"
IMPORTS = "   U read@GLIBC_2.2.5\n   w __cxa_finalize@GLIBC_2.2.5\n"
VERSION = '#define VGG_VERSION_MAJOR 1 /* */\n#define VGG_VERSION_MINOR   2 /* */\n' \
    '#define VGG_VERSION_PATCH 3\n#define VGG_VERSION "1.2.3"\n#define VGG_ABI_VERSION 4\n'
DYNAMIC = " 0x0e (SONAME) Library soname: [libvgg.so.4]\n"
STRUCT = "typedef struct s {\n    size_t size; /* a; b */\n    int (*f)(int a);\n" \
    "    float mean[VGG_N];\n} s;\ntypedef enum e { VGG_A = 0, VGG_B = 1 } e;\n"
ENTRY = "1 T vgg_engine_entry\n"
NEEDED = " 0x01 (NEEDED) Shared library: [libc.so.6]\n"
PROCESSOR = "cpu      32 threads, made up\n"
NO_DRIVER = "cudnn    refused: no NVIDIA driver for CUDA 13 or newer is installed\n"
GPU = "cuda:0   NVIDIA H100, compute capability 9.0, 132 multiprocessors\n"
LAYOUT = "SIZED(s, 8);\nFIELD(s, size, 0, 8);\nFIELD(s, f, 0, 8);\nFIELD(s, mean, 0, 8);\n" \
    "VALUE(VGG_A, 0);\nVALUE(VGG_B, 1);\n"


def header_problems(text):
    """What headers.py finds in a folder with one header."""
    split = sys.argv.index("--")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "vgg" / "a.h"
        path.parent.mkdir()
        path.write_text(text)
        return headers.check(pathlib.Path(folder), sys.argv[1:split],
                             sys.argv[split + 1:])


GUARDED = "#ifndef A_H\n#define A_H\n#include <stddef.h>\n" \
    "typedef struct vgg_a {\n    size_t size;\n    size_t b;\n} vgg_a;\n%s\n#endif\n"
INIT = "#define VGG_A_INIT { sizeof(vgg_a), 0 }"

# (what, problems of it, a part of one of them; None: there must be none)
CASES = [
    ("sound exports", symbols.check_exports(EXPORTS, MAP, HEADER), None),
    ("export not in map",
     symbols.check_exports(EXPORTS + "3 T vgg_c@@VGG_0.1\n", MAP, HEADER), "not in the map"),
    ("export missing", symbols.check_exports(EXPORTS[:31], MAP, HEADER),
     "not in the library"),
    ("prototype missing", symbols.check_exports(EXPORTS, MAP, HEADER[:24]), "in no header"),
    ("map entry missing", symbols.check_exports(
        EXPORTS, MAP.replace("vgg_b;", ""), HEADER), "but not in the map"),
    ("exported data", symbols.check_exports(
        EXPORTS.replace("T vgg_b", "D vgg_b"), MAP, HEADER), "not as a function"),
    ("exported internal", symbols.check_exports(
        EXPORTS + "3 T vgg__x\n", MAP, HEADER), "without vgg_"),
    ("exported stranger", symbols.check_exports(
        EXPORTS + "3 T helper\n", MAP, HEADER), "without vgg_"),
    ("sound imports", symbols.check_imports(IMPORTS, False), None),
    ("imports exit", symbols.check_imports(IMPORTS + "  U exit@GLIBC_2.2.5\n", False),
     "exit: imported, ends"),
    ("imports stderr", symbols.check_imports(IMPORTS + "  U stderr@GLIBC_2.2.5\n", False),
     "stderr: imported, prints"),
    ("imports puts", symbols.check_imports(IMPORTS + "  U puts\n", False), "puts"),
    ("imports getenv", symbols.check_imports(IMPORTS + "  U getenv\n", False), "getenv"),
    ("secure_getenv", symbols.check_imports(IMPORTS + "  U secure_getenv\n", False), None),
    ("assert in release", symbols.check_imports("  U __assert_fail\n", False), "assert"),
    ("assert in debug", symbols.check_imports("  U __assert_fail\n", True), None),
    ("abort in debug", symbols.check_imports("  U abort\n", True), "abort"),
    ("sound version", symbols.check_versions(VERSION, DYNAMIC, "1.2.3"), None),
    ("version of the build", symbols.check_versions(VERSION, DYNAMIC, "1.2.4"), "build's"),
    ("version's numbers", symbols.check_versions(
        VERSION.replace("MINOR   2", "MINOR 3"), DYNAMIC, "1.2.3"), "numbers are 1.3.3"),
    ("soname", symbols.check_versions(
        VERSION.replace("ABI_VERSION 4", "ABI_VERSION 5"), DYNAMIC, "1.2.3"), "soname"),
    ("no soname", symbols.check_versions(VERSION, "", "1.2.3"), "soname"),
    ("runpath", symbols.check_versions(
        VERSION, DYNAMIC + " 0x1d (RUNPATH) Library runpath: [/a]\n", "1.2.3"), "path /a"),
    ("sound plugin", plugin.check_exports(ENTRY) + plugin.check_imports(IMPORTS)
     + plugin.check_needed(NEEDED), None),
    ("plugin without entry", plugin.check_exports("1 D vgg_engine_entry\n"), "as a function"),
    ("plugin that shows more", plugin.check_exports(ENTRY + "2 T vgg__fail\n"), "vgg__fail"),
    ("plugin that shows data", plugin.check_exports(ENTRY + "2 B device\n"), "device"),
    ("plugin wants libvgg", plugin.check_imports(IMPORTS + "  U vgg_last_error\n"),
     "vgg_last_error"),
    ("plugin links cuDNN", plugin.check_needed(
        NEEDED + " 0x01 (NEEDED) Shared library: [libcudnn.so.9]\n"), "libcudnn.so.9"),
    ("plugin links the driver", plugin.check_needed(
        NEEDED + " 0x01 (NEEDED) Shared library: [libcuda.so.1]\n"), "libcuda.so.1"),
    ("plugin with a path", plugin.check_needed(
        NEEDED + " 0x1d (RUNPATH) Library runpath: [/a]\n"), "/a"),
    ("plugin without a GPU", plugin.check_devices(0, PROCESSOR + NO_DRIVER), None),
    ("plugin with a GPU", plugin.check_devices(0, GPU + PROCESSOR), None),
    ("plugin with nothing to say", plugin.check_devices(0, PROCESSOR), "neither a GPU"),
    ("plugin with another reason", plugin.check_devices(
        0, PROCESSOR + "cudnn    refused: can't be loaded\n"), "neither a GPU"),
    ("plugin whose GPU refuses", plugin.check_devices(
        0, "cuda:0   refused: cuda:0: compute capability 3.0\n" + PROCESSOR), "neither a GPU"),
    ("plugin instead of a processor", plugin.check_devices(0, NO_DRIVER), "processor"),
    ("plugin on a driver alone", plugin.check_no_gpu(
        0, PROCESSOR + "cudnn    refused: no NVIDIA GPU was found\n"), None),
    ("plugin that takes it for none", plugin.check_no_gpu(0, PROCESSOR + NO_DRIVER),
     "not told as such"),
    ("plugin and a fault", plugin.check_devices(1, PROCESSOR + NO_DRIVER), "status 1"),
    ("sound layout", coverage.check(STRUCT, LAYOUT), None),
    ("member without place", coverage.check(
        STRUCT, LAYOUT.replace("FIELD(s, mean", "FIELD(t, mean")), "s.mean: place"),
    ("function without place", coverage.check(
        STRUCT, LAYOUT.replace("FIELD(s, f", "FIELD(t, f")), "s.f: place"),
    ("struct without size", coverage.check(STRUCT, LAYOUT.replace("SIZED(s", "SIZED(t")),
     "s: size"),
    ("sized, but frozen", coverage.check(STRUCT, LAYOUT.replace("SIZED", "FROZEN")),
     "SIZED is for"),
    ("enumerator", coverage.check(STRUCT, LAYOUT.replace("VALUE(VGG_B", "VALUE(VGG_C")),
     "VGG_B: value"),
    ("sound header", header_problems(GUARDED % INIT), None),
    ("header that needs another", header_problems(GUARDED % "uint32_t x(void);"), "alone"),
    ("header without guard", header_problems("typedef struct vgg_a { int b; } vgg_a;\n"),
     "twice"),
    ("padding", header_problems(GUARDED.replace("size_t b", "int b") % INIT), "padding"),
    ("wrong INIT", header_problems(GUARDED % "#define VGG_A_INIT { 0, \"\" }"), "INIT"),
    ("short INIT", header_problems(GUARDED % "#define VGG_A_INIT { sizeof(vgg_a) }"),
     "INIT"),
]


def main():
    failures = 0
    for what, found, expected in CASES:
        seen = [p for p in found if expected and expected in p]
        if bool(found) != (expected is not None) or expected and not seen:
            failures += 1
            print(f"{what}: expected {expected!r}, found {found}")
    print(f"Checks: {len(CASES)}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
