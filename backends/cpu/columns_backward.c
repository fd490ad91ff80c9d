/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution as matrix products, for every shape: gradients.
 *
 * The rectangles of all samples are cut in a number of parts that depends on shapes
 * alone; a task takes one part, rectangle by rectangle:
 *
 *   dY       the gradient before ReLU and pooling, rebuilt with a margin of the
 *            kernel's radius in the worker's scratch, [rows][cols][oc]; never stored
 *   dbias    sums of dY, in double, of this part
 *   dweight  columns^T of x times dY, [kh][kw][ic][oc], of this part
 *   dx       columns of dY times the turned weights: gathered, so that rectangles
 *            never overlap
 *
 * Then the parts are added up in their order into the model's gradients. */
#include "cpu/conv.h"

#include <string.h>

#define FEWEST_PARTS 8
#define MOST_PARTS   32
#define PART_FLOATS  ((size_t)8 << 20) /* of all parts together, unless they are few */

struct backward {
    const struct vgg__stage_args *args;
    const float *packed; /* turned weights */
    struct vgg__cut cut; /* of the whole map, with the longer of the two columns */
    size_t pieces, parts;
    size_t k;      /* rows of dweight: kernel * kernel * ic */
    size_t k_back; /* kernel * kernel * oc */
    size_t stride, stride_back;
    /* Floats of a worker's areas, and of a part's. */
    size_t columns, patch, inner, out, sum, worker_floats, part_floats;
    float *workers; /* [worker][worker_floats] */
    float *dweight; /* [part][part_floats] */
    double *dbias;  /* [part][oc] */
};

static struct backward plan_backward(const vgg_stage *s, size_t count)
{
    const size_t taps = (size_t)s->kernel * s->kernel, ic = s->in.c, oc = s->mid.c;
    struct backward b = {.k = taps * ic, .k_back = taps * oc};
    b.cut = vgg__cut_map(vgg__size_max(b.k, b.k_back), s->mid.h, s->mid.w, false);
    b.stride = b.k % 1024 == 0 ? b.k + 16 : b.k;
    b.stride_back = b.k_back % 1024 == 0 ? b.k_back + 16 : b.k_back;
    b.pieces = count * b.cut.rows * b.cut.cols;
    const size_t pixels = b.cut.th * b.cut.tw, margin = s->kernel - 1;
    b.columns = vgg__cpu_floats(pixels * vgg__size_max(b.stride, b.stride_back));
    b.patch = vgg__cpu_floats((b.cut.th + margin) * (b.cut.tw + margin) * oc);
    b.inner = vgg__cpu_floats(pixels * oc);
    b.out = vgg__cpu_floats(pixels * ic);
    b.sum = vgg__cpu_floats(oc);
    b.worker_floats = b.columns + b.patch + b.inner + b.out + b.sum + VGG__GEMM_SCRATCH;
    b.part_floats = vgg__cpu_floats(b.k * oc);
    b.parts = vgg__size_min(MOST_PARTS,
                            vgg__size_max(FEWEST_PARTS, PART_FLOATS / b.part_floats));
    b.parts = vgg__size_min(b.parts, b.pieces);
    return b;
}

size_t vgg__columns_backward_scratch(const struct vgg__stage_env *env)
{
    const struct backward b = plan_backward(env->stage, env->batch);
    const size_t workers = vgg__cpu_of(env->machine)->workers;
    return sizeof(float) * (workers * b.worker_floats + b.parts * b.part_floats) +
           sizeof(double) * b.parts * env->stage->mid.c;
}

/* A worker's scratch. */
struct areas {
    float *columns, *patch, *inner, *out, *sum, *product;
};

static struct areas areas_of(const struct backward *b, uint32_t worker)
{
    struct areas a = {.columns = b->workers + worker * b->worker_floats};
    a.patch = a.columns + b->columns;
    a.inner = a.patch + b->patch;
    a.out = a.inner + b->inner;
    a.sum = a.out + b->out;
    a.product = a.sum + b->sum;
    return a;
}

/* ---- dY -------------------------------------------------------------------- */

