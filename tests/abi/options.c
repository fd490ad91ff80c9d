/* SPDX-License-Identifier: Apache-2.0 */
/* Sized options through the public functions that take them, from callers of every age:
 * a struct shorter than the first release's is refused, a longer one is taken if what
 * this release does not know is zero, and refused as unsupported if it is not. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <vgg/vgg.h>

/* What the functions need; made before each test. */
static vgg_model *model;
static vgg_device *device;
static vgg_plan *plan;
static vgg_dataset *dataset;
static vgg_tensor *images, *image, *pixels;

static const vgg_shape images_shape = {4, {4, 1, 8, 8}}; /* [n][c][h][w] */

static vgg_arch small_arch(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.blocks[0] = (vgg_block){1, 4, 0};
    arch.height = arch.width = 8;
    arch.classes = 3;
    arch.hidden = 5;
    return arch;
}

static void set_up(void)
{
    const vgg_arch arch = small_arch();
    const uint32_t labels[4] = {0, 1, 2, 0};
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.mode = VGG_MODE_TRAIN;
    ck_ok(vgg_model_create(NULL, &arch, 1, NULL, &model));
    ck_ok(vgg_device_open(NULL, "ref", &device));
    ck_ok(vgg_plan_create(model, device, &opts, &plan));
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &images_shape, &images));
    ck_ok(vgg_dataset_from_arrays(NULL, images, labels, 3, &dataset));
    const vgg_shape one = {3, {1, 8, 8}}; /* [c][h][w] */
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &one, &image));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &one, &pixels));
}

static void tear_down(void)
{
    vgg_dataset_free(dataset);
    vgg_tensor_free(images);
    vgg_tensor_free(image);
    vgg_tensor_free(pixels);
    vgg_plan_free(plan);
    vgg_device_free(device);
    vgg_model_free(model);
}

/* Each function with a given options struct; what it makes is given back. */

static vgg_status create_context(const void *opts)
{
    vgg_context *ctx;
    const vgg_status status = vgg_context_create(opts, &ctx);
    vgg_context_free(ctx);
    return status;
}

static vgg_status check_arch(const void *opts)
{
    return vgg_arch_check(opts, 1);
}

static vgg_status create_model_of_arch(const void *opts)
{
    vgg_model *made;
    const vgg_status status = vgg_model_create(NULL, opts, 1, NULL, &made);
    vgg_model_free(made);
    return status;
}

static vgg_status create_model(const void *opts)
{
    const vgg_arch arch = small_arch();
    vgg_model *made;
    const vgg_status status = vgg_model_create(NULL, &arch, 1, opts, &made);
    vgg_model_free(made);
    return status;
}

static vgg_status create_plan(const void *opts)
{
    vgg_plan *made;
    const vgg_status status = vgg_plan_create(model, device, opts, &made);
    vgg_plan_free(made);
    return status;
}

static vgg_status measure_plan(const void *opts)
{
    uint64_t plan_bytes, shared_bytes;
    return vgg_plan_measure(model, device, opts, &plan_bytes, &shared_bytes);
}

static vgg_status update_plan(const void *opts)
{
    return vgg_plan_update(plan, opts, 0.1, 1);
}

static vgg_status rate_of_schedule(const void *opts)
{
    double rate;
    return vgg_schedule_rate(opts, 0.1, 0, 1, 1, &rate);
}

static vgg_status create_trainer(const void *opts)
{
    vgg_trainer *made;
    const vgg_status status = vgg_trainer_create(model, device, opts, &made);
    vgg_trainer_free(made);
    return status;
}

static vgg_status create_trainer_of_optimizer(const void *opts)
{
    vgg_trainer_options outer = VGG_TRAINER_OPTIONS_INIT;
    outer.optimizer = opts;
    return create_trainer(&outer);
}

static vgg_status create_trainer_of_schedule(const void *opts)
{
    vgg_trainer_options outer = VGG_TRAINER_OPTIONS_INIT;
    outer.schedule = opts;
    return create_trainer(&outer);
}

