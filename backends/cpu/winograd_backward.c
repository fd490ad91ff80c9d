/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd convolution: gradients of filters and biases; winograd.h has the formula.
 *
 * The tiles of all samples are cut in a number of parts that depends on shapes alone.
 * A task takes a part and a group of input channels, block by block of tiles:
 *
 *   V   windows of x transformed       [frequency][tile][ic]
 *   Z   tiles of dY transformed        [frequency][panel][tile][panel's oc]
 *   P  += V^T Z, of this part          [frequency][panel][ic][panel's oc]
 *
 * Then the parts are added up in their order and come back as G^T P G. The sum of a
 * tile of dY is its frequency (1, 1): the gradient of the bias comes with Z. */
#include "cpu/conv.h"
#include "cpu/winograd.h"

#include <string.h>

#define CACHE_FLOATS 327680 /* of V and Z: 1.25 MiB */
#define FEWEST       28     /* tiles of a block */
#define MOST         112
#define SHARE        64 /* input channels of a task */
#define FEWEST_PARTS 4
#define MOST_PARTS   32
#define PART_FLOATS  ((size_t)3 << 20) /* of all parts together, unless they are few */

struct backward {
    const struct vgg__stage_args *args;
    const struct vgg__kernels *kernels;
    uint32_t m, frequencies;
    size_t ic, oc, panels, groups;
    struct vgg__tiling tiling;
    size_t block, parts;
    struct vgg__tiles v, z;
    size_t p_frequency, worker_floats, part_floats;
    float *workers; /* [worker][worker_floats] */
    float *p;       /* [part][part_floats] */
    double *dbias;  /* [part][oc] */
};

static struct backward plan_backward(const struct vgg__cpu *cpu, const vgg_stage *s,
                                     uint32_t m, size_t count)
{
    const size_t cols = cpu->gemm.kernels->cols;
    struct backward b = {.kernels = cpu->gemm.kernels,
                         .m = m,
                         .frequencies = (m + 2) * (m + 2),
                         .ic = s->in.c,
                         .oc = s->mid.c};
    b.panels = vgg__gemm_panels(&cpu->gemm, b.oc);
    b.groups = (b.ic + SHARE - 1) / SHARE;
    b.tiling = vgg__winograd_tiling(s, m, s->pool != VGG_NO_POOL, count);
    const size_t lanes = cols / 2, share = vgg__size_min(b.ic, SHARE);
    const size_t row = (share + lanes - 1) / lanes * lanes;
    size_t block = CACHE_FLOATS / b.frequencies / (row + b.panels * cols);
    if (block < FEWEST) block = FEWEST;
    if (block > MOST) block = MOST;
    b.block = vgg__size_min(block, b.tiling.total);
    b.p_frequency = b.panels * b.ic * cols;
    b.v = vgg__winograd_by_frequency(m, b.block, row, row);
    b.z = vgg__winograd_by_frequency(m, b.block, b.panels * cols, cols);
    b.worker_floats = b.v.floats + b.z.floats + vgg__cpu_floats(b.panels * cols);
    b.part_floats = vgg__cpu_floats(b.frequencies * b.p_frequency);
    b.parts = vgg__size_min(MOST_PARTS,
                            vgg__size_max(FEWEST_PARTS, PART_FLOATS / b.part_floats));
    b.parts = vgg__size_min(b.parts, (b.tiling.total + b.block - 1) / b.block);
    return b;
}

size_t vgg__winograd_backward_scratch(const struct vgg__stage_env *env, uint32_t m)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const struct backward b = plan_backward(cpu, env->stage, m, env->batch);
    return sizeof(float) * (cpu->workers * b.worker_floats + b.parts * b.part_floats) +
           sizeof(double) * b.parts * b.oc;
}

/* ---- A block --------------------------------------------------------------- */

/* A task's share of the input channels. */
struct share {
    size_t first, count;
};

static void make_v(const struct backward *b, struct share share, size_t first,
                   size_t end, float *v)
{
    struct vgg__transformed to = {.at = b->v.at};
    size_t sample;
    struct vgg__run run;
    for (size_t tile = first; to.out = v + (tile - first) * b->v.at.stride,
                vgg__winograd_next(&b->tiling, &tile, end, &sample, &run);) {
        const struct vgg__source x = vgg__conv_input_source(b->args, sample);
        struct vgg__source source = vgg__source_from(&x, share.first);
        source.channels = share.count;
        b->kernels->winograd->window(b->m, &source, &run, &to);
    }
}

static void make_z(const struct backward *b, size_t first, size_t end, float *z)
{
    struct vgg__transformed to = {.at = b->z.at};
    size_t sample;
    struct vgg__run run;
    for (size_t tile = first; to.out = z + (tile - first) * b->z.at.stride,
                vgg__winograd_next(&b->tiling, &tile, end, &sample, &run);) {
        const struct vgg__source source = vgg__conv_gradient_source(b->args, sample);
        b->kernels->winograd->gradient(b->m, &source, &run, &to);
    }
}

static void add_bias(const struct backward *b, size_t tiles, const float *z, float *sum,
                     double *dbias)
{
    const size_t cols = b->kernels->cols;
    const float *sums = z + (b->m + 3) * b->z.at.frequency; /* frequency (1, 1) */
    memset(sum, 0, b->panels * cols * sizeof(float));
    for (size_t j = 0; j < b->panels; j++)
        b->kernels->add_rows(sum + j * cols, sums + j * b->z.at.group, tiles, cols);
    for (size_t o = 0; o < b->oc; o++) dbias[o] += sum[o];
}

/* `first`: P has nothing yet. */
static void add_products(const struct backward *b, struct share share, bool first,
                         size_t tiles, const float *v, float *p)
{
    const float *z = v + b->v.floats;
    const size_t cols = b->kernels->cols;
    for (uint32_t f = 0; f < b->frequencies; f++)
        for (size_t j = 0; j < b->panels; j++) {
            const struct vgg__tile tile = {
                .k = tiles,
                .a = v + f * b->v.at.frequency,
                .a_row = 1,
                .a_col = b->v.at.stride,
                .b = z + f * b->z.at.frequency + j * b->z.at.group,
                .b_row = b->z.at.stride,
                .c = p + f * b->p_frequency + (j * b->ic + share.first) * cols,
                .c_row = cols,
                .accumulate = !first};
            vgg__gemm_block(b->kernels, share.count,
                            vgg__cpu_width(b->kernels, b->oc - j * cols), &tile);
        }
}

static void part_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct backward *b = arg;
    const size_t part = task / b->groups, group = task % b->groups;
    const size_t blocks = (b->tiling.total + b->block - 1) / b->block;
    const struct share share = {group * SHARE,
                                vgg__size_min(SHARE, b->ic - group * SHARE)};
    float *v = b->workers + worker * b->worker_floats, *z = v + b->v.floats;
    float *p = b->p + part * b->part_floats;
    double *dbias = b->dbias + part * b->oc;
    if (group == 0) memset(dbias, 0, b->oc * sizeof(double));
    const size_t begin = vgg__cpu_part(blocks, part, b->parts);
    const size_t until = vgg__cpu_part(blocks, part + 1, b->parts);
    for (size_t i = begin; i < until; i++) {
        const size_t first = i * b->block;
        const size_t end = vgg__size_min(first + b->block, b->tiling.total);
        make_z(b, first, end, z);
        if (group == 0 && b->args->dbias)
            add_bias(b, end - first, z, z + b->z.floats, dbias);
        if (!b->args->dweight) continue;
        make_v(b, share, first, end, v);
        add_products(b, share, i == begin, end - first, v, p);
    }
}

