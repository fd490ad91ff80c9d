/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU engine gives the same bits for any number of threads, for both providers of
 * matrix products: parameters after two steps, and the input's gradient, are compared.
 */
#include "harness.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#define SAMPLES 9
#define HEIGHT  37 /* odd: pooling drops a row */
#define WIDTH   44
#define STEPS   2

static const uint32_t threads[] = {1, 2, 3, 8};
enum { THREADS = sizeof(threads) / sizeof(threads[0]) };

/* What a training leaves. */
struct outcome {
    float *values;
    size_t count;
    double loss[STEPS];
};

/* Every kind of layer, fused and alone, wide enough for several rectangles and blocks.
 */
static vgg_model *build(vgg_context *context)
{
    const vgg_shape input = {.rank = 3, .dim = {3, HEIGHT, WIDTH}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(context, &input, &model));
    ck_ok(vgg_model_add_conv(model, 24, 3, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_conv(model, 36, 3, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_pool(model, VGG_POOL_MAX, NULL));
    ck_ok(vgg_model_add_conv(model, 130, 1, NULL));
    ck_ok(vgg_model_add_pool(model, VGG_POOL_AVERAGE, NULL));
    ck_ok(vgg_model_add_conv(model, 40, 3, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_dropout(model, 0.25f, NULL));
    ck_ok(vgg_model_add_adaptive_pool(model, 4, 3, NULL));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, 300, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_dropout(model, 0.5f, NULL));
    ck_ok(vgg_model_add_linear(model, 10, NULL));
    ck_ok(vgg_model_init(model, VGG_INIT_XAVIER, 3));
    return model;
}

static vgg_tensor *make_input(vgg_context *context)
{
    const vgg_shape shape = {.rank = 4, .dim = {SAMPLES, 3, HEIGHT, WIDTH}};
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_create(context, VGG_F32, &shape, &tensor));
    float *x = vgg_tensor_data(tensor);
    uint32_t state = 5;
    for (size_t i = 0; i < (size_t)SAMPLES * 3 * HEIGHT * WIDTH; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)state * 0x1p-31f;
    }
    return tensor;
}

static void keep(struct outcome *out, vgg_tensor *tensor)
{
    uint64_t count;
    ck_ok(vgg_shape_count(vgg_tensor_shape(tensor), &count));
    out->values = realloc(out->values, (out->count + count) * sizeof(float));
    memcpy(out->values + out->count, vgg_tensor_data(tensor), count * sizeof(float));
    out->count += count;
}

static void step(vgg_plan *plan, const vgg_tensor *input, uint32_t t, double *loss)
{
    static const uint32_t labels[SAMPLES] = {0, 1, 2, 3, 4, 5, 6, 7, 9};
    vgg_optimizer sgd = VGG_OPTIMIZER_INIT;
    sgd.momentum = 0.9;
    ck_ok(vgg_plan_set_step(plan, 11, t, 0));
    ck_ok(vgg_plan_zero_gradients(plan));
    ck_ok(vgg_plan_forward(plan, input, NULL));
    ck_ok(vgg_plan_loss(plan, labels, 0.1f, 1, loss, NULL));
    ck_ok(vgg_plan_backward(plan));
    ck_ok(vgg_plan_update(plan, &sgd, 0.05, t + 1));
}

/* `batch`: what the plan is compiled for, at least SAMPLES. */
static struct outcome train(vgg_context *context, vgg_device *device, uint32_t batch)
{
    struct outcome out = {0};
    vgg_model *model = build(context);
    vgg_tensor *input = make_input(context);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = batch;
    opts.mode = VGG_MODE_TRAIN;
    opts.input_gradient = 1;
    vgg_plan *plan;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    for (uint32_t t = 0; t < STEPS; t++) step(plan, input, t, &out.loss[t]);
    ck_ok(vgg_plan_input_gradient(plan, input));
    keep(&out, input);
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        vgg_param *param = vgg_model_param(model, i);
        vgg_tensor *value;
        ck_ok(vgg_tensor_create(context, VGG_F32, vgg_param_shape(param), &value));
        ck_ok(vgg_param_read(param, value));
        keep(&out, value);
        vgg_tensor_free(value);
    }
    vgg_plan_free(plan);
    vgg_tensor_free(input);
    vgg_model_free(model);
    return out;
}

/* false: this machine has no such provider. */
static bool run(uint32_t gemm, uint32_t count, uint32_t batch, struct outcome *out)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.gemm = gemm;
    opts.threads = count;
    vgg_context *context;
    vgg_device *device;
    ck_ok(vgg_context_create(&opts, &context));
    const vgg_status status = vgg_device_open(context, "cpu", &device);
    const bool there = gemm == VGG_GEMM_OWN || status != VGG_EDEVICE;
    if (there) {
        ck_ok(status);
        *out = train(context, device, batch);
        vgg_device_free(device);
        ck_assert_uint_eq(vgg_context_bytes(context), 0);
    }
    vgg_context_free(context);
    return there;
}

static void check_same(const struct outcome *a, const struct outcome *b, uint32_t count)
{
    ck_assert_uint_eq(a->count, b->count);
    ck_assert_mem_eq(a->loss, b->loss, sizeof(a->loss));
    for (size_t i = 0; i < a->count; i++)
        if (memcmp(&a->values[i], &b->values[i], sizeof(float)) != 0)
            ck_abort_msg("%u threads: element %zu is %a, not %a", count, i,
                         (double)b->values[i], (double)a->values[i]);
}

static void check_threads(uint32_t gemm)
{
    struct outcome first, other;
    if (!run(gemm, threads[0], SAMPLES, &first)) return;
    ck_assert_double_gt(first.loss[0], first.loss[1]); /* it does learn */
    for (int i = 1; i < THREADS; i++) {
        ck_assert(run(gemm, threads[i], SAMPLES, &other));
        check_same(&first, &other, threads[i]);
        free(other.values);
    }
    /* Nor do they depend on the largest batch that the plan could take. */
    ck_assert(run(gemm, 2, SAMPLES + 5, &other));
    check_same(&first, &other, 2);
    free(other.values);
    free(first.values);
}

START_TEST(test_own)
{
    check_threads(VGG_GEMM_OWN);
}
END_TEST

START_TEST(test_openblas)
{
    check_threads(VGG_GEMM_OPENBLAS);
}
END_TEST

static Suite *determinism_suite(void)
{
    Suite *suite = suite_create("determinism");
    TCase *same = tcase_create("threads");
    tcase_set_timeout(same, 120);
    tcase_add_test(same, test_own);
    tcase_add_test(same, test_openblas);
    suite_add_tcase(suite, same);
    return suite;
}

int main(void)
{
    Suite *suites[] = {determinism_suite()};
    return harness_main(suites, 1);
}
