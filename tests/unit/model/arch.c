/* SPDX-License-Identifier: Apache-2.0 */
/* Architectures: the presets, and every way to get one wrong with its status and text.
 */
#include "harness.h"

#include <math.h>
#include <string.h>
#include <vgg/model.h>

START_TEST(presets_are_the_papers)
{
    static const struct {
        const char *name;
        uint32_t convs[5], pointwise, batch_norm;
    } expected[] = {
        {"vgg11", {1, 1, 2, 2, 2}, 0, 0},    {"vgg13", {2, 2, 2, 2, 2}, 0, 0},
        {"vgg16", {2, 2, 3, 3, 3}, 0, 0},    {"vgg16c", {2, 2, 3, 3, 3}, 1, 0},
        {"vgg19", {2, 2, 4, 4, 4}, 0, 0},    {"vgg11_bn", {1, 1, 2, 2, 2}, 0, 1},
        {"vgg19_bn", {2, 2, 4, 4, 4}, 0, 1}, {"A", {1, 1, 2, 2, 2}, 0, 0},
        {"B", {2, 2, 2, 2, 2}, 0, 0},        {"C", {2, 2, 3, 3, 3}, 1, 0},
        {"D", {2, 2, 3, 3, 3}, 0, 0},        {"E", {2, 2, 4, 4, 4}, 0, 0},
    };
    static const uint32_t channels[5] = {64, 128, 256, 512, 512};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        vgg_arch arch = VGG_ARCH_INIT;
        ck_ok(vgg_arch_preset(expected[i].name, &arch));
        ck_assert_uint_eq(arch.block_count, 5);
        for (uint32_t b = 0; b < 5; b++) {
            ck_assert_uint_eq(arch.blocks[b].convs, expected[i].convs[b]);
            ck_assert_uint_eq(arch.blocks[b].channels, channels[b]);
            ck_assert_uint_eq(arch.blocks[b].pointwise,
                              b < 2 ? 0 : expected[i].pointwise);
        }
        ck_assert_uint_eq(arch.channels, 3);
        ck_assert_uint_eq(arch.height, 224);
        ck_assert_uint_eq(arch.width, 224);
        ck_assert_uint_eq(arch.classes, 1000);
        ck_assert_uint_eq(arch.hidden, 4096);
        ck_assert_uint_eq(arch.head, VGG_HEAD_ADAPTIVE);
        ck_assert_uint_eq(arch.batch_norm, expected[i].batch_norm);
        ck_assert_float_eq(arch.dropout, 0.5f);
        ck_ok(vgg_arch_check(&arch, 1));
    }
}
END_TEST

START_TEST(chapter_is_the_default)
{
    const vgg_arch initial = VGG_ARCH_INIT;
    vgg_arch arch = VGG_ARCH_INIT;
    ck_ok(vgg_arch_preset("vgg19_bn", &arch)); /* everything differs now */
    ck_ok(vgg_arch_preset("d2l", &arch));
    ck_assert_mem_eq(&arch, &initial, sizeof arch);
    ck_ok(vgg_arch_check(&arch, 4));
}
END_TEST

START_TEST(every_listed_name_is_known)
{
    uint32_t count = 0;
    for (const char *name; (name = vgg_arch_preset_name(count)) != NULL; count++) {
        vgg_arch arch = VGG_ARCH_INIT;
        ck_ok(vgg_arch_preset(name, &arch));
        ck_ok(vgg_arch_check(&arch, 4));
    }
    ck_assert_uint_eq(count, 17); /* six networks, with _bn, and five letters */
    ck_assert_ptr_null(vgg_arch_preset_name(UINT32_MAX));
}
END_TEST

