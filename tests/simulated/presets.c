/* SPDX-License-Identifier: Apache-2.0 */
/* Every architecture that has a name, on the simulated GPU and on the processor by way
 * of the public interface: one training step each, the same logits before and after. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

/* The smallest input that five poolings leave a pixel of; channels of 64 / 32 and so
 * on. */
enum { SIDE = 32, RATIO = 32, HIDDEN = 512, CLASSES = 10, BATCH = 2 };

static vgg_context *ctx;
static vgg_device *devices[2]; /* cpu, cuda:0 */

static void begin(void)
{
    setenv("VGG_CACHE_DIR", "", 1);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.plugin_dir = PLUGIN_DIR;
    opts.threads = 1;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_ok(vgg_device_open(ctx, "cpu", &devices[0]));
    ck_ok(vgg_device_open(ctx, "cuda:0", &devices[1]));
}

static void end(void)
{
    for (int i = 0; i < 2; i++) vgg_device_free(devices[i]);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}

static vgg_tensor *new_batch(const vgg_shape *sample)
{
    vgg_shape shape = {sample->rank + 1, {BATCH}};
    vgg_tensor *made;
    memcpy(shape.dim + 1, sample->dim, sample->rank * sizeof *sample->dim);
    ck_ok(vgg_tensor_create(ctx, VGG_F32, &shape, &made));
    return made;
}

/* Logits before a step of SGD and after it. */
static void step(const vgg_arch *arch, int device, vgg_tensor *logits[2])
{
    static const uint32_t labels[BATCH] = {3, 7};
    vgg_model *model;
    vgg_plan *plan;
    ck_ok(vgg_model_create(ctx, arch, RATIO, NULL, &model));
    ck_ok(vgg_model_init(model, VGG_INIT_HE, 1));
    vgg_tensor *input = new_batch(vgg_model_input_shape(model));
    float *at = vgg_tensor_data(input);
    for (uint64_t i = 0; i < vgg_tensor_bytes(input) / sizeof *at; i++)
        at[i] = (float)(i * 7919 % 1009) / 504.5f - 1.0f;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.mode = VGG_MODE_TRAIN;
    ck_ok(vgg_plan_create(model, devices[device], &opts, &plan));
    for (int k = 0; k < 2; k++) {
        logits[k] = new_batch(vgg_model_output_shape(model));
        ck_ok(vgg_plan_set_step(plan, 1, 0, 0)); /* the same dropout */
        ck_ok(vgg_plan_forward(plan, input, logits[k]));
        if (k == 1) break;
        ck_ok(vgg_plan_zero_gradients(plan));
        ck_ok(vgg_plan_loss(plan, labels, 0, 1, NULL, NULL));
        ck_ok(vgg_plan_backward(plan));
        ck_ok(vgg_plan_update(plan, NULL, 0.01, 1));
    }
    vgg_plan_free(plan);
    vgg_tensor_free(input);
    vgg_model_free(model);
}

/* |a - b| over |b| */
static double distance(vgg_tensor *a, vgg_tensor *b)
{
    const float *x = vgg_tensor_data(a), *y = vgg_tensor_data(b);
    double error = 0, norm = 0;
    for (uint64_t i = 0; i < vgg_tensor_bytes(b) / sizeof *y; i++) {
        error += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        norm += (double)y[i] * y[i];
    }
    return sqrt(error / norm);
}

/* Sums of up to 19 layers in float, in other orders: 1e-5 before the step as elsewhere,
 * and after it, with the rounding of gradients, 1e-4. Batch normalisation divides by
 * differences of a few numbers where a map is small: ten times as much. */
START_TEST(one_step)
{
    const char *name = vgg_arch_preset_name((uint32_t)_i);
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_tensor *logits[2][2];
    ck_ok(vgg_arch_preset(name, &arch));
    arch.height = arch.width = SIDE;
    arch.hidden = HIDDEN;
    arch.classes = CLASSES;
    for (int d = 0; d < 2; d++) step(&arch, d, logits[d]);
    const double slack = arch.batch_norm ? 10 : 1;
    const double before = distance(logits[1][0], logits[0][0]);
    const double after = distance(logits[1][1], logits[0][1]);
    const double moved = distance(logits[0][1], logits[0][0]);
    ck_assert_msg(before < 1e-5 * slack, "%s: logits differ by %.3g", name, before);
    ck_assert_msg(after < 1e-4 * slack, "%s: after a step by %.3g", name, after);
    ck_assert_msg(moved > 100 * after,
                  "%s: the step moves them by %.3g, not beyond %.3g", name, moved,
                  after);
    for (int k = 0; k < 4; k++) vgg_tensor_free(logits[k / 2][k % 2]);
}
END_TEST

/* The names that the tests above go through have these among them. */
START_TEST(named)
{
    static const char *const names[] = {"d2l",      "vgg11",     "vgg13",    "vgg16",
                                        "vgg16c",   "vgg19",     "vgg11_bn", "vgg13_bn",
                                        "vgg16_bn", "vgg16c_bn", "vgg19_bn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        uint32_t k = 0;
        while (vgg_arch_preset_name(k) &&
               strcmp(vgg_arch_preset_name(k), names[i]) != 0)
            k++;
        ck_assert_msg(vgg_arch_preset_name(k) != NULL, "no %s", names[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("presets");
    TCase *tcase = tcase_create("plugin");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, begin, end);
    int count = 0;
    while (vgg_arch_preset_name((uint32_t)count) != NULL) count++;
    tcase_add_test(tcase, named);
    tcase_add_loop_test(tcase, one_step, 0, count);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
