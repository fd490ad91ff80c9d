#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Train the chapter's network with the library and with PyTorch, from the same weights on
the same batches of Fashion-MNIST, and compare the loss of every step.

    python3 tests/golden/compare_torch.py build/lib/libvgg.so [--steps 20] [--log FILE]

Needs torch and safetensors, and the files of Debian's package dataset-fashion-mnist.
Without them it says so and exits with 77 (skipped). A few seconds a step.

Weights go from the library to PyTorch by a safetensors file. Dropout is off, since the two
draw different numbers. Both compute in single precision; the losses may differ by 1e-4.
With the chapter's batch and learning rate they differ by a few 1e-7. Training multiplies
rounding errors: at --batch 16 --lr 0.05 both are 1e-5 to 1e-4 from double precision after
six steps, the library no farther than PyTorch.
With --log, the losses that the trainer wrote must agree as well, for instance after

    vgg train --preset d2l --dropout 0 --steps 20 --seed 1 --out run

those in run/log.jsonl. --batch and --lr must be the same in both.
"""
import argparse
import ctypes
import json
import pathlib
import sys
import tempfile

SKIPPED = 77
TOLERANCE = 1e-4

try:
    import numpy
    import safetensors.torch
    import torch
    import torch.nn as nn
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(SKIPPED)

u32, u64, f32, f64 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_float, ctypes.c_double
size_t, pointer = ctypes.c_size_t, ctypes.c_void_p


class Struct(ctypes.Structure):
    """One of the library's structs; a sized one knows its size."""

    def __init__(self, **values):
        super().__init__(**values)
        if hasattr(self, "size"):
            self.size = ctypes.sizeof(self)


class Block(Struct):
    _fields_ = [("convs", u32), ("channels", u32), ("pointwise", u32)]


class Arch(Struct):
    _fields_ = [("size", size_t), ("block_count", u32), ("blocks", Block * 16),
                ("channels", u32), ("height", u32), ("width", u32), ("classes", u32),
                ("hidden", u32), ("dropout", f32), ("head", u32), ("pool", u32),
                ("batch_norm", u32)]


class ModelOptions(Struct):
    _fields_ = [("size", size_t), ("seed", u64), ("init", u32), ("reserved", u32)]


class Transform(Struct):
    _fields_ = [("size", size_t), ("resize_height", u32), ("resize_width", u32),
                ("resize_rule", u32), ("crop_height", u32), ("crop_width", u32),
                ("shift", u32), ("flip", f32), ("erase", f32), ("mean", f32 * 4),
                ("std", f32 * 4)]


class LoaderOptions(Struct):
    _fields_ = [("size", size_t), ("transform", ctypes.POINTER(Transform)),
                ("seed", u64), ("batch", u32), ("train", u32), ("drop_last", u32),
                ("prefetch", u32)]


class Batch(Struct):
    _fields_ = [("images", pointer), ("labels", ctypes.POINTER(u32)), ("count", u32),
                ("reserved", u32), ("epoch", u64), ("index", u64)]


class TrainerOptions(Struct):
    _fields_ = [("size", size_t), ("optimizer", pointer), ("schedule", pointer),
                ("lr", f64), ("clip_norm", f64), ("seed", u64),
                ("steps_per_epoch", u64), ("epochs", u32), ("batch", u32),
                ("accumulate", u32), ("label_smoothing", f32)]


class Progress(Struct):
    _fields_ = [("epoch", u64), ("batch", u64), ("batches", u64), ("step", u64),
                ("seen", u64), ("correct", u64), ("loss_sum", f64), ("batch_loss", f64),
                ("lr", f64), ("gradient_norm", f64), ("test_loss", f64),
                ("test_accuracy", f64), ("best_accuracy", f64), ("best_epoch", u64)]