/* ---- The sum of the parts -------------------------------------------------- */

/* dg += G^T P G of `count` filters side by side, those of dg `row` apart. */
static void add_filters(const struct backward *b, const float *p, size_t count,
                        float *dg, size_t row)
{
    const struct vgg__filters filters = {b->m, vgg__winograd_filters(b->m),
                                         b->p_frequency};
    double sum[9][VGG__MOST_COLS];
    b->kernels->winograd->unfilter(&filters, p, sum);
    for (size_t t = 0; t < 9; t++)
        for (size_t j = 0; j < count; j++) dg[j * row + t] += (float)sum[t][j];
}

/* Input channel `task`: the parts' sum in the first part's place, then OIHW. */
static void sum_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct backward *b = arg;
    const size_t cols = b->kernels->cols;
    for (uint32_t f = 0; f < b->frequencies; f++)
        for (size_t j = 0; j < b->panels; j++) {
            const size_t width = vgg__cpu_width(b->kernels, b->oc - j * cols);
            float *sum = b->p + f * b->p_frequency + (j * b->ic + task) * cols;
            for (size_t part = 1; part < b->parts; part++)
                b->kernels->add(sum, sum + part * b->part_floats, width);
        }
    for (size_t j = 0; j < b->panels; j++)
        add_filters(
            b, b->p + (j * b->ic + task) * cols, vgg__size_min(cols, b->oc - j * cols),
            (float *)b->args->dweight + (j * cols * b->ic + task) * 9, b->ic * 9);
}

static void sum_bias(const struct backward *b)
{
    float *dbias = b->args->dbias;
    for (size_t o = 0; o < b->oc; o++) {
        double sum = 0;
        for (size_t part = 0; part < b->parts; part++)
            sum += b->dbias[part * b->oc + o];
        dbias[o] += (float)sum;
    }
}

void vgg__winograd_weights(const struct vgg__stage_args *args, uint32_t m)
{
    const struct vgg__machine *machine = args->machine;
    const struct vgg__cpu *cpu = vgg__cpu_of(machine);
    struct backward b = plan_backward(cpu, args->stage, m, args->count);
    b.args = args;
    b.workers = args->scratch;
    b.p = b.workers + cpu->workers * b.worker_floats;
    b.dbias = (double *)(b.p + b.parts * b.part_floats);
    const size_t groups = args->dweight ? b.groups : 1;
    b.groups = groups;
    machine->parallel(machine, (uint32_t)(b.parts * groups), part_task, &b);
    if (args->dweight) machine->parallel(machine, (uint32_t)b.ic, sum_task, &b);
    if (args->dbias) sum_bias(&b);
}
