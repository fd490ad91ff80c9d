/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution as one matrix product, for every shape: forward.
 *
 * A task is a rectangle of pixels of one sample. Its neighbourhoods are laid side by
 * side in the worker's scratch, [pixels][kh][kw][ic], multiplied by the weights packed
 * as [kh][kw][ic][oc], and the product is finished while it is in the cache: what comes
 * before the pooling is never stored. Maximum pooling comes first, bias and ReLU after
 * it, on a quarter of the values: they are monotone and so is rounding, so the result
 * is the same. */
#include "cpu/conv.h"

#include <string.h>

#define CACHE_FLOATS 65536 /* of a rectangle's columns: 256 KiB */
#define FEWEST       56    /* pixels: four blocks of the widest kernel */
#define MOST         1024

/* ---- Cutting --------------------------------------------------------------- */

struct vgg__cut vgg__cut_map(size_t k, size_t h, size_t w, bool even)
{
    const size_t unit = even ? 2 : 1;
    size_t pixels = CACHE_FLOATS / k;
    if (pixels < FEWEST) pixels = FEWEST;
    if (pixels > MOST) pixels = MOST;
    struct vgg__cut cut = {.k = k, .h = h, .w = w};
    cut.tw = vgg__size_min(w, pixels / unit / unit * unit);
    cut.th = vgg__size_min(h, pixels / cut.tw);
    if (even) cut.th = cut.th < 2 ? 2 : cut.th / 2 * 2;
    cut.rows = (h + cut.th - 1) / cut.th;
    cut.cols = (w + cut.tw - 1) / cut.tw;
    /* Rows of columns at multiples of 4 KiB would share sets of the cache. */
    cut.stride = k % 1024 == 0 ? k + 16 : k;
    return cut;
}

struct vgg__piece vgg__cut_piece(const struct vgg__cut *cut, size_t index)
{
    const size_t sample = cut->rows * cut->cols, place = index % sample;
    struct vgg__piece p = {.n = index / sample,
                           .top = place / cut->cols * cut->th,
                           .left = place % cut->cols * cut->tw};
    p.rows = vgg__size_min(cut->th, cut->h - p.top);
    p.cols = vgg__size_min(cut->tw, cut->w - p.left);
    return p;
}

/* Forward cuts what the pooling reads. */
static struct vgg__cut cut_forward(const vgg_stage *s)
{
    const size_t k = (size_t)s->kernel * s->kernel * s->in.c;
    if (s->pool == VGG_NO_POOL) return vgg__cut_map(k, s->mid.h, s->mid.w, false);
    return vgg__cut_map(k, 2 * (size_t)s->out.h, 2 * (size_t)s->out.w, true);
}

/* ---- Weights --------------------------------------------------------------- */

size_t vgg__columns_packed(const struct vgg__cpu *cpu, const vgg_stage *s, bool back)
{
    const size_t taps = (size_t)s->kernel * s->kernel;
    const size_t depth = back ? s->mid.c : s->in.c, width = back ? s->in.c : s->mid.c;
    return vgg__cpu_floats(vgg__gemm_packed_count(&cpu->gemm, taps * depth, width));
}

/* Columns `panel` of [kh][kw][ic][oc]: output channels. */
static void pack_forward(const vgg_stage *s, const float *weight,
                         const struct vgg__panel *panel)
{
    const size_t taps = (size_t)s->kernel * s->kernel, ic = s->in.c;
    for (size_t i = 0; i < ic; i++)
        for (size_t t = 0; t < taps; t++) {
            const float *from = weight + (panel->first * ic + i) * taps + t;
            float *row = panel->out + (t * ic + i) * panel->row;
            for (size_t j = 0; j < panel->width; j++) row[j] = from[j * ic * taps];
            memset(row + panel->width, 0, panel->zeros * sizeof(float));
        }
}

/* Columns `panel` of [kh][kw][oc][ic], turned: input channels. */
static void pack_back(const vgg_stage *s, const float *weight,
                      const struct vgg__panel *panel)
{
    const size_t taps = (size_t)s->kernel * s->kernel, ic = s->in.c, oc = s->mid.c;
    for (size_t o = 0; o < oc; o++)
        for (size_t t = 0; t < taps; t++) {
            const float *from = weight + (o * ic + panel->first) * taps + t;
            float *row = panel->out + ((taps - 1 - t) * oc + o) * panel->row;
            for (size_t j = 0; j < panel->width; j++) row[j] = from[j * taps];
            memset(row + panel->width, 0, panel->zeros * sizeof(float));
        }
}

struct prepare {
    const struct vgg__stage_args *args;
    bool back;
    float *packed;
};

/* A panel. */
static void pack_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct prepare *p = arg;
    const struct vgg__gemm *gemm = &vgg__cpu_of(p->args->machine)->gemm;
    const vgg_stage *s = p->args->stage;
    const size_t taps = (size_t)s->kernel * s->kernel;
    const size_t depth = p->back ? s->mid.c : s->in.c,
                 width = p->back ? s->in.c : s->mid.c;
    const struct vgg__panel panel =
        vgg__gemm_panel(gemm, taps * depth, width, task, p->packed);
    (p->back ? pack_back : pack_forward)(s, p->args->weight, &panel);
}

