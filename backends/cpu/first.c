/* SPDX-License-Identifier: Apache-2.0 */
/* A network's first convolution: 3x3, few input channels; forward and the gradients of
 * weights and biases. (Few want the gradient of an image: columns give it.)
 *
 * A task takes some pairs of rows. Their four rows of input are copied with a margin of
 * zeros, so that the inner loops have no edges. Gradients are summed in float along two
 * rows, from there on in double; parts are cut by shapes alone. */
#include "cpu/first.h"

#include <string.h>

#include "cpu/conv.h"

#define PAIRS 8  /* of rows, of a forward task */
#define PARTS 64 /* of the gradients, at most */

struct first {
    const struct vgg__stage_args *args;
    const struct vgg__kernels *kernels;
    const float *weight; /* [kh][kw][ic][w_row] */
    size_t ic, oc, w_row;
    size_t row;   /* floats of a row with its margin */
    size_t pairs; /* of rows, of all samples */
    size_t parts;
    size_t worker_floats; /* four rows; backward: and a pair's sums */
    float *workers;
    double *sums; /* [part][9 * ic + 1][w_row] */
};

static struct first plan_first(const struct vgg__cpu *cpu, const vgg_stage *s,
                               size_t count)
{
    struct first f = {.kernels = cpu->gemm.kernels, .ic = s->in.c, .oc = s->mid.c};
    const size_t lanes = f.kernels->cols / 2, block = VGG__FIRST_BLOCK;
    f.w_row = (f.oc + lanes - 1) / lanes * lanes;
    f.row = vgg__cpu_floats(((s->in.w + block - 1) / block * block + 2) * f.ic);
    f.pairs = (s->mid.h + (size_t)1) / 2 * count;
    f.parts = vgg__size_min(PARTS, f.pairs);
    f.worker_floats = 4 * f.row + vgg__cpu_floats((9 * f.ic + 1) * lanes);
    return f;
}

size_t vgg__first_packed(const struct vgg__cpu *cpu, const vgg_stage *s)
{
    return 9 * s->in.c * plan_first(cpu, s, 1).w_row;
}

size_t vgg__first_scratch(const struct vgg__stage_env *env, bool back)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(env->machine);
    const struct first f = plan_first(cpu, env->stage, env->batch);
    const size_t sums = back ? f.parts * (9 * f.ic + 1) * f.w_row : 0;
    return sizeof(float) * cpu->workers * f.worker_floats + sizeof(double) * sums;
}

void vgg__first_prepare(const struct vgg__stage_args *args, float *packed)
{
    const vgg_stage *s = args->stage;
    const struct first f = plan_first(vgg__cpu_of(args->machine), s, 1);
    const float *weight = args->weight;
    memset(packed, 0, 9 * f.ic * f.w_row * sizeof(float));
    for (size_t o = 0; o < f.oc; o++)
        for (size_t i = 0; i < f.ic; i++)
            for (size_t t = 0; t < 9; t++)
                packed[(t * f.ic + i) * f.w_row + o] = weight[(o * f.ic + i) * 9 + t];
}

/* Pair `pair` of all samples': its input with a margin, in the worker's scratch. */
static struct vgg__first take_pair(const struct first *f, size_t pair, float *rows,
                                   size_t *sample)
{
    const vgg_stage *s = f->args->stage;
    const size_t h = s->in.h, of_sample = (h + 1) / 2, length = s->in.w * f->ic;
    struct vgg__first first = {.x = rows, .row = f->row, .ic = f->ic};
    *sample = pair / of_sample;
    first.y = 2 * (pair % of_sample);
    const float *x = (const float *)f->args->x + *sample * h * length;
    for (size_t r = 0; r < 4; r++) {
        const size_t y = first.y + r; /* one too large */
        float *row = rows + r * f->row;
        const bool inside = y >= 1 && y - 1 < h;
        memset(row, 0, (inside ? f->ic : f->row) * sizeof(float));
        if (!inside) continue;
        memcpy(row + f->ic, x + (y - 1) * length, length * sizeof(float));
        memset(row + f->ic + length, 0, (f->row - f->ic - length) * sizeof(float));
    }
    return first;
}

