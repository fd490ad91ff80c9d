/* SPDX-License-Identifier: Apache-2.0 */
/* Fully connected, with bias and ReLU if it is fused. x [n][ins], weight [outs][ins].
 *
 * Weights are by far the largest operand and are read once a pass. By the own kernel
 * the products are those of linear_products.h; few samples take dot products instead,
 * the same for any number of them. With weights in bf16 forward reads a copy that
 * prepare() has made. By OpenBLAS they are y^T = weight * x^T by blocks of outputs, dx
 * = dy * weight by blocks of inputs, dweight += dy^T * x by blocks of outputs. In a
 * step dweight is the weights themselves: the product takes the gradient off them,
 * after dx has read them.
 *
 * Backward masks dy in place. An input that was not flattened before is [h][w][c], the
 * weights' columns are in c, h, w order: it is moved on its way, and backward takes
 * what forward has moved. */
#include "cpu/linear_products.h"

#include <string.h>

#define FEW       VGG__DOTS /* samples whose dot products stay in registers */
#define MOST_DOTS 16        /* samples of dot products with bf16; f32: half of it */
#define PART      512       /* of k, for more than FEW */
#define PART_ROWS 16        /* outputs that meet a part of x together */
#define OUTPUTS   VGG__LINEAR_OUTPUTS
#define INPUTS    256 /* of a task of OpenBLAS' dx */
#define GRADIENTS 128 /* outputs of a task of OpenBLAS' dweight */

_Static_assert(PART_ROWS / VGG__DOTS * (MOST_DOTS / VGG__DOTS) * VGG__DOTS_SUMS <=
                   VGG__LINEAR_SCRATCH,
               "the sums of a block fit a worker's scratch");

struct linear {
    struct vgg__linear p; /* of the own products */
    const struct vgg__stage_args *args;
    const struct vgg__cpu *cpu;
    const struct vgg__linear_kernels *kernels;
    bool own;       /* or OpenBLAS */
    const float *x; /* [n][ins] in the order of the columns */
    float *dx;
    bool move;
    float *moved; /* x, saved for backward if that needs it; dx */
    const struct vgg__descent *descent;
};

/* ---- Memory ---------------------------------------------------------------- */

static bool takes_own(const struct vgg__machine *machine, bool half)
{
    return half || !vgg__cpu_of(machine)->gemm.blas;
}

/* Whether forward takes dot products: samples that don't fill half a panel leave the
 * kernel for products idler than that, and bf16 is best expanded on the way. */
static bool takes_dots(const struct vgg__machine *machine, size_t count, bool half)
{
    const size_t panel = vgg__cpu_of(machine)->gemm.kernels->cols;
    const size_t most = vgg__size_min(panel / 2, half ? MOST_DOTS : MOST_DOTS / 2);
    return count <= FEW || count <= most;
}

/* Floats of the moved samples, of the packed operand, and of a worker's scratch. */
static size_t moved_count(const struct vgg__machine *machine, const vgg_stage *stage,
                          size_t count)
{
    if (!vgg__samples_differ(machine, stage->in)) return 0;
    return vgg__cpu_floats(vgg__size_mul(vgg__extent_count(stage->in), count));
}

static size_t packed_forward(const struct vgg__machine *machine, const vgg_stage *stage,
                             size_t count, bool half)
{
    const struct vgg__gemm *gemm = &vgg__cpu_of(machine)->gemm;
    const size_t ins = vgg__extent_count(stage->in);
    if (takes_dots(machine, count, half)) return 0;
    if (takes_own(machine, half)) return vgg__linear_packed_x(gemm, count, ins);
    return vgg__cpu_floats(vgg__gemm_packed_count(gemm, ins, count));
}

/* dy for dx, then x for dweight. */
static size_t packed_backward(const struct vgg__machine *machine,
                              const vgg_stage *stage, size_t count, bool own)
{
    const struct vgg__gemm *gemm = &vgg__cpu_of(machine)->gemm;
    if (!own) return 0;
    const size_t dy = vgg__linear_packed_dy(gemm, count, stage->out.c);
    const size_t x = vgg__linear_packed_x(gemm, count, vgg__extent_count(stage->in));
    return dy > x ? dy : x;
}

static size_t worker_count(const struct vgg__machine *machine, size_t count, bool own)
{
    if (own) return vgg__linear_scratch(&vgg__cpu_of(machine)->gemm, count);
    const size_t block = vgg__cpu_floats(vgg__size_mul(OUTPUTS, count));
    return vgg__size_add(VGG__GEMM_SCRATCH, block);
}

