/* SPDX-License-Identifier: Apache-2.0 */
/* What each stage means, in numbers small enough to check by hand: the one test in
 * which the reference is not its own judge. Every case runs on every target. */
#include <math.h>
#include <string.h>

#include "compare.h"
#include "harness.h"
#include "targets.h"

/* A network with its data; fill in data, run, look at got, end. */
struct bench {
    struct net net;
    struct data data;
    struct outcome got;
    int keeps; /* significant bits, of the target */
};

static void begin(struct bench *bench, const char *net, uint32_t count,
                  const float *input)
{
    *bench = (struct bench){.got = {0}};
    net_parse(&bench->net, net);
    data_create(&bench->data, &bench->net, count, DATA_REAL, 1);
    memcpy(bench->data.input, input,
           count * net_input_count(&bench->net) * sizeof *input);
    const size_t outputs = count * net_output_count(&bench->net);
    for (size_t i = 0; i < outputs; i++) bench->data.dy[i] = 1;
}

static void set_param(struct bench *bench, uint32_t param, const float *values)
{
    memcpy(bench->data.params[param], values,
           bench->net.params[param].count * sizeof *values);
}

static void run(struct bench *bench, int target, uint32_t mode)
{
    compare_label("%s", targets[target].label);
    run_net(&targets[target], &bench->net, &bench->data, mode, &bench->got);
    bench->keeps = targets[target].keeps;
    /* Winograd's transforms have fractions. */
    if (targets[target].conv >= VGG_CONV_WINOGRAD2) bench->keeps = 20;
}

/* Exactly, up to one rounding where less than float is kept. */
static void expect(const struct bench *bench, const char *what, const double *got,
                   const double *want, size_t count)
{
    if (bench->keeps < 24)
        compare_rounded(what, got, want, count, bench->keeps);
    else
        compare_exact(what, got, want, count);
}

/* What an input's rounding may change of a number of this size. */
static double tolerance(const struct bench *bench, double size)
{
    return bench->keeps < 24 ? ldexp(2 * size, -bench->keeps) : 1e-6;
}

static void end(struct bench *bench)
{
    outcome_free(&bench->got);
    data_free(&bench->data);
}

/* A kernel is not flipped: a point spreads as the kernel turned by half a turn. */
START_TEST(conv)
{
    const float point[9] = {0, 0, 0, 0, 1, 0, 0, 0, 0};
    const float kernel[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct bench b;
    begin(&b, "1x3x3 conv3:1", 1, point);
    set_param(&b, 0, kernel);
    set_param(&b, 1, (float[]){10});
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){19, 18, 17, 16, 15, 14, 13, 12, 11},
           9);
    expect(&b, "dx", b.got.dx, (double[]){12, 21, 16, 27, 45, 33, 24, 39, 28}, 9);
    expect(&b, "dweight", b.got.dparams[0], (double[]){1, 1, 1, 1, 1, 1, 1, 1, 1}, 9);
    expect(&b, "dbias", b.got.dparams[1], (double[]){9}, 1);
    end(&b);
}
END_TEST

/* Columns are in c, h, w order. */
START_TEST(linear)
{
    struct bench b;
    begin(&b, "2x1x2 linear:2", 1, (float[]){1, 2, 3, 4});
    set_param(&b, 0, (float[]){1, 10, 100, 1000, 1, 0, 0, -1});
    set_param(&b, 1, (float[]){0, 5});
    b.data.dy[1] = 2;
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){4321, 2}, 2);
    expect(&b, "dx", b.got.dx, (double[]){3, 10, 100, 998}, 4);
    expect(&b, "dweight", b.got.dparams[0], (double[]){1, 2, 3, 4, 2, 4, 6, 8}, 8);
    expect(&b, "dbias", b.got.dparams[1], (double[]){1, 2}, 2);
    end(&b);
}
END_TEST

START_TEST(relu)
{
    struct bench b;
    begin(&b, "1x1x5 relu", 1, (float[]){-1, 0, 2, NAN, -INFINITY});
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){0, 0, 2, NAN, 0}, 5);
    expect(&b, "dx", b.got.dx, (double[]){0, 0, 1, 1, 0}, 5);
    end(&b);
}
END_TEST

/* The first of equals wins, a NaN wins over numbers, the fifth column is dropped. */
START_TEST(max_pool)
{
    struct bench b;
    begin(&b, "1x2x5 max", 1, (float[]){1, 3, NAN, 5, 9, 3, 2, 0, 1, 9});
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){3, NAN}, 2);
    expect(&b, "dx", b.got.dx, (double[]){0, 1, 1, 0, 0, 0, 0, 0, 0, 0}, 10);
    end(&b);
}
END_TEST

