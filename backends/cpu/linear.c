/* SPDX-License-Identifier: Apache-2.0 */
/* Fully connected, with bias and ReLU if it is fused. x [n][ins], weight [outs][ins].
 *
 * Weights are by far the largest operand and are read once a pass: forward computes
 * y^T = weight * x^T, a block of outputs a task, with x^T packed before; few samples
 * take dot products instead. Backward masks dy in place, then dx = dy * weight by
 * blocks of inputs, dweight += dy^T * x by blocks of outputs. An input that was not
 * flattened before is [h][w][c], the weights' columns are in c, h, w order: it is moved
 * on its way, and backward takes what forward has moved. */
#include "cpu/cpu.h"

#include <string.h>

#define FEW       4   /* samples: dot products up to here */
#define OUTPUTS   64  /* of a forward task */
#define INPUTS    256 /* of a task of dx */
#define GRADIENTS 128 /* outputs of a task of dweight */

struct linear {
    const struct vgg__stage_args *args;
    const struct vgg__cpu *cpu;
    size_t count, ins, outs;
    const float *x; /* [n][ins] in the order of the columns */
    float *dx;
    bool move;
    float *moved;   /* x, saved for backward if that needs it; dx */
    float *packed;  /* forward: x^T */
    float *workers; /* [worker][worker_floats]: the product's, then forward's block */
    size_t worker_floats;
};

/* Floats of the moved samples, of x^T, and of a worker's scratch in forward. */
static size_t moved_count(const struct vgg__machine *machine, const vgg_stage *stage,
                          size_t count)
{
    if (!vgg__samples_differ(machine, stage->in)) return 0;
    return vgg__cpu_floats(vgg__size_mul(vgg__extent_count(stage->in), count));
}

static size_t packed_count(const struct vgg__machine *machine, const vgg_stage *stage,
                           size_t count)
{
    if (count <= FEW) return 0;
    return vgg__cpu_floats(vgg__gemm_packed_count(&vgg__cpu_of(machine)->gemm,
                                                  vgg__extent_count(stage->in), count));
}

static size_t worker_count(size_t count)
{
    if (count <= FEW) return 0;
    const size_t block = vgg__cpu_floats(vgg__size_mul(OUTPUTS, count));
    return vgg__size_add(VGG__GEMM_SCRATCH, block);
}

static struct linear linear_of(const struct vgg__stage_args *args)
{
    return (struct linear){.args = args,
                           .cpu = vgg__cpu_of(args->machine),
                           .count = args->count,
                           .ins = vgg__extent_count(args->stage->in),
                           .outs = args->stage->out.c,
                           .x = args->x,
                           .dx = args->dx,
                           .move = vgg__samples_differ(args->machine, args->stage->in)};
}

static void for_blocks(const struct linear *l, size_t count, size_t block,
                       vgg__task_fn run)
{
    l->args->machine->parallel(l->args->machine,
                               (uint32_t)((count + block - 1) / block), run, (void *)l);
}

/* A sample of x to `moved`, and of `moved` to dx. */
static void move_x_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const vgg_extent e = l->args->stage->in;
    vgg__cpu_transpose((const float *)l->args->x + task * l->ins, (size_t)e.h * e.w,
                       e.c, l->moved + task * l->ins);
}

static void move_dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const vgg_extent e = l->args->stage->in;
    vgg__cpu_transpose(l->moved + task * l->ins, e.c, (size_t)e.h * e.w,
                       (float *)l->args->dx + task * l->ins);
}

/* ---- Forward --------------------------------------------------------------- */

static struct vgg__product transposed_x(const struct linear *l)
{
    return (struct vgg__product){
        .n = l->count, .k = l->ins, .b = l->x, .b_row = 1, .b_col = l->ins};
}

static void pack_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const struct vgg__product product = transposed_x(l);
    vgg__gemm_pack(&l->cpu->gemm, &product, task, l->packed);
}

static float finished(const struct linear *l, size_t o, float v)
{
    if (l->args->bias) v += ((const float *)l->args->bias)[o];
    return l->args->stage->relu && v <= 0 ? 0 : v;
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS;
    const size_t outs = vgg__size_min(OUTPUTS, l->outs - first);
    float *scratch = l->workers + worker * l->worker_floats;
    float *block = scratch + VGG__GEMM_SCRATCH;
    const struct vgg__product product = {.m = outs,
                                         .n = l->count,
                                         .k = l->ins,
                                         .a = (const float *)l->args->weight +
                                              first * l->ins,
                                         .a_row = l->ins,
                                         .a_col = 1,
                                         .b = l->packed,
                                         .packed = true,
                                         .c = block,
                                         .c_row = l->count};
    vgg__gemm_run(&l->cpu->gemm, &product, scratch);
    float *y = l->args->y;
    for (size_t n = 0; n < l->count; n++)
        for (size_t o = 0; o < outs; o++)
            y[n * l->outs + first + o] =
                finished(l, first + o, block[o * l->count + n]);
}

