/* SPDX-License-Identifier: Apache-2.0 */
/* Loops of the caller's own: vgg_trainer_step() with batches that are refused, beside
 * other plans of the model, before and after a fit. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

enum { FEATURES = 6, HIDDEN = 8, CLASSES = 3, COUNT = 4, SAMPLES = 16, MOST = 200 };

static const char *const engines[] = {"ref", "cpu"};
static vgg_device *device;
static vgg_model *model;
static vgg_tensor *images;
static const uint32_t labels[COUNT] = {0, 1, 2, 1};

static void set_up(const char *engine)
{
    const vgg_shape in = {1, {FEATURES}}, batch = {2, {COUNT, FEATURES}};
    ck_ok(vgg_device_open(NULL, engine, &device));
    ck_ok(vgg_model_create_empty(NULL, &in, &model));
    ck_ok(vgg_model_add_linear(model, HIDDEN, "first"));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_linear(model, CLASSES, "second"));
    ck_ok(vgg_model_init(model, VGG_INIT_HE, 1));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &batch, &images));
}

static void tear_down(void)
{
    vgg_tensor_free(images);
    vgg_model_free(model);
    vgg_device_free(device);
}

static vgg_trainer *make(double momentum, uint32_t accumulate, double clip_norm)
{
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.momentum = momentum;
    optimizer.weight_decay = 0.1;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.lr = 0.05;
    opts.batch = COUNT;
    opts.accumulate = accumulate;
    opts.clip_norm = clip_norm;
    vgg_trainer *trainer;
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    return trainer;
}

/* The batch's images: numbers that differ from batch to batch. */
static void fill(int which)
{
    float *at = vgg_tensor_data(images);
    for (int i = 0; i < COUNT * FEATURES; i++)
        at[i] = (float)((i * 29 + which * 7) % 23) / 23.0f - 0.4f;
}

static vgg_status step(vgg_trainer *trainer, uint64_t index)
{
    const vgg_batch batch = {
        .images = images, .labels = labels, .count = COUNT, .index = index};
    return vgg_trainer_step(trainer, &batch, NULL);
}

static void train(vgg_trainer *trainer, int which, uint64_t index)
{
    fill(which);
    ck_ok(step(trainer, index));
}

/* A parameter's or all parameters' values. */
static size_t read_param(vgg_param *param, float *out)
{
    vgg_tensor *value;
    uint64_t count;
    ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param), out, NULL, NULL,
                          &value));
    ck_ok(vgg_param_read(param, value));
    vgg_tensor_free(value);
    return (size_t)count;
}

static size_t read_all(float out[MOST])
{
    size_t count = 0;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++)
        count += read_param(vgg_model_param(model, i), out + count);
    ck_assert_uint_le(count, MOST);
    return count;
}

/* ---- Batches that are refused ---------------------------------------------------- */

/* What three batches make of the model, with `bad` of them coming out as NaN. */
static void three_batches(const char *engine, int bad, float out[MOST])
{
    set_up(engine);
    vgg_trainer *trainer = make(0.9, 3, 0.0);
    uint64_t index = 0;
    for (int i = 0; i < 3; i++) {
        fill(i);
        ((float *)vgg_tensor_data(images))[5] = NAN;
        if (i == bad) ck_fails(step(trainer, index), VGG_ENONFINITE);
        train(trainer, i, index++);
    }
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 1);
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->seen, 3 * COUNT);
    read_all(out);
    vgg_trainer_free(trainer);
    tear_down();
}

/* A batch whose loss is not finite is as if it had not been, wherever it comes. */
START_TEST(a_bad_loss_is_passed_over)
{
    float with[MOST] = {0}, without[MOST] = {0};
    three_batches(engines[_i / 3], -1, without);
    three_batches(engines[_i / 3], _i % 3, with);
    ck_assert_mem_eq(with, without, sizeof with);
}
END_TEST

/* Weights with which the loss is small and a gradient more than a float can hold. */
static void make_steep(void)
{
    static const char *const names[] = {"first.weight", "first.bias", "second.weight",
                                        "second.bias"};
    static const float first[] = {0.0f, 1e-18f, 1e18f, 0.0f};
    for (int i = 0; i < 4; i++) {
        vgg_param *param = vgg_model_find_param(model, names[i]);
        ck_assert_ptr_nonnull(param);
        vgg_tensor *value;
        uint64_t count;
        ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
        ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(param), &value));
        for (uint64_t k = 0; k < count; k++)
            ((float *)vgg_tensor_data(value))[k] =
                i == 2 && k / HIDDEN == 1 ? -first[i] : first[i]; /* of class 1 */
        ck_ok(vgg_param_write(param, value));
        vgg_tensor_free(value);
    }
}

