/* SPDX-License-Identifier: Apache-2.0 */
/* Fully connected: y[n][o] = bias[o] + sum over i of weight[o][i] * x[n][i].
 *
 * A map that comes in flattened needs nothing: its elements lie in c, h, w order, as
 * the weight's columns do. */
#include <string.h>

#include "ref/ref.h"

static size_t input_count(const struct vgg__stage_args *args)
{
    return vgg__extent_count(args->stage->in);
}

static real dot(const real *a, const real *b, size_t count)
{
    real sum = 0;
    for (size_t i = 0; i < count; i++) sum += a[i] * b[i];
    return sum;
}

static void add_scaled(real factor, const real *restrict a, size_t count,
                       real *restrict to)
{
    for (size_t i = 0; i < count; i++) to[i] += factor * a[i];
}

static void forward(const struct vgg__stage_args *args)
{
    const size_t ins = input_count(args), outs = args->stage->out.c;
    const real *x = args->x, *weight = args->weight, *bias = args->bias;
    real *y = args->y;
    for (size_t o = 0; o < outs; o++)
        for (size_t n = 0; n < args->count; n++)
            y[n * outs + o] =
                (bias ? bias[o] : 0) + dot(weight + o * ins, x + n * ins, ins);
}

static void backward_data(const struct vgg__stage_args *args)
{
    const size_t ins = input_count(args), outs = args->stage->out.c;
    const real *dy = args->dy, *weight = args->weight;
    real *dx = args->dx;
    memset(dx, 0, args->count * ins * sizeof *dx);
    for (size_t o = 0; o < outs; o++)
        for (size_t n = 0; n < args->count; n++)
            add_scaled(dy[n * outs + o], weight + o * ins, ins, dx + n * ins);
}

static void backward_weight(const struct vgg__stage_args *args)
{
    const size_t ins = input_count(args), outs = args->stage->out.c;
    const real *x = args->x, *dy = args->dy;
    real *dweight = args->dweight;
    for (size_t o = 0; o < outs; o++)
        for (size_t n = 0; n < args->count; n++)
            add_scaled(dy[n * outs + o], x + n * ins, ins, dweight + o * ins);
}

static void backward_bias(const struct vgg__stage_args *args)
{
    const size_t outs = args->stage->out.c;
    const real *dy = args->dy;
    real *dbias = args->dbias;
    for (size_t o = 0; o < outs; o++) {
        double sum = 0;
        for (size_t n = 0; n < args->count; n++) sum += dy[n * outs + o];
        dbias[o] += (real)sum;
    }
}

static void backward(const struct vgg__stage_args *args)
{
    if (args->dx) backward_data(args);
    if (args->dweight) backward_weight(args);
    if (args->dbias) backward_bias(args);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "dot products";
    need->reads_x = env->wants_dparams;
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "the reference engine fuses nothing";
    return !stage->relu && stage->dropout == 0;
}

const struct vgg__stage_impl vgg__ref_linear = {
    .supports = supports, .measure = measure, .forward = forward, .backward = backward};
