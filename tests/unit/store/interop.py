#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Weights between the library and PyTorch, both ways, every bit.

    python3 tests/unit/store/interop.py build/tests/unit/store/interop

A network with torchvision's structure must take the library's file with
load_state_dict(strict=True); the library must take PyTorch's, in f32, f64, f16 and bf16,
and give back the same numbers. Without torch and safetensors it says so and exits with 77
(skipped).
"""
import pathlib
import subprocess
import sys
import tempfile

SKIPPED = 77

try:
    import safetensors
    import safetensors.torch
    import torch
    from torch import nn
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(SKIPPED)

CONVS = {"vgg11": [1, 1, 2, 2, 2], "vgg13": [2, 2, 2, 2, 2], "vgg16": [2, 2, 3, 3, 3],
         "vgg19": [2, 2, 4, 4, 4]}
CHANNELS = [4, 8, 16, 32, 32]  # of the paper's, a 16th
HIDDEN = 32


class Network(nn.Module):
    """torchvision's VGG: the same children in the same order."""

    def __init__(self, preset):
        super().__init__()
        name, _, batch_norm = preset.partition("_")
        layers, channels = [], 3
        for convs, out in zip(CONVS[name], CHANNELS):
            for _ in range(convs):
                layers.append(nn.Conv2d(channels, out, 3, padding=1))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(out))
                layers.append(nn.ReLU())
                channels = out
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * 49, HIDDEN), nn.ReLU(), nn.Dropout(),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(), nn.Linear(HIDDEN, 1000))


def run(*arguments):
    subprocess.run([str(a) for a in arguments], check=True)


def same(a, b):
    """Equal keys, shapes, types and bits."""
    assert list(a) == list(b) or sorted(a) == sorted(b), "keys differ"
    for key in a:
        assert a[key].dtype == b[key].dtype, f"{key}: {a[key].dtype}, {b[key].dtype}"
        assert a[key].shape == b[key].shape, f"{key}: {a[key].shape}, {b[key].shape}"
        assert torch.equal(a[key], b[key]), f"{key}: values differ"


def to_torch(program, preset, folder):
    path = folder / "ours.safetensors"
    run(program, "save", preset, path)
    state = safetensors.torch.load_file(path)
    network = Network(preset)
    network.load_state_dict(state, strict=True)
    with safetensors.safe_open(path, "pt") as file:
        assert '"ratio":16' in file.metadata()["vgg.arch"]
        assert file.metadata()["format"] == "pt"
    # The header's keys are in the order of the layers, as in a state dict.
    text = path.read_bytes()
    places = [text.index(f'"{key}"'.encode()) for key in network.state_dict()]
    assert places == sorted(places), "order of keys"
    again = folder / "again.safetensors"
    run(program, "rebuild", path, again)
    assert again.read_bytes() == text, "saved again, it is another file"


def from_torch(program, preset, folder):
    torch.manual_seed(7)
    network = Network(preset)
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(2**53 + 1)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2)
        else:
            value.normal_()
    for dtype in torch.float32, torch.float64, torch.float16, torch.bfloat16:
        theirs = {name: value.to(dtype) if value.is_floating_point() else value
                  for name, value in network.state_dict().items()}
        safetensors.torch.save_file(theirs, folder / "theirs.safetensors", {"classes": "é"})
        run(program, "convert", preset, folder / "theirs.safetensors", folder / "out")
        back = safetensors.torch.load_file(folder / "out")
        same({name: value.float() if value.is_floating_point() else value
              for name, value in theirs.items()}, back)
        with safetensors.safe_open(folder / "out", "pt") as file:
            assert file.metadata()["classes"] == "é"


def main():
    for preset in "vgg11", "vgg13_bn", "vgg16", "vgg19_bn":
        with tempfile.TemporaryDirectory() as name:
            to_torch(sys.argv[1], preset, pathlib.Path(name))
            from_torch(sys.argv[1], preset, pathlib.Path(name))
        print(f"{preset}: the same both ways")


main()