START_TEST(unknown_names_change_nothing)
{
    const vgg_arch initial = VGG_ARCH_INIT;
    vgg_arch arch = VGG_ARCH_INIT;
    ck_fails_with(vgg_arch_preset("vgg12", &arch), VGG_EINVAL, "\"vgg12\"");
    ck_fails_with(vgg_arch_preset("vgg12", &arch), VGG_EINVAL, "vgg16c_bn");
    ck_fails(vgg_arch_preset("", &arch), VGG_EINVAL);
    ck_fails(vgg_arch_preset("vgg1", &arch), VGG_EINVAL); /* no prefixes */
    ck_fails(vgg_arch_preset("a", &arch), VGG_EINVAL);
    ck_fails(vgg_arch_preset(NULL, &arch), VGG_EINVAL);
    ck_fails(vgg_arch_preset("d2l", NULL), VGG_EINVAL);
    ck_assert_mem_eq(&arch, &initial, sizeof arch);
    arch.size = 0;
    ck_fails_with(vgg_arch_preset("d2l", &arch), VGG_EINVAL,
                  "size: expected 240, found 0");
}
END_TEST

/* ---- Wrong architectures: one change to the chapter's network each
 * ------------------- */

static void no_blocks(vgg_arch *a)
{
    a->block_count = 0;
}
static void many_blocks(vgg_arch *a)
{
    a->block_count = 17;
}
static void no_convs(vgg_arch *a)
{
    a->blocks[2].convs = 0;
}
static void many_pointwise(vgg_arch *a)
{
    a->blocks[3].pointwise = 3;
}
static void no_channels(vgg_arch *a)
{
    a->blocks[0].channels = 0;
}
static void no_input_channels(vgg_arch *a)
{
    a->channels = 0;
}
static void no_height(vgg_arch *a)
{
    a->height = 0;
}
static void no_width(vgg_arch *a)
{
    a->width = 0;
}
static void no_classes(vgg_arch *a)
{
    a->classes = 0;
}
static void dropout_one(vgg_arch *a)
{
    a->dropout = 1.0f;
}
static void dropout_nan(vgg_arch *a)
{
    a->dropout = NAN;
}
static void dropout_negative(vgg_arch *a)
{
    a->dropout = -0.1f;
}
static void dropout_infinite(vgg_arch *a)
{
    a->dropout = INFINITY;
}
static void head_unknown(vgg_arch *a)
{
    a->head = 4;
}
static void pool_unknown(vgg_arch *a)
{
    a->pool = 2;
}
static void batch_norm_two(vgg_arch *a)
{
    a->batch_norm = 2;
}
static void small(vgg_arch *a)
{
    a->height = a->width = 16;
}
static void narrow(vgg_arch *a)
{
    a->width = 31;
}
static void huge_height(vgg_arch *a)
{
    a->height = 1u << 31;
}
static void huge_input(vgg_arch *a)
{
    a->height = a->width = 1u << 21;
}
static void huge_channels(vgg_arch *a)
{
    a->blocks[4].channels = 1u << 31;
}
static void huge_map(vgg_arch *a)
{
    a->height = a->width = 1u << 18; /* 64 channels of 2^36 pixels */
}
static void huge_weight(vgg_arch *a)
{
    a->blocks[4].channels = 1u << 30;
}
static void huge_flat(vgg_arch *a)
{
    a->height = a->width = 1u << 16;
}
static void huge_hidden(vgg_arch *a)
{
    a->hidden = 1u << 30;
}
static void huge_classes(vgg_arch *a)
{
    a->classes = UINT32_MAX;
}
static void huge_work(vgg_arch *a)
{
    a->blocks[0].channels = 1u << 15; /* 9 * 2^30 weights on 2^24 places */
    a->blocks[0].convs = 2;
    a->height = a->width = 1u << 12;
}
static void many_layers(vgg_arch *a)
{
    a->blocks[0].convs = UINT32_MAX;
}
static void size_zero(vgg_arch *a)
{
    a->size = 0;
}

