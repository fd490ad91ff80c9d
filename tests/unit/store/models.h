/* SPDX-License-Identifier: Apache-2.0 */
/* Small models, their whole state, and files put together by hand. */
#ifndef VGG_TEST_MODELS_H
#define VGG_TEST_MODELS_H

#include <stdbool.h>
#include <vgg/vgg.h>

/* y = W x + b with W [1][2], b [1]: "fc.weight", "fc.bias". */
vgg_model *build_linear(void);

/* Convolution, batch normalisation and three linear layers, some 130 values. */
vgg_model *build(vgg_context *ctx, uint64_t seed);

struct state {
    float values[1000];
    uint64_t count, batches;
};

struct state state_of(vgg_model *model);
bool same(const struct state *a, const struct state *b);

/* A file in memory of exactly its size: length, header, data. To be freed. */
uint8_t *pack_file(const char *header, const void *data, size_t size, size_t *total);

#endif
