/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax and cross-entropy with label smoothing (Szegedy et al. 2016), in double; a
 * sample a task, then the sum in the order of samples.
 *
 * With logits z of one sample, log p[c] = z[c] - log(sum of exp z), and targets
 * q[c] = smoothing / classes, plus 1 - smoothing at the label:
 *   loss = -sum of q[c] * log p[c],  d loss / d z[c] = p[c] - q[c]. */
#include <math.h>

#include "cpu/cpu.h"

struct sample {
    double loss;
    uint32_t correct;
};

/* The first of the largest. */
static size_t find_largest(const float *z, size_t classes)
{
    size_t best = 0;
    for (size_t c = 1; c < classes; c++)
        if (z[c] > z[best]) best = c;
    return best;
}

/* log(sum of exp z), without overflow. */
static double log_sum(const float *z, size_t classes, double largest)
{
    double sum = 0;
    for (size_t c = 0; c < classes; c++) sum += exp(z[c] - largest);
    return largest + log(sum);
}

static void sample_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const size_t classes = args->stage->in.c, label = args->run->labels[task];
    const double smoothing = args->run->smoothing, share = smoothing / (double)classes;
    const float *z = (const float *)args->x + task * classes;
    const size_t best = find_largest(z, classes);
    const double total = log_sum(z, classes, z[best]);
    struct sample *s = (struct sample *)args->scratch + task;
    s->correct = best == label;
    s->loss = (1 - smoothing) * (total - z[label]);
    for (size_t c = 0; c < classes && smoothing > 0; c++)
        s->loss += share * (total - z[c]);
    if (!args->dx) return;
    const double factor = (double)args->run->scale / args->count;
    float *dz = (float *)args->dx + task * classes;
    for (size_t c = 0; c < classes; c++) {
        const double target = share + (c == label ? 1 - smoothing : 0);
        dz[c] = (float)((exp(z[c] - total) - target) * factor);
    }
}

static void forward(const struct vgg__stage_args *args)
{
    const struct sample *samples = args->scratch;
    args->machine->parallel(args->machine, args->count, sample_task, (void *)args);
    double sum = 0;
    uint32_t correct = 0;
    for (uint32_t n = 0; n < args->count; n++) {
        sum += samples[n].loss;
        correct += samples[n].correct;
    }
    *args->run->loss_sum = sum;
    *args->run->correct = correct;
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "softmax and cross-entropy";
    need->forward_scratch = vgg__size_mul(env->batch, sizeof(struct sample));
}

const struct vgg__stage_impl vgg__cpu_loss = {.measure = measure, .forward = forward};
