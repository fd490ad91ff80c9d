/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints: exact resuming, everything that can be wrong with one, and that a
 * failure or a kill at any call leaves the old one or the new. */
#include "core/error.h"
#include "faults.h"
#include "files.h"
#include "harness.h"
#include "io/json.h"
#include "model/model.h"
#include "store/manifest.h"
#include "train/trainer.h"

#include <vgg/vgg.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "changes.h"

enum { SIDE = 4, BATCH = 4, CLASSES = 3 };

static vgg_device *device;
static char base[64], dir[128];

static void setup(void)
{
    ck_ok(vgg_device_open(NULL, "ref", &device));
    faults_end();
    harness_mkdtemp(base);
    snprintf(dir, sizeof dir, "%s/checkpoint", base);
}

static void teardown(void)
{
    vgg_device_free(device);
    harness_rmdir(base);
}

static const vgg_optimizer optimizers[] = {
    {sizeof(vgg_optimizer), VGG_SGD, 0, 0.0, 0.0, 0.9, 0.999, 1e-8},
    {sizeof(vgg_optimizer), VGG_SGD, 1, 0.9, 1e-4, 0.9, 0.999, 1e-8},
    {sizeof(vgg_optimizer), VGG_ADAM, 0, 0.0, 0.0, 0.9, 0.999, 1e-8},
    {sizeof(vgg_optimizer), VGG_ADAMW, 0, 0.0, 0.01, 0.9, 0.999, 1e-8},
};

enum { PLAIN, MOMENTUM, ADAM, ADAMW, OPTIMIZERS };

static vgg_trainer_options recipe(int optimizer)
{
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizers[optimizer];
    opts.lr = 0.01;
    opts.batch = BATCH;
    opts.seed = 3;
    return opts;
}

static vgg_model *build(uint64_t seed, uint32_t hidden)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = SIDE;
    arch.hidden = hidden;
    arch.classes = CLASSES;
    arch.batch_norm = 1;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    vgg_model *model;
    ck_ok(vgg_model_create(NULL, &arch, 32, &opts, &model));
    return model;
}

static vgg_trainer *make_with(uint64_t seed, const vgg_trainer_options *opts)
{
    vgg_model *model = build(seed, 5);
    vgg_trainer *trainer;
    ck_ok(vgg_trainer_create(model, device, opts, &trainer));
    vgg_model_free(model);
    return trainer;
}

static vgg_trainer *make(uint64_t seed, int optimizer)
{
    const vgg_trainer_options opts = recipe(optimizer);
    return make_with(seed, &opts);
}

/* One batch of images that depend on `seed`. */
static void train_batch(vgg_trainer *trainer, uint64_t seed)
{
    float pixels[BATCH * SIDE * SIDE];
    uint32_t labels[BATCH];
    const vgg_shape shape = {4, {BATCH, 1, SIDE, SIDE}};
    vgg_tensor *images;
    for (uint32_t i = 0; i < BATCH; i++) labels[i] = (uint32_t)(seed + i) % CLASSES;
    for (uint32_t i = 0; i < BATCH * SIDE * SIDE; i++)
        pixels[i] =
            (float)((i * 37 + seed * 11 + labels[i / (SIDE * SIDE)] * 5) % 64) / 64;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &shape, pixels, NULL, NULL, &images));
    const vgg_batch batch = {.images = images, .labels = labels, .count = BATCH};
    ck_ok(vgg_trainer_step(trainer, &batch, NULL));
    vgg_tensor_free(images);
}

/* `count` steps on images that depend on the step. */
static void train(vgg_trainer *trainer, uint64_t count)
{
    for (uint64_t n = 0; n < count; n++)
        train_batch(trainer, vgg_trainer_progress(trainer)->step);
}

/* Everything that a training is: values, counters, progress. */
struct state {
    float values[2000];
    size_t count;
    uint64_t batches, steps_per_epoch;
    vgg_progress progress;
};

static struct state state_of(vgg_trainer *trainer)
{
    struct state state;
    vgg_model *model = vgg_trainer_model(trainer);
    memset(&state, 0, sizeof state);
    ck_ok(vgg__model_refresh(model));
    for (uint32_t i = 0; i < model->param_count; i++) {
        ck_assert(state.count + model->params[i]->count <= 2000);
        memcpy(state.values + state.count, model->params[i]->value,
               model->params[i]->count * sizeof(float));
        state.count += model->params[i]->count;
    }
    state.batches = model->batches_tracked;
    state.steps_per_epoch = trainer->steps_per_epoch;
    state.progress = *vgg_trainer_progress(trainer);
    return state;
}

