# SPDX-License-Identifier: Apache-2.0
"""The trainer `vgg` of the pack as a process: its command lines, and what its runs wrote."""
import csv
import glob
import hashlib
import itertools
import json
import os
import pathlib
import shutil
import sysconfig

import rows


class Trainer:
    def __init__(self, args):
        self.tree = pathlib.Path(args.tree)
        self.program = self.tree / "examples/vgg/vgg"
        self.data, self.work = args.data, pathlib.Path(args.work)
        self.device, self.preset = args.device, args.preset
        self.most = args.run_limit
        mine = {key: value for key, value in os.environ.items()
                if not key.startswith("CK_")}  # which choose some of a test program's tests
        self.env = dict(mine, NO_COLOR="1", VGG_PLUGIN_DIR=str(self.tree / "lib/vgg"),
                        VGG_CACHE_DIR=str(self.work / "cache"))
        self.seen = {"command": "vgg devices --format json"}
        self.numbers = itertools.count(1)  # two threads take from it

    def fresh_cache(self):
        """The environment, with a plan cache that nothing has filled."""
        return dict(self.env, VGG_CACHE_DIR=str(self.work / f"cache-{next(self.numbers)}"))

    def folder(self):
        return self.work / f"run-{next(self.numbers)}"

    def on(self, precision):
        """The flags that choose device and precision."""
        return ["--device", self.device, "--precision", precision]

    def call(self, *flags, limit, env=None, wrap=()):
        """`wrap` is a program, with its options, that runs it."""
        return rows.run([*wrap, self.program, *flags], min(limit, self.most), env or self.env)

    def shown(self, flags, wrap=()):
        """A command line as a reader would type it."""
        under = [os.path.basename(word) for word in wrap[:1]] + list(wrap[1:])
        text = " ".join(map(str, [*under, "vgg", *flags]))
        return text.replace(str(self.work), "OUT").replace(str(self.data), "DATA")

    def train(self, flags, limit, env=None, wrap=()):
        """Train into a new folder; (folder, finished process, command line)."""
        out = self.folder()
        preset = [] if "--preset" in flags else ["--preset", self.preset]
        full = ["train", *preset, *flags, "--data", self.data, "--out", out,
                "--quiet", "--format", "json"]
        done = self.call(*full, limit=limit, env=env, wrap=wrap)
        why = done.why() or (None if steps(out) else "it made no step")
        if why:
            figures = so_far(out)
            drop(out)
            raise rows.Failed(why, done.late, command=self.shown(full, wrap), tail=done.tail(),
                              **figures)
        return out, done, self.shown(full, wrap)

    def noise(self):
        """A data set in CIFAR-10's binary form, of noise: the same 10,000 images five times."""
        folder = self.work / "noise"
        if not folder.exists():
            data = bytearray(os.urandom(10000 * 3073))
            data[::3073] = bytes(label % 10 for label in data[::3073])
            folder.mkdir()
            (folder / "data_batch_1.bin").write_bytes(data)
            for name in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
                         "test_batch"):
                os.link(folder / "data_batch_1.bin", folder / f"{name}.bin")
        return folder

    def look(self, limit):
        """Is the device listed, with nothing but the plugin's folder set? If not, with the
        Python environment's library folders named, and that for all runs to come. `limit` is
        in seconds, for each try; one that hangs is the last."""
        folders = library_folders()
        helps = {"nothing": None, "LD_LIBRARY_PATH": ":".join(folders)}
        if folders:
            helps = {"nothing": None, "VGG_CUDA_LIBRARIES": every_of(folders), **helps}
        for name, value in helps.items():
            if value:
                self.env[name] = value
            done = self.list_devices(name, limit)
            if self.engine() is not None or done.late:
                break
        if self.engine() is None and "trouble" not in self.seen:
            said = [f"{r['engine']}: {r['reason']}" for r in self.seen.get("refused", [])]
            self.seen["trouble"] = "; ".join([f"{self.device} is not listed", *said])

    def list_devices(self, named_by, limit):
        done = self.call("devices", "--format", "json", limit=limit)
        self.seen.pop("trouble", None)
        try:
            found = {} if done.why() else json.loads(done.out)
            check_devices(found)
            self.seen.update(found, libraries_named_by=named_by)
        except ValueError as error:
            self.seen["trouble"] = f"vgg devices: {done.why() or error}"
        return done

    def engine(self):
        """What was last seen of the device: among others its libraries. None: not listed."""
        listed = self.seen.get("devices", [])
        return next((d["text"] for d in listed if d["name"] == self.device), None)

    def share_libraries(self, limit):
        """From here on with the CUDA libraries of this Python's packages, which PyTorch uses;
        where the device is listed with those it has, but not with these, with those it has."""
        folders = library_folders()
        if not folders or self.seen.get("libraries_named_by") == "VGG_CUDA_LIBRARIES":
            return
        seen, env = dict(self.seen), dict(self.env)
        self.env["VGG_CUDA_LIBRARIES"] = every_of(folders)
        self.list_devices("VGG_CUDA_LIBRARIES", limit)
        if self.engine() is None or "trouble" in self.seen:
            refused = [r["reason"] for r in self.seen.get("refused", [])]
            said = self.seen.get("trouble") or "; ".join(refused) or "the device is not listed"
            self.seen, self.env = dict(seen, libraries_not_shared=said), env

    def devices(self, left):
        """The row "devices": what look() saw."""
        seen = dict(self.seen)
        trouble = seen.pop("trouble", None)
        if trouble:
            raise rows.Failed(trouble, **seen)
        return seen


def check_devices(found):
    """Is it what `vgg devices` prints?"""
    texts = {"devices": ("name", "engine", "text"), "refused": ("engine", "reason")}
    if not isinstance(found, dict) or not found.get("devices"):
        raise ValueError("no device is listed")
    for key, wanted in texts.items():
        listed = found.get(key, [])
        if not isinstance(listed, list) or not all(
                isinstance(item, dict) and all(isinstance(item.get(text), str) for text in wanted)
                for item in listed):
            raise ValueError(f"{key} without {', '.join(wanted)}")


def library_folders():
    """CUDA's libraries in this Python's packages."""
    return sorted(glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))


def every_of(folders):
    """All of them as one pattern."""
    return str(pathlib.Path(folders[0]).parents[1] / "*/lib")


def steps(out):
    """The rows of a run's steps; none where it wrote no log."""
    try:
        with open(out / "log.jsonl", encoding="utf-8") as file:
            found = [json.loads(line) for line in file]
    except OSError:
        return []
    return [row for row in found if row["row"] == "step"]


def losses(out):
    return [row["loss"] for row in steps(out)]


def epochs(out):
    """metrics.csv, numbers as numbers."""
    with open(out / "metrics.csv", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()}
                for row in csv.DictReader(file)]


def so_far(out):
    """Figures of a run that has not come to its end: the epochs that it made."""
    try:
        table = epochs(out)
        return {"epochs": len(table),
                "train_loss_curve": [row["train_loss"] for row in table],
                "test_accuracy_curve": [row["test_accuracy"] for row in table]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def digest(out):
    data = (out / "last/weights.safetensors").read_bytes()
    return hashlib.sha256(data).hexdigest()


def drop(out):
    """A run's folder is hundreds of MB and not wanted any more."""
    shutil.rmtree(out, ignore_errors=True)
