/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics against scikit-learn (metrics_fixture.h), and at the edges. */
#include <vgg/metrics.h>

#include "harness.h"

#include <math.h>
#include <string.h>

struct fixture {
    const char *name;
    uint32_t n, classes;
    const double *logits;      /* [n][classes] */
    const uint32_t *labels;    /* [n] */
    const uint64_t *confusion; /* [truth][predicted] */
    const double *figures;     /* [class][precision, recall, f1] */
    double macro[3], weighted[3];
    double top[3];    /* k = 1, 2, 3 */
    double loss, auc; /* auc -1: not defined */
};

#include "metrics_fixture.h"

/* A few roundings of double arithmetic in sums of at most 40 terms. */
#define CLOSE 1e-14

static vgg_tensor *wrap(const double *logits, uint32_t n, uint32_t classes)
{
    vgg_tensor *tensor;
    const vgg_shape shape = {2, {n, classes}};
    ck_ok(vgg_tensor_wrap(NULL, VGG_F64, &shape, (void *)(uintptr_t)logits, NULL, NULL,
                          &tensor));
    return tensor;
}

static vgg_metrics *collect(const double *logits, const uint32_t *labels, uint32_t n,
                            uint32_t classes)
{
    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(NULL, classes, &metrics));
    vgg_tensor *tensor = wrap(logits, n, classes);
    ck_ok(vgg_metrics_add(metrics, tensor, labels));
    vgg_tensor_free(tensor);
    return metrics;
}

static void check_figures(const vgg_class_metrics *found, const double expected[3])
{
    ck_assert_double_eq_tol(found->precision, expected[0], CLOSE);
    ck_assert_double_eq_tol(found->recall, expected[1], CLOSE);
    ck_assert_double_eq_tol(found->f1, expected[2], CLOSE);
}

static void check_fixture(const struct fixture *f, vgg_metrics *metrics)
{
    vgg_class_metrics one;
    ck_assert_uint_eq(vgg_metrics_count(metrics), f->n);
    for (uint32_t c = 0; c < f->classes; c++) {
        uint64_t support = 0;
        for (uint32_t p = 0; p < f->classes; p++) {
            const uint64_t expected = f->confusion[c * f->classes + p];
            ck_assert_uint_eq(vgg_metrics_confusion(metrics, c, p), expected);
            support += expected;
        }
        ck_ok(vgg_metrics_class(metrics, c, &one));
        check_figures(&one, f->figures + 3 * c);
        ck_assert_uint_eq(one.support, support);
    }
    ck_ok(vgg_metrics_mean(metrics, VGG_AVERAGE_MACRO, &one));
    check_figures(&one, f->macro);
    ck_assert_uint_eq(one.support, f->n);
    ck_ok(vgg_metrics_mean(metrics, VGG_AVERAGE_WEIGHTED, &one));
    check_figures(&one, f->weighted);
    for (uint32_t k = 1; k <= 3; k++)
        ck_assert_double_eq_tol(vgg_metrics_top_k(metrics, k), f->top[k - 1], CLOSE);
    ck_assert_double_eq_tol(vgg_metrics_loss(metrics), f->loss, 8 * CLOSE);
    double auc = 7;
    if (f->auc < 0) {
        ck_fails_with(vgg_metrics_auc(metrics, &auc), VGG_ESTATE, "0 of 16 samples");
        ck_assert(auc == 0);
    } else {
        ck_ok(vgg_metrics_auc(metrics, &auc));
        ck_assert_double_eq_tol(auc, f->auc, CLOSE);
    }
}

START_TEST(as_scikit_learn)
{
    const struct fixture *f = &fixtures[_i];
    vgg_metrics *metrics = collect(f->logits, f->labels, f->n, f->classes);
    check_fixture(f, metrics);
    vgg_metrics_reset(metrics);
    ck_assert_uint_eq(vgg_metrics_count(metrics), 0);
    /* Again, in f32 and one sample at a time. */
    for (uint32_t i = 0; i < f->n; i++) {
        float row[16];
        const vgg_shape shape = {2, {1, f->classes}};
        for (uint32_t c = 0; c < f->classes; c++)
            row[c] = (float)f->logits[i * f->classes + c];
        vgg_tensor *tensor;
        ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &shape, row, NULL, NULL, &tensor));
        ck_ok(vgg_metrics_add(metrics, tensor, f->labels + i));
        vgg_tensor_free(tensor);
    }
    check_fixture(f, metrics);
    vgg_metrics_free(metrics);
}
END_TEST

START_TEST(no_samples)
{
    vgg_metrics *metrics;
    vgg_class_metrics one = {1, 1, 1, 1};
    double auc = 1;
    ck_ok(vgg_metrics_create(NULL, 3, &metrics));
    ck_assert_uint_eq(vgg_metrics_count(metrics), 0);
    ck_assert(vgg_metrics_loss(metrics) == 0);
    ck_assert(vgg_metrics_top_k(metrics, 1) == 0);
    ck_ok(vgg_metrics_class(metrics, 2, &one));
    ck_assert(one.precision == 0 && one.recall == 0 && one.f1 == 0 && one.support == 0);
    ck_ok(vgg_metrics_mean(metrics, VGG_AVERAGE_WEIGHTED, &one));
    ck_assert(one.f1 == 0);
    ck_fails(vgg_metrics_auc(metrics, &auc), VGG_ESTATE);
    vgg_metrics_free(metrics);
}
END_TEST

