/* SPDX-License-Identifier: Apache-2.0 */
/* Models put together layer by layer: automatic names, shapes, and every refusal. */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/model.h>

static vgg_model *empty(vgg_shape input)
{
    vgg_model *model = NULL;
    ck_ok(vgg_model_create_empty(NULL, &input, &model));
    return model;
}

static vgg_model *image(uint32_t c, uint32_t h, uint32_t w)
{
    return empty((vgg_shape){3, {c, h, w}});
}

static vgg_model *vector(uint32_t features)
{
    return empty((vgg_shape){1, {features}});
}

/* "name/alias/block=shape" of a layer. */
static void ck_layer(const vgg_model *model, uint32_t index, const char *expected)
{
    const vgg_layer *layer = vgg_model_layer(model, index);
    char text[256], shape[64];
    ck_assert_ptr_nonnull(layer);
    vgg_shape_text(vgg_layer_out_shape(layer), shape, sizeof shape);
    snprintf(text, sizeof text, "%s/%s/%u=%s", vgg_layer_name(layer),
             vgg_layer_alias(layer), vgg_layer_block(layer), shape);
    ck_assert_str_eq(text, expected);
}

START_TEST(one_layer_alone)
{
    vgg_model *model = vector(7);
    ck_ok(vgg_model_add_linear(model, 3, NULL));
    ck_layer(model, 0, "fc6/classifier.0/0=3");
    ck_assert_uint_eq(vgg_layer_macs(vgg_model_layer(model, 0)), 21);
    ck_assert_uint_eq(vgg_model_parameters(model), 24);
    vgg_model_free(model);

    model = vector(7);
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_layer(model, 0, "relu6/classifier.0/0=7");
    vgg_model_free(model);

    model = image(2, 3, 1);
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_layer(model, 0, "relu1_1/features.0/1=2x3x1");
    ck_assert_uint_eq(vgg_model_parameters(model), 0);
    vgg_model_free(model);

    model = image(2, 5, 7);
    ck_ok(vgg_model_add_pool(model, VGG_POOL_AVERAGE, NULL));
    ck_layer(model, 0, "pool1/features.0/1=2x2x3");
    vgg_model_free(model);

    model = image(1, 1, 1);
    ck_ok(vgg_model_add_conv(model, 4, 3, NULL));
    ck_layer(model, 0, "conv1_1/features.0/1=4x1x1");
    ck_assert_uint_eq(vgg_layer_macs(vgg_model_layer(model, 0)), 36);
    vgg_model_free(model);
}
END_TEST

START_TEST(an_empty_model_is_its_input)
{
    vgg_model *model = image(3, 4, 5);
    ck_assert_uint_eq(vgg_model_layer_count(model), 0);
    ck_assert_uint_eq(vgg_model_param_count(model), 0);
    ck_assert_ptr_eq(vgg_model_output_shape(model), vgg_model_input_shape(model));
    ck_assert_uint_eq(vgg_model_input_shape(model)->dim[2], 5);
    ck_assert_uint_eq(vgg_model_macs(model), 0);
    vgg_model_free(model);
}
END_TEST

