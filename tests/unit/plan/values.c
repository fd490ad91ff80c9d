/* SPDX-License-Identifier: Apache-2.0 */
/* Who has the newest values after a training: every plan, on whatever device, and the
 * host, without being told. */
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

static const char *const engines[] = {"ref", "cpu"};
static const uint32_t labels[4] = {0, 2, 1, 2};
static vgg_model *model;
static vgg_tensor *images; /* 4 of them */

static vgg_tensor *tensor(vgg_shape shape)
{
    vgg_tensor *made;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &made));
    return made;
}

static void make_model(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = 8;
    arch.hidden = 8;
    arch.classes = 3;
    model = vgg_build(&arch, 16);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    images = tensor((vgg_shape){4, {4, 1, 8, 8}});
    float *pixel = vgg_tensor_data(images);
    for (int i = 0; i < 4 * 64; i++) pixel[i] = (float)(i * 37 % 64) / 64.0f - 0.3f;
}

static void free_model(void)
{
    vgg_tensor_free(images);
    vgg_model_free(model);
}

static vgg_plan *make_plan(vgg_device *device, uint32_t mode)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    vgg_plan *plan;
    opts.batch = 4;
    opts.mode = mode;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    return plan;
}

static void train_once(vgg_plan *train)
{
    ck_ok(vgg_plan_zero_gradients(train));
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_ok(vgg_plan_loss(train, labels, 0.0f, 1.0f, NULL, NULL));
    ck_ok(vgg_plan_backward(train));
    ck_ok(vgg_plan_update(train, NULL, 0.5, 1));
}

/* Plans have run before the training, and follow it step by step: on its device and on
 * another one, whose last digits are its own. */
START_TEST(every_device_follows)
{
    make_model();
    vgg_device *here, *there;
    ck_ok(vgg_device_open(NULL, engines[_i], &here));
    ck_ok(vgg_device_open(NULL, engines[1 - _i], &there));
    vgg_plan *train = make_plan(here, VGG_MODE_TRAIN);
    vgg_plan *near = make_plan(here, VGG_MODE_INFER);
    vgg_plan *far = make_plan(there, VGG_MODE_INFER);
    vgg_tensor *a = tensor((vgg_shape){2, {4, 3}}), *b = tensor((vgg_shape){2, {4, 3}});
    float *got = vgg_tensor_data(a), *want = vgg_tensor_data(b), last = 0.0f;
    for (int step = 0; step < 4; step++) {
        if (step > 0) train_once(train);
        ck_ok(vgg_plan_forward(far, images, a));
        ck_ok(vgg_plan_forward(near, images, b));
        for (int i = 0; i < 12; i++) ck_assert_float_eq_tol(got[i], want[i], 1e-5f);
        ck_assert_float_ne(want[0], last);
        last = want[0];
    }
    vgg_tensor_free(a);
    vgg_tensor_free(b);
    vgg_plan_free(far);
    vgg_plan_free(near);
    vgg_plan_free(train);
    vgg_device_free(there);
    vgg_device_free(here);
    free_model();
}
END_TEST

/* Writing one parameter leaves the others as the training made them, though nobody has
 * looked at them since. */
START_TEST(writing_keeps_the_training)
{
    vgg_tensor *weights[2];
    for (int written = 0; written < 2; written++) {
        make_model();
        vgg_device *device;
        ck_ok(vgg_device_open(NULL, engines[_i], &device));
        vgg_param *weight = vgg_model_find_param(model, "fc8.weight");
        vgg_tensor *zeros = tensor((vgg_shape){1, {3}});
        weights[written] = tensor(*vgg_param_shape(weight));
        vgg_plan *train = make_plan(device, VGG_MODE_TRAIN);
        train_once(train);
        if (written)
            ck_ok(vgg_param_write(vgg_model_find_param(model, "fc8.bias"), zeros));
        ck_ok(vgg_param_read(weight, weights[written]));
        vgg_tensor_free(zeros);
        vgg_plan_free(train);
        vgg_device_free(device);
        free_model();
    }
    ck_assert_mem_eq(vgg_tensor_data(weights[0]), vgg_tensor_data(weights[1]),
                     vgg_tensor_bytes(weights[0]));
    vgg_tensor_free(weights[0]);
    vgg_tensor_free(weights[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("values");
    TCase *tc = tcase_create("values");
    tcase_add_loop_test(tc, every_device_follows, 0, 2);
    tcase_add_loop_test(tc, writing_keeps_the_training, 0, 2);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
