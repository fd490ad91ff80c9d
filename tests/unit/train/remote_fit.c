/* SPDX-License-Identifier: Apache-2.0 */
/* Training and evaluation on an engine with memory of its own (tests/remote) give the
 * bits of the engine that it is made of: with the data set resident, with the update as
 * part of the backward, with both, stopped and gone on with, and moved to another
 * device in the middle. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

#include "device/device.h"
#include "harness.h"
#include "remote.h"

enum { SAMPLES = 60, TESTS = 30, SIDE = 9, BATCH = 16, CLASSES = 3, EPOCHS = 3 };
enum { BATCHES = 4, TEST_BATCHES = 2, MOST = 20000 };

static const char *const engines[] = {"ref", "cpu"};
static const vgg_engine *const tables[] = {&vgg__engine_ref, &vgg__engine_cpu};

static atomic_int reads;
static atomic_int fails_at; /* sample that can't be read, once it is not 0 */

static int read_bar(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    const uint32_t offset = cookie != NULL ? 1000 : 0;
    atomic_fetch_add(&reads, 1);
    const int failing = atomic_load(&fails_at);
    if (failing != 0 && index == (uint64_t)failing) return 7;
    *label = (uint32_t)(index * 7 % CLASSES);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            image[y * SIDE + x] =
                (uint8_t)((y / 3 == (int)*label ? 200 : 20) +
                          (index * 31 + offset + (uint64_t)(x * 17 + y * 5)) % 40);
    return 0;
}

/* Everything that a training needs, and what it ended with. */
struct run {
    vgg_context *ctx;
    vgg_device *device;
    vgg_dataset *train_data, *test_data;
    vgg_loader *train, *test;
    vgg_model *model;
    vgg_trainer *trainer;
    vgg_progress progress;
    float values[MOST];
    size_t count;
};

static struct run runs[2];
static uint32_t batch_norm = 1;
static char log_text[1024];

static void (*at_log)(void); /* called once */

static void take_log(void *cookie, vgg_log_level level, const char *line)
{
    const size_t length = strlen(log_text);
    snprintf(log_text + length, sizeof log_text - length, "%d:%s\n", (int)level, line);
    void (*const call)(void) = at_log;
    at_log = NULL;
    if (call != NULL) call();
}

static vgg_dataset *make_data(vgg_context *ctx, uint64_t count, void *cookie)
{
    const vgg_source source = {.cookie = cookie,
                               .count = count,
                               .channels = 1,
                               .height = SIDE,
                               .width = SIDE,
                               .classes = CLASSES,
                               .read = read_bar};
    vgg_dataset *data;
    ck_ok(vgg_dataset_from_source(ctx, &source, &data));
    return data;
}

static vgg_loader *make_loader(vgg_dataset *data, uint32_t train)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = transform.resize_width = SIDE + 2;
    transform.crop_height = transform.crop_width = SIDE + 1;
    transform.shift = 1;
    transform.flip = transform.erase = 0.5f;
    vgg_transform_normalize(&transform, "mnist");
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.transform = &transform;
    opts.batch = BATCH;
    opts.train = train;
    opts.seed = 5;
    vgg_loader *loader;
    ck_ok(vgg_loader_create(data, &opts, &loader));
    return loader;
}

static bool steps_allowed = true; /* to an engine itself */

/* A device of an engine, `remote`: behind the engine of the test. */
static vgg_device *make_device(vgg_context *ctx, int engine, bool is_remote)
{
    vgg_device *device;
    ck_ok(vgg_device_open(ctx, engines[engine], &device));
    if (!is_remote) {
        /* Gradients and a step differ in roundings where the engine has both. */
        static vgg_engine without;
        without = *device->engine;
        without.abilities &= ~(uint32_t)VGG_CAN_STEP;
        if (!steps_allowed) device->engine = &without;
        return device;
    }
    remote_begin(tables[engine]);
    remote.host = &device->host;
    device->engine = &remote_engine;
    return device;
}

static vgg_optimizer optimizer;

