#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The command line: exit status, one line that says what to do, help, version, streams."""
import os
import re
import shutil
import subprocess

import trainer
from trainer import VGG, make_data, one_line, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Arguments, exit status, a fragment of the line on stderr.
CASES = [
    ([], 2, "which verb"),
    (["trian"], 2, "did you mean train?"),
    (["zzzzzz"], 2, "unknown verb 'zzzzzz'"),
    (["train", "--epoch", "3"], 2, "did you mean --epochs?"),
    (["train", "--momentun", "3"], 2, "did you mean --momentum?"),
    (["train", "--qqqqqqq"], 2, "unknown flag --qqqqqqq"),
    (["train", "--split", "test"], 2, "--split is not a flag of this verb"),
    (["train", "-e", "3"], 2, "flags are long"),
    (["train", "stray"], 2, "unexpected argument 'stray'"),
    (["train", "--epochs"], 2, "--epochs needs a value"),
    (["train", "--epochs", "--quiet"], 2, "--epochs needs a value before '--quiet' (see"),
    (["train", "--out", "--quiet"], 2,
     "--out needs a value before '--quiet'; --out=--quiet if that is meant"),
    (["train", "--out", "-quiet"], 2, "--out needs a value before '-quiet'"),
    (["train", "--out", "--", "x"], 2, "--out needs a value before '--'"),
    (["train", "--preset", "--quiet"], 2, "--preset needs a value before '--quiet'"),
    (["train", "--sched", "--quiet"], 2, "--sched needs a value before '--quiet'"),
    (["train", "--data", "-", "--lr", "0"], 2, "--lr"),
    (["train", "--data=--quiet"], 1, "data from --quiet: No such file"),
    (["train", "--epochs", "0"], 2, "expected a whole number from 1"),
    (["train", "--epochs", "-3"], 2, "found '-3'"),
    (["train", "--epochs", "3x"], 2, "found '3x'"),
    (["train", "--epochs="], 2, "found ''"),
    (["train", "--seed", "99999999999999999999"], 2, "--seed"),
    (["train", "--seed", "-1"], 2, "from 0 to 18446744073709551615, found '-1'"),
    (["train", "--seed", "18446744073709551616"], 2, "found '18446744073709551616'"),
    (["train", "--seed", "18446744073709551615", "--lr", "0"], 2, "--lr"),
    (["train", "--steps", "0"], 2, "from 1 to 1000000000000000, found '0'"),
    (["train", "--lr", "nan"], 2, "--lr"),
    (["train", "--lr", "inf"], 2, "--lr"),
    (["train", "--lr", "0"], 2, "--lr"),
    (["train", "--dropout", "1"], 2, "--dropout"),
    (["train", "--flip", "1.5"], 2, "--flip"),
    (["train", "--bn=1"], 2, "--bn takes no value"),
    (["train", "--no-bn=1"], 2, "--no-bn takes no value, found '1'"),
    (["train", "--no-lr"], 2, "unknown flag --no-lr"),
    (["train", "--sched", "cosin"], 2,
     "constant, step, multistep, cosine, found 'cosin', did you mean cosine?"),
    (["train", "--optimizer", "Adam"], 2, "found 'Adam', did you mean adam?"),
    (["train", "--dataset", "FashionMNIST"], 2, "did you mean fashion-mnist?"),
    (["train", "--dataset", "Fashion_MNIST"], 2, "did you mean fashion-mnist?"),
    (["train", "--dataset", "CIFAR-100"], 2, "did you mean cifar100?"),
    (["train", "--optimizer", "lion"], 2, "expected one of sgd, adam, adamw, found 'lion' ("),
    (["train", "--sched", "multistep"], 2, "needs --milestones"),
    (["train", "--milestones", "5,3"], 2, "rising epochs"),
    (["train", "--sched", "step", "--milestones", "1,2"], 2,
     "--milestones is of --sched multistep, and the schedule is step; leave it out"),
    (["train", "--sched", "constant", "--min-lr", "0.5"], 2, "--min-lr is of --sched cosine"),
    (["train", "--step-epochs", "2"], 2, "--step-epochs is of --sched step"),
    (["train", "--gamma", "0.5"], 2, "--gamma is of --sched step or multistep"),
    (["train", "--preset", "quick", "--gamma", "0.5"], 2, "the schedule is cosine"),
    (["train", "--sched", "step", "--gamma", "0.5", "--step-epochs", "2", "--data", "nowhere"],
     1, "data from nowhere: No such file"),
    (["train", "--sched", "multistep", "--gamma", "0.5", "--milestones", "2,4", "--data",
      "nowhere"], 1, "data from nowhere: No such file"),
    (["train", "--sched", "cosine", "--min-lr", "0.005", "--warmup-epochs", "10", "--data",
      "nowhere"], 1, "data from nowhere: No such file"),
    (["train", "--warmup-epochs", "10.5"], 2, "--warmup-epochs 10.5 is longer than --epochs 10"),
    (["train", "--warmup-epochs", "2", "--epochs", "1"], 2, "longer than --epochs 1"),
    (["train", "--sched", "cosine", "--min-lr", "0.5"], 2, "--min-lr 0.5 is above --lr 0.005"),
    (["train", "--nesterov"], 2, "--momentum above 0"),
    (["train", "--preset", "qick"], 2, "did you mean quick?"),
    (["train", "--arch", "vgg12"], 2, "vgg13"),
    (["train", "--blocks", "1x64,"], 2, "--blocks"),
    (["train", "--blocks", "0x64"], 2, "--blocks"),
    (["train", "--blocks", "1x64;1x128"], 2, "--blocks"),
    (["train", "--resize", "224x"], 2, "such as 224"),
    (["train", "--ratio", "0"], 2, "--ratio"),
    (["train", "--dataset", "cifar10"], 1, "--data DIR"),
    (["train", "--data", "nowhere"], 1, "dataset-fashion-mnist"),
    (["train", "--data", "nowhere", "--device", "gpu9"], 2, "vgg devices"),
    (["train", "--resume", "nowhere"], 1, "name the run directory"),
    (["train", "--resume"], 1, "no run in runs/"),
    (["train", "--resume", ""], 2, "--resume: expected [DIR], found ''"),
    (["train", "--resume="], 2, "--resume: expected [DIR], found ''; it may be left out"),
    (["train", "--resume", "a", "--out", "b"], 2, "give one"),
    (["train", "--out="], 2, "--out: expected DIR, found ''"),
    (["train", "--optimizer", "adam", "--momentum", "0.5"], 2, "--optimizer sgd"),
    (["train", "--optimizer", "adamw", "--nesterov"], 2, "--optimizer sgd"),
    (["info", "saved", "--hidden", "5"], 2, "--hidden has no meaning with saved weights"),
    (["info", "--head", "gap", "--hidden", "5"], 2, "--hidden 5 has no meaning"),
    (["eval", "no\033[31mwhere"], 1, "no\\x1b[31mwhere"),
    (["eval", "\u009b31m"], 1, "\\xc2\\x9b31m:"),
    (["eval", "gr\u00fcn"], 1, "read gr\u00fcn:"),
    (["eval"], 2, "what is to be evaluated"),
    (["eval", "nowhere"], 1, "read nowhere: No such file"),
    (["eval", "."], 1, "no weights.safetensors"),
    (["eval", "a", "b"], 2, "unexpected argument 'b'"),
    (["info", "--ratio", "65"], 2, "channel"),
    (["info", "--resize", "16"], 2, "larger --resize"),
    (["info", "--threads", "100000"], 2, "--threads"),
    (["bench", "--mode", "fly"], 2, "train, infer"),
    (["bench", "--mode", "infer", "--weights", "fp16"], 2, "fp32, bf16"),
    (["bench", "--weights", "bf16"], 2, "is for --mode infer"),
    (["bench", "--mode", "infer", "--weights", "bf16", "--device", "ref", "--blocks", "1x8",
      "--batch", "1"], 1, "engine ref can't keep weights in bf16"),
    (["train", "--weights", "bf16"], 2, "--weights"),
    (["bench", "--steps", "0"], 2, "--steps"),
    (["devices", "--format", "xml"], 2, "text, json"),
]

