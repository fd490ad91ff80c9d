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
#include "harness.h"
#include "targets.h"

static const uint32_t modes[] = {VGG_MODE_INFER, VGG_MODE_TRAIN, VGG_MODE_GRAD};
static const char *const mode_names[] = {"infer", "train", "grad"};

/* A case in a mode, and what the oracle says to it. */
struct trial {
    struct net net;
    uint32_t mode;
    struct data data;
    struct outcome want;
};

static void end_trial(struct trial *trial)
{
    outcome_free(&trial->want);
    data_free(&trial->data);
}

/* The case's network; false: it is not for these tests, or not for these targets. */
static bool parse_case(struct net *net, int index)
{
    const struct test_case *test = &test_cases[index];
    net_parse(net, test->net);
    return test->batch > 0 && session_takes(net, test->batch);
}

/* The oracle is not judged by itself. */
static bool is_subject(uint32_t target)
{
    return targets[target].tolerance > 0;
}

/* Run a subject; what is compared next is about it. */
static void run_subject(const struct trial *trial, uint32_t target, struct outcome *got)
{
    compare_label("%s, %s", targets[target].label, mode_names[trial->mode]);
    run_net(&targets[target], &trial->net, &trial->data, trial->mode, got);
}

/* Random data on which no rounding error of float can decide a maximum or a sign. */
static void draw_smooth(struct trial *trial, uint32_t batch)
{
    for (uint64_t seed = 1; seed < 100; seed++) {
        data_create(&trial->data, &trial->net, batch, DATA_REAL, seed);
        trial->data.smoothing = 0.1f;
        if (net_kink_distance(&trial->net, &trial->data, trial->mode) > 1e-5) return;
        data_free(&trial->data);
    }
    ck_abort_msg("no seed keeps away from kinks");
}

static void check_zeros(const struct trial *trial, const struct outcome *got)
{
    const struct net *net = &trial->net;
    if (net_has(net, VGG_STAGE_RELU) || net_has(net, VGG_STAGE_POOL) ||
        net_has(net, VGG_STAGE_DROPOUT))
        return;
    const size_t count = trial->data.count;
    compare_not_zero("output", got->output, count * net_output_count(net));
    if (got->dx) compare_not_zero("dx", got->dx, count * net_input_count(net));
}

START_TEST(random_data)
{
    for (size_t m = 0; m < sizeof modes / sizeof *modes; m++) {
        struct trial trial = {.mode = modes[m]};
        if (!parse_case(&trial.net, _i)) return;
        draw_smooth(&trial, test_cases[_i].batch);
        run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &trial.want);
        for (uint32_t i = 0; i < target_count; i++) {
            struct outcome got;
            if (!is_subject(i)) continue;
            run_subject(&trial, i, &got);
            compare_outcomes(
                &trial.net, &trial.data, &got, &trial.want,
                closeness_of(&targets[i], &trial.net, &trial.data, trial.mode));
            check_zeros(&trial, &got);
            outcome_free(&got);
        }
        end_trial(&trial);
    }
}
END_TEST

static bool is_exact(const struct net *net)
{
    return !net_has(net, VGG_STAGE_BATCH_NORM) && !net_has(net, VGG_STAGE_LOSS) &&
           !net_has(net, VGG_STAGE_ADAPTIVE_POOL);
}

/* Winograd's transforms have fractions: they round where plain sums are exact. */
static bool is_transformed(const struct net *net, const struct target *target)
{
    bool found = false;
    struct session s;
    session_open(&s, target, net, 1, VGG_MODE_TRAIN, false);
    for (uint32_t i = 0; i < s.net.stage_count; i++) {
        char text[256];
        target->engine->describe(s.program, i, text, sizeof text);
        ck_assert_uint_gt(strlen(text), 0);
        found = found || strstr(text, "inograd") != NULL;
    }
    session_close(&s);
    return found;
}

static void compare_integers(const struct trial *trial, uint32_t target, int bits)
{
    struct outcome got;
    if (is_transformed(&trial->net, &targets[target])) return;
    run_subject(trial, target, &got);
    compare_outcomes(&trial->net, &trial->data, &got, &trial->want,
                     (struct closeness){.bits = bits});
    outcome_free(&got);
}

/* Small integers: every sum is an integer that float holds, so no order of summation
 * may make a difference. Ties are frequent here, and the first must win. */