static vgg_trainer_options plain_recipe(void)
{
    optimizer = (vgg_optimizer)VGG_OPTIMIZER_INIT;
    optimizer.weight_decay = 0.01;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.lr = 0.05;
    opts.epochs = EPOCHS;
    opts.batch = BATCH;
    opts.label_smoothing = 0.1f;
    opts.seed = 3;
    return opts;
}

static void begin(struct run *run, int engine, bool is_remote)
{
    const vgg_logger logger = {NULL, take_log};
    vgg_context_options options = VGG_CONTEXT_OPTIONS_INIT;
    options.logger = &logger;
    options.threads = 2;
    memset(run, 0, sizeof *run);
    log_text[0] = '\0';
    ck_ok(vgg_context_create(&options, &run->ctx));
    run->device = make_device(run->ctx, engine, is_remote);
    run->train_data = make_data(run->ctx, SAMPLES, NULL);
    run->test_data = make_data(run->ctx, TESTS, "other");
    run->train = make_loader(run->train_data, 1);
    run->test = make_loader(run->test_data, 0);
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.height = arch.width = SIDE + 1;
    arch.hidden = 16;
    arch.classes = CLASSES;
    arch.dropout = 0.5f;
    arch.batch_norm = batch_norm;
    ck_ok(vgg_model_create(run->ctx, &arch, 8, NULL, &run->model));
}

static void make_trainer(struct run *run, const vgg_trainer_options *opts)
{
    ck_ok(vgg_trainer_create(run->model, run->device, opts, &run->trainer));
}

/* Take down what came out, and give everything back but the context. */
static void end(struct run *run)
{
    run->progress = *vgg_trainer_progress(run->trainer);
    for (uint32_t i = 0; i < vgg_model_param_count(run->model); i++) {
        vgg_param *param = vgg_model_param(run->model, i);
        uint64_t count;
        vgg_tensor *value;
        ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
        ck_assert_uint_le(run->count + count, MOST);
        ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param),
                              run->values + run->count, NULL, NULL, &value));
        ck_ok(vgg_param_read(param, value));
        vgg_tensor_free(value);
        run->count += count;
    }
    vgg_trainer_free(run->trainer);
    vgg_model_free(run->model);
    vgg_loader_free(run->train);
    vgg_loader_free(run->test);
    vgg_dataset_free(run->train_data);
    vgg_dataset_free(run->test_data);
    vgg_device_free(run->device);
    ck_assert_uint_eq(vgg_context_bytes(run->ctx), 0);
    vgg_context_free(run->ctx);
}

static void check_same(void)
{
    ck_assert_uint_gt(runs[0].count, 1000);
    ck_assert_uint_eq(runs[0].count, runs[1].count);
    ck_assert_mem_eq(runs[0].values, runs[1].values, runs[0].count * sizeof(float));
    ck_assert_mem_eq(&runs[0].progress, &runs[1].progress, sizeof runs[0].progress);
}

/* Recipes, and whether the engine's step fits them. */
enum { PLAIN, MOMENTUM, ADAM, CLIPPED, ACCUMULATED, RECIPES };

static vgg_trainer_options recipe(int number)
{
    vgg_trainer_options opts = plain_recipe();
    if (number == MOMENTUM) optimizer.momentum = 0.9;
    if (number == ADAM) optimizer.kind = VGG_ADAM;
    if (number == CLIPPED) opts.clip_norm = 1.0;
    if (number == ACCUMULATED) {
        opts.accumulate = 3;
        opts.batch = BATCH;
    }
    return opts;
}

static void fit_plainly(struct run *run, int engine, int number)
{
    begin(run, engine, false);
    const vgg_trainer_options opts = recipe(number);
    make_trainer(run, &opts);
    ck_ok(vgg_trainer_fit(run->trainer, run->train, run->test, NULL));
    end(run);
}

/* The data set is read once and given back; steps are taken where they can be, and then
 * nothing that needs gradients is asked for. */
