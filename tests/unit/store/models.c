/* SPDX-License-Identifier: Apache-2.0 */
/* Small models, their whole state, and files put together by hand. */
#include "models.h"

#include "harness.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

vgg_model *build_linear(void)
{
    const vgg_shape shape = {1, {2}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(NULL, &shape, &model));
    ck_ok(vgg_model_add_linear(model, 1, "fc"));
    return model;
}

vgg_model *build(vgg_context *ctx, uint64_t seed)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = 4;
    arch.hidden = 5;
    arch.classes = 3;
    arch.batch_norm = 1;
    arch.dropout = 0.3f;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    vgg_model *model;
    ck_ok(vgg_model_create(ctx, &arch, 32, &opts, &model));
    return model;
}

struct state state_of(vgg_model *model)
{
    struct state state;
    memset(&state, 0, sizeof state);
    ck_ok(vgg__model_refresh(model));
    for (uint32_t i = 0; i < model->param_count; i++) {
        ck_assert(state.count + model->params[i]->count <= 1000);
        memcpy(state.values + state.count, model->params[i]->value,
               model->params[i]->count * sizeof(float));
        state.count += model->params[i]->count;
    }
    state.batches = model->batches_tracked;
    return state;
}

bool same(const struct state *a, const struct state *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

uint8_t *pack_file(const char *header, const void *data, size_t size, size_t *total)
{
    const size_t length = strlen(header);
    *total = 8 + length + size;
    uint8_t *file = malloc(*total);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, size);
    return file;
}
