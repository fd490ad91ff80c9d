/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's minimal filtering F(m x m, 3 x 3) for 3x3 convolutions (Lavin and Gray,
 * "Fast Algorithms for Convolutional Neural Networks", 2016), m = 2 or 4.
 *
 * A map is cut in tiles of m x m outputs. With n = m + 2, a tile's n x n inputs d and a
 * filter g become n x n numbers each, whose products come back as the outputs:
 *
 *   forward    y  = A^T [(G g G^T) * (B^T d B)] A        sums over input channels
 *   data       the same, of dY and the turned filters    sums over output channels
 *   weights    dg = G^T [(A dy A^T) * (B^T d B)] G       sums over tiles
 *
 * so that a convolution is n * n matrix products ("frequencies") with n n / (9 m m) of
 * the multiplications: 4 times fewer for m = 4, 2.25 times for m = 2.
 *
 * This header is for the inner loops and for those who call them. */
#ifndef VGG_CPU_WINOGRAD_H
#define VGG_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/kernels.h"

/* Tiles side by side: `count` from tile (row, col) on. */
struct vgg__run {
    size_t row, col, count;
};

/* Where the numbers of a run's tiles are: frequency f, channel i of tile t at
 * i / width * group + f * frequency + t * stride + i % width. */
struct vgg__strides {
    uint32_t width;
    size_t group, frequency, stride;
};

/* Channels that fill up the last vector are zero. */
struct vgg__transformed {
    float *out;
    struct vgg__strides at;
};

/* Products of one panel of channels, to be transformed back and finished. */
struct vgg__finish {
    const float *in;
    struct vgg__strides at;
    struct vgg__output to;
};

/* Filters side by side, on their way to frequencies or back. */
struct vgg__filters {
    uint32_t m;
    const double (*G)[3]; /* [m + 2][3] */
    size_t stride;        /* floats from a frequency to the next */
};

struct vgg__winograd_kernels {
    /* u = G g G^T of two vectors of filters, g [9][MOST_COLS]. */
    void (*filters)(const struct vgg__filters *f, const double (*g)[VGG__MOST_COLS],
                    float *u);
    /* dg = G^T p G of two vectors of gradients, dg [9][MOST_COLS]. */
    void (*unfilter)(const struct vgg__filters *f, const float *p,
                     double (*dg)[VGG__MOST_COLS]);
    /* B^T d B of the tiles' n x n windows, which begin one pixel above and to the left
     * of the tile; A dy A^T of the m x m tiles themselves. `m`: 2 or 4. */
    void (*window)(uint32_t m, const struct vgg__source *source,
                   const struct vgg__run *run, const struct vgg__transformed *to);
    void (*gradient)(uint32_t m, const struct vgg__source *source,
                     const struct vgg__run *run, const struct vgg__transformed *to);
    /* A^T M A, bias, ReLU and pooling. */
    void (*finish)(uint32_t m, const struct vgg__finish *finish,
                   const struct vgg__run *run);
};

#endif
