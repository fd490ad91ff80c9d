# SPDX-License-Identifier: Apache-2.0
"""Which rows there are, and who takes part in each.

peak/      what the machine could do
train/     a training step of the main job, and each way that PyTorch has
infer-*/   inference, and each peer
conv-*/    each convolution of the main job beside oneDNN's: forward, data, weights
scaling/   the training step at some and at one thread
"""
import os
import pathlib
import shutil
import subprocess

from contest import OURS, STORED_BF16, Bench, Program, Waiting

ROOT = pathlib.Path(__file__).resolve().parents[2]
TORCH_ROWS = {  # their names to a reader
    "eager-nchw": "PyTorch, eager, NCHW", "eager-channels-last": "PyTorch, eager, channels last",
    "eager-strides-last": "PyTorch, eager, channels last in strides",
    "compiled-channels-last": "PyTorch, compiled, channels last",
    "bf16-channels-last": "PyTorch, eager, channels last, bf16"}
RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO",
            "openvino-bf16": "OpenVINO, bf16", "ncnn": "ncnn", "mnn": "MNN"}
VGG16 = ["--arch", "vgg16", "--channels", "3", "--classes", "1000", "--resize", "224"]
NETS = {"main": [], "vgg16": VGG16}
INFER = {  # net, batch, steps of a turn
    "infer-vgg11-b32": ("main", 32, 10), "infer-vgg11-b1": ("main", 1, 40),
    "infer-vgg16-b1": ("vgg16", 1, 8), "infer-vgg16-b16": ("vgg16", 16, 3)}
STAGES = (  # ic, oc, side, pooled: the convolutions of VGG-11 / 4 at 224x224
    (1, 16, 224, True), (16, 32, 112, True), (32, 64, 56, False), (64, 64, 56, True),
    (64, 128, 28, False), (128, 128, 28, True), (128, 128, 14, False), (128, 128, 14, True))
PASSES = ("forward", "data", "weights")


class Places:
    """Where the programs are, and how they are shown."""

    def __init__(self, args, folder):
        self.args, self.folder = args, pathlib.Path(folder)
        self.vgg = args.build / "examples/vgg/vgg"
        self.stages = args.build / "tests/bench/bench-stages"
        self.python = args.peers / "bin/python"

    def compile(self, source, flags):
        """A program of tests/bench that the build does not have."""
        program = self.folder / pathlib.Path(source).stem.replace("_", "-")
        if not program.exists():
            command = [shutil.which("cc") or "cc", "-O2", "-D_GNU_SOURCE",
                       ROOT / "tests/bench" / source, "-o", program, *flags]
            subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
        return program

    def peak(self):
        return self.compile("peak.c", ["-march=native", "-pthread"])

    def onednn(self):
        lib = self.args.peers / "lib"
        return self.compile("onednn_conv.c", [
            f"-I{self.args.peers / 'include'}", f"-L{lib}", "-ldnnl",
            "-Wl,--allow-shlib-undefined", f"-Wl,--disable-new-dtags,-rpath,{lib}"])


def bench(places, name, mode, net, sizes):
    """`vgg bench`; sizes are batch, steps and threads."""
    batch, steps, threads = sizes
    flags = ["bench", "--mode", mode, *net, "--batch", batch, "--steps", steps, "--warmup", 1,
             "--device", "cpu", "--threads", threads, "--format", "json"]
    if name == STORED_BF16:
        flags += ["--weights", "bf16"]
    words = [str(word) for word in flags]
    return Bench(name, [places.vgg, *words], "vgg " + " ".join(words))


def waiting(places, name, script, flags, steps):
    words = [str(word) for word in flags]
    return Waiting(name, [places.python, "-B", ROOT / "tests/bench" / script, *words],
                   f"python3 tests/bench/{script} " + " ".join(words), steps)


