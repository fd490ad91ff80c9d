/* SPDX-License-Identifier: Apache-2.0 */
/* vgg_build: names, shapes and counts of whole networks. The torchvision keys and
 * counts are those of torchvision 0.14's state_dict() and model cards. */
#include "harness.h"
#include "model/model.h"

#include <stdio.h>
#include <string.h>
#include <vgg/plan.h>

static vgg_model *build(const char *preset, uint32_t ratio)
{
    vgg_arch arch = VGG_ARCH_INIT;
    ck_ok(vgg_arch_preset(preset, &arch));
    vgg_model *model = vgg_build(&arch, ratio);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    return model;
}

static const struct {
    const char *preset;
    uint32_t ratio;
    uint64_t parameters, macs;
    uint32_t tensors; /* parameters and running statistics */
} counts[] = {
    {"d2l", 1, 128806154, 7547232256, 22},     {"d2l", 4, 43093322, 512155648, 22},
    {"d2l", 8, 29815850, 148881408, 22},       {"A", 1, 132863336, 7609090048, 22},
    {"B", 1, 133047848, 11308466176, 26},      {"D", 1, 138357544, 15470264320, 32},
    {"E", 1, 143667240, 19632062464, 38},      {"vgg11_bn", 4, 47151016, 530661376, 54},
    {"vgg16c", 1, 133638952, 11770888192, 32},
};

START_TEST(counts_match)
{
    vgg_model *model = build(counts[_i].preset, counts[_i].ratio);
    ck_assert_uint_eq(vgg_model_parameters(model), counts[_i].parameters);
    ck_assert_uint_eq(vgg_model_macs(model), counts[_i].macs);
    ck_assert_uint_eq(vgg_model_param_count(model), counts[_i].tensors);
    vgg_model_free(model);
}
END_TEST

/* Indices of convolutions and pools in torchvision's `features`. */
static const struct {
    const char *preset;
    uint32_t convs[16], pools[5];
} keys[] = {
    {"vgg11", {0, 3, 6, 8, 11, 13, 16, 18}, {2, 5, 10, 15, 20}},
    {"vgg13", {0, 2, 5, 7, 10, 12, 15, 17, 20, 22}, {4, 9, 14, 19, 24}},
    {"vgg16", {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}, {4, 9, 16, 23, 30}},
    {"vgg19",
     {0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34},
     {4, 9, 18, 27, 36}},
    {"vgg11_bn", {0, 4, 8, 11, 15, 18, 22, 25}, {3, 7, 14, 21, 28}},
    {"vgg13_bn", {0, 3, 7, 10, 14, 17, 21, 24, 28, 31}, {6, 13, 20, 27, 34}},
    {"vgg16_bn",
     {0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40},
     {6, 13, 23, 33, 43}},
    {"vgg19_bn",
     {0, 3, 7, 10, 14, 17, 20, 23, 27, 30, 33, 36, 40, 43, 46, 49},
     {6, 13, 26, 39, 52}},
};

START_TEST(aliases_are_torchvisions_keys)
{
    vgg_model *model = build(keys[_i].preset, 32);
    const int batch_norm = strstr(keys[_i].preset, "_bn") != NULL;
    uint32_t convs = 0, pools = 0, linears = 0;
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        char alias[64] = "";
        switch (vgg_layer_get_kind(layer)) {
        case VGG_LAYER_CONV:
            snprintf(alias, sizeof alias, "features.%u", keys[_i].convs[convs++]);
            break;
        case VGG_LAYER_BATCH_NORM:
            snprintf(alias, sizeof alias, "features.%u", keys[_i].convs[convs - 1] + 1);
            break;
        case VGG_LAYER_POOL:
            snprintf(alias, sizeof alias, "features.%u", keys[_i].pools[pools++]);
            break;
        case VGG_LAYER_LINEAR:
            snprintf(alias, sizeof alias, "classifier.%u", 3 * linears++);
            break;
        default:
            continue;
        }
        ck_assert_str_eq(vgg_layer_alias(layer), alias);
        ck_assert_ptr_eq(vgg_model_find_layer(model, alias), layer);
        const vgg_param *weight = vgg_layer_param(layer, 0);
        if (weight != NULL) {
            strcat(alias, ".weight");
            ck_assert_str_eq(vgg_param_alias(weight), alias);
            ck_assert_ptr_eq(vgg_model_find_param(model, alias), weight);
        }
    }
    ck_assert_uint_eq(linears, 3);
    ck_assert_uint_eq(pools, 5);
    ck_assert_ptr_nonnull(vgg_model_find_layer(model, "avgpool"));
    ck_assert_ptr_nonnull(vgg_model_find_layer(model, "flatten"));
    ck_assert_int_eq(batch_norm, vgg_model_find_layer(model, "bn5_2") != NULL);
    vgg_model_free(model);
}
END_TEST

