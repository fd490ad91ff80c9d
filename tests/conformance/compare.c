/* SPDX-License-Identifier: Apache-2.0 */
/* See compare.h. */
#include "compare.h"

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

static char label[80];

void compare_label(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(label, sizeof label, format, args);
    va_end(args);
}

/* Elements are tested by a plain `if`: every assertion that holds is a message of Check
 * to its parent, which a million of them would make slow. */

void compare_exact(const char *what, const double *got, const double *want,
                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!(got[i] == want[i] || (isnan(got[i]) && isnan(want[i]))))
            ck_abort_msg("%s: %s[%zu] of %zu: got %.17g, expected exactly %.17g", label,
                         what, i, count, got[i], want[i]);
}

void compare_close(const char *what, const double *got, const double *want,
                   size_t count, double tolerance)
{
    double error = 0, norm = 0, worst = 0, largest = 0;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const double difference = fabs(got[i] - want[i]);
        if (!isfinite(got[i]))
            ck_abort_msg("%s: %s[%zu] of %zu: got %g", label, what, i, count, got[i]);
        error += difference * difference;
        norm += want[i] * want[i];
        largest = fmax(largest, fabs(want[i]));
        if (difference > worst) {
            worst = difference;
            at = i;
        }
    }
    ck_assert_msg(sqrt(error) <= tolerance * sqrt(norm),
                  "%s: %s: relative error %.3g over %zu elements, allowed %.3g; worst "
                  "[%zu]: got %.9g, expected %.9g",
                  label, what, sqrt(error / norm), count, tolerance, at, got[at],
                  want[at]);
    ck_assert_msg(worst <= 10 * tolerance * largest,
                  "%s: %s[%zu] of %zu: got %.9g, expected %.9g, largest %.3g", label,
                  what, at, count, got[at], want[at], largest);
}

void compare_rough(const char *what, const double *got, const double *want,
                   size_t count, double tolerance)
{
    double error = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(got[i]))
            ck_abort_msg("%s: %s[%zu] of %zu: got %g", label, what, i, count, got[i]);
        error += (got[i] - want[i]) * (got[i] - want[i]);
        norm += want[i] * want[i];
    }
    ck_assert_msg(sqrt(error) <= tolerance * sqrt(norm),
                  "%s: %s: relative error %.3g over %zu elements, allowed %.3g", label,
                  what, sqrt(error / norm), count, tolerance);
}

void compare_rounded(const char *what, const double *got, const double *want,
                     size_t count, int bits)
{
    for (size_t i = 0; i < count; i++)
        if (!(got[i] == want[i] || (isnan(got[i]) && isnan(want[i])) ||
              fabs(got[i] - want[i]) <= ldexp(fabs(want[i]), -bits)))
            ck_abort_msg("%s: %s[%zu] of %zu: got %.9g, expected %.9g to %d bits",
                         label, what, i, count, got[i], want[i], bits);
}

void compare_zero(const char *what, const double *got, size_t count, double tolerance)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(got[i]) <= tolerance))
            ck_abort_msg("%s: %s[%zu] of %zu: got %.9g, expected 0", label, what, i,
                         count, got[i]);
}

void compare_bounded(const char *what, const double *got, const double *want,
                     const double *bound, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs(got[i] - want[i]) <= factor * bound[i]))
            ck_abort_msg("%s: %s[%zu] of %zu: got %.9g, expected %.9g within %.3g",
                         label, what, i, count, got[i], want[i], factor * bound[i]);
}

void compare_not_zero(const char *what, const double *got, size_t count)
{
    size_t zeros = 0;
    for (size_t i = 0; i < count; i++) zeros += got[i] == 0;
    ck_assert_msg((double)zeros < 0.3 * (double)count, "%s: %s: %zu of %zu are zero",
                  label, what, zeros, count);
}

/* Where operands are rounded to fewer bits than float has, signs and maxima are decided
 * otherwise here and there, and each carries a gradient to another place, whole: the
 * share of these gradients in all is that of the places, and the error of the vector is
 * its root. An input of many products is off by 2^-bits of its size, times a few. */
struct closeness closeness_of(const struct target *target, const struct net *net,
                              const struct data *data, uint32_t mode)
{
    struct closeness closeness = {target->tolerance, 0, 0};
    if (target->multiplies < 24)
        closeness.gradients =
            2 * target->tolerance +
            sqrt(net_kink_share(net, data, mode, ldexp(4, -target->multiplies)));
    return closeness;
}

static void compare(const char *what, const double *got, const double *want,
                    size_t count, struct closeness closeness)
{
    ck_assert_msg(!got == !want, "%s: %s: one has it, the other not", label, what);
    if (!got) return;
    if (closeness.bits > 0)
        compare_rounded(what, got, want, count, closeness.bits);
    else if (closeness.values == 0)
        compare_exact(what, got, want, count);
    else
        compare_close(what, got, want, count, closeness.values);
}

static void compare_back(const char *what, const double *got, const double *want,
                         size_t count, struct closeness closeness)
{
    if (closeness.gradients > closeness.values && got && want)
        compare_rough(what, got, want, count, closeness.gradients);
    else
        compare(what, got, want, count, closeness);
}

/* A bias that batch statistics take away again has no gradient. */
static bool is_null_gradient(const struct net *net, uint32_t mode, uint32_t param)
{
    for (uint32_t i = 0; i + 1 < net->stage_count; i++)
        if (mode == VGG_MODE_TRAIN && net->stages[i].bias == (int32_t)param &&
            net->stages[i + 1].kind == VGG_STAGE_BATCH_NORM)
            return true;
    return false;
}

/* What rounding leaves of it is a sum over all pixels, whose rounded parts are as large
 * as the output's gradient. */
static double null_tolerance(const struct net *net, const struct data *data,
                             double tolerance)
{
    return tolerance * sqrt((double)(data->count * net_input_count(net)));
}

static void compare_gradient(const struct net *net, const struct data *data,
                             uint32_t param, const struct outcome *got,
                             const struct outcome *want, struct closeness closeness)
{
    char what[48];
    snprintf(what, sizeof what, "gradient of parameter %u", param);
    const size_t count = net->params[param].count;
    if (got->dparams[param] && closeness.values > 0 &&
        is_null_gradient(net, got->mode, param))
        compare_zero(what, got->dparams[param], count,
                     closeness.values > 1e-5
                         ? null_tolerance(net, data, closeness.values)
                         : closeness.values);
    else
        compare_back(what, got->dparams[param], want->dparams[param], count, closeness);
}

void compare_outcomes(const struct net *net, const struct data *data,
                      const struct outcome *got, const struct outcome *want,
                      struct closeness closeness)
{
    ck_assert_int_eq(got->loss_status, want->loss_status);
    ck_assert_uint_eq(got->correct, want->correct);
    compare("loss", &got->loss, &want->loss, 1, closeness);
    compare("output", got->output, want->output, data->count * net_output_count(net),
            closeness);
    compare_back("dx", got->dx, want->dx, data->count * net_input_count(net),
                 closeness);
    for (uint32_t i = 0; i < net->stage_count; i++)
        if (net->stages[i].kind == VGG_STAGE_TAP)
            compare_back("gradient of a tap", got->taps[net->stages[i].tap],
                         want->taps[net->stages[i].tap],
                         data->count * net_extent(net->stages[i].in), closeness);
    for (uint32_t i = 0; i < net->param_count; i++) {
        char what[48];
        snprintf(what, sizeof what, "value of parameter %u", i);
        compare(what, got->params[i], want->params[i], net->params[i].count, closeness);
        compare_gradient(net, data, i, got, want, closeness);
    }
}
