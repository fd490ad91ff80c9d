# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: finding the scripts, made-up programs and packs, and
running functions test_..."""
import hashlib
import importlib.util
import pathlib
import sys
import tarfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts/cpu"), str(ROOT / "scripts/gpu")]


def script(path, text):
    """An executable file; a shell's, unless it names another program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n",
                    encoding="utf-8")
    path.chmod(0o755)
    return path


def make_pack(folder, names=("tree",)):
    """A pack of these folders in `folder`, as scripts/gpu-pack leaves one; its path."""
    pack = folder / "pack"
    (pack / "data").mkdir(parents=True)
    for name in names:
        with tarfile.open(pack / f"{name}.tar.xz", "w:xz") as tar:
            tar.add(folder / name, name)
    (pack / "commit").write_text("c0ffee\n")
    (pack / "sums").write_text("".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(pack.iterdir()) if file.is_file()))
    return pack


def cli():
    """tests/cli/trainer.py; scripts/gpu has a module of that name too. It takes the
    script's first argument for the trainer."""
    spec = importlib.util.spec_from_file_location("cli", ROOT / "tests/cli/trainer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(namespace):
    tests = [(name, call) for name, call in namespace.items() if name.startswith("test_")]
    failures = 0
    for name, call in tests:
        try:
            call()
        except Exception:
            traceback.print_exc()
            print("not ok", name)
            failures += 1
    print(f"Checks: {len(tests)}, Failures: {failures}, Errors: 0")
    sys.exit(1 if failures else 0)