/* Name, torchvision name, block, shape of every layer of the chapter's network. */
static const struct {
    const char *name, *alias;
    uint32_t block;
    const char *shape;
} chapter[] = {
    {"conv1_1", "features.0", 1, "16x224x224"},
    {"relu1_1", "features.1", 1, "16x224x224"},
    {"pool1", "features.2", 1, "16x112x112"},
    {"conv2_1", "features.3", 2, "32x112x112"},
    {"relu2_1", "features.4", 2, "32x112x112"},
    {"pool2", "features.5", 2, "32x56x56"},
    {"conv3_1", "features.6", 3, "64x56x56"},
    {"relu3_1", "features.7", 3, "64x56x56"},
    {"conv3_2", "features.8", 3, "64x56x56"},
    {"relu3_2", "features.9", 3, "64x56x56"},
    {"pool3", "features.10", 3, "64x28x28"},
    {"conv4_1", "features.11", 4, "128x28x28"},
    {"relu4_1", "features.12", 4, "128x28x28"},
    {"conv4_2", "features.13", 4, "128x28x28"},
    {"relu4_2", "features.14", 4, "128x28x28"},
    {"pool4", "features.15", 4, "128x14x14"},
    {"conv5_1", "features.16", 5, "128x14x14"},
    {"relu5_1", "features.17", 5, "128x14x14"},
    {"conv5_2", "features.18", 5, "128x14x14"},
    {"relu5_2", "features.19", 5, "128x14x14"},
    {"pool5", "features.20", 5, "128x7x7"},
    {"flatten", "flatten", 0, "6272"},
    {"fc6", "classifier.0", 0, "4096"},
    {"relu6", "classifier.1", 0, "4096"},
    {"drop6", "classifier.2", 0, "4096"},
    {"fc7", "classifier.3", 0, "4096"},
    {"relu7", "classifier.4", 0, "4096"},
    {"drop7", "classifier.5", 0, "4096"},
    {"fc8", "classifier.6", 0, "10"},
};

START_TEST(chapter_layer_by_layer)
{
    vgg_model *model = build("d2l", 4);
    const uint32_t count = sizeof chapter / sizeof chapter[0];
    ck_assert_uint_eq(vgg_model_layer_count(model), count);
    char shape[64] = "1x224x224", in[64];
    for (uint32_t i = 0; i < count; i++) {
        const vgg_layer *layer = vgg_model_layer(model, i);
        ck_assert_str_eq(vgg_layer_name(layer), chapter[i].name);
        ck_assert_str_eq(vgg_layer_alias(layer), chapter[i].alias);
        ck_assert_uint_eq(vgg_layer_block(layer), chapter[i].block);
        vgg_shape_text(vgg_layer_in_shape(layer), in, sizeof in);
        ck_assert_str_eq(in, shape);
        vgg_shape_text(vgg_layer_out_shape(layer), shape, sizeof shape);
        ck_assert_str_eq(shape, chapter[i].shape);
        ck_assert_ptr_eq(vgg_model_find_layer(model, chapter[i].name), layer);
    }
    ck_assert_ptr_null(vgg_model_layer(model, count));
    ck_assert_ptr_eq(vgg_model_output_shape(model),
                     vgg_layer_out_shape(vgg_model_layer(model, count - 1)));
    vgg_model_free(model);
}
END_TEST

