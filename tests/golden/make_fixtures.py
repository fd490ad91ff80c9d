#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the fixtures that golden.c compares with, by PyTorch in double precision.

    python3 tests/golden/make_fixtures.py tests/golden/fixtures

Needs torch (made with 2.x on a CPU). A fixture is a sequence of records, little-endian:

    char name[55], padded with zeros; char type; uint64 count; values[count]

with type 'f' for float32 and 'd' for float64. What goes *into* the library is exact in
single precision, since that is what it stores; parameters come out of it so, too. Records
of a file:

    arch                   channels height width classes hidden head pool batch_norm
                           blocks, then convs channels pointwise of each block
    sizes                  samples of each batch
    keys                   number of entries of the state_dict, without batch counters
    images, labels         of all batches, one after the other
    init/KEY               parameters and running statistics, in state_dict order
    train/logits           first batch, batch statistics
    train/loss, smooth/loss           mean cross-entropy, without and with smoothing 1/8
    train/grad/KEY, train/grad/input  gradients of the plain loss
    smooth/grad/input                 gradient of the smoothed one
    eval/logits, eval/loss, eval/grad/KEY, eval/grad/input  with batch normalisation:
                           the same with running statistics
    OPT/losses             of ten steps over the batches in turn, for four optimisers
    OPT/param/KEY          afterwards
    OPT/logits             of the first batch afterwards, running statistics
"""
import pathlib
import struct
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

FLATTEN, ADAPTIVE, GAP = 0, 1, 2  # vgg_head
MAX, AVERAGE = 0, 1  # vgg_pool_kind
SIZES = (4, 3)  # the second batch is a short one
STEPS = 10

CASES = {
    # name: (channels, height, width), blocks (convs, channels, pointwise), head, pool, bn
    "plain": ((2, 16, 16), ((1, 4, 0), (2, 6, 0)), FLATTEN, MAX, False),
    "batch_norm": ((2, 16, 16), ((1, 4, 0), (2, 6, 0)), FLATTEN, MAX, True),
    "average": ((1, 17, 14), ((1, 4, 0), (1, 6, 0)), FLATTEN, AVERAGE, False),
    "adaptive": ((1, 32, 32), ((1, 4, 0), (1, 2, 0)), ADAPTIVE, MAX, False),
    "pointwise": ((3, 19, 13), ((1, 5, 0), (3, 8, 1)), GAP, MAX, True),
}
CLASSES, HIDDEN = 5, 8

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "nesterov": lambda p: torch.optim.SGD(
        p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01
    ),
    "adam": lambda p: torch.optim.Adam(p, lr=0.002, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.002, weight_decay=0.1),
}


class Net(nn.Module):
    """The network with torchvision's names, so that its keys are torchvision's."""

    def __init__(self, size, blocks, head, pool, batch_norm):
        super().__init__()
        (c, h, w), layers = size, []
        for convs, channels, pointwise in blocks:
            for i in range(convs):
                k = 3 if i < convs - pointwise else 1
                layers.append(nn.Conv2d(c, channels, k, padding=k // 2))
                if batch_norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU())
                c = channels
            layers.append((nn.MaxPool2d if pool == MAX else nn.AvgPool2d)(2, 2))
            h, w = h // 2, w // 2
        self.features = nn.Sequential(*layers)
        side = {FLATTEN: None, ADAPTIVE: 7, GAP: 1}[head]
        self.avgpool = nn.AdaptiveAvgPool2d(side) if side else nn.Identity()
        flat = c * side * side if side else c * h * w
        if head == GAP:
            self.classifier = nn.Sequential(nn.Linear(flat, CLASSES))
        else:
            self.classifier = nn.Sequential(
                nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Dropout(0.0),
                nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(0.0),
                nn.Linear(HIDDEN, CLASSES),
            )

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def single(tensor):
    """Round to values that single precision holds exactly."""
    return tensor.float().double()


def initial_state(net, random):
    """Values of about the usual size everywhere, also where training starts from 0 or 1,
    so that a bias or a statistic that is left out shows."""
    state = {}
    for key, value in net.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(value.shape, generator=random, dtype=torch.float64)
        if value.dim() > 1:
            value = noise * (2.0 / value[0].numel()) ** 0.5
        elif key.endswith("running_var"):
            value = 0.5 + noise.abs()
        elif key.endswith("weight"):  # of batch normalisation
            value = 1.0 + 0.2 * noise
        else:
            value = 0.1 * noise
        state[key] = single(value)
    return state


class Writer:
    def __init__(self, path):
        self.file = open(path, "wb")

    def put(self, name, values, type="d"):
        values = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
        assert len(name) < 55, name
        head = struct.pack("<55scQ", name.encode(), type.encode(), len(values))
        self.file.write(head + struct.pack(f"<{len(values)}{type}", *values))


def put_gradients(out, prefix, net, images, labels, smoothing=0.0, params=True):
    images = images.clone().requires_grad_()
    net.zero_grad()
    logits = net(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    if params:
        out.put(f"{prefix}/logits", logits.detach())
    out.put(f"{prefix}/loss", loss.detach())
    out.put(f"{prefix}/grad/input", images.grad)
    if params:
        for key, param in net.named_parameters():
            out.put(f"{prefix}/grad/{key}", param.grad)


def put_training(out, name, net, batches, batch_norm):
    # The bias of a convolution before batch normalisation has no effect and gradient zero.
    # Adam divides it by its own size and would move it by what rounding left: frozen.
    idle = name.startswith("adam") and batch_norm
    for layer in net.features:
        if isinstance(layer, nn.Conv2d):
            layer.bias.requires_grad_(not idle)
    optimizer, losses = OPTIMIZERS[name](net.parameters()), []
    net.train()
    for step in range(STEPS):
        images, labels = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    net.eval()
    out.put(f"{name}/losses", losses)
    for key, value in net.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            out.put(f"{name}/param/{key}", value, "f")
    with torch.no_grad():
        out.put(f"{name}/logits", net(batches[0][0]))


def make(path, seed, size, blocks, head, pool, batch_norm):
    random = torch.Generator().manual_seed(seed)
    out = Writer(path)
    net = Net(size, blocks, head, pool, batch_norm).double()
    state = initial_state(net, random)
    count = sum(SIZES)
    images = single(torch.rand((count, *size), generator=random, dtype=torch.float64))
    labels = torch.randint(CLASSES, (count,), generator=random)
    batches = list(zip(images.split(SIZES), labels.split(SIZES)))

    out.put("arch", [*size, CLASSES, HIDDEN, head, pool, batch_norm, len(blocks),
                     *(number for block in blocks for number in block)])
    out.put("sizes", SIZES)
    out.put("keys", len(state))
    out.put("images", images, "f")
    out.put("labels", labels, "f")
    for key, value in state.items():
        out.put(f"init/{key}", value, "f")

    def restart():
        net.load_state_dict(state, strict=False)
        return net

    put_gradients(out, "train", restart().train(), *batches[0])
    put_gradients(out, "smooth", restart().train(), *batches[0], smoothing=0.125,
                  params=False)
    if batch_norm:  # without it, the mode makes no difference
        put_gradients(out, "eval", restart().eval(), *batches[0])
    for name in OPTIMIZERS:
        put_training(out, name, restart(), batches, batch_norm)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed, (name, case) in enumerate(CASES.items()):
        make(folder / f"{name}.bin", seed, *case)
        print(f"{name}.bin: {(folder / f'{name}.bin').stat().st_size} bytes")


if __name__ == "__main__":
    main()
