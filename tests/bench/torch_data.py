# SPDX-License-Identifier: Apache-2.0
"""Images for torch_vgg.py, resident on the device: Fashion-MNIST as bytes, or noise."""
import gzip
import pathlib

import torch


def idx(folder, name):
    """The bytes of an IDX file after its header, plain or gzip."""
    plain = pathlib.Path(folder) / name
    packed = plain.with_name(name + ".gz")
    data = gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes()
    rank = data[3]
    shape = [int.from_bytes(data[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    body = bytearray(data[4 + 4 * rank:])
    return torch.frombuffer(body, dtype=torch.uint8).reshape(shape)


def load(args):
    """(images, labels) on the device; never zeros, which some hardware multiplies faster."""
    if args.net == "main":
        images = idx(args.data, "train-images-idx3-ubyte").unsqueeze(1)
        labels = idx(args.data, "train-labels-idx1-ubyte").long()
    else:
        draw = torch.Generator().manual_seed(args.seed)
        images = torch.randint(0, 256, (10000, args.channels, 32, 32), generator=draw,
                               dtype=torch.uint8)
        labels = torch.randint(0, args.classes, (10000,), generator=draw)
    if args.limit:
        images, labels = images[:args.limit], labels[:args.limit]
    return images.to(args.device), labels.to(args.device)
