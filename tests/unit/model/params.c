/* SPDX-License-Identifier: Apache-2.0 */
/* Reading, writing and freezing parameters. */
#include "harness.h"

#include <fenv.h>
#include <string.h>
#include <vgg/model.h>

static vgg_model *make(void)
{
    const vgg_shape input = {3, {2, 4, 4}};
    vgg_model *model = NULL;
    ck_ok(vgg_model_create_empty(NULL, &input, &model));
    ck_ok(vgg_model_add_conv(model, 3, 1, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    return model;
}

static vgg_tensor *tensor(vgg_dtype dtype, vgg_shape shape)
{
    vgg_tensor *out = NULL;
    ck_ok(vgg_tensor_create(NULL, dtype, &shape, &out));
    return out;
}

START_TEST(values_are_zero_at_first)
{
    vgg_model *model = make();
    vgg_tensor *out = tensor(VGG_F32, (vgg_shape){4, {3, 2, 1, 1}});
    float *x = vgg_tensor_data(out);
    for (int i = 0; i < 6; i++) x[i] = 7.0f;
    ck_ok(vgg_param_read(vgg_model_find_param(model, "conv1_1.weight"), out));
    for (int i = 0; i < 6; i++) ck_assert_float_eq(x[i], 0.0f);
    vgg_tensor_free(out);
    vgg_model_free(model);
}
END_TEST

START_TEST(what_was_written_is_read)
{
    vgg_model *model = make();
    vgg_param *weight = vgg_model_find_param(model, "features.0.weight");
    const vgg_shape shape = {4, {3, 2, 1, 1}};
    vgg_tensor *single = tensor(VGG_F32, shape), *wide = tensor(VGG_F64, shape);
    float *x = vgg_tensor_data(single);
    double *y = vgg_tensor_data(wide);
    for (int i = 0; i < 6; i++) x[i] = 0.1f * (float)(i - 2);
    ck_ok(vgg_param_write(weight, single));
    ck_ok(vgg_param_read(weight, wide));
    for (int i = 0; i < 6; i++) ck_assert_double_eq(y[i], x[i]);
    for (int i = 0; i < 6; i++) y[i] = 1.0 / (i + 3);
    fesetround(FE_UPWARD); /* of the host: values are rounded to nearest all the same */
    ck_ok(vgg_param_write(weight, wide));
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    ck_ok(vgg_param_read(weight, single));
    for (int i = 0; i < 6; i++) ck_assert_float_eq(x[i], (float)(1.0 / (i + 3)));
    vgg_tensor_free(single);
    vgg_tensor_free(wide);
    vgg_model_free(model);
}
END_TEST

START_TEST(tensors_must_fit)
{
    vgg_model *model = make();
    vgg_param *weight = vgg_model_find_param(model, "conv1_1.weight");
    vgg_tensor *flat = tensor(VGG_F32, (vgg_shape){1, {6}});
    vgg_tensor *turned = tensor(VGG_F32, (vgg_shape){4, {2, 3, 1, 1}});
    vgg_tensor *bytes = tensor(VGG_U8, (vgg_shape){4, {3, 2, 1, 1}});
    ck_fails_with(vgg_param_read(weight, flat), VGG_ESHAPE,
                  "conv1_1.weight: tensor is 6, parameter is 3x2x1x1");
    ck_fails_with(vgg_param_write(weight, turned), VGG_ESHAPE, "tensor is 2x3x1x1");
    ck_fails_with(vgg_param_write(weight, bytes), VGG_EINVAL,
                  "needs an f32 or f64 tensor, found u8");
    ck_fails(vgg_param_read(weight, bytes), VGG_EINVAL);
    ck_fails(vgg_param_read(weight, NULL), VGG_EINVAL);
    ck_fails(vgg_param_write(weight, NULL), VGG_EINVAL);
    ck_fails(vgg_param_read(NULL, flat), VGG_EINVAL);
    ck_fails(vgg_param_write(NULL, flat), VGG_EINVAL);
    vgg_tensor_free(flat);
    vgg_tensor_free(turned);
    vgg_tensor_free(bytes);
    vgg_model_free(model);
}
END_TEST

START_TEST(freezing)
{
    vgg_model *model = make();
    vgg_param *gamma = vgg_model_find_param(model, "bn1_1.weight");
    vgg_param *mean = vgg_model_find_param(model, "bn1_1.running_mean");
    ck_assert_int_eq(vgg_param_trainable(gamma), 1);
    ck_ok(vgg_param_set_trainable(gamma, 0));
    ck_assert_int_eq(vgg_param_trainable(gamma), 0);
    ck_ok(vgg_param_set_trainable(gamma, 2));
    ck_assert_int_eq(vgg_param_trainable(gamma), 1);
    ck_assert_int_eq(vgg_param_is_buffer(mean), 1);
    ck_fails_with(vgg_param_set_trainable(mean, 1), VGG_EINVAL,
                  "bn1_1.running_mean: a buffer is never trainable");
    ck_fails(vgg_param_set_trainable(mean, 0), VGG_EINVAL);
    ck_fails(vgg_param_set_trainable(NULL, 1), VGG_EINVAL);
    ck_assert_int_eq(vgg_param_trainable(mean), 0);
    ck_assert_ptr_null(vgg_param_name(NULL));
    ck_assert_ptr_null(vgg_param_alias(NULL));
    ck_assert_ptr_null(vgg_param_shape(NULL));
    ck_assert_int_eq(vgg_param_is_buffer(NULL), 0);
    ck_assert_int_eq(vgg_param_trainable(NULL), 0);
    vgg_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("params");
    TCase *tc = tcase_create("values");
    tcase_add_test(tc, values_are_zero_at_first);
    tcase_add_test(tc, what_was_written_is_read);
    tcase_add_test(tc, tensors_must_fit);
    tcase_add_test(tc, freezing);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