static struct linear linear_of(const struct vgg__stage_args *args)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(args->machine);
    const bool half = args->prepared != NULL;
    const bool own = takes_own(args->machine, half);
    return (struct linear){
        .p = {.gemm = &cpu->gemm,
              .count = args->count,
              .ins = vgg__extent_count(args->stage->in),
              .outs = args->stage->out.c,
              .w = half ? args->prepared : args->weight,
              .half = half,
              .worker_floats = worker_count(args->machine, args->count, own)},
        .args = args,
        .cpu = cpu,
        .kernels = cpu->gemm.kernels->linear,
        .own = own,
        .x = args->x,
        .dx = args->dx,
        .move = vgg__samples_differ(args->machine, args->stage->in)};
}

static void for_tasks(const struct linear *l, size_t tasks, vgg__task_fn run)
{
    l->args->machine->parallel(l->args->machine, (uint32_t)tasks, run, (void *)l);
}

static void for_blocks(const struct linear *l, size_t count, size_t block,
                       vgg__task_fn run)
{
    for_tasks(l, (count + block - 1) / block, run);
}

static float *worker_scratch(const struct linear *l, uint32_t worker)
{
    return l->p.workers + worker * l->p.worker_floats;
}

/* A sample of x to `moved`, and of `moved` to dx. */
static void move_x_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const vgg_extent e = l->args->stage->in;
    vgg__cpu_transpose((const float *)l->args->x + task * l->p.ins, (size_t)e.h * e.w,
                       e.c, l->moved + task * l->p.ins);
}

static void move_dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const vgg_extent e = l->args->stage->in;
    vgg__cpu_transpose(l->moved + task * l->p.ins, e.c, (size_t)e.h * e.w,
                       (float *)l->args->dx + task * l->p.ins);
}

/* ---- Weights in bf16 ------------------------------------------------------- */

static void prepare_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t row = vgg__bf16_row(l->kernels, l->p.ins),
                 first = (size_t)task * OUTPUTS;
    const size_t end = vgg__size_min(first + OUTPUTS, l->p.outs);
    for (size_t o = first; o < end; o++)
        l->kernels->pack_bf16((const float *)l->args->weight + o * l->p.ins, l->p.ins,
                              (uint32_t *)((char *)l->args->prepared + o * row));
}

static void prepare(const struct vgg__stage_args *args)
{
    const struct linear l = linear_of(args);
    for_blocks(&l, l.p.outs, OUTPUTS, prepare_task);
}

/* ---- Forward --------------------------------------------------------------- */

static float finished(const struct linear *l, size_t o, float v)
{
    if (l->args->bias) v += ((const float *)l->args->bias)[o];
    return l->args->stage->relu && v <= 0 ? 0 : v;
}

/* Dot products of up to PART_ROWS outputs from `o` on with all samples. More than fit
 * into registers are computed in parts of k, so that a part of x stays in the cache. */
static void dots_block(const struct linear *l, size_t o, size_t rows, float *sums)
{
    const size_t ins = l->p.ins, count = l->p.count;
    const size_t row = l->p.half ? vgg__bf16_row(l->kernels, ins) : ins * sizeof(float);
    const size_t part = count <= FEW ? ins : PART;
    const size_t groups = (count + VGG__DOTS - 1) / VGG__DOTS;
    for (size_t k = 0; k < ins; k += part)
        for (size_t i = 0; i < rows; i += VGG__DOTS)
            for (size_t n = 0; n < count; n += VGG__DOTS) {
                const size_t block = i / VGG__DOTS * groups + n / VGG__DOTS;
                const struct vgg__dots dots = {
                    .rows = (uint32_t)vgg__size_min(VGG__DOTS, rows - i),
                    .samples = (uint32_t)vgg__size_min(VGG__DOTS, count - n),
                    .w = (const char *)l->p.w + (o + i) * row +
                         k * (l->p.half ? 2 : sizeof(float)),
                    .w_row = row,
                    .x = l->x + n * ins + k,
                    .x_row = ins,
                    .k = vgg__size_min(part, ins - k),
                    .out = (float *)l->args->y + n * l->p.outs + o + i,
                    .out_row = l->p.outs,
                    .sums = count <= FEW ? NULL : sums + block * VGG__DOTS_SUMS,
                    .begins = k == 0,
                    .ends = k + part >= ins,
                    .ahead = (uint32_t)vgg__size_min(n / VGG__DOTS % VGG__DOTS,
                                                     rows - i - 1)};
                (l->p.half ? l->kernels->dots_bf16 : l->kernels->dots)(&dots);
            }
}