START_TEST(parameters_in_order)
{
    static const struct {
        const char *name, *shape;
    } first[] = {
        {"conv1_1.weight", "2x1x3x3"}, {"conv1_1.bias", "2"},
        {"bn1_1.weight", "2"},         {"bn1_1.bias", "2"},
        {"bn1_1.running_mean", "2"},   {"bn1_1.running_var", "2"},
        {"conv2_1.weight", "4x2x3x3"}, {"conv2_1.bias", "4"},
    };
    vgg_model *model = build("d2l_bn", 32);
    char shape[64];
    for (uint32_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        const vgg_param *param = vgg_model_param(model, i);
        ck_assert_str_eq(vgg_param_name(param), first[i].name);
        vgg_shape_text(vgg_param_shape(param), shape, sizeof shape);
        ck_assert_str_eq(shape, first[i].shape);
        ck_assert_int_eq(vgg_param_is_buffer(param),
                         strstr(first[i].name, "running") != NULL);
        ck_assert_int_eq(vgg_param_trainable(param), !vgg_param_is_buffer(param));
    }
    const vgg_param *fc6 = vgg_model_find_param(model, "fc6.weight");
    vgg_shape_text(vgg_param_shape(fc6), shape, sizeof shape);
    ck_assert_str_eq(shape, "4096x784");
    ck_assert_ptr_null(vgg_model_param(model, vgg_model_param_count(model)));
    ck_assert_ptr_null(vgg_model_find_param(model, "fc9.weight"));
    vgg_model_free(model);
}
END_TEST

START_TEST(heads)
{
    static const struct {
        uint32_t head, hidden;
        const char *layers; /* after pool2, on a 4x8x8 map */
        const char *last;   /* torchvision name of the last layer */
    } cases[] = {
        {VGG_HEAD_NONE, 6, "", "features.5"},
        {VGG_HEAD_GAP, 6, "avgpool=4x1x1 flatten=4 fc6=5 ", "classifier.0"},
        {VGG_HEAD_FLATTEN, 0, "flatten=256 fc6=5 ", "classifier.0"},
        {VGG_HEAD_ADAPTIVE, 0, "avgpool=4x7x7 flatten=196 fc6=5 ", "classifier.0"},
        {VGG_HEAD_ADAPTIVE, 6,
         "avgpool=4x7x7 flatten=196 fc6=6 relu6=6 drop6=6 fc7=6 relu7=6 drop7=6 fc8=5 ",
         "classifier.6"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vgg_arch arch = VGG_ARCH_INIT;
        arch.block_count = 2;
        arch.blocks[0].channels = arch.blocks[1].channels = 4;
        arch.height = arch.width = 32;
        arch.classes = 5;
        arch.dropout = 0.0f; /* its layers stand there nevertheless */
        arch.head = cases[i].head;
        arch.hidden = cases[i].hidden;
        vgg_model *model = vgg_build(&arch, 1);
        ck_assert_msg(model != NULL, "%s", vgg_last_error());
        char text[512] = "", shape[64];
        const vgg_layer *layer = NULL;
        for (uint32_t j = 6; j < vgg_model_layer_count(model); j++) {
            layer = vgg_model_layer(model, j);
            vgg_shape_text(vgg_layer_out_shape(layer), shape, sizeof shape);
            const size_t length = strlen(text);
            snprintf(text + length, sizeof text - length, "%s=%s ",
                     vgg_layer_name(layer), shape);
        }
        ck_assert_str_eq(text, cases[i].layers);
        layer = vgg_model_layer(model, vgg_model_layer_count(model) - 1);
        ck_assert_str_eq(vgg_layer_alias(layer), cases[i].last);
        vgg_model_free(model);
    }
}
END_TEST

START_TEST(pointwise_ones_come_last)
{
    vgg_model *model = build("C", 32);
    static const char *const kernels[][2] = {{"conv2_2.weight", "4x4x3x3"},
                                             {"conv3_2.weight", "8x8x3x3"},
                                             {"conv3_3.weight", "8x8x1x1"},
                                             {"conv5_3.weight", "16x16x1x1"}};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        char shape[64];
        vgg_shape_text(vgg_param_shape(vgg_model_find_param(model, kernels[i][0])),
                       shape, sizeof shape);
        ck_assert_str_eq(shape, kernels[i][1]);
    }
    vgg_model_free(model);
}
END_TEST

/* Any ratio up to the smallest block's channels builds, dividing or not. */
START_TEST(any_ratio)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.height = arch.width = 33;
    arch.hidden = 3;
    for (uint32_t ratio = 1; ratio <= 64; ratio += ratio < 8 ? 1 : 7) {
        vgg_model *model = vgg_build(&arch, ratio);
        ck_assert_msg(model != NULL, "ratio %u: %s", ratio, vgg_last_error());
        const vgg_shape *shape =
            vgg_layer_out_shape(vgg_model_find_layer(model, "conv3_1"));
        ck_assert_uint_eq(shape->dim[0], 256 / ratio);
        ck_assert_uint_eq(shape->dim[1], 8); /* 33 -> 16 -> 8 */
        vgg_model_free(model);
    }
}
END_TEST

