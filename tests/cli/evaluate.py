#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""eval: figures that follow from the confusion matrix are computed again here, and the
accuracy must be the one that training saw."""
import json
import math
import os
import re
import shutil
import struct

import trainer
from trainer import make_data, one_line, rows, run, sole_object, train

CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker",
           "bag", "ankle boot"]


def evaluate(*args):
    return sole_object(run("eval", *args, "--format", "json").stdout)


def close(a, b):
    return math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-12)


def ratio(a, b):
    return a / b if b else 0.0


def bare(source, target):
    """A copy of a safetensors file without metadata, as PyTorch writes it."""
    with open(source, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, rest = json.loads(file.read(size)), file.read()
    del header["__metadata__"]
    text = json.dumps(header).encode()
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + rest)


def test_the_last_resort_is_told():
    """Where the processor's engine can't be had, the plain loops are a hundred times slower."""
    make_data("data")
    train("data", "out", "--steps", 2)
    os.mkdir("lib")
    with open("lib/libopenblas.so.0", "w", encoding="ascii") as file:
        file.write("this is no library, and the loader says so" * 20)
    done = run("eval", "out", "--device", "auto", "--gemm", "openblas", LD_LIBRARY_PATH="lib")
    lines = [line for line in done.stderr.splitlines() if "not cpu: " in line]
    assert len(lines) == 1 and lines[0].startswith("vgg: device auto: "), done.stderr
    done = run("eval", "out", "--device", "auto")
    assert "not cpu" not in done.stderr, done.stderr


def test_weights_that_do_not_say_their_network():
    make_data("data")
    train("data", "out")
    bare("out/best/weights.safetensors", "bare.safetensors")
    named = ["--blocks", "1x8,1x12", "--hidden", 16, "--normalize", "fashion-mnist"]
    whole, plain = evaluate("out"), evaluate("bare.safetensors", "--data", "data", *named)
    for key in ("weights", "epochs", "data", "images_per_s"):
        del whole[key], plain[key]
    assert whole == plain
    done = run("eval", "bare.safetensors", "--data", "data", expect=1)
    assert "vgg eval FILE --arch vgg11" in one_line(done.stderr), done.stderr
    done = run("eval", "bare.safetensors", "--data", "data", "--resize", 12, expect=2)
    assert "--arch or --blocks names the network" in one_line(done.stderr), done.stderr
    done = run("eval", "out", *named, expect=2)
    assert "leave out the flags that say it too" in one_line(done.stderr), done.stderr
    done = run("eval", "bare.safetensors", "--data", "data", *named, "--hidden", 17, expect=1)
    assert "fc" in one_line(done.stderr), done.stderr
    with open("net.pth", "wb") as file:
        file.write(b"PK\x03\x04" + bytes(100))
    for more in ([], named):
        done = run("eval", "net.pth", "--data", "data", *more, expect=1)
        assert "safetensors.torch.save_file" in one_line(done.stderr), done.stderr
    assert run("info", "bare.safetensors", expect=1).stderr.count("--arch vgg11") == 1


def test_data_of_a_run():
    """A run's own folder, or an error: other images are not taken in its place."""
    make_data("data")
    train("data", "out")
    assert evaluate("out")["data"].endswith("/data")
    assert "images in " + os.path.realpath("data") in run("eval", "out").stdout
    os.rename("data", "moved")
    for what in ("out", "out/best", "out/last", "out/best/weights.safetensors"):
        done = run("eval", what, expect=1)
        assert "say with --data DIR where it is now" in one_line(done.stderr), done.stderr
    assert evaluate("out", "--data", "moved")["data"] == "moved"
    with open("out/args.json", "w", encoding="ascii") as file:
        file.write("rubbish")
    done = run("eval", "out", expect=1)
    assert "args.json is damaged" in one_line(done.stderr), done.stderr
    evaluate("out", "--data", "moved")


