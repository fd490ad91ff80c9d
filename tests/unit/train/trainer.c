/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer through the public interface: it learns, splits and stops as it says. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <vgg/vgg.h>

#include "harness.h"

enum { SAMPLES = 60, SIDE = 8, BATCH = 16, CLASSES = 3 };

static vgg_device *device;
static vgg_dataset *data;

/* A bright bar on a dark ground; its place is the class. */
static int read_bar(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    *label = (uint32_t)(index * 7 % CLASSES);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            image[y * SIDE + x] =
                (uint8_t)((y / 3 == (int)*label ? 200 : 20) +
                          (index * 31 + (uint64_t)(x * 17 + y * 5)) % 40);
    return 0;
}

static void set_up(void)
{
    ck_ok(vgg_device_open(NULL, "cpu", &device));
    const vgg_source source = {.count = SAMPLES,
                               .channels = 1,
                               .height = SIDE,
                               .width = SIDE,
                               .classes = CLASSES,
                               .read = read_bar};
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
}

static void tear_down(void)
{
    vgg_dataset_free(data);
    vgg_device_free(device);
}

static vgg_model *build(float dropout, uint32_t batch_norm)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.height = arch.width = SIDE;
    arch.hidden = 16;
    arch.classes = CLASSES;
    arch.dropout = dropout;
    arch.batch_norm = batch_norm;
    vgg_model *model = vgg_build(&arch, 8);
    ck_assert_msg(model != NULL, "%s", vgg_last_error());
    return model;
}

static vgg_loader *load(uint32_t batch, uint32_t train)
{
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.batch = batch;
    opts.train = train;
    opts.seed = 5;
    vgg_loader *loader;
    ck_ok(vgg_loader_create(data, &opts, &loader));
    return loader;
}

static vgg_trainer *make(vgg_model *model, const vgg_trainer_options *opts)
{
    vgg_trainer *trainer;
    ck_ok(vgg_trainer_create(model, device, opts, &trainer));
    return trainer;
}

/* All parameters of a model as one run of bytes; `size` floats are enough for this
   one. */
static size_t snapshot(vgg_model *model, float *out, size_t size)
{
    size_t at = 0;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        vgg_param *param = vgg_model_param(model, i);
        uint64_t count;
        ck_ok(vgg_shape_count(vgg_param_shape(param), &count));
        ck_assert_uint_le(at + count, size);
        vgg_tensor *value;
        ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param), out + at, NULL,
                              NULL, &value));
        ck_ok(vgg_param_read(param, value));
        vgg_tensor_free(value);
        at += count;
    }
    return at;
}

enum { MOST = 20000 };
static float values[2][MOST];

struct counts {
    int batches, epochs, stop_at;
    double last_loss;
};

static int on_batch(void *cookie, const vgg_progress *progress)
{
    struct counts *counts = cookie;
    counts->last_loss = progress->batch_loss;
    return ++counts->batches == counts->stop_at;
}

static int on_epoch(void *cookie, const vgg_progress *progress,
                    const vgg_metrics *metrics)
{
    struct counts *counts = cookie;
    ck_assert_uint_eq(progress->epoch, (uint64_t)++counts->epochs);
    ck_assert_uint_eq(progress->seen, SAMPLES);
    ck_assert_uint_eq(vgg_metrics_count(metrics), SAMPLES);
    return 0;
}

static vgg_trainer_options recipe(uint32_t epochs)
{
    static vgg_optimizer momentum;
    momentum = (vgg_optimizer)VGG_OPTIMIZER_INIT;
    momentum.momentum = 0.9;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &momentum;
    opts.lr = 0.05;
    opts.epochs = epochs;
    opts.batch = BATCH;
    return opts;
}

