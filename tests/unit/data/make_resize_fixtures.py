#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write resize_fixture.h: what OpenCV, Pillow and exact arithmetic make of the same images.

Needs numpy, opencv-python and a Pillow before 13 (which changed the order of its passes):

    python3 make_resize_fixtures.py > resize_fixture.h

An image is a run of bytes of a linear congruential generator (pixels() here and in
resize.c); of a result the CRC-32 is kept, and for one case a rule all pixels.
"""
import zlib
from fractions import Fraction
from math import floor

import cv2
import numpy as np
import PIL
from PIL import Image

SIZES = [  # height, width -> height, width
    (28, 28, 224, 224), (28, 28, 96, 96), (28, 28, 84, 84), (28, 28, 56, 56),
    (28, 28, 32, 32), (28, 28, 29, 27), (28, 28, 14, 14), (28, 28, 13, 15),
    (32, 32, 224, 224), (32, 32, 256, 256), (32, 32, 16, 16), (32, 32, 8, 8),
    (1, 1, 1, 1), (1, 1, 5, 7), (1, 9, 1, 4), (9, 1, 4, 1), (2, 2, 3, 3), (2, 2, 1, 1),
    (3, 2, 2, 3), (7, 5, 1, 1), (5, 7, 11, 3), (7, 5, 3, 11), (100, 3, 3, 100),
    (17, 31, 31, 17), (31, 17, 17, 31), (64, 48, 48, 64), (61, 59, 53, 47),
    (240, 180, 24, 18), (240, 180, 23, 19), (255, 256, 256, 255), (33, 1, 1, 33),
    (375, 500, 224, 224), (480, 640, 256, 341), (11, 13, 143, 143), (299, 3, 2, 300),
    (200, 2, 3, 199), (128, 127, 64, 127), (127, 128, 127, 64), (19, 23, 190, 230),
    (500, 7, 7, 7), (3, 3, 300, 2), (50, 50, 49, 49), (49, 49, 50, 50),
]
SHOWN = (5, 7, 11, 3)


def pixels(height, width):
    state, out = height << 16 | width, bytearray()
    for _ in range(height * width):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(state >> 24)
    return np.frombuffer(bytes(out), np.uint8).reshape(height, width)


def opencv(image, height, width):
    out = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return out.reshape(height, width)


def pillow(image, height, width):
    return np.asarray(Image.fromarray(image).resize((width, height), Image.BILINEAR))


def samples(n, m):
    """Of each of m output pixels: two input pixels and their weights, as fractions."""
    for d in range(m):
        place = Fraction((2 * d + 1) * n, 2 * m) - Fraction(1, 2)
        s = floor(place)
        yield max(s, 0), min(s + 1, n - 1), 1 - (place - s), place - s


def exact(image, height, width):
    n, m = image.shape
    out = np.zeros((height, width), np.uint8)
    unit = Fraction(1, 4 * height * width)  # all weights' products are multiples of it
    columns = list(samples(m, width))
    x = image.astype(object)
    for y, (top, bottom, v0, v1) in enumerate(samples(n, height)):
        for k, (left, right, w0, w1) in enumerate(columns):
            sums = [
                int(v * w / unit) * int(x[a, b])
                for a, v in ((top, v0), (bottom, v1))
                for b, w in ((left, w0), (right, w1))
            ]
            out[y, k] = floor(sum(sums) * unit + Fraction(1, 2))
    return out


RULES = [("OPENCV", opencv), ("EXACT", exact), ("PILLOW", pillow)]


def main():
    assert int(PIL.__version__.split(".")[0]) < 13, "Pillow 13 resizes in another order"
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* Made by make_resize_fixtures.py with OpenCV %s and Pillow %s. */"
          % (cv2.__version__, PIL.__version__))
    print("static const struct {\n    vgg_resize_rule rule;")
    print("    struct vgg__size from, to;\n    uint32_t crc;\n} fixtures[] = {")
    for name, rule in RULES:
        for h, w, oh, ow in SIZES:
            crc = zlib.crc32(rule(pixels(h, w), oh, ow).tobytes())
            print("    {VGG_RESIZE_%s, {%d, %d}, {%d, %d}, 0x%08x},"
                  % (name, h, w, oh, ow, crc))
    print("};\n")
    h, w, oh, ow = SHOWN
    print("/* %d x %d to %d x %d by each rule. */" % SHOWN)
    print("static const uint8_t shown[3][%d] = {" % (oh * ow))
    for name, rule in RULES:
        values = [str(v) for v in rule(pixels(h, w), oh, ow).reshape(-1)]
        print("    [VGG_RESIZE_%s] = {" % name)
        for i in range(0, len(values), 16):
            print("        %s," % ", ".join(values[i:i + 16]))
        print("    },")
    print("};")


main()
