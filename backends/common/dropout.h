/* SPDX-License-Identifier: Apache-2.0 */
/* Which elements dropout keeps: a function of seed, step, layer and the element's place
 * in the step's whole batch alone, so that every engine drops the same ones. */
#ifndef VGG_COMMON_DROPOUT_H
#define VGG_COMMON_DROPOUT_H

#include "backend.h"

/* keep[i] is 1 or 0 for element begin + i of the run's [n][c][h][w] output, counted
 * from its first sample. */
void vgg__dropout_keep(const vgg_stage *stage, const vgg_run *run, uint64_t begin,
                       size_t count, uint8_t *keep);

/* What a kept element is multiplied by. */
static inline double vgg__dropout_scale(const vgg_stage *stage)
{
    return 1.0 / (1.0 - (double)stage->dropout);
}

#endif