static bool same(const struct state *a, const struct state *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static const char *in_dir(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

/* Make the manifest true again after a file was changed. */
static void sign(void)
{
    struct vgg__manifest manifest;
    memset(&manifest, 0, sizeof manifest);
    for (uint32_t i = 0; i < VGG_FILES; i++) {
        const char *path = in_dir(vgg__checkpoint_names[1 + i]);
        struct stat st;
        if (stat(path, &st) != 0) continue;
        size_t size;
        char *text = read_file(path, &size);
        struct vgg__sha256 sha;
        vgg__sha256_begin(&sha);
        vgg__sha256_add(&sha, text, size);
        vgg__sha256_end(&sha, manifest.files[i].sha256);
        manifest.files[i].present = true;
        manifest.files[i].size = size;
        free(text);
    }
    char *text;
    size_t size;
    ck_ok(vgg__manifest_write(NULL, &manifest, &text, &size));
    write_file(in_dir("manifest.json"), text, size);
    struct vgg__json_out out = {.text = text};
    vgg__json_out_free(&out);
}

/* Replace the first `from` in a file of the checkpoint. */
static void edit(const char *name, const char *from, const char *to)
{
    size_t size;
    const char *path = in_dir(name);
    char *text = read_file(path, &size);
    char *place = memmem(text, size, from, strlen(from));
    ck_assert_msg(place != NULL, "%s lacks %s", name, from);
    char *out = malloc(size + strlen(to) + 1);
    const size_t before = (size_t)(place - text), rest = size - before - strlen(from);
    memcpy(out, text, before);
    memcpy(out + before, to, strlen(to));
    memcpy(out + before + strlen(to), place + strlen(from), rest);
    write_file(path, out, before + strlen(to) + rest);
    free(out);
    free(text);
}

/* 3 steps, save, 4 steps; against load into a fresh trainer, 4 steps. */
START_TEST(resume_exactly)
{
    vgg_trainer *first = make(1, _i);
    train(first, 3);
    vgg_metadata *metadata, *back;
    ck_ok(vgg_metadata_create(NULL, &metadata));
    ck_ok(vgg_metadata_set(metadata, "classes", "a\nb\nc"));
    ck_ok(vgg_checkpoint_save(first, dir, metadata));
    vgg_metadata_free(metadata);
    const struct state saved = state_of(first);
    train(first, 4);
    const struct state end = state_of(first);
    ck_assert(!same(&saved, &end));

    vgg_trainer *second = make(2, _i);
    train(second, 2); /* what it has done before must leave no trace */
    ck_ok(vgg_checkpoint_load(second, dir, &back));
    ck_assert_str_eq(vgg_metadata_get(back, "classes"), "a\nb\nc");
    ck_assert_ptr_nonnull(vgg_metadata_get(back, "vgg.arch"));
    vgg_metadata_free(back);
    const struct state loaded = state_of(second);
    ck_assert(same(&saved, &loaded));
    train(second, 4);
    const struct state again = state_of(second);
    ck_assert(same(&end, &again));

    /* And back in the first one, which is ahead. */
    ck_ok(vgg_checkpoint_load(first, dir, NULL));
    train(first, 4);
    const struct state third = state_of(first);
    ck_assert(same(&end, &third));
    struct stat st;
    ck_assert_int_eq(stat(in_dir("optimizer.safetensors"), &st) == 0, _i != PLAIN);
    vgg_trainer_free(first);
    vgg_trainer_free(second);
}
END_TEST

/* Before the first step there is no optimiser state; loading that takes it away. */
START_TEST(resume_from_start)
{
    vgg_trainer *first = make(1, ADAM), *second = make(2, ADAM);
    ck_ok(vgg_checkpoint_save(first, dir, NULL));
    train(first, 5);
    train(second, 3);
    ck_ok(vgg_checkpoint_load(second, dir, NULL));
    train(second, 5);
    const struct state a = state_of(first), b = state_of(second);
    ck_assert(same(&a, &b));
    vgg_trainer_free(first);
    vgg_trainer_free(second);
}
END_TEST

START_TEST(every_field_of_progress)
{
    vgg_trainer *first = make(1, PLAIN), *second = make(2, PLAIN);
    first->progress = (vgg_progress){.epoch = 3,
                                     .batch = 2,
                                     .batches = 15,
                                     .step = UINT64_C(9007199254740993),
                                     .seen = 8,
                                     .correct = 5,
                                     .loss_sum = 0.1 + 0.2,
                                     .batch_loss = 1.0 / 3.0,
                                     .lr = 5e-324,
                                     .gradient_norm = 1e300,
                                     .test_loss = 0.25,
                                     .test_accuracy = NAN,
                                     .best_accuracy = 1.0,
                                     .best_epoch = 2};
    first->steps_per_epoch = 15;
    ck_ok(vgg_checkpoint_save(first, dir, NULL));
    ck_ok(vgg_checkpoint_load(second, dir, NULL));
    ck_assert(isnan(second->progress.test_accuracy));
    first->progress.test_accuracy = second->progress.test_accuracy = 0;
    ck_assert_mem_eq(&first->progress, &second->progress, sizeof first->progress);
    ck_assert_uint_eq(second->steps_per_epoch, 15);
    vgg_trainer_free(first);
    vgg_trainer_free(second);
}
END_TEST

START_TEST(changed)
{
    vgg_trainer *trainer = make(1, ADAM);
    train(trainer, 3);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    train(trainer, 1);
    edit(changes[_i].file, changes[_i].from, changes[_i].to);
    if (changes[_i].sign) sign();
    const struct state before = state_of(trainer);
    const vgg_status whole = vgg_checkpoint_check(NULL, dir);
    ck_assert_msg(whole == (changes[_i].sign ? VGG_OK : changes[_i].status),
                  "%s: check says %s", changes[_i].name, vgg_status_name(whole));
    vgg_metadata *metadata = (vgg_metadata *)&before;
    const vgg_status status = vgg_checkpoint_load(trainer, dir, &metadata);
    ck_assert_msg(status == changes[_i].status, "%s: %s, expected %s: %s",
                  changes[_i].name, vgg_status_name(status),
                  vgg_status_name(changes[_i].status), vgg_last_error());
    vgg_metadata_free(metadata);
    if (status != VGG_OK) {
        ck_assert_ptr_null(metadata);
        ck_assert_msg(strstr(vgg_last_error(), changes[_i].fragment) != NULL,
                      "%s: text lacks \"%s\": %s", changes[_i].name,
                      changes[_i].fragment, vgg_last_error());
        const struct state after = state_of(trainer);
        ck_assert_msg(same(&before, &after), "%s: the trainer was changed",
                      changes[_i].name);
        /* The optimiser's state too: what follows is what would have followed. */
        vgg_trainer *other = make(1, ADAM);
        train(other, 6);
        train(trainer, 2);
        const struct state a = state_of(trainer), b = state_of(other);
        ck_assert_msg(same(&a, &b), "%s: the optimiser was changed", changes[_i].name);
        vgg_trainer_free(other);
    }
    vgg_trainer_free(trainer);
}
END_TEST

/* Every file cut at many places, and every file missing. */
START_TEST(cut_and_missing)
{
    vgg_trainer *trainer = make(1, MOMENTUM);
    train(trainer, 2);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    train(trainer, 1);
    const struct state before = state_of(trainer);
    for (uint32_t i = 0; i < 1 + VGG_FILES; i++) {
        size_t size;
        const char *name = vgg__checkpoint_names[i];
        char *text = read_file(in_dir(name), &size);
        for (size_t part = 0; part < size; part += 1 + part / 16) {
            /* A manifest is whole without its last newline. */
            if (i == 0 && part == size - 1) continue;
            write_file(in_dir(name), text, part);
            const vgg_status status = vgg_checkpoint_load(trainer, dir, NULL);
            ck_assert_msg(status == VGG_ETRUNCATED || status == VGG_EFORMAT,
                          "%s, %zu bytes: %s", name, part, vgg_status_name(status));
        }
        ck_assert_int_eq(unlink(in_dir(name)), 0);
        ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EIO, name);
        ck_assert_int_eq(symlink("/dev/zero", in_dir(name)), 0);
        ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EIO, name);
        ck_assert_int_eq(unlink(in_dir(name)), 0);
        write_file(in_dir(name), text, size);
        free(text);
    }
    const struct state after = state_of(trainer);
    ck_assert(same(&before, &after));
    ck_ok(vgg_checkpoint_load(trainer, dir, NULL));
    vgg_trainer_free(trainer);
}
END_TEST