START_TEST(the_same_bits)
{
    const int engine = _i % 2, number = _i / 2 % RECIPES;
    const bool keeps = _i / (2 * RECIPES) % 2 == 0, steps = _i / (4 * RECIPES) == 0;
    steps_allowed = steps;
    fit_plainly(&runs[0], engine, number);
    begin(&runs[1], engine, true);
    if (!keeps) remote_engine.data_create = NULL;
    if (!steps) remote_engine.abilities = 0;
    const vgg_trainer_options opts = recipe(number);
    make_trainer(&runs[1], &opts);
    atomic_store(&reads, 0);
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    const uint32_t all = EPOCHS * (BATCHES + TEST_BATCHES);
    ck_assert_uint_eq(remote.from_samples, keeps ? all : 0);
    ck_assert_uint_eq(remote.from_host, keeps ? 0 : all);
    ck_assert_uint_eq(remote.data_made, keeps ? 2 : 0);
    ck_assert_uint_eq(remote.data_freed, keeps ? 2 : 0);
    ck_assert_uint_eq(remote.images_read, keeps ? SAMPLES + TESTS : 0);
    const bool fused = steps && number == PLAIN;
    ck_assert_uint_eq(remote.steps, fused ? EPOCHS * BATCHES : 0);
    ck_assert_uint_eq(remote.backwards, fused ? 0 : EPOCHS * BATCHES);
    ck_assert_int_eq(remote.gradients == 0, fused);
    end(&runs[1]);
    check_same();
    ck_assert(isfinite(runs[1].progress.test_loss));
    ck_assert_int_eq(runs[1].progress.gradient_norm != 0.0, number == CLIPPED);
}
END_TEST

static int stop_at;

static int on_batch(void *cookie, const vgg_progress *progress)
{
    return progress->epoch * BATCHES + progress->batch == (uint64_t)stop_at;
}

/* Stopped after every possible batch, checkpointed, and gone on with by a trainer on
 * the other kind of device. */
START_TEST(a_training_moves_between_devices)
{
    const int engine = _i % 2;
    const bool back = _i / 2 % 2;
    const vgg_callbacks callbacks = {.on_batch = on_batch};
    const vgg_trainer_options opts = plain_recipe();
    char dir[64], checkpoint[80];
    harness_mkdtemp(dir);
    snprintf(checkpoint, sizeof checkpoint, "%s/last", dir);
    fit_plainly(&runs[0], engine, PLAIN);
    for (stop_at = 1; stop_at < EPOCHS * BATCHES; stop_at++) {
        begin(&runs[1], engine, !back);
        make_trainer(&runs[1], &opts);
        ck_fails(
            vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, &callbacks),
            VGG_ECANCELED);
        ck_ok(vgg_checkpoint_save(runs[1].trainer, checkpoint, NULL));
        end(&runs[1]);
        begin(&runs[1], engine, back);
        make_trainer(&runs[1], &opts);
        ck_ok(vgg_checkpoint_load(runs[1].trainer, checkpoint, NULL));
        ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
        end(&runs[1]);
        check_same();
    }
    harness_rmdir(dir);
}
END_TEST

/* The same trainer goes on, from the middle of an epoch, with data attached anew. */
START_TEST(stopping_and_going_on)
{
    const vgg_callbacks callbacks = {.on_batch = on_batch};
    const vgg_trainer_options opts = plain_recipe();
    batch_norm = 0; /* so that nothing but the step changes the store */
    fit_plainly(&runs[0], _i, PLAIN);
    begin(&runs[1], _i, true);
    make_trainer(&runs[1], &opts);
    stop_at = 6;
    ck_fails(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, &callbacks),
             VGG_ECANCELED);
    ck_assert_uint_eq(remote.data_freed, 2);
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    ck_assert_uint_eq(remote.data_made, 4);
    ck_assert_uint_eq(remote.data_freed, 4);
    /* Nothing is left to do, so nothing is read. */
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    ck_assert_uint_eq(remote.data_made, 4);
    end(&runs[1]);
    check_same();
}
END_TEST

/* A step of one's own takes the host's images, and the engine's step. */
START_TEST(single_steps)
{
    batch_norm = 0;
    for (int is_remote = 0; is_remote < 2; is_remote++) {
        begin(&runs[is_remote], _i, is_remote);
        const vgg_trainer_options opts = plain_recipe();
        make_trainer(&runs[is_remote], &opts);
        for (int i = 0; i < 6; i++) {
            vgg_batch batch;
            ck_ok(vgg_loader_next(runs[is_remote].train, &batch));
            if (batch.count > 0)
                ck_ok(vgg_trainer_step(runs[is_remote].trainer, &batch, NULL));
        }
        end(&runs[is_remote]);
    }
    ck_assert_uint_eq(remote.from_host, 5);
    ck_assert_uint_eq(remote.steps, 5);
    check_same();
}
END_TEST

