/* SPDX-License-Identifier: Apache-2.0 */
/* The optimisers' rules on flat arrays: SGD, Adam and AdamW as PyTorch defines them. */
#ifndef VGG_COMMON_UPDATE_H
#define VGG_COMMON_UPDATE_H

#include "backend.h"

/* `count` elements of float or double. */
struct vgg__update_args {
    const vgg_update *update;
    void *value;
    const void *gradient;
    void *state[2]; /* as many as vgg__update_states() says */
    size_t count;
};

/* Arrays of state that a rule keeps for every parameter: 0, 1 or 2. */
uint32_t vgg__update_states(const vgg_update *update);

/* Elements are independent: an array may be updated in pieces, in any order. */
void vgg__update_f32(const struct vgg__update_args *args);
void vgg__update_f64(const struct vgg__update_args *args);

#endif
