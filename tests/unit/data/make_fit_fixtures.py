#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write fit_fixture.h: what torchvision makes of pictures of many sizes.

Needs numpy, torchvision and a Pillow before 13 (which changed the order of its passes):

    python3 make_fit_fixtures.py > fit_fixture.h

A picture is [c][h][w] of the bytes of a linear congruential generator (pixels() here and
in fit.c); of a result's [c][h'][w'] the CRC-32 is kept. Resize() takes one number for a
picture that covers a square, and two for one that is stretched.
"""
import zlib

import numpy as np
import PIL
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Resize

COVERED = [  # height, width -> side
    (300, 400, 224), (400, 300, 224), (375, 500, 256), (500, 333, 256), (224, 224, 224),
    (225, 224, 224), (224, 225, 224), (31, 57, 64), (57, 31, 64), (1, 1, 8), (1, 7, 4),
    (7, 1, 4), (2, 333, 5), (333, 2, 5), (480, 640, 32), (641, 479, 33), (97, 89, 88),
    (10, 11, 10), (11, 10, 9), (100, 151, 50), (101, 150, 51), (640, 427, 224),
]
STRETCHED = [(300, 400, 224, 224), (31, 57, 64, 48), (57, 31, 5, 90), (1, 9, 4, 3),
             (224, 224, 224, 224), (480, 640, 17, 23)]


def pixels(height, width):
    state, out = height << 16 | width, bytearray()
    for _ in range(3 * height * width):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(state >> 24)
    planes = np.frombuffer(bytes(out), np.uint8).reshape(3, height, width)
    return Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))


def crc(picture):
    return zlib.crc32(np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1)).tobytes())


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, "Pillow 13 resizes in another order"
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Made by make_fit_fixtures.py with torchvision %s and Pillow %s. */"
          % (torchvision.__version__, PIL.__version__))
    print("static const struct {\n    vgg_fit fit;\n    uint32_t height, width, to_height, to_width;")
    print("    uint32_t crc;\n} fixtures[] = {")
    for h, w, side in COVERED:
        cover = Compose([Resize(side), CenterCrop(side)])
        print("    {VGG_FIT_COVER, %d, %d, %d, %d, 0x%08x},"
              % (h, w, side, side, crc(cover(pixels(h, w)))))
    for h, w, oh, ow in STRETCHED:
        print("    {VGG_FIT_STRETCH, %d, %d, %d, %d, 0x%08x},"
              % (h, w, oh, ow, crc(Resize((oh, ow))(pixels(h, w)))))
    print("};")


main()
