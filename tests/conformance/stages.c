/* SPDX-License-Identifier: Apache-2.0 */
/* Every stage on every engine against the reference in double.
 *
 * With "--bench [engine]" the same list is timed instead. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "cases.h"
#include "compare.h"
#include "guard.h"
#include "harness.h"

/* Targets under test; the tolerance is relative, for random data. */
static const struct {
    struct target target;
    double tolerance;
} subjects[] = {
    {{"ref in float", &vgg__engine_ref, VGG_FP32, 1, VGG_GEMM_AUTO}, 1e-5},
};
static const int subject_count = sizeof subjects / sizeof *subjects;

static const uint32_t modes[] = {VGG_MODE_INFER, VGG_MODE_TRAIN, VGG_MODE_GRAD};
static const int mode_count = sizeof modes / sizeof *modes;

/* A case, a subject and a mode from the number of a loop; false: nothing to test. */
struct trial {
    const struct test_case *test;
    const struct target *target;
    double tolerance;
    uint32_t mode;
    struct net net;
};

static bool pick(int number, struct trial *trial)
{
    const int subject = number / mode_count % subject_count;
    trial->test = &test_cases[number / mode_count / subject_count];
    trial->target = &subjects[subject].target;
    trial->tolerance = subjects[subject].tolerance;
    trial->mode = modes[number % mode_count];
    if (trial->test->batch == 0) return false;
    net_parse(&trial->net, trial->test->net);
    return true;
}

static int trial_count(void)
{
    return (int)test_case_count * subject_count * mode_count;
}

/* Random data on which no rounding error can decide a maximum or a sign. */
static void draw_smooth(const struct trial *trial, struct data *data)
{
    for (uint64_t seed = 1; seed < 100; seed++) {
        data_create(data, &trial->net, trial->test->batch, DATA_REAL, seed);
        data->smoothing = 0.1f;
        if (net_kink_distance(&trial->net, data, trial->mode) > 1e-5) return;
        data_free(data);
    }
    ck_abort_msg("%s: no seed keeps away from kinks", trial->test->net);
}

