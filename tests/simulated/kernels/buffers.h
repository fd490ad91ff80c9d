/* SPDX-License-Identifier: Apache-2.0 */
/* Device memory for tests of kernels, and launches that are looked at from all sides.
 *
 * A buffer begins and ends with bytes that must stay as they are, and lies between two
 * pages that fault. What is not written yet is NaN. A launch is done twice from the
 * same contents, with threads and blocks in different orders: both must leave the same
 * bits in all buffers, and nothing but those meant for it must have changed. */
#ifndef VGG_TEST_BUFFERS_H
#define VGG_TEST_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cudnn/kernels/kernels.h"

/* Aligned to 16 bytes. Inputs must not change. */
void *input(size_t bytes);
void *output(size_t bytes);
void buffers_free(void);

/* `count` numbers of the type. Number i of a sequence is a multiple of 2^-7 within
 * -1 .. 1: exact in bf16, and so are sums of thousands of them in f32. */
float number(uint32_t sequence, size_t i);
void *numbers(enum vgg__type type, size_t count, uint32_t sequence);

size_t type_bytes(enum vgg__type type);
float get(enum vgg__type type, const void *array, size_t i);
void set(enum vgg__type type, void *array, size_t i, float value);
float round_to(enum vgg__type type, double value);

/* A copy that is no buffer; free() it. */
void *copy_of(const void *memory, size_t bytes);

/* The step that kernels see, as an input. */
const struct vgg__step *step_of(struct vgg__step step);

struct vgg__grid grid_1d(uint32_t blocks, uint32_t threads);

/* Launch twice, as said above; what is wrong fails the test. */
void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, const void *args);
void launch_shared(const struct vgg__kernel *kernel, struct vgg__grid grid,
                   size_t shared, const void *args);

/* found is expected, within `tolerance` relative to the larger of it and `scale`; NaN
 * where NaN is expected. Types' own rounding comes on top. */
struct near {
    enum vgg__type type;
    double tolerance, scale;
};
void expect_near(struct near how, const void *array, size_t i, double expected);

/* These are called for every element: unlike Check's assertions they write nothing down
 * when all is well. */
void expect_within(double found, double expected, double tolerance, size_t i);

/* Bit for bit (any NaN is like any other). */
void expect_same(enum vgg__type type, const void *array, size_t i, float expected);

#endif