START_TEST(equal_scores)
{
    /* All logits equal: class 0 is predicted, ranks follow the classes, AUC is a
       half. */
    static const double logits[4 * 2] = {3, 3, 3, 3, 3, 3, 3, 3};
    static const uint32_t labels[4] = {0, 1, 1, 1};
    vgg_metrics *metrics = collect(logits, labels, 4, 2);
    double auc;
    ck_assert(vgg_metrics_top_k(metrics, 0) == 0);
    ck_assert(vgg_metrics_top_k(metrics, 1) == 0.25);
    ck_assert(vgg_metrics_top_k(metrics, 2) == 1);
    ck_assert(vgg_metrics_top_k(metrics, 9) == 1);
    ck_assert_double_eq_tol(vgg_metrics_loss(metrics), log(2), CLOSE);
    ck_ok(vgg_metrics_auc(metrics, &auc));
    ck_assert(auc == 0.5);
    vgg_metrics_free(metrics);
}
END_TEST

START_TEST(one_sample)
{
    static const double logits[3] = {-1e308, 0, 1e308}; /* the difference overflows */
    static const uint32_t label = 2;
    vgg_metrics *metrics = collect(logits, &label, 1, 3);
    double auc;
    ck_assert(vgg_metrics_loss(metrics) == 0);
    ck_assert(vgg_metrics_top_k(metrics, 1) == 1);
    ck_fails_with(vgg_metrics_auc(metrics, &auc), VGG_ESTATE, "class 0 has 0 of 1");
    vgg_metrics_free(metrics);
    static const double single = 5;
    static const uint32_t zero = 0;
    metrics = collect(&single, &zero, 1, 1);
    ck_assert(vgg_metrics_loss(metrics) == 0);
    ck_fails_with(vgg_metrics_auc(metrics, &auc), VGG_ESTATE, "class 0 has 1 of 1");
    vgg_metrics_free(metrics);
}
END_TEST

START_TEST(refused)
{
    static const double good[4] = {1, 2, 3, 4};
    static const uint32_t labels[2] = {0, 1}, large[2] = {0, 2};
    vgg_metrics *metrics = collect(good, labels, 2, 2);
    vgg_tensor *tensor;
    static const double values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        const double bad[4] = {1, 2, 3, values[i]};
        tensor = wrap(bad, 2, 2);
        ck_fails_with(vgg_metrics_add(metrics, tensor, labels), VGG_ENONFINITE,
                      "sample 1, class 1");
        vgg_tensor_free(tensor);
    }
    tensor = wrap(good, 2, 2);
    ck_fails_with(vgg_metrics_add(metrics, tensor, large), VGG_EINVAL, "label 1 is 2");
    ck_fails(vgg_metrics_add(metrics, tensor, NULL), VGG_EINVAL);
    ck_fails(vgg_metrics_add(metrics, NULL, labels), VGG_EINVAL);
    ck_fails(vgg_metrics_add(NULL, tensor, labels), VGG_EINVAL);
    vgg_tensor_free(tensor);
    tensor = wrap(good, 1, 4);
    ck_fails_with(vgg_metrics_add(metrics, tensor, labels), VGG_ESHAPE,
                  "are 1x4, needs Nx2");
    vgg_tensor_free(tensor);
    const vgg_shape shape = {2, {2, 2}};
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &shape, &tensor));
    ck_fails_with(vgg_metrics_add(metrics, tensor, labels), VGG_EINVAL,
                  "logits are u8");
    vgg_tensor_free(tensor);
    /* Nothing of all this was added. */
    ck_assert_uint_eq(vgg_metrics_count(metrics), 2);
    ck_assert_uint_eq(vgg_metrics_confusion(metrics, 1, 1), 1);
    ck_assert_uint_eq(vgg_metrics_confusion(metrics, 2, 0), 0);
    vgg_class_metrics one;
    double auc;
    ck_fails(vgg_metrics_class(metrics, 2, &one), VGG_EINVAL);
    ck_fails(vgg_metrics_class(metrics, 0, NULL), VGG_EINVAL);
    ck_fails(vgg_metrics_mean(metrics, (vgg_average)7, &one), VGG_EINVAL);
    ck_fails(vgg_metrics_auc(NULL, &auc), VGG_EINVAL);
    vgg_metrics_free(metrics);
    ck_fails(vgg_metrics_create(NULL, 0, &metrics), VGG_EINVAL);
    ck_assert_ptr_null(metrics);
    ck_fails(vgg_metrics_create(NULL, 1, NULL), VGG_EINVAL);
    vgg_metrics_free(NULL);
    vgg_metrics_reset(NULL);
}
END_TEST

/* A context that has memory for the object, but not for samples. */
START_TEST(no_memory)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = 2048;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(ctx, 4, &metrics));
    static const double logits[100 * 4];
    static const uint32_t labels[100];
    vgg_tensor *tensor = wrap(logits, 100, 4);
    ck_fails(vgg_metrics_add(metrics, tensor, labels), VGG_ENOMEM);
    ck_assert_uint_eq(vgg_metrics_count(metrics), 0);
    vgg_metrics_free(metrics);
    vgg_tensor_free(tensor);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metrics");
    TCase *tests = tcase_create("metrics");
    tcase_add_loop_test(tests, as_scikit_learn, 0,
                        sizeof fixtures / sizeof fixtures[0]);
    tcase_add_test(tests, no_samples);
    tcase_add_test(tests, equal_scores);
    tcase_add_test(tests, one_sample);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, no_memory);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