static vgg_status apply_transform(const void *opts)
{
    return vgg_transform_apply(opts, image, 0, 0, 0, 0, pixels);
}

static vgg_status create_loader(const void *opts)
{
    vgg_loader *made;
    const vgg_status status = vgg_loader_create(dataset, opts, &made);
    vgg_loader_free(made);
    return status;
}

static vgg_status create_loader_of_transform(const void *opts)
{
    vgg_loader_options outer = VGG_LOADER_OPTIONS_INIT;
    outer.transform = opts;
    return create_loader(&outer);
}

static vgg_status load_weights(const void *opts)
{
    static const char file[10] =
        "\2\0\0\0\0\0\0\0{}"; /* a sound file without tensors */
    return vgg_weights_load_memory(model, file, sizeof file, opts, NULL);
}

static const vgg_context_options context_init = VGG_CONTEXT_OPTIONS_INIT;
static const vgg_arch arch_init = VGG_ARCH_INIT;
static const vgg_model_options model_init = VGG_MODEL_OPTIONS_INIT;
static const vgg_plan_options plan_init = VGG_PLAN_OPTIONS_INIT;
static const vgg_optimizer optimizer_init = VGG_OPTIMIZER_INIT;
static const vgg_schedule schedule_init = VGG_SCHEDULE_INIT;
static const vgg_trainer_options trainer_init = VGG_TRAINER_OPTIONS_INIT;
static const vgg_transform transform_init = VGG_TRANSFORM_INIT;
static const vgg_loader_options loader_init = VGG_LOADER_OPTIONS_INIT;
static const vgg_weights_options weights_init = {sizeof weights_init, 1, 0, 0, 0};

enum { FIRST_ARCH = 1 }; /* the row of vgg_arch */

/* A function, valid options for it, their size in the first release, and their name as
 * error texts have it. */
static const struct {
    vgg_status (*call)(const void *opts);
    const void *init;
    size_t size, first_size;
    const char *name;
} takers[] = {
    {create_context, &context_init, sizeof context_init, 48, "vgg_context_options"},
    {check_arch, &arch_init, sizeof arch_init, 240, "vgg_arch"},
    {create_model_of_arch, NULL, sizeof arch_init, 240, "vgg_arch"},
    {create_model, &model_init, sizeof model_init, 24, "vgg_model_options"},
    {create_plan, &plan_init, sizeof plan_init, 48, "vgg_plan_options"},
    {measure_plan, &plan_init, sizeof plan_init, 48, "vgg_plan_options"},
    {update_plan, &optimizer_init, sizeof optimizer_init, 56, "vgg_optimizer"},
    {create_trainer_of_optimizer, &optimizer_init, sizeof optimizer_init, 56,
     "vgg_optimizer"},
    {rate_of_schedule, &schedule_init, sizeof schedule_init, 80, "vgg_schedule"},
    {create_trainer_of_schedule, &schedule_init, sizeof schedule_init, 80,
     "vgg_schedule"},
    {create_trainer, &trainer_init, sizeof trainer_init, 72, "vgg_trainer_options"},
    {apply_transform, &transform_init, sizeof transform_init, 72, "vgg_transform"},
    {create_loader_of_transform, &transform_init, sizeof transform_init, 72,
     "vgg_transform"},
    {create_loader, &loader_init, sizeof loader_init, 40, "vgg_loader_options"},
    {load_weights, &weights_init, sizeof weights_init, 24, "vgg_weights_options"},
};

/* Options of `size` bytes in memory of just that size, so that a memory checker sees
 * any byte that is read beyond. Filled from the valid ones and zero behind them. */
static void *options_of(int taker, size_t size)
{
    const vgg_arch arch = small_arch();
    const void *init = takers[taker].init != NULL ? takers[taker].init : &arch;
    void *opts = calloc(1, size);
    ck_assert_ptr_nonnull(opts);
    memcpy(opts, init, size < takers[taker].size ? size : takers[taker].size);
    memcpy(opts, &size, sizeof size);
    return opts;
}

