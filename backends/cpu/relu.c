/* SPDX-License-Identifier: Apache-2.0 */
/* max(x, 0), elementwise. A NaN stays one, forward and backward. */
#include "cpu/cpu.h"

#define CHUNK ((size_t)65536) /* elements of a task */

struct relu {
    const struct vgg__stage_args *args;
    size_t count; /* elements */
};

static void for_chunks(const struct vgg__stage_args *args, vgg__task_fn run)
{
    struct relu r = {args, args->count * vgg__extent_count(args->stage->in)};
    args->machine->parallel(args->machine, (uint32_t)((r.count + CHUNK - 1) / CHUNK),
                            run, &r);
}

static size_t chunk_size(const struct relu *r, uint32_t task)
{
    const size_t left = r->count - task * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct relu *r = arg;
    const size_t first = task * CHUNK;
    const float *x = (const float *)r->args->x + first;
    vgg__cpu_of(r->args->machine)
        ->gemm.kernels->relu_mask((float *)r->args->y + first, x, x,
                                  chunk_size(r, task));
}

static void backward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct relu *r = arg;
    const size_t first = task * CHUNK;
    vgg__cpu_of(r->args->machine)
        ->gemm.kernels->relu_mask(
            (float *)r->args->dx + first, (const float *)r->args->dy + first,
            (const float *)r->args->y + first, chunk_size(r, task));
}

static void forward(const struct vgg__stage_args *args)
{
    for_chunks(args, forward_task);
}

static void backward(const struct vgg__stage_args *args)
{
    for_chunks(args, backward_task);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    need->reads_y = true;
}

const struct vgg__stage_impl vgg__cpu_relu = {
    .measure = measure, .forward = forward, .backward = backward};
