#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""info, devices and bench: the chapter's table, counts by hand, fixed keys."""
import trainer
from trainer import run, sole_object

RATIO_4 = ["(1, 16, 112, 112)", "(1, 32, 56, 56)", "(1, 64, 28, 28)", "(1, 128, 14, 14)",
           "(1, 128, 7, 7)", "(1, 4096)", "(1, 4096)", "(1, 10)"]
RATIO_1 = ["(1, 64, 112, 112)", "(1, 128, 56, 56)", "(1, 256, 28, 28)", "(1, 512, 14, 14)",
           "(1, 512, 7, 7)", "(1, 4096)", "(1, 4096)", "(1, 10)"]
NAMES = ["block1", "block2", "block3", "block4", "block5", "fc6", "fc7", "fc8"]


def counted(blocks, size, channels, hidden, classes):
    """Parameters and multiply-accumulates of a VGG, from the definition."""
    parameters = macs = 0
    for convs, width in blocks:
        for _ in range(convs):
            parameters += width * channels * 9 + width
            macs += width * channels * 9 * size * size
            channels = width
        size //= 2
    features = channels * size * size
    for width in (hidden, hidden, classes):
        parameters += width * features + width
        macs += width * features
        features = width
    return parameters, macs


def shape_of(text):
    return [int(part) for part in text.strip("()").split(",")]


def test_chapter_table():
    text = run("info", "--preset", "d2l").stdout
    found = [line[11:31].strip() for line in text.splitlines()
             if line.startswith(("block", "fc"))]
    assert found == RATIO_4, text
    assert text == run("info").stdout
    vgg11 = [(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]
    for ratio, table in ((4, RATIO_4), (1, RATIO_1)):
        info = sole_object(run("info", "--preset", "d2l", "--ratio", ratio, "--format",
                               "json").stdout)
        assert [block["shape"] for block in info["blocks"]] == list(map(shape_of, table))
        assert [block["name"] for block in info["blocks"]] == NAMES
        blocks = [(convs, width // ratio) for convs, width in vgg11]
        assert (info["parameters"], info["macs"]) == counted(blocks, 224, 1, 4096, 10)
        assert sum(block["parameters"] for block in info["blocks"]) == info["parameters"]
        assert sum(layer["macs"] for layer in info["layers"]) == info["macs"]
        assert ratio == 1 or info["parameters"] == 43093322


def test_other_networks():
    info = sole_object(run("info", "--arch", "B", "--ratio", 8, "--batch", 1, "--format",
                           "json").stdout)
    vgg13 = [(2, 8), (2, 16), (2, 32), (2, 64), (2, 64)]
    assert info["input"] == [1, 3, 224, 224]
    assert (info["parameters"], info["macs"]) == counted(vgg13, 224, 3, 4096, 1000)
    info = sole_object(run("info", "--blocks", "1x8,2x16", "--channels", 3, "--resize",
                           "32x24", "--classes", 7, "--hidden", 20, "--batch", 2, "--bn",
                           "--format", "json").stdout)
    shapes = [block["shape"] for block in info["blocks"]]
    assert shapes == [[1, 8, 16, 12], [1, 16, 8, 6], [1, 20], [1, 20], [1, 7]], shapes
    none = sole_object(run("info", "--blocks", "1x8", "--resize", 8, "--head", "none",
                           "--format", "json").stdout)
    assert [block["shape"] for block in none["blocks"]] == [[1, 8, 4, 4]]


def test_layers_and_memory():
    text = run("info", "--preset", "quick", "--layers", "--batch", 8).stdout
    for fragment in ("conv1_1", "features.0", "relu3_1", "classifier.", "MACs", "training"):
        assert fragment in text, text
    info = sole_object(run("info", "--preset", "quick", "--batch", 8, "--format",
                           "json").stdout)
    assert info["train_bytes"] > info["infer_bytes"] > 4 * info["parameters"]


def test_devices():
    found = sole_object(run("devices", "--format", "json").stdout)
    names = [device["name"] for device in found["devices"]]
    assert "cpu" in names and "ref" in names, names
    assert set(found) == {"devices", "refused", "openblas"}, found
    assert found["openblas"], "says which OpenBLAS, or why none"
    assert all(set(device) == {"name", "engine", "text"} for device in found["devices"])
    assert all(set(one) == {"engine", "reason"} for one in found["refused"])
    lines = run("devices").stdout.splitlines()
    assert lines[:len(names)] == [f"{device['name']:8} {device['text']}"
                                  for device in found["devices"]]
    assert len(lines) == len(names) + len(found["refused"]) + 1
    assert found["openblas"] in lines[-1]
    cpu = next(d for d in sole_object(run("devices", "--threads", 1, "--format", "json").stdout)
               ["devices"] if d["name"] == "cpu")
    assert "1 thread" in cpu["text"], cpu


def test_bench():
    small = ["--blocks", "1x8,1x8", "--resize", "16", "--hidden", 16, "--batch", 4,
             "--device", "cpu"]
    for mode in ("train", "infer"):
        result = sole_object(run("bench", *small, "--mode", mode, "--steps", 5, "--warmup", 1,
                                 "--format", "json").stdout)
        assert result["engine"] == "cpu" and result["steps"] == 5
        assert 0 < result["median_step_s"] <= result["p95_step_s"]
        assert result["images_per_s"] > 0 and result["peak_rss_bytes"] > 1 << 20
        text = run("bench", *small, "--mode", mode, "--steps", 5).stdout
        assert "images/s, median step" in text, text
        assert result["linear_weights"] == "fp32" and "linear weights" not in text
    half = ["--mode", "infer", "--weights", "bf16", "--steps", 3]
    result = sole_object(run("bench", *small, *half, "--format", "json").stdout)
    assert result["linear_weights"] == "bf16" and result["precision"] == "fp32"
    assert "fp32, linear weights in bf16\n" in run("bench", *small, *half).stdout
    trainer.make_data("data")
    result = sole_object(run("bench", "--blocks", "1x8", "--hidden", 16, "--batch", 8,
                             "--steps", 30, "--data-loading", "--data", "data", "--device", "ref",
                             "--format", "json").stdout)
    assert result["data_loading"] is True and result["engine"] == "ref"


if __name__ == "__main__":
    trainer.main(globals())
