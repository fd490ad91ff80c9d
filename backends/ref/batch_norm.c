/* SPDX-License-Identifier: Apache-2.0 */
/* Batch normalisation over n, h, w, Ioffe and Szegedy 2015:
 *
 *   y = gamma * (x - mean) / sqrt(var + epsilon) + beta
 *
 * Training normalises with the batch's mean and biased variance, and moves the running
 * statistics towards the mean and the unbiased variance. A channel with a single value
 * has no unbiased variance: its running variance stays as it is. Where one of the two
 * would not be finite, both stay. The other modes normalise with the running
 * statistics, which are constants to their backward. */
#include <math.h>

#include "ref/ref.h"

/* Of one channel; kept from forward to backward. */
struct statistics {
    double mean, inverse; /* 1 / sqrt(var + epsilon) */
};

static size_t plane_size(const vgg_stage *stage)
{
    return (size_t)stage->in.h * stage->in.w;
}

/* Plane of sample n and channel c. */
static size_t plane_at(const vgg_stage *stage, size_t n, size_t c)
{
    return (n * stage->in.c + c) * plane_size(stage);
}

static double channel_mean(const struct vgg__stage_args *args, size_t c)
{
    const size_t plane = plane_size(args->stage);
    double sum = 0;
    for (size_t n = 0; n < args->count; n++) {
        const real *x = (const real *)args->x + plane_at(args->stage, n, c);
        for (size_t i = 0; i < plane; i++) sum += x[i];
    }
    return sum / ((double)args->count * (double)plane);
}

/* Sum of squared distances to the mean. */
static double channel_spread(const struct vgg__stage_args *args, size_t c, double mean)
{
    const size_t plane = plane_size(args->stage);
    double sum = 0;
    for (size_t n = 0; n < args->count; n++) {
        const real *x = (const real *)args->x + plane_at(args->stage, n, c);
        for (size_t i = 0; i < plane; i++) sum += (x[i] - mean) * (x[i] - mean);
    }
    return sum;
}

/* Towards the batch's, unless one of the two would not be finite. */
static void move_running(const struct vgg__stage_args *args, size_t c, double mean,
                         double spread)
{
    const double values = (double)args->count * (double)plane_size(args->stage);
    const double momentum = args->stage->momentum;
    real *running_mean = args->mean, *running_var = args->var;
    const real next_mean = (real)((1 - momentum) * running_mean[c] + momentum * mean);
    real next_var = running_var[c];
    if (values > 1)
        next_var = (real)((1 - momentum) * running_var[c] +
                          momentum * (spread / (values - 1)));
    if (!isfinite(next_mean) || !isfinite(next_var)) return;
    running_mean[c] = next_mean;
    running_var[c] = next_var;
}

static struct statistics batch_statistics(const struct vgg__stage_args *args, size_t c)
{
    const double values = (double)args->count * (double)plane_size(args->stage);
    const double mean = channel_mean(args, c);
    const double spread = channel_spread(args, c, mean);
    move_running(args, c, mean, spread);
    return (struct statistics){mean, 1 / sqrt(spread / values + args->stage->epsilon)};
}

static struct statistics running_statistics(const struct vgg__stage_args *args,
                                            size_t c)
{
    const real *mean = args->mean, *var = args->var;
    return (struct statistics){mean[c], 1 / sqrt(var[c] + args->stage->epsilon)};
}

static void normalise(const struct vgg__stage_args *args, size_t c, struct statistics s)
{
    const real *gamma = args->gamma, *beta = args->beta;
    const double scale = gamma[c] * s.inverse;
    const size_t plane = plane_size(args->stage);
    for (size_t n = 0; n < args->count; n++) {
        const real *x = (const real *)args->x + plane_at(args->stage, n, c);
        real *y = (real *)args->y + plane_at(args->stage, n, c);
        for (size_t i = 0; i < plane; i++)
            y[i] = (real)((x[i] - s.mean) * scale + beta[c]);
    }
}

static void forward(const struct vgg__stage_args *args)
{
    struct statistics *saved = args->saved; /* NULL: no backward will come */
    for (size_t c = 0; c < args->stage->in.c; c++) {
        const struct statistics s = args->mode == VGG_MODE_TRAIN
                                        ? batch_statistics(args, c)
                                        : running_statistics(args, c);
        normalise(args, c, s);
        if (saved) saved[c] = s;
    }
}

/* dx = scale * (dy - by_mean - xhat * by_spread), where the last two terms come from
 * the batch's statistics and their own dependence on x. With running ones they are left
 * out: an xhat times 0 would be NaN where it is not finite. */
static void channel_dx(const struct vgg__stage_args *args, size_t c, double by_mean,
                       double by_spread)
{
    const real *gamma = args->gamma;
    const struct statistics s = ((const struct statistics *)args->saved)[c];
    const double scale = gamma[c] * s.inverse;
    const bool train = args->mode == VGG_MODE_TRAIN;
    const size_t plane = plane_size(args->stage);
    for (size_t n = 0; n < args->count; n++) {
        const size_t at = plane_at(args->stage, n, c);
        const real *x = (const real *)args->x + at, *dy = (const real *)args->dy + at;
        real *dx = (real *)args->dx + at;
        for (size_t i = 0; i < plane; i++) {
            const double xhat = (x[i] - s.mean) * s.inverse;
            const double rest = dy[i] - by_mean - xhat * by_spread;
            dx[i] = (real)(scale * (train ? rest : dy[i]));
        }
    }
}

static void backward_channel(const struct vgg__stage_args *args, size_t c)
{
    const struct statistics s = ((const struct statistics *)args->saved)[c];
    const size_t plane = plane_size(args->stage);
    double dgamma = 0, dbeta = 0;
    for (size_t n = 0; n < args->count; n++) {
        const size_t at = plane_at(args->stage, n, c);
        const real *x = (const real *)args->x + at, *dy = (const real *)args->dy + at;
        for (size_t i = 0; i < plane; i++) {
            dgamma += dy[i] * ((x[i] - s.mean) * s.inverse);
            dbeta += dy[i];
        }
    }
    if (args->dgamma) ((real *)args->dgamma)[c] += (real)dgamma;
    if (args->dbeta) ((real *)args->dbeta)[c] += (real)dbeta;
    if (!args->dx) return;
    const double values = (double)args->count * (double)plane;
    channel_dx(args, c, dbeta / values, dgamma / values);
}

static void backward(const struct vgg__stage_args *args)
{
    for (size_t c = 0; c < args->stage->in.c; c++) backward_channel(args, c);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "two passes over a channel";
    need->reads_x = true;
    if (env->mode != VGG_MODE_INFER)
        need->saved = vgg__size_mul(env->stage->in.c, sizeof(struct statistics));
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "the reference engine fuses nothing";
    return !stage->relu;
}

const struct vgg__stage_impl vgg__ref_batch_norm = {
    .supports = supports, .measure = measure, .forward = forward, .backward = backward};
