#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The trainer on an engine that is a plugin: a made-up one around `ref`
(tests/remote), whose folder is in VGG_PLUGIN_DIR. It keeps the data set and updates in
its backward, and all must come out as on `ref`."""
import json
import os

import trainer
from trainer import make_data, one_line, run, sole_object

TEXT = "a test's engine around ref"
PLAIN = ["--momentum", 0, "--optimizer", "sgd"]  # what a step of the engine's own can do
BATCHES = 13


def train(out, device, *more, **env):
    return run("train", *trainer.TINY, "--data", "data", "--out", out, "--epochs", 3,
               "--device", device, *more, **env)


def arguments(out):
    with open(f"{out}/args.json", encoding="utf-8") as file:
        return json.load(file)


def test_devices():
    lines = run("devices").stdout.splitlines()
    assert lines[0] == f"cuda:0   {TEXT}", lines
    assert lines[1].startswith("cpu ") and "refused" not in "".join(lines), lines
    found = sole_object(run("devices", "--format", "json", REMOTE_DEVICES="2").stdout)
    assert [d["name"] for d in found["devices"]] == ["cuda:0", "cuda:1", "cpu", "ref"]
    assert found["devices"][1] == {"name": "cuda:1", "engine": "cudnn", "text": TEXT}


def test_a_plugin_that_does_not_work():
    os.mkdir("plugins")
    with open("plugins/vgg-cudnn.so", "w", encoding="ascii") as file:
        file.write("not a shared object\n")
    make_data("data")
    for device in ("cuda", "cuda:0", "cudnn"):
        done = run("train", *trainer.TINY, "--data", "data", "--out", "out", "--device",
                   device, expect=1, VGG_PLUGIN_DIR="plugins")
        line = one_line(done.stderr)
        assert f"--device {device}: engine cudnn: plugins/vgg-cudnn.so: can't be loaded" in line
        assert "`vgg devices` lists" in line and not os.path.exists("out"), line
    found = sole_object(run("devices", "--format", "json", VGG_PLUGIN_DIR="plugins").stdout)
    assert [d["name"] for d in found["devices"]] == ["cpu", "ref"], found
    assert [r["engine"] for r in found["refused"]] == ["cudnn"], found
    # What nobody asked for by name is passed over, and a training says so.
    done = train("out", "auto", "--format", "json", VGG_PLUGIN_DIR="plugins")
    assert sole_object(done.stdout)["device"] == "cpu", done.stdout
    assert ("\ndevice auto: not cudnn: engine cudnn: plugins/vgg-cudnn.so: can't be loaded: "
            in done.stderr), done.stderr
    quiet = train("quiet", "auto", "--quiet", VGG_PLUGIN_DIR="plugins")
    assert quiet.stderr == "", quiet.stderr
    # Evaluation names its device with the result; a failure stays one line.
    assert run("eval", "out", "--data", "data", VGG_PLUGIN_DIR="plugins").stderr == ""
    one_line(run("eval", "none", expect=1, VGG_PLUGIN_DIR="plugins").stderr)


def test_a_device_that_does_not_open():
    found = sole_object(run("devices", "--format", "json", REMOTE_BROKEN="1").stdout)
    assert [d["name"] for d in found["devices"]] == ["cpu", "ref"], found
    assert found["refused"] == [{"engine": "cudnn", "reason": "cuda:0: broken today"}], found
    lines = run("devices", REMOTE_BROKEN="1").stdout.splitlines()
    assert lines[0] == "cuda:0   refused: cuda:0: broken today", lines
    # The next one takes its place where no number is named.
    make_data("data")
    for device in ("auto", "cuda"):
        done = train(device, device, "--format", "json", REMOTE_BROKEN="1", REMOTE_DEVICES="2")
        assert sole_object(done.stdout)["device"] == "cuda:1", done.stdout
        line = f"\ndevice {device}: not cuda:0: cuda:0: broken today\n{TEXT}\n"
        assert line in done.stderr, done.stderr


def test_no_device():
    lines = run("devices", REMOTE_DEVICES="0").stdout.splitlines()
    assert "cudnn    refused: engine cudnn found no device" in lines, lines


def test_data_that_does_not_fit():
    make_data("data")
    train("kept", "cuda:0", *PLAIN, "--epochs", 1)
    line = ("vgg: cuda:0: a data set of {} images stays with the host: no room for {} bytes\n")
    train_line, test_line = line.format(200, 200 * 144), line.format(60, 60 * 144)
    done = train("out", "cuda:0", *PLAIN, "--epochs", 1, REMOTE_ROOM="10000")
    assert done.stderr.count(train_line) == 1 and test_line not in done.stderr, done.stderr
    trainer.same_run("kept", "out")
    done = train("quiet", "cuda:0", *PLAIN, "--epochs", 1, "--quiet", REMOTE_ROOM="10000")
    assert done.stderr == "", done.stderr
    for room, said in (("10000", ""), ("100", test_line)):
        done = run("eval", "out", "--data", "data", "--device", "cuda:0", REMOTE_ROOM=room)
        assert done.stderr == said, done.stderr


def test_the_same_run():
    make_data("data")
    for name, flags in (("plain", PLAIN), ("momentum", [])):
        train(f"{name}-ref", "ref", *flags)
        done = train(f"{name}-cuda", "cuda:0", *flags, REMOTE_WANTS_DATA="1")
        trainer.same_run(f"{name}-ref", f"{name}-cuda")
        assert f"examples/sec on cuda:0, {TEXT}\n" in done.stdout, done.stdout
        assert f"\n{TEXT}\n" in done.stderr, done.stderr
    summary = sole_object(train("auto", "auto", "--format", "json").stdout)
    assert (summary["device"], summary["precision"]) == ("cuda:0", "fp32"), summary


def test_a_run_moves():
    make_data("data")
    train("whole", "ref", *PLAIN)
    for steps in (BATCHES + 5, 2 * BATCHES):
        out = f"moved{steps}"
        train(out, "cuda:0", *PLAIN, "--steps", steps, "--deterministic")
        kept = arguments(out)
        assert (kept["device"], kept["precision"], kept["deterministic"]) == \
            ("cuda:0", "fp32", True), kept
        run("train", "--resume", out, "--device", "ref", "--no-deterministic")
        trainer.same_run("whole", out)
        kept = arguments(out)
        assert (kept["device"], kept["deterministic"]) == ("ref", False), kept
    # What is not said again stays.
    train("back", "ref", *PLAIN, "--steps", BATCHES + 5)
    run("train", "--resume", "back", "--device", "cuda", REMOTE_WANTS_DATA="1")
    trainer.same_run("whole", "back")
    assert arguments("back")["device"] == "cuda"


def test_precision():
    make_data("data")
    for precision in ("tf32", "bf16"):
        done = run("train", *trainer.TINY, "--data", "data", "--out", "out", "--precision",
                   precision, expect=2)
        assert f"{precision} needs a GPU" in one_line(done.stderr), done.stderr
        assert not os.path.exists("out")
    train("out", "cpu")
    for verb in (["eval", "out", "--data", "data"], ["bench", "--batch", 4]):
        done = run(*verb, "--precision", "bf16", "--device", "cpu", expect=2)
        assert "bf16 needs a GPU, and this is the device cpu" in one_line(done.stderr)
    done = run("train", "--resume", "out", "--epochs", 4, "--precision", "half", expect=2)
    assert "expected one of fp32, tf32, bf16, found 'half'" in one_line(done.stderr)


def test_eval():
    make_data("data")
    train("out", "ref")
    figures = {}
    for device in ("ref", "cuda:0"):
        found = sole_object(run("eval", "out", "--data", "data", "--device", device,
                                "--format", "json").stdout)
        assert (found.pop("device"), found.pop("precision")) == (device, "fp32")
        del found["images_per_s"]
        figures[device] = found
    assert figures["ref"] == figures["cuda:0"]


def test_bench():
    make_data("data")
    for more in (["--mode", "train"], ["--mode", "infer"],
                 ["--data-loading", "--data", "data", "--steps", 30]):
        found = sole_object(run("bench", "--blocks", "1x8", "--hidden", 8, "--batch", 16,
                                "--resize", 8, "--device", "cuda", "--format", "json",
                                "--steps", 20, *more).stdout)
        assert (found["name"], found["engine"]) == ("cuda:0", "cudnn"), found
        assert (found["precision"], found["batch"]) == ("fp32", 16), found
        assert 0 < found["median_step_s"] <= found["p95_step_s"], found
        # This engine times no stages: what follows from shapes is there all the same.
        assert found["stages"] == [] and found["update_s"] is None, found
        assert found["gflop_per_image"] > 0 and found["plan_bytes"] > 0, found
        assert found["plan"][0].startswith("device cuda:0: "), found
        assert any(line.endswith("  direct convolution") for line in found["plan"]), found
    text = run("bench", "--blocks", "1x8", "--hidden", 8, "--batch", 16, "--resize", 8,
               "--device", "cuda", "--steps", 3, "--plan").stdout
    assert "no times of stages: the engine cudnn" in text and "share" not in text, text
    assert "  direct convolution\n" in text, text
    # A batch is never larger than the data; trained on as `vgg train` does.
    found = sole_object(run("bench", "--blocks", "1x8", "--hidden", 8, "--batch", 500,
                            "--device", "cuda", "--format", "json", "--steps", 3,
                            "--data-loading", "--data", "data",
                            REMOTE_WANTS_DATA="1").stdout)
    assert found["batch"] == 200 and found["data_loading"] is True, found


if __name__ == "__main__":
    trainer.main(globals())
