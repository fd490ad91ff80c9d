#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write picture_fixture.h: small pictures, and what Pillow makes of them.

Needs Pillow alone:

    python3 make_picture_fixtures.py > picture_fixture.h

Of a picture there are the file's bytes and the CRC-32 of its planes, [c][h][w], in RGB and
in gray. PNG of the forms that Pillow does not write come from the encoder here, and are read
by Pillow like the others. The two forms of which the decoder makes something else on purpose
(picture.h says why) have their rule here.
"""
import io
import struct
import zlib

import PIL
from PIL import Image, features

WIDTH, HEIGHT = 13, 11
GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
SAMPLES = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]  # x, y, step of x, step of y


def sample(x, y, c, depth):
    """Smooth, with some noise in the low bits, and other in every channel."""
    value = (x * (3 + c) + y * (7 - c)) * 1201 + ((x * 31 + y * 17 + c * 7) ** 3 % 4099)
    return value % 65536 >> (16 - depth)


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(
        ">I", zlib.crc32(name + data))


def packed(values, depth):
    """A row's samples as PNG has them, after the byte that says: not filtered."""
    bits = "".join(format(v, "0%db" % depth) for v in values)
    bits += "0" * (-len(bits) % 8)
    return b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))


def raw(kind, depth, width, height, interlaced):
    out = b""
    for x0, y0, dx, dy in ADAM7 if interlaced else [(0, 0, 1, 1)]:
        for y in range(y0, height, dy) if x0 < width else ():
            out += packed([sample(x, y, c, depth) for x in range(x0, width, dx)
                           for c in range(SAMPLES[kind])], depth)
    return out


def png(kind, depth, size=(WIDTH, HEIGHT), interlaced=False, between=b"", colours=None,
        deflate=zlib.compress):
    header = struct.pack(">IIBBBBB", *size, depth, kind, 0, 0, int(interlaced))
    data = deflate(raw(kind, depth, *size, interlaced))
    if kind == PALETTE:
        count = colours or 1 << depth
        between += chunk(b"PLTE", bytes((i * 37 + c * 91 + 5) % 256 for i in range(count)
                                        for c in range(3)))
        between += chunk(b"tRNS", bytes(i * 50 % 256 for i in range(min(count, 7))))
    half = len(data) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + between
            + chunk(b"IDAT", data[:half]) + chunk(b"IDAT") + chunk(b"IDAT", data[half:])
            + chunk(b"IEND"))


