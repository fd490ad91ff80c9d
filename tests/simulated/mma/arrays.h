/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of tensor-core kernels share: arrays with a page behind them that
 * nobody may touch, numbers whose sums are exact, and launches, on the host (arrays.c)
 * or on a GPU (tests/gpu/arrays.c), which leaves the page away.
 *
 * Inputs are small multiples of a power of two, so that every sum of products is exact
 * in f32 in any order: results are compared bit for bit. */
#ifndef VGG_TEST_MMA_ARRAYS_H
#define VGG_TEST_MMA_ARRAYS_H

#include <stddef.h>
#include <stdint.h>

#include "cudnn/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Memory full of NaN, aligned to 16 bytes, that ends (but for the rounding to 16) where
 * a page begins that faults. */
void *array(size_t bytes);
void arrays_free(void); /* all of them */

uint16_t bf16_of(float x); /* to nearest even; finite */
float bf16_value(uint16_t bits);

/* Number `index` of a sequence: one of -span .. span, times `unit`. */
float small(uint32_t sequence, size_t index, int span, float unit);

/* An array of `count` such numbers of the type. */
void *smalls(enum vgg__type type, size_t count, uint32_t sequence, int span,
             float unit);
/* Element `index` of an array of the type. */
float element(const void *array, enum vgg__type type, size_t index);

/* Run a kernel to its end; what is wrong with it fails the test. */
void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, size_t shared,
            const void *args);

/* Of all launches: ldmatrix instructions, and accesses that waited for a bank. */
void launch_counts(uint64_t *loads, uint64_t *conflicts);
/* Copies in the background that nobody waited for since the last call. */
size_t launch_forgotten(uint32_t threads);

#ifdef __cplusplus
}
#endif

#endif
