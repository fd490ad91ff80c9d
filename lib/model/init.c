/* SPDX-License-Identifier: Apache-2.0 */
/* First values of parameters.
 *
 * Element e of parameter p is made of word e % 4 of Philox block (seed,
 * VGG_RANDOM_INIT, p, e / 4), so it depends on nothing else. The same seed must give
 * the same bits on every machine, and the mathematics libraries of two systems differ
 * in their last digits: so nothing here calls them but sqrt, which IEEE 754 defines to
 * the last bit. */
#include "core/error.h"
#include "core/fpmode.h"
#include "core/random.h"
#include "model/spec.h"

#include <math.h>

/* How a tensor is filled: uniform in +-scale, or normal of standard deviation scale. */
struct rule {
    bool normal;
    double scale;
};

/* A word as a number in (0, 1): the middle of its interval of 2^-32, exact. */
static double to_unit(uint32_t word)
{
    return ((double)word + 0.5) * 0x1p-32;
}

/* Natural logarithm of a positive normal number, to about 1e-15: x = m * 2^e with m
 * near 1, and ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...) for s = (m - 1) / (m + 1), |s| <
 * 0.172. */
static double natural_log(double x)
{
    int exponent;
    double m = frexp(x, &exponent); /* exact */
    if (m < 0.70710678118654752) {
        m *= 2.0;
        exponent--;
    }
    const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
    double sum = 0.0;
    for (int k = 19; k >= 1; k -= 2) sum = sum * s2 + 1.0 / k;
    return exponent * 0.69314718055994531 + 2.0 * s * sum;
}

/* c[0] + c[1] x + c[2] x^2 + c[3] x^3 */
static double cubic(const double c[4], double x)
{
    return ((c[3] * x + c[2]) * x + c[1]) * x + c[0];
}

/* The number that a standard normal variable is below with probability p: Wichura, "The
 * percentage points of the normal distribution", Applied Statistics 37 (1988), AS 241,
 * PPND7, accurate to about 1e-7. Three ranges, a quotient of two polynomials in
 * each. */
static double normal_quantile(double p)
{
    static const double middle[2][4] = {
        {3.3871327179, 50.434271938, 159.29113202, 59.109374720},
        {1.0, 17.895169469, 78.757757664, 67.187563600}};
    static const double tail[2][4] = {
        {1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103},
        {1.0, 0.73700164250, 0.12021132975, 0.0}};

    const double q = p - 0.5;
    if (fabs(q) <= 0.425) {
        const double r = 0.180625 - q * q;
        return q * cubic(middle[0], r) / cubic(middle[1], r);
    }
    const double r = sqrt(-natural_log(q < 0.0 ? p : 1.0 - p)) - 1.6;
    const double x = cubic(tail[0], r) / cubic(tail[1], r);
    return q < 0.0 ? -x : x;
}

static double sample(const struct rule *rule, uint32_t word)
{
    const double unit = to_unit(word);
    return rule->scale * (rule->normal ? normal_quantile(unit) : 2.0 * unit - 1.0);
}

static void fill_random(vgg_param *param, const struct rule *rule, uint64_t seed)
{
    uint32_t words[4];
    for (uint64_t i = 0; i < param->count; i++) {
        if (i % 4 == 0) vgg__random(seed, VGG_RANDOM_INIT, param->index, i / 4, words);
        param->value[i] = (float)sample(rule, words[i % 4]);
    }
}

static void fill_constant(vgg_param *param, float value)
{
    for (uint64_t i = 0; i < param->count; i++) param->value[i] = value;
}

/* Fans count what one output sees and one input reaches: [oc][ic][kh][kw],
 * [out][in]. */
static struct rule weight_rule(vgg_init init, const vgg_param *weight)
{
    const uint32_t *dim = weight->shape.dim;
    const bool conv = weight->shape.rank == 4;
    const double window = conv ? (double)dim[2] * dim[3] : 1.0;
    const double fan_in = dim[1] * window, fan_out = dim[0] * window;
    switch (init) {
    case VGG_INIT_TORCHVISION:
        return (struct rule){true, conv ? sqrt(2.0 / fan_out) : 0.01};
    case VGG_INIT_HE:
        return (struct rule){true, sqrt(2.0 / fan_in)};
    default:
        return (struct rule){false, sqrt(6.0 / (fan_in + fan_out))};
    }
}

static void fill(vgg_param *param, vgg_init init, uint64_t seed)
{
    const bool batch_norm = param->shape.rank == 1 && param->role == VGG_ROLE_WEIGHT;
    if (param->role == VGG_ROLE_VAR || batch_norm) {
        fill_constant(param, 1.0f);
    } else if (param->role == VGG_ROLE_WEIGHT) {
        const struct rule rule = weight_rule(init, param);
        fill_random(param, &rule, seed);
    } else {
        fill_constant(param, 0.0f);
    }
}

vgg_status vgg_model_init(vgg_model *model, vgg_init init, uint64_t seed)
{
    VGG_REQUIRE(model != NULL);
    if ((uint32_t)init > VGG_INIT_HE)
        return vgg__fail(VGG_EINVAL, "init is %d, needs 0 to %d", (int)init,
                         VGG_INIT_HE);
    pthread_mutex_lock(&model->lock);
    const uint64_t mode = vgg__fpmode_enter();
    for (uint32_t i = 0; i < model->param_count; i++)
        fill(model->params[i], init, seed);
    model->batches_tracked = 0;
    vgg__fpmode_leave(mode);
    pthread_mutex_unlock(&model->lock);
    vgg__model_touch(model);
    return VGG_OK;
}