START_TEST(a_bad_norm_changes_no_parameter)
{
    float before[MOST] = {0}, after[MOST] = {0};
    set_up(engines[_i]);
    make_steep();
    vgg_trainer *trainer = make(0.9, 2, 1.0);
    read_all(before);
    for (int i = 0; i < COUNT * FEATURES; i++)
        ((float *)vgg_tensor_data(images))[i] = 1e22f;
    ck_ok(step(trainer, 0));
    ck_fails_with(step(trainer, 1), VGG_ENONFINITE, "norm");
    read_all(after);
    ck_assert_mem_eq(before, after, sizeof before);
    /* The accumulation is over: two more batches make a step. */
    memset(vgg_tensor_data(images), 0, COUNT * FEATURES * sizeof(float));
    ck_ok(step(trainer, 1));
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 0);
    ck_ok(step(trainer, 2));
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 1);
    vgg_trainer_free(trainer);
    tear_down();
}
END_TEST

/* ---- Beside other plans ---------------------------------------------------------- */

static vgg_plan *plan_gradients(void)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.batch = COUNT;
    opts.mode = VGG_MODE_GRAD;
    vgg_plan *plan;
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    return plan;
}

static void go_back(vgg_plan *plan)
{
    ck_ok(vgg_plan_forward(plan, images, NULL));
    ck_ok(vgg_plan_loss(plan, labels, 0.0f, 100.0f, NULL, NULL));
    ck_ok(vgg_plan_backward(plan));
}

/* Two steps, and maybe a backward of another plan before, between and behind. */
static void two_steps(const char *engine, double momentum, bool disturbed,
                      float out[MOST])
{
    set_up(engine);
    vgg_trainer *trainer = make(momentum, 1, 0.0);
    vgg_plan *plan = plan_gradients();
    for (int i = 0; i < 2; i++) {
        fill(5);
        if (disturbed) go_back(plan);
        train(trainer, i, (uint64_t)i);
    }
    read_all(out);
    vgg_plan_free(plan);
    vgg_trainer_free(trainer);
    tear_down();
}

START_TEST(gradients_of_others_do_not_train)
{
    const double momentum = _i % 2 != 0 ? 0.9 : 0.0;
    float alone[MOST] = {0}, beside[MOST] = {0};
    two_steps(engines[_i / 2], momentum, false, alone);
    two_steps(engines[_i / 2], momentum, true, beside);
    ck_assert_mem_eq(alone, beside, sizeof alone);
}
END_TEST

/* What a trainer trains is settled when it is made: plans that train something else are
 * refused until it is gone, be a parameter frozen meanwhile (1) or no more (0). */
START_TEST(freezing_is_for_later_plans)
{
    const int freeze = _i % 2;
    float before[MOST], after[MOST];
    set_up(engines[_i / 2]);
    vgg_param *weight = vgg_model_find_param(model, "first.weight");
    ck_ok(vgg_param_set_trainable(weight, freeze));
    vgg_trainer *trainer = make(0.9, 1, 0.0);
    vgg_plan *plan = plan_gradients();
    vgg_plan_free(plan);
    ck_ok(vgg_param_set_trainable(weight, !freeze));
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_GRAD;
    ck_fails_with(vgg_plan_create(model, device, &opts, &plan), VGG_ESTATE,
                  freeze ? "first.weight was not frozen" : "first.weight was frozen");
    const size_t bytes = read_param(weight, before) * sizeof(float);
    train(trainer, 0, 0);
    read_param(weight, after);
    ck_assert(freeze == (memcmp(before, after, bytes) != 0));

    /* So is what a checkpoint of it carries. */
    char dir[64], path[80];
    harness_mkdtemp(dir);
    snprintf(path, sizeof path, "%s/saved", dir);
    ck_ok(vgg_checkpoint_save(trainer, path, NULL));
    vgg_trainer_free(trainer);
    trainer = make(0.9, 1, 0.0);
    ck_fails_with(vgg_checkpoint_load(trainer, path, NULL), VGG_EMISMATCH, "trainable");
    vgg_trainer_free(trainer);
    ck_ok(vgg_param_set_trainable(weight, freeze));
    trainer = make(0.9, 1, 0.0);
    ck_ok(vgg_checkpoint_load(trainer, path, NULL));
    harness_rmdir(dir);

    opts.mode = VGG_MODE_INFER; /* trains nothing */
    ck_ok(vgg_param_set_trainable(weight, !freeze));
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    vgg_trainer_free(trainer);
    vgg_plan_free(plan);
    plan = plan_gradients();
    vgg_plan_free(plan);
    tear_down();
}
END_TEST

/* ---- Epochs of one's own --------------------------------------------------------- */

START_TEST(a_schedule_needs_its_steps)
{
    set_up("cpu");
    vgg_schedule schedule = VGG_SCHEDULE_INIT;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.batch = COUNT;
    opts.schedule = &schedule;
    if (_i == 0)
        schedule.kind = VGG_SCHEDULE_COSINE;
    else
        schedule.warmup_epochs = 1.0;
    vgg_trainer *trainer;
    float before[MOST] = {0}, after[MOST] = {0};
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    read_all(before);
    fill(0);
    ck_fails_with(step(trainer, 0), VGG_ESTATE, "set steps_per_epoch");
    read_all(after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->batch, 0);
    vgg_trainer_free(trainer);

    opts.steps_per_epoch = 4;
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    train(trainer, 0, 0);
    train(trainer, 1, 1);
    const double lr = vgg_trainer_progress(trainer)->lr;
    ck_assert_double_ne(lr, opts.lr);
    vgg_trainer_free(trainer);
    tear_down();
}
END_TEST