# What other programs call a flag, or a slip of the hand; the flag, None where none is near.
SUGGESTIONS = [
    ("train", "lrate", "lr"), ("train", "learning-rate", "lr"),
    ("train", "learning_rate", "lr"), ("train", "Learning_Rate", "lr"),
    ("train", "wd", "weight-decay"), ("train", "weight_decay", "weight-decay"),
    ("train", "batch-size", "batch"), ("train", "batch_size", "batch"),
    ("train", "model", "arch"), ("bench", "model", "arch"), ("devices", "model", None),
    ("train", "num-epochs", "epochs"), ("eval", "num-epochs", None),
    ("train", "scheduler", "sched"), ("train", "lr_scheduler", "sched"),
    ("train", "workers", "threads"), ("devices", "num_workers", "threads"),
    ("train", "output-dir", "out"), ("train", "step", "steps"), ("train", "opt", "optimizer"),
    ("train", "ephocs", "epochs"), ("train", "foo", None), ("train", "x" * 63, None),
]


def test_table():
    for args, status, fragment in CASES:
        done = run(*args, expect=status)
        assert done.stdout == "", (args, done.stdout)
        assert fragment in one_line(done.stderr), (args, done.stderr)
        assert not os.path.exists("runs"), f"{args} left a run directory"


def test_suggestions():
    for verb, name, flag in SUGGESTIONS:
        line = one_line(run(verb, f"--{name}", "1", expect=2).stderr)
        assert line.startswith(f"vgg: unknown flag --{name}"), line
        assert (f"did you mean --{flag}?" in line) if flag else "mean" not in line, line
    line = one_line(run("train", "--warmup", "1", expect=2).stderr)
    assert "is not a flag of this verb, did you mean --warmup-epochs?" in line, line


