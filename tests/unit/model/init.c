/* SPDX-License-Identifier: Apache-2.0 */
/* First values: their distribution, and that a seed means the same values everywhere.
 */
#include "harness.h"

#include <fenv.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/model.h>

/* 32 -> 64 channels in 3x3: 18432 weights; a linear layer of 256 x 300. */
static vgg_model *make(vgg_init init, uint64_t seed)
{
    const vgg_shape input = {3, {32, 2, 2}};
    vgg_model *model = NULL;
    ck_ok(vgg_model_create_empty(NULL, &input, &model));
    ck_ok(vgg_model_add_conv(model, 64, 3, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, 300, NULL));
    ck_ok(vgg_model_init(model, init, seed));
    return model;
}

/* Values of a parameter, to be freed. */
static float *values(vgg_model *model, const char *name, uint64_t *count)
{
    vgg_param *param = vgg_model_find_param(model, name);
    vgg_tensor *tensor = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(param), &tensor));
    ck_ok(vgg_param_read(param, tensor));
    ck_ok(vgg_shape_count(vgg_param_shape(param), count));
    float *copy = malloc(*count * sizeof *copy);
    memcpy(copy, vgg_tensor_data(tensor), *count * sizeof *copy);
    vgg_tensor_free(tensor);
    return copy;
}

struct moments {
    double mean, deviation, kurtosis, largest;
};

static struct moments measure(vgg_model *model, const char *name)
{
    uint64_t count;
    float *x = values(model, name, &count);
    double sum = 0, sum2 = 0, sum4 = 0, largest = 0;
    for (uint64_t i = 0; i < count; i++) {
        const double v = x[i];
        sum += v;
        sum2 += v * v;
        sum4 += v * v * v * v;
        largest = fmax(largest, fabs(v));
    }
    free(x);
    const double n = (double)count, variance = sum2 / n;
    return (struct moments){sum / n, sqrt(variance), sum4 / n / (variance * variance),
                            largest};
}

/* Of n samples, the mean has standard error s / sqrt(n), the deviation of a normal one
 * s / sqrt(2 n), the kurtosis sqrt(24 / n); uniform ones have less. With n >= 18432 and
 * a fixed seed, five standard errors: */
static void ck_moments(struct moments m, double deviation, double kurtosis)
{
    const double n = 18432;
    ck_assert_double_lt(fabs(m.mean), 5 * deviation / sqrt(n));
    ck_assert_double_lt(fabs(m.deviation - deviation), 5 * deviation / sqrt(2 * n));
    ck_assert_double_lt(fabs(m.kurtosis - kurtosis), 5 * sqrt(24 / n));
}

START_TEST(xavier)
{
    vgg_model *model = make(VGG_INIT_XAVIER, 1);
    const double conv = sqrt(6.0 / (32 * 9 + 64 * 9)), linear = sqrt(6.0 / (256 + 300));
    struct moments m = measure(model, "conv1_1.weight");
    ck_moments(m, conv / sqrt(3.0), 1.8);
    ck_assert_double_le(m.largest, (float)conv);
    ck_assert_double_gt(m.largest, 0.999 * conv);
    m = measure(model, "fc6.weight");
    ck_moments(m, linear / sqrt(3.0), 1.8);
    ck_assert_double_le(m.largest, (float)linear);
    vgg_model_free(model);
}
END_TEST

START_TEST(torchvision)
{
    vgg_model *model = make(VGG_INIT_TORCHVISION, 2);
    const struct moments m = measure(model, "conv1_1.weight");
    ck_moments(m, sqrt(2.0 / (64 * 9)), 3.0);
    ck_assert_double_gt(m.largest, 3.5 * m.deviation); /* a normal one has tails: the
                              chance that 18432 samples stay below is 2e-4 */
    ck_moments(measure(model, "fc6.weight"), 0.01, 3.0);
    vgg_model_free(model);
}
END_TEST

START_TEST(he)
{
    vgg_model *model = make(VGG_INIT_HE, 3);
    ck_moments(measure(model, "conv1_1.weight"), sqrt(2.0 / (32 * 9)), 3.0);
    ck_moments(measure(model, "fc6.weight"), sqrt(2.0 / 256), 3.0);
    vgg_model_free(model);
}
END_TEST

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Kolmogorov and Smirnov: the largest distance between the distribution that 76800
 * samples have and the normal one is below 1.95 / sqrt(n) with probability 0.999. */