/* No room: the host's batches, and a line in the log. */
START_TEST(a_data_set_that_does_not_fit)
{
    const vgg_trainer_options opts = plain_recipe();
    fit_plainly(&runs[0], _i, PLAIN);
    begin(&runs[1], _i, true);
    make_trainer(&runs[1], &opts);
    remote.room = TESTS * SIDE * SIDE; /* the smaller one does */
    ck_fails(vgg_trainer_fit(NULL, NULL, NULL, NULL), VGG_EINVAL);
    char before[512];
    snprintf(before, sizeof before, "%s", vgg_last_error());
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    ck_assert_str_eq(vgg_last_error(), before); /* nobody's error */
    ck_assert_uint_eq(remote.from_host, EPOCHS * BATCHES);
    ck_assert_uint_eq(remote.from_samples, EPOCHS * TEST_BATCHES);
    char line[256];
    snprintf(line, sizeof line,
             "1:%s: a data set of 60 images stays with the host: no room for 4860 "
             "bytes\n",
             engines[_i]);
    ck_assert_str_eq(log_text, line);
    end(&runs[1]);
    check_same();
}
END_TEST

static void evaluate_tests(void)
{
    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
    ck_ok(vgg_evaluate(runs[1].model, runs[1].device, runs[1].test, metrics));
    ck_assert_uint_eq(vgg_metrics_count(metrics), TESTS);
    vgg_metrics_free(metrics);
}

/* The line about it comes when the device is free again. */
START_TEST(a_log_that_uses_the_device)
{
    begin(&runs[1], _i, true);
    const vgg_trainer_options opts = plain_recipe();
    make_trainer(&runs[1], &opts);
    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
    remote.room = TESTS * SIDE * SIDE;
    at_log = evaluate_tests;
    ck_ok(vgg_evaluate(runs[1].model, runs[1].device, runs[1].train, metrics));
    ck_assert(at_log == NULL);
    ck_assert_uint_eq(vgg_metrics_count(metrics), SAMPLES);
    ck_assert_uint_eq(remote.from_host, BATCHES);
    ck_assert_uint_eq(remote.from_samples, TEST_BATCHES);
    vgg_metrics_free(metrics);
    end(&runs[1]);
}
END_TEST

/* A sample that can't be read ends the fit before its first batch; what was attached is
 * given back, and the next one works. */
START_TEST(a_sample_that_can_not_be_read)
{
    const vgg_trainer_options opts = plain_recipe();
    fit_plainly(&runs[0], _i, PLAIN);
    begin(&runs[1], _i, true);
    make_trainer(&runs[1], &opts);
    atomic_store(&fails_at, TESTS - 1);
    ck_fails_with(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL),
                  VGG_EIO, "sample 29: the source's read returned 7");
    atomic_store(&fails_at, 0);
    ck_assert_uint_eq(remote.data_made, remote.data_freed);
    ck_assert_uint_eq(remote.from_samples, 0);
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    end(&runs[1]);
    check_same();
}
END_TEST

/* Loaders of one data set that show it in the same way share a copy, whatever they
 * draw; others do not. */
START_TEST(copies_are_shared)
{
    begin(&runs[1], _i, true);
    const vgg_trainer_options opts = plain_recipe();
    make_trainer(&runs[1], &opts);
    vgg_loader_free(runs[1].test);
    runs[1].test = make_loader(runs[1].train_data, 0);
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    ck_assert_uint_eq(remote.data_made, 1);
    ck_assert_uint_eq(remote.data_freed, 1);
    end(&runs[1]);
}
END_TEST