static int read_row(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    *label = (uint32_t)(index % CLASSES);
    for (int i = 0; i < FEATURES; i++)
        image[i] = (uint8_t)((index * 31 + (uint64_t)i * 17) % 200);
    return 0;
}

/* A model of [1][1][FEATURES] images in the place of the flat one. */
static void take_images(void)
{
    const vgg_shape in = {3, {1, 1, FEATURES}}, batch = {4, {COUNT, 1, 1, FEATURES}};
    vgg_model_free(model);
    vgg_tensor_free(images);
    ck_ok(vgg_model_create_empty(NULL, &in, &model));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, CLASSES, NULL));
    ck_ok(vgg_model_init(model, VGG_INIT_HE, 1));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &batch, &images));
}

static vgg_loader *load_rows(void)
{
    const vgg_source source = {.count = SAMPLES,
                               .channels = 1,
                               .height = 1,
                               .width = FEATURES,
                               .classes = CLASSES,
                               .read = read_row};
    vgg_dataset *data;
    vgg_loader *loader;
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.batch = COUNT;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    ck_ok(vgg_loader_create(data, &opts, &loader));
    vgg_dataset_free(data);
    return loader;
}

/* After a fit of epochs of four batches, one of the caller's own: it is not known where
 * it ends, so nothing ends an accumulation early; and the fit that would go on behind
 * it has no such batch. */
START_TEST(own_epochs_have_no_known_end)
{
    set_up("cpu");
    take_images();
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.batch = COUNT;
    opts.accumulate = 3;
    opts.epochs = 2;
    vgg_trainer *trainer;
    vgg_loader *loader = load_rows();
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    const vgg_progress *progress = vgg_trainer_progress(trainer);
    ck_ok(vgg_trainer_fit(trainer, loader, loader, NULL));
    ck_assert_uint_eq(progress->step, 4); /* 3 batches and 1, twice */
    for (int i = 0; i < 6; i++) {
        train(trainer, i, (uint64_t)i);
        ck_assert_uint_eq(progress->step, 4 + (uint64_t)(i + 1) / 3);
        ck_assert_uint_eq(progress->batches, 0);
    }
    ck_fails_with(vgg_trainer_fit(trainer, loader, NULL, NULL), VGG_EMISMATCH,
                  "behind 6 batches of an epoch; the loader's epochs have 4");

    /* The best epoch is later than this one: a checkpoint takes that. */
    char dir[64], path[80];
    harness_mkdtemp(dir);
    snprintf(path, sizeof path, "%s/saved", dir);
    ck_assert_uint_gt(progress->best_epoch, progress->epoch);
    ck_ok(vgg_checkpoint_save(trainer, path, NULL));
    ck_ok(vgg_checkpoint_load(trainer, path, NULL));
    harness_rmdir(dir);
    vgg_loader_free(loader);
    vgg_trainer_free(trainer);
    tear_down();
}
END_TEST

/* A fit behind a whole epoch of the caller's own ends what that has begun. */
START_TEST(a_fit_ends_what_a_loop_began)
{
    set_up("cpu");
    take_images();
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.batch = COUNT;
    opts.accumulate = 3;
    opts.epochs = 1;
    vgg_trainer *trainer;
    vgg_loader *loader = load_rows();
    float before[MOST] = {0}, after[MOST] = {0};
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    const vgg_progress *progress = vgg_trainer_progress(trainer);
    for (int i = 0; i < 4; i++) train(trainer, i, (uint64_t)i);
    ck_assert_uint_eq(progress->step, 1);
    read_all(before);
    ck_ok(vgg_trainer_fit(trainer, loader, NULL, NULL));
    ck_assert_uint_eq(progress->epoch, 1);
    ck_assert_uint_eq(progress->step, 2);
    read_all(after);
    ck_assert_mem_ne(before, after, sizeof before);
    vgg_loader_free(loader);
    vgg_trainer_free(trainer);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("own loop");
    TCase *tc = tcase_create("own loop");
    tcase_add_loop_test(tc, a_bad_loss_is_passed_over, 0, 6);
    tcase_add_loop_test(tc, a_bad_norm_changes_no_parameter, 0, 2);
    tcase_add_loop_test(tc, gradients_of_others_do_not_train, 0, 4);
    tcase_add_loop_test(tc, freezing_is_for_later_plans, 0, 4);
    tcase_add_loop_test(tc, a_schedule_needs_its_steps, 0, 2);
    tcase_add_test(tc, own_epochs_have_no_known_end);
    tcase_add_test(tc, a_fit_ends_what_a_loop_began);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
