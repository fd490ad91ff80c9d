/* SPDX-License-Identifier: Apache-2.0 */
/* Batch normalisation over n, h, w, and ReLU if it is fused:
 * y = gamma * (x - mean) / sqrt(var + epsilon) + beta. Ioffe and Szegedy 2015;
 * statistics as PyTorch's: the batch's mean and biased variance normalise, the unbiased
 * one goes into the running variance (which stays as it is if a channel has a single
 * value).
 *
 * x is [rows][c]. Rows are cut in parts by their number alone; sums are in double, of
 * each part, then over parts in their order. */
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"

#define PART       256 /* rows, at least */
#define MOST_PARTS 64

struct norm {
    const struct vgg__stage_args *args;
    size_t c, rows, parts;
    double *mean, *inverse;        /* [c]: 1 / sqrt(var + epsilon); saved */
    double *a, *b;                 /* [c]: sums; backward: the statistics' part in dx */
    double *part_a, *part_b;       /* [parts][c] */
    float *centre, *scale, *shift; /* [c]: y = (x - centre) * scale + shift */
};

static size_t part_count(size_t rows)
{
    const size_t parts = (rows + PART - 1) / PART;
    return parts < MOST_PARTS ? parts : MOST_PARTS;
}

/* Bytes after the saved ones: sums, those of the parts, and what makes y. */
static size_t scratch_bytes(size_t c, size_t rows)
{
    const size_t sums = 2 * (part_count(rows) + 1) * sizeof(double);
    return vgg__size_mul(sums + 3 * sizeof(float), c);
}

static struct norm norm_of(const struct vgg__stage_args *args)
{
    const vgg_stage *s = args->stage;
    struct norm v = {.args = args, .c = s->in.c};
    v.rows = (size_t)args->count * s->in.h * s->in.w;
    v.parts = part_count(v.rows);
    double *scratch = args->scratch, *saved = args->saved;
    if (saved == NULL) { /* inference: kept for the call */
        saved = scratch;
        scratch += 2 * v.c;
    }
    v.mean = saved;
    v.inverse = saved + v.c;
    v.a = scratch;
    v.b = scratch + v.c;
    v.part_a = scratch + 2 * v.c;
    v.part_b = v.part_a + v.parts * v.c;
    v.centre = (float *)(v.part_b + v.parts * v.c);
    v.scale = v.centre + v.c;
    v.shift = v.scale + v.c;
    return v;
}

static void for_parts(struct norm *v, vgg__task_fn run)
{
    v->args->machine->parallel(v->args->machine, (uint32_t)v->parts, run, v);
}

/* Sum of the parts. */
static void reduce(const struct norm *v, const double *parts, double *sum)
{
    memcpy(sum, parts, v->c * sizeof(double));
    for (size_t p = 1; p < v->parts; p++)
        for (size_t j = 0; j < v->c; j++) sum[j] += parts[p * v->c + j];
}

/* ---- Forward --------------------------------------------------------------- */

static void sum_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    double *sum = v->part_a + task * v->c;
    memset(sum, 0, v->c * sizeof(double));
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        const float *x = (const float *)v->args->x + i * v->c;
        for (size_t j = 0; j < v->c; j++) sum[j] += x[j];
    }
}

static void spread_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    double *sum = v->part_a + task * v->c;
    memset(sum, 0, v->c * sizeof(double));
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        const float *x = (const float *)v->args->x + i * v->c;
        for (size_t j = 0; j < v->c; j++) {
            const double distance = x[j] - v->mean[j];
            sum[j] += distance * distance;
        }
    }
}

/* Towards the batch's, unless one of the two would not be finite. */
static void move_running(const struct norm *v, size_t j)
{
    const double rows = (double)v->rows, momentum = v->args->stage->momentum;
    float *mean = &((float *)v->args->mean)[j], *var = &((float *)v->args->var)[j];
    const float next_mean = (float)((1 - momentum) * *mean + momentum * v->mean[j]);
    float next_var = *var;
    if (rows > 1)
        next_var = (float)((1 - momentum) * *var + momentum * (v->a[j] / (rows - 1)));
    if (!isfinite(next_mean) || !isfinite(next_var)) return;
    *mean = next_mean;
    *var = next_var;
}

static void batch_statistics(struct norm *v)
{
    const double rows = (double)v->rows;
    for_parts(v, sum_task);
    reduce(v, v->part_a, v->a);
    for (size_t j = 0; j < v->c; j++) v->mean[j] = v->a[j] / rows;
    for_parts(v, spread_task);
    reduce(v, v->part_a, v->a);
    for (size_t j = 0; j < v->c; j++) {
        v->inverse[j] = 1 / sqrt(v->a[j] / rows + v->args->stage->epsilon);
        move_running(v, j);
    }
}

static void running_statistics(struct norm *v)
{
    const float *mean = v->args->mean, *var = v->args->var;
    for (size_t j = 0; j < v->c; j++) {
        v->mean[j] = mean[j];
        v->inverse[j] = 1 / sqrt(var[j] + v->args->stage->epsilon);
    }
}