/* Plans of one's own evaluate as vgg_evaluate() did into `expected`; some can't. */
static void evaluate_by_plans(vgg_model *model, vgg_loader *loader,
                              const vgg_metrics *expected)
{
    static const struct {
        uint32_t mode, batch;
        vgg_status status;
        const char *text;
    } cases[] = {
        {VGG_MODE_INFER, BATCH, VGG_OK, NULL},
        {VGG_MODE_INFER, BATCH + 5, VGG_OK, NULL},
        {VGG_MODE_GRAD, BATCH, VGG_OK, NULL},
        {VGG_MODE_TRAIN, BATCH, VGG_ESTATE, "a training plan can't evaluate"},
        {VGG_MODE_INFER, BATCH - 1, VGG_ESHAPE,
         "the loader gives batches of 16; the plan takes 15"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
        vgg_plan *plan;
        vgg_metrics *metrics;
        opts.mode = cases[i].mode;
        opts.batch = cases[i].batch;
        ck_ok(vgg_plan_create(model, device, &opts, &plan));
        ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
        const vgg_status status = vgg_plan_evaluate(plan, loader, metrics);
        ck_assert_int_eq(status, cases[i].status);
        if (status == VGG_OK) {
            ck_assert_uint_eq(vgg_metrics_count(metrics), SAMPLES);
            ck_assert_double_eq(vgg_metrics_loss(metrics), vgg_metrics_loss(expected));
        } else {
            ck_assert_ptr_nonnull(strstr(vgg_last_error(), cases[i].text));
            ck_assert_uint_eq(vgg_metrics_count(metrics), 0);
        }
        vgg_metrics_free(metrics);
        vgg_plan_free(plan);
    }
    ck_fails(vgg_plan_evaluate(NULL, loader, NULL), VGG_EINVAL);
}

START_TEST(learns_bars)
{
    set_up();
    vgg_model *model = build(0.0f, (uint32_t)_i);
    const vgg_trainer_options opts = recipe(20);
    vgg_trainer *trainer = make(model, &opts);
    vgg_loader *train = load(BATCH, 1), *test = load(BATCH, 0);
    struct counts counts = {0};
    const vgg_callbacks callbacks = {&counts, on_batch, on_epoch};
    ck_ok(vgg_trainer_fit(trainer, train, test, &callbacks));
    const vgg_progress *progress = vgg_trainer_progress(trainer);
    ck_assert_int_eq(counts.batches, 20 * 4); /* 60 samples: 16 16 16 12 */
    ck_assert_uint_eq(progress->step, 80);
    ck_assert_double_ge(progress->test_accuracy, 0.99);
    ck_assert_double_ge(progress->best_accuracy, progress->test_accuracy);

    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
    ck_ok(vgg_evaluate(model, device, test, metrics));
    ck_assert_double_eq(vgg_metrics_top_k(metrics, 1), progress->test_accuracy);
    ck_assert_double_eq(vgg_metrics_loss(metrics), progress->test_loss);
    evaluate_by_plans(model, test, metrics);
    vgg_metrics_free(metrics);
    vgg_loader_free(train);
    vgg_loader_free(test);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

/* Two halves of a batch, accumulated, are the whole batch: same loss, same step. */
START_TEST(accumulation_is_a_larger_batch)
{
    set_up();
    for (uint32_t parts = 1; parts <= 2; parts++) {
        vgg_model *model = build(0.5f, 0);
        vgg_trainer_options opts = recipe(1);
        opts.batch = BATCH / parts;
        opts.accumulate = parts;
        opts.clip_norm = 0.5;
        vgg_trainer *trainer = make(model, &opts);
        vgg_loader *train = load(BATCH / parts, 1);
        for (uint32_t i = 0; i < 2 * parts; i++) {
            vgg_batch batch;
            ck_ok(vgg_loader_next(train, &batch));
            ck_ok(vgg_trainer_step(trainer, &batch, NULL));
        }
        ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 2);
        ck_assert_double_gt(vgg_trainer_progress(trainer)->gradient_norm, 0.0);
        snapshot(model, values[parts - 1], MOST);
        vgg_loader_free(train);
        vgg_trainer_free(trainer);
        vgg_model_free(model);
    }
    for (int i = 0; i < MOST; i++)
        ck_assert_float_eq_tol(values[0][i], values[1][i], 2e-6f);
    tear_down();
}
END_TEST

/* Stopped in the middle of an epoch and going on: the same bits as never stopped. */
START_TEST(going_on_is_exact)
{
    set_up();
    size_t count = 0;
    for (int stopped = 0; stopped < 2; stopped++) {
        vgg_model *model = build(0.5f, 1);
        const vgg_trainer_options opts = recipe(3);
        vgg_trainer *trainer = make(model, &opts);
        vgg_loader *train = load(BATCH, 1), *test = load(BATCH, 0);
        struct counts counts = {.stop_at = stopped ? 6 : 0};
        const vgg_callbacks callbacks = {&counts, on_batch, on_epoch};
        if (stopped) {
            ck_fails(vgg_trainer_fit(trainer, train, test, &callbacks), VGG_ECANCELED);
            ck_assert_uint_eq(vgg_trainer_progress(trainer)->epoch, 1);
            ck_assert_uint_eq(vgg_trainer_progress(trainer)->batch, 2);
        }
        ck_ok(vgg_trainer_fit(trainer, train, test, &callbacks));
        ck_assert_int_eq(counts.batches, 12);
        ck_assert_int_eq(counts.epochs, 3);
        count = snapshot(model, values[stopped], MOST);
        vgg_loader_free(train);
        vgg_loader_free(test);
        vgg_trainer_free(trainer);
        vgg_model_free(model);
    }
    ck_assert_mem_eq(values[0], values[1], count * sizeof(float));
    tear_down();
}
END_TEST

/* A plan that keeps parameters alive hands on no earlier trainer's momentum. */
START_TEST(a_new_trainer_starts_anew)
{
    set_up();
    size_t count = 0;
    for (int earlier = 0; earlier < 2; earlier++) {
        vgg_model *model = build(0.0f, 0);
        vgg_plan *keeps = NULL;
        ck_ok(vgg_plan_create(model, device, NULL, &keeps));
        vgg_trainer_options opts = recipe(2);
        vgg_loader *train = load(BATCH, 1);
        if (earlier) {
            vgg_trainer *first = make(model, &opts);
            ck_ok(vgg_trainer_fit(first, train, NULL, NULL));
            vgg_trainer_free(first);
            ck_ok(vgg_model_init(model, VGG_INIT_XAVIER, 0));
        }
        vgg_trainer *trainer = make(model, &opts);
        ck_ok(vgg_trainer_fit(trainer, train, NULL, NULL));
        count = snapshot(model, values[earlier], MOST);
        vgg_trainer_free(trainer);
        vgg_loader_free(train);
        vgg_plan_free(keeps);
        vgg_model_free(model);
    }
    ck_assert_mem_eq(values[0], values[1], count * sizeof(float));
    tear_down();
}
END_TEST

START_TEST(another_loader_in_the_middle_is_refused)
{
    set_up();
    vgg_model *model = build(0.0f, 0);
    const vgg_trainer_options opts = recipe(2);
    vgg_trainer *trainer = make(model, &opts);
    vgg_loader *train = load(BATCH, 1), *other = load(BATCH / 2, 1);
    struct counts counts = {.stop_at = 2};
    const vgg_callbacks callbacks = {&counts, on_batch, NULL};
    ck_fails(vgg_trainer_fit(trainer, train, NULL, &callbacks), VGG_ECANCELED);
    ck_fails_with(vgg_trainer_fit(trainer, other, NULL, NULL), VGG_EMISMATCH,
                  "an epoch of 4 batches; the loader's epochs have 8");
    ck_ok(vgg_trainer_fit(trainer, train, NULL, NULL));
    vgg_loader_free(other);
    vgg_loader_free(train);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

START_TEST(cancel_stops_between_batches)
{
    set_up();
    vgg_model *model = build(0.0f, 0);
    const vgg_trainer_options opts = recipe(3);
    vgg_trainer *trainer = make(model, &opts);
    vgg_loader *train = load(BATCH, 1);
    vgg_trainer_cancel(trainer);
    ck_fails(vgg_trainer_fit(trainer, train, NULL, NULL), VGG_ECANCELED);
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 0);
    ck_ok(vgg_trainer_fit(trainer, train, NULL, NULL));
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 12);
    ck_assert(isnan(vgg_trainer_progress(trainer)->test_accuracy));
    vgg_loader_free(train);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

/* What a callback tries, and what it is told. */
struct attempt {
    vgg_trainer *trainer;
    vgg_loader *loader;
    vgg_status fit, step, load, save, seek, next, evaluate;
};

static int try_all(void *cookie, const vgg_progress *progress)
{
    struct attempt *a = cookie;
    const vgg_batch none = {.count = 0};
    char dir[64] = "";
    harness_mkdtemp(dir);
    char saved[80];
    snprintf(saved, sizeof saved, "%s/saved", dir);
    a->fit = vgg_trainer_fit(a->trainer, a->loader, NULL, NULL);
    a->step = vgg_trainer_step(a->trainer, &none, NULL);
    a->save = vgg_checkpoint_save(a->trainer, saved, NULL);
    a->load = vgg_checkpoint_load(a->trainer, saved, NULL);
    vgg_batch batch;
    vgg_metrics *metrics;
    ck_ok(vgg_metrics_create(NULL, CLASSES, &metrics));
    a->seek = vgg_loader_seek(a->loader, 0, 1);
    a->next = vgg_loader_next(a->loader, &batch);
    a->evaluate =
        vgg_evaluate(vgg_trainer_model(a->trainer), device, a->loader, metrics);
    vgg_metrics_free(metrics);
    harness_rmdir(dir);
    return 1;
}

/* A fit is not begun within itself; saving is what callbacks are for. */
START_TEST(callbacks_within_limits)
{
    set_up();
    vgg_model *model = build(0.0f, 0);
    const vgg_trainer_options opts = recipe(2);
    vgg_trainer *trainer = make(model, &opts);
    struct attempt attempt = {.trainer = trainer, .loader = load(BATCH, 1)};
    const vgg_callbacks callbacks = {&attempt, try_all, NULL};
    ck_fails(vgg_trainer_fit(trainer, attempt.loader, NULL, &callbacks), VGG_ECANCELED);
    ck_assert_int_eq(attempt.fit, VGG_ESTATE);
    ck_assert_int_eq(attempt.step, VGG_ESTATE);
    ck_assert_int_eq(attempt.load, VGG_ESTATE);
    ck_assert_int_eq(attempt.save, VGG_OK);
    ck_assert_int_eq(attempt.seek, VGG_ESTATE);
    ck_assert_int_eq(attempt.next, VGG_ESTATE);
    ck_assert_int_eq(attempt.evaluate, VGG_ESTATE);
    /* It goes on afterwards, with one loader for both as well, which is free then. */
    ck_ok(vgg_trainer_fit(trainer, attempt.loader, attempt.loader, NULL));
    ck_ok(vgg_loader_seek(attempt.loader, 0, 0));
    vgg_loader_free(attempt.loader);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

START_TEST(infinite_loss_changes_nothing)
{
    set_up();
    vgg_model *model = build(0.0f, 0);
    vgg_param *bias = vgg_model_find_param(model, "fc8.bias");
    vgg_tensor *value;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(bias), &value));
    ((float *)vgg_tensor_data(value))[1] = NAN;
    ck_ok(vgg_param_write(bias, value));
    const vgg_trainer_options opts = recipe(1);
    vgg_trainer *trainer = make(model, &opts);
    const size_t count = snapshot(model, values[0], MOST);
    vgg_loader *train = load(BATCH, 1);
    ck_fails_with(vgg_trainer_fit(trainer, train, NULL, NULL), VGG_ENONFINITE, "nan");
    snapshot(model, values[1], MOST);
    ck_assert_mem_eq(values[0], values[1], count * sizeof(float));
    vgg_tensor_free(value);
    vgg_loader_free(train);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

/* One bad image must not spoil a model for good. */
START_TEST(a_nan_pixel_spares_statistics)
{
    set_up();
    vgg_model *model = build(0.0f, 1);
    const vgg_trainer_options opts = recipe(1);
    vgg_trainer *trainer = make(model, &opts);
    vgg_tensor *images, *var;
    const vgg_shape shape = {4, {4, 1, SIDE, SIDE}};
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &images));
    float *pixel = vgg_tensor_data(images);
    for (int i = 0; i < 4 * SIDE * SIDE; i++) pixel[i] = (float)(i % 7) / 7.0f;
    const uint32_t labels[4] = {0, 1, 2, 0}, wrong[4] = {0, 7, 2, 0};
    vgg_batch batch = {.images = images, .labels = labels, .count = 4};
    vgg_param *param = vgg_model_find_param(model, "bn1_1.running_var");
    ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(param), &var));

    batch.labels = wrong; /* refused before the forward: nothing moves */
    ck_fails_with(vgg_trainer_step(trainer, &batch, NULL), VGG_EINVAL, "label 1 is 7");
    ck_ok(vgg_param_read(param, var));
    ck_assert_float_eq(((float *)vgg_tensor_data(var))[0], 1.0f);
    batch.labels = labels;
    pixel[5] = NAN;
    ck_fails(vgg_trainer_step(trainer, &batch, NULL), VGG_ENONFINITE);
    ck_assert_uint_eq(vgg_trainer_progress(trainer)->step, 0);
    pixel[5] = 0.5f;
    ck_ok(vgg_trainer_step(trainer, &batch, NULL));
    ck_ok(vgg_param_read(param, var));
    ck_assert(isfinite(((float *)vgg_tensor_data(var))[0]));
    batch.index = UINT64_MAX;
    ck_fails(vgg_trainer_step(trainer, &batch, NULL), VGG_EINVAL);
    vgg_tensor_free(var);
    vgg_tensor_free(images);
    vgg_trainer_free(trainer);
    vgg_model_free(model);
    tear_down();
}
END_TEST