/* Files of another generation: the manifest tells. */
START_TEST(mixed_generations)
{
    vgg_trainer *trainer = make(1, MOMENTUM);
    size_t size;
    train(trainer, 2);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    char *old = read_file(in_dir("optimizer.safetensors"), &size);
    train(trainer, 1);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    write_file(in_dir("optimizer.safetensors"), old, size);
    ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_ECHECKSUM, "optimizer");
    free(old);
    vgg_trainer_free(trainer);
}
END_TEST

START_TEST(state_without_file)
{
    vgg_trainer *trainer = make(1, ADAM);
    train(trainer, 2);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    ck_assert_int_eq(unlink(in_dir("optimizer.safetensors")), 0);
    sign();
    ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EFORMAT,
                  "step 2 of an optimiser with state");
    vgg_trainer_free(trainer);
}
END_TEST

/* ck17: state that the optimiser does not have. */
START_TEST(state_too_many)
{
    static const char file[] =
        "\103\0\0\0\0\0\0\0{\"a.state0\":{\"dtype\":\"F32\",\"shape\":[1],"
        "\"data_offsets\":[0,4]}}      \0\0\0";
    vgg_trainer *trainer = make(1, PLAIN);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    write_file(in_dir("optimizer.safetensors"), file, sizeof file);
    sign();
    ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EMISMATCH,
                  "has 1 tensors, the optimiser 0");
    vgg_trainer_free(trainer);
}
END_TEST

