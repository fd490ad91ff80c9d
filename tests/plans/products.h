/* SPDX-License-Identifier: Apache-2.0 */
/* The convolutions that the plans are made for, and the forms in which the engine asks
 * for each of their products. */
#ifndef PLANS_PRODUCTS_H
#define PLANS_PRODUCTS_H

#include "device.h"

#define MOST_PLANS 8 /* of any form, as many as the engine asks for */

enum precision { STRICT, TF32, BF16 };

/* The plain forms, which are all that a run without timing takes, then fused ones. */
enum form { FORWARD, DATA, WEIGHTS, BIAS_RELU, MASK, SINGLE_OUT, FORMS };

struct layer {
    uint32_t ic, oc, size; /* 3x3, [n][size][size][ic] -> [n][size][size][oc] */
    bool sample;           /* the one for which what is slow is tried everywhere */
};

struct network {
    const char *name;
    const struct layer *layers;
    uint32_t count;
};
extern const struct network main_job; /* VGG-11 of ratio 4, one channel, 224x224 */
extern const struct network vgg16;    /* three channels, 224x224; each shape once */

extern const char *const precision_names[];
extern const char *const form_names[];

/* What `form` of a layer's product is to the engine. */
struct vgg__dnn_problem product(const struct layer *layer, uint32_t batch,
                                enum precision precision, enum form form);

#endif
