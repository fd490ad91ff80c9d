/* SPDX-License-Identifier: Apache-2.0 */
/* What the decoders of picture.h share: limits, the memory of a picture, its rows.
 *
 * A decoder gets a picture whose `channels` says what is wanted and whose `pixels` is
 * NULL. What it leaves in `pixels` after a failure, picture_decode() gives back. */
#ifndef PICTURE_ROWS_H
#define PICTURE_ROWS_H

#include "picture.h"

/* A decoder. 0, or -1 with the reason in `why`. */
typedef int picture_reader(const uint8_t *bytes, size_t size, struct picture *out,
                           char why[PICTURE_WHY]);

picture_reader picture_png, picture_jpeg;

/* Write the reason; returns -1. */
int picture_refuse(char why[PICTURE_WHY], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Are these sides that a picture may have? `kind` is for the reason. */
int picture_sides(const char *kind, uint32_t height, uint32_t width,
                  char why[PICTURE_WHY]);

/* picture_sides(), then memory for the picture, which holds nothing yet. */
int picture_open(struct picture *out, const char *kind, uint32_t height, uint32_t width,
                 char why[PICTURE_WHY]);

/* Put row y: `width` pixels of `channels` bytes each, 1 (gray) or 3 (RGB). */
void picture_put(struct picture *out, uint32_t y, const uint8_t *row,
                 uint32_t channels);

#endif