/* One row of the gradient before pooling and ReLU. */
static void unpool_row(const struct vgg__stage_args *args, size_t n, size_t y,
                       size_t begin, size_t end, float *out)
{
    const struct vgg__kernels *kernels = vgg__cpu_of(args->machine)->gemm.kernels;
    const vgg_stage *s = args->stage;
    const size_t c = s->mid.c;
    const size_t pooled =
        y / 2 < s->out.h ? vgg__size_min(end, 2 * (size_t)s->out.w) : 0;
    if (pooled > begin) {
        const size_t at = (n * s->out.h + y / 2) * s->out.w * c;
        const struct vgg__unpool unpool = {.dy = (const float *)args->dy + at,
                                           .kept = (const uint8_t *)args->saved + at,
                                           .c = c,
                                           .begin = begin,
                                           .end = pooled,
                                           .row = y & 1,
                                           .out = out};
        if (s->pool == VGG_MAX_POOL)
            kernels->max_unpool(&unpool);
        else
            kernels->average_unpool(&unpool);
    }
    const size_t first = vgg__size_max(begin, pooled); /* dropped by the pooling */
    memset(out + (first - begin) * c, 0, (end - first) * c * sizeof(float));
}

static void plain_row(const struct vgg__stage_args *args, size_t n, size_t y,
                      size_t begin, size_t end, float *out)
{
    const vgg_stage *s = args->stage;
    const size_t c = s->mid.c, at = ((n * s->mid.h + y) * s->mid.w + begin) * c;
    const float *dy = (const float *)args->dy + at;
    if (s->relu)
        vgg__cpu_of(args->machine)
            ->gemm.kernels->relu_mask(out, dy, (const float *)args->y + at,
                                      (end - begin) * c);
    else
        memcpy(out, dy, (end - begin) * c * sizeof(float));
}

/* A rectangle of dY with its margin, as far as the map goes. */
struct patch {
    float *values; /* [rows][cols][oc] */
    size_t top, left, rows, cols;
    const float *inner; /* without the margin, [piece.rows][piece.cols][oc] */
};

static struct patch build_patch(const struct backward *b, const struct vgg__piece *p,
                                const struct areas *areas)
{
    const vgg_stage *s = b->args->stage;
    const size_t pad = b->args->dx ? s->kernel / 2 : 0, c = s->mid.c;
    float *values = areas->patch, *inner = areas->inner;
    struct patch q = {.values = values};
    q.top = p->top - vgg__size_min(p->top, pad);
    q.left = p->left - vgg__size_min(p->left, pad);
    q.rows = vgg__size_min(p->top + p->rows + pad, s->mid.h) - q.top;
    q.cols = vgg__size_min(p->left + p->cols + pad, s->mid.w) - q.left;
    for (size_t r = 0; r < q.rows; r++)
        (s->pool != VGG_NO_POOL ? unpool_row : plain_row)(
            b->args, p->n, q.top + r, q.left, q.left + q.cols, values + r * q.cols * c);
    q.inner = values + (p->top - q.top) * q.cols * c;
    if (q.cols == p->cols) return q;
    for (size_t r = 0; r < p->rows; r++)
        memcpy(inner + r * p->cols * c,
               values + ((p->top - q.top + r) * q.cols + p->left - q.left) * c,
               p->cols * c * sizeof(float));
    q.inner = inner;
    return q;
}

/* ---- A part ---------------------------------------------------------------- */

static void add_bias(const struct backward *b, size_t part, const struct vgg__piece *p,
                     const struct patch *q, const struct areas *areas)
{
    const size_t oc = b->args->stage->mid.c;
    float *sum = areas->sum;
    memset(sum, 0, oc * sizeof(float));
    vgg__cpu_of(b->args->machine)
        ->gemm.kernels->add_rows(sum, q->inner, p->rows * p->cols, oc);
    for (size_t o = 0; o < oc; o++) b->dbias[part * oc + o] += sum[o];
}

static void add_weight(const struct backward *b, size_t part, bool first,
                       const struct vgg__piece *p, const struct patch *q,
                       const struct areas *areas)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(b->args->machine);
    const vgg_stage *s = b->args->stage;
    const struct vgg__columns lay = {.x = (const float *)b->args->x +
                                          p->n * vgg__extent_count(s->in),
                                     .h = s->in.h,
                                     .w = s->in.w,
                                     .c = s->in.c,
                                     .top = p->top,
                                     .left = p->left,
                                     .rows = p->rows,
                                     .cols = p->cols,
                                     .kernel = s->kernel,
                                     .out = areas->columns,
                                     .stride = b->stride};
    cpu->gemm.kernels->columns(&lay);
    const struct vgg__product product = {.m = b->k,
                                         .n = s->mid.c,
                                         .k = p->rows * p->cols,
                                         .a = areas->columns,
                                         .a_row = 1,
                                         .a_col = b->stride,
                                         .b = q->inner,
                                         .b_row = s->mid.c,
                                         .b_col = 1,
                                         .c = b->dweight + part * b->part_floats,
                                         .c_row = s->mid.c,
                                         .accumulate = !first};
    vgg__gemm_run(&cpu->gemm, &product, areas->product);
}

