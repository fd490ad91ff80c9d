/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd convolution: filters, forward and the gradient of the input; winograd.h has
 * the formulas, winograd_backward.c the gradient of the weights.
 *
 * The tiles of all samples are one list, cut in blocks of a length that keeps what a
 * block needs in the second-level cache:
 *
 *   V  its windows transformed         [tile][frequency][ic], in groups of ic;
 *                                      [frequency][tile][ic] of many channels
 *   U  the filters transformed         [panel][frequency][ic][panel's oc], prepared
 *   M  V times a panel of U            as V, [panel's oc] in place of [ic]
 *
 * then M is transformed back and finished (bias, ReLU, pooling) a panel at a time: what
 * comes before the pooling is never stored. The gradient of the input is the same with
 * dY, as the pooling has left it, in place of x. A tile's result depends on nothing but
 * its inputs, so blocks may be cut in any way. */
#include "cpu/winograd.h"
#include "cpu/conv.h"

#define CACHE_FLOATS 327680 /* of V and M: 1.25 MiB */
#define FEWEST       28     /* tiles: two blocks of the widest kernel */
#define MOST         112
#define DEPTH        128 /* input channels between two visits of M: L1 holds its U */
#define FAR          256 /* above, U is fetched ahead */
#define GROUP        16  /* channels of a tile that are kept together */
#define BY_TILE      128 /* input channels below which V is kept tile by tile */
#define SHARES       4   /* tasks of a worker, if there are panels to divide */

/* ---- Filters --------------------------------------------------------------- */

/* G: n x 3. */
static const double filters2[4][3] = {
    {1, 0, 0}, {1. / 2, 1. / 2, 1. / 2}, {1. / 2, -1. / 2, 1. / 2}, {0, 0, 1}};
static const double filters4[6][3] = {{1. / 4, 0, 0},
                                      {-1. / 6, -1. / 6, -1. / 6},
                                      {-1. / 6, 1. / 6, -1. / 6},
                                      {1. / 24, 1. / 12, 1. / 6},
                                      {1. / 24, -1. / 12, 1. / 6},
                                      {0, 0, 1}};

const double (*vgg__winograd_filters(uint32_t m))[3]
{
    return m == 2 ? filters2 : filters4;
}

/* What a product pass multiplies: forward, ic to oc; back, oc to ic. */
static size_t depth_of(const vgg_stage *s, bool back)
{
    return back ? s->mid.c : s->in.c;
}

static size_t width_of(const vgg_stage *s, bool back)
{
    return back ? s->in.c : s->mid.c;
}

/* Floats of a panel of U. */
static size_t filters_panel(const struct vgg__cpu *cpu, const vgg_stage *s, uint32_t m,
                            bool back)
{
    return (m + 2) * (m + 2) * depth_of(s, back) * cpu->gemm.kernels->cols;
}

size_t vgg__winograd_packed(const struct vgg__cpu *cpu, const vgg_stage *s, uint32_t m,
                            bool back)
{
    return vgg__gemm_panels(&cpu->gemm, width_of(s, back)) *
           filters_panel(cpu, s, m, back);
}

struct prepare {
    const struct vgg__stage_args *args;
    uint32_t m;
    bool back;
    size_t panel;
    float *u;
};

/* A panel of U, from OIHW. */
static void prepare_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct prepare *p = arg;
    const vgg_stage *s = p->args->stage;
    const float *weight = p->args->weight;
    const struct vgg__kernels *kernels = vgg__cpu_of(p->args->machine)->gemm.kernels;
    const size_t cols = kernels->cols;
    const size_t depth = depth_of(s, p->back), width = width_of(s, p->back);
    const size_t first = task * cols, count = vgg__size_min(cols, width - first);
    const struct vgg__filters filters = {p->m, vgg__winograd_filters(p->m),
                                         depth * cols};
    float *u = p->u + task * p->panel;
    double g[9][VGG__MOST_COLS] = {
        {0}}; /* columns that only fill up the panel stay zero */
    for (size_t l = 0; l < depth; l++) {
        for (size_t j = 0; j < count; j++) {
            const size_t o = p->back ? l : first + j, i = p->back ? first + j : l;
            const float *from = weight + (o * s->in.c + i) * 9;
            for (uint32_t t = 0; t < 9; t++) g[t][j] = from[p->back ? 8 - t : t];
        }
        kernels->winograd->filters(&filters, (const double(*)[VGG__MOST_COLS])g,
                                   u + l * cols);
    }
}

void vgg__winograd_prepare(const struct vgg__stage_args *args, uint32_t m, bool back,
                           float *u)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(args->machine);
    struct prepare p = {.args = args, .m = m, .back = back, .u = u};
    const size_t panels = vgg__gemm_panels(&cpu->gemm, width_of(args->stage, back));
    p.panel = filters_panel(cpu, args->stage, m, back);
    args->machine->parallel(args->machine, (uint32_t)panels, prepare_task, &p);
}

