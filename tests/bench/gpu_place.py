# SPDX-License-Identifier: Apache-2.0
"""A place for tests of scripts/gpu-check: a pack's tree whose programs are shell scripts."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types

import checks

sys.path.remove(str(checks.ROOT / "scripts/cpu"))  # which has a bench, too

import trainer

CHECK = [sys.executable, "-B", checks.ROOT / "scripts/gpu/check.py"]
script = checks.script
GPU = '{"devices": [{"name": "cuda:0", "engine": "cudnn", "text": "Some GPU, 9.0; cuDNN 9"}]}'
NONE = ('{"devices": [{"name": "cpu", "engine": "cpu", "text": "x"}], "refused": '
        '[{"engine": "cudnn", "reason": "no driver: install one"}]}')


class Place:
    """A folder with a tree whose trainer is a script; `lists` is what `vgg devices` does."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.out = self.folder / "out"
        self.vgg(f"echo '{GPU}'")

    def vgg(self, lists, rest="exit 1"):
        script(self.folder / "tree/examples/vgg/vgg",
               f'case $1 in devices) {lists} ;; *) {rest} ;; esac')

    def words(self, *words, out=None):
        return [*CHECK, *words, "--tree", self.folder / "tree", "--data", self.folder,
                "--out", self.out if out is None else out]

    def ask(self, *words, out=None, **env):
        done = subprocess.run(self.words(*words, out=out), capture_output=True, text=True,
                              timeout=60, env={**os.environ, **env})
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def trainer(self):
        args = types.SimpleNamespace(tree=self.folder / "tree", data=self.folder, device="cuda:0",
                                     work=self.folder / "work", preset="d2l", run_limit=20)
        return trainer.Trainer(args)

    def rows(self, stage):
        return {row["row"]: row for row in map(
            json.loads, (self.out / f"{stage}.jsonl").read_text().splitlines())}


def with_place(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Place(folder))
    return call


def alive(pid):
    """Is a process there that has not ended?"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
