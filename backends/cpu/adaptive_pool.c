/* SPDX-License-Identifier: Apache-2.0 */
/* Average pooling to a given size: output i of `out` covers the inputs from
 * floor(i * in / out) to ceil((i + 1) * in / out), the end not included. A sample a
 * task. */
#include "cpu/cpu.h"

#include <string.h>

struct range {
    size_t begin, end;
};

static struct range range_of(size_t i, size_t in, size_t out)
{
    return (struct range){i * in / out, ((i + 1) * in + out - 1) / out};
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const struct vgg__kernels *kernels = vgg__cpu_of(args->machine)->gemm.kernels;
    const vgg_stage *s = args->stage;
    const size_t c = s->in.c;
    const float *x = (const float *)args->x + task * vgg__extent_count(s->in);
    float *y = (float *)args->y + task * vgg__extent_count(s->out);
    for (size_t i = 0; i < s->out.h; i++)
        for (size_t j = 0; j < s->out.w; j++, y += c) {
            const struct range h = range_of(i, s->in.h, s->out.h);
            const struct range w = range_of(j, s->in.w, s->out.w);
            const float size = (float)((h.end - h.begin) * (w.end - w.begin));
            memset(y, 0, c * sizeof(float));
            for (size_t r = h.begin; r < h.end; r++)
                kernels->add_rows(y, x + (r * s->in.w + w.begin) * c, w.end - w.begin,
                                  c);
            for (size_t k = 0; k < c; k++) y[k] /= size;
        }
}

static void spread(const vgg_stage *s, const float *dy, struct range h, struct range w,
                   float *dx)
{
    const size_t c = s->in.c;
    const float size = (float)((h.end - h.begin) * (w.end - w.begin));
    for (size_t r = h.begin; r < h.end; r++)
        for (size_t q = w.begin; q < w.end; q++) {
            float *to = dx + (r * s->in.w + q) * c;
            for (size_t k = 0; k < c; k++) to[k] += dy[k] / size;
        }
}

static void backward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const vgg_stage *s = args->stage;
    const float *dy = (const float *)args->dy + task * vgg__extent_count(s->out);
    float *dx = (float *)args->dx + task * vgg__extent_count(s->in);
    memset(dx, 0, vgg__extent_count(s->in) * sizeof(float));
    for (size_t i = 0; i < s->out.h; i++)
        for (size_t j = 0; j < s->out.w; j++, dy += s->in.c)
            spread(s, dy, range_of(i, s->in.h, s->out.h),
                   range_of(j, s->in.w, s->out.w), dx);
}

static void forward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, forward_task, (void *)args);
}

static void backward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, backward_task, (void *)args);
}

/* Where the size stays, every window is one pixel. */
static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const vgg_stage *s = env->stage;
    need->algorithm = "average of windows";
    need->identity = s->in.h == s->out.h && s->in.w == s->out.w;
}

const struct vgg__stage_impl vgg__cpu_adaptive_pool = {
    .measure = measure, .forward = forward, .backward = backward};
