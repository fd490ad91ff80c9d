/* SPDX-License-Identifier: Apache-2.0 */
/* SGD, Adam and AdamW, compiled once for float and once for double.
 *
 * Per-update constants are computed in double and rounded once to the arrays' type, as
 * PyTorch does; elementwise arithmetic is in the arrays' type. A decay of 0 leaves the
 * gradient alone, so that an infinite weight does not turn it into NaN. */
#include "common/update.h"

#include <math.h>
#include <string.h>

#if VGG_UPDATE_DOUBLE
typedef double real;
#define real_sqrt        sqrt
#define vgg__update_real vgg__update_f64
#else
typedef float real;
#define real_sqrt        sqrtf
#define vgg__update_real vgg__update_f32

uint32_t vgg__update_states(const vgg_update *update)
{
    if (update->kind != VGG_SGD) return 2;
    return update->momentum != 0 ? 1 : 0;
}
#endif

static void sgd_plain(const struct vgg__update_args *args)
{
    const real lr = (real)args->update->lr, decay = (real)args->update->weight_decay;
    real *restrict value = args->value;
    const real *restrict gradient = args->gradient;
    for (size_t i = 0; i < args->count; i++) {
        real g = gradient[i];
        if (decay != 0) g += decay * value[i];
        value[i] -= lr * g;
    }
}

/* The velocity starts as zeros, so the first step's is the gradient itself. */
static void sgd_momentum(const struct vgg__update_args *args)
{
    const real lr = (real)args->update->lr, decay = (real)args->update->weight_decay;
    const real momentum = (real)args->update->momentum;
    const bool nesterov = args->update->nesterov != 0;
    real *restrict value = args->value;
    real *restrict velocity = args->state[0];
    const real *restrict gradient = args->gradient;
    for (size_t i = 0; i < args->count; i++) {
        real g = gradient[i];
        if (decay != 0) g += decay * value[i];
        const real v = momentum * velocity[i] + g;
        velocity[i] = v;
        value[i] -= lr * (nesterov ? g + momentum * v : v);
    }
}

/* m + share * (g - m), from the end that is nearer, as PyTorch's lerp. */
static real blend(real m, real g, real share)
{
    return share < (real)0.5 ? m + share * (g - m) : g - (g - m) * (1 - share);
}

static void adam(const struct vgg__update_args *args)
{
    const vgg_update *u = args->update;
    const double correction1 = 1 - pow(u->beta1, (double)u->t);
    const double correction2 = 1 - pow(u->beta2, (double)u->t);
    const bool decoupled = u->kind == VGG_ADAMW;
    const real keep = (real)(decoupled ? 1 - u->lr * u->weight_decay : 1);
    const real decay = (real)(decoupled ? 0 : u->weight_decay);
    const real share1 = (real)(1 - u->beta1), share2 = (real)(1 - u->beta2);
    const real beta2 = (real)u->beta2, epsilon = (real)u->epsilon;
    const real step = (real)(u->lr / correction1), root2 = (real)sqrt(correction2);
    real *restrict value = args->value;
    real *restrict first = args->state[0], *restrict second = args->state[1];
    const real *restrict gradient = args->gradient;
    for (size_t i = 0; i < args->count; i++) {
        real g = gradient[i];
        if (decay != 0) g += decay * value[i];
        const real m = blend(first[i], g, share1);
        const real v = beta2 * second[i] + share2 * (g * g);
        first[i] = m;
        second[i] = v;
        value[i] = keep * value[i] - step * (m / (real_sqrt(v) / root2 + epsilon));
    }
}

void vgg__update_real(const struct vgg__update_args *args)
{
    /* A first update starts anew, whatever an earlier training has left behind. */
    for (uint32_t i = 0; args->update->t == 1 && i < vgg__update_states(args->update);
         i++)
        memset(args->state[i], 0, args->count * sizeof(real));
    if (args->update->kind != VGG_SGD)
        adam(args);
    else if (args->update->momentum != 0)
        sgd_momentum(args);
    else
        sgd_plain(args);
}