START_TEST(normal_ones_are_normal)
{
    vgg_model *model = make(VGG_INIT_TORCHVISION, 4);
    uint64_t count;
    float *x = values(model, "fc6.weight", &count);
    qsort(x, count, sizeof *x, ascending);
    double distance = 0;
    for (uint64_t i = 0; i < count; i++) {
        const double expected = 0.5 * erfc(-x[i] / 0.01 / sqrt(2.0));
        distance = fmax(distance, fabs(expected - ((double)i + 0.5) / (double)count));
    }
    ck_assert_double_lt(distance, 1.95 / sqrt((double)count));
    free(x);
    vgg_model_free(model);
}
END_TEST

START_TEST(biases_and_batch_norm)
{
    vgg_model *model = make(VGG_INIT_XAVIER, 5);
    static const struct {
        const char *name;
        float value;
    } constants[] = {
        {"conv1_1.bias", 0}, {"fc6.bias", 0},           {"bn1_1.weight", 1},
        {"bn1_1.bias", 0},   {"bn1_1.running_mean", 0}, {"bn1_1.running_var", 1},
    };
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        uint64_t count;
        float *x = values(model, constants[i].name, &count);
        for (uint64_t j = 0; j < count; j++)
            ck_assert_float_eq(x[j], constants[i].value);
        free(x);
    }
    vgg_model_free(model);
}
END_TEST

/* FNV-1a over the bits of the conv's and the linear layer's weights. */
static uint64_t hash(vgg_model *model)
{
    static const char *const names[] = {"conv1_1.weight", "fc6.weight"};
    uint64_t sum = 0xcbf29ce484222325u;
    for (int k = 0; k < 2; k++) {
        uint64_t count;
        float *x = values(model, names[k], &count);
        const unsigned char *bytes = (const unsigned char *)x;
        for (uint64_t i = 0; i < count * sizeof *x; i++)
            sum = (sum ^ bytes[i]) * 0x100000001b3u;
        free(x);
    }
    return sum;
}

/* The bits themselves: a change here changes what every seed means. */
static const struct {
    vgg_init init;
    uint64_t seed, hash;
} bits[] = {
    {VGG_INIT_XAVIER, 0, 0x1813bbd0e95cdddd},
    {VGG_INIT_XAVIER, 0x123456789abcdef0, 0x14b8992546e6441b},
    {VGG_INIT_TORCHVISION, 0, 0x18bbc19a9f54a557},
    {VGG_INIT_HE, 0, 0xe22e26881a5e61bc},
};

START_TEST(a_seed_means_the_same_bits)
{
    vgg_model *model = make(bits[_i].init, bits[_i].seed);
    ck_assert_msg(hash(model) == bits[_i].hash, "hash is 0x%016llx",
                  (unsigned long long)hash(model));
    vgg_model_free(model);
}
END_TEST

START_TEST(rounding_mode_of_the_host_does_not_matter)
{
    fesetround(FE_UPWARD);
    vgg_model *model = make(VGG_INIT_TORCHVISION, 0);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    ck_assert_uint_eq(hash(model), bits[2].hash);
    vgg_model_free(model);
}
END_TEST

START_TEST(seeds_and_parameters_differ)
{
    vgg_model *one = make(VGG_INIT_XAVIER, 1), *two = make(VGG_INIT_XAVIER, 2);
    uint64_t count;
    float *a = values(one, "fc6.weight", &count),
          *b = values(two, "fc6.weight", &count);
    float *c = values(one, "conv1_1.weight", &count);
    int same = 0, related = 0;
    for (uint64_t i = 0; i < count; i++) {
        same += a[i] == b[i];
        related += fabs(a[i] / c[i] - a[0] / c[0]) < 1e-3;
    }
    ck_assert_int_lt(same, 5);
    ck_assert_int_lt(related, (int)count / 100);
    free(a), free(b), free(c);
    vgg_model_free(one);
    vgg_model_free(two);
}
END_TEST

START_TEST(wrong_rule)
{
    vgg_model *model = make(VGG_INIT_XAVIER, 0);
    ck_fails_with(vgg_model_init(model, (vgg_init)3, 0), VGG_EINVAL, "needs 0 to 2");
    ck_assert_uint_eq(hash(model), bits[0].hash);
    vgg_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("init");
    TCase *tc = tcase_create("values");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, xavier);
    tcase_add_test(tc, torchvision);
    tcase_add_test(tc, he);
    tcase_add_test(tc, normal_ones_are_normal);
    tcase_add_test(tc, biases_and_batch_norm);
    tcase_add_loop_test(tc, a_seed_means_the_same_bits, 0,
                        (int)(sizeof bits / sizeof bits[0]));
    tcase_add_test(tc, rounding_mode_of_the_host_does_not_matter);
    tcase_add_test(tc, seeds_and_parameters_differ);
    tcase_add_test(tc, wrong_rule);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
