#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs that are killed or interrupted, and resumed: they end as if nothing had happened."""
import fcntl
import json
import os
import pathlib
import random
import re
import signal
import shutil
import time

import trainer
from trainer import make_data, rows, run, sole_object, start, train, weights

EPOCHS = 6
BATCHES = 13


def first(out, *more):
    return ["train", *trainer.TINY, "--data", "data", "--out", out, "--epochs", EPOCHS,
            "--bn", *more]


def lines_of(path):
    try:
        with open(path, "rb") as file:
            return file.read().count(b"\n")
    except FileNotFoundError:
        return 0


def wait_for_rows(process, out, count):
    """Wait until the log has `count` rows, or the process ends."""
    limit = time.monotonic() + 60
    while process.poll() is None and lines_of(f"{out}/log.jsonl") < count:
        assert time.monotonic() < limit, "no progress"
        time.sleep(0.0005)


def test_settings_of_an_earlier_release():
    """A run that was begun before a flag was there goes on without it, and only so."""
    make_data("data", train=200)
    train("data", "whole", "--steps", 4)
    train("data", "old", "--steps", 2)
    with open("old/args.json", encoding="utf-8") as file:
        args = json.load(file)
    for flag in ("conv", "new-head"):
        del args[flag]
    with open("old/args.json", "w", encoding="utf-8") as file:
        json.dump(args, file, indent=2)
    done = run("train", "--resume", "old", "--new-head", expect=2)
    assert "was begun without it" in trainer.one_line(done.stderr), done.stderr
    run("train", "--resume", "old", "--steps", 4)
    assert weights("old") == weights("whole")


def test_settings_have_one_hash():
    """Checkpoints keep it: another one, and runs that are there can't be resumed."""
    make_data("data", train=200)
    train("data", "out", "--steps", 1)
    data = pathlib.Path("out/last/weights.safetensors").read_bytes()
    found = re.search(rb'"app\.settings":"([0-9a-f]{16})"', data)
    assert found and found.group(1) == b"dae1ca264a31a02f", found


def test_killed_at_random_moments():
    make_data("data", train=200)
    run(*first("whole"))
    draw = random.Random()
    seed = draw.randrange(1 << 30)
    print("kills drawn with seed", seed)
    draw.seed(seed)
    kills = 0
    for attempt in range(3):
        out = f"cut{attempt}"
        # --save-every 0 saves after every step, so that resumes begin within epochs too.
        often = ["--save-every", 0] if attempt != 1 else []
        args = first(out, *often)
        for _ in range(60):
            process = start(*args)
            ahead = draw.randrange(1, 25)
            wait_for_rows(process, out, lines_of(f"{out}/log.jsonl") + ahead
                          if kills or os.path.exists(out) else ahead)
            time.sleep(draw.random() * 0.01)
            process.kill()
            _, stderr = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL, stderr
            kills += 1
            begun = os.path.exists(f"{out}/args.json")
            args = ["train", "--resume", out, *often] if begun else first(out, *often)
        else:
            run(*args)
        trainer.same_run("whole", out)
    assert kills >= 4, f"only {kills} kills hit a running process"


def test_killed_between_the_first_best_and_last():
    make_data("data")
    run(*first("whole"))
    run(*first("out", "--steps", BATCHES))
    shutil.rmtree("out/last")
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")


def test_cut_rows_are_dropped():
    make_data("data")
    run(*first("whole"))
    run(*first("out", "--steps", 2 * BATCHES + 4))
    with open("out/log.jsonl", "a", encoding="ascii") as file:
        file.write('{"row": "step", "epoch": 3, "batch": 5, "step": 31, "loss": 9}\n')
        file.write('{"row": "epoch", "epoch": 3, "step": 39}\n{"row": "st')
    with open("out/metrics.csv", "a", encoding="ascii") as file:
        file.write("3,39,0.1,0.9,0.1,0.9,0.9,0.1,1,1\n4,5")
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")


