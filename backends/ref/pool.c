/* SPDX-License-Identifier: Apache-2.0 */
/* 2x2 pooling with stride 2; the last row or column of an odd map is dropped.
 *
 * Maximum: of equal values the first in row-major order wins and gets the gradient; a
 * NaN wins over numbers, and the last of several NaN over the others, as in PyTorch. */
#include <math.h>
#include <string.h>

#include "ref/ref.h"

/* Place 0 .. 3 of the winner in its window. */
static uint8_t find_winner(const real window[4])
{
    uint8_t best = 0;
    for (uint8_t i = 1; i < 4; i++)
        if (window[i] > window[best] || isnan(window[i])) best = i;
    return best;
}

static void pool_plane(const struct vgg__stage_args *args, const real *x, real *y,
                       uint8_t *winners)
{
    const vgg_stage *stage = args->stage;
    const size_t width = stage->in.w;
    for (size_t h = 0; h < stage->out.h; h++)
        for (size_t w = 0; w < stage->out.w; w++) {
            const real *at = x + 2 * h * width + 2 * w;
            const real window[4] = {at[0], at[1], at[width], at[width + 1]};
            const size_t to = h * stage->out.w + w;
            if (stage->pool == VGG_AVERAGE_POOL) {
                y[to] = (window[0] + window[1] + window[2] + window[3]) / 4;
                continue;
            }
            const uint8_t winner = find_winner(window);
            y[to] = window[winner];
            if (winners) winners[to] = winner;
        }
}

static void unpool_plane(const struct vgg__stage_args *args, const real *dy,
                         const uint8_t *winners, real *dx)
{
    const vgg_stage *stage = args->stage;
    const size_t width = stage->in.w;
    memset(dx, 0, stage->in.h * width * sizeof *dx);
    for (size_t h = 0; h < stage->out.h; h++)
        for (size_t w = 0; w < stage->out.w; w++) {
            real *at = dx + 2 * h * width + 2 * w;
            const size_t from = h * stage->out.w + w;
            if (stage->pool == VGG_AVERAGE_POOL)
                at[0] = at[1] = at[width] = at[width + 1] = dy[from] / 4;
            else
                at[winners[from] / 2 * width + winners[from] % 2] = dy[from];
        }
}

static void forward(const struct vgg__stage_args *args)
{
    const size_t planes = (size_t)args->count * args->stage->in.c;
    const size_t in = (size_t)args->stage->in.h * args->stage->in.w;
    const size_t out = (size_t)args->stage->out.h * args->stage->out.w;
    const real *x = args->x;
    real *y = args->y;
    uint8_t *winners = args->saved;
    for (size_t i = 0; i < planes; i++)
        pool_plane(args, x + i * in, y + i * out, winners ? winners + i * out : NULL);
}

static void backward(const struct vgg__stage_args *args)
{
    const size_t planes = (size_t)args->count * args->stage->in.c;
    const size_t in = (size_t)args->stage->in.h * args->stage->in.w;
    const size_t out = (size_t)args->stage->out.h * args->stage->out.w;
    const real *dy = args->dy;
    real *dx = args->dx;
    const uint8_t *winners = args->saved;
    for (size_t i = 0; i < planes; i++)
        unpool_plane(args, dy + i * out, winners ? winners + i * out : NULL,
                     dx + i * in);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const bool maximum = env->stage->pool == VGG_MAX_POOL;
    need->algorithm = maximum ? "maximum" : "average";
    if (maximum && env->mode != VGG_MODE_INFER)
        need->saved = vgg__size_mul(vgg__extent_count(env->stage->out), env->batch);
}

const struct vgg__stage_impl vgg__ref_pool = {
    .measure = measure, .forward = forward, .backward = backward};
