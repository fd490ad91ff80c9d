#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""When scripts/gpu-check builds from the packed sources, on a pack whose `vgg` is a script; what
scripts/gpu-pack says of a build folder that is not its own; what the self-test of a pack counts;
and where scripts/find-nvcc finds nvcc, which decides whether the GPU engine is built."""
import os
import pathlib
import shutil
import subprocess
import tempfile

import checks

NO_CODE = "refused: cuda:0: conv_plain: the plugin is made for sm_90, this GPU is sm_80: " \
    "build it with -Dcudnn_arch=80 or all"


def run(command, path, **env):
    """Status and all output of a command with `path` before the system's programs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CUDNN_", "GPU_", "VGG_"))}
    done = subprocess.run([str(c) for c in command], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env={**kept, "PATH": path, **env}, timeout=60)
    return done.returncode, done.stdout


class Pack:
    """A pack; `meson` here only keeps what it was asked for, and fails."""

    def __init__(self, folder, vgg):
        self.folder = pathlib.Path(folder)
        self.bin = self.folder / "bin"
        checks.script(self.folder / "tree/examples/vgg/vgg", vgg)
        checks.script(self.folder / "tree/devel/pkg-config", "")
        checks.script(self.folder / "sources/meson.build", "")
        self.pack = checks.make_pack(self.folder, ("tree", "sources"))
        checks.script(self.bin / "meson", f'echo "$*" >"{self.folder}/asked"; exit 1\n')
        checks.script(self.bin / "nvcc", "")

    def ask(self, *words, **env):
        """What it says, which ends with an error: there is no stage "none"."""
        status, said = run([checks.ROOT / "scripts/gpu-check", "none", "--out",
                            self.folder / "out", *words],
                           f"{self.bin}:{os.environ['PATH']}", GPU_PACK=str(self.pack), **env)
        assert status != 0, said
        return said

    def check(self, *words, **env):
        """(whether it built, with what options, what it said)"""
        asked = self.folder / "asked"
        asked.unlink(missing_ok=True)
        said = self.ask(*words, **env)
        built = asked.exists()
        assert built == ("the fallback build failed" in said), said
        refused = "leave --no-build out" in said
        assert (built or refused) != ("no 'none'" in said), said
        return built, asked.read_text() if built else "", said


def with_pack(devices, version="0.1.0"):
    """A test of a pack whose `vgg devices` prints this."""
    vgg = f'case $1 in --version) echo {version};; devices) echo "{devices}";; esac\n'

    def wrap(test):
        def call():
            with tempfile.TemporaryDirectory() as folder:
                test(Pack(folder, vgg if version else "echo no libz >&2; exit 127\n"))
        return call
    return wrap


@with_pack("cuda:0   NVIDIA H100, compute capability 9.0\ncpu      32 threads")
def test_fits(pack):
    assert not pack.check()[0]
    built, options, _ = pack.check("--rebuild")
    assert built and "-Dcudnn_arch=90 " in options, options
    assert not pack.check("--no-build")[0]
    assert "name one of them" in pack.ask("--no-build", "--rebuild")


@with_pack("cudnn    refused: no NVIDIA GPU was found\ncpu      32 threads")
def test_no_gpu(pack):
    assert not pack.check()[0]


@with_pack(f"cuda:0   {NO_CODE}\ncuda:1   build it with -Dcudnn_arch=100\ncpu      32 threads")
def test_no_code(pack):
    built, options, said = pack.check()
    assert built and "-Dcudnn=auto -Dcudnn_arch=80 " in options, options
    assert "gpu-check: the plugin is made for sm_90, this GPU is sm_80" in said, said
    built, options, _ = pack.check(CUDNN_ARCH="all")
    assert built and "-Dcudnn_arch=all " in options, options
    built, _, said = pack.check("--no-build")
    assert not built and "run CUDNN_ARCH=80 scripts/gpu-pack where nvcc is" in said, said
    said = pack.ask(CUDNN_TOOLKIT="/nowhere")
    assert "nvcc is not installed here: run CUDNN_ARCH=80 scripts/gpu-pack" in said, said


@with_pack("", version="")
def test_does_not_start(pack):
    built, _, said = pack.check()
    assert built and "the packed programs do not start: no libz" in said, said
    built, _, said = pack.check("--no-build")
    assert not built and "do not start: no libz; run scripts/gpu-pack again" in said, said


@with_pack("cpu      32 threads")
def test_self_test(pack):
    """A program that finds no GPU is skipped with its reason, and one that gives none fails."""
    for name, text in (("one", "echo more; echo 'skipped: no GPU'; exit 77"), ("two", "exit 77"),
                       ("three", "exit 0"), ("four", "echo bad; exit 1")):
        checks.script(pack.folder / f"tree/tests/gpu/test-gpu-{name}", text)
    shutil.rmtree(pack.pack)
    checks.make_pack(pack.folder)
    status, said = run([checks.ROOT / "scripts/gpu-check", "--self-test"], os.environ["PATH"],
                       GPU_PACK=str(pack.pack))
    told = [line for line in said.splitlines() if "test-gpu" in line and "libraries" not in line]
    assert status == 1 and told == [
        "FAILED  test-gpu-four passes: status 1: bad", "skipped test-gpu-one: no GPU",
        "ok      test-gpu-three passes", "FAILED  test-gpu-two passes: status 77: "], said


# Builds nothing but a program of the system.
NINJA = """case $* in
*targets*) echo 'lib/libvgg.so.0.1.0: c_LINKER' ;;
*) mkdir -p "$2/examples/vgg"; cp /bin/true "$2/examples/vgg/vgg" ;;
esac"""


def test_folder_set_up_by_hand():
    """Programs that would take libraries of the system alone make no pack."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        checks.script(folder / "bin/meson", "exit 0")
        checks.script(folder / "bin/ninja", NINJA)
        (folder / "x-ubyte.gz").write_text("")
        status, said = run([checks.ROOT / "scripts/gpu-pack", "--without-plugin"],
                           f"{folder}/bin:{os.environ['PATH']}", BUILD=str(folder / "build"),
                           DATA=str(folder))
        assert status == 1 and f"{folder}/build/examples/vgg/vgg lacks the run path" in said, said
        assert "remove that folder, or name another one by BUILD" in said, said


def find(path, **env):
    status, said = run(["/bin/bash", checks.ROOT / "scripts/find-nvcc"], path, **env)
    assert (status == 0) == (said != ""), (status, said)
    return said.strip() or None


def test_find_nvcc():
    usual = pathlib.Path("/usr/local/cuda/bin/nvcc")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name in ("bin", "toolkit/bin"):
            checks.script(folder / name / "nvcc", "")
        (folder / "empty").mkdir()
        nowhere = str(folder / "empty")
        assert find(nowhere) == (str(usual) if os.access(usual, os.X_OK) else None)
        assert find(f"{nowhere}:{folder}/bin") == f"{folder}/bin/nvcc"
        assert find(f"{folder}/bin", CUDNN_TOOLKIT=f"{folder}/toolkit") == \
            f"{folder}/toolkit/bin/nvcc"
        assert find(f"{folder}/bin", CUDNN_TOOLKIT=nowhere) is None


def test_one_rule():
    """No other script looks for nvcc by itself."""
    for path in sorted((checks.ROOT / "scripts").rglob("*")):
        if not path.is_file() or path.suffix in (".py", ".pyc") or path.name == "find-nvcc":
            continue
        for line in path.read_text().splitlines():
            assert "nvcc" not in line or not any(
                word in line for word in ("command -v", "bin/nvcc", "which")), (path, line)


checks.main(globals())
