/* SPDX-License-Identifier: Apache-2.0 */
/* Limits, memory and rows of a picture. A row comes as files have it, pixel after
 * pixel, and goes to its place in every plane; gray becomes three equal planes, RGB
 * one. */
#include "picture_rows.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int picture_refuse(char why[PICTURE_WHY], const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why, PICTURE_WHY, format, values);
    va_end(values);
    return -1;
}

int picture_sides(const char *kind, uint32_t height, uint32_t width,
                  char why[PICTURE_WHY])
{
    if (height == 0 || width == 0 || height > PICTURE_SIDE || width > PICTURE_SIDE)
        return picture_refuse(why, "%s: %u x %u pixels, sides may be 1 to %d", kind,
                              width, height, PICTURE_SIDE);
    if ((uint64_t)height * width > PICTURE_MOST)
        return picture_refuse(why, "%s: %u x %u pixels, at most %d in all", kind, width,
                              height, PICTURE_MOST);
    return 0;
}

int picture_open(struct picture *out, const char *kind, uint32_t height, uint32_t width,
                 char why[PICTURE_WHY])
{
    if (picture_sides(kind, height, width, why) != 0) return -1;
    const size_t size = (size_t)height * width * out->channels; /* below 2^30 */
    out->height = height;
    out->width = width;
    out->pixels = malloc(size);
    return out->pixels ? 0
                       : picture_refuse(why, "%s: no memory for %u x %u pixels", kind,
                                        width, height);
}

/* ITU-R 601-2 in 16 bits after the point, rounded; the weights' sum is 2^16. */
static uint8_t luma(const uint8_t *rgb)
{
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >>
                     16);
}

void picture_put(struct picture *out, uint32_t y, const uint8_t *row, uint32_t channels)
{
    const size_t width = out->width, plane = width * out->height;
    uint8_t *const to = out->pixels + y * width;
    if (channels == 1) {
        for (uint32_t c = 0; c < out->channels; c++) memcpy(to + c * plane, row, width);
        return;
    }
    if (out->channels == 1) {
        for (size_t x = 0; x < width; x++) to[x] = luma(row + 3 * x);
        return;
    }
    for (size_t x = 0; x < width; x++) {
        to[x] = row[3 * x];
        to[x + plane] = row[3 * x + 1];
        to[x + 2 * plane] = row[3 * x + 2];
    }
}