def test_every_other_name_is_of_a_flag():
    with open(f"{ROOT}/examples/vgg/nearest.c", encoding="ascii") as file:
        table = re.search(r"aliases\[\]\[2\] = \{\n(.*?)\n\};", file.read(), re.S).group(1)
    names = re.findall(r'\{"([a-z-]+)", "([a-z-]+)"\}', table)
    assert names == sorted(names) and len(names) == len(table.splitlines())
    for name, flag in names:
        lines = [one_line(run(verb, f"--{name}=1", expect=2).stderr)
                 for verb in ("train", "predict")]
        assert any(f"did you mean --{flag}?" in line for line in lines), lines


def test_a_resumed_run_says_its_schedule_again():
    make_data("data")
    args = [*trainer.TINY, "--data", "data", "--out", "out", "--min-lr", 0.001,
            "--warmup-epochs", 1, "--epochs", 2]
    run("train", *args, "--steps", 2)
    run("train", "--resume", *args, "--steps", 3)
    # Of a schedule that has no use for it, from args.json and from the user.
    plain = [*trainer.TINY, "--data", "data", "--out", "plain", "--sched", "constant",
             "--warmup-epochs", 2, "--epochs", 3]
    run("train", *plain, "--steps", 2)
    run("train", "--resume", "plain", "--gamma", 0.1, "--steps", 3)
    run("train", "--resume", "plain", "--epochs", 1)
    line = one_line(run("train", "--resume", "plain", "--gamma", 0.2, expect=2).stderr)
    assert "can't change" in line, line


def test_missing_data_names_the_package():
    done = run("train", "--data", "absent", expect=1)
    line = one_line(done.stderr)
    assert "absent" in line and "apt install dataset-fashion-mnist" in line, line
    os.mkdir("empty")
    assert "dataset-fashion-mnist" in one_line(run("train", "--data", "empty",
                                                   expect=1).stderr)


def test_sizes_that_do_not_fit_the_data():
    make_data("data")
    for args, fragment in ((["--shift", 4000], "--shift"), (["--crop", 100], "--crop"),
                           (["--head", "none"], "--head none"),
                           (["--channels", 3], "which has 1 and 10")):
        done = run("train", *trainer.TINY, "--data", "data", *args, expect=2)
        assert fragment in one_line(done.stderr), (args, done.stderr)
        assert not os.path.exists("runs")


def test_bad_data_leaves_no_run():
    make_data("data")
    with open("data/t10k-images-idx3-ubyte", "r+b") as file:
        file.truncate(1000)
    done = run("train", *trainer.TINY, "--data", "data", "--out", "out", expect=1)
    assert "t10k-images" in one_line(done.stderr), done.stderr
    assert not os.path.exists("out")