START_TEST(bad_recipes_are_refused)
{
    set_up();
    vgg_model *model = build(0.0f, 0);
    vgg_trainer *trainer;
    vgg_trainer_options opts = recipe(1);
    opts.lr = NAN;
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL, "lr");
    ck_assert_ptr_null(trainer);
    opts.lr = 1e39; /* finite, but not as the float that it is used as */
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL,
                  "that a float can hold");
    opts = recipe(0);
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL,
                  "epochs");
    opts = recipe(1);
    opts.accumulate = 0;
    ck_fails(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL);
    opts = recipe(1);
    opts.label_smoothing = 1.0f;
    ck_fails(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL);
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.nesterov = 1;
    opts = recipe(1);
    opts.optimizer = &optimizer;
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL,
                  "momentum");
    ck_fails(vgg_trainer_create(NULL, device, NULL, &trainer), VGG_EINVAL);
    opts = recipe(1);
    opts.precision = VGG_BF16 + 1;
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL,
                  "precision is 4");
    opts.precision = VGG_BF16;
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EUNSUPPORTED,
                  "bf16 needs the engine cudnn");
    opts.precision = VGG_FP32;
    opts.deterministic = 2;
    ck_fails_with(vgg_trainer_create(model, device, &opts, &trainer), VGG_EINVAL,
                  "deterministic is 2");

    opts = recipe(1);
    opts.batch = BATCH - 1;
    trainer = make(model, &opts);
    vgg_loader *train = load(BATCH, 1);
    ck_fails_with(vgg_trainer_fit(trainer, train, NULL, NULL), VGG_ESHAPE,
                  "batches of 16");
    vgg_trainer_free(trainer);
    vgg_loader_free(train);
    vgg_model_free(model);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *tc = tcase_create("training");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, learns_bars, 0, 2);
    tcase_add_test(tc, accumulation_is_a_larger_batch);
    tcase_add_test(tc, going_on_is_exact);
    tcase_add_test(tc, a_new_trainer_starts_anew);
    tcase_add_test(tc, another_loader_in_the_middle_is_refused);
    tcase_add_test(tc, cancel_stops_between_batches);
    tcase_add_test(tc, callbacks_within_limits);
    tcase_add_test(tc, infinite_loss_changes_nothing);
    tcase_add_test(tc, a_nan_pixel_spares_statistics);
    tcase_add_test(tc, bad_recipes_are_refused);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
