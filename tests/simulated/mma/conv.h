/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution layers for the tests of conv_mma.h, and what they should give: plain
 * loops in double, whose sums are exact. */
#ifndef VGG_TEST_MMA_CONV_H
#define VGG_TEST_MMA_CONV_H

#include "arrays.h"
#include "cudnn/kernels/conv_mma.h"

struct conv_layer {
    uint32_t n, h, w, ic, oc, pool;
};

/* Devices with much and with little shared memory. */
extern struct vgg__conv_mma_device conv_devices[2];

/* Arguments with inputs made up; outputs poisoned. The gradient and its winners fit the
 * layer whether or not they are used. */
struct vgg__conv_mma_args conv_make(struct conv_layer layer);

/* Run it on the host by its tile; weights: with partial sums of their own. */
void conv_run(enum vgg__conv_mma_what what, struct vgg__conv_mma_args *args);

/* [n][h][w][oc] before bias. */
double conv_sum(const struct vgg__conv_mma_args *args, uint32_t n, int y, int x,
                uint32_t oc);
/* The gradient of that, as dy and the winners have it. */
double conv_gradient(const struct vgg__conv_mma_args *args, uint32_t n, int y, int x,
                     uint32_t oc);

/* Every element of the outputs is what it should be. */
void conv_check_forward(const struct vgg__conv_mma_args *args);
void conv_check_data(const struct vgg__conv_mma_args *args);
void conv_check_weights(const struct vgg__conv_mma_args *args);

#endif