def widest(text):
    return max(map(len, text.splitlines()))


def test_help():
    verbs = ["train", "eval", "info", "devices", "bench"]
    done = run("--help")
    assert all(verb in done.stdout for verb in verbs) and done.stderr == ""
    assert widest(done.stdout) <= 80
    assert "a minute\n" in done.stdout and "80 minutes on two cores\n" in done.stdout
    assert run("help").stdout == run("-h").stdout == done.stdout
    for verb in verbs:
        done = run(verb, "--help")
        assert done.stdout.startswith(f"usage: vgg {verb}") and done.stderr == ""
        assert "--format FORM" in done.stdout
        assert widest(done.stdout) <= 80, (verb, widest(done.stdout))
        assert "  \n" not in done.stdout and " \n" not in done.stdout
        assert run("help", verb).stdout == done.stdout
        assert run("--help", verb).stdout == done.stdout
    for flag in ("preset", "data", "resize", "epochs", "lr", "resume", "steps", "threads",
                 "gemm", "seed", "out"):
        assert f"--{flag} " in run("train", "--help").stdout, flag
    assert run("help", "--bn").stdout == run("help").stdout
    assert "did you mean train?" in one_line(run("help", "trian", expect=2).stderr)
    # A long text and a long list of choices go on below their beginning.
    page = run("train", "--help").stdout
    assert "quick: 0.92 test accuracy\n                          in a minute\n" in page
    assert "cifar10,\n                            cifar100\n" in page


def test_version():
    for word in ("--version", "version", "-V"):
        assert run(word).stdout == "vgg 0.1.0\n", word


def script(name, *args):
    """A script of the project in a tree where setting up is refused, which a script that
    has only to say something does not come to."""
    os.makedirs("tree/scripts", exist_ok=True)
    shutil.copy(f"{ROOT}/scripts/{name}", f"tree/scripts/{name}")
    with open("tree/scripts/setup", "w", encoding="ascii") as file:
        file.write("#!/bin/sh\necho set up >&2\nexit 77\n")
    os.chmod("tree/scripts/setup", 0o755)
    return subprocess.run([f"tree/scripts/{name}", *args], capture_output=True, text=True,
                          check=False, timeout=60)


def test_scripts_say_what_they_are():
    for name, fragment in (("demo", "scripts/demo [FLAGS]"), ("check", "sanitizers")):
        for word in ("--help", "-h"):
            done = script(name, word)
            assert done.returncode == 0 and done.stderr == "", (name, done)
            assert fragment in done.stdout and "set -" not in done.stdout, done.stdout
            assert not any(line.startswith("#") for line in done.stdout.splitlines())
        assert script(name).returncode == 77, f"{name} does not set up"
    for name, args, fragment in (
            ("demo", ["--out", "x"], "no --out here"), ("demo", ["--out=x"], "vgg train"),
            ("demo", ["--threads", "1", "--resume"], "no --resume here"),
            ("check", ["--fast"], "scripts/check --help"), ("check", ["all"], "'all'"),
            ("check", [""], "''")):
        done = script(name, *args)
        assert done.returncode == 2 and done.stdout == "", (name, args, done)
        assert done.stderr.count("\n") == 1 and fragment in done.stderr, done.stderr
    assert script("demo", "--threads", "4").returncode == 77


def test_streams_that_fail():
    for verb in ("--help", "devices"):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run([VGG, verb], stdout=full, stderr=subprocess.PIPE, text=True,
                                  check=False)
        assert done.returncode == 1 and "stdout" in one_line(done.stderr)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([VGG, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True,
                          check=False)
    os.close(writing)
    assert done.returncode == 1, done.returncode
    # A closed stdout or stderr never becomes one of the run's files.
    make_data("data")
    tiny = " ".join(trainer.TINY)
    line = f"{VGG} train {tiny} --data data --epochs 1 --out out >&- 2>&-"
    subprocess.run(["sh", "-c", line], check=False, timeout=60)
    for row in trainer.rows("out"):
        assert row["row"] in ("step", "epoch")


if __name__ == "__main__":
    trainer.main(globals())
