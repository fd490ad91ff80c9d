/* SPDX-License-Identifier: Apache-2.0 */
/* What a plan says of its stages: operations and bytes by hand, and times that belong
 * to the right stage and phase. */
#include <string.h>
#include <vgg/train.h>

#include "core/clock.h"
#include "device/device.h"
#include "harness.h"
#include "plan/plan.h"
#include "remote.h"

enum { BATCH = 4, STAGES_MOST = 32 };

static const char *const engines[] = {"ref", "cpu"};
static const uint32_t labels[BATCH] = {0, 2, 1, 2};

static vgg_device *device;
static vgg_model *model;
static vgg_tensor *images; /* [BATCH][2][16][16] */

/* conv 2 -> 16, pool, conv 16 -> 16, pool, then 256 -> 8 -> 8 -> 3 */
static void open_engine(const char *name)
{
    ck_ok(vgg_device_open(NULL, name, &device));
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.blocks[0] = arch.blocks[1] = (vgg_block){1, 16, 0};
    arch.channels = 2;
    arch.height = arch.width = 16;
    arch.hidden = 8;
    arch.classes = 3;
    arch.dropout = 0.0f;
    ck_ok(vgg_model_create(NULL, &arch, 1, NULL, &model));
    const vgg_shape shape = {4, {BATCH, 2, 16, 16}};
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &images));
    for (int i = 0; i < BATCH * 2 * 256; i++)
        ((float *)vgg_tensor_data(images))[i] = (float)(i * 37 % 64) / 64.0f;
}

static void close_engine(void)
{
    vgg_tensor_free(images);
    vgg_model_free(model);
    vgg_device_free(device);
}

static vgg_plan *make(vgg_plan_options opts)
{
    vgg_plan *plan;
    opts.batch = BATCH;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_assert_uint_le(vgg_plan_stage_count(plan), STAGES_MOST);
    return plan;
}

static vgg_plan *make_mode(uint32_t mode)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = mode;
    return make(opts);
}

/* The stage that begins with a layer, with its number. */
static vgg_stage_info find(const vgg_plan *plan, const char *layer, uint32_t *index)
{
    for (uint32_t i = 0; i < vgg_plan_stage_count(plan); i++) {
        vgg_stage_info info;
        ck_ok(vgg_plan_stage(plan, i, &info));
        const size_t length = strlen(layer);
        if (strncmp(info.name, layer, length) != 0) continue;
        if (info.name[length] != '\0' && info.name[length] != '.') continue;
        if (index != NULL) *index = i;
        return info;
    }
    ck_abort_msg("no stage %s", layer);
}

static double forward_sum(const vgg_plan *plan)
{
    double sum = 0.0;
    for (uint32_t i = 0; i < vgg_plan_stage_count(plan); i++) {
        vgg_stage_info info;
        ck_ok(vgg_plan_stage(plan, i, &info));
        sum += info.forward_flops;
    }
    return sum;
}

START_TEST(operations_by_hand)
{
    open_engine(engines[_i]);
    vgg_plan *train = make_mode(VGG_MODE_TRAIN), *infer = make_mode(VGG_MODE_INFER);
    const double first = 2.0 * 16 * 2 * 9 * 256 * BATCH;
    const double second = 2.0 * 16 * 16 * 9 * 64 * BATCH;
    const double linear = 2.0 * 256 * 8 * BATCH;
    vgg_stage_info info = find(train, "conv1_1", NULL);
    ck_assert_double_eq(info.forward_flops, first);
    ck_assert_double_eq(info.backward_flops, first); /* nobody wants the images' */
    info = find(train, "conv2_1", NULL);
    ck_assert_double_eq(info.forward_flops, second);
    ck_assert_double_eq(info.backward_flops, 2 * second);
    info = find(train, "fc6", NULL);
    ck_assert_double_eq(info.forward_flops, linear);
    ck_assert_double_eq(info.backward_flops, 2 * linear);
    ck_assert_double_eq(find(train, "loss", NULL).forward_flops, 0.0);
    ck_assert_double_eq(find(infer, "conv2_1", NULL).forward_flops, second);
    ck_assert_double_eq(find(infer, "conv2_1", NULL).backward_flops, 0.0);
    ck_assert_uint_eq(find(infer, "conv2_1", NULL).backward_bytes, 0);
    ck_assert_double_eq(forward_sum(train),
                        2.0 * BATCH * (double)vgg_model_macs(model));
    vgg_plan_free(train);
    vgg_plan_free(infer);

    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_GRAD;
    opts.input_gradient = 1;
    vgg_plan *grad = make(opts);
    ck_assert_double_eq(find(grad, "conv1_1", NULL).backward_flops, 2 * first);
    vgg_plan_free(grad);
    close_engine();
}
END_TEST

