/* SPDX-License-Identifier: Apache-2.0 */
/* A convolution stage's arrays as its inner loops take them. */
#include "cpu/conv.h"

void vgg__conv_output(const struct vgg__stage_args *args, size_t sample, size_t channel,
                      struct vgg__output *out)
{
    const vgg_stage *s = args->stage;
    const size_t at = sample * vgg__extent_count(s->out) + channel;
    out->y = (float *)args->y + at;
    out->kept = args->saved ? (uint8_t *)args->saved + at : NULL;
    out->bias = args->bias ? (const float *)args->bias + channel : NULL;
    out->relu = s->relu;
    out->pool = s->pool;
}

struct vgg__source vgg__conv_gradient_source(const struct vgg__stage_args *args,
                                             size_t sample)
{
    const vgg_stage *s = args->stage;
    const size_t at = sample * vgg__extent_count(s->out);
    struct vgg__source source = {.kind = VGG__PLAIN,
                                 .x = (const float *)args->dy + at,
                                 .h = s->mid.h,
                                 .w = s->mid.w,
                                 .c = s->mid.c,
                                 .channels = s->mid.c};
    if (s->pool != VGG_NO_POOL) {
        source.kind = s->pool == VGG_MAX_POOL ? VGG__MAX_POOLED : VGG__AVERAGE_POOLED;
        source.kept = (const uint8_t *)args->saved + at;
    } else if (s->relu) {
        source.kind = VGG__MASKED;
        source.y = (const float *)args->y + at;
    }
    return source;
}

struct vgg__source vgg__conv_input_source(const struct vgg__stage_args *args,
                                          size_t sample)
{
    const vgg_stage *s = args->stage;
    return (struct vgg__source){.kind = VGG__PLAIN,
                                .x = (const float *)args->x +
                                     sample * vgg__extent_count(s->in),
                                .h = s->in.h,
                                .w = s->in.w,
                                .c = s->in.c,
                                .channels = s->in.c};
}
