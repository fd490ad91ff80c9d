#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peers of inference on a CPU: ONNX Runtime, OpenVINO, ncnn and MNN on the networks of
turns.py.

    infer_peers.py --row onnxruntime --net vgg16 --batch 1

One process is one row. PyTorch writes the network as ONNX first, in a process of its own. All
compute in fp32; OpenVINO also in bf16.
"""
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version

import numpy

import turns


def beside(name):
    """A program of this environment."""
    return os.path.join(os.path.dirname(sys.executable), name)


def quietly(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = ((done.stderr or done.stdout).strip().splitlines() or [""])[-1]
        raise RuntimeError(f"{os.path.basename(command[0])}: status {done.returncode}: {last}")


def write_onnx(args, path):
    import torch

    import torch_vgg
    torch.manual_seed(0)
    images = torch.rand(args.batch, args.channels, args.size, args.size)
    torch.onnx.export(torch_vgg.network(args).eval(), images, path, dynamo=False,
                      input_names=["x"], output_names=["y"])


def onnxruntime(args, path, images):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return ort.__version__, lambda: session.run(None, {"x": images})


def openvino(args, path, images):
    import openvino as ov
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {
        "INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if args.row.endswith("bf16") else "f32"})
    request = compiled.create_infer_request()
    return ov.__version__, lambda: request.infer({"x": images})


def ncnn(args, path, images):
    if args.batch != 1:
        raise RuntimeError("ncnn runs one image at a time")
    import ncnn as library
    shape = ",".join(map(str, images.shape))
    quietly(beside("pnnx"), path, "fp16=0", "optlevel=2", f"inputshape=[{shape}]")
    net = library.Net()
    net.opt.num_threads = args.threads
    for flag in ("use_fp16_storage", "use_fp16_arithmetic", "use_fp16_packed",
                 "use_bf16_storage"):
        setattr(net.opt, flag, False)
    base = path.removesuffix(".onnx")
    net.load_param(base + ".ncnn.param")
    net.load_model(base + ".ncnn.bin")
    image = library.Mat(images[0]).clone()  # or it would only point there
    source, sink = net.input_names()[0], net.output_names()[0]

    def step():
        extractor = net.create_extractor()
        extractor.input(source, image)
        return numpy.array(extractor.extract(sink)[1])
    return library.__version__, step


def mnn(args, path, images):
    import MNN
    from MNN import expr, nn
    out = path.removesuffix(".onnx") + ".mnn"
    quietly(beside("mnnconvert"), "-f", "ONNX", "--modelFile", path, "--MNNModel", out,
            "--bizCode", "x")
    runtime = nn.create_runtime_manager((
        {"backend": "CPU", "precision": "high", "numThread": args.threads},))
    net = nn.load_module_from_file(out, ["x"], ["y"], runtime_manager=runtime)
    given = expr.const(images.flatten().tolist(), list(images.shape), expr.NCHW)
    return version("MNN"), lambda: net.forward([given])[0].read()


ROWS = {"onnxruntime": onnxruntime, "openvino": openvino, "openvino-bf16": openvino,
        "ncnn": ncnn, "mnn": mnn}


def make(args):
    images = numpy.random.default_rng(0).random(
        (args.batch, args.channels, args.size, args.size), dtype=numpy.float32)
    path = os.path.join(args.folder, "net.onnx")
    quietly(sys.executable, *sys.argv, "--export", path)
    os.chdir(args.folder)  # where pnnx leaves its own files
    return ROWS[args.row](args, path, images)


def main():
    p = turns.arguments(__doc__, ROWS)
    p.add_argument("--export", help="only write the network there, as ONNX")
    args = turns.complete(p.parse_args())
    if args.export:
        write_onnx(args, args.export)
        return
    with tempfile.TemporaryDirectory() as args.folder:
        turns.serve(args, make)


if __name__ == "__main__":
    main()
