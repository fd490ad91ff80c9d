/* SPDX-License-Identifier: Apache-2.0 */
/* vgg_build: from an architecture to a network, with the public calls and nothing else,
 * as the chapter does it:
 *
 *     for (num_convs, num_channels) in arch: add(vgg_block(num_convs, num_channels))
 *     add(Flatten, Dense(4096), Dropout(0.5), Dense(4096), Dropout(0.5), Dense(10)) */
#include "core/context.h"
#include "core/error.h"
#include "core/options.h"
#include "model/spec.h"

#include <inttypes.h>

/* Convolutions, each with its [batch norm and] ReLU, then one pooling. */
static vgg_status add_block(vgg_model *model, const vgg_arch *arch, vgg_block block,
                            uint32_t channels)
{
    for (uint32_t i = 0; i < block.convs; i++) {
        const uint32_t kernel = i < block.convs - block.pointwise ? 3 : 1;
        VGG_TRY(vgg_model_add_conv(model, channels, kernel, NULL));
        if (arch->batch_norm) VGG_TRY(vgg_model_add_batch_norm(model, NULL));
        VGG_TRY(vgg_model_add_relu(model, NULL));
    }
    return vgg_model_add_pool(model, (vgg_pool_kind)arch->pool, NULL);
}

/* A hidden linear layer. Dropout stands there at rate 0 too, so that the names of what
 * follows (classifier.3, classifier.6) do not depend on a rate. */
static vgg_status add_hidden(vgg_model *model, const vgg_arch *arch)
{
    VGG_TRY(vgg_model_add_linear(model, arch->hidden, NULL));
    VGG_TRY(vgg_model_add_relu(model, NULL));
    return vgg_model_add_dropout(model, arch->dropout, NULL);
}

static vgg_status add_head(vgg_model *model, const vgg_arch *arch)
{
    if (arch->head == VGG_HEAD_NONE) return VGG_OK;
    if (arch->head == VGG_HEAD_ADAPTIVE)
        VGG_TRY(vgg_model_add_adaptive_pool(model, 7, 7, NULL));
    if (arch->head == VGG_HEAD_GAP)
        VGG_TRY(vgg_model_add_adaptive_pool(model, 1, 1, NULL));
    VGG_TRY(vgg_model_add_flatten(model, NULL));
    if (arch->head != VGG_HEAD_GAP && arch->hidden > 0) {
        VGG_TRY(add_hidden(model, arch));
        VGG_TRY(add_hidden(model, arch));
    }
    return vgg_model_add_linear(model, arch->classes, NULL);
}

static vgg_status add_all(vgg_model *model, const vgg_arch *arch, uint32_t ratio)
{
    for (uint32_t i = 0; i < arch->block_count; i++) {
        const vgg_block block = arch->blocks[i];
        VGG_TRY(add_block(model, arch, block, block.channels / ratio));
    }
    return add_head(model, arch);
}

vgg_status vgg_model_create(vgg_context *ctx, const vgg_arch *arch, uint32_t ratio,
                            const vgg_model_options *opts, vgg_model **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    vgg_arch known;
    VGG_TRY(vgg__arch_read(arch, ratio, &known));
    vgg_model_options options = VGG_MODEL_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_model_options", opts, sizeof options, &options,
                              sizeof options));
    if (options.reserved != 0)
        return vgg__fail(VGG_EINVAL,
                         "vgg_model_options: reserved is %" PRIu32 ", needs 0",
                         options.reserved);

    if (options.init > VGG_INIT_HE)
        return vgg__fail(VGG_EINVAL,
                         "vgg_model_options: init is %" PRIu32 ", needs 0 to %d",
                         options.init, VGG_INIT_HE);

    vgg_model *model = NULL;
    const vgg_shape input = {3, {known.channels, known.height, known.width}};
    VGG_TRY(vgg_model_create_empty(ctx, &input, &model));
    vgg_status status = add_all(model, &known, ratio);
    if (status == VGG_OK)
        status = vgg_model_init(model, (vgg_init)options.init, options.seed);
    if (status != VGG_OK) {
        vgg_model_free(model);
        return status;
    }
    model->has_arch = true;
    model->arch = known;
    model->ratio = ratio;
    *out = model;
    return VGG_OK;
}

vgg_model *vgg_build(const vgg_arch *arch, uint32_t ratio)
{
    vgg_model *model = NULL;
    (void)vgg_model_create(NULL, arch, ratio, NULL, &model);
    return model;
}
