/* SPDX-License-Identifier: Apache-2.0 */
/* The route by the engine's own tensor-core kernels: what they are asked, and when. */
#include "cudnn/conv.h"

/* A question of shape; false: it is not taken. */
static bool fit(const struct vgg__cudnn *device, const vgg_stage *s, uint32_t batch,
                const struct vgg__conv_mma *how, struct vgg__conv_mma_args *out)
{
    *out = (struct vgg__conv_mma_args){.n = batch,
                                       .h = s->in.h,
                                       .wd = s->in.w,
                                       .ic = s->in.c,
                                       .oc = s->out.c,
                                       .relu = s->relu,
                                       .pool = how->pooled,
                                       .rank = how->tile};
    return s->kernel == 3 && vgg__conv_mma_fit(how->what, &device->mma, out) != 0;
}

bool vgg__conv_mma_takes(const struct vgg__cudnn *device, const vgg_stage *stage,
                         uint32_t batch, enum vgg__type type,
                         const struct vgg__conv_mma *how)
{
    struct vgg__conv_mma_args args;
    const bool forward = how->what == VGG__CONV_MMA_FORWARD;
    if (type != VGG__BF16 || (forward && stage->pool == VGG_AVERAGE_POOL)) return false;
    return fit(device, stage, batch, how, &args);
}

uint32_t vgg__conv_mma_rows(const struct vgg__cudnn *device, const vgg_stage *stage,
                            uint32_t batch, enum vgg__type type)
{
    uint32_t most = 0;
    for (uint32_t i = 0; type == VGG__BF16 && i < 2 * VGG__CONV_TILES; i++) {
        const struct vgg__conv_mma how = {VGG__CONV_MMA_WEIGHTS, i % 2 != 0, i / 2};
        struct vgg__conv_mma_args args;
        if (!fit(device, stage, batch, &how, &args)) continue;
        const uint32_t rows = vgg__conv_mma_grid(how.what, &args).blocks[0];
        if (rows > most) most = rows;
    }
    return most;
}

static vgg_status launch(const struct vgg__cudnn_call *call,
                         enum vgg__conv_mma_what what,
                         const struct vgg__conv_mma_args *args)
{
    return vgg__cudnn_launch(
        call->device, call->stream, vgg__conv_mma_kernel(what, args),
        vgg__conv_mma_grid(what, args), vgg__conv_mma_shared(what, args), args);
}

vgg_status vgg__conv_mma_run(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_mma *how, const void *dz,
                             float *partial, uint32_t *rows)
{
    const vgg_stage *s = call->stage;
    struct vgg__conv_mma_args args;
    fit(call->device, s, call->batch, how, &args); /* it was taken when chosen */
    args.w = call->weight_typed;
    args.winner = how->pooled ? call->saved : NULL;
    args.x = call->x;
    args.dy = dz;
    if (how->what == VGG__CONV_MMA_FORWARD) {
        args.bias = call->bias;
        args.y = call->y;
        return launch(call, how->what, &args);
    }
    if (how->what == VGG__CONV_MMA_DATA) {
        args.x = s->input_relu ? call->x : NULL;
        args.dx = call->dx;
        return launch(call, how->what, &args);
    }
    args.partial = partial;
    *rows = vgg__conv_mma_grid(how->what, &args).blocks[0];
    return launch(call, how->what, &args);
}
