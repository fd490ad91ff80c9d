/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax and cross-entropy with label smoothing (Szegedy et al. 2016), computed in
 * double.
 *
 * With logits z of one sample, log p[c] = z[c] - log(sum of exp z), and targets
 * q[c] = smoothing / classes, plus 1 - smoothing at the label:
 *   loss = -sum of q[c] * log p[c],  d loss / d z[c] = p[c] - q[c].
 * The loss is summed over samples; the gradient is that of the mean, times
 * run->scale. */
#include <math.h>

#include "ref/ref.h"

/* The first of the largest. */
static size_t find_largest(const real *z, size_t classes)
{
    size_t best = 0;
    for (size_t c = 1; c < classes; c++)
        if (z[c] > z[best]) best = c;
    return best;
}

/* log(sum of exp z), without overflow. */
static double log_sum(const real *z, size_t classes)
{
    const double largest = z[find_largest(z, classes)];
    double sum = 0;
    for (size_t c = 0; c < classes; c++) sum += exp(z[c] - largest);
    return largest + log(sum);
}

static double sample_loss(const real *z, size_t classes, size_t label, double smoothing)
{
    const double total = log_sum(z, classes);
    double loss = (1 - smoothing) * (total - z[label]);
    if (smoothing == 0) return loss; /* a class of probability 0 adds nothing */
    for (size_t c = 0; c < classes; c++) loss += smoothing / classes * (total - z[c]);
    return loss;
}

static void sample_gradient(const struct vgg__stage_args *args, size_t n, const real *z,
                            real *dz)
{
    const size_t classes = args->stage->in.c;
    const double smoothing = args->run->smoothing;
    const double factor = (double)args->run->scale / args->count;
    const double total = log_sum(z, classes);
    for (size_t c = 0; c < classes; c++) {
        const double target =
            smoothing / classes + (c == args->run->labels[n] ? 1 - smoothing : 0);
        dz[c] = (real)((exp(z[c] - total) - target) * factor);
    }
}

static void forward(const struct vgg__stage_args *args)
{
    const size_t classes = args->stage->in.c;
    const vgg_run *run = args->run;
    *run->loss_sum = 0;
    *run->correct = 0;
    for (size_t n = 0; n < args->count; n++) {
        const real *z = (const real *)args->x + n * classes;
        *run->loss_sum += sample_loss(z, classes, run->labels[n], run->smoothing);
        *run->correct += find_largest(z, classes) == run->labels[n];
        if (args->dx) sample_gradient(args, n, z, (real *)args->dx + n * classes);
    }
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "softmax and cross-entropy";
}

const struct vgg__stage_impl vgg__ref_loss = {.measure = measure, .forward = forward};