/* ---- Forward --------------------------------------------------------------- */

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct first *f = arg;
    const vgg_stage *s = f->args->stage;
    const size_t cols = f->kernels->cols;
    float *rows = f->workers + worker * f->worker_floats;
    const size_t end = vgg__size_min((size_t)(task + 1) * PAIRS, f->pairs);
    for (size_t pair = (size_t)task * PAIRS; pair < end; pair++) {
        size_t sample;
        const struct vgg__first first = take_pair(f, pair, rows, &sample);
        for (size_t o = 0; o < f->oc; o += cols) {
            struct vgg__output out = {.h = s->mid.h,
                                      .w = s->mid.w,
                                      .c = f->oc,
                                      .width = vgg__size_min(cols, f->oc - o)};
            vgg__conv_output(f->args, sample, o, &out);
            f->kernels->first->forward(&first, f->weight + o, f->w_row, &out);
        }
    }
}

void vgg__first_forward(const struct vgg__stage_args *args, const float *packed)
{
    struct first f = plan_first(vgg__cpu_of(args->machine), args->stage, args->count);
    f.args = args;
    f.weight = packed;
    f.workers = args->scratch;
    args->machine->parallel(args->machine, (uint32_t)((f.pairs + PAIRS - 1) / PAIRS),
                            forward_task, &f);
}

/* ---- Gradients ------------------------------------------------------------- */

static void part_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct first *f = arg;
    const size_t lanes = f->kernels->cols / 2, lines = 9 * f->ic + 1;
    float *rows = f->workers + worker * f->worker_floats,
          *pair_sums = rows + 4 * f->row;
    double *sums = f->sums + task * lines * f->w_row;
    memset(sums, 0, lines * f->w_row * sizeof(double));
    const size_t end = vgg__cpu_part(f->pairs, task + 1, f->parts);
    for (size_t pair = vgg__cpu_part(f->pairs, task, f->parts); pair < end; pair++) {
        size_t sample;
        const struct vgg__first first = take_pair(f, pair, rows, &sample);
        const struct vgg__source all = vgg__conv_gradient_source(f->args, sample);
        for (size_t o = 0; o < f->oc; o += lanes) {
            const struct vgg__source dy = vgg__source_from(&all, o);
            f->kernels->first->weights(&first, &dy, pair_sums);
            for (size_t l = 0; l < lines; l++)
                for (size_t j = 0; j < lanes; j++)
                    sums[l * f->w_row + o + j] += pair_sums[l * lanes + j];
        }
    }
}

static double sum_of(const struct first *f, size_t line, size_t o)
{
    const size_t part = (9 * f->ic + 1) * f->w_row;
    double sum = 0;
    for (size_t i = 0; i < f->parts; i++)
        sum += f->sums[i * part + line * f->w_row + o];
    return sum;
}

void vgg__first_weights(const struct vgg__stage_args *args)
{
    const struct vgg__cpu *cpu = vgg__cpu_of(args->machine);
    struct first f = plan_first(cpu, args->stage, args->count);
    f.args = args;
    f.workers = args->scratch;
    f.sums = (double *)(f.workers + cpu->workers * f.worker_floats);
    args->machine->parallel(args->machine, (uint32_t)f.parts, part_task, &f);
    float *dweight = args->dweight, *dbias = args->dbias;
    for (size_t o = 0; o < f.oc; o++) {
        for (size_t l = 0; l < 9 * f.ic && dweight; l++)
            dweight[(o * f.ic + l % f.ic) * 9 + l / f.ic] += (float)sum_of(&f, l, o);
        if (dbias) dbias[o] += (float)sum_of(&f, 9 * f.ic, o);
    }
}