/* ---- Tiles ----------------------------------------------------------------- */

struct vgg__tiling vgg__winograd_tiling(const vgg_stage *s, uint32_t m, bool pooled,
                                        size_t count)
{
    const size_t h = pooled ? 2 * (size_t)s->out.h : s->mid.h;
    const size_t w = pooled ? 2 * (size_t)s->out.w : s->mid.w;
    struct vgg__tiling t = {.rows = (h + m - 1) / m, .cols = (w + m - 1) / m};
    t.total = t.rows * t.cols * count;
    return t;
}

bool vgg__winograd_next(const struct vgg__tiling *t, size_t *tile, size_t end,
                        size_t *sample, struct vgg__run *run)
{
    if (*tile >= end) return false;
    const size_t place = *tile % (t->rows * t->cols);
    *sample = *tile / (t->rows * t->cols);
    run->row = place / t->cols;
    run->col = place % t->cols;
    run->count = vgg__size_min(t->cols - run->col, end - *tile);
    *tile += run->count;
    return true;
}

/* A line of the cache lies between what would otherwise be even numbers of lines apart,
 * and share sets of the cache. */
#define LINE 16

static size_t groups_of(size_t channels, size_t width)
{
    return (channels + width - 1) / width;
}

struct vgg__tiles vgg__winograd_by_frequency(uint32_t m, size_t block, size_t channels,
                                             size_t width)
{
    const size_t frequencies = (m + 2) * (m + 2);
    struct vgg__tiles t = {.at = {.width = (uint32_t)width, .stride = width}};
    if (t.at.stride % 256 == 0) t.at.stride += LINE;
    t.at.group = block * t.at.stride;
    t.at.frequency = groups_of(channels, width) * t.at.group + LINE;
    t.floats = vgg__cpu_floats(frequencies * t.at.frequency);
    return t;
}

struct vgg__tiles vgg__winograd_by_tile(uint32_t m, size_t block, size_t channels,
                                        size_t width)
{
    const size_t frequencies = (m + 2) * (m + 2);
    struct vgg__tiles t = {.at = {.width = (uint32_t)width, .frequency = width}};
    t.at.group = frequencies * width;
    t.at.stride = groups_of(channels, width) * t.at.group + LINE;
    t.floats = vgg__cpu_floats(block * t.at.stride);
    return t;
}

/* ---- Products -------------------------------------------------------------- */

struct pass {
    const struct vgg__stage_args *args;
    const struct vgg__kernels *kernels;
    uint32_t m, frequencies;
    bool back;
    size_t depth, width, panels; /* channels in, channels out, panels of these */
    struct vgg__tiling tiling;
    size_t block, blocks; /* tiles of a block */
    size_t groups;        /* of panels; a task is a block and a group */
    struct vgg__tiles v, products;
    size_t worker_floats;
    const float *u;
    size_t u_panel;
};

static struct pass plan_pass(const struct vgg__cpu *cpu, const vgg_stage *s, uint32_t m,
                             bool back, size_t count)
{
    const size_t cols = cpu->gemm.kernels->cols;
    struct pass p = {.kernels = cpu->gemm.kernels,
                     .m = m,
                     .frequencies = (m + 2) * (m + 2),
                     .back = back,
                     .depth = depth_of(s, back),
                     .width = width_of(s, back)};
    p.panels = vgg__gemm_panels(&cpu->gemm, p.width);
    p.tiling = vgg__winograd_tiling(s, m, !back && s->pool != VGG_NO_POOL, count);
    const size_t lanes = cols / 2, row = (p.depth + lanes - 1) / lanes * lanes;
    size_t block = CACHE_FLOATS / p.frequencies / (row + cols) / 14 * 14;
    if (block < FEWEST) block = FEWEST;
    if (block > MOST) block = MOST;
    p.block = vgg__size_min(block, p.tiling.total);
    p.blocks = (p.tiling.total + p.block - 1) / p.block;
    const size_t tasks = SHARES * (size_t)cpu->workers;
    p.groups = vgg__size_min(p.panels, (tasks + p.blocks - 1) / p.blocks);
    if (p.depth < BY_TILE) {
        p.v = vgg__winograd_by_tile(m, p.block, p.depth, GROUP);
        p.products = vgg__winograd_by_tile(m, p.block, cols, cols);
    } else {
        p.v = vgg__winograd_by_frequency(m, p.block, row, row);
        p.products = vgg__winograd_by_frequency(m, p.block, cols, cols);
    }
    p.worker_floats = p.v.floats + p.products.floats;
    p.u_panel = filters_panel(cpu, s, m, back);
    return p;
}

