/* SPDX-License-Identifier: Apache-2.0 */
/* Lowering: which layers become one stage, for engines that fuse much, little or
 * nothing. The engine here is a made-up one: only its `fusions` and `supports` are
 * asked. */
#include <string.h>

#include "harness.h"
#include "plan/lower.h"
#include "plan/plan.h"

enum { ALL = VGG_FUSE_RELU | VGG_FUSE_POOL | VGG_FUSE_BATCH_NORM | VGG_FUSE_DROPOUT };

static bool supports_all(void *state, const vgg_stage *stage, uint32_t precision,
                         const char **why)
{
    return true;
}

static bool refuses_fused_pool(void *state, const vgg_stage *stage, uint32_t precision,
                               const char **why)
{
    *why = "no fused pool today";
    return stage->kind != VGG_STAGE_CONV || stage->pool == VGG_NO_POOL;
}

static bool refuses_linear(void *state, const vgg_stage *stage, uint32_t precision,
                           const char **why)
{
    *why = "linear layers are beneath it";
    return stage->kind != VGG_STAGE_LINEAR;
}

static vgg_engine engine;
static vgg_device device;

static void set_engine(uint32_t fusions, bool (*supports)(void *, const vgg_stage *,
                                                          uint32_t, const char **))
{
    engine = (vgg_engine){.name = "made-up", .fusions = fusions, .supports = supports};
    device = (vgg_device){.engine = &engine};
}

static vgg_model *build(uint32_t batch_norm)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.batch_norm = batch_norm;
    arch.height = arch.width = 32;
    arch.hidden = 16;
    vgg_model *model = vgg_build(&arch, 16);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    return model;
}

static struct vgg__lowered *lower(vgg_model *model, const char *const *taps,
                                  uint32_t tap_count, uint32_t mode)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.taps = taps;
    opts.tap_count = tap_count;
    opts.mode = mode;
    struct vgg__lowered *lowered;
    ck_ok(vgg__lower(model, &device, &opts, &lowered));
    return lowered;
}

static const vgg_stage *find(const struct vgg__lowered *lowered, const char *name)
{
    for (uint32_t i = 0; i < lowered->desc.stage_count; i++)
        if (strcmp(lowered->stages[i].name, name) == 0) return &lowered->stages[i];
    ck_abort_msg("no stage %s", name);
}

START_TEST(fuses_everything_it_can)
{
    set_engine(ALL, supports_all);
    vgg_model *model = build(1);
    struct vgg__lowered *lowered = lower(model, NULL, 0, VGG_MODE_TRAIN);
    /* 8 convolutions, 3 linear layers, the loss */
    ck_assert_uint_eq(lowered->desc.stage_count, 12);

    const vgg_stage *conv = find(lowered, "conv1_1..pool1");
    ck_assert(conv->batch_norm && conv->relu && conv->pool == VGG_MAX_POOL);
    ck_assert_uint_eq(conv->mid.h, 32);
    ck_assert_uint_eq(conv->out.h, 16);
    ck_assert(conv->weight == 0 && conv->bias == 1 && conv->gamma == 2 &&
              conv->beta == 3 && conv->mean == 4 && conv->var == 5);
    ck_assert(!conv->input_relu);
    ck_assert(find(lowered, "conv2_1..pool2")->input_relu);

    const vgg_stage *fc6 = find(lowered, "fc6..drop6");
    ck_assert(fc6->relu && fc6->flattened);
    ck_assert_float_eq(fc6->dropout, 0.5f);
    ck_assert_uint_eq(fc6->in.c, 32);
    ck_assert_uint_eq(fc6->dropout_layer, vgg_model_find_layer(model, "drop6")->index);
    ck_assert_uint_eq(find(lowered, "loss")->kind, VGG_STAGE_LOSS);
    vgg__lowered_free(lowered);
    vgg_model_free(model);
}
END_TEST

START_TEST(fuses_nothing_for_a_plain_engine)
{
    set_engine(0, supports_all);
    vgg_model *model = build(1);
    struct vgg__lowered *lowered = lower(model, NULL, 0, VGG_MODE_TRAIN);
    /* 8 x (conv bn relu) + 5 pools + 3 linear + 2 relu + 2 dropout + loss; the flatten
     * before fc6 is the one layer without a stage */
    ck_assert_uint_eq(lowered->desc.stage_count, 24 + 5 + 7 + 1);
    ck_assert_uint_eq(find(lowered, "relu1_1")->kind, VGG_STAGE_RELU);
    ck_assert_uint_eq(find(lowered, "drop7")->kind, VGG_STAGE_DROPOUT);
    vgg__lowered_free(lowered);
    vgg_model_free(model);
}
END_TEST