def small_window(data):
    """The zlib header names a window of 256 bytes, and the data reach further back."""
    out = zlib.compress(data[:len(data) // 2] * 2)
    return bytes([0x08, 31 - 0x0800 % 31]) + out[2:]


def picture(mode, width=WIDTH, height=HEIGHT):
    bands = len(Image.new(mode, (1, 1)).getbands())
    data = bytes(sample(x, y, c, 8) for y in range(height) for x in range(width)
                 for c in range(bands))
    return Image.frombytes(mode, (width, height), data)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def pnm(head, maxval, channels, width=WIDTH, height=HEIGHT):
    values = [sample(x, y, c, 16) % (maxval + 1) for y in range(height)
              for x in range(width) for c in range(channels)]
    return head + struct.pack(">%d%s" % (len(values), "B" if maxval < 256 else "H"), *values)


def pngs():
    for kind, depth in ((GRAY, 1), (GRAY, 2), (GRAY, 4), (GRAY, 8), (GRAY_ALPHA, 8),
                        (GRAY_ALPHA, 16), (RGB, 8), (RGB, 16), (RGB_ALPHA, 8),
                        (RGB_ALPHA, 16), (PALETTE, 1), (PALETTE, 2), (PALETTE, 4),
                        (PALETTE, 8)):
        name = "png_%s_%d" % ({GRAY: "gray", RGB: "rgb", PALETTE: "palette",
                               GRAY_ALPHA: "gray_alpha", RGB_ALPHA: "rgb_alpha"}[kind], depth)
        yield name, png(kind, depth)
        yield name + "_interlaced", png(kind, depth, interlaced=True)
    for size in ((1, 1), (2, 1), (1, 5), (5, 3)):  # passes without pixels
        yield "png_interlaced_%dx%d" % size, png(RGB, 8, size, interlaced=True)
    yield "png_filtered_rgb", saved(picture("RGB"), "PNG")
    yield "png_filtered_rgba", saved(picture("RGBA"), "PNG")
    yield "png_filtered_l", saved(picture("L"), "PNG")
    yield "png_one_bit", saved(picture("L").convert("1"), "PNG")
    yield "png_gray_trns", png(GRAY, 4, between=chunk(b"tRNS", b"\0\3"))
    yield "png_rgb_trns", png(RGB, 8, between=chunk(b"tRNS", bytes(6)))
    yield "png_short_palette", png(PALETTE, 8, colours=9)  # the others are black
    yield "png_small_window", png(GRAY, 8, (40, 20), deflate=small_window)
    yield "png_more_chunks", png(RGB, 8, between=chunk(b"gAMA", struct.pack(">I", 30000))
                                 + chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile"))
                                 + chunk(b"tEXt", b"Title\0a picture")
                                 + chunk(b"bKGD", bytes(6)))


def jpegs():
    yield "jpeg_gray", saved(picture("L"), "JPEG")
    yield "jpeg_444", saved(picture("RGB"), "JPEG", subsampling=0)
    yield "jpeg_422", saved(picture("RGB"), "JPEG", subsampling=1)
    yield "jpeg_420", saved(picture("RGB"), "JPEG", subsampling=2)
    yield "jpeg_420_even", saved(picture("RGB", 32, 16), "JPEG", subsampling=2)
    yield "jpeg_rgb", saved(picture("RGB"), "JPEG", keep_rgb=True)
    yield "jpeg_restarts", saved(picture("RGB", 32, 24), "JPEG", subsampling=0,
                                 restart_marker_blocks=2)
    yield "jpeg_progressive", saved(picture("RGB"), "JPEG", progressive=True)
    yield "jpeg_gray_progressive", saved(picture("L"), "JPEG", progressive=True)
    yield "jpeg_turned", saved(picture("RGB"), "JPEG", exif=turned())


def turned():
    exif = Image.Exif()
    exif[0x112] = 6  # orientation: to be turned by a quarter
    return exif


def pnms():
    size = b"%d %d\n" % (WIDTH, HEIGHT)
    yield "pnm_gray", pnm(b"P5\n" + size + b"255\n", 255, 1)
    yield "pnm_rgb", pnm(b"P6\n" + size + b"255\n", 255, 3)
    yield "pnm_rgb_100", pnm(b"P6\n" + size + b"100\n", 100, 3)
    yield "pnm_rgb_1000", pnm(b"P6\n" + size + b"1000\n", 1000, 3)
    yield "pnm_rgb_65535", pnm(b"P6\n" + size + b"65535\n", 65535, 3)
    yield "pnm_comments", pnm(b"P5 # a\n#\n%d #b\r%d\t\v\f\r\n # c # d\n\n255 "
                              % (WIDTH, HEIGHT), 255, 1)


def planes(image, mode):
    return b"".join(band.tobytes() for band in image.convert(mode).split())


def by_pillow(data):
    image = Image.open(io.BytesIO(data))
    return image.size, planes(image, "RGB"), planes(image, "L")


def by_rule(values):
    return (WIDTH, HEIGHT), bytes(values) * 3, bytes(values)


def own():
    """Files whose pixels are not Pillow's."""
    places = [(x, y) for y in range(HEIGHT) for x in range(WIDTH)]
    high = by_rule([sample(x, y, 0, 16) >> 8 for x, y in places])
    yield "png_gray_16", png(GRAY, 16), high
    yield "png_gray_16_interlaced", png(GRAY, 16, interlaced=True), high
    yield ("pnm_gray_1000", pnm(b"P5 %d %d 1000\n" % (WIDTH, HEIGHT), 1000, 1),
           by_rule([round(sample(x, y, 0, 16) % 1001 / 1000 * 255) for x, y in places]))


def every_maxval():
    """CRC-32 of the rows that P5 files of maxval 1 to 254 make, which hold 0 to maxval + 1."""
    out = b""
    for maxval in range(1, 255):
        row = bytes(range(maxval + 2))
        image = Image.open(io.BytesIO(b"P5 %d 1 %d\n" % (len(row), maxval) + row))
        out += image.convert("L").tobytes()
    return zlib.crc32(out)


def show(name, data):
    print("static const uint8_t %s[] = {" % name)
    for i in range(0, len(data), 32):
        print("    %s," % ",".join(str(v) for v in data[i:i + 32]))
    print("};")


def main():
    cases = [(name, data, by_pillow(data)) for make in (pngs, jpegs, pnms)
             for name, data in make()]
    cases += own()
    print("/* SPDX-License-Identifier: Apache-2.0 */")
    print("/* clang-format off */")
    print("/* Made by make_picture_fixtures.py with Pillow %s, libjpeg-turbo %s. */"
          % (PIL.__version__, features.version("libjpeg_turbo")))
    for name, data, _ in cases:
        show(name, data)
    show("jpeg_cmyk", saved(picture("CMYK"), "JPEG"))
    print("\nstatic const struct fixture {\n    const char *name;\n    const uint8_t *bytes;")
    print("    uint32_t size, width, height, rgb, gray;\n} fixtures[] = {")
    for name, data, (size, rgb, gray) in cases:
        print('    {"%s", %s, %d, %d, %d, 0x%08x, 0x%08x},' % (
            name, name, len(data), *size, zlib.crc32(rgb), zlib.crc32(gray)))
    print("};\n\nstatic const uint32_t every_maxval = 0x%08x;" % every_maxval())


main()