static const struct {
    void (*change)(vgg_arch *arch);
    vgg_status status;
    const char *text;
} wrong[] = {
    {no_blocks, VGG_EINVAL, "block_count is 0, needs 1 to 16"},
    {many_blocks, VGG_EINVAL, "block_count is 17, needs 1 to 16"},
    {no_convs, VGG_EINVAL, "block 3: 0 convs, needs at least 1"},
    {many_pointwise, VGG_EINVAL, "block 4: 3 pointwise of 2 convs"},
    {no_channels, VGG_EINVAL, "block 1: 0 channels / ratio 1 = 0, needs at least 1"},
    {no_input_channels, VGG_EINVAL, "channels is 0, needs at least 1"},
    {no_height, VGG_EINVAL, "height is 0"},
    {no_width, VGG_EINVAL, "width is 0"},
    {no_classes, VGG_EINVAL, "classes is 0, needs at least 1"},
    {dropout_one, VGG_EINVAL, "dropout is 1 or more"},
    {dropout_nan, VGG_EINVAL, "dropout is NaN"},
    {dropout_negative, VGG_EINVAL, "dropout is below 0"},
    {dropout_infinite, VGG_EINVAL, "dropout is 1 or more"},
    {head_unknown, VGG_EINVAL, "head is 4, needs 0 to 3"},
    {pool_unknown, VGG_EINVAL, "pool is 2, needs 0 to 1"},
    {batch_norm_two, VGG_EINVAL, "batch_norm is 2, needs 0 to 1"},
    {small, VGG_ESHAPE, "input 1x16x16 is too small for 5 pools: block 5 gets 1x1"},
    {narrow, VGG_ESHAPE, "input 1x224x31 is too small for 5 pools: block 5 gets 14x1"},
    {huge_height, VGG_ELIMIT, "limit of an extent is 2147483647"},
    {huge_input, VGG_ELIMIT, "input: a sample of 1x2097152x2097152 elements"},
    {huge_channels, VGG_ELIMIT, "block 5: 2147483648 output channels"},
    {huge_map, VGG_ELIMIT, "block 1: an output of 64x262144x262144 elements"},
    {huge_weight, VGG_ELIMIT, "block 5: a parameter of 1073741824x512x3x3 elements"},
    {huge_flat, VGG_ELIMIT, "flatten: 2147483648 features, limit is 2147483647"},
    {huge_hidden, VGG_ELIMIT, "hidden: a parameter of 1073741824x25088 elements"},
    {huge_classes, VGG_ELIMIT, "classes: 4294967295 output features"},
    {huge_work, VGG_ELIMIT, "block 1: over 2^52 multiplications a sample"},
    {many_layers, VGG_ELIMIT, "8589934617 layers, limit is 1024"},
    {size_zero, VGG_EINVAL, "vgg_arch"},
};

START_TEST(wrong_ones_are_refused)
{
    vgg_arch arch = VGG_ARCH_INIT;
    wrong[_i].change(&arch);
    ck_fails_with(vgg_arch_check(&arch, 1), wrong[_i].status, wrong[_i].text);
}
END_TEST

START_TEST(wrong_ratios_are_refused)
{
    vgg_arch arch = VGG_ARCH_INIT;
    ck_fails_with(vgg_arch_check(&arch, 0), VGG_EINVAL, "ratio is 0, needs at least 1");
    ck_fails_with(vgg_arch_check(&arch, 65), VGG_EINVAL,
                  "block 1: 64 channels / ratio 65 = 0, needs at least 1");
    ck_fails(vgg_arch_check(&arch, UINT32_MAX), VGG_EINVAL);
    arch.blocks[0].channels = 2048;
    arch.blocks[1].channels = 2048;
    arch.blocks[2].channels = 2048;
    arch.blocks[3].channels = 2048;
    ck_fails_with(vgg_arch_check(&arch, 1024), VGG_EINVAL,
                  "block 5: 512 channels / ratio 1024 = 0, needs at least 1");
    ck_fails(vgg_arch_check(NULL, 1), VGG_EINVAL);
}
END_TEST