static void compute_dx(const struct backward *b, const struct vgg__piece *p,
                       const struct patch *q, const struct areas *areas)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(b->args->machine);
    const vgg_stage *s = b->args->stage;
    const size_t ic = s->in.c;
    float *out = areas->out;
    float *dx =
        (float *)b->args->dx + ((p->n * s->in.h + p->top) * s->in.w + p->left) * ic;
    const bool whole = p->cols == s->in.w; /* rows of dx follow each other */
    const struct vgg__columns lay = {.x = q->values,
                                     .h = q->rows,
                                     .w = q->cols,
                                     .c = s->mid.c,
                                     .top = p->top - q->top,
                                     .left = p->left - q->left,
                                     .rows = p->rows,
                                     .cols = p->cols,
                                     .kernel = s->kernel,
                                     .out = areas->columns,
                                     .stride = b->stride_back};
    cpu->gemm.kernels->columns(&lay);
    const struct vgg__product product = {.m = p->rows * p->cols,
                                         .n = ic,
                                         .k = b->k_back,
                                         .a = areas->columns,
                                         .a_row = b->stride_back,
                                         .a_col = 1,
                                         .b = b->packed,
                                         .packed = true,
                                         .c = whole ? dx : out,
                                         .c_row = ic};
    vgg__gemm_run(&cpu->gemm, &product, areas->product);
    for (size_t r = 0; r < p->rows && !whole; r++)
        memcpy(dx + r * s->in.w * ic, out + r * p->cols * ic,
               p->cols * ic * sizeof(float));
}

static void part_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct backward *b = arg;
    const size_t oc = b->args->stage->mid.c;
    const struct areas areas = areas_of(b, worker);
    const size_t first = vgg__cpu_part(b->pieces, task, b->parts);
    const size_t end = vgg__cpu_part(b->pieces, task + 1, b->parts);
    memset(b->dbias + task * oc, 0, oc * sizeof(double));
    for (size_t i = first; i < end; i++) {
        const struct vgg__piece p = vgg__cut_piece(&b->cut, i);
        const struct patch q = build_patch(b, &p, &areas);
        if (b->args->dbias) add_bias(b, task, &p, &q, &areas);
        if (b->args->dweight) add_weight(b, task, i == first, &p, &q, &areas);
        if (b->args->dx) compute_dx(b, &p, &q, &areas);
    }
}

/* ---- The sum of the parts -------------------------------------------------- */

/* Input channel `task` of dweight, from [kh][kw][ic][oc] to OIHW. */
static void sum_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct backward *b = arg;
    const struct vgg__kernels *kernels = vgg__cpu_of(b->args->machine)->gemm.kernels;
    const vgg_stage *s = b->args->stage;
    const size_t taps = (size_t)s->kernel * s->kernel, ic = s->in.c, oc = s->mid.c;
    float *sum = areas_of(b, worker).sum;
    float *dweight = b->args->dweight;
    for (size_t t = 0; t < taps; t++) {
        const float *row = b->dweight + (t * ic + task) * oc;
        memcpy(sum, row, oc * sizeof(float));
        for (size_t part = 1; part < b->parts; part++)
            kernels->add(sum, row + part * b->part_floats, oc);
        for (size_t o = 0; o < oc; o++) dweight[(o * ic + task) * taps + t] += sum[o];
    }
}

static void sum_bias(const struct backward *b)
{
    const size_t oc = b->args->stage->mid.c;
    float *dbias = b->args->dbias;
    for (size_t o = 0; o < oc; o++) {
        double sum = 0;
        for (size_t part = 0; part < b->parts; part++) sum += b->dbias[part * oc + o];
        dbias[o] += (float)sum;
    }
}

void vgg__columns_backward(const struct vgg__stage_args *args, const float *packed)
{
    const struct vgg__machine *machine = args->machine;
    const vgg_stage *s = args->stage;
    const size_t workers = vgg__cpu_of(machine)->workers;
    struct backward b = plan_backward(s, args->count);
    b.args = args;
    b.packed = packed;
    b.workers = args->scratch;
    b.dweight = b.workers + workers * b.worker_floats;
    b.dbias = (double *)(b.dweight + b.parts * b.part_floats);
    machine->parallel(machine, (uint32_t)b.parts, part_task, &b);
    if (args->dweight) machine->parallel(machine, s->in.c, sum_task, &b);
    if (args->dbias) sum_bias(&b);
}