void vgg__columns_prepare(const struct vgg__stage_args *args, bool back, float *packed)
{
    struct prepare p = {args, back, packed};
    const size_t width = back ? args->stage->in.c : args->stage->mid.c;
    const size_t panels = vgg__gemm_panels(&vgg__cpu_of(args->machine)->gemm, width);
    args->machine->parallel(args->machine, (uint32_t)panels, pack_task, &p);
}

/* ---- Forward --------------------------------------------------------------- */

struct forward {
    const struct vgg__stage_args *args;
    const float *packed;
    struct vgg__cut cut;
    size_t columns, out; /* floats of a worker's areas; the product's comes last */
    size_t worker_floats;
};

static struct forward plan_forward(const vgg_stage *s)
{
    struct forward f = {.cut = cut_forward(s)};
    const size_t pixels = f.cut.th * f.cut.tw;
    f.columns = vgg__cpu_floats(pixels * f.cut.stride);
    f.out = vgg__cpu_floats(pixels * s->mid.c);
    f.worker_floats = f.columns + f.out + VGG__GEMM_SCRATCH;
    return f;
}

/* Pool the product's rows into y, then bias and ReLU. */
static void finish_pooled(const struct forward *f, const struct vgg__piece *p,
                          const float *out)
{
    const struct vgg__kernels *kernels = vgg__cpu_of(f->args->machine)->gemm.kernels;
    const vgg_stage *s = f->args->stage;
    const size_t c = s->mid.c, count = p->cols / 2;
    for (size_t r = 0; r < p->rows; r += 2) {
        const size_t at =
            ((p->n * s->out.h + (p->top + r) / 2) * s->out.w + p->left / 2) * c;
        float *y = (float *)f->args->y + at;
        uint8_t *kept = f->args->saved ? (uint8_t *)f->args->saved + at : NULL;
        const float *top = out + r * p->cols * c;
        const struct vgg__windows windows = {top, top + p->cols * c, count, c, y, kept};
        if (s->pool == VGG_MAX_POOL) {
            kernels->max_pool(&windows);
            if (kept && s->relu)
                kernels->bias_relu_kept(y, count, c, f->args->bias, kept);
            else
                kernels->bias_relu(y, count, c, f->args->bias, s->relu);
        } else {
            kernels->bias_relu((float *)top, 2 * p->cols, c, f->args->bias, false);
            kernels->average_pool(&windows, s->relu);
        }
    }
}

static void finish_plain(const struct forward *f, const struct vgg__piece *p,
                         float *out)
{
    const struct vgg__kernels *kernels = vgg__cpu_of(f->args->machine)->gemm.kernels;
    const vgg_stage *s = f->args->stage;
    const size_t c = s->mid.c;
    kernels->bias_relu(out, p->rows * p->cols, c, f->args->bias, s->relu);
    for (size_t r = 0; r < p->rows; r++) {
        const size_t at = ((p->n * s->mid.h + p->top + r) * s->mid.w + p->left) * c;
        memcpy((float *)f->args->y + at, out + r * p->cols * c,
               p->cols * c * sizeof(float));
    }
}

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct forward *f = arg;
    const struct vgg__cpu *cpu = vgg__cpu_of(f->args->machine);
    const vgg_stage *s = f->args->stage;
    const struct vgg__piece p = vgg__cut_piece(&f->cut, task);
    float *columns = (float *)f->args->scratch + worker * f->worker_floats;
    float *out = columns + f->columns;
    const struct vgg__columns lay = {.x = (const float *)f->args->x +
                                          p.n * vgg__extent_count(s->in),
                                     .h = s->in.h,
                                     .w = s->in.w,
                                     .c = s->in.c,
                                     .top = p.top,
                                     .left = p.left,
                                     .rows = p.rows,
                                     .cols = p.cols,
                                     .kernel = s->kernel,
                                     .out = columns,
                                     .stride = f->cut.stride};
    cpu->gemm.kernels->columns(&lay);
    const struct vgg__product product = {.m = p.rows * p.cols,
                                         .n = s->mid.c,
                                         .k = f->cut.k,
                                         .a = columns,
                                         .a_row = f->cut.stride,
                                         .a_col = 1,
                                         .b = f->packed,
                                         .packed = true,
                                         .c = out,
                                         .c_row = s->mid.c};
    vgg__gemm_run(&cpu->gemm, &product, out + f->out);
    if (s->pool != VGG_NO_POOL)
        finish_pooled(f, &p, out);
    else
        finish_plain(f, &p, out);
}

void vgg__columns_forward(const struct vgg__stage_args *args, const float *packed)
{
    struct forward f = plan_forward(args->stage);
    f.args = args;
    f.packed = packed;
    args->machine->parallel(args->machine,
                            (uint32_t)(args->count * f.cut.rows * f.cut.cols),
                            forward_task, &f);
}

size_t vgg__columns_forward_scratch(const struct vgg__stage_env *env)
{
    const size_t workers = vgg__cpu_of(env->machine)->workers;
    return sizeof(float) * workers * plan_forward(env->stage).worker_floats;
}
