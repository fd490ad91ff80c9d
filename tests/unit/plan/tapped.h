/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of taps' gradients share: a network with taps everywhere. */
#ifndef VGG_TEST_TAPPED_H
#define VGG_TEST_TAPPED_H

#include <vgg/vgg.h>

#include "harness.h"

enum { BATCH = 3, LAYERS = 13, TAPS = 8, POOL = 4 };

struct tap {
    const char *name;
    uint32_t layers;
};

/* Taps before and behind a ReLU, behind a dropout (which leaves its input as it is in
 * mode grad) and pooling, of a map and of a flat one; and how many layers there are up
 * to each. */
extern const struct tap taps[TAPS];

/* The names of these and, last, of the network's output. */
extern const char *const tap_names[TAPS + 1];

struct subject {
    const char *engine;
    uint32_t precision, mode;
    double tolerance; /* of 2-norms: roundings of sums in another order */
};

/* A plan of the whole network with all taps, after a forward. */
struct whole {
    vgg_model *model;
    vgg_plan *plan;
    vgg_tensor *images;
};

extern vgg_device *device;

/* Layers `first` to `end` - 1. */
void add_layers(vgg_model *m, uint32_t first, uint32_t end);

/* The first `count` layers; parameters are drawn by place, the same in all networks. */
vgg_model *make_model(uint32_t count);

/* Opens the device too. */
void begin(struct whole *w, const struct subject *of);
void end(struct whole *w);

vgg_tensor *tensor(vgg_dtype dtype, const vgg_shape *sample, uint32_t count);

/* Numbers of no particular kind, from -1 to 1; others for another `salt`. */
vgg_tensor *numbers(const vgg_shape *sample, uint32_t salt);

#endif