START_TEST(automatic_names)
{
    vgg_model *model = image(1, 16, 16);
    ck_ok(vgg_model_add_conv(model, 2, 3, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_dropout(model, 0.1f, NULL));
    ck_ok(vgg_model_add_pool(model, VGG_POOL_MAX, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    ck_ok(vgg_model_add_conv(model, 3, 1, NULL));
    ck_ok(vgg_model_add_batch_norm(model, NULL));
    ck_ok(vgg_model_add_conv(model, 3, 3, NULL));
    ck_ok(vgg_model_add_adaptive_pool(model, 3, 2, NULL));
    ck_ok(vgg_model_add_adaptive_pool(model, 2, 2, NULL));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_linear(model, 9, NULL));
    ck_ok(vgg_model_add_dropout(model, 0.0f, NULL));
    ck_ok(vgg_model_add_linear(model, 8, NULL));
    static const char *const expected[] = {
        "conv1_1/features.0/1=2x16x16",   "relu1_1/features.1/1=2x16x16",
        "relu1_1_b/features.2/1=2x16x16", "relu1_1_c/features.3/1=2x16x16",
        "drop1_1/features.4/1=2x16x16",   "pool1/features.5/1=2x8x8",
        "bn2_1/features.6/2=2x8x8",       "conv2_1/features.7/2=3x8x8",
        "bn2_1_b/features.8/2=3x8x8",     "conv2_2/features.9/2=3x8x8",
        "avgpool/avgpool/0=3x3x2",        "avgpool_b/avgpool_b/0=3x2x2",
        "flatten/flatten/0=12",           "relu6/classifier.0/0=12",
        "fc6/classifier.1/0=9",           "drop6/classifier.2/0=9",
        "fc7/classifier.3/0=8",
    };
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        ck_layer(model, i, expected[i]);
    vgg_model_free(model);
}
END_TEST

START_TEST(many_equal_layers_stay_distinct)
{
    vgg_model *model = vector(1);
    for (int i = 0; i < 1024; i++) ck_ok(vgg_model_add_relu(model, NULL));
    ck_layer(model, 25, "relu6_z/classifier.25/0=1");
    ck_layer(model, 26, "relu6_ba/classifier.26/0=1");
    ck_layer(model, 1023, "relu6_bnj/classifier.1023/0=1");
    ck_fails_with(vgg_model_add_relu(model, NULL), VGG_ELIMIT, "1024 layers");
    ck_assert_uint_eq(vgg_model_layer_count(model), 1024);
    vgg_model_free(model);
}
END_TEST

START_TEST(names_of_ones_own)
{
    char longest[65];
    memset(longest, 'x', sizeof longest);
    longest[63] = '\0';
    vgg_model *model = image(1, 8, 8);
    ck_ok(vgg_model_add_conv(model, 2, 3, "stem"));
    ck_layer(model, 0, "stem/features.0/1=2x8x8");
    ck_assert_ptr_nonnull(vgg_model_find_param(model, "stem.weight"));
    ck_assert_ptr_nonnull(vgg_model_find_param(model, "features.0.bias"));
    ck_ok(vgg_model_add_relu(model, longest));
    ck_assert_str_eq(vgg_layer_name(vgg_model_layer(model, 1)), longest);
    longest[63] = 'x';
    longest[64] = '\0';
    ck_fails_with(vgg_model_add_relu(model, longest), VGG_EINVAL, "1 to 63 characters");
    ck_fails_with(vgg_model_add_relu(model, ""), VGG_EINVAL, "found none");
    ck_fails_with(vgg_model_add_relu(model, "a b"), VGG_EINVAL, "byte 0x20 at place 2");
    ck_fails_with(vgg_model_add_relu(model, "a\n"), VGG_EINVAL, "byte 0x0a");
    ck_fails_with(vgg_model_add_relu(model, "\xc3\xa4"), VGG_EINVAL, "byte 0xc3");
    ck_fails_with(vgg_model_add_relu(model, "stem"), VGG_EINVAL, "already has it");
    ck_fails_with(vgg_model_add_relu(model, "features.0"), VGG_EINVAL,
                  "already has it");
    ck_assert_uint_eq(vgg_model_layer_count(model), 2);

    /* An own name that looks like a later automatic one: the later one gives way. */
    ck_ok(vgg_model_add_relu(model, "conv1_2"));
    ck_ok(vgg_model_add_relu(model, "features.4"));
    ck_ok(vgg_model_add_conv(model, 2, 3, NULL));
    ck_layer(model, 4, "conv1_2_b/features.4_b/1=2x8x8");
    ck_assert_ptr_eq(vgg_model_find_layer(model, "features.4"),
                     vgg_model_layer(model, 3));
    vgg_model_free(model);
}
END_TEST

START_TEST(inputs_that_do_not_fit)
{
    vgg_model *model = image(1, 4, 4);
    ck_fails_with(vgg_model_add_linear(model, 3, NULL), VGG_ESHAPE,
                  "fc6: needs a flat input, found 1x4x4");
    ck_ok(vgg_model_add_pool(model, VGG_POOL_MAX, NULL));
    ck_ok(vgg_model_add_pool(model, VGG_POOL_MAX, NULL));
    ck_fails_with(vgg_model_add_pool(model, VGG_POOL_MAX, NULL), VGG_ESHAPE,
                  "pool3: needs at least 2x2 pixels, found 1x1");
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_fails_with(vgg_model_add_flatten(model, NULL), VGG_ESHAPE,
                  "flatten_b: needs an input [c][h][w], found 1");
    ck_fails_with(vgg_model_add_conv(model, 1, 3, NULL), VGG_ESHAPE, "conv");
    ck_fails_with(vgg_model_add_batch_norm(model, NULL), VGG_ESHAPE, "[c][h][w]");
    ck_fails_with(vgg_model_add_pool(model, VGG_POOL_MAX, NULL), VGG_ESHAPE,
                  "[c][h][w]");
    ck_fails_with(vgg_model_add_adaptive_pool(model, 1, 1, NULL), VGG_ESHAPE,
                  "avgpool: needs an input [c][h][w]");
    ck_assert_uint_eq(vgg_model_layer_count(model), 3);
    vgg_model_free(model);

    model = image(1, 1, 9);
    ck_fails(vgg_model_add_pool(model, VGG_POOL_MAX, NULL), VGG_ESHAPE);
    vgg_model_free(model);
}
END_TEST

START_TEST(numbers_out_of_range)
{
    vgg_model *model = image(2, 8, 8);
    ck_fails_with(vgg_model_add_conv(model, 0, 3, NULL), VGG_EINVAL,
                  "conv1_1: 0 output channels, needs at least 1");
    ck_fails_with(vgg_model_add_conv(model, 1, 0, NULL), VGG_EINVAL, "kernel 0");
    ck_fails_with(vgg_model_add_conv(model, 1, 2, NULL), VGG_EINVAL, "kernel 2");
    ck_fails_with(vgg_model_add_conv(model, 1, 5, NULL), VGG_EINVAL, "needs 1 or 3");
    ck_fails_with(vgg_model_add_pool(model, (vgg_pool_kind)2, NULL), VGG_EINVAL,
                  "pool kind 2");
    ck_fails_with(vgg_model_add_adaptive_pool(model, 0, 1, NULL), VGG_EINVAL, "rows");
    ck_fails_with(vgg_model_add_adaptive_pool(model, 1, 0, NULL), VGG_EINVAL,
                  "columns");
    ck_fails_with(vgg_model_add_dropout(model, 1.0f, NULL), VGG_EINVAL, "of 1 or more");
    ck_fails_with(vgg_model_add_dropout(model, NAN, NULL), VGG_EINVAL, "NaN");
    ck_fails_with(vgg_model_add_dropout(model, -1e-9f, NULL), VGG_EINVAL, "below 0");
    ck_fails_with(vgg_model_add_conv(model, 1u << 31, 3, NULL), VGG_ELIMIT,
                  "2147483648 output channels, limit is 2147483647");
    ck_fails_with(vgg_model_add_adaptive_pool(model, 1u << 20, 1u << 20, NULL),
                  VGG_ELIMIT, "an output of 2x1048576x1048576 elements");
    ck_ok(vgg_model_add_adaptive_pool(model, 1u << 15, 1u << 15, NULL)); /* 2^31 */
    ck_fails_with(vgg_model_add_flatten(model, NULL), VGG_ELIMIT,
                  "2147483648 features");
    ck_assert_uint_eq(vgg_model_layer_count(model), 1);
    vgg_model_free(model);

    model = vector(INT32_MAX);
    ck_fails_with(vgg_model_add_linear(model, 0, NULL), VGG_EINVAL,
                  "0 output features");
    ck_fails_with(vgg_model_add_linear(model, INT32_MAX, NULL), VGG_ELIMIT,
                  "fc6: a parameter of 2147483647x2147483647 elements");
    vgg_model_free(model);
}
END_TEST

START_TEST(input_shapes)
{
    static const struct {
        vgg_shape shape;
        vgg_status status;
    } cases[] = {
        {{0, {0}}, VGG_EINVAL},
        {{2, {3, 4}}, VGG_EINVAL},
        {{4, {1, 1, 4, 4}}, VGG_EINVAL},
        {{UINT32_MAX, {1}}, VGG_EINVAL},
        {{1, {0}}, VGG_EINVAL},
        {{3, {1, 0, 4}}, VGG_EINVAL},
        {{1, {1u << 31}}, VGG_ELIMIT},
        {{3, {INT32_MAX, INT32_MAX, INT32_MAX}}, VGG_ELIMIT},
        {{3, {1, 1u << 20, (1u << 20) + 1}}, VGG_ELIMIT},
        {{3, {1, 1u << 20, 1u << 20}}, VGG_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vgg_model *model = (vgg_model *)&cases;
        const vgg_status status = vgg_model_create_empty(NULL, &cases[i].shape, &model);
        ck_assert_int_eq(status, cases[i].status);
        ck_assert_int_eq(model != NULL, status == VGG_OK);
        vgg_model_free(model);
    }
    vgg_model *model;
    ck_fails(vgg_model_create_empty(NULL, NULL, &model), VGG_EINVAL);
    ck_fails(vgg_model_create_empty(NULL, &cases[9].shape, NULL), VGG_EINVAL);
}
END_TEST

START_TEST(null_is_refused)
{
    ck_fails(vgg_model_add_conv(NULL, 1, 3, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_batch_norm(NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_relu(NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_pool(NULL, VGG_POOL_MAX, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_adaptive_pool(NULL, 1, 1, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_flatten(NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_linear(NULL, 1, NULL), VGG_EINVAL);
    ck_fails(vgg_model_add_dropout(NULL, 0.0f, NULL), VGG_EINVAL);
    ck_fails(vgg_model_init(NULL, VGG_INIT_XAVIER, 0), VGG_EINVAL);
    ck_assert_ptr_null(vgg_model_input_shape(NULL));
    ck_assert_ptr_null(vgg_model_output_shape(NULL));
    ck_assert_ptr_null(vgg_model_layer(NULL, 0));
    ck_assert_ptr_null(vgg_model_param(NULL, 0));
    ck_assert_ptr_null(vgg_model_find_layer(NULL, "conv1_1"));
    ck_assert_ptr_null(vgg_model_find_param(NULL, "conv1_1.weight"));
    ck_assert_uint_eq(vgg_model_layer_count(NULL), 0);
    ck_assert_uint_eq(vgg_model_param_count(NULL), 0);
    ck_assert_uint_eq(vgg_model_parameters(NULL), 0);
    ck_assert_uint_eq(vgg_model_macs(NULL), 0);
    ck_assert_ptr_null(vgg_layer_name(NULL));
    ck_assert_ptr_null(vgg_layer_alias(NULL));
    ck_assert_ptr_null(vgg_layer_in_shape(NULL));
    ck_assert_ptr_null(vgg_layer_out_shape(NULL));
    ck_assert_ptr_null(vgg_layer_param(NULL, 0));
    ck_assert_uint_eq(vgg_layer_param_count(NULL), 0);
    ck_assert_uint_eq(vgg_layer_block(NULL), 0);
    ck_assert_uint_eq(vgg_layer_macs(NULL), 0);
    vgg_model *model = vector(1);
    ck_assert_ptr_null(vgg_model_find_layer(model, NULL));
    ck_assert_ptr_null(vgg_model_find_param(model, NULL));
    vgg_model_free(model);
}
END_TEST

START_TEST(kind_names)
{
    ck_assert_str_eq(vgg_layer_kind_name(VGG_LAYER_CONV), "conv");
    ck_assert_str_eq(vgg_layer_kind_name(VGG_LAYER_ADAPTIVE_POOL), "adaptive_pool");
    ck_assert_str_eq(vgg_layer_kind_name(VGG_LAYER_DROPOUT), "dropout");
    ck_assert_str_eq(vgg_layer_kind_name((vgg_layer_kind)8), "?");
    ck_assert_str_eq(vgg_layer_kind_name((vgg_layer_kind)-1), "?");
}
END_TEST

/* Fails after `left` allocations. */
static void *some_alloc(void *cookie, size_t size, size_t align)
{
    int *left = cookie;
    void *memory = NULL;
    if (*left == 0 || posix_memalign(&memory, align, size) != 0) return NULL;
    (*left)--;
    return memory;
}

static void some_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

/* Whichever allocation of an addition fails, the model is as before and goes on. */
START_TEST(no_memory_changes_nothing)
{
    int left = 1000;
    const vgg_allocator allocator = {&left, some_alloc, some_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    const uint64_t before = vgg_context_bytes(ctx);
    const vgg_shape input = {3, {2, 8, 8}};
    vgg_model *model = NULL;
    left = 0;
    ck_fails(vgg_model_create_empty(ctx, &input, &model), VGG_ENOMEM);
    ck_assert_ptr_null(model);
    left = 1000;
    ck_ok(vgg_model_create_empty(ctx, &input, &model));

    int failures = 0;
    for (int budget = 0;; budget++, failures++) {
        left = budget;
        const vgg_status status = vgg_model_add_batch_norm(model, NULL);
        if (status == VGG_OK) break;
        ck_assert_int_eq(status, VGG_ENOMEM);
        ck_assert_uint_eq(vgg_model_layer_count(model), 0);
        ck_assert_uint_eq(vgg_model_param_count(model), 0);
        ck_assert_ptr_null(vgg_model_find_param(model, "bn1_1.weight"));
    }
    ck_assert_int_ge(failures, 9); /* the layer, four parameters and their values */
    ck_layer(model, 0, "bn1_1/features.0/1=2x8x8");
    ck_assert_uint_eq(vgg_model_param_count(model), 4);
    vgg_model_free(model);
    ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("layers");
    TCase *tc = tcase_create("sequences");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, one_layer_alone);
    tcase_add_test(tc, an_empty_model_is_its_input);
    tcase_add_test(tc, automatic_names);
    tcase_add_test(tc, many_equal_layers_stay_distinct);
    tcase_add_test(tc, names_of_ones_own);
    tcase_add_test(tc, inputs_that_do_not_fit);
    tcase_add_test(tc, numbers_out_of_range);
    tcase_add_test(tc, input_shapes);
    tcase_add_test(tc, null_is_refused);
    tcase_add_test(tc, kind_names);
    tcase_add_test(tc, no_memory_changes_nothing);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
