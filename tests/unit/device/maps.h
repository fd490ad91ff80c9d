/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of a convolution's inner loops share: maps of small whole numbers, on
 * which transforms, sums and means of four are exact in float, and what the kernels'
 * headers say about reading and finishing them, in double. */
#ifndef VGG_TEST_MAPS_H
#define VGG_TEST_MAPS_H

#include "backend.h"
#include "cpu/winograd.h"

enum { MAP_SETS = 3 };
#define MAP_GUARD 77777.0f /* no result of a test */

/* The kernels of an instruction set by its number; NULL: not on this processor. */
const struct vgg__kernels *map_kernels(int index);

void map_seed(uint32_t seed);
uint32_t map_next(void);

/* -4 .. 4; if `wild`, now and then a NaN or an infinity. */
float map_draw(bool wild);

/* Exactly so many, so that a sanitizer sees what is read behind them. */
float *map_floats(size_t count, bool wild);
float *map_guards(size_t count);

/* Every element is as expected; a NaN equals a NaN. `what` names them. */
void map_same(const char *what, const float *got, const float *expected, size_t count);

/* A source with arrays of its own. */
struct map {
    struct vgg__source source;
    float *x, *y;
    uint8_t *kept;
};

struct map map_create(uint32_t kind, const size_t hwc[3], bool wild);
void map_free(struct map *map);

/* Channel i of a pixel, which may be outside. */
double map_pixel(const struct vgg__source *source, size_t i, ptrdiff_t row,
                 ptrdiff_t col);

/* An output with arrays of its own, full of guards, and what they should become. */
struct map_output {
    struct vgg__output to;
    size_t first, floats; /* channel; of y */
    float *y, *want;
    uint8_t *kept, *want_kept;
    float *bias;
    size_t ties, zeros; /* maxima with a rival, windows without a winner */
};

/* `way`: bit 0 ReLU, bit 1 no bias, bit 2 nothing is kept. */
struct map_output map_output_create(uint32_t pool, const size_t hwc[3], size_t first,
                                    size_t width, int way);
void map_output_free(struct map_output *out);

/* The rectangle of pixels that a call computes. */
struct map_part {
    size_t top, left, bottom, right;
};

/* Write what should become of sums [h][w][width] there, of which the map's are read. */
void map_output_expect(struct map_output *out, const struct map_part *part,
                       const double *sums);
void map_output_check(const struct map_output *out);

#endif
