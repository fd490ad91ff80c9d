/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints when memory runs out at the n-th allocation, for all n: a save leaves the
 * older checkpoint, a load leaves the trainer, and both give back what they took. So
 * does a load when the device fails at the n-th call. */
#include "core/error.h"
#include "device/device.h"
#include "faults.h"
#include "harness.h"
#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, CLASSES = 3 };

static long memory_left;

static void *scarce_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    if (memory_left-- <= 0) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void scarce_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

static vgg_context *ctx;
static vgg_device *device;
static char base[64], dir[128];

static void setup(void)
{
    const vgg_allocator allocator = {NULL, scarce_alloc, scarce_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    memory_left = 1000000000;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_ok(vgg_device_open(ctx, "ref", &device));
    faults_end();
    harness_mkdtemp(base);
    snprintf(dir, sizeof dir, "%s/checkpoint", base);
}

static void teardown(void)
{
    vgg_device_free(device);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    harness_rmdir(base);
}

static vgg_trainer *make(uint64_t seed)
{
    vgg_optimizer adam = VGG_OPTIMIZER_INIT;
    adam.kind = VGG_ADAM;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &adam;
    opts.batch = BATCH;
    vgg_model *model = build(ctx, seed);
    vgg_trainer *trainer;
    ck_ok(vgg_trainer_create(model, device, &opts, &trainer));
    vgg_model_free(model);
    return trainer;
}

static void train(vgg_trainer *trainer, int steps)
{
    float pixels[BATCH * 16];
    static const uint32_t labels[BATCH] = {0, 2};
    const vgg_shape shape = {4, {BATCH, 1, 4, 4}};
    for (int i = 0; i < BATCH * 16; i++) pixels[i] = (float)(i * 37 % 64) / 64;
    vgg_tensor *images;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &shape, pixels, NULL, NULL, &images));
    const vgg_batch batch = {.images = images, .labels = labels, .count = BATCH};
    for (int i = 0; i < steps; i++) ck_ok(vgg_trainer_step(trainer, &batch, NULL));
    vgg_tensor_free(images);
}

START_TEST(saving)
{
    vgg_trainer *first = make(1), *second = make(2);
    train(first, 1);
    train(second, 2);
    ck_ok(vgg_checkpoint_save(first, dir, NULL));
    const uint64_t bytes = vgg_context_bytes(ctx);
    vgg_status status = VGG_ENOMEM;
    long n = 0;
    for (; status == VGG_ENOMEM; n++) {
        memory_left = n;
        status = vgg_checkpoint_save(second, dir, NULL);
        memory_left = 1000000000;
        ck_assert_uint_eq(vgg_context_bytes(ctx), bytes);
        ck_assert_int_eq(faults_entries(base, ""), 1);
        if (status == VGG_ENOMEM) ck_ok(vgg_checkpoint_load(first, dir, NULL));
        ck_assert_uint_eq(vgg_trainer_progress(first)->step, 1);
    }
    ck_ok(status);
    ck_assert_int_gt(n, 20);
    vgg_trainer_free(first);
    vgg_trainer_free(second);
}
END_TEST

/* Also the device's memory for optimiser state that it does not have yet. */
START_TEST(loading)
{
    vgg_trainer *saved = make(1);
    train(saved, 2);
    ck_ok(vgg_checkpoint_save(saved, dir, NULL));
    const struct state expected = state_of(vgg_trainer_model(saved));
    train(saved, 2);
    const struct state later = state_of(vgg_trainer_model(saved));
    vgg_status status = VGG_ENOMEM;
    long n = 0;
    for (; status == VGG_ENOMEM; n++) {
        vgg_trainer *trainer = make(2);
        const struct state before = state_of(vgg_trainer_model(trainer));
        memory_left = n;
        status = vgg_checkpoint_load(trainer, dir, NULL);
        memory_left = 1000000000;
        const struct state after = state_of(vgg_trainer_model(trainer));
        ck_assert(same(&after, status == VGG_OK ? &expected : &before));
        ck_assert_uint_eq(vgg_trainer_progress(trainer)->step,
                          status == VGG_OK ? 2 : 0);
        vgg_trainer *other = make(2); /* what both do next is the same */
        if (status == VGG_OK) ck_ok(vgg_checkpoint_load(other, dir, NULL));
        train(trainer, 2);
        train(other, 2);
        const struct state a = state_of(vgg_trainer_model(trainer));
        const struct state b = state_of(vgg_trainer_model(other));
        ck_assert(same(&a, &b));
        if (status == VGG_OK) ck_assert(same(&a, &later));
        vgg_trainer_free(trainer);
        vgg_trainer_free(other);
    }
    ck_ok(status);
    ck_assert_int_gt(n, 40);
    vgg_trainer_free(saved);
}
END_TEST

/* An engine whose n-th call of these two fails, once. */
static const vgg_engine *whole;
static long calls_left;

static vgg_status weak_write(void *store, uint32_t param, vgg_slot slot, const void *in,
                             vgg_dtype dtype)
{
    if (calls_left-- == 0) return vgg__fail(VGG_EDEVICE, "a write failed");
    return whole->store_write(store, param, slot, in, dtype);
}

static vgg_status weak_zero_gradients(void *store)
{
    if (calls_left-- == 0) return vgg__fail(VGG_EDEVICE, "zeros failed");
    return whole->store_zero_gradients(store);
}

/* The trainer has moments of its own, which a load that fails has begun to replace. */
START_TEST(failing_device)
{
    vgg_engine weak = *device->engine;
    whole = device->engine;
    weak.store_write = weak_write;
    weak.store_zero_gradients = weak_zero_gradients;
    vgg_trainer *saved = make(1);
    train(saved, 2);
    ck_ok(vgg_checkpoint_save(saved, dir, NULL));
    vgg_status status = VGG_EDEVICE;
    long n = 0;
    for (; status == VGG_EDEVICE; n++) {
        vgg_trainer *trainer = make(2), *other = make(2);
        train(trainer, 1);
        train(other, 1);
        const struct state before = state_of(vgg_trainer_model(trainer));
        device->engine = &weak;
        calls_left = n;
        status = vgg_checkpoint_load(trainer, dir, NULL);
        device->engine = whole;
        if (status == VGG_EDEVICE) {
            const struct state after = state_of(vgg_trainer_model(trainer));
            ck_assert(same(&after, &before));
            train(trainer, 2); /* goes on as if nobody had tried */
            train(other, 2);
            const struct state a = state_of(vgg_trainer_model(trainer));
            const struct state b = state_of(vgg_trainer_model(other));
            ck_assert_msg(same(&a, &b), "call %ld failed", n);
        }
        vgg_trainer_free(trainer);
        vgg_trainer_free(other);
    }
    ck_ok(status);
    ck_assert_int_gt(n, 8); /* two moments of each parameter */
    vgg_trainer_free(saved);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint-memory");
    TCase *tests = tcase_create("checkpoint-memory");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, saving);
    tcase_add_test(tests, loading);
    tcase_add_test(tests, failing_device);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
