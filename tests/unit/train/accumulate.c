/* SPDX-License-Identifier: Apache-2.0 */
/* What a step is made of: batches whose gradients are added up, fewer of them at an
 * epoch's end, and none that was given up. */
#include <math.h>
#include <stdbool.h>
#include <vgg/vgg.h>

#include "harness.h"

enum { BATCH = 4, BATCHES = 3, SAMPLES = BATCH * BATCHES, INPUTS = 6, CLASSES = 3 };
enum { PARAMS = 5 * INPUTS + 5 + CLASSES * 5 + CLASSES };

static const char *const engines[] = {"ref", "cpu"};
static vgg_device *device;

static vgg_model *build(void)
{
    const vgg_shape input = {3, {1, 1, INPUTS}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(NULL, &input, &model));
    ck_ok(vgg_model_add_flatten(model, NULL));
    ck_ok(vgg_model_add_linear(model, 5, NULL));
    ck_ok(vgg_model_add_relu(model, NULL));
    ck_ok(vgg_model_add_linear(model, CLASSES, NULL));
    ck_ok(vgg_model_init(model, VGG_INIT_XAVIER, 1));
    return model;
}

static vgg_trainer *make(const vgg_trainer_options *opts)
{
    vgg_model *model = build();
    vgg_trainer *trainer;
    ck_ok(vgg_trainer_create(model, device, opts, &trainer));
    vgg_model_free(model);
    return trainer;
}

/* Read or write all parameters, one after the other. */
static void copy_params(vgg_trainer *trainer, float values[PARAMS], bool write)
{
    vgg_model *model = vgg_trainer_model(trainer);
    size_t at = 0;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        vgg_param *param = vgg_model_param(model, i);
        uint64_t count;
        vgg_tensor *part;
        ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
        ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param), values + at, NULL,
                              NULL, &part));
        ck_ok(write ? vgg_param_write(param, part) : vgg_param_read(param, part));
        vgg_tensor_free(part);
        at += count;
    }
    ck_assert_uint_eq(at, PARAMS);
}

/* ---- Fewer batches than a step takes --------------------------------------------- */

static vgg_loader *load(vgg_dataset **data)
{
    const vgg_shape shape = {4, {SAMPLES, 1, 1, INPUTS}};
    uint32_t labels[SAMPLES];
    vgg_tensor *images;
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &shape, &images));
    uint8_t *pixels = vgg_tensor_data(images);
    for (int i = 0; i < SAMPLES * INPUTS; i++) pixels[i] = (uint8_t)(i * 73 % 251);
    for (uint32_t i = 0; i < SAMPLES; i++) labels[i] = i * 7 % CLASSES;
    ck_ok(vgg_dataset_from_arrays(NULL, images, labels, CLASSES, data));
    vgg_tensor_free(images);
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.train = 1;
    vgg_loader *loader;
    ck_ok(vgg_loader_create(*data, &opts, &loader));
    return loader;
}

static void fit(uint32_t accumulate, float values[PARAMS])
{
    vgg_optimizer momentum = VGG_OPTIMIZER_INIT;
    momentum.momentum = 0.9;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &momentum;
    opts.lr = 0.1;
    opts.epochs = 2;
    opts.batch = BATCH;
    opts.accumulate = accumulate;
    vgg_dataset *data;
    vgg_trainer *trainer = make(&opts);
    vgg_loader *loader = load(&data);
    ck_ok(vgg_trainer_fit(trainer, loader, NULL, NULL));
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 2);
    copy_params(trainer, values, false);
    vgg_loader_free(loader);
    vgg_dataset_free(data);
    vgg_trainer_free(trainer);
}

/* A step of three batches is their mean, whether three or eight were asked for. The
 * gradients are scaled in another order: some roundings of numbers below 1. */
START_TEST(an_incomplete_step_is_a_mean)
{
    float whole[PARAMS], fewer[PARAMS];
    ck_ok(vgg_device_open(NULL, engines[_i], &device));
    fit(BATCHES, whole);
    fit(8, fewer);
    for (int i = 0; i < PARAMS; i++) ck_assert_float_eq_tol(fewer[i], whole[i], 1e-6f);
    vgg_device_free(device);
}
END_TEST

/* ---- A batch that can't be used -------------------------------------------------- */

static vgg_status step(vgg_trainer *trainer, float first_pixel)
{
    static const uint32_t labels[BATCH] = {0, 2, 1, 2};
    const vgg_shape shape = {4, {BATCH, 1, 1, INPUTS}};
    float pixels[BATCH * INPUTS];
    vgg_tensor *images;
    for (int i = 0; i < BATCH * INPUTS; i++) pixels[i] = (float)(i * 37 % 64) / 64;
    pixels[0] = first_pixel;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &shape, pixels, NULL, NULL, &images));
    const vgg_batch batch = {.images = images, .labels = labels, .count = BATCH};
    const vgg_status status = vgg_trainer_step(trainer, &batch, NULL);
    vgg_tensor_free(images);
    return status;
}

/* With positive weights a pixel of -inf ends at the ReLU: the loss is finite, and the
 * gradient of the first weights is 0 * -inf. None of it is left for the next step. */
START_TEST(a_step_after_one_given_up)
{
    float start[PARAMS], values[2][PARAMS];
    ck_ok(vgg_device_open(NULL, engines[_i], &device));
    for (int i = 0; i < PARAMS; i++) start[i] = 0.1f + (float)(i * 5 % 13) / 32;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.lr = 0.1;
    opts.batch = BATCH;
    opts.clip_norm = 10.0;
    for (int bad = 0; bad < 2; bad++) {
        vgg_trainer *trainer = make(&opts);
        copy_params(trainer, start, true);
        if (bad) {
            ck_fails_with(step(trainer, -INFINITY), VGG_ENONFINITE,
                          "the gradient's norm is not finite at step 0");
            copy_params(trainer, values[bad], false);
            ck_assert_mem_eq(values[bad], start, sizeof start);
        }
        ck_ok(step(trainer, 0.5f));
        ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 1);
        copy_params(trainer, values[bad], false);
        ck_assert_mem_ne(values[bad], start, sizeof start);
        vgg_trainer_free(trainer);
    }
    ck_assert_mem_eq(values[0], values[1], sizeof values[0]);
    vgg_device_free(device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("accumulate");
    TCase *tc = tcase_create("steps");
    tcase_add_loop_test(tc, an_incomplete_step_is_a_mean, 0, 2);
    tcase_add_loop_test(tc, a_step_after_one_given_up, 0, 2);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
