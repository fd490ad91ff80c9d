#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A training from begin to end on a tiny data set: files, figures, refusals."""
import array
import csv
import fcntl
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import xml.dom.minidom

import trainer
from trainer import make_data, one_line, rows, run, sole_object, train, weights

BATCHES = 13  # 200 images in batches of 16


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def tensors(path):
    """The values of a weights file, by name."""
    data = pathlib.Path(path).read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    return {name: array.array("f", data[begin:][slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def test_files_and_figures():
    make_data("data")
    easy = ["--shift", 0, "--erase", 0, "--dropout", 0]
    done = train("data", "out", "--lr", 0.08, *easy)
    final, speed = done.stdout.splitlines()[:2]
    assert final.startswith("loss 0."), final
    assert ", train acc " in final and ", test acc " in final, final
    assert re.fullmatch(r"\d+\.\d examples/sec on cpu, \d+ threads?", speed), speed
    lines = [line for line in done.stderr.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  loss "), done.stderr
    for part in ("  acc ", "  test loss ", "  test acc ", "  lr ", " img/s  ", " s"):
        assert part in lines[0], lines[0]

    log = rows("out")
    steps = [row for row in log if row["row"] == "step"]
    epochs = [row for row in log if row["row"] == "epoch"]
    assert [row["step"] for row in steps] == list(range(1, 3 * BATCHES + 1))
    assert [(row["epoch"], row["batch"]) for row in steps] == [
        (epoch, batch) for epoch in (1, 2, 3) for batch in range(1, BATCHES + 1)]
    sizes = [16] * 12 + [8]
    for epoch in epochs:
        mine = [row for row in steps if row["epoch"] == epoch["epoch"]]
        mean = sum(row["loss"] * size for row, size in zip(mine, sizes)) / 200
        assert close(mean, epoch["train_loss"]), (mean, epoch)
        assert close(mine[-1]["mean_loss"], epoch["train_loss"])
    assert steps[0]["lr"] > steps[-1]["lr"] > 0, "no cosine"
    assert epochs[-1]["test_accuracy"] > 0.8, epochs[-1]

    with open("out/metrics.csv", encoding="ascii", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    for row, epoch in zip(table, epochs):
        assert abs(float(row["test_accuracy"]) - epoch["test_accuracy"]) < 1e-6

    with open("out/args.json", encoding="utf-8") as file:
        args = json.load(file)
    assert args["blocks"] == "1x8,1x12" and args["batch"] == 16 and args["version"]
    assert args["data"] == os.path.realpath("data") and args["classes"] == 10
    assert sorted(os.listdir("out")) == ["args.json", "best", "curves.svg", "last", "lock",
                                         "log.jsonl", "metrics.csv"]


def test_curves():
    make_data("data")
    train("data", "out")
    picture = xml.dom.minidom.parse("out/curves.svg").documentElement
    assert picture.tagName == "svg"
    paths = [path.getAttribute("d") for path in picture.getElementsByTagName("path")
             if path.getAttribute("fill") == "none"]
    points = [path.count("L") + path.count("M") for path in paths]
    # every 13 // 5 = 2 batches and at the end, 3 epochs; test accuracy once an epoch
    assert points == [21, 21, 3], points
    # the first after 2 of 39 batches, on an axis from 62 to 640 pixels
    assert paths[0].startswith(f"M{62 + 578 * 2 / 39:.1f} "), paths[0]
    text = " ".join(node.firstChild.data for node in picture.getElementsByTagName("text"))
    for word in ("train loss", "train accuracy", "test accuracy", "epoch"):
        assert word in text, text


def test_steps_counted_from_the_start():
    make_data("data")
    train("data", "whole")
    done = train("data", "out", "--steps", 5)
    assert rows("out")[-1]["step"] == 5 and "vgg train --resume out" in done.stderr
    assert done.stdout.splitlines()[0].endswith(" (of 5 of the 13 batches of epoch 1)")
    done = run("train", "--resume", "out", "--steps", 20)
    assert done.stdout.splitlines()[0].endswith(" (of epoch 1, the last complete one)")
    assert [row["step"] for row in rows("out") if row["row"] == "step"] == list(range(1, 21))
    already = run("train", "--resume", "out", "--steps", 20)
    assert "already" in already.stderr, already.stderr
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")
    done = run("train", "--resume", "out")
    assert "out is complete: 3 epochs" in done.stderr, done.stderr
    assert run("train", "--resume", "out", "--quiet").stdout == done.stdout
    assert re.match(r"loss \d\.\d{3}, train acc ", done.stdout), done.stdout


def test_json_summary():
    make_data("data")
    odd = train("data", os.fsdecode(b"o\xffut"), "--format", "json", "--steps", 1)
    assert sole_object(odd.stdout)["out"] == "o\ufffdut"
    assert "o\\xffut" in odd.stderr, odd.stderr
    done = train("data", "out", "--format", "json")
    summary = sole_object(done.stdout)
    assert summary["stopped"] == "complete" and summary["epochs"] == 3
    assert summary["step"] == 39 and summary["batch"] == 0 and 0 <= summary["test_accuracy"] <= 1
    assert summary["out"] == "out" and summary["images_per_s"] > 0
    part = sole_object(train("data", "part", "--format", "json", "--steps", 4).stdout)
    assert (part["epochs"], part["batch"]) == (0, 4) and part["stopped"] == "steps"
    quiet = sole_object(train("data", "quiet", "--format", "json", "--quiet").stdout)
    assert quiet["loss"] == summary["loss"]
    assert train("data", "quieter", "--quiet").stderr == ""


def test_same_bits_for_any_number_of_threads():
    make_data("data")
    for threads in (1, 2, 3):
        train("data", f"t{threads}", "--threads", threads, "--bn")
    trainer.same_run("t1", "t2")
    trainer.same_run("t1", "t3")
    train("data", "seed", "--bn", "--seed", 1)
    assert weights("t1") != weights("seed"), "the seed changes nothing"


def test_accumulation():
    make_data("data")
    train("data", "out", "--grad-accum", 3)
    steps = [row for row in rows("out") if row["row"] == "step"]
    # 13 batches: four groups of three and one left over
    assert [row["batch"] for row in steps[:5]] == [3, 6, 9, 12, 13]
    assert steps[-1]["step"] == 15
    assert close(steps[0]["loss"], steps[0]["mean_loss"]), "not the mean of its batches"
    train("data", "cut", "--grad-accum", 3, "--steps", 7)
    run("train", "--resume", "cut")
    trainer.same_run("out", "cut")


def test_initial_weights():
    make_data("data")
    train("data", "first")
    train("data", "next", "--init-weights", "first/best/weights.safetensors", "--steps", 1,
          "--lr", "1e-9", "--init", "xavier")
    train("data", "plain", "--steps", 1, "--lr", "1e-9")
    assert rows("next")[0]["loss"] < rows("plain")[0]["loss"]
    train("data", "run", "--init-weights", "first", "--steps", 1, "--lr", "1e-9",
          "--init", "xavier")
    assert rows("run")[0]["loss"] == rows("next")[0]["loss"]
    done = train("data", "none", "--init-weights", "data", expect=1)
    assert "no weights.safetensors" in one_line(done.stderr), done.stderr


def test_new_head():
    """Weights of a network whose last layers have other shapes."""
    make_data("data")
    train("data", "first")
    start = ["--steps", 1, "--lr", "1e-12", "--hidden", 20]
    done = train("data", "none", "--init-weights", "first", *start, expect=1)
    assert "(--new-head begins such layers anew)" in one_line(done.stderr), done.stderr
    done = train("data", "alone", *start, "--new-head", expect=2)
    assert "--new-head needs --init-weights" in one_line(done.stderr), done.stderr
    done = train("data", "next", "--init-weights", "first", "--new-head", *start)
    kept = [line for line in done.stderr.splitlines() if "the layer stays as it is" in line]
    assert kept and all("classifier." in line for line in kept), done.stderr
    train("data", "plain", *start)
    old, new, plain = (tensors(f"{folder}/weights.safetensors")
                       for folder in ("first/best", "next/last", "plain/last"))
    for name, value in new.items():
        wanted = (plain if name.startswith("classifier.") else old)[name]
        assert len(value) == len(wanted) and all(map(close, value, wanted)), name
    name = "features.0.weight"
    assert not all(map(close, old[name], plain[name]))
    run("train", "--resume", "next", "--steps", 2)


def test_nothing_of_others_is_touched():
    """A refused --out changes nothing, a lock that is not ours is no lock."""
    make_data("data")
    os.mkdir("full")
    for name, content in (("lock", "precious\n"), ("notes", "mine\n")):
        with open(f"full/{name}", "w", encoding="ascii") as file:
            file.write(content)
    done = train("data", "full", expect=1)
    assert "full is not empty: take another --out" in one_line(done.stderr), done.stderr
    os.remove("full/notes")
    done = train("data", "full", expect=1)
    assert "full/lock is not a lock" in one_line(done.stderr), done.stderr
    with open("full/lock", encoding="ascii") as file:
        assert file.read() == "precious\n"
    os.mkdir("linked")
    os.symlink("../full/lock", "linked/lock")
    done = train("data", "linked", expect=1)
    assert "linked/lock is not a lock" in one_line(done.stderr), done.stderr
    with open("full/lock", encoding="ascii") as file:
        assert file.read() == "precious\n"
    os.mkdir("held")
    os.mkdir("held/lock")
    assert "held/lock is not a lock" in one_line(train("data", "held", expect=1).stderr)
    before = sorted(os.listdir("."))
    done = train("data", ".", expect=1)
    assert sorted(os.listdir(".")) == before and "not empty" in one_line(done.stderr)
    os.mkdir("begun")  # what a run leaves that was killed at its very beginning
    with open("begun/lock", "w", encoding="ascii") as file:
        file.write("123\n")
    train("data", "begun", "--steps", 2)
    done = train("data", "begun", expect=1)
    assert "begun holds a run: go on with it by --resume begun" in one_line(done.stderr)


def test_folders_that_are_not_there():
    make_data("data")
    os.mkdir("empty")
    for args, fragment in (
            (["--resume", "nowhere"], "can't resume nowhere: No such file or directory"),
            (["--resume", "/dev/null"], "it is no folder"),
            (["--resume", "empty"], "start a new run there with --out empty"),
            (["--data", "nowhere"], "can't read data from nowhere: No such file"),
            (["--data", "data/t10k-labels-idx1-ubyte"], "it is no folder; install")):
        done = run("train", *args, expect=1)
        assert fragment in one_line(done.stderr), (args, done.stderr)
    os.makedirs("torch/FashionMNIST")
    os.rename("data", "torch/FashionMNIST/raw")
    done = train("torch", "out", expect=1)
    assert "try --data " in done.stderr and "torch/FashionMNIST/raw" in one_line(done.stderr)
    train("torch/FashionMNIST/raw", "out", "--steps", 1)


def test_splits_of_two_sizes():
    make_data("data")
    make_data("wide", side=14)
    for name in os.listdir("wide"):
        if name.startswith("t10k"):
            shutil.copy(f"wide/{name}", "data")
    done = train("data", "out", expect=1)
    assert "1x12x12 and the test images 1x14x14" in one_line(done.stderr), done.stderr
    assert not os.path.exists("out")
    train("data", "out", "--resize", 12, "--steps", 1)


def test_advised_commands_can_be_pasted():
    make_data("data")
    for out, advised in (("plain", "plain"), ("a b", "'a b'"), ("it's", "'it'\\''s'"),
                         ("new\nline", "$'new\\x0aline'"), ("$HOME;ls", "'$HOME;ls'"),
                         ("caf\u00e9", "'caf\u00e9'")):
        done = train("data", out, "--quiet")
        assert done.stdout.splitlines()[-1] == f"evaluate it: vgg eval {advised}", done.stdout
        words = subprocess.run(["bash", "-c", f"printf %s {advised}"], check=True,
                               stdout=subprocess.PIPE, text=True)
        assert words.stdout == out
    done = run("train", *trainer.TINY, "--data", "data", "--out=-dash", "--epochs", 3)
    assert "vgg eval ./-dash" in done.stdout


def test_damaged_initial_weights():
    make_data("data")
    train("data", "out")
    with open("out/best/weights.safetensors", "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"XXXX")
    done = train("data", "new", "--init-weights", "out", expect=1)
    assert "/out/best/weights.safetensors: manifest says SHA-256" in one_line(done.stderr)
    assert not os.path.exists("new")
    shutil.copy("out/last/weights.safetensors", "alone.safetensors")
    os.remove("out/last/optimizer.safetensors")
    done = run("eval", "out/last", expect=1)
    assert "a copy of out/last/weights.safetensors alone" in one_line(done.stderr)
    run("eval", "alone.safetensors", "--data", "data")


def test_disk_full():
    """What is written last is told, with what to do; a limit on files' sizes stands for a
    full disk."""
    make_data("data")
    train("data", "out", "--steps", 2)
    size = max(os.path.getsize(f"out/last/{name}") for name in os.listdir("out/last"))
    done = subprocess.run(["bash", "-c", f"ulimit -f {size // 1024 - 1}; exec \"$@\"", "bash",
                           trainer.VGG, "train", "--resume", "out"], check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=trainer.environment())
    assert done.returncode == 1, done
    last = done.stderr.splitlines()[-1]
    assert "can't save: out/" in last and "File too large" in last, done.stderr
    assert last.endswith("go on with: vgg train --resume out"), done.stderr
    run("train", "--resume", "out")


def test_refusals():
    make_data("data")
    train("data", "out", "--steps", 2)
    before = weights("out")
    cases = [
        (["train", *trainer.TINY, "--data", "data", "--out", "out"], 1, "--resume out"),
        (["train", "--resume", "out", "--lr", "0.5"], 2, "--lr 0.5"),
        (["train", "--resume", "out", "--blocks", "1x8"], 2, "can't change"),
        (["train", "--resume", "out", "--bn"], 2, "--bn"),
        (["train", "--resume", "out", "--preset", "quick"], 2, "--preset quick"),
        (["train", "--resume", "out", "--epochs", 4], 2, "cosine"),
        (["train", "--resume", "data"], 1, "not a run directory"),
    ]
    for args, status, fragment in cases:
        done = run(*args, expect=status)
        assert fragment in one_line(done.stderr), (args, done.stderr)
    assert weights("out") == before
    with open("out/lock", "r+", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run("train", "--resume", "out", expect=1)
        assert "in use by another" in one_line(done.stderr)
    # What may change does: more epochs, other threads, and the same value said again.
    run("train", "--resume", "out", "--threads", 1, "--batch", 16)
    train("data", "even", "--sched", "constant")
    with open("even/args.json", encoding="utf-8") as file:
        args = file.read()
    done = run("train", "--resume", "even", "--epochs", 2, expect=2)
    assert "in its epoch 3 already" in one_line(done.stderr), done.stderr
    with open("even/args.json", encoding="utf-8") as file:
        assert file.read() == args
    run("train", "--resume", "even", "--epochs", 4)
    assert rows("even")[-1]["epoch"] == 4
    os.rename("even/last", "kept")
    done = run("train", "--resume", "even", expect=1)
    assert "--init-weights even/best" in one_line(done.stderr), done.stderr


def test_edited_settings_are_refused():
    make_data("data")
    train("data", "out", "--steps", 3)
    with open("out/args.json", encoding="utf-8") as file:
        args = json.load(file)
    for change, fragment in (({"flip": 0.25}, "other settings"), ({"flip": "0.5"}, '"flip"'),
                             ({"bn": 1}, '"bn"'), ({"lr": None}, '"lr"'),
                             ({"erase": ...}, 'no "erase"')):
        edited = {key: value for key, value in {**args, **change}.items() if value is not ...}
        with open("out/args.json", "w", encoding="utf-8") as file:
            json.dump(edited, file)
        done = run("train", "--resume", "out", expect=1)
        assert fragment in one_line(done.stderr), (change, done.stderr)
    with open("out/args.json", "w", encoding="utf-8") as file:
        json.dump(args, file)
    os.remove("out/metrics.csv")
    done = run("train", "--resume", "out")
    assert one_line(done.stderr.splitlines(True)[0]) == (
        "vgg: out/metrics.csv is gone; a new one begins here\n"), done.stderr


def network(out):
    with open(f"{out}/args.json", encoding="utf-8") as file:
        args = json.load(file)
    return {key: args[key] for key in ("arch", "blocks", "ratio", "hidden", "dropout")}


def test_own_network_wins_over_a_preset():
    make_data("data", train=20, test=10)
    small = ["train", "--data", "data", "--batch", 10, "--steps", 1]
    run(*small, "--preset", "quick", "--blocks", "1x8,1x8", "--out", "blocks")
    assert network("blocks") == {"arch": "d2l", "blocks": "1x8,1x8", "ratio": 1,
                                 "hidden": 128, "dropout": 0}
    info = ["info", "--resize", 32, "--format", "json"]
    bare = sole_object(run(*info, "--arch", "vgg11").stdout)
    for both in (["--preset", "quick", "--arch", "vgg11"],
                 ["--arch", "vgg11", "--preset", "quick"]):
        found = sole_object(run(*info, *both, "--dataset", "fashion-mnist").stdout)
        assert [block["name"] for block in found["blocks"]] == [
            block["name"] for block in bare["blocks"]], found["blocks"]
        assert found["blocks"][0]["shape"][1] == 64, found["blocks"][0]
    run(*small, "--resize", 32, "--arch", "vgg11", "--preset=quick", "--ratio", 16,
        "--hidden", 8, "--out", "arch")
    assert network("arch") == {"arch": "vgg11", "blocks": "", "ratio": 16, "hidden": 8,
                               "dropout": 0.5}
    run(*small, "--preset", "quick", "--dataset", "mnist", "--blocks", "1x8", "--out", "mnist")
    with open("mnist/args.json", encoding="utf-8") as file:
        assert json.load(file)["normalize"] == "mnist"


def test_batch_larger_than_the_data():
    make_data("data", train=60, test=20)
    summary = sole_object(train("data", "out", "--batch", 1000000, "--format", "json").stdout)
    assert summary["step"] == 3 and summary["peak_rss_bytes"] < 500e6, summary
    same = sole_object(train("data", "same", "--batch", 60, "--format", "json").stdout)
    assert same["loss"] == summary["loss"]
    assert "accuracy" in run("eval", "out", "--batch", 1000000).stdout


def test_loss_that_is_no_number():
    make_data("data")
    done = train("data", "out", "--lr", "1e6", "--optimizer", "sgd", expect=1)
    line = done.stderr.splitlines()[-1]
    assert line.startswith("vgg: step ") and "--lr" in line and "finite" in line, line
    assert "there is no checkpoint" in line, line
    assert done.stdout == ""
    # With batch normalisation the statistics in memory have seen the batch; what is saved
    # has not.
    wild = ["--lr", "1e6", "--bn"]
    done = train("data", "bn", *wild, "--save-every", 0, expect=1)
    line = done.stderr.splitlines()[-1]
    assert "checkpoints are as they were" in line, line
    last = rows("bn")[-1]["step"]
    assert line.startswith(f"vgg: step {last + 1}: "), line
    train("data", "before", *wild, "--steps", last)
    assert weights("bn") == weights("before")
    again = run("train", "--resume", "bn", expect=1)
    assert again.stderr.splitlines()[-1] == line, again.stderr
    assert weights("bn") == weights("before")


def test_damaged_checkpoint():
    make_data("data")
    train("data", "out", "--steps", 3)
    path = "out/last/weights.safetensors"
    with open(path, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-3, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    for args in (["train", "--resume", "out"], ["eval", "out/last"], ["info", "out"],
                 ["eval", path]):
        line = one_line(run(*args, expect=1).stderr)
        assert "weights.safetensors" in line and "SHA-256" in line, line
    with open(path, "r+b") as file:
        file.truncate(100)
    for args in (["train", "--resume", "out"], ["eval", "out"], ["info", "out"]):
        assert "weights.safetensors" in one_line(run(*args, expect=1).stderr)


def test_default_run_directory_and_latest():
    make_data("data")
    for name in ("one", "two"):
        run("train", *trainer.TINY, "--data", "data", "--steps", 2)
    made = sorted(os.listdir("runs"))
    assert len(made) == 2 and all(name.startswith("own-2") for name in made), made
    os.utime(f"runs/{made[0]}/log.jsonl", (2e9, 2e9))
    done = run("train", "--resume", "--steps", 3)
    assert f"runs/{made[0]}" in done.stderr, done.stderr


if __name__ == "__main__":
    trainer.main(globals())