static void few_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS;
    const size_t end = vgg__size_min(first + OUTPUTS, l->outs);
    const float *x = l->x, *weight = l->args->weight;
    float *y = l->args->y;
    for (size_t o = first; o < end; o += 4) {
        const size_t rows = vgg__size_min(4, end - o);
        for (size_t n = 0; n < l->count; n++)
            for (size_t i = 0; i < rows; i += rows < 4 ? 1 : 4) {
                float dots[4]; /* of one row four times at the end */
                l->cpu->gemm.kernels->dot4(dots, weight + (o + i) * l->ins,
                                           rows < 4 ? 0 : l->ins, x + n * l->ins,
                                           l->ins);
                for (size_t j = 0; j < (rows < 4 ? 1 : 4); j++)
                    y[n * l->outs + o + i + j] = finished(l, o + i + j, dots[j]);
            }
    }
}

static void forward(const struct vgg__stage_args *args)
{
    struct linear l = linear_of(args);
    l.moved = args->saved ? args->saved : args->scratch;
    l.packed = args->scratch;
    if (!args->saved) l.packed += moved_count(args->machine, args->stage, args->count);
    l.workers = l.packed + packed_count(args->machine, args->stage, args->count);
    l.worker_floats = worker_count(l.count);
    if (l.move) {
        for_blocks(&l, l.count, 1, move_x_task);
        l.x = l.moved;
    }
    if (l.count <= FEW) {
        for_blocks(&l, l.outs, OUTPUTS, few_task);
        return;
    }
    for_blocks(&l, vgg__gemm_panels(&l.cpu->gemm, l.count), 1, pack_task);
    for_blocks(&l, l.outs, OUTPUTS, forward_task);
}

/* ---- Backward -------------------------------------------------------------- */

/* A block of outputs: dy before the ReLU in place, and its sum over samples. */
static void mask_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS;
    const size_t outs = vgg__size_min(OUTPUTS, l->outs - first);
    double sum[OUTPUTS] = {0};
    for (size_t n = 0; n < l->count; n++) {
        const size_t at = n * l->outs + first;
        float *dy = (float *)l->args->dy + at;
        if (l->args->stage->relu)
            l->cpu->gemm.kernels->relu_mask(dy, dy, (const float *)l->args->y + at,
                                            outs);
        for (size_t o = 0; o < outs; o++) sum[o] += dy[o];
    }
    float *dbias = l->args->dbias;
    for (size_t o = 0; o < outs && dbias; o++) dbias[first + o] += (float)sum[o];
}

static void dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * INPUTS;
    const struct vgg__product product = {.m = l->count,
                                         .n = vgg__size_min(INPUTS, l->ins - first),
                                         .k = l->outs,
                                         .a = l->args->dy,
                                         .a_row = l->outs,
                                         .a_col = 1,
                                         .b = (const float *)l->args->weight + first,
                                         .b_row = l->ins,
                                         .b_col = 1,
                                         .c = l->dx + first,
                                         .c_row = l->ins};
    vgg__gemm_run(&l->cpu->gemm, &product, l->workers + worker * l->worker_floats);
}

static void dweight_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * GRADIENTS;
    const struct vgg__product product = {.m = vgg__size_min(GRADIENTS, l->outs - first),
                                         .n = l->ins,
                                         .k = l->count,
                                         .a = (const float *)l->args->dy + first,
                                         .a_row = 1,
                                         .a_col = l->outs,
                                         .b = l->x,
                                         .b_row = l->ins,
                                         .b_col = 1,
                                         .c =
                                             (float *)l->args->dweight + first * l->ins,
                                         .c_row = l->ins,
                                         .accumulate = true};
    vgg__gemm_run(&l->cpu->gemm, &product, l->workers + worker * l->worker_floats);
}

static void backward(const struct vgg__stage_args *args)
{
    struct linear l = linear_of(args);
    l.moved = args->scratch;
    l.workers = l.moved + moved_count(args->machine, args->stage, args->count);
    l.worker_floats = VGG__GEMM_SCRATCH;
    if (args->stage->relu || args->dbias) for_blocks(&l, l.outs, OUTPUTS, mask_task);
    if (args->dx) {
        if (l.move) l.dx = l.moved;
        for_blocks(&l, l.ins, INPUTS, dx_task);
        if (l.move) for_blocks(&l, l.count, 1, move_dx_task);
    }
    if (args->dweight) {
        if (l.move) l.x = args->saved;
        for_blocks(&l, l.outs, GRADIENTS, dweight_task);
    }
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const size_t moved = moved_count(env->machine, env->stage, env->batch);
    const size_t packed = packed_count(env->machine, env->stage, env->batch);
    const size_t forward =
        vgg__size_add(packed, vgg__size_mul(cpu->workers, worker_count(env->batch)));
    const size_t backward =
        vgg__size_add(moved, (size_t)cpu->workers * VGG__GEMM_SCRATCH);
    const bool save = env->wants_dparams && moved > 0;
    need->algorithm = cpu->gemm.blas      ? "weights x columns, OpenBLAS"
                      : env->batch <= FEW ? "dot products"
                                          : "weights x columns";
    need->reads_x = env->wants_dparams && !save;
    need->reads_y = env->stage->relu != 0;
    need->saved = save ? vgg__size_mul(moved, sizeof(float)) : 0;
    need->forward_scratch =
        vgg__size_mul(vgg__size_add(forward, save ? 0 : moved), sizeof(float));
    need->backward_scratch = vgg__size_mul(backward, sizeof(float));
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "dropout is a stage of its own here";
    return stage->dropout == 0;
}

const struct vgg__stage_impl vgg__cpu_linear = {
    .supports = supports, .measure = measure, .forward = forward, .backward = backward};
