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


def bench_stages(result, mode):
    """Each stage and each part of a step once, in order, and together about the step."""
    stages = result["stages"]
    assert [s["name"] for s in stages] == ["conv1_1..pool1", "conv2_1..pool2", "fc6..relu6",
                                           "fc7..relu7", "fc8"], stages
    conv, fc8 = stages[0], stages[-1]
    assert (conv["kind"], fc8["kind"]) == ("conv", "linear") and conv["algorithm"], stages
    assert conv["in"] == [4, 1, 16, 16] and conv["out"] == [4, 8, 8, 8], conv
    assert fc8["in"] == [4, 16] and fc8["out"] == [4, 10], fc8
    assert abs(conv["forward_gflop"] - 4 * 2 * 8 * 9 * 256 / 1e9) < 1e-12, conv
    parts = [result[f"{name}_s"] for name in ("input", "prepare", "loss", "update", "other")]
    assert min(parts) >= 0, parts
    assert all(s["forward_s"] > 0 and 0 < s["share"] < 1 for s in stages), stages
    training = mode == "train"
    assert all((s["backward_s"] > 0) == training for s in stages), stages
    assert (result["update_s"] > 0) == training and (result["loss_s"] > 0) == training, result
    done = sum(s["forward_gflop"] + s["backward_gflop"] for s in stages)
    assert abs(done / 4 - result["gflop_per_image"]) < 1e-12, result
    machine = result["machine"]
    assert machine["processors"] >= 1 and machine["memory_bytes"] > 1 << 20, machine
    assert machine["architecture"] and isinstance(machine["processor"], str), machine


def bench_adds_up(result):
    """Of one step alone, the parts are the whole: nothing is left out or counted twice."""
    spent = sum(s["forward_s"] + s["backward_s"] for s in result["stages"])
    spent += sum(result[f"{name}_s"] for name in ("input", "prepare", "loss", "update", "other"))
    assert result["steps"] == 1 and abs(spent - result["median_step_s"]) < 1e-9, result
    assert abs(sum(s["prepare_s"] for s in result["stages"]) - result["prepare_s"]) < 1e-9


def bench_text(text, mode):
    """A table with straight columns on a terminal of 100, and the summary below it."""
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100, text
    head = next(i for i, line in enumerate(lines) if line.startswith("stage "))
    end = next(i for i, line in enumerate(lines) if line.startswith("step "))
    assert ("backward" in lines[head - 1]) == (mode == "train"), text
    table = lines[head:end + 1]
    assert len({len(line) for line in table}) == 1, text
    shares = [line.split()[-1] for line in table[1:]]
    assert all(share.endswith("%") for share in shares) and shares[-1] == "100.0%", text
    names = [line.split()[0] for line in table[1:]]
    assert names[:2] == ["conv1_1..pool1", "conv2_1..pool2"], text
    assert ("update" in names) == ("loss" in names) == (mode == "train"), text
    assert lines[end + 1] == "" and "images/s, median step" in lines[end + 2], text
    assert "GFLOP an image), plan" in lines[end + 3], text


def bench_plan(result, text):
    """The plan's lines: device, batch, each stage with its algorithm, memory; in text with
    --plan the same, at the end."""
    plan = result["plan"]
    assert plan[0] == f"device {result['name']}: {result['device']}", plan
    assert plan[1].startswith(f"batch 4, {result['mode']}"), plan
    stages = [s["name"] for s in result["stages"]] + ["loss"]
    assert [line.split()[0] for line in plan[2:-1]] == stages, plan
    assert all(line.endswith(s["algorithm"]) for line, s in zip(plan[2:], result["stages"]))
    assert plan[-1].startswith("plan: ") and plan[-1].endswith(" MiB"), plan
    assert text.endswith("\n\n" + "".join(line + "\n" for line in plan)), text


def test_bench():
    small = ["--blocks", "1x8,1x8", "--resize", "16", "--hidden", 16, "--batch", 4,
             "--dropout", 0, "--device", "cpu"]
    for mode in ("train", "infer"):
        result = sole_object(run("bench", *small, "--mode", mode, "--steps", 5, "--warmup", 1,
                                 "--format", "json").stdout)
        assert result["engine"] == "cpu" and result["steps"] == 5
        assert 0 < result["median_step_s"] <= result["p95_step_s"]
        assert result["images_per_s"] > 0 and result["peak_rss_bytes"] > 1 << 20
        _, macs = counted([(1, 8), (1, 8)], 16, 1, 16, 10)
        first = 8 * 9 * 16 * 16
        work = 2 * (macs if mode == "infer" else 3 * macs - first)
        assert abs(result["gflop_per_image"] - work / 1e9) < 1e-12, result
        assert abs(result["gflops"] / result["images_per_s"] - work / 1e9) < 1e-9, result
        assert 4 * 4 * 8 * 8 * 8 < result["plan_bytes"] < 1 << 24, result  # conv1_1's output
        bench_stages(result, mode)
        bench_text(run("bench", *small, "--mode", mode, "--steps", 5).stdout, mode)
        text = run("bench", *small, "--mode", mode, "--steps", 5, "--no-stages").stdout
        assert "images/s, median step" in text and "share" not in text, text
        assert result["linear_weights"] == "fp32" and "linear weights" not in text
        assert len(text.splitlines()) == 5, text
        for more in ([], ["--no-stages"]):
            bench_plan(result, run("bench", *small, "--mode", mode, "--steps", 5, "--plan",
                                   *more).stdout)
        bench_adds_up(sole_object(run("bench", *small, "--mode", mode, "--steps", 1,
                                      "--format", "json").stdout))
    text = run("bench", "--blocks", "1x8", "--bn", "--hidden", 0, "--resize", 100, "--batch", 1,
               "--device", "ref", "--steps", 1).stdout
    assert "two passes over a cha..." in text and max(map(len, text.splitlines())) <= 100, text
    text = run("bench", "--blocks", "1x8", "--bn", "--hidden", 0, "--resize", 100, "--batch", 1,
               "--device", "ref", "--steps", 1, "--plan").stdout
    assert "  two passes over a channel\n" in text, text
    half = ["--mode", "infer", "--weights", "bf16", "--steps", 3]
    result = sole_object(run("bench", *small, *half, "--format", "json").stdout)
    assert result["linear_weights"] == "bf16" and result["precision"] == "fp32"
    assert "fp32, linear weights in bf16\n" in run("bench", *small, *half).stdout
    trainer.make_data("data")
    result = sole_object(run("bench", "--blocks", "1x8", "--hidden", 16, "--batch", 8,
                             "--steps", 30, "--data-loading", "--data", "data", "--device", "ref",
                             "--format", "json").stdout)
    assert result["data_loading"] is True and result["engine"] == "ref"
    assert result["stages"][0]["name"] == "conv1_1" and result["update_s"] > 0, result


if __name__ == "__main__":
    trainer.main(globals())
