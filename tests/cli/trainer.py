# SPDX-License-Identifier: Apache-2.0
"""What the tests of the trainer binary share: a tiny data set, running `vgg`, checks.

A script is a list of functions named test_...; main() runs each in a folder of its own
and exits 1 if one raised. The script's first argument is the binary's path; more arguments
are names of tests, to run these alone.
"""
import gzip
import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import traceback

VGG = os.path.abspath(sys.argv[1])

# A network that trains in milliseconds, with everything random switched on.
TINY = ["--blocks", "1x8,1x12", "--hidden", "16", "--dropout", "0.3", "--batch", "16",
        "--lr", "0.05", "--momentum", "0.9", "--normalize", "fashion-mnist", "--flip", "0.5",
        "--shift", "1", "--erase", "0.2", "--sched", "cosine", "--init", "he",
        "--device", "cpu"]


def write_idx(path, magic, extents, data, compress):
    content = struct.pack(">" + "I" * (1 + len(extents)), magic, *extents) + data
    opener = gzip.open if compress else open
    with opener(path + (".gz" if compress else ""), "wb") as file:
        file.write(content)


def make_data(folder, train=200, test=60, side=12):
    """Classes that can be learnt: a bright row that stands for the class, and noise."""
    os.makedirs(folder)
    draw = random.Random(5)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = bytes(i % 10 for i in range(count))
        images = bytearray()
        for label in labels:
            for y in range(side):
                for _ in range(side):
                    images.append(min(255, draw.randrange(90) + 160 * (y == label)))
        write_idx(f"{folder}/{prefix}-images-idx3-ubyte", 0x803, (count, side, side),
                  bytes(images), prefix == "train")
        write_idx(f"{folder}/{prefix}-labels-idx1-ubyte", 0x801, (count,), labels, False)
    return folder


def environment(**more):
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "TERM")}
    env.update(more)
    return env


def run(*args, expect=0, timeout=120, **more):
    """Run vgg; the finished process. `expect` None takes any exit status."""
    done = subprocess.run([VGG, *map(str, args)], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout,
                          env=environment(**more), stdin=subprocess.DEVNULL)
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"vgg {' '.join(map(str, args))}: status {done.returncode}, "
                             f"expected {expect}\n{done.stdout}{done.stderr}")
    return done


started = []  # processes that must not outlive their test


def start(*args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=None, **more):
    """Start vgg in the background; whatever happens it ends with the test."""
    process = subprocess.Popen([VGG, *map(str, args)], stdout=stdout, stderr=stderr, text=text,
                               env=env or environment(), **more)
    started.append(process)
    return process


def end_started():
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    started.clear()


def train(data, out, *more, expect=0):
    return run("train", *TINY, "--data", data, "--out", out, "--epochs", 3, *more,
               expect=expect)


def sole_object(text):
    """The one JSON object that stdout must be, and nothing beside it."""
    value, end = json.JSONDecoder().raw_decode(text)
    assert isinstance(value, dict), text
    assert text[end:].strip() == "", f"more than one object: {text}"
    return value


def one_line(text):
    """The text must be one line that names the program."""
    assert text.startswith("vgg: ") and text.count("\n") == 1 and text.endswith("\n"), text
    return text


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def weights(run_dir, name="last"):
    return digest(f"{run_dir}/{name}/weights.safetensors")


def rows(run_dir):
    with open(f"{run_dir}/log.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def untimed(run_dir):
    """The rows of both logs without the columns that hold times."""
    timing = ("images_per_s", "seconds")
    log = [{key: row[key] for key in row if key not in timing} for row in rows(run_dir)]
    with open(f"{run_dir}/metrics.csv", encoding="utf-8") as file:
        table = [line.rstrip("\n").split(",")[:-2] for line in file]
    return log, table


def same_run(one, other):
    """Two runs ended alike: weights, best weights, logs, picture."""
    for name in ("last", "best"):
        assert weights(one, name) == weights(other, name), f"{name}/ differs"
    assert untimed(one) == untimed(other), "logs differ"
    assert digest(f"{one}/curves.svg") == digest(f"{other}/curves.svg"), "curves differ"


def main(namespace):
    failed = []
    # A harness that gives up on a test says so by SIGTERM: leave the folder removed then too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    tests = [(name, call) for name, call in namespace.items()
             if name.startswith("test_") and (not sys.argv[2:] or name in sys.argv[2:])]
    for name, call in tests:
        folder = tempfile.mkdtemp(prefix="vgg-cli-")
        before = os.getcwd()
        os.chdir(folder)
        try:
            call()
            print("ok", name, flush=True)
        except Exception:
            traceback.print_exc()
            print("not ok", name, flush=True)
            failed.append(name)
        finally:
            end_started()
            os.chdir(before)
            shutil.rmtree(folder)
    print(f"{len(tests) - len(failed)} of {len(tests)} passed")
    sys.exit(1 if failed else 0)
