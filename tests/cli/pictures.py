#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pictures of one's own: folders of them as a data set, and predict.

They are written as PNM, which every build reads; PNG and JPEG are the unit tests'."""
import json
import os
import random
import shutil
import struct

import trainer
from trainer import make_data, one_line, run, same_run, sole_object, weights

KINDS = ("across", "down", "plain")  # sorted, as the classes are

SMALL = ["--blocks", "1x8,1x12", "--hidden", "16", "--batch", "8", "--lr", "0.03",
         "--momentum", "0.9", "--flip", "0.5", "--shift", "1", "--init", "he", "--epochs", "4",
         "--dataset", "folder", "--resize", "16", "--device", "cpu", "--normalize", "imagenet"]


def draw(kind, seed):
    """A picture of one of three kinds, of a size of its own: (height, width, rgb bytes)."""
    of = random.Random(seed)
    height, width = of.randrange(16, 40), of.randrange(16, 40)
    dark, light = of.randrange(60), of.randrange(180, 256)
    rgb = bytearray()
    for y in range(height):
        for x in range(width):
            on = {"across": y * 6 // height, "down": x * 6 // width, "plain": 0}[kind] % 2
            rgb += bytes(max(0, (light if on else dark) - of.randrange(20)) for _ in range(3))
    return height, width, bytes(rgb)


def write(path, height, width, pixels, kind="P6"):
    with open(path, "wb") as file:
        file.write(f"{kind}\n{width} {height}\n255\n".encode() + pixels)


def make_pictures(folder, train=16, test=6, names=("train", "test")):
    for split, count, seed in ((names[0], train, 0), (names[1], test, 1000)):
        for kind in KINDS:
            os.makedirs(f"{folder}/{split}/{kind}")
            for i in range(count):
                write(f"{folder}/{split}/{kind}/{i:03}.ppm", *draw(kind, f"{kind}{seed + i}"))
    return folder


def train(out, *more, expect=0, data="pics"):
    return run("train", *SMALL, "--data", data, "--out", out, *more, expect=expect)


def predict(*args, expect=0):
    return sole_object(run("predict", *args, "--format", "json", expect=expect).stdout)


def hits(pictures):
    """How many have their folder's name as likeliest class."""
    return sum(p["classes"][0]["name"] == p["file"].split("/")[-2] for p in pictures)


def seen_images():
    """What the run `out` sees in the test images of `data`, each saved as a picture."""
    with open("data/t10k-images-idx3-ubyte", "rb") as file:
        count, height, width = struct.unpack(">4x3I", file.read(16))
        for i in range(count):
            write(f"{i:02}.pgm", height, width, file.read(height * width), "P5")
    return predict("out", *(f"{i:02}.pgm" for i in range(count)))["pictures"]


def test_from_pictures_to_predictions():
    make_pictures("pics")
    for junk in ("pics/train/across/.hidden.ppm", "pics/train/across/notes.txt",
                 "pics/train/README"):
        with open(junk, "w", encoding="ascii") as file:
            file.write("no picture")
    os.mkdir("pics/train/.cache")
    os.mkdir("pics/train/across/more.ppm")  # a folder, whatever its name ends with
    log = train("out").stderr
    assert "pics: 2 files are no " in log and ", left out" in log, log
    assert "on pics:" in log and "48 training and 18 test images" in log, log
    result = sole_object(run("eval", "out", "--format", "json").stdout)
    assert [row["name"] for row in result["classes"]] == list(KINDS)
    assert result["accuracy"] > 0.7, result["accuracy"]
    seen = predict("out", *(f"pics/test/{kind}" for kind in KINDS), "--top", 9)
    assert seen["weights"] == "out/best/weights.safetensors" and len(seen["pictures"]) == 18
    assert hits(seen["pictures"]) == round(18 * result["accuracy"])
    for picture in seen["pictures"]:
        rows = picture["classes"]
        assert sorted(row["index"] for row in rows) == [0, 1, 2]
        assert all(KINDS[row["index"]] == row["name"] for row in rows)
        chances = [row["probability"] for row in rows]
        assert chances == sorted(chances, reverse=True) and abs(sum(chances) - 1) < 1e-12
    text = run("predict", "out", "pics/test/down/000.ppm", "pics/test/plain/").stdout
    lines = text.splitlines()
    assert len(lines) == 7 and lines[0].split()[0] == "pics/test/down/000.ppm", text
    assert lines[1].split()[0] == "pics/test/plain/000.ppm" and len(lines[1].split()) == 7, text
    best = seen["pictures"][6]["classes"][0]  # the first of down
    assert lines[0].split()[1:3] == [best["name"], f"{best['probability']:.4f}"], text
    assert "fit              cover" in run("info", "out").stdout


def test_one_picture_at_a_time_or_all():
    """A short batch is computed with other sums, and with nothing else."""
    make_pictures("pics", train=4, test=14)
    train("out", "--epochs", 1)
    files = [f"pics/test/{kind}/{i:03}.ppm" for kind in KINDS for i in range(14)]
    together = predict("out", *files)["pictures"]  # 42: a batch and a part of one
    assert [p["file"] for p in together] == files
    for i in (0, 20, 41):
        alone = predict("out", files[i])["pictures"][0]
        for a, b in zip(alone["classes"], together[i]["classes"]):
            assert a["name"] == b["name"] and abs(a["probability"] - b["probability"]) < 1e-5


def test_stopped_and_resumed():
    make_pictures("pics")
    train("whole")
    train("parts", "--steps", 9)
    run("train", "--resume", "parts")
    same_run("whole", "parts")
    train("threads", "--threads", 1)
    same_run("whole", "threads")
    shutil.copytree("whole", "changed")
    os.rename("pics/train/down/003.ppm", "pics/train/down/3.ppm")
    done = run("train", "--resume", "changed", "--epochs", 5, expect=1)
    assert "other pictures than changed was trained with" in one_line(done.stderr), done.stderr
    assert weights("changed") == weights("whole")
    os.rename("pics/train/down/3.ppm", "pics/train/down/003.ppm")

    def refused():
        done = run("train", "--resume", "changed", "--epochs", 5, expect=1)
        assert "other pictures than changed" in one_line(done.stderr), done.stderr

    os.rename("pics/test/down/003.ppm", "pics/test/down/3.ppm")
    refused()
    os.rename("pics/test/down/3.ppm", "pics/test/down/003.ppm")
    more = [f"pics/train/down/{i}.ppm" for i in range(200, 220)]
    for path in more:  # so many that an epoch has other batches
        shutil.copy("pics/train/down/003.ppm", path)
    refused()
    for path in more:
        os.remove(path)
    run("train", "--resume", "changed", "--epochs", 5)
    done = run("train", "--resume", "parts", "--fit", "stretch", expect=2)
    assert "--fit stretch: the run being resumed has cover" in one_line(done.stderr), done.stderr


def test_kept_or_read_again():
    """What is kept of the pictures changes no result, nor does a part of it."""
    make_pictures("pics")
    train("kept")
    for cache in (0, 1):
        train(f"cache-{cache}", "--cache", cache)
        same_run("kept", f"cache-{cache}")
    make_pictures("large", train=180, test=2)  # at 64x64 more than a megabyte holds
    for cache in (0, 1):
        train(f"large-{cache}", "--resize", 64, "--epochs", 2, "--lr", 0.001, "--cache", cache,
              data="large")
    same_run("large-0", "large-1")


def test_a_crop_of_images_as_they_are():
    """Training cut the middle out of its images: so does predict."""
    make_data("data")
    trainer.train("data", "out", "--crop", 8, "--resize", 0)
    result = sole_object(run("eval", "out", "--format", "json").stdout)
    seen = seen_images()
    right = sum(p["classes"][0]["index"] == i % 10 for i, p in enumerate(seen))
    assert right == round(len(seen) * result["accuracy"])
    assert "image            12x12" in run("info", "out").stdout


def test_gray_and_other_shapes():
    make_pictures("pics", names=("train", "val"))
    train("gray", "--channels", 1, "--normalize", "mnist")
    assert "input (1, 1, 16, 16)" in run("info", "gray").stdout
    train("wide", "--resize", "12x24", "--fit", "stretch", "--crop", "12x20")
    assert "input (1, 3, 12, 20)" in run("info", "wide").stdout
    for out in ("gray", "wide"):
        result = sole_object(run("eval", out, "--format", "json").stdout)
        seen = predict(out, *(f"pics/val/{kind}" for kind in KINDS))["pictures"]
        assert hits(seen) == round(18 * result["accuracy"]), out
    train("cover", "--resize", "12x24", "--crop", "12x20")
    assert weights("cover") != weights("wide")


def test_weights_of_a_known_data_set():
    """An image of the data set, saved as a picture, is seen as it was in training."""
    make_data("data")
    trainer.train("data", "out")
    result = sole_object(run("eval", "out", "--format", "json").stdout)
    seen = seen_images()
    right = sum(p["classes"][0]["index"] == i % 10 for i, p in enumerate(seen))
    assert right == round(len(seen) * result["accuracy"])
    assert seen[0]["classes"][0]["name"] in {row["name"] for row in result["classes"]}


def test_weights_from_elsewhere():
    make_pictures("pics")
    train("out")
    source = "out/best/weights.safetensors"
    with open(source, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header, rest = json.loads(file.read(size)), file.read()
    del header["__metadata__"]
    text = json.dumps(header).encode()
    with open("bare.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + rest)
    with open("names.txt", "w", encoding="ascii") as file:
        file.write("".join(f"{kind}\r\n" for kind in KINDS))
    named = ["--blocks", "1x8,1x12", "--hidden", 16, "--channels", 3, "--classes", 3,
             "--resize", 16, "--resize-rule", "pillow", "--normalize", "imagenet"]
    picture = "pics/test/down/002.ppm"
    os.mkfifo("pipe")
    whole = predict("out", picture)["pictures"]
    assert predict("bare.safetensors", picture, *named, "--names", "names.txt")["pictures"] == whole
    rule = named.index("--resize-rule")  # which is that of pictures anyway
    brief = named[:rule] + named[rule + 2:]
    assert predict("bare.safetensors", picture, *brief, "--names", "names.txt")["pictures"] == whole
    plain = predict("bare.safetensors", picture, *named)["pictures"][0]["classes"]
    assert [row["name"] for row in plain] == [str(row["index"]) for row in plain]
    assert [row["probability"] for row in plain] == [
        row["probability"] for row in whole[0]["classes"]]
    result = sole_object(run("eval", "bare.safetensors", "--dataset", "folder", "--data", "pics",
                             "--format", "json", *brief).stdout)
    assert [row["name"] for row in result["classes"]] == list(KINDS)
    pictures = ["--dataset", "folder", "--data", "pics", *named]
    shutil.rmtree("pics/test/across")  # now the first folder is not the first output
    done = run("eval", "bare.safetensors", *pictures, expect=1)
    assert "3 outputs, and pics folders of 2 classes" in one_line(done.stderr), done.stderr
    part = sole_object(run("eval", "bare.safetensors", *pictures, "--names", "names.txt",
                           "--format", "json").stdout)
    for a, b in zip(part["classes"][1:], result["classes"][1:]):
        assert (a["name"], a["recall"]) == (b["name"], b["recall"])
    for args, status, fragment in (
            ([picture], 1, "`vgg predict FILE --arch vgg11`"),
            ([picture, *named, "--names", "nowhere"], 1, "nowhere"),
            ([picture, *named, "--names", "pipe"], 1, "no file"),
            ([picture, *named, "--names", "pics/test/down/000.ppm"], 1, "4 names, and the network has 3"),
            ([picture, "--resize", 16], 2, "names the network")):
        done = run("predict", "bare.safetensors", *args, expect=status)
        assert fragment in one_line(done.stderr) and done.stdout == "", done.stderr
    done = run("predict", "out", picture, "--names", "names.txt", expect=2)
    assert "names of their own" in one_line(done.stderr), done.stderr


def test_pictures_that_cannot_be_read():
    """In training the picture is named; predict goes on with the others."""
    make_pictures("pics")
    train("out", "--epochs", 1)
    with open("pics/train/down/004.ppm", "r+b") as file:
        file.truncate(100)
    for where in ("broken", "again"):
        line = train(where, "--quiet", expect=1).stderr
        assert "train/down/004.ppm: PNM: " in one_line(line), line
        assert f"go on with: vgg train --resume {where}" in line, line
    sound = draw("down", "down4")
    write("pics/train/down/004.ppm", *sound)  # and so it does
    run("train", "--resume", "broken")
    train("never")
    same_run("broken", "never")
    with open("pics/train/down/004.ppm", "r+b") as file:
        file.truncate(100)
    shutil.copytree("pics", "other")
    with open("other/test/plain/001.ppm", "wb"):
        pass
    write("other/train/down/004.ppm", *sound)
    line = train("tested", "--quiet", data="other", expect=1).stderr
    assert "test/plain/001.ppm: empty" in one_line(line), line
    write("other/test/plain/001.ppm", 2, 5000, bytes(30000))
    line = train("narrow", "--quiet", data="other", expect=1).stderr
    assert "at most 32768 a side; --fit stretch takes it" in one_line(line), line
    train("stretched", "--fit", "stretch", data="other")
    os.mkfifo("pics/test/down/pipe.ppm")  # nobody writes to it
    line = run("eval", "out", expect=1).stderr
    assert "down/pipe.ppm: it is no file" in one_line(line), line
    done = run("predict", "out", "pics/test/down/000.ppm", "nowhere.png",
               "pics/train/down/004.ppm", "pics/test/down", expect=1)
    assert done.stdout.count("\n") == 7, done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and lines[0].startswith("vgg: nowhere.png: No such file"), lines
    assert "pipe.ppm: it is no file" in lines[2], lines
    seen = predict("out", "nowhere.png", "pics/test/down/000.ppm", expect=1)["pictures"]
    assert seen[0]["error"].startswith("No such file") and seen[0]["classes"] == []
    assert "error" not in seen[1] and len(seen[1]["classes"]) == 3


def test_wrong_folders():
    make_pictures("pics", train=4, test=2)
    train("out", "--epochs", 1)

    def changed(name, *changes):
        shutil.copytree("pics", name)
        for call, *args in changes:
            call(*(f"{name}/{arg}" for arg in args))
        return name

    cases = [
        (changed("split", (shutil.rmtree, "train")), "split has no folder train: expected are"),
        (changed("tests", (shutil.rmtree, "test")), "no folder test, and no val"),
        (changed("empty", (shutil.rmtree, "train/down"), (os.mkdir, "train/down")),
         "empty/train/down: no pictures in it"),
        (changed("alone", (shutil.rmtree, "train/down"), (shutil.rmtree, "train/across")),
         "alone/train has one folder alone"),
        (changed("flat", *((shutil.rmtree, f"train/{kind}") for kind in KINDS)),
         "flat/train has no folders"),
        (changed("other", (os.rename, "test/down", "test/up")),
         "other/test/up: training had no class of this name, but across, down, plain"),
        (changed("bare", *((shutil.rmtree, f"test/{kind}") for kind in KINDS)),
         "bare/test: no pictures"),
        (changed("break", (os.rename, "train/down", "train/do\nwn")), "is printable UTF-8"),
        (changed("latin", (os.rename, "train/down", "train/do\udcffwn")),
         "train/do\\xffwn: a class's name is printable UTF-8"),
    ]
    for i in range(700):
        os.makedirs(f"many/train/{'x' * 100}{i}")
    cases.append(("many", "the names of its 700 folders take"))
    for data, fragment in cases:
        line = train("none", expect=1, data=data).stderr
        assert fragment in one_line(line), (fragment, line)
        assert not os.path.exists("none")
    line = run("eval", "out", "--data", "other", expect=1).stderr
    assert "up: training had no class of this name" in one_line(line), line
    changed("fewer", (shutil.rmtree, "test/down"))  # of the test images some may lack
    assert '"images": 4,' in run("eval", "out", "--data", "fewer", "--format", "json").stdout
    for args, fragment in (
            (["--resize", "0"], "--resize N[xM]"), (["--channels", "2"], "gray (1) or in colour"),
            (["--dataset", "mnist", "--fit", "stretch"], "--fit is of pictures"),
            (["--preset", "quick", "--resize", "0"], "pictures have many sizes"),
            (["--fit", "crop"], "cover, stretch")):
        line = train("none", *args, expect=2).stderr
        assert fragment in one_line(line), line
    line = run("train", "--dataset", "folder", expect=1).stderr
    assert "--data DIR" in one_line(line), line
    for args in ([], ["out"]):
        line = run("predict", *args, expect=2).stderr
        assert "and then pictures" in one_line(line), line
    for args in (["bench", "--fit", "stretch"], ["info", "--dataset", "folder", "--preset", "quick"]):
        line = run(*args, expect=2).stderr
        assert "pictures" in one_line(line), line
    line = run("predict", "out", "pics/test", expect=1).stderr
    assert "folders within it are not entered" in one_line(line), line
    os.mkdir("nothing")
    line = run("predict", "out", "nothing", expect=1).stderr
    assert "nothing: no pictures in it" in one_line(line), line


trainer.main(globals())
