/* SPDX-License-Identifier: Apache-2.0 */
/* Plans whose backward is the update: the order of their phases, what they refuse, and
 * the memory that they do without. */
#include <string.h>

#include "device/device.h"
#include "harness.h"
#include "plan/plan.h"
#include "plan/resident.h"
#include "remote.h"

static vgg_device *device;
static vgg_model *model;
static vgg_tensor *images; /* 4 of them */
static const uint32_t labels[4] = {0, 2, 1, 2};
static vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
static const vgg_update sgd = {.kind = VGG_SGD, .lr = 0.1, .t = 1};

static void set_up(void)
{
    ck_ok(vgg_device_open(NULL, "ref", &device));
    remote_begin(&vgg__engine_ref);
    device->engine = &remote_engine;
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = 8;
    arch.hidden = 8;
    arch.classes = 3;
    model = vgg_build(&arch, 16);
    ck_assert_ptr_nonnull(model);
    const vgg_shape shape = {4, {4, 1, 8, 8}};
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &images));
    for (int i = 0; i < 4 * 64; i++)
        ((float *)vgg_tensor_data(images))[i] = (float)(i * 37 % 64) / 64.0f;
    opts.batch = 4;
    opts.mode = VGG_MODE_TRAIN;
}

static void tear_down(void)
{
    vgg_tensor_free(images);
    vgg_model_free(model);
    vgg_device_free(device);
}

START_TEST(phases_have_an_order)
{
    vgg_plan *plan, *plain;
    const uint32_t wrong[4] = {0, 1, 2, 3};
    double loss[3];
    uint32_t correct;
    ck_ok(vgg__plan_create_step(model, device, &opts, &plan));
    ck_ok(vgg_plan_create(model, device, &opts, &plain));
    ck_fails_with(vgg__plan_step(plan, labels, 0.0f, &sgd, NULL, NULL), VGG_ESTATE,
                  "a forward before");
    for (int i = 0; i < 3; i++) {
        double before;
        ck_ok(vgg_plan_forward(plan, images, NULL));
        ck_fails_with(vgg__plan_step(plan, wrong, 0.0f, &sgd, NULL, NULL), VGG_EINVAL,
                      "label 3 is 3; expected below 3");
        ck_ok(vgg_plan_loss(plan, labels, 0.0f, 1.0f, &before, NULL));
        ck_ok(vgg__plan_step(plan, labels, 0.0f, &sgd, &loss[i], &correct));
        ck_assert_double_eq(loss[i], before);
        ck_assert_uint_le(correct, 4);
        ck_fails(vgg__plan_step(plan, labels, 0.0f, &sgd, NULL, NULL), VGG_ESTATE);
    }
    ck_assert_double_lt(loss[1], loss[0]);
    ck_assert_double_lt(loss[2], loss[1]);
    ck_ok(vgg_plan_forward(plain, images, NULL));
    ck_ok(vgg_plan_loss(plain, labels, 0.0f, 1.0f, NULL, NULL));
    ck_fails_with(vgg__plan_step(plain, labels, 0.0f, &sgd, NULL, NULL), VGG_ESTATE,
                  "made for it");
    ck_ok(vgg_plan_backward(plain));
    vgg_plan_free(plain);
    vgg_plan_free(plan);
}
END_TEST

START_TEST(gradients_are_refused)
{
    static const char why[] =
        "this plan updates as it goes back, and keeps no gradients";
    vgg_plan *plan;
    vgg_tensor *out, *gradient;
    double norm = 1.0;
    const vgg_shape shape = {2, {4, 3}};
    vgg_param *bias = vgg_model_find_param(model, "fc8.bias");
    ck_ok(vgg__plan_create_step(model, device, &opts, &plan));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(bias), &gradient));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &out));
    ck_ok(vgg_plan_forward(plan, images, out));
    ck_ok(vgg_plan_loss(plan, labels, 0.0f, 1.0f, NULL, NULL));
    ck_fails_with(vgg_plan_backward(plan), VGG_ESTATE, why);
    ck_fails_with(vgg_plan_set_output_gradient(plan, out), VGG_ESTATE, why);
    ck_fails_with(vgg_plan_zero_gradients(plan), VGG_ESTATE, why);
    ck_fails_with(vgg_plan_gradient_norm(plan, &norm), VGG_ESTATE, why);
    ck_assert_double_eq(norm, 0.0);
    ck_fails_with(vgg_plan_scale_gradients(plan, 2.0), VGG_ESTATE, why);
    ck_fails_with(vgg_plan_update(plan, NULL, 0.1, 1), VGG_ESTATE, why);
    ck_fails_with(vgg_plan_param_gradient(plan, bias, gradient), VGG_ESTATE, why);
    /* None of that was in its way. */
    ck_ok(vgg__plan_step(plan, labels, 0.0f, &sgd, NULL, NULL));
    ck_assert_uint_eq(remote.gradients, 0);
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(plan), "train and update, fp32\n"));
    vgg_tensor_free(out);
    vgg_tensor_free(gradient);
    vgg_plan_free(plan);
}
END_TEST

START_TEST(memory_without_gradients)
{
    uint64_t plain, shared;
    vgg_plan *plan;
    ck_ok(vgg_plan_measure(model, device, &opts, &plain, &shared));
    ck_assert_uint_eq(shared, 2 * 4 * vgg_model_parameters(model));
    ck_ok(vgg__plan_create_step(model, device, &opts, &plan));
    const uint64_t bytes = vgg_plan_bytes(plan);
    ck_assert_uint_eq(plain, bytes + 4 * 3 * sizeof(float)); /* the output's */
    vgg_plan_free(plan);
    opts.max_bytes = bytes - 1;
    ck_fails_with(vgg__plan_create_step(model, device, &opts, &plan), VGG_ELIMIT,
                  "max_bytes");
    ck_assert_ptr_null(plan);
    opts.max_bytes = bytes;
    ck_ok(vgg__plan_create_step(model, device, &opts, &plan));
    vgg_plan_free(plan);
    opts.max_bytes = 0;
}
END_TEST

START_TEST(samples_fit_the_batch)
{
    vgg_plan *plan;
    const struct vgg__resident resident = {.handle = &opts}; /* not looked at */
    const vgg_sample samples[5] = {{0}};
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_fails_with(vgg__plan_forward_samples(plan, &resident, samples, 0, NULL),
                  VGG_ESHAPE, "0 samples; the plan takes 1 to 4");
    ck_fails_with(vgg__plan_forward_samples(plan, &resident, samples, 5, NULL),
                  VGG_ESHAPE, "5 samples; the plan takes 1 to 4");
    vgg_plan_free(plan);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("step");
    TCase *tc = tcase_create("step");
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, phases_have_an_order);
    tcase_add_test(tc, gradients_are_refused);
    tcase_add_test(tc, memory_without_gradients);
    tcase_add_test(tc, samples_fit_the_batch);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
