/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution with a 3x3 or 1x1 kernel, stride 1, zeros around the map so that it keeps
 * its size, and a bias.
 *
 *   y[n][oc][h][w] = bias[oc] + sum over ic, kh, kw of
 *                    weight[oc][ic][kh][kw] * x[n][ic][h + kh - pad][w + kw - pad]
 *
 * All three passes walk over pairs of planes and the kernel's places, and in the
 * innermost loop along a row. As everywhere in deep learning this is a correlation: the
 * kernel is not flipped. */
#include "ref/ref.h"

struct window {
    size_t h, w;   /* of a plane */
    size_t dh, dw; /* kh, kw: a shift of kh - pad rows and kw - pad columns */
    size_t pad;
};

/* Rows (or columns) i of 0 .. size - 1 for which i + shift - pad is one, too. */
static size_t range_begin(size_t shift, size_t pad)
{
    return pad > shift ? pad - shift : 0;
}

static size_t range_end(size_t shift, size_t pad, size_t size)
{
    if (shift <= pad) return size;
    return size > shift - pad ? size - (shift - pad) : 0;
}

/* y[h][w] += factor * x[h + dh - pad][w + dw - pad] */
static void add_shifted(const struct window *s, real factor, const real *restrict x,
                        real *restrict y)
{
    const size_t begin = range_begin(s->dw, s->pad);
    const size_t end = range_end(s->dw, s->pad, s->w);
    const size_t last = range_end(s->dh, s->pad, s->h);
    for (size_t h = range_begin(s->dh, s->pad); h < last; h++) {
        const real *from = x + (h + s->dh - s->pad) * s->w;
        real *to = y + h * s->w;
        for (size_t w = begin; w < end; w++) to[w] += factor * from[w + s->dw - s->pad];
    }
}

/* Sum of y[h][w] * x[h + dh - pad][w + dw - pad], row by row. */
static real dot_shifted(const struct window *s, const real *x, const real *y)
{
    const size_t begin = range_begin(s->dw, s->pad);
    const size_t end = range_end(s->dw, s->pad, s->w);
    const size_t last = range_end(s->dh, s->pad, s->h);
    real sum = 0;
    for (size_t h = range_begin(s->dh, s->pad); h < last; h++) {
        const real *a = y + h * s->w;
        const real *b = x + (h + s->dh - s->pad) * s->w;
        real row = 0;
        for (size_t w = begin; w < end; w++) row += a[w] * b[w + s->dw - s->pad];
        sum += row;
    }
    return sum;
}

/* Something to do for one pair of planes, with kernel = weight[oc][ic]. */
static void forward_planes(const vgg_stage *stage, const real *kernel, const real *x,
                           real *y)
{
    struct window s = {.h = stage->in.h, .w = stage->in.w, .pad = stage->kernel / 2};
    for (s.dh = 0; s.dh < stage->kernel; s.dh++)
        for (s.dw = 0; s.dw < stage->kernel; s.dw++)
            add_shifted(&s, kernel[s.dh * stage->kernel + s.dw], x, y);
}

/* The way back is the same with the opposite shift. */
static void backward_planes(const vgg_stage *stage, const real *kernel, const real *dy,
                            real *dx)
{
    const size_t last = stage->kernel - 1;
    struct window s = {.h = stage->in.h, .w = stage->in.w, .pad = stage->kernel / 2};
    for (s.dh = 0; s.dh <= last; s.dh++)
        for (s.dw = 0; s.dw <= last; s.dw++)
            add_shifted(&s, kernel[(last - s.dh) * stage->kernel + last - s.dw], dy,
                        dx);
}

static void weight_planes(const vgg_stage *stage, const real *x, const real *dy,
                          real *dkernel)
{
    struct window s = {.h = stage->in.h, .w = stage->in.w, .pad = stage->kernel / 2};
    for (s.dh = 0; s.dh < stage->kernel; s.dh++)
        for (s.dw = 0; s.dw < stage->kernel; s.dw++)
            dkernel[s.dh * stage->kernel + s.dw] += dot_shifted(&s, x, dy);
}

static void forward(const struct vgg__stage_args *args)
{
    const vgg_stage *stage = args->stage;
    const size_t ics = stage->in.c, ocs = stage->out.c;
    const size_t plane = (size_t)stage->in.h * stage->in.w;
    const size_t taps = (size_t)stage->kernel * stage->kernel;
    const real *x = args->x, *weight = args->weight, *bias = args->bias;
    real *y = args->y;
    for (size_t n = 0; n < args->count; n++)
        for (size_t oc = 0; oc < ocs; oc++) {
            real *to = y + (n * ocs + oc) * plane;
            for (size_t i = 0; i < plane; i++) to[i] = bias ? bias[oc] : 0;
            for (size_t ic = 0; ic < ics; ic++)
                forward_planes(stage, weight + (oc * ics + ic) * taps,
                               x + (n * ics + ic) * plane, to);
        }
}

static void backward_data(const struct vgg__stage_args *args)
{
    const vgg_stage *stage = args->stage;
    const size_t ics = stage->in.c, ocs = stage->out.c;
    const size_t plane = (size_t)stage->in.h * stage->in.w;
    const size_t taps = (size_t)stage->kernel * stage->kernel;
    const real *dy = args->dy, *weight = args->weight;
    real *dx = args->dx;
    for (size_t n = 0; n < args->count; n++)
        for (size_t ic = 0; ic < ics; ic++) {
            real *to = dx + (n * ics + ic) * plane;
            for (size_t i = 0; i < plane; i++) to[i] = 0;
            for (size_t oc = 0; oc < ocs; oc++)
                backward_planes(stage, weight + (oc * ics + ic) * taps,
                                dy + (n * ocs + oc) * plane, to);
        }
}

static void backward_weight(const struct vgg__stage_args *args)
{
    const vgg_stage *stage = args->stage;
    const size_t ics = stage->in.c, ocs = stage->out.c;
    const size_t plane = (size_t)stage->in.h * stage->in.w;
    const size_t taps = (size_t)stage->kernel * stage->kernel;
    const real *x = args->x, *dy = args->dy;
    real *dweight = args->dweight;
    for (size_t oc = 0; oc < ocs; oc++)
        for (size_t ic = 0; ic < ics; ic++)
            for (size_t n = 0; n < args->count; n++)
                weight_planes(stage, x + (n * ics + ic) * plane,
                              dy + (n * ocs + oc) * plane,
                              dweight + (oc * ics + ic) * taps);
}

static void backward_bias(const struct vgg__stage_args *args)
{
    const size_t ocs = args->stage->out.c;
    const size_t plane = (size_t)args->stage->out.h * args->stage->out.w;
    const real *dy = args->dy;
    real *dbias = args->dbias;
    for (size_t oc = 0; oc < ocs; oc++) {
        double sum = 0;
        for (size_t n = 0; n < args->count; n++)
            for (size_t i = 0; i < plane; i++) sum += dy[(n * ocs + oc) * plane + i];
        dbias[oc] += (real)sum;
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
    need->algorithm = "direct convolution";
    need->reads_x = env->wants_dparams;
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "the reference engine fuses nothing";
    return !stage->batch_norm && !stage->relu && stage->pool == VGG_NO_POOL;
}

const struct vgg__stage_impl vgg__ref_conv = {
    .supports = supports, .measure = measure, .forward = forward, .backward = backward};