START_TEST(integer_data)
{
    struct trial trial = {.mode = VGG_MODE_TRAIN};
    if (!parse_case(&trial.net, _i) || !is_exact(&trial.net)) return;
    data_create(&trial.data, &trial.net, test_cases[_i].batch, DATA_INTEGER, 1);
    run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &trial.want);
    for (uint32_t i = 0; i < target_count; i++)
        if (is_subject(i) && targets[i].multiplies >= 24)
            compare_integers(&trial, i, 0);
    end_trial(&trial);
}
END_TEST

/* Integers so small that fewer bits hold them as well, everywhere in the network. What
 * is summed up over pixels grows beyond them, and is rounded once where it is kept. */
START_TEST(sparse_data)
{
    struct trial trial = {.mode = VGG_MODE_TRAIN};
    if (!parse_case(&trial.net, _i) || !is_exact(&trial.net)) return;
    data_create(&trial.data, &trial.net, test_cases[_i].batch, DATA_SPARSE, 1);
    run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &trial.want);
    const int need = net_value_bits(&trial.net, &trial.data, trial.mode);
    for (uint32_t i = 0; i < target_count; i++) {
        if (!is_subject(i)) continue;
        ck_assert_int_le(need, targets[i].multiplies);
        compare_integers(&trial, i, targets[i].keeps < 24 ? targets[i].keeps : 0);
    }
    end_trial(&trial);
}
END_TEST

/* Make every number positive: a run then gives the sum of |a||b| of each dot
   product. */
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

/* Error of a sum of k products, as a multiple of the sum of their sizes: of float's
 * additions, of transforms (F(4x4) weighs by up to 64 what its 36 products lose, and
 * signs differ: half of that), of both operands' roundings (which may cut), of the
 * result's. */
static double rounding(double k, const struct target *target, bool transformed)
{
    double error = (2 * sqrt(k) + (transformed ? 32 : 0)) * 0x1p-24;
    if (target->multiplies < 24) error += ldexp(4, -target->multiplies);
    if (target->keeps < 24) error += ldexp(1, -target->keeps);
    return error;
}

/* An error of a transform's spreads over its tile, whatever an element's own sum. */
static void spread(double *bound, size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) most = fmax(most, bound[i]);
    for (size_t i = 0; i < count; i++) bound[i] = most;
}

static void spread_all(const struct trial *trial, struct outcome *bound)
{
    const struct net *net = &trial->net;
    spread(bound->output, trial->data.count * net_output_count(net));
    spread(bound->dx, trial->data.count * net_input_count(net));
    spread(bound->dparams[0], net->params[0].count);
}

static void compare_to_bound(const struct trial *trial, const struct target *target,
                             const struct outcome *got, const struct outcome *bound)
{
    const struct net *net = &trial->net;
    const struct outcome *want = &trial->want;
    const vgg_stage *stage = &net->stages[0];
    const double count = trial->data.count;
    const double places = count * stage->out.h * stage->out.w;
    const double kernel = stage->kind == VGG_STAGE_CONV ? stage->kernel : 1;
    const bool transformed = is_transformed(net, target);
    compare_bounded("output", got->output, want->output, bound->output,
                    trial->data.count * net_output_count(net),
                    rounding(net->fan[0] + 1, target, transformed));
    compare_bounded("dx", got->dx, want->dx, bound->dx,
                    trial->data.count * net_input_count(net),
                    rounding(stage->out.c * kernel * kernel, target, transformed));
    for (uint32_t p = 0; p < 2; p++)
        compare_bounded(p == 0 ? "weight gradient" : "bias gradient", got->dparams[p],
                        want->dparams[p], bound->dparams[p], net->params[p].count,
                        rounding(places, target, transformed));
}

/* A single convolution or linear stage, element by element against what rounding can
   do. */
START_TEST(error_bound)
{
    struct trial trial = {.mode = VGG_MODE_TRAIN};
    if (!parse_case(&trial.net, _i) || trial.net.stage_count > 1 ||
        trial.net.param_count != 2)
        return;
    data_create(&trial.data, &trial.net, test_cases[_i].batch, DATA_REAL, 3);
    struct outcome got[MOST_TARGETS], bound;
    run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &trial.want);
    for (uint32_t i = 0; i < target_count; i++) run_subject(&trial, i, &got[i]);
    make_absolute(&trial.net, &trial.data);
    run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &bound);
    for (int transformed = 0; transformed < 2; transformed++) {
        if (transformed) spread_all(&trial, &bound);
        for (uint32_t i = 0; i < target_count; i++) {
            if (is_transformed(&trial.net, &targets[i]) != transformed) continue;
            compare_label("%s", targets[i].label);
            compare_to_bound(&trial, &targets[i], &got[i], &bound);
            outcome_free(&got[i]);
        }
    }
    outcome_free(&bound);
    end_trial(&trial);
}
END_TEST