START_TEST(random_data)
{
    struct trial trial;
    if (!pick(_i, &trial)) return;
    struct data data;
    draw_smooth(&trial, &data);
    struct outcome got, want;
    run_net(&target_ref64, &trial.net, &data, trial.mode, &want);
    run_net(trial.target, &trial.net, &data, trial.mode, &got);
    compare_outcomes(&trial.net, &data, &got, &want, trial.tolerance);

    const bool sparse = net_has(&trial.net, VGG_STAGE_RELU) ||
                        net_has(&trial.net, VGG_STAGE_POOL) ||
                        net_has(&trial.net, VGG_STAGE_DROPOUT);
    if (!sparse) {
        compare_not_zero("output", got.output,
                         data.count * net_output_count(&trial.net));
        if (got.dx)
            compare_not_zero("dx", got.dx, data.count * net_input_count(&trial.net));
    }
    outcome_free(&got);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

static bool is_exact(const struct net *net)
{
    return !net_has(net, VGG_STAGE_BATCH_NORM) && !net_has(net, VGG_STAGE_LOSS) &&
           !net_has(net, VGG_STAGE_ADAPTIVE_POOL);
}

/* Small integers: every sum is an integer that float holds, so no order of summation may
 * make a difference. Ties are frequent here, and the first must win. */
START_TEST(integer_data)
{
    struct trial trial;
    if (!pick(_i, &trial) || !is_exact(&trial.net)) return;
    struct data data;
    data_create(&data, &trial.net, trial.test->batch, DATA_INTEGER, 1);
    struct outcome got, want;
    run_net(&target_ref64, &trial.net, &data, trial.mode, &want);
    run_net(trial.target, &trial.net, &data, trial.mode, &got);
    compare_outcomes(&trial.net, &data, &got, &want, 0);
    outcome_free(&got);
    outcome_free(&want);
    data_free(&data);
}
END_TEST

/* Make every number positive: a run then gives the sum of |a||b| of each dot product. */
static void make_absolute(const struct net *net, struct data *data)
{
    for (size_t i = 0; i < data->count * net_input_count(net); i++)
        data->input[i] = fabsf(data->input[i]);
    for (size_t i = 0; i < data->count * net_output_count(net); i++)
        data->dy[i] = fabsf(data->dy[i]);
    for (uint32_t p = 0; p < net->param_count; p++)
        for (size_t i = 0; i < net->params[p].count; i++)
            data->params[p][i] = fabsf(data->params[p][i]);
}

/* Error of a sum of k products, as a multiple of the sum of their sizes. */
static double rounding(double k)
{
    return 2 * sqrt(k) * 0x1p-24;
}

/* A single convolution or linear stage, element by element against what rounding can do. */
START_TEST(error_bound)
{
    struct trial trial;
    if (!pick(_i, &trial) || trial.net.stage_count > 1 || trial.net.param_count != 2 ||
        trial.mode == VGG_MODE_INFER)
        return;
    const vgg_stage *stage = &trial.net.stages[0];
    const double places = (double)stage->out.h * stage->out.w * trial.test->batch;
    const double fan = (double)trial.net.fan[0];
    struct data data;
    data_create(&data, &trial.net, trial.test->batch, DATA_REAL, 3);
    struct outcome got, want, bound;
    run_net(&target_ref64, &trial.net, &data, trial.mode, &want);
    run_net(trial.target, &trial.net, &data, trial.mode, &got);
    make_absolute(&trial.net, &data);
    run_net(&target_ref64, &trial.net, &data, trial.mode, &bound);

    const size_t outputs = data.count * net_output_count(&trial.net);
    const size_t inputs = data.count * net_input_count(&trial.net);
    const double kernel = stage->kind == VGG_STAGE_CONV ? stage->kernel : 1;
    compare_bounded("output", got.output, want.output, bound.output, outputs,
                    rounding(fan + 1));
    compare_bounded("dx", got.dx, want.dx, bound.dx, inputs,
                    rounding(stage->out.c * kernel * kernel));
    for (uint32_t p = 0; p < 2; p++)
        compare_bounded(p == 0 ? "weight gradient" : "bias gradient", got.dparams[p],
                        want.dparams[p], bound.dparams[p], trial.net.params[p].count,
                        rounding(places));
    outcome_free(&got);
    outcome_free(&want);
    outcome_free(&bound);
    data_free(&data);
}
END_TEST

/* What is not finite in double must not come out finite; samples that it is not in must
 * not change by a bit. Transforms may spread it within its own sample. */
static void poison(const struct trial *trial, float value)
{
    struct data data;
    data_create(&data, &trial->net, 3, DATA_REAL, 5);
    struct outcome clean, got, want;
    run_net(trial->target, &trial->net, &data, VGG_MODE_INFER, &clean);
    const size_t input = net_input_count(&trial->net);
    const size_t output = net_output_count(&trial->net);
    data.input[input + input / 2] = value;
    run_net(&target_ref64, &trial->net, &data, VGG_MODE_INFER, &want);
    run_net(trial->target, &trial->net, &data, VGG_MODE_INFER, &got);
    for (size_t i = 0; i < 3 * output; i++) {
        if (i / output == 1)
            ck_assert_msg(isfinite(want.output[i]) || !isfinite(got.output[i]),
                          "output[%zu]: got %g, expected %g", i, got.output[i],
                          want.output[i]);
        else
            ck_assert_msg(got.output[i] == clean.output[i],
                          "output[%zu]: %g in sample 1 changed sample %zu", i, value,
                          i / output);
    }
    ck_assert_int_eq(got.loss_status, want.loss_status);
    outcome_free(&clean);
    outcome_free(&got);
    outcome_free(&want);
    data_free(&data);
}

START_TEST(not_finite)
{
    struct trial trial;
    if (!pick(_i, &trial) || trial.mode != VGG_MODE_INFER) return;
    poison(&trial, NAN);
    poison(&trial, INFINITY);
    poison(&trial, -INFINITY);
}
END_TEST

static void add_tests(Suite *suite, const char *name, const TTest *test)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test, 0, trial_count());
    suite_add_tcase(suite, tcase);
}

static Suite *stages_suite(void)
{
    Suite *suite = suite_create("stages");
    add_tests(suite, "random data", random_data);
    add_tests(suite, "integer data", integer_data);
    add_tests(suite, "error bound", error_bound);
    add_tests(suite, "not finite", not_finite);
    return suite;
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--bench") == 0)
        return bench_main(argc > 2 ? argv[2] : "cpu");
    Suite *suites[] = {stages_suite()};
    return harness_main(suites, 1);
}