START_TEST(evaluation)
{
    double figures[2][3];
    for (int is_remote = 0; is_remote < 2; is_remote++) {
        struct run *run = &runs[is_remote];
        vgg_metrics *metrics;
        begin(run, _i, is_remote);
        const vgg_trainer_options opts = plain_recipe();
        make_trainer(run, &opts);
        ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
        ck_ok(vgg_evaluate(run->model, run->device, run->train, metrics));
        ck_ok(vgg_evaluate(run->model, run->device, run->test, metrics));
        ck_assert_uint_eq(vgg_metrics_count(metrics), SAMPLES + TESTS);
        figures[is_remote][0] = vgg_metrics_loss(metrics);
        figures[is_remote][1] = vgg_metrics_top_k(metrics, 1);
        ck_ok(vgg_metrics_auc(metrics, &figures[is_remote][2]));
        vgg_metrics_free(metrics);
        end(run);
    }
    ck_assert_uint_eq(remote.from_samples, BATCHES + TEST_BATCHES);
    ck_assert_uint_eq(remote.from_host, 0);
    ck_assert_uint_eq(remote.data_freed, 2);
    ck_assert_mem_eq(figures[0], figures[1], sizeof figures[0]);
}
END_TEST

/* A loss that is not finite stops before anything is updated. */
START_TEST(infinite_loss_changes_nothing)
{
    begin(&runs[1], _i, true);
    const vgg_trainer_options opts = plain_recipe();
    vgg_param *bias = vgg_model_find_param(runs[1].model, "fc8.bias");
    vgg_tensor *value;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(bias), &value));
    ((float *)vgg_tensor_data(value))[1] = NAN;
    ck_ok(vgg_param_write(bias, value));
    vgg_tensor_free(value);
    make_trainer(&runs[1], &opts);
    ck_fails_with(vgg_trainer_fit(runs[1].trainer, runs[1].train, NULL, NULL),
                  VGG_ENONFINITE, "nan");
    ck_assert_uint_eq(remote.from_samples, 1);
    ck_assert_uint_eq(remote.steps, 0);
    ck_assert_uint_eq(vgg_trainer_progress(runs[1].trainer)->step, 0);
    end(&runs[1]);
}
END_TEST

/* Training and its evaluation are compiled as the options say. */
START_TEST(precision_and_determinism)
{
    begin(&runs[1], 0, true); /* ref, which has fp64 */
    vgg_trainer_options opts = plain_recipe();
    opts.precision = _i % 2 ? VGG_FP64 : VGG_FP32;
    opts.deterministic = (uint32_t)_i / 2;
    make_trainer(&runs[1], &opts);
    ck_ok(vgg_trainer_fit(runs[1].trainer, runs[1].train, runs[1].test, NULL));
    ck_assert_uint_eq(remote.program_count, 2);
    ck_assert_uint_eq(remote.programs[0].mode, VGG_MODE_TRAIN);
    ck_assert_uint_eq(remote.programs[0].step, 1);
    ck_assert_uint_eq(remote.programs[1].mode, VGG_MODE_INFER);
    ck_assert_uint_eq(remote.programs[1].step, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(remote.programs[i].precision, opts.precision);
        ck_assert_uint_eq(remote.programs[i].deterministic, opts.deterministic);
    }
    end(&runs[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("remote_fit");
    TCase *tc = tcase_create("remote");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, the_same_bits, 0, 8 * RECIPES);
    tcase_add_loop_test(tc, a_training_moves_between_devices, 0, 4);
    tcase_add_loop_test(tc, stopping_and_going_on, 0, 2);
    tcase_add_loop_test(tc, single_steps, 0, 2);
    tcase_add_loop_test(tc, a_data_set_that_does_not_fit, 0, 2);
    tcase_add_loop_test(tc, a_sample_that_can_not_be_read, 0, 2);
    tcase_add_loop_test(tc, copies_are_shared, 0, 2);
    tcase_add_loop_test(tc, evaluation, 0, 2);
    tcase_add_loop_test(tc, infinite_loss_changes_nothing, 0, 2);
    tcase_add_loop_test(tc, precision_and_determinism, 0, 4);
    suite_add_tcase(suite, tc);
    TCase *locks = tcase_create("locks"); /* where one is held, it waits for ever */
    tcase_set_timeout(locks, 20);
    tcase_add_loop_test(locks, a_log_that_uses_the_device, 0, 2);
    suite_add_tcase(suite, locks);
    return harness_main(&suite, 1);
}