/* ck18: a mean of squares below zero. */
START_TEST(negative_moment)
{
    vgg_trainer *trainer = make(1, ADAM);
    train(trainer, 2);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    size_t size;
    char *text = read_file(in_dir("optimizer.safetensors"), &size);
    text[size - 1] = (char)0x80; /* the sign of the last element, a state1 */
    text[size - 2] = 1;
    write_file(in_dir("optimizer.safetensors"), text, size);
    free(text);
    sign();
    ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EFORMAT,
                  "is not negative");
    vgg_trainer_free(trainer);
}
END_TEST

START_TEST(other_models)
{
    vgg_trainer *trainer = make(1, MOMENTUM), *other;
    train(trainer, 2);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    const vgg_trainer_options opts = recipe(MOMENTUM);
    vgg_model *model = build(1, 6);
    ck_ok(vgg_trainer_create(model, device, &opts, &other));
    vgg_model_free(model);
    ck_fails(vgg_checkpoint_load(other, dir, NULL), VGG_EMISMATCH);
    vgg_trainer_free(other);
    other = make(1, ADAM);
    ck_fails_with(vgg_checkpoint_load(other, dir, NULL), VGG_EMISMATCH,
                  "optimizer.kind is 0, the trainer has 1");
    vgg_trainer_free(other);
    vgg_trainer_free(trainer);
}
END_TEST