/* A model knows the architecture it was built from until it becomes something else. */
START_TEST(architecture_is_remembered)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.hidden = 8;
    vgg_model *model = vgg_build(&arch, 32);
    ck_assert(model->has_arch);
    ck_assert_mem_eq(&model->arch, &arch, sizeof arch);
    ck_assert_uint_eq(model->ratio, 32);
    ck_fails(vgg_model_add_linear(model, 0, NULL), VGG_EINVAL);
    ck_assert(model->has_arch);
    ck_ok(vgg_model_add_linear(model, 3, NULL));
    ck_assert(!model->has_arch);
    vgg_model_free(model);
}
END_TEST

/* A plan closes a model, also when it is gone; one that can't be made does not. */
START_TEST(models_with_plans_take_no_layer)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.hidden = 8;
    vgg_model *model = vgg_build(&arch, 32);
    vgg_device *device;
    vgg_plan *plan;
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    ck_ok(vgg_device_open(NULL, "ref", &device));
    opts.max_bytes = 1;
    ck_fails(vgg_plan_create(model, device, &opts, &plan), VGG_ELIMIT);
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_plan_create(model, device, NULL, &plan));
    vgg_plan_free(plan);
    ck_fails_with(vgg_model_add_relu(model, NULL), VGG_ESTATE, "no layer can be added");
    ck_ok(vgg_model_init(model, VGG_INIT_HE, 1));
    vgg_device_free(device);
    vgg_model_free(model);
}
END_TEST

START_TEST(failures_give_nothing)
{
    vgg_arch arch = VGG_ARCH_INIT;
    ck_assert_ptr_null(vgg_build(&arch, 0));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "ratio is 0"));
    ck_assert_ptr_null(vgg_build(NULL, 1));
    ck_assert_ptr_null(vgg_build(&arch, 65));

    vgg_model *model = (vgg_model *)&arch;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    ck_fails(vgg_model_create(NULL, &arch, 1, NULL, NULL), VGG_EINVAL);
    opts.init = 3;
    ck_fails_with(vgg_model_create(NULL, &arch, 1, &opts, &model), VGG_EINVAL,
                  "init is 3, needs 0 to 2");
    ck_assert_ptr_null(model);
    opts.init = VGG_INIT_HE;
    opts.reserved = 1;
    ck_fails_with(vgg_model_create(NULL, &arch, 1, &opts, &model), VGG_EINVAL,
                  "reserved is 1");
    vgg_model_free(NULL);
}
END_TEST

/* 43.1 M parameters do not fit in 100 MB; and a context gets everything back. */
START_TEST(memory_is_counted)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = 100000000;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    const uint64_t before = vgg_context_bytes(ctx);
    vgg_arch arch = VGG_ARCH_INIT;
    vgg_model *model = NULL;
    ck_fails(vgg_model_create(ctx, &arch, 4, NULL, &model), VGG_ENOMEM);
    ck_assert_ptr_null(model);
    ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    arch.hidden = 16;
    ck_ok(vgg_model_create(ctx, &arch, 4, NULL, &model));
    ck_assert_uint_gt(vgg_context_bytes(ctx), before + 4 * vgg_model_parameters(model));
    vgg_model_free(model);
    ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("build");
    TCase *tc = tcase_create("networks");
    tcase_set_timeout(tc, 120); /* VGG-19's weights under a sanitiser */
    tcase_add_loop_test(tc, counts_match, 0, (int)(sizeof counts / sizeof counts[0]));
    tcase_add_loop_test(tc, aliases_are_torchvisions_keys, 0,
                        (int)(sizeof keys / sizeof keys[0]));
    tcase_add_test(tc, chapter_layer_by_layer);
    tcase_add_test(tc, parameters_in_order);
    tcase_add_test(tc, heads);
    tcase_add_test(tc, pointwise_ones_come_last);
    tcase_add_test(tc, any_ratio);
    tcase_add_test(tc, architecture_is_remembered);
    tcase_add_test(tc, models_with_plans_take_no_layer);
    tcase_add_test(tc, failures_give_nothing);
    tcase_add_test(tc, memory_is_counted);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