/* What a float leaves of a mean goes into the shift, so that all of it is taken away,
 * be it thousands of times the spread. Where nothing is left, mean or scale may be
 * infinite. */
static void fold(struct norm *v)
{
    const float *gamma = v->args->gamma, *beta = v->args->beta;
    for (size_t j = 0; j < v->c; j++) {
        const double scale = gamma[j] * v->inverse[j];
        const float centre = (float)v->mean[j];
        const double left = v->mean[j] - centre;
        v->centre[j] = centre;
        v->scale[j] = (float)scale;
        v->shift[j] = centre == v->mean[j] ? beta[j] : (float)(beta[j] - left * scale);
    }
}

static void normalise_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    const float *centre = v->centre, *scale = v->scale, *shift = v->shift;
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        const float *x = (const float *)v->args->x + i * v->c;
        float *y = (float *)v->args->y + i * v->c;
        for (size_t j = 0; j < v->c; j++)
            y[j] = (x[j] - centre[j]) * scale[j] + shift[j];
        if (v->args->stage->relu)
            for (size_t j = 0; j < v->c; j++) y[j] = y[j] <= 0 ? 0 : y[j];
    }
}

static void forward(const struct vgg__stage_args *args)
{
    struct norm v = norm_of(args);
    if (args->mode == VGG_MODE_TRAIN)
        batch_statistics(&v);
    else
        running_statistics(&v);
    fold(&v);
    for_parts(&v, normalise_task);
}

/* ---- Backward -------------------------------------------------------------- */

static float masked(const struct norm *v, size_t at)
{
    const float *dy = v->args->dy, *y = v->args->y;
    return v->args->stage->relu && y[at] <= 0 ? 0 : dy[at];
}

static void gradient_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    double *dgamma = v->part_a + task * v->c, *dbeta = v->part_b + task * v->c;
    memset(dgamma, 0, v->c * sizeof(double));
    memset(dbeta, 0, v->c * sizeof(double));
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        const float *x = (const float *)v->args->x + i * v->c;
        for (size_t j = 0; j < v->c; j++) {
            const double dy = masked(v, i * v->c + j);
            dgamma[j] += dy * ((x[j] - v->mean[j]) * v->inverse[j]);
            dbeta[j] += dy;
        }
    }
}

/* dx = scale * dy: statistics that do not depend on x. An xhat times 0 would be NaN
 * where it is not finite. */
static void constant_dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    const float *gamma = v->args->gamma;
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        float *dx = (float *)v->args->dx + i * v->c;
        for (size_t j = 0; j < v->c; j++)
            dx[j] = (float)(gamma[j] * v->inverse[j] * masked(v, i * v->c + j));
    }
}

/* dx = scale * (dy - by_mean - xhat * by_spread); the last two terms come from the
 * statistics' own dependence on x. */
static void dx_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct norm *v = arg;
    const size_t end = vgg__cpu_part(v->rows, task + 1, v->parts);
    const float *gamma = v->args->gamma;
    for (size_t i = vgg__cpu_part(v->rows, task, v->parts); i < end; i++) {
        const float *x = (const float *)v->args->x + i * v->c;
        float *dx = (float *)v->args->dx + i * v->c;
        for (size_t j = 0; j < v->c; j++) {
            const double xhat = (x[j] - v->mean[j]) * v->inverse[j];
            const double dy = masked(v, i * v->c + j);
            dx[j] = (float)(gamma[j] * v->inverse[j] * (dy - v->b[j] - xhat * v->a[j]));
        }
    }
}

static void backward(const struct vgg__stage_args *args)
{
    struct norm v = norm_of(args);
    float *dgamma = args->dgamma, *dbeta = args->dbeta;
    for_parts(&v, gradient_task);
    reduce(&v, v.part_a, v.a);
    reduce(&v, v.part_b, v.b);
    for (size_t j = 0; j < v.c; j++) {
        if (dgamma) dgamma[j] += (float)v.a[j];
        if (dbeta) dbeta[j] += (float)v.b[j];
        v.a[j] /= (double)v.rows;
        v.b[j] /= (double)v.rows;
    }
    if (args->dx)
        for_parts(&v, args->mode == VGG_MODE_TRAIN ? dx_task : constant_dx_task);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const vgg_stage *s = env->stage;
    const size_t rows = vgg__size_mul(vgg__size_mul(env->batch, s->in.h), s->in.w);
    const size_t saved = vgg__size_mul(s->in.c, 2 * sizeof(double));
    need->algorithm = "two passes over parts";
    need->reads_x = true;
    need->reads_y = s->relu != 0;
    need->forward_scratch = need->backward_scratch = scratch_bytes(s->in.c, rows);
    if (env->mode != VGG_MODE_INFER)
        need->saved = saved;
    else
        need->forward_scratch = vgg__size_add(need->forward_scratch, saved);
}

const struct vgg__stage_impl vgg__cpu_batch_norm = {
    .measure = measure, .forward = forward, .backward = backward};