START_TEST(average_pool)
{
    struct bench b;
    begin(&b, "1x3x2 avg", 1, (float[]){1, 2, 3, 6, 100, 100});
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){3}, 1);
    expect(&b, "dx", b.got.dx, (double[]){0.25, 0.25, 0.25, 0.25, 0, 0}, 6);
    end(&b);
}
END_TEST

/* 8 to 7: windows of two that overlap; 1 to 7: copies. */
START_TEST(adaptive_pool)
{
    struct bench b;
    begin(&b, "1x1x8 adaptive:1x7", 1, (float[]){0, 2, 4, 6, 8, 10, 12, 14});
    run(&b, _i, VGG_MODE_TRAIN);
    expect(&b, "output", b.got.output, (double[]){1, 3, 5, 7, 9, 11, 13}, 7);
    expect(&b, "dx", b.got.dx, (double[]){0.5, 1, 1, 1, 1, 1, 1, 0.5}, 8);
    end(&b);
    begin(&b, "1x1x1 adaptive:7x7", 1, (float[]){3});
    run(&b, _i, VGG_MODE_TRAIN);
    for (int i = 0; i < 49; i++) ck_assert_double_eq(b.got.output[i], 3);
    expect(&b, "dx", b.got.dx, (double[]){49}, 1);
    end(&b);
}
END_TEST

/* Mean 3, biased variance 3.5, unbiased 14 / 3; momentum 0.1 is the share of the
 * new. */
START_TEST(batch_norm)
{
    struct bench b;
    begin(&b, "1x1x1 bn", 4, (float[]){1, 2, 3, 6});
    set_param(&b, 0, (float[]){2});
    set_param(&b, 1, (float[]){1});
    set_param(&b, 2, (float[]){1});
    set_param(&b, 3, (float[]){2});
    run(&b, _i, VGG_MODE_TRAIN);
    const double inverse = 1 / sqrt(3.5 + 1e-5);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(
            b.got.output[i], (b.data.input[i] - 3) * 2 * inverse + 1, tolerance(&b, 4));
    ck_assert_double_eq_tol(b.got.params[2][0], 0.9 * 1 + 0.1 * 3, 1e-6);
    ck_assert_double_eq_tol(b.got.params[3][0], 0.9 * 2 + 0.1 * 14 / 3, 1e-6);
    outcome_free(&b.got);
    run(&b, _i, VGG_MODE_GRAD);
    for (int i = 0; i < 4; i++) {
        ck_assert_double_eq_tol(b.got.output[i],
                                (b.data.input[i] - 1) * 2 / sqrt(2 + 1e-5) + 1,
                                tolerance(&b, 8));
        ck_assert_double_eq_tol(b.got.dx[i], 2 / sqrt(2 + 1e-5), tolerance(&b, 2));
    }
    compare_exact("mean", b.got.params[2], (double[]){1}, 1);
    compare_exact("var", b.got.params[3], (double[]){2}, 1);
    end(&b);
}
END_TEST

/* A mean of 16385 1/3, which no float holds, and a variance of 14 / 9: the whole of the
 * mean is taken away. What is left are some roundings of numbers below 4. */
START_TEST(batch_norm_far)
{
    const double inverse = 1 / sqrt(14. / 9 + 1e-5), dgamma = 3 * inverse;
    struct bench b;
    if (targets[_i].keeps < 24) return; /* the inputs are no such numbers */
    begin(&b, "1x1x1 bn", 3, (float[]){16384, 16385, 16387});
    set_param(&b, 0, (float[]){2});
    set_param(&b, 1, (float[]){1});
    memcpy(b.data.dy, (float[]){1, 2, 3}, 3 * sizeof(float));
    run(&b, _i, VGG_MODE_TRAIN);
    ck_assert_double_eq_tol(b.got.dparams[0][0], dgamma, 1e-6 * dgamma);
    for (int i = 0; i < 3; i++) {
        const double xhat = (b.data.input[i] - (16384 + 4. / 3)) * inverse;
        const double dx = 2 * inverse * (i + 1 - 2 - xhat * dgamma / 3);
        ck_assert_double_eq_tol(b.got.output[i], 2 * xhat + 1, 2e-6);
        ck_assert_double_eq_tol(b.got.dx[i], dx, 2e-6);
    }
    end(&b);
}
END_TEST

/* An infinite factor makes what it multiplies infinite, and no NaN: the mean is exact,
 * so that nothing of it is left to be multiplied. */
START_TEST(batch_norm_infinite_gamma)
{
    struct bench b;
    begin(&b, "1x1x1 bn", 2, (float[]){1, 6});
    set_param(&b, 0, (float[]){INFINITY});
    set_param(&b, 1, (float[]){1});
    set_param(&b, 2, (float[]){2});
    set_param(&b, 3, (float[]){2});
    run(&b, _i, VGG_MODE_GRAD);
    ck_assert(isinf(b.got.output[0]) && b.got.output[0] < 0);
    ck_assert(isinf(b.got.output[1]) && b.got.output[1] > 0);
    end(&b);
}
END_TEST

