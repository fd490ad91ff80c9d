#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libvgg as its users meet it: installed, moved, linked in every way, uninstalled.

    consumer.py BUILD SOURCE PREFIX LIBDIR KINDS TRAINER CUDNN

Installs the finished BUILD into a temporary folder and builds shapes.c there, outside the
source tree, through pkg-config, CMake and as a Meson subproject, shared and static, in C
and C++. What it prints must be shapes.txt.
"""
import pathlib
import re
import shutil
import sys
import tempfile
import traceback

import tree
from tree import run

HERE = pathlib.Path(__file__).resolve().parent
EXPECTED = (HERE / "shapes.txt").read_text()
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]

CMAKE = """cmake_minimum_required(VERSION 3.13)
project(consumer C)
find_package(vgg @VERSION@ CONFIG REQUIRED)
add_executable(shapes @SOURCE@)
target_link_libraries(shapes PRIVATE @TARGET@)
"""
MESON = """project('consumer', 'c')
assert(get_option('tests') == 'mine', 'an option of the parent was changed')
executable('shapes', '@SOURCE@', dependencies: dependency('vgg', fallback: 'libvgg'))
"""


def expect(condition, text):
    if not condition:
        raise RuntimeError(text)


class Absent(Exception):
    """A tool that a check needs is not here."""


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Absent(f"{tool} is not installed")


def needed(program):
    need("readelf")
    return set(re.findall(r"NEEDED.*\[(.*)\]", run(["readelf", "-d", program])))


class Consumer:
    def __init__(self, work, build, source, prefix, libdir, kinds, trainer, cudnn):
        self.work, self.build, self.source = work, build, pathlib.Path(source)
        self.prefix, self.libdir = prefix, libdir
        self.kinds = {"both": {"shared", "static"}}.get(kinds, {kinds})
        self.kinds |= {"trainer"} if trainer == "true" else set()
        self.kinds |= {"cudnn"} if cudnn == "true" else set()
        self.moved = tree.Tree(work / "moved", libdir)

    def runs(self, program, env):
        said = run([program], env=env)
        expect(said == EXPECTED, f"{program} printed:\n{said}")

    def expected_files(self, libdir, kinds):
        found = []
        for line in (HERE / "installed.txt").read_text().splitlines():
            name, _, kind = line.partition(" ")
            if not kind.strip() or kind.strip() in kinds:
                found.append(name.replace("{libdir}", libdir))
        return sorted(found)

    def compare_files(self, where, kinds):
        expected = self.expected_files(str(where.libdir.relative_to(where.prefix)), kinds)
        found = tree.listing(where.prefix)
        expect(found == expected, f"missing: {sorted(set(expected) - set(found))}, "
                                  f"unexpected: {sorted(set(found) - set(expected))}")

    # In this order: the first check leaves the tree, moved, to the others.

    def check_install_and_uninstall(self):
        """Installs what the list says, and takes all of it away again."""
        destdir = self.work / "destdir"
        destdir.mkdir()
        self.tree = tree.install(self.build, destdir, self.prefix, self.libdir)
        shutil.copytree(self.tree.prefix, self.moved.prefix, symlinks=True)
        run(["ninja", "-C", self.build, "uninstall"])
        left = [str(p.relative_to(destdir)) for p in destdir.rglob("*")]
        expect(not left, f"left behind: {left}")
        self.compare_files(self.moved, self.kinds)

    def check_no_path_of_the_build(self):
        """No installed text names the build, source or staging folder."""
        for name in tree.listing(self.moved.prefix):
            if name.endswith((".pc", ".cmake", ".h")):
                text = (self.moved.prefix / name).read_text()
                for folder in (self.build, self.source, self.work):
                    expect(str(folder) not in text, f"{name} names {folder}")

    def check_plugin_beside_the_library(self):
        """A plugin is found in the moved tree, and without one the processor works."""
        if "trainer" not in self.kinds:
            raise Absent("the build has no trainer")
        plugin = self.moved.libdir / "vgg" / "vgg-cudnn.so"
        plugin.parent.mkdir(exist_ok=True)
        built = plugin.read_bytes() if plugin.exists() else None
        source = self.work / "plugin.c"
        source.write_text("const void *vgg_engine_entry(const void *host)"
                          " { return host ? 0 : host; }\n")
        env = self.moved.env()
        env.pop("VGG_PLUGIN_DIR", None)
        devices = [self.moved.prefix / "bin" / "vgg", "devices"]
        plugin.unlink(missing_ok=True)
        said = run(devices, env=env)
        installed = pathlib.Path(self.prefix) / self.libdir / "vgg" / plugin.name
        expect("cpu " in said, said)
        expect(installed.exists() or f"expected in {plugin.parent} or {installed.parent}\n"
               in said, said)
        run(["cc", "-shared", "-fPIC", source, "-o", plugin])
        said = run(devices, env=env)
        expect("cpu " in said and f"cudnn    refused: {plugin}: does not work" in said, said)
        plugin.unlink()
        if built:
            plugin.write_bytes(built)
        else:
            plugin.parent.rmdir()

    def check_pkg_config_shared(self):
        """Private libraries stay private."""
        need("pkg-config")
        program = self.work / "shared"
        flags = self.moved.flags("--cflags", "--libs")
        expect(set(flags) & {"-lz", "-ldl", "-lm"} == set(), f"leaks: {flags}")
        run(["cc", "-std=c11", *WARNINGS, HERE / "shapes.c", "-o", program, *flags])
        self.runs(program, self.moved.env())
        expect(needed(program) == {"libvgg.so.0", "libc.so.6"}, f"NEEDED {needed(program)}")

    def check_cxx(self):
        need("pkg-config", "c++")
        program = self.work / "cxx"
        run(["c++", "-std=c++11", *WARNINGS, "-x", "c++", HERE / "shapes.c", "-o", program,
             *self.moved.flags("--cflags", "--libs")])
        self.runs(program, self.moved.env())

    def check_pkg_config_static(self):
        """The archive of the same tree, with all that `--static` names."""
        need("pkg-config")
        program = self.work / "static"
        flags = self.moved.flags("--static", "--cflags", "--libs")
        flags = [":libvgg.a" if f == "vgg" else "-l:libvgg.a" if f == "-lvgg" else f
                 for f in flags]
        run(["cc", "-std=c11", *WARNINGS, HERE / "shapes.c", "-o", program, *flags])
        self.runs(program, self.moved.env(shared=False))
        expect("libvgg.so.0" not in needed(program), "is not static")

    def cmake(self, name, target, version):
        need("cmake")
        folder = self.work / name
        folder.mkdir()
        text = CMAKE.replace("@SOURCE@", str(HERE / "shapes.c"))
        text = text.replace("@TARGET@", target).replace("@VERSION@", version)
        (folder / "CMakeLists.txt").write_text(text)
        run(["cmake", "-G", "Ninja", "-S", folder, "-B", folder / "build",
             f"-DCMAKE_PREFIX_PATH={self.moved.prefix}"])
        run(["cmake", "--build", folder / "build"])
        return folder / "build" / "shapes"

    def check_cmake_shared(self):
        program = self.cmake("cmake-shared", "vgg::vgg", "0.1")
        self.runs(program, self.moved.env())
        expect("libvgg.so.0" in needed(program), "is not shared")

    def check_cmake_static(self):
        program = self.cmake("cmake-static", "vgg::vgg-static", "0.1.0 EXACT")
        self.runs(program, self.moved.env(shared=False))
        expect("libvgg.so.0" not in needed(program), "is not static")

    def check_cmake_refuses_other_versions(self):
        for version in ("0.0.9", "0.2", "1.0"):
            try:
                self.cmake(f"cmake-{version}", "vgg::vgg", version)
            except RuntimeError as error:
                said = " ".join(str(error).split())
                expect("compatible with requested version" in said, said)
            else:
                raise RuntimeError(f"0.1.0 was taken for {version}")

    def check_static_only(self):
        """A build without the shared library, with a prefix of its own."""
        need("pkg-config")
        build, prefix = self.work / "static-build", self.work / "static-prefix"
        run(["meson", "setup", build, self.source, f"--prefix={prefix}", "--libdir=lib",
             "-Ddefault_library=static", "-Doptimization=0", "-Dtests=disabled",
             "-Dexamples=disabled", "-Ddocs=disabled", "-Dcudnn=disabled"])
        run(["meson", "install", "-C", build, "--quiet"])
        where = tree.Tree(prefix, "lib")
        self.compare_files(where, {"static"})
        program = self.work / "static-only"
        run(["cc", HERE / "shapes.c", "-o", program,
             *where.flags("--static", "--cflags", "--libs")])
        self.runs(program, where.env(shared=False))

    def check_subproject(self):
        """Inside another Meson project: the library alone, and no clash of options."""
        folder = self.work / "parent"
        (folder / "subprojects").mkdir(parents=True)
        (folder / "subprojects" / "libvgg").symlink_to(self.source)
        text = MESON.replace("@SOURCE@", "shapes.c")
        (folder / "meson.build").write_text(text)
        (folder / "meson_options.txt").write_text(
            "option('tests', type: 'string', value: 'mine')\n")
        shutil.copy(HERE / "shapes.c", folder)
        run(["meson", "setup", folder / "build", folder, "-Doptimization=0"])
        tests = run(["meson", "introspect", "--tests", folder / "build"])
        expect(tests.strip() == "[]", f"brings its tests along: {tests}")
        targets = run(["meson", "introspect", "--targets", folder / "build"])
        expect("vgg-cudnn" not in targets, "brings its plugin along")
        run(["ninja", "-C", folder / "build"])
        self.runs(folder / "build" / "shapes", self.moved.env(shared=False))

    def checks(self):
        return [getattr(self, name) for name in type(self).__dict__
                if name.startswith("check_")]


def main():
    failures, done = 0, 0
    with tempfile.TemporaryDirectory(prefix="vgg-consumer-") as work:
        consumer = Consumer(pathlib.Path(work), *sys.argv[1:])
        for check in consumer.checks():
            try:
                done += 1
                check()
                print(f"ok      {check.__name__}", flush=True)
            except Absent as absent:
                done -= 1
                print(f"skipped {check.__name__}: {absent}", flush=True)
            except Exception:
                failures += 1
                print(f"FAILED  {check.__name__}\n{traceback.format_exc()}", flush=True)
        print(f"Checks: {done}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
