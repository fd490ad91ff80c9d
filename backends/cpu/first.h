/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops for 3x3 convolutions of few input channels, the first of a network: sums
 * are so short that a matrix product or a transform costs more than it saves. */
#ifndef VGG_CPU_FIRST_H
#define VGG_CPU_FIRST_H

#include "cpu/kernels.h"

#define VGG__FIRST_CHANNELS 4 /* at most */
#define VGG__FIRST_BLOCK    4 /* pixels side by side that are computed at once */

/* Two rows of a map. */
struct vgg__first {
    /* Four rows of the input with a pixel more at each end and a length that is filled
     * up to whole blocks, zero where they are outside of the map: pixel (y - 1 + r,
     * x - 1), channel i at x[r * row + x * ic + i]. */
    const float *x;
    size_t row, ic;
    size_t y; /* of the first of the two rows; even */
};

struct vgg__first_kernels {
    /* weight [kh][kw][ic][w_row], the output's `width` channels at the front and zeros
     * up to a full vector. */
    void (*forward)(const struct vgg__first *first, const float *weight, size_t w_row,
                    const struct vgg__output *output);
    /* Of dy's first vector of channels: sums[kh][kw][ic], and of dY itself last;
     * [9 * ic + 1][vector]. */
    void (*weights)(const struct vgg__first *first, const struct vgg__source *dy,
                    float *sums);
};

#endif