/* Frozen layers before the first that learns have no backward. */
START_TEST(frozen_layers_do_less)
{
    open_engine(engines[_i]);
    ck_ok(vgg_param_set_trainable(vgg_model_find_param(model, "conv1_1.weight"), 0));
    ck_ok(vgg_param_set_trainable(vgg_model_find_param(model, "conv1_1.bias"), 0));
    vgg_plan *train = make_mode(VGG_MODE_TRAIN);
    const vgg_stage_info frozen = find(train, "conv1_1", NULL);
    const vgg_stage_info second = find(train, "conv2_1", NULL);
    ck_assert_double_eq(frozen.backward_flops, 0.0);
    ck_assert_uint_eq(frozen.backward_bytes, 0);
    ck_assert_double_eq(second.backward_flops, second.forward_flops);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

START_TEST(shapes_and_bytes)
{
    open_engine(engines[_i]);
    vgg_plan *train = make_mode(VGG_MODE_TRAIN);
    const bool fused = strcmp(engines[_i], "cpu") == 0; /* with the pool */
    const uint32_t side = fused ? 8 : 16;
    vgg_stage_info info = find(train, "conv1_1", NULL);
    ck_assert_str_eq(info.kind, "conv");
    ck_assert_str_eq(info.name, fused ? "conv1_1..pool1" : "conv1_1");
    ck_assert_uint_eq(info.in.rank, 3);
    ck_assert_uint_eq(info.in.dim[0], 2);
    ck_assert_uint_eq(info.in.dim[2], 16);
    ck_assert_uint_eq(info.out.dim[0], 16);
    ck_assert_uint_eq(info.out.dim[1], side);
    const uint64_t in = 4 * BATCH * 2 * 256, out = 4 * BATCH * 16 * side * side;
    const uint64_t params = 4 * (16 * 2 * 9 + 16);
    ck_assert_uint_eq(info.forward_bytes, in + out + params);
    ck_assert_uint_eq(info.backward_bytes, out + in + params);

    /* Its flatten is folded into it: what goes in is the map. */
    info = find(train, "fc6", NULL);
    ck_assert_uint_eq(info.in.rank, 3);
    ck_assert_uint_eq(info.in.dim[1], 4);
    ck_assert_uint_eq(info.out.rank, 1);
    ck_assert_uint_eq(info.out.dim[0], 8);
    const uint64_t features = 4 * BATCH * 256, hidden = 4 * BATCH * 8;
    const uint64_t weights = 4 * 256 * 8, bias = 4 * 8;
    ck_assert_uint_eq(info.forward_bytes, features + hidden + weights + bias);
    /* dy, x, dx, weights, and both gradients */
    ck_assert_uint_eq(info.backward_bytes,
                      hidden + 2 * features + weights + weights + bias);
    ck_assert_uint_eq(find(train, "loss", NULL).in.dim[0], 3);
    if (fused) {
        vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
        opts.weights = VGG_BF16;
        vgg_plan *infer = make(opts);
        ck_assert_uint_eq(find(infer, "fc6", NULL).forward_bytes,
                          features + hidden + weights / 2 + bias);
        vgg_plan_free(infer);
    }

    const char *at = strstr(vgg_plan_describe(train), info.name);
    ck_assert_ptr_nonnull(at);
    ck_assert_ptr_nonnull(strstr(at, info.algorithm));
    ck_assert_uint_gt(strlen(info.algorithm), 0);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

static void step(vgg_plan *plan, uint64_t t)
{
    ck_ok(vgg_plan_forward(plan, images, NULL));
    ck_ok(vgg_plan_loss(plan, labels, 0.0f, 1.0f, NULL, NULL));
    ck_ok(vgg_plan_backward(plan));
    ck_ok(vgg_plan_update(plan, NULL, 0.01, t));
    ck_ok(vgg_plan_zero_gradients(plan));
}

/* The sum over the stages is what the total says, and no more than the clock. */
static void check_sums(const vgg_plan *plan, const vgg_plan_time *total,
                       const vgg_stage_time *stages, double wall)
{
    double forward = 0.0, backward = 0.0, prepare = 0.0;
    const uint32_t count = vgg_plan_stage_count(plan);
    for (uint32_t i = 0; i + 1 < count; i++) {
        forward += stages[i].forward;
        backward += stages[i].backward;
        prepare += stages[i].prepare;
    }
    const double tiny = 1e-12; /* sums of doubles below a second */
    ck_assert_double_eq_tol(total->forward, forward, tiny);
    ck_assert_double_eq_tol(total->backward, backward, tiny);
    ck_assert_double_eq_tol(total->prepare, prepare, tiny);
    ck_assert_double_eq_tol(total->loss, stages[count - 1].forward, tiny);
    ck_assert_double_le(total->input + total->prepare + total->forward + total->loss +
                            total->backward + total->update,
                        wall + tiny);
}

/* Names as long as they may be stand whole in both. */
START_TEST(longest_names)
{
    const vgg_shape in = {3, {1, 8, 8}};
    char name[64] = "";
    vgg_plan *plan;
    vgg_stage_info info;
    ck_ok(vgg_device_open(NULL, engines[_i], &device));
    ck_ok(vgg_model_create_empty(NULL, &in, &model));
    memset(name, 'c', 63);
    ck_ok(vgg_model_add_conv(model, 4, 3, name));
    memset(name, 'r', 63);
    ck_ok(vgg_model_add_relu(model, name));
    ck_ok(vgg_plan_create(model, device, NULL, &plan));
    for (uint32_t i = 0; i + 1 < vgg_plan_stage_count(plan); i++) {
        ck_ok(vgg_plan_stage(plan, i, &info));
        ck_assert_msg(strstr(vgg_plan_describe(plan), info.name) != NULL, "%s",
                      vgg_plan_describe(plan));
    }
    ck_assert_ptr_nonnull(strstr(vgg_plan_describe(plan), name));
    vgg_plan_free(plan);
    vgg_model_free(model);
    vgg_device_free(device);
}
END_TEST

START_TEST(times_add_up)
{
    open_engine(engines[_i]);
    vgg_plan *train = make_mode(VGG_MODE_TRAIN);
    vgg_plan_time total;
    vgg_stage_time stages[STAGES_MOST];
    ck_ok(vgg_plan_times(train, &total, stages));
    check_sums(train, &total, stages, 0.0);
    ck_assert_uint_eq(total.forwards + total.losses + total.backwards, 0);
    ck_assert_uint_eq(total.updates, 0);

    const double begin = vgg__seconds();
    for (uint64_t t = 1; t <= 5; t++) step(train, t);
    ck_ok(vgg_plan_forward(train, images, NULL));
    const double wall = vgg__seconds() - begin;
    ck_ok(vgg_plan_times(train, &total, stages));
    check_sums(train, &total, stages, wall);
    ck_assert_uint_eq(total.forwards, 6);
    ck_assert_uint_eq(total.losses, 5);
    ck_assert_uint_eq(total.backwards, 5);
    ck_assert_uint_eq(total.updates, 5);
    ck_assert_double_gt(total.loss, 0.0);
    ck_assert_double_gt(total.update, 0.0);
    ck_assert_double_gt(total.input, 0.0);
    uint32_t conv;
    find(train, "conv2_1", &conv);
    if (_i == 1) ck_assert_double_gt(stages[conv].prepare, 0.0); /* packed weights */

    vgg_plan_free(train);
    close_engine();
}
END_TEST

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* 1,180,000 operations against 192: the fastest of some runs have that order. */
START_TEST(times_are_of_their_stage)
{
    open_engine(engines[_i]);
    vgg_plan *train = make_mode(VGG_MODE_TRAIN);
    vgg_stage_time before[STAGES_MOST], after[STAGES_MOST];
    vgg_stage_time conv = {1e9, 1e9, 1e9}, linear = conv;
    uint32_t c, l;
    find(train, "conv2_1", &c);
    find(train, "fc8", &l);
    for (uint64_t t = 1; t <= 8; t++) {
        ck_ok(vgg_plan_times(train, NULL, before));
        step(train, t);
        ck_ok(vgg_plan_times(train, NULL, after));
        conv.forward = least(conv.forward, after[c].forward - before[c].forward);
        conv.backward = least(conv.backward, after[c].backward - before[c].backward);
        linear.forward = least(linear.forward, after[l].forward - before[l].forward);
        linear.backward =
            least(linear.backward, after[l].backward - before[l].backward);
    }
    ck_assert_double_gt(conv.forward, linear.forward);
    ck_assert_double_gt(conv.backward, linear.backward);
    ck_assert_double_gt(linear.forward, 0.0);
    ck_assert_double_gt(linear.backward, 0.0);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

/* Only what has run has taken time. */
START_TEST(phases_apart)
{
    open_engine(engines[_i]);
    vgg_plan *train = make_mode(VGG_MODE_TRAIN);
    vgg_plan_time before, after;
    step(train, 1);
    ck_ok(vgg_plan_times(train, &before, NULL));
    ck_ok(vgg_plan_forward(train, images, NULL));
    ck_ok(vgg_plan_times(train, &after, NULL));
    ck_assert_double_gt(after.forward, before.forward);
    ck_assert_double_gt(after.input, before.input);
    ck_assert_double_eq(after.backward, before.backward);
    ck_assert_double_eq(after.loss, before.loss);
    ck_assert_double_eq(after.update, before.update);
    before = after;
    ck_ok(vgg_plan_forward(train, images, NULL)); /* parameters as before */
    ck_ok(vgg_plan_times(train, &after, NULL));
    ck_assert_double_eq(after.prepare, before.prepare);
    before = after;
    double norm;
    ck_ok(vgg_plan_gradient_norm(train, &norm));
    ck_ok(vgg_plan_times(train, &after, NULL));
    ck_assert_double_gt(after.update, before.update);
    before = after;
    ck_ok(vgg_plan_scale_gradients(train, 0.5));
    ck_ok(vgg_plan_times(train, &after, NULL));
    ck_assert_double_gt(after.update, before.update);
    ck_assert_double_eq(after.forward, before.forward);
    ck_assert_uint_eq(after.updates, before.updates);
    before = after;
    ck_ok(vgg_plan_zero_gradients(train));
    ck_ok(vgg_plan_times(train, &after, NULL));
    ck_assert_double_gt(after.update, before.update);
    vgg_plan_free(train);
    close_engine();
}
END_TEST

START_TEST(refusals)
{
    open_engine("ref");
    vgg_plan *plan = make_mode(VGG_MODE_TRAIN);
    const uint32_t count = vgg_plan_stage_count(plan);
    vgg_stage_info info;
    vgg_plan_time total = {.forwards = 7};
    vgg_stage_time stages[STAGES_MOST];
    memset(&info, 0xff, sizeof info);
    ck_fails_with(vgg_plan_stage(plan, count, &info), VGG_EINVAL, "expected below");
    ck_assert_ptr_null(info.name);
    ck_fails(vgg_plan_stage(NULL, 0, &info), VGG_EINVAL);
    ck_fails(vgg_plan_stage(plan, 0, NULL), VGG_EINVAL);
    ck_assert_uint_eq(vgg_plan_stage_count(NULL), 0);
    ck_fails(vgg_plan_times(NULL, &total, NULL), VGG_EINVAL);
    ck_assert_uint_eq(total.forwards, 0);
    ck_ok(vgg_plan_times(plan, NULL, NULL));
    ck_assert_ptr_null(vgg_trainer_plan(NULL));
    vgg_plan_free(plan);

    /* An engine whose work goes on when a call has returned: shapes, but no times. */
    remote_begin(&vgg__engine_ref);
    device->engine = &remote_engine;
    plan = make_mode(VGG_MODE_TRAIN);
    memset(stages, 0xff, sizeof stages);
    total.forwards = 7;
    ck_fails_with(vgg_plan_times(plan, &total, stages), VGG_EUNSUPPORTED,
                  "cudnn does not time");
    ck_assert_uint_eq(total.forwards, 0);
    ck_assert_double_eq(stages[count - 1].backward, 0.0);
    info = find(plan, "conv1_1", NULL);
    ck_assert_double_gt(info.forward_flops, 0.0);
    ck_assert_str_eq(info.algorithm, "");
    vgg_plan_free(plan);
    close_engine();
}
END_TEST

/* A trainer's plan counts what the trainer does. */
START_TEST(a_trainer_shows_its_plan)
{
    open_engine(engines[_i]);
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    vgg_trainer *trainer;
    vgg_plan_time before, after;
    opts.batch = BATCH;
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    const vgg_plan *plan = vgg_trainer_plan(trainer);
    ck_ok(vgg_plan_times(plan, &before, NULL));
    const vgg_batch batch = {
        .images = images, .labels = (uint32_t *)labels, .count = BATCH};
    for (int i = 0; i < 3; i++) ck_ok(vgg_trainer_step(trainer, &batch, NULL));
    ck_ok(vgg_plan_times(plan, &after, NULL));
    ck_assert_uint_eq(after.forwards - before.forwards, 3);
    ck_assert_uint_eq(after.backwards - before.backwards, 3);
    ck_assert_uint_eq(after.updates - before.updates, 3);
    ck_assert_double_gt(after.update, before.update);
    ck_assert_uint_eq(vgg_plan_bytes(plan) > 0, 1);
    vgg_trainer_free(trainer);
    close_engine();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile");
    TCase *tc = tcase_create("stages");
    tcase_add_loop_test(tc, longest_names, 0, 2);
    tcase_add_loop_test(tc, operations_by_hand, 0, 2);
    tcase_add_loop_test(tc, frozen_layers_do_less, 0, 2);
    tcase_add_loop_test(tc, shapes_and_bytes, 0, 2);
    tcase_add_loop_test(tc, times_add_up, 0, 2);
    tcase_add_loop_test(tc, times_are_of_their_stage, 0, 2);
    tcase_add_loop_test(tc, phases_apart, 0, 2);
    tcase_add_test(tc, refusals);
    tcase_add_loop_test(tc, a_trainer_shows_its_plan, 0, 2);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
