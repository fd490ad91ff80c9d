/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures: PNG, JPEG and binary PNM in memory become planes of bytes.
 *
 * The pixels are those of Pillow's Image.open(file).convert("RGB") or convert("L"):
 * colour profiles, gamma and transparency do not count, and neither does the
 * orientation that a camera wrote into its EXIF (torchvision does not turn pictures
 * either). In two places this is another value on purpose: of 16-bit gray PNG the high
 * byte is taken, and 16-bit gray PNM is scaled, where Pillow makes white of everything
 * above 255.
 *
 * Any bytes may come. Sides are 1 to PICTURE_SIDE and a picture has at most
 * PICTURE_MOST pixels, both looked at before the picture has memory; a file that ends
 * early is refused. What follows the picture's end is not looked at. */
#ifndef PICTURE_H
#define PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PICTURE_SIDE = 32768, PICTURE_MOST = 1 << 28, PICTURE_WHY = 256 };

/* A picture decoded: u8, channels one plane after the other. */
struct picture {
    uint32_t channels, height, width; /* channels: 1 or 3, as it was asked for */
    uint8_t *pixels; /* [c][h][w], to be given back with free(); NULL after a failure */
};

/* Decode the bytes of a PNG, JPEG or PNM file. `channels`: 1 (gray) or 3 (RGB). Returns
 * 0, or -1 with the reason as one line in `why`, such as "PNG: IDAT: CRC error". May
 * run in any number of threads at once. */
int picture_decode(const uint8_t *bytes, size_t size, uint32_t channels,
                   struct picture *out, char why[PICTURE_WHY]);

/* Does the name end like one of the kinds that this build reads (.png .jpg .jpeg .ppm
 * .pgm .pnm, in any case)? */
bool picture_named(const char *name);

/* The kinds that this build reads, for messages: "PNG, JPEG, PNM". */
const char *picture_kinds(void);

#endif