START_TEST(takes_no_for_an_answer)
{
    set_engine(ALL, refuses_fused_pool);
    vgg_model *model = build(0);
    struct vgg__lowered *lowered = lower(model, NULL, 0, VGG_MODE_TRAIN);
    ck_assert_uint_eq(find(lowered, "conv1_1..relu1_1")->pool, VGG_NO_POOL);
    ck_assert_uint_eq(find(lowered, "conv1_1..relu1_1")->out.h, 32);
    ck_assert_uint_eq(find(lowered, "pool1")->kind, VGG_STAGE_POOL);
    vgg__lowered_free(lowered);
    vgg_model_free(model);
}
END_TEST

START_TEST(says_what_an_engine_cannot_run)
{
    set_engine(ALL, refuses_linear);
    vgg_model *model = build(0);
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    struct vgg__lowered *lowered;
    ck_fails_with(vgg__lower(model, &device, &opts, &lowered), VGG_EUNSUPPORTED,
                  "fc6: engine made-up can't run it: linear layers are beneath it");
    ck_assert_ptr_null(lowered);
    vgg_model_free(model);
}
END_TEST

START_TEST(taps_split_stages)
{
    set_engine(ALL, supports_all);
    vgg_model *model = build(0);
    const char *const taps[] = {"conv2_1", "relu3_2", "features.0", "flatten",
                                "conv2_1"};
    struct vgg__lowered *lowered = lower(model, taps, 5, VGG_MODE_TRAIN);
    ck_assert_int_ge(find(lowered, "conv2_1")->tap, 0);
    ck_assert_int_eq(find(lowered, "relu2_1")->tap, -1);
    ck_assert_int_ge(find(lowered, "conv3_2..relu3_2")->tap, 0);
    ck_assert_uint_eq(find(lowered, "pool3")->kind, VGG_STAGE_POOL);
    ck_assert_int_ge(find(lowered, "conv1_1")->tap, 0);
    ck_assert_uint_eq(find(lowered, "flatten")->kind, VGG_STAGE_FLATTEN);
    ck_assert(!find(lowered, "fc6..drop6")->flattened);
    ck_assert_uint_eq(lowered->tap_number[0], lowered->tap_number[4]);
    ck_assert_int_eq(find(lowered, "conv3_2..relu3_2")->tap,
                     (int)lowered->tap_number[1]);
    vgg__lowered_free(lowered);

    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    const char *const unknown[] = {"conv9_9"};
    opts.taps = unknown;
    opts.tap_count = 1;
    ck_fails_with(vgg__lower(model, &device, &opts, &lowered), VGG_EINVAL, "conv9_9");
    vgg_model_free(model);
}
END_TEST

START_TEST(dropout_is_idle_outside_training)
{
    set_engine(0, supports_all);
    vgg_model *model = build(0);
    const char *const taps[] = {"drop6", "relu6"};
    for (uint32_t mode = VGG_MODE_INFER; mode <= VGG_MODE_GRAD; mode += 2) {
        struct vgg__lowered *lowered = lower(model, taps, 2, mode);
        for (uint32_t i = 0; i < lowered->desc.stage_count; i++)
            ck_assert_uint_ne(lowered->stages[i].kind, VGG_STAGE_DROPOUT);
        ck_assert_uint_eq(lowered->tap_number[0], lowered->tap_number[1]);
        vgg__lowered_free(lowered);
    }
    vgg_model_free(model);
}
END_TEST

START_TEST(one_layer_alone)
{
    set_engine(ALL, supports_all);
    const vgg_shape input = {3, {2, 5, 5}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(NULL, &input, &model));
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    struct vgg__lowered *lowered;
    ck_fails_with(vgg__lower(model, &device, &opts, &lowered), VGG_EINVAL, "no layers");
    ck_ok(vgg_model_add_dropout(model, 0.5f, NULL));
    lowered = lower(model, NULL, 0, VGG_MODE_INFER);
    ck_assert_uint_eq(lowered->desc.stage_count, 1);
    ck_assert_float_eq(lowered->stages[0].dropout, 0.0f);
    vgg__lowered_free(lowered);
    vgg_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lower");
    TCase *tc = tcase_create("stages");
    tcase_add_test(tc, fuses_everything_it_can);
    tcase_add_test(tc, fuses_nothing_for_a_plain_engine);
    tcase_add_test(tc, takes_no_for_an_answer);
    tcase_add_test(tc, says_what_an_engine_cannot_run);
    tcase_add_test(tc, taps_split_stages);
    tcase_add_test(tc, dropout_is_idle_outside_training);
    tcase_add_test(tc, one_layer_alone);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