def interrupt(number, out):
    process = start(*first(out))
    wait_for_rows(process, out, 17)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    return process.returncode, stdout, stderr


def test_interrupts_save_and_say_how_to_resume():
    make_data("data", train=200)
    run(*first("whole"))
    for number in (signal.SIGINT, signal.SIGTERM):
        out = f"out{number}"
        status, _, stderr = interrupt(number, out)
        assert status == 128 + number, (status, stderr)
        assert f"go on with: vgg train --resume {out}" in stderr, stderr
        assert os.path.exists(f"{out}/last/weights.safetensors")
        run("train", "--resume", out)
        trainer.same_run("whole", out)


def test_interrupted_evaluation_is_made_again():
    make_data("data", train=200, test=12000)
    often = ["--device", "ref"]
    run(*first("whole", *often, "--epochs", 2))
    process = start(*first("out", *often, "--epochs", 2))
    wait_for_rows(process, "out", BATCHES)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130 and "after batch 13" in stderr, stderr
    assert all(row["row"] == "step" for row in rows("out"))
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")


def test_second_interrupt_stops_at_once():
    # A batch that takes so long that the first interrupt has to wait for its end.
    make_data("data", train=3000, test=10, side=28)
    process = start("train", "--blocks", "1x64,2x128", "--data", "data", "--out", "out",
                    "--batch", "3000", "--epochs", 3, "--device", "ref")
    limit = time.monotonic() + 30
    while not os.path.exists("out/log.jsonl") and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, (process.returncode, stderr)
    assert time.monotonic() - began < 5 and "at once" in stderr, stderr


def full_pipe():
    """Both ends of a pipe that takes no more: whoever writes to it waits."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(512))
    except BlockingIOError:
        os.set_blocking(writing, True)
    return reading, writing


def catches(process, number):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        caught = next(line for line in file if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def test_no_handler_outlives_the_training():
    make_data("data", train=200)
    reading, writing = full_pipe()
    process = start(*first("out"), stdout=writing)
    os.close(writing)
    wait_for_rows(process, "out", 3)
    assert catches(process, signal.SIGINT), "not caught in the training"
    # All is freed when the result, which stdout does not take, is flushed.
    wait_for_rows(process, "out", EPOCHS * (BATCHES + 1))
    limit = time.monotonic() + 30
    while catches(process, signal.SIGINT) or catches(process, signal.SIGTERM):
        assert time.monotonic() < limit, "the handlers stay"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == -signal.SIGINT
    os.close(reading)


def test_initial_weights_are_not_needed_again():
    make_data("data")
    train("data", "before", "--bn")
    os.rename("before/best/weights.safetensors", "start.safetensors")
    initial = ["--init-weights", "start.safetensors"]
    run(*first("whole", *initial))
    run(*first("out", *initial, "--steps", BATCHES + 4))
    run(*first("early", *initial, "--steps", 1))
    shutil.rmtree("early/last")
    os.rename("start.safetensors", "moved.safetensors")
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")
    # Without a checkpoint the run begins again, and from those weights.
    done = run("train", "--resume", "early", expect=1)
    assert "start.safetensors" in trainer.one_line(done.stderr), done.stderr
    os.rename("moved.safetensors", "start.safetensors")
    run("train", "--resume", "early")
    trainer.same_run("whole", "early")


def test_lost_checkpoint_of_the_best_is_made_again():
    make_data("data")
    run(*first("whole"))
    run(*first("out", "--steps", BATCHES))
    assert rows("out")[-1]["row"] == "epoch" and weights("out") == weights("out", "best")
    run("train", "--resume", "out")
    trainer.same_run("whole", "out")


def test_signal_in_json():
    make_data("data")
    process = start(*first("out", "--format", "json"))
    wait_for_rows(process, "out", 3)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=60)
    if process.returncode == 130:
        assert sole_object(stdout)["stopped"] == "signal"
    train("data", "plain", "--steps", 1)


if __name__ == "__main__":
    trainer.main(globals())