def test_figures():
    make_data("data")
    train("data", "out")
    result = evaluate("out")
    assert result["weights"] == "out/best/weights.safetensors"
    train("data", "part", "--steps", 20)
    assert evaluate("part")["epochs"] == "1" and evaluate("part/last")["epochs"] == "1.54"
    best = max((row for row in rows("out") if row["row"] == "epoch"),
               key=lambda row: row["test_accuracy"])
    assert close(result["accuracy"], best["test_accuracy"])
    half = evaluate("out", "--device", "cpu", "--weights", "bf16")
    assert (result["linear_weights"], half["linear_weights"]) == ("fp32", "bf16")
    assert 0 < abs(half["loss"] / result["loss"] - 1) < 0.02, (half["loss"], result["loss"])
    assert result["epochs"] == str(best["epoch"])
    assert close(result["loss"], best["test_loss"])
    assert close(result["macro_f1"], best["macro_f1"])
    matrix = result["confusion"]
    assert result["images"] == 60 == sum(map(sum, matrix))
    assert close(result["accuracy"], sum(matrix[i][i] for i in range(10)) / 60)
    scores = []
    for i, row in enumerate(result["classes"]):
        column = sum(line[i] for line in matrix)
        precision, recall = ratio(matrix[i][i], column), ratio(matrix[i][i], sum(matrix[i]))
        score = ratio(2 * precision * recall, precision + recall)
        assert row["name"] == CLASSES[i] and row["support"] == sum(matrix[i]) == 6
        assert close(row["precision"], precision) and close(row["recall"], recall)
        assert close(row["f1"], score)
        scores.append(score)
    assert close(result["macro_f1"], sum(scores) / 10)
    assert close(result["weighted"]["f1"], sum(scores) / 10)  # all supports are equal
    assert result["accuracy"] <= result["top5"] <= 1
    assert 0.5 < result["macro_auc"] <= 1


def test_text():
    make_data("data")
    train("data", "out")
    text = run("eval", "out").stdout
    for fragment in ("accuracy 0.", "top-5", "macro ROC AUC", "precision", "support",
                     "ankle boot", "macro mean", "weighted mean", "confusion matrix"):
        assert fragment in text, text
    lines = text.splitlines()
    assert re.fullmatch(r"out/best/weights.safetensors, trained for [123] epochs?", lines[0])
    first = next(i for i, line in enumerate(lines) if line.startswith("confusion")) + 2
    matrix = [[int(cell) for cell in line.split()[-10:]] for line in lines[first:first + 10]]
    assert matrix == evaluate("out")["confusion"]
    assert len({len(line) for line in lines[first:first + 10]}) == 1, "not aligned"


def test_every_way_to_name_the_weights():
    make_data("data")
    train("data", "out", "--resize", "16x14", "--crop", "12")
    best = evaluate("out")
    assert evaluate("out/best")["confusion"] == best["confusion"]
    file = evaluate("out/best/weights.safetensors", "--data", "data")
    assert file["confusion"] == best["confusion"]
    assert evaluate("out", "--split", "train")["images"] == 200
    assert evaluate("out", "--batch", 7, "--threads", 1)["accuracy"] == best["accuracy"]
    last = evaluate("out/last")
    assert close(last["accuracy"], rows("out")[-1]["test_accuracy"])
    os.chdir("out")
    assert evaluate(".")["confusion"] == best["confusion"]
    os.chdir("..")
    text = run("info", "out").stdout
    assert "16x14" in text and "ankle boot" in text, text


def with_metadata(source, target, **changes):
    """A copy of a safetensors file with other strings in it."""
    with open(source, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        rest = file.read()
    for key, value in changes.items():
        header["__metadata__"]["app." + key] = value
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + rest)
    return target


def test_metadata_is_not_trusted():
    make_data("data")
    train("data", "out")
    source = "out/best/weights.safetensors"
    same = with_metadata(source, "same.safetensors")
    assert evaluate(same, "--data", "data")["confusion"] == evaluate("out")["confusion"]
    for key, value, fragment in (
            ("mean", "0.1 0.2", "1 numbers"), ("std", "", "1 numbers"), ("std", "0", "numbers"),
            ("resize", "wide", "app.resize is 'wide'"), ("dataset", "\033[2J", "\\x1b[2J"),
            ("classes", "\n".join("abcdefghijk"), "11 names")):
        bad = with_metadata(source, "bad.safetensors", **{key: value})
        done = run("eval", bad, "--data", "data", expect=1)
        assert fragment in one_line(done.stderr), (key, done.stderr)
    bad = with_metadata(source, "bad.safetensors", dataset="\033[2J", classes="a\nb\033c")
    shown = run("info", bad).stdout
    assert "\033" not in shown and "\\x1b[2J" in shown and "a, b\\x1bc" in shown, shown


def test_refusals():
    make_data("data")
    train("data", "out", "--steps", 2)
    shutil.move("data", "gone")
    done = run("eval", "out", "--data", "data", expect=1)
    assert "dataset-fashion-mnist" in one_line(done.stderr), done.stderr
    with open("bad.safetensors", "wb") as file:
        file.write(b"\xff" * 64)
    line = one_line(run("eval", "bad.safetensors", expect=1).stderr)
    assert line.count("bad.safetensors") == 1, line


if __name__ == "__main__":
    trainer.main(globals())
