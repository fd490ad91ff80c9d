/* SPDX-License-Identifier: Apache-2.0 */
/* Average pooling to a given size: output i of `out` covers the inputs from
 * floor(i * in / out) to ceil((i + 1) * in / out), the end not included. Windows
 * overlap where the sizes do not divide, and repeat where the output is the larger. */
#include <string.h>

#include "ref/ref.h"

struct window {
    size_t h0, h1, w0, w1; /* ends not included */
};

static size_t window_begin(size_t i, size_t in, size_t out)
{
    return i * in / out;
}

static size_t window_end(size_t i, size_t in, size_t out)
{
    return ((i + 1) * in + out - 1) / out;
}

static struct window window_at(const vgg_stage *stage, size_t h, size_t w)
{
    return (struct window){.h0 = window_begin(h, stage->in.h, stage->out.h),
                           .h1 = window_end(h, stage->in.h, stage->out.h),
                           .w0 = window_begin(w, stage->in.w, stage->out.w),
                           .w1 = window_end(w, stage->in.w, stage->out.w)};
}

static real window_size(const struct window *at)
{
    return (real)((at->h1 - at->h0) * (at->w1 - at->w0));
}

static real average(const vgg_stage *stage, const real *x, const struct window *at)
{
    real sum = 0;
    for (size_t h = at->h0; h < at->h1; h++)
        for (size_t w = at->w0; w < at->w1; w++) sum += x[h * stage->in.w + w];
    return sum / window_size(at);
}

static void spread(const vgg_stage *stage, real dy, const struct window *at, real *dx)
{
    for (size_t h = at->h0; h < at->h1; h++)
        for (size_t w = at->w0; w < at->w1; w++)
            dx[h * stage->in.w + w] += dy / window_size(at);
}

static void forward(const struct vgg__stage_args *args)
{
    const vgg_stage *stage = args->stage;
    const size_t planes = (size_t)args->count * stage->in.c;
    const size_t in = (size_t)stage->in.h * stage->in.w;
    const real *x = args->x;
    real *y = args->y;
    for (size_t i = 0; i < planes; i++)
        for (size_t h = 0; h < stage->out.h; h++)
            for (size_t w = 0; w < stage->out.w; w++) {
                const struct window at = window_at(stage, h, w);
                *y++ = average(stage, x + i * in, &at);
            }
}

static void backward(const struct vgg__stage_args *args)
{
    const vgg_stage *stage = args->stage;
    const size_t planes = (size_t)args->count * stage->in.c;
    const size_t in = (size_t)stage->in.h * stage->in.w;
    const real *dy = args->dy;
    real *dx = args->dx;
    memset(dx, 0, planes * in * sizeof *dx);
    for (size_t i = 0; i < planes; i++)
        for (size_t h = 0; h < stage->out.h; h++)
            for (size_t w = 0; w < stage->out.w; w++) {
                const struct window at = window_at(stage, h, w);
                spread(stage, *dy++, &at, dx + i * in);
            }
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "average of windows";
}

const struct vgg__stage_impl vgg__ref_adaptive_pool = {
    .measure = measure, .forward = forward, .backward = backward};