static void dots_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS, outs = l->p.outs;
    const size_t end = vgg__size_min(first + OUTPUTS, outs);
    float *y = l->args->y;
    for (size_t o = first; o < end; o += PART_ROWS)
        dots_block(l, o, vgg__size_min(PART_ROWS, end - o), worker_scratch(l, worker));
    for (size_t n = 0; n < l->p.count; n++)
        for (size_t o = first; o < end; o++)
            y[n * outs + o] = finished(l, o, y[n * outs + o]);
}

static struct vgg__product transposed_x(const struct linear *l)
{
    return (struct vgg__product){
        .n = l->p.count, .k = l->p.ins, .b = l->x, .b_row = 1, .b_col = l->p.ins};
}

static void pack_x_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const struct vgg__product product = transposed_x(l);
    if (l->own)
        vgg__linear_forward_pack(&l->p, l->x, task);
    else
        vgg__gemm_pack(&l->cpu->gemm, &product, task, l->p.packed);
}

/* y^T of a block of outputs, by OpenBLAS. */
static const float *blas_block(const struct linear *l, size_t first, float *scratch,
                               size_t *stride)
{
    const struct vgg__product product = {.m = vgg__size_min(OUTPUTS, l->p.outs - first),
                                         .n = l->p.count,
                                         .k = l->p.ins,
                                         .a = (const float *)l->p.w + first * l->p.ins,
                                         .a_row = l->p.ins,
                                         .a_col = 1,
                                         .b = l->p.packed,
                                         .packed = true,
                                         .c = scratch + VGG__GEMM_SCRATCH,
                                         .c_row = l->p.count};
    vgg__gemm_run(&l->cpu->gemm, &product, scratch);
    *stride = l->p.count;
    return product.c;
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS;
    const size_t outs = vgg__size_min(OUTPUTS, l->p.outs - first);
    size_t stride;
    const float *block = l->own
                             ? vgg__linear_forward_task(&l->p, task, worker, &stride)
                             : blas_block(l, first, worker_scratch(l, worker), &stride);
    float *y = l->args->y;
    for (size_t n = 0; n < l->p.count; n++)
        for (size_t o = 0; o < outs; o++)
            y[n * l->p.outs + first + o] =
                finished(l, first + o, block[o * stride + n]);
}

static void forward(const struct vgg__stage_args *args)
{
    struct linear l = linear_of(args);
    const struct vgg__machine *machine = args->machine;
    l.moved = args->saved ? args->saved : args->scratch;
    l.p.packed = args->scratch;
    if (!args->saved) l.p.packed += moved_count(machine, args->stage, args->count);
    l.p.workers =
        l.p.packed + packed_forward(machine, args->stage, args->count, l.p.half);
    if (l.move) {
        for_tasks(&l, l.p.count, move_x_task);
        l.x = l.moved;
    }
    if (takes_dots(machine, l.p.count, l.p.half)) {
        for_blocks(&l, l.p.outs, OUTPUTS, dots_task);
        return;
    }
    for_tasks(&l,
              l.own ? vgg__linear_forward_packs(&l.p)
                    : vgg__gemm_panels(&l.cpu->gemm, l.p.count),
              pack_x_task);
    for_blocks(&l, l.p.outs, OUTPUTS, forward_task);
}

/* ---- Backward -------------------------------------------------------------- */

/* A block of outputs: dy before the ReLU in place, and its sum over samples. */
static void mask_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * OUTPUTS;
    const size_t outs = vgg__size_min(OUTPUTS, l->p.outs - first);
    double sum[OUTPUTS] = {0};
    for (size_t n = 0; n < l->p.count; n++) {
        const size_t at = n * l->p.outs + first;
        float *dy = (float *)l->args->dy + at;
        if (l->args->stage->relu)
            l->cpu->gemm.kernels->relu_mask(dy, dy, (const float *)l->args->y + at,
                                            outs);
        for (size_t o = 0; o < outs; o++) sum[o] += dy[o];
    }
    float *dbias = l->args->dbias;
    for (size_t o = 0; o < outs && dbias; o++) dbias[first + o] += (float)sum[o];
}

static void pack_dy_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    vgg__linear_dx_pack(&l->p, l->args->dy, task);
}

static void dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    vgg__linear_dx_task(&l->p, l->dx, task, worker);
}

static void blas_dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * INPUTS;
    const struct vgg__product product = {.m = l->p.count,
                                         .n = vgg__size_min(INPUTS, l->p.ins - first),
                                         .k = l->p.outs,
                                         .a = l->args->dy,
                                         .a_row = l->p.outs,
                                         .a_col = 1,
                                         .b = (const float *)l->p.w + first,
                                         .b_row = l->p.ins,
                                         .b_col = 1,
                                         .c = l->dx + first,
                                         .c_row = l->p.ins};
    vgg__gemm_run(&l->cpu->gemm, &product, worker_scratch(l, worker));
}

