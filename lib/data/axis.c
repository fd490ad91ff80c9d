/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of a resize as an engine gets them: made empty, and given back. */
#include "core/memory.h"
#include "data/resize.h"

vgg_status vgg__axis_create(vgg_context *ctx, vgg_axis *axis, uint32_t **at,
                            int32_t **weight)
{
    const size_t count = (size_t)axis->out * axis->taps;
    axis->at = *at = vgg__calloc(ctx, count, sizeof **at);
    axis->weight = *weight = vgg__calloc(ctx, count, sizeof **weight);
    return *at != NULL && *weight != NULL ? VGG_OK : VGG_ENOMEM;
}

void vgg__axis_free(vgg_axis *axis)
{
    vgg__free((void *)axis->at);
    vgg__free((void *)axis->weight);
    *axis = (vgg_axis){0};
}