START_TEST(present_release)
{
    void *opts = options_of(_i, takers[_i].size);
    ck_ok(takers[_i].call(opts));
    free(opts);
}
END_TEST

START_TEST(first_release)
{
    void *opts = options_of(_i, takers[_i].first_size);
    ck_ok(takers[_i].call(opts));
    free(opts);
}
END_TEST

START_TEST(too_small)
{
    const size_t sizes[] = {8, takers[_i].first_size - 8, takers[_i].first_size - 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *opts = options_of(_i, sizes[i]);
        ck_fails_with(takers[_i].call(opts), VGG_EINVAL, takers[_i].name);
        free(opts);
    }
    void *opts = options_of(_i, takers[_i].size);
    memset(opts, 0, sizeof(size_t)); /* never set */
    ck_fails_with(takers[_i].call(opts), VGG_EINVAL, takers[_i].name);
    memset(opts, 0xff, sizeof(size_t));
    ck_fails_with(takers[_i].call(opts), VGG_EINVAL, takers[_i].name);
    free(opts);
}
END_TEST

START_TEST(later_release_with_zeros)
{
    void *opts = options_of(_i, takers[_i].size + 24);
    ck_ok(takers[_i].call(opts));
    free(opts);
}
END_TEST

START_TEST(later_release_that_asks_for_more)
{
    const size_t size = takers[_i].size + 24;
    unsigned char *opts = options_of(_i, size);
    for (size_t i = takers[_i].size; i < size; i++) {
        opts[i] = 1;
        ck_fails_with(takers[_i].call(opts), VGG_EUNSUPPORTED, takers[_i].name);
        opts[i] = 0;
    }
    ck_ok(takers[_i].call(opts));
    free(opts);
}
END_TEST

/* Functions that write to a caller's struct keep to its size. */
START_TEST(written_within_its_size)
{
    struct {
        vgg_arch arch;
        unsigned char tail[24];
    } out = {VGG_ARCH_INIT, {0}};
    out.arch.size = sizeof out;
    ck_ok(vgg_arch_preset("vgg16", &out.arch));
    ck_assert_uint_eq(out.arch.size, sizeof out);
    ck_assert_uint_eq(out.arch.blocks[4].convs, 3);
    for (size_t i = 0; i < sizeof out.tail; i++) ck_assert_uint_eq(out.tail[i], 0);
    ck_ok(vgg_arch_check(&out.arch, 1));
    unsigned char *first = options_of(FIRST_ARCH, 240); /* of the first release */
    ck_ok(vgg_arch_preset("vgg16", (vgg_arch *)first));
    ck_assert_mem_eq(first + sizeof(size_t), (char *)&out.arch + sizeof(size_t),
                     240 - sizeof(size_t));
    free(first);
    out.arch.size = 240 - 8; /* of none */
    ck_fails_with(vgg_arch_preset("vgg11", &out.arch), VGG_EINVAL, "vgg_arch");
    ck_assert_uint_eq(out.arch.blocks[4].convs, 3);

    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.size -= 8;
    ck_fails_with(vgg_transform_normalize(&transform, "mnist"), VGG_EINVAL,
                  "vgg_transform");
    ck_assert(transform.mean[0] == 0.0f);
}
END_TEST

int main(void)
{
    const int count = sizeof takers / sizeof *takers;
    Suite *suite = suite_create("abi/options");
    TCase *tcase = tcase_create("options");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_loop_test(tcase, present_release, 0, count);
    tcase_add_loop_test(tcase, first_release, 0, count);
    tcase_add_loop_test(tcase, too_small, 0, count);
    tcase_add_loop_test(tcase, later_release_with_zeros, 0, count);
    tcase_add_loop_test(tcase, later_release_that_asks_for_more, 0, count);
    tcase_add_test(tcase, written_within_its_size);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