static void find_dx(struct linear *l)
{
    if (l->move) l->dx = l->moved;
    if (l->own) {
        for_tasks(l, vgg__linear_dx_packs(&l->p), pack_dy_task);
        for_tasks(l, vgg__linear_dx_tasks(&l->p), dx_task);
    } else {
        for_blocks(l, l->p.ins, INPUTS, blas_dx_task);
    }
    if (l->move) for_tasks(l, l->p.count, move_dx_task);
}

static void pack_panel_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    vgg__linear_dweight_pack(&l->p, l->x, task);
}

static void dweight_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const struct vgg__linear_target target = {l->args->dy, l->args->dweight,
                                              l->descent};
    vgg__linear_dweight_task(&l->p, &target, task, worker);
}

static void blas_dweight_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct linear *l = arg;
    const size_t first = (size_t)task * GRADIENTS;
    const struct vgg__product product = {
        .m = vgg__size_min(GRADIENTS, l->p.outs - first),
        .n = l->p.ins,
        .k = l->p.count,
        .a = (const float *)l->args->dy + first,
        .a_row = 1,
        .a_col = l->p.outs,
        .b = l->x,
        .b_row = l->p.ins,
        .b_col = 1,
        .c = (float *)l->args->dweight + first * l->p.ins,
        .c_row = l->p.ins,
        .accumulate = true,
        .descent = l->descent};
    vgg__gemm_run(&l->cpu->gemm, &product, worker_scratch(l, worker));
}

static void find_dweight(struct linear *l)
{
    if (l->move) l->x = l->args->saved;
    if (l->own) {
        for_tasks(l, vgg__linear_dweight_packs(&l->p), pack_panel_task);
        for_tasks(l, vgg__linear_dweight_tasks(&l->p), dweight_task);
    } else {
        for_blocks(l, l->p.outs, GRADIENTS, blas_dweight_task);
    }
}

static void backward(const struct vgg__stage_args *args)
{
    struct linear l = linear_of(args);
    struct vgg__descent descent;
    l.moved = args->scratch;
    l.p.packed = l.moved + moved_count(args->machine, args->stage, args->count);
    l.p.workers =
        l.p.packed + packed_backward(args->machine, args->stage, args->count, l.own);
    if (args->update) {
        descent.rate = (float)args->update->lr;
        descent.decay = (float)args->update->weight_decay;
        l.descent = &descent;
    }
    if (args->stage->relu || args->dbias) for_blocks(&l, l.p.outs, OUTPUTS, mask_task);
    if (args->dx) find_dx(&l);
    if (args->dweight) find_dweight(&l);
}

/* ---- The stage ------------------------------------------------------------- */

static const char *algorithm(const struct vgg__stage_env *env)
{
    if (takes_dots(env->machine, env->batch, env->half_weights))
        return env->half_weights ? "dot products, bf16 weights" : "dot products";
    if (env->half_weights) return "bf16 weights x columns";
    if (vgg__cpu_of(env->machine)->gemm.blas)
        return env->updates ? "OpenBLAS, SGD within" : "OpenBLAS";
    return env->updates ? "weights x columns + SGD" : "weights x columns";
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const bool own = takes_own(env->machine, env->half_weights);
    const size_t moved = moved_count(env->machine, env->stage, env->batch);
    const size_t workers =
        vgg__size_mul(cpu->workers, worker_count(env->machine, env->batch, own));
    const size_t forward = vgg__size_add(
        packed_forward(env->machine, env->stage, env->batch, env->half_weights),
        env->batch <= FEW ? 0 : workers);
    const size_t backward = vgg__size_add(
        moved, vgg__size_add(packed_backward(env->machine, env->stage, env->batch, own),
                             workers));
    const bool save = env->wants_dparams && moved > 0;
    need->algorithm = algorithm(env);
    need->reads_x = env->wants_dparams && !save;
    need->reads_y = env->stage->relu != 0;
    need->updates = true;
    if (env->half_weights)
        need->prepared = vgg__size_mul(
            vgg__bf16_row(cpu->gemm.kernels->linear, vgg__extent_count(env->stage->in)),
            env->stage->out.c);
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

const struct vgg__stage_impl vgg__cpu_linear = {.supports = supports,
                                                .measure = measure,
                                                .prepare = prepare,
                                                .forward = forward,
                                                .backward = backward};