/* A program for more samples than there are. Engines with memory of their own have
 * algorithms that depend on its size; program.c has a test of these. */
static void compare_short(const struct trial *trial, const struct target *target)
{
    struct outcome got;
    if (target->apart) return;
    run_net_in(trial->data.count + 4, target, &trial->net, &trial->data, trial->mode,
               &got);
    compare_label("%s, with room for more", target->label);
    compare_outcomes(&trial->net, &trial->data, &got, &trial->want,
                     (struct closeness){0});
    outcome_free(&got);
}

/* Results must not depend on how many threads share the work, nor on the order of what
 * may happen in any order, nor on how many samples there might have been. */
START_TEST(variations)
{
    struct trial trial = {.mode = VGG_MODE_TRAIN};
    if (!parse_case(&trial.net, _i)) return;
    data_create(&trial.data, &trial.net, test_cases[_i].batch, DATA_REAL, 4);
    for (uint32_t i = 0; i < target_count; i++) {
        struct target target = targets[i];
        if (!is_subject(i) || target.tunes || target.gemm == VGG_GEMM_OPENBLAS)
            continue;
        target_vary(&target, 0);
        run_net(&target, &trial.net, &trial.data, trial.mode, &trial.want);
        for (uint32_t round = 1; round < TARGET_ROUNDS; round++) {
            struct outcome got;
            target_vary(&target, round);
            run_net(&target, &trial.net, &trial.data, trial.mode, &got);
            compare_label("%s, variation %u", target.label, round);
            compare_outcomes(&trial.net, &trial.data, &got, &trial.want,
                             (struct closeness){0});
            outcome_free(&got);
        }
        compare_short(&trial, &target);
        outcome_free(&trial.want);
    }
    data_free(&trial.data);
}
END_TEST

/* The middle of three samples is not finite, but the others must stay bit by bit. */
static void compare_poisoned(const struct trial *trial, const struct target *target,
                             const struct outcome *got, const struct outcome *clean)
{
    const size_t sample = net_output_count(&trial->net);
    const struct outcome *want = target->tunes ? got : clean;
    ck_assert_int_eq(got->loss_status, trial->want.loss_status);
    for (size_t i = 0; i < 3 * sample; i++)
        if (i / sample != 1 && !isfinite(got->output[i]))
            ck_abort_msg("output[%zu] of another sample: got %g", i, got->output[i]);
    compare_exact("first sample", got->output, want->output, sample);
    compare_exact("last sample", got->output + 2 * sample, want->output + 2 * sample,
                  sample);
    for (size_t i = sample; i < 2 * sample; i++)
        if (isfinite(got->output[i]) && !isfinite(trial->want.output[i]))
            ck_abort_msg("output[%zu]: got %g, expected %g", i, got->output[i],
                         trial->want.output[i]);
}

/* What is not finite in double must not come out finite. Where an engine computes by
 * transforms, it may spread within its own sample. */
START_TEST(not_finite)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};
    struct trial trial = {.mode = VGG_MODE_INFER};
    if (!parse_case(&trial.net, _i)) return;
    const size_t input = net_input_count(&trial.net);
    data_create(&trial.data, &trial.net, 3, DATA_REAL, 5);
    struct outcome clean[MOST_TARGETS], got;
    for (uint32_t i = 0; i < target_count; i++) run_subject(&trial, i, &clean[i]);
    for (size_t k = 0; k < sizeof values / sizeof *values; k++) {
        trial.data.input[input + input / 2] = values[k];
        run_net(&target_ref64, &trial.net, &trial.data, trial.mode, &trial.want);
        for (uint32_t i = 0; i < target_count; i++) {
            run_subject(&trial, i, &got);
            compare_poisoned(&trial, &targets[i], &got, &clean[i]);
            outcome_free(&got);
        }
        outcome_free(&trial.want);
    }
    for (uint32_t i = 0; i < target_count; i++) outcome_free(&clean[i]);
    data_free(&trial.data);
}
END_TEST

static void add_tests(Suite *suite, const char *name, const TTest *test)
{
    TCase *tcase = tcase_create(name);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test, 0, (int)test_case_count);
    suite_add_tcase(suite, tcase);
}

static Suite *stages_suite(void)
{
    Suite *suite = suite_create("stages");
    add_tests(suite, "random data", random_data);
    add_tests(suite, "integer data", integer_data);
    add_tests(suite, "sparse data", sparse_data);
    add_tests(suite, "error bound", error_bound);
    add_tests(suite, "variations", variations);
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
