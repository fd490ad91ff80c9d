/* SPDX-License-Identifier: Apache-2.0 */
/* The route by the engine's own tensor-core kernels: what they are asked, and when. */
#include "cudnn/conv.h"

/* A question of shape; false: it is not taken. */
static bool fit(const struct vgg__cudnn *device, const vgg_stage *s, uint32_t batch,
                enum vgg__conv_mma_what what, bool pooled,
                struct vgg__conv_mma_args *out)
{
    *out = (struct vgg__conv_mma_args){.n = batch,
                                       .h = s->in.h,
                                       .wd = s->in.w,
                                       .ic = s->in.c,
                                       .oc = s->out.c,
                                       .relu = s->relu,
                                       .pool = pooled};
    return s->kernel == 3 && vgg__conv_mma_fit(what, &device->mma, out) != 0;
}

bool vgg__conv_mma_takes(const struct vgg__cudnn *device, const vgg_stage *stage,
                         uint32_t batch, enum vgg__type type,
                         enum vgg__conv_mma_what what, bool pooled)
{
    struct vgg__conv_mma_args args;
    if (type != VGG__BF16) return false;
    if (what == VGG__CONV_MMA_FORWARD && stage->pool == VGG_AVERAGE_POOL) return false;
    return fit(device, stage, batch, what, pooled, &args);
}

uint32_t vgg__conv_mma_rows(const struct vgg__cudnn *device, const vgg_stage *stage,
                            uint32_t batch, enum vgg__type type)
{
    uint32_t most = 0;
    for (int pooled = 0; type == VGG__BF16 && pooled < 2; pooled++) {
        struct vgg__conv_mma_args args;
        if (fit(device, stage, batch, VGG__CONV_MMA_WEIGHTS, pooled != 0, &args) &&
            args.tile.blocks > most)
            most = args.tile.blocks;
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
                             enum vgg__conv_mma_what what, const void *dz, bool pooled)
{
    const vgg_stage *s = call->stage;
    const struct vgg__conv_scratch at =
        vgg__conv_scratch(call->device, s, call->batch, call->type);
    struct vgg__conv_mma_args args;
    fit(call->device, s, call->batch, what, pooled,
        &args); /* it was taken when chosen */
    args.w = call->weight_typed;
    args.winner = pooled ? call->saved : NULL;
    args.x = call->x;
    args.dy = dz;
    if (what == VGG__CONV_MMA_FORWARD) {
        args.bias = call->bias;
        args.y = call->y;
        return launch(call, what, &args);
    }
    if (what == VGG__CONV_MMA_DATA) {
        args.x = s->input_relu ? call->x : NULL;
        args.dx = call->dx;
        return launch(call, what, &args);
    }
    const size_t row = (size_t)s->out.c * 9 * s->in.c + s->out.c;
    float *total = (float *)((unsigned char *)call->scratch + at.partial);
    args.partial = total + row;
    const vgg_status status = launch(call, what, &args);
    return status == VGG_OK ? vgg__conv_add_partial(call, total, args.tile.blocks)
                            : status;
}