START_TEST(refused)
{
    vgg_trainer *trainer = make(1, PLAIN);
    ck_fails(vgg_checkpoint_save(NULL, dir, NULL), VGG_EINVAL);
    ck_fails(vgg_checkpoint_save(trainer, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_checkpoint_load(NULL, dir, NULL), VGG_EINVAL);
    ck_fails(vgg_checkpoint_load(trainer, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_checkpoint_save(trainer, "", NULL), VGG_EINVAL);
    ck_fails(vgg_checkpoint_load(trainer, dir, NULL), VGG_EIO);
    ck_fails_with(vgg_checkpoint_save(trainer, "/nonexistent/x", NULL), VGG_EIO,
                  "No such file");
    write_file(dir, "x", 1); /* ck51: a file is there */
    ck_fails(vgg_checkpoint_save(trainer, dir, NULL), VGG_EMISMATCH);
    ck_fails(vgg_checkpoint_load(trainer, dir, NULL), VGG_EMISMATCH);
    ck_assert_int_eq(unlink(dir), 0);
    ck_assert_int_eq(mkdir(dir, 0755), 0);
    ck_fails_with(vgg_checkpoint_load(trainer, dir, NULL), VGG_EIO, "manifest.json");
    write_file(in_dir("holiday.jpg"), "x", 1);
    ck_fails_with(vgg_checkpoint_save(trainer, dir, NULL), VGG_EMISMATCH,
                  "holiday.jpg");
    ck_assert_int_eq(faults_entries(base, ""), 1);
    vgg_trainer_free(trainer);
    vgg_trainer_options opts = recipe(PLAIN);
    opts.accumulate = 2;
    trainer = make_with(1, &opts);
    train_batch(trainer, 0);
    ck_fails_with(vgg_checkpoint_save(trainer, dir, NULL), VGG_ESTATE,
                  "1 of 2 batches");
    vgg_trainer_free(trainer);
}
END_TEST

/* Loading drops what was being accumulated. */
START_TEST(pending_dropped)
{
    vgg_trainer_options opts = recipe(MOMENTUM);
    opts.accumulate = 2;
    vgg_trainer *trainer = make_with(1, &opts);
    train_batch(trainer, 0);
    train_batch(trainer, 1);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    train_batch(trainer, 2);
    train_batch(trainer, 3);
    const struct state end = state_of(trainer);
    train_batch(trainer, 9);
    ck_ok(vgg_checkpoint_load(trainer, dir, NULL));
    train_batch(trainer, 2);
    train_batch(trainer, 3);
    const struct state again = state_of(trainer);
    ck_assert_mem_eq(end.values, again.values, sizeof end.values);
    vgg_trainer_free(trainer);
}
END_TEST

static const enum fault kinds[] = {
    FAULT_EIO,         FAULT_ENOSPC, FAULT_EINTR,           FAULT_SHORT,
    FAULT_NO_EXCHANGE, FAULT_STOP,   FAULT_STOP_NO_EXCHANGE};

/* Whatever call of a save fails, and wherever it is killed: a whole checkpoint
   loads. */
START_TEST(save_faults)
{
    const enum fault kind = kinds[_i];
    vgg_trainer *first = make(1, MOMENTUM), *second = make(1, MOMENTUM);
    vgg_trainer *reader = make(2, MOMENTUM);
    train(first, 2);
    train(second, 3);
    const struct state old = state_of(first), new = state_of(second);
    long failures = 0;
    for (long n = 1;; n++) {
        harness_rmdir(base);
        ck_assert_int_eq(mkdir(base, 0700), 0);
        ck_ok(vgg_checkpoint_save(first, dir, NULL));
        const int descriptors = faults_descriptors();
        faults_begin(kind, n);
        const vgg_status status = vgg_checkpoint_save(second, dir, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        ck_ok(vgg_checkpoint_load(reader, dir, NULL));
        const struct state found = state_of(reader);
        failures += status != VGG_OK;
        ck_assert(status == VGG_OK || status == VGG_EIO);
        if (kind < FAULT_STOP)
            ck_assert(same(&found, status == VGG_OK ? &new : &old));
        else
            ck_assert(same(&found, &old) || same(&found, &new));
        /* The next save finds its way, and clears up. */
        ck_ok(vgg_checkpoint_save(second, dir, NULL));
        ck_assert_int_eq(faults_entries(base, ""), 1);
        ck_assert_int_eq(faults_entries(dir, ""), 4);
        if (n > calls) break;
    }
    ck_assert(failures > 20 || kind == FAULT_SHORT);
    vgg_trainer_free(first);
    vgg_trainer_free(second);
    vgg_trainer_free(reader);
}
END_TEST

/* Whatever call of a load fails, the trainer is as it was. */
START_TEST(load_faults)
{
    vgg_trainer *trainer = make(1, MOMENTUM), *reader = make(2, MOMENTUM);
    char start[128];
    snprintf(start, sizeof start, "%s/start", base);
    train(trainer, 2);
    train(reader, 1);
    const struct state saved = state_of(trainer), before = state_of(reader);
    ck_ok(vgg_checkpoint_save(trainer, dir, NULL));
    ck_ok(vgg_checkpoint_save(reader, start, NULL));
    long failures = 0;
    for (long n = 1;; n++) {
        ck_ok(vgg_checkpoint_load(reader, start, NULL));
        const int descriptors = faults_descriptors();
        faults_begin(FAULT_EIO, n);
        const vgg_status status = vgg_checkpoint_load(reader, dir, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        const struct state after = state_of(reader);
        failures += status != VGG_OK;
        ck_assert(status == VGG_OK || status == VGG_EIO);
        ck_assert(same(&after, status == VGG_OK ? &saved : &before));
        if (n > calls) break;
    }
    ck_assert_int_gt(failures, 20);
    faults_begin(FAULT_SHORT, 1);
    ck_ok(vgg_checkpoint_load(reader, dir, NULL));
    faults_end();
    vgg_trainer_free(trainer);
    vgg_trainer_free(reader);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *tests = tcase_create("checkpoint");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, resume_exactly, 0, OPTIMIZERS);
    tcase_add_test(tests, resume_from_start);
    tcase_add_test(tests, every_field_of_progress);
    tcase_add_loop_test(tests, changed, 0, sizeof changes / sizeof changes[0]);
    tcase_add_test(tests, cut_and_missing);
    tcase_add_test(tests, mixed_generations);
    tcase_add_test(tests, state_without_file);
    tcase_add_test(tests, state_too_many);
    tcase_add_test(tests, negative_moment);
    tcase_add_test(tests, other_models);
    tcase_add_test(tests, refused);
    tcase_add_test(tests, pending_dropped);
    tcase_add_loop_test(tests, save_faults, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tests, load_faults);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