def training(args, places):
    sizes = (args.train_batch, args.steps or 4, args.threads)
    for row, name in TORCH_ROWS.items():
        flags = ["--row", row, "--mode", "train", "--batch", sizes[0], "--threads", sizes[2]]
        yield ({"row": f"train/{row}", "peer": name, "batch": sizes[0],
                "counts": not row.startswith("bf16")},
               lambda flags=flags, name=name: [
                   bench(places, OURS, "train", [], sizes),
                   waiting(places, name, "torch_cpu.py", flags, sizes[1])])


def inference(args, places):
    for group, (net, batch, steps) in INFER.items():
        sizes = (batch, args.steps or steps, args.threads)
        peers = {f"torch-{row}": ("torch_cpu.py", ["--mode", "infer", "--row", row], name)
                 for row, name in TORCH_ROWS.items() if not row.startswith("bf16")
                 and (row != "eager-strides-last" or net == "main")}  # of one channel
        peers.update({row: ("infer_peers.py", ["--row", row], name)
                      for row, name in RUNTIMES.items() if row != "ncnn" or batch == 1})
        for row, (script, flags, name) in peers.items():
            flags = [*flags, "--net", net, "--batch", batch, "--threads", args.threads]
            yield ({"row": f"{group}/{row}", "peer": name, "batch": batch,
                    "counts": not row.endswith("bf16")},
                   lambda net=net, sizes=sizes, script=script, flags=flags, name=name: [
                       bench(places, OURS, "infer", NETS[net], sizes),
                       bench(places, STORED_BF16, "infer", NETS[net], sizes),
                       waiting(places, name, script, flags, sizes[1])])


def onednn(args, places, words):
    """The peer's own settings: how many threads, and where its runtime for processors is."""
    mine = sorted(os.sched_getaffinity(0))
    pin = []
    if args.threads < len(mine):
        pin = ["taskset", "-c", ",".join(map(str, mine[:args.threads]))]
    settings = {"OMP_NUM_THREADS": str(args.threads)}
    runtime = args.peers / "lib/libintelocl.so"
    env = {**os.environ, **settings}
    if runtime.exists():
        env["OCL_ICD_FILENAMES"] = str(runtime)
    return Program("oneDNN", [*pin, places.onednn(), *words],
                   " ".join([*(f"{k}={v}" for k, v in settings.items()), *pin, "onednn-conv",
                             *words]), env)


def convolutions(args, places):
    for kind in PASSES:
        for number, (ic, oc, side, pooled) in enumerate(STAGES):
            if kind == "data" and number == 0:
                continue  # nobody asks for the gradient of the images
            repeats = str(args.steps or 5)
            words = [kind, *map(str, (ic, oc, side, side, args.conv_batch))]
            ours = [*words, *(["--pool"] if pooled else []), "--threads", str(args.threads),
                    "--repeats", repeats]
            name = f"{ic} to {oc} at {side}" + (", pooled" if pooled else "")
            yield ({"row": f"conv-{kind}/{number + 1}", "stage": name, "peer": "oneDNN",
                    "batch": args.conv_batch, "counts": True},
                   lambda words=words, ours=ours, repeats=repeats: [
                       Program(OURS, [places.stages, *ours], "bench-stages " + " ".join(ours)),
                       onednn(args, places, [*words, repeats])])


def scaling(args, places):
    batch, steps = args.train_batch, args.steps or 4
    name = "libvgg, 1 thread"
    if args.threads > 1:
        yield ({"row": f"scaling/{args.threads}-threads", "peer": name, "batch": batch,
                "counts": True},
               lambda: [bench(places, OURS, "train", [], (batch, steps, args.threads)),
                        bench(places, name, "train", [], (batch, steps, 1))])


class Peak(Program):
    def read(self, found):
        return {**found, "seconds": None}


def peaks(args, places):
    for threads in sorted({1, args.threads}):
        yield ({"row": f"peak/{threads}", "threads": threads, "counts": True},
               lambda threads=threads: [Peak("peak", [places.peak(), str(threads)],
                                             f"peak {threads}")])


def every(args, places):
    """(what a row is known by, a function that gives its contestants)."""
    for plan in (peaks, training, scaling, inference, convolutions):
        yield from plan(args, places)
