/* SPDX-License-Identifier: Apache-2.0 */
/* [h][w][c] to [c*h*w] in c, h, w order, the order of a linear layer's columns. Maps of
 * one channel or one pixel have nothing to move. A sample a task. */
#include "cpu/cpu.h"

void vgg__cpu_transpose(const float *in, size_t rows, size_t cols, float *out)
{
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < cols; j++) out[j * rows + i] = in[i * cols + j];
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const vgg_extent in = args->stage->in;
    const size_t at = task * vgg__extent_count(in);
    vgg__cpu_transpose((const float *)args->x + at, (size_t)in.h * in.w, in.c,
                       (float *)args->y + at);
}

static void backward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const vgg_extent in = args->stage->in;
    const size_t at = task * vgg__extent_count(in);
    vgg__cpu_transpose((const float *)args->dy + at, in.c, (size_t)in.h * in.w,
                       (float *)args->dx + at);
}

static void forward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, forward_task, (void *)args);
}

static void backward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, backward_task, (void *)args);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "transposition";
    need->identity = !vgg__samples_differ(env->machine, env->stage->in);
}

const struct vgg__stage_impl vgg__cpu_flatten = {
    .measure = measure, .forward = forward, .backward = backward};
