#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the build makes of a CUDA toolkit that lacks something, on a made-up one: with
-Dcudnn=auto the GPU engine is left out, with -Dcudnn=enabled that is an error which says what
is missing. Nothing is compiled.

    toolkit.py SOURCE"""
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(sys.argv[1])
PLUGIN = "backends/cudnn/vgg-cudnn.so"
KNOWN = ("75", "90", "110", "121")


class Toolkit:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        for name in ("bin", "include", "lib64"):
            (self.folder / name).mkdir()
        nvcc = self.folder / "bin/nvcc"
        nvcc.write_text("#!/bin/sh\n" + "".join(f"echo sm_{code}\n" for code in KNOWN))
        nvcc.chmod(0o755)
        # The system's libcudnn, if it has one, is not this toolkit's.
        compiler = self.folder / "bin/cc"
        compiler.write_text('#!/bin/sh\ncase " $* " in *" -lcudnn "*) exit 1;; esac\n'
                            f'exec {os.environ.get("CC", "cc")} "$@"\n')
        compiler.chmod(0o755)
        for header in ("cudnn_graph.h", "cublasLt.h", "cuda_runtime_api.h"):
            (self.folder / "include" / header).write_text("")
        (self.folder / "lib64/libcudart_static.a").write_text("!<arch>\n")

    def lose(self, name):
        (self.folder / name).unlink()

    def setup(self, *options):
        """Status of a set-up, all that it says, and what it would build."""
        with tempfile.TemporaryDirectory() as build:
            env = dict(os.environ, CC=str(self.folder / "bin/cc"))
            done = subprocess.run(
                ["meson", "setup", build, SOURCE, "-Ddocs=disabled", "-Dexamples=disabled",
                 f"-Dcudnn_toolkit={self.folder}", *options], text=True, env=env, timeout=300,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            rules = pathlib.Path(build) / "build.ninja"
            return (done.returncode, done.stdout,
                    rules.read_text().replace("$ ", " ") if rules.exists() else "")


def with_toolkit(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Toolkit(folder))
    return call


def system_has(header):
    return subprocess.run(["cc", "-fsyntax-only", "-include", header, "-xc", os.devnull],
                          check=False, stderr=subprocess.DEVNULL).returncode == 0


@with_toolkit
def test_whole(toolkit):
    """Machine code for what nvcc knows and the engine supports, PTX of the newest."""
    status, said, rules = toolkit.setup("-Dcudnn=enabled", "-Dtests=disabled")
    assert status == 0 and PLUGIN in rules, said
    for code, there in (("sm_75", True), ("sm_80", False), ("sm_110", True), ("sm_121", False),
                        ("compute_110", True), ("compute_75", False)):
        assert (f"code={code}" in rules) == there, code
    assert "sm_75, sm_90, sm_110, compute_110" in rules, rules
    rules = toolkit.setup("-Dcudnn=enabled", "-Dtests=disabled", "-Dcudnn_arch=80,90")[2]
    assert "code=sm_80" in rules and "code=sm_90" in rules and "code=compute" not in rules
    assert '"sm_80, sm_90"' in rules, rules


@with_toolkit
def test_lacks(toolkit):
    for name in ("lib64/libcudart_static.a", "include/cudnn_graph.h"):
        toolkit.lose(name)
        if name.startswith("include") and system_has(pathlib.Path(name).name):
            continue
        status, said, rules = toolkit.setup("-Dcudnn=auto", "-Dtests=disabled")
        assert status == 0 and PLUGIN not in rules, said
        assert "WARNING: cudnn: " in said and name in said, said
        status, said, _ = toolkit.setup("-Dcudnn=enabled", "-Dtests=disabled")
        assert status != 0 and "ERROR: Problem encountered: cudnn: " in said and name in said, said
        assert "-Dcudnn_toolkit" in said, said
    toolkit.lose("bin/nvcc")
    status, said, rules = toolkit.setup("-Dcudnn=auto", "-Dtests=disabled")
    assert status == 0 and PLUGIN not in rules, said
    assert toolkit.setup("-Dcudnn=enabled", "-Dtests=disabled")[0] != 0


@with_toolkit
def test_no_cudnn_to_link(toolkit):
    """The plan tests may be left out only where nobody has asked for the engine."""
    status, said, rules = toolkit.setup("-Dcudnn=auto", "-Dtests=enabled")
    assert status == 0 and PLUGIN in rules and "gpu-describe" in rules, said
    assert "test-plans" not in rules and "needs libcudnn.so" in said, said
    status, said, _ = toolkit.setup("-Dcudnn=enabled", "-Dtests=enabled")
    assert status != 0 and "ERROR: Problem encountered: tests/plans needs libcudnn.so" in said, said
    assert "install it" in said, said


def main():
    failures = 0
    tests = [call for name, call in globals().items() if name.startswith("test_")]
    for call in tests:
        try:
            call()
        except AssertionError as error:
            failures += 1
            line = error.__traceback__
            while line.tb_next:
                line = line.tb_next
            print(f"line {line.tb_lineno}: {error}")
    print(f"Checks: {len(tests)}, Failures: {failures}, Errors: 0")
    return 1 if failures else 0


sys.exit(main())