/* To the backward with running statistics they are constants: what is not finite gets
 * the gradient of its neighbours, as in PyTorch. */
START_TEST(batch_norm_infinite)
{
    struct bench b;
    begin(&b, "1x1x1 bn", 4, (float[]){1, -INFINITY, NAN, 6});
    set_param(&b, 0, (float[]){2});
    set_param(&b, 1, (float[]){1});
    set_param(&b, 2, (float[]){1});
    set_param(&b, 3, (float[]){2});
    run(&b, _i, VGG_MODE_GRAD);
    ck_assert(isinf(b.got.output[1]) && b.got.output[1] < 0 && isnan(b.got.output[2]));
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(b.got.dx[i], 2 / sqrt(2 + 1e-5), tolerance(&b, 2));
    ck_assert_double_eq(b.got.dparams[1][0], 4);
    outcome_free(&b.got);
    set_param(&b, 2, (float[]){INFINITY}); /* a mean that takes everything away */
    run(&b, _i, VGG_MODE_GRAD);
    ck_assert(isinf(b.got.output[0]) && b.got.output[0] < 0);
    end(&b);
}
END_TEST

/* Large values move the running statistics for as long as these are finite: a variance
 * of 2^128 / 3 whose sum of squares is no float, then one of 2^140. */
START_TEST(batch_norm_large)
{
    static const struct {
        double size, mean, var;
    } cases[] = {{0x1p63, 0.9 * 3, 0.9 * 2 + 0.1 * 0x1p128 / 3}, {0x1p70, 3, 2}};
    const bool doubles = targets[_i].precision == VGG_FP64; /* which hold both */
    for (size_t i = 0; i < sizeof cases / sizeof *cases - doubles; i++) {
        const float x = (float)cases[i].size;
        struct bench b;
        begin(&b, "1x1x1 bn", 4, (float[]){x, -x, -x, x});
        set_param(&b, 2, (float[]){3});
        set_param(&b, 3, (float[]){2});
        run(&b, _i, VGG_MODE_TRAIN);
        const double near = cases[i].var * 1e-6;
        ck_assert_double_eq_tol(b.got.params[2][0], cases[i].mean, 1e-6);
        ck_assert_double_eq_tol(b.got.params[3][0], cases[i].var, near);
        end(&b);
    }
}
END_TEST

/* Probabilities 1/4 and 3/4; the second sample has equal ones, and the first class
 * wins. */
START_TEST(loss)
{
    struct bench b;
    begin(&b, "2x1x1 loss", 2, (float[]){0, 1.0986123f, 7, 7});
    memcpy(b.data.labels, (uint32_t[]){0, 1}, 2 * sizeof(uint32_t));
    b.data.scale = 2;
    run(&b, _i, VGG_MODE_TRAIN);
    ck_assert_double_eq_tol(b.got.loss, log(4) + log(2), tolerance(&b, 1));
    ck_assert_uint_eq(b.got.correct, 0);
    compare_close("dx", b.got.dx, (double[]){-0.75, 0.75, 0.5, -0.5}, 4,
                  tolerance(&b, 1));
    outcome_free(&b.got);
    b.data.smoothing = 0.5f; /* targets 3/4 at the label, 1/4 beside it */
    memcpy(b.data.labels, (uint32_t[]){1, 0}, 2 * sizeof(uint32_t));
    run(&b, _i, VGG_MODE_TRAIN);
    ck_assert_double_eq_tol(b.got.loss, 0.75 * log(4. / 3) + 0.25 * log(4) + log(2),
                            tolerance(&b, 1));
    ck_assert_uint_eq(b.got.correct, 2);
    const double want[4] = {0, 0, -0.25, 0.25};
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(b.got.dx[i], want[i], tolerance(&b, 1));
    end(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semantics");
    TCase *tcase = tcase_create("stages");
    tcase_add_loop_test(tcase, conv, 0, (int)target_count);
    tcase_add_loop_test(tcase, linear, 0, (int)target_count);
    tcase_add_loop_test(tcase, relu, 0, (int)target_count);
    tcase_add_loop_test(tcase, max_pool, 0, (int)target_count);
    tcase_add_loop_test(tcase, average_pool, 0, (int)target_count);
    tcase_add_loop_test(tcase, adaptive_pool, 0, (int)target_count);
    tcase_add_loop_test(tcase, batch_norm, 0, (int)target_count);
    tcase_add_loop_test(tcase, batch_norm_far, 0, (int)target_count);
    tcase_add_loop_test(tcase, batch_norm_infinite, 0, (int)target_count);
    tcase_add_loop_test(tcase, batch_norm_infinite_gamma, 0, (int)target_count);
    tcase_add_loop_test(tcase, batch_norm_large, 0, (int)target_count);
    tcase_add_loop_test(tcase, loss, 0, (int)target_count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