size_t vgg__winograd_scratch(const struct vgg__stage_env *env, uint32_t m, bool back)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const struct pass p = plan_pass(cpu, env->stage, m, back, env->batch);
    return sizeof(float) * cpu->workers * p.worker_floats;
}

static void make_v(const struct pass *p, size_t first, size_t end, float *v)
{
    struct vgg__transformed to = {.at = p->v.at};
    size_t sample;
    struct vgg__run run;
    for (size_t tile = first; to.out = v + (tile - first) * p->v.at.stride,
                vgg__winograd_next(&p->tiling, &tile, end, &sample, &run);) {
        const struct vgg__source source =
            p->back ? vgg__conv_gradient_source(p->args, sample)
                    : vgg__conv_input_source(p->args, sample);
        p->kernels->winograd->window(p->m, &source, &run, &to);
    }
}

static void multiply(const struct pass *p, size_t panel, size_t tiles, const float *v,
                     float *m)
{
    const size_t cols = p->kernels->cols;
    const size_t width = vgg__cpu_width(p->kernels, p->width - panel * cols);
    const float *u = p->u + panel * p->u_panel;
    for (uint32_t f = 0; f < p->frequencies; f++, u += p->depth * cols)
        for (size_t l = 0; l < p->depth; l += DEPTH) {
            const struct vgg__tile tile = {
                .k = vgg__size_min(DEPTH, p->depth - l),
                .a = v + f * p->v.at.frequency + l,
                .a_row = p->v.at.stride,
                .a_col = 1,
                .a_skip = p->v.at.width == GROUP ? p->v.at.group - GROUP : 0,
                .b = u + l * cols,
                .b_row = cols,
                .c = m + f * p->products.at.frequency,
                .c_row = p->products.at.stride,
                .accumulate = l > 0,
                .ahead = (const char *)(u + (l + DEPTH) * cols),
                .ahead_rows = 1,
                .ahead_lines = p->depth > FAR ? (uint32_t)(DEPTH * cols / 16) : 0};
            vgg__gemm_block(p->kernels, tiles, width, &tile);
        }
}

static void finish_panel(const struct pass *p, size_t panel, size_t first, size_t end,
                         const float *m)
{
    const vgg_stage *s = p->args->stage;
    const size_t cols = p->kernels->cols, channel = panel * cols;
    struct vgg__finish f = {.at = p->products.at,
                            .to = {.h = s->mid.h,
                                   .w = s->mid.w,
                                   .c = p->width,
                                   .width = vgg__size_min(cols, p->width - channel)}};
    size_t sample;
    struct vgg__run run;
    for (size_t tile = first; f.in = m + (tile - first) * p->products.at.stride,
                vgg__winograd_next(&p->tiling, &tile, end, &sample, &run);) {
        if (p->back)
            f.to.y = (float *)p->args->dx + sample * vgg__extent_count(s->in) + channel;
        else
            vgg__conv_output(p->args, sample, channel, &f.to);
        p->kernels->winograd->finish(p->m, &f, &run);
    }
}

static void pass_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct pass *p = arg;
    const size_t group = task % p->groups, first = task / p->groups * p->block;
    const size_t end = vgg__size_min(first + p->block, p->tiling.total);
    float *v = (float *)p->args->scratch + worker * p->worker_floats,
          *m = v + p->v.floats;
    make_v(p, first, end, v);
    const size_t until = vgg__cpu_part(p->panels, group + 1, p->groups);
    for (size_t j = vgg__cpu_part(p->panels, group, p->groups); j < until; j++) {
        multiply(p, j, end - first, v, m);
        finish_panel(p, j, first, end, m);
    }
}

void vgg__winograd_pass(const struct vgg__stage_args *args, uint32_t m, bool back,
                        const float *u)
{
    struct pass p =
        plan_pass(vgg__cpu_of(args->machine), args->stage, m, back, args->count);
    p.args = args;
    p.u = u;
    args->machine->parallel(args->machine, (uint32_t)(p.blocks * p.groups), pass_task,
                            &p);
}