class Library:
    """Calls that raise when the library says no, and hand out what it stores."""

    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.vgg_last_error.restype = ctypes.c_char_p
        self.lib.vgg_tensor_data_const.restype = pointer

    def call(self, name, *arguments):
        if getattr(self.lib, name)(*arguments) != 0:
            raise RuntimeError(f"{name}: {self.lib.vgg_last_error().decode()}")

    def make(self, name, *arguments):
        out = pointer()
        self.call(name, *arguments, ctypes.byref(out))
        return out

    def array(self, tensor, shape):
        """A copy of a tensor's values."""
        data = self.lib.vgg_tensor_data_const(pointer(tensor))
        values = ctypes.cast(data, ctypes.POINTER(f32))
        return numpy.ctypeslib.as_array(values, shape=shape).copy()


def make_loader(lib, folder, args):
    data = lib.make("vgg_dataset_open", None, b"fashion-mnist", folder.encode(), b"train")
    transform = Transform(resize_height=224, resize_width=224, std=(1, 1, 1, 1))
    opts = LoaderOptions(transform=ctypes.pointer(transform), seed=args.seed,
                         batch=args.batch, train=1, prefetch=2)
    return lib.make("vgg_loader_create", data, ctypes.byref(opts))


def make_model(lib, args):
    arch = Arch()
    lib.call("vgg_arch_preset", b"d2l", ctypes.byref(arch))
    arch.dropout = 0
    opts = ModelOptions(seed=args.seed)
    return lib.make("vgg_model_create", None, ctypes.byref(arch), u32(args.ratio),
                    ctypes.byref(opts))


def make_net(args):
    """The same network with the same names."""
    layers, channels = [], 1
    for convs, out in ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)):
        for _ in range(convs):
            layers += [nn.Conv2d(channels, out // args.ratio, 3, padding=1), nn.ReLU()]
            channels = out // args.ratio
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.Linear(channels * 49, 4096), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.0), nn.Linear(4096, 10)]
    net = nn.Sequential()
    net.add_module("features", nn.Sequential(*layers))
    net.add_module("flatten", nn.Flatten())
    net.add_module("classifier", nn.Sequential(*head))
    return net


def exchange(lib, model, net):
    """Load the library's weights into PyTorch's network, by a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights.safetensors"
        lib.call("vgg_weights_save", model, str(path).encode(), None)
        net.load_state_dict(safetensors.torch.load_file(path))


def torch_step(net, optimizer, images, labels):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(torch.from_numpy(images)), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


def read_log(path):
    """Losses of the steps in a trainer's log."""
    lines = [json.loads(line) for line in open(path, encoding="utf-8")]
    return [line["loss"] for line in lines if line["row"] == "step"]


def compare(lib, folder, args):
    logged = read_log(args.log) if args.log else []
    loader, model = make_loader(lib, folder, args), make_model(lib, args)
    net = make_net(args)
    exchange(lib, model, net)
    device = lib.make("vgg_device_open", None, args.device.encode())
    opts = TrainerOptions(lr=args.lr, seed=args.seed, steps_per_epoch=469, epochs=10,
                          batch=args.batch, accumulate=1)
    trainer = lib.make("vgg_trainer_create", model, device, ctypes.byref(opts))
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr)
    worst = 0.0
    print("step  libvgg      torch       difference")
    for step in range(args.steps):
        batch, progress = Batch(), Progress()
        lib.call("vgg_loader_next", loader, ctypes.byref(batch))
        images = lib.array(batch.images, (batch.count, 1, 224, 224))
        labels = torch.tensor(batch.labels[:batch.count], dtype=torch.int64)
        lib.call("vgg_trainer_step", trainer, ctypes.byref(batch), ctypes.byref(progress))
        theirs = torch_step(net, optimizer, images, labels)
        ours = [progress.batch_loss] + logged[step:step + 1]
        difference = max(abs(loss - theirs) for loss in ours)
        worst = max(worst, difference)
        print(f"{step:4d}  {ours[0]:.7f}   {theirs:.7f}   {difference:.1e}", flush=True)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", help="libvgg.so")
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--ratio", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", help="log.jsonl of `vgg train` with the same options")
    args = parser.parse_args()
    if not pathlib.Path(args.data).is_dir():
        print(f"skipped: no folder {args.data} (package dataset-fashion-mnist)")
        return SKIPPED
    worst = compare(Library(args.library), args.data, args)
    print(f"largest difference {worst:.1e}, allowed {TOLERANCE:.0e}")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