/* Just as many as a model may have, and one convolution with its ReLU more. */
START_TEST(most_layers)
{
    static const struct {
        uint32_t head, hidden, head_layers;
    } heads[] = {{VGG_HEAD_NONE, 5, 0},     {VGG_HEAD_GAP, 5, 3},
                 {VGG_HEAD_FLATTEN, 5, 8},  {VGG_HEAD_FLATTEN, 0, 2},
                 {VGG_HEAD_ADAPTIVE, 5, 9}, {VGG_HEAD_ADAPTIVE, 0, 3}};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        const uint32_t rest = 1024 - heads[i].head_layers;
        vgg_arch arch = VGG_ARCH_INIT;
        vgg_model *model;
        arch.block_count = 2 - rest % 2; /* a pooling each */
        arch.blocks[0] = (vgg_block){(rest - arch.block_count) / 2, 1, 0};
        arch.blocks[1] = (vgg_block){1, 1, 0};
        if (arch.block_count == 2) arch.blocks[0].convs--;
        arch.height = arch.width = 4;
        arch.head = heads[i].head;
        arch.hidden = heads[i].hidden;
        ck_ok(vgg_model_create(NULL, &arch, 1, NULL, &model));
        ck_assert_uint_eq(vgg_model_layer_count(model), 1024);
        vgg_model_free(model);
        arch.blocks[0].convs++;
        ck_fails_with(vgg_arch_check(&arch, 1), VGG_ELIMIT, "layers, limit is 1024");
    }
}
END_TEST

START_TEST(unused_fields_are_not_checked)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.head = VGG_HEAD_NONE;
    arch.classes = 0;
    arch.hidden = UINT32_MAX;
    ck_ok(vgg_arch_check(&arch, 1));
    arch.head = VGG_HEAD_GAP;
    arch.classes = 10;
    ck_ok(vgg_arch_check(&arch, 1));
    arch.head = VGG_HEAD_FLATTEN;
    arch.hidden = 0;
    ck_ok(vgg_arch_check(&arch, 1));
    arch.blocks[9].convs = 0; /* past block_count */
    ck_ok(vgg_arch_check(&arch, 64));
}
END_TEST

/* 2^20 x 2^20 weights are at the limit, but only of a 1x1 convolution. */
START_TEST(pointwise_ones_are_smaller)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.height = arch.width = 4;
    arch.blocks[0] = (vgg_block){1, 1u << 20, 0};
    arch.blocks[1] = (vgg_block){1, 1u << 20, 1};
    arch.head = VGG_HEAD_NONE;
    ck_ok(vgg_arch_check(&arch, 1));
    arch.blocks[1].pointwise = 0;
    ck_fails_with(vgg_arch_check(&arch, 1), VGG_ELIMIT,
                  "block 2: a parameter of 1048576x1048576x3x3");
}
END_TEST

START_TEST(an_unknown_tail_is_refused)
{
    struct {
        vgg_arch arch;
        uint64_t later;
    } newer = {VGG_ARCH_INIT, 0};
    newer.arch.size = sizeof newer;
    ck_ok(vgg_arch_check(&newer.arch, 1));
    newer.later = 1;
    ck_fails(vgg_arch_check(&newer.arch, 1), VGG_EUNSUPPORTED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arch");
    TCase *presets = tcase_create("presets");
    tcase_add_test(presets, presets_are_the_papers);
    tcase_add_test(presets, chapter_is_the_default);
    tcase_add_test(presets, every_listed_name_is_known);
    tcase_add_test(presets, unknown_names_change_nothing);
    suite_add_tcase(suite, presets);
    TCase *checks = tcase_create("checks");
    tcase_add_loop_test(checks, wrong_ones_are_refused, 0,
                        (int)(sizeof wrong / sizeof wrong[0]));
    tcase_add_test(checks, wrong_ratios_are_refused);
    tcase_add_test(checks, most_layers);
    tcase_add_test(checks, unused_fields_are_not_checked);
    tcase_add_test(checks, pointwise_ones_are_smaller);
    tcase_add_test(checks, an_unknown_tail_is_refused);
    suite_add_tcase(suite, checks);
    return harness_main(&suite, 1);
}
