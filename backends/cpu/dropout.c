/* SPDX-License-Identifier: Apache-2.0 */
/* Inverted dropout: training drops elements at a rate and scales the others up; the
 * other modes do nothing. What is kept is saved in the canonical order [n][c][h][w], in
 * which the random numbers are drawn. A channel's map a task, of a flat sample a
 * stretch. */
#include "common/dropout.h"

#include "core/random.h"
#include "cpu/cpu.h"

#define STRETCH ((size_t)16384)

struct dropout {
    const struct vgg__stage_args *args;
    const struct vgg__kernels *kernels;
    size_t map; /* elements that lie `step` apart */
    size_t step;
    size_t count; /* elements of all samples */
    bool forward;
};

/* Elements of canonical places first .. first + count - 1, all of one map. */
static void apply(const struct dropout *d, size_t first, size_t count)
{
    const struct vgg__stage_args *args = d->args;
    const float scale = (float)vgg__dropout_scale(args->stage);
    const uint8_t *keep = (const uint8_t *)args->saved + first;
    const float *from = d->forward ? args->x : args->dy;
    float *to = d->forward ? args->y : args->dx;
    const size_t sample = d->map * d->step, n = first / sample;
    const size_t c = first % sample / d->map, p = first % d->map;
    const size_t at = n * sample + p * d->step + c;
    if (d->step == 1)
        d->kernels->drop(to + at, from + at, keep, scale, count);
    else
        for (size_t i = 0; i < count; i++)
            to[at + i * d->step] = keep[i] ? from[at + i * d->step] * scale : 0;
}

/* What vgg__dropout_keep() says; it is asked only where the task has a part of a block
 * of random numbers. */
static void draw(const struct dropout *d, size_t first, size_t count, uint8_t *keep)
{
    const vgg_stage *stage = d->args->stage;
    const vgg_run *run = d->args->run;
    const uint64_t element =
        (uint64_t)run->first * vgg__extent_count(stage->out) + first;
    const size_t head = vgg__size_min((size_t)(-element % 4), count);
    const struct vgg__draw blocks = {.seed = run->seed,
                                     .step = run->step,
                                     .index = (element + head) / 4,
                                     .purpose =
                                         VGG_RANDOM_DROPOUT + stage->dropout_layer,
                                     .rate = stage->dropout,
                                     .blocks = (count - head) / 4,
                                     .keep = keep + head};
    const size_t end = head + 4 * blocks.blocks;
    vgg__dropout_keep(stage, run, first, head, keep);
    d->kernels->draw(&blocks);
    vgg__dropout_keep(stage, run, first + end, count - end, keep + end);
}

static void task_of(void *arg, uint32_t task, uint32_t worker)
{
    const struct dropout *d = arg;
    const size_t first = task * STRETCH;
    const size_t end = first + STRETCH < d->count ? first + STRETCH : d->count;
    if (d->forward) draw(d, first, end - first, (uint8_t *)d->args->saved + first);
    for (size_t i = first; i < end;) {
        const size_t next = (i / d->map + 1) * d->map;
        const size_t until = next < end ? next : end;
        apply(d, i, until - i);
        i = until;
    }
}

static void run(const struct vgg__stage_args *args, bool forward)
{
    const vgg_extent in = args->stage->in;
    const bool flat = !vgg__samples_differ(args->machine, in);
    struct dropout d = {.args = args, .forward = forward};
    d.kernels = vgg__cpu_of(args->machine)->gemm.kernels;
    d.map = flat ? vgg__extent_count(in) : (size_t)in.h * in.w;
    d.step = flat ? 1 : in.c;
    d.count = args->count * vgg__extent_count(in);
    args->machine->parallel(args->machine,
                            (uint32_t)((d.count + STRETCH - 1) / STRETCH), task_of, &d);
}

static void forward(const struct vgg__stage_args *args)
{
    run(args, true);
}

static void backward(const struct vgg__stage_args *args)
{
    run(args, false);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    need->identity = env->mode != VGG_MODE_TRAIN || env->stage->dropout == 0;
    need->saved = vgg__size_mul(vgg__extent_count(env->stage->in), env->batch);
}

const struct vgg__stage_impl vgg__cpu_dropout = {
    .measure = measure, .forward = forward, .backward = backward};
