/* SPDX-License-Identifier: Apache-2.0 */
/* Weights saved and loaded: what comes back, what a file looks like, and that no
 * failing call, cut file or lack of memory does harm. */
#include "faults.h"
#include "files.h"
#include "harness.h"
#include "model/model.h"
#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64], path[128];

static void setup(void)
{
    faults_end();
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/x.safetensors", base);
}

static void teardown(void)
{
    harness_rmdir(base);
}

START_TEST(round_trip)
{
    vgg_model *model = build(NULL, 1), *other = build(NULL, 2), *third;
    vgg_metadata *metadata, *back;
    model->batches_tracked = 12345;
    ck_ok(vgg_metadata_create(NULL, &metadata));
    ck_ok(vgg_metadata_set(metadata, "classes", "shirt\n\"bag\"\\\xc3\xa9"));
    ck_ok(vgg_weights_save(model, path, metadata));
    vgg_metadata_free(metadata);
    const struct state saved = state_of(model);
    ck_ok(vgg_weights_load(other, path, NULL, &back));
    const struct state loaded = state_of(other);
    ck_assert(same(&saved, &loaded));
    ck_assert_str_eq(vgg_metadata_get(back, "classes"), "shirt\n\"bag\"\\\xc3\xa9");
    ck_assert_str_eq(vgg_metadata_get(back, "format"), "pt");
    ck_assert_str_eq(
        vgg_metadata_get(back, "vgg.arch"),
        "{\"blocks\":[[1,64,0]],\"channels\":1,\"height\":4,\"width\":4,\"classes\":3,"
        "\"hidden\":5,\"dropout\":0.3,\"head\":\"flatten\",\"pool\":\"max\",\"batch_"
        "norm\":1,"
        "\"ratio\":32}");
    /* Onto the file that was loaded, with what was loaded. */
    ck_ok(vgg_weights_save(other, path, back));
    vgg_metadata_free(back);
    ck_ok(vgg_model_load(NULL, path, &back, &third));
    const struct state built = state_of(third);
    ck_assert(same(&saved, &built));
    ck_assert_str_eq(vgg_metadata_get(back, "classes"), "shirt\n\"bag\"\\\xc3\xa9");
    ck_assert_uint_eq(third->ratio, 32);
    ck_assert(third->arch.dropout == 0.3f);
    ck_assert_uint_eq(third->arch.block_count, 1);
    ck_assert_mem_eq(&third->arch.blocks[0], &model->arch.blocks[0], sizeof(vgg_block));
    const size_t rest = offsetof(vgg_arch, channels);
    ck_assert_mem_eq((char *)&third->arch + rest, (char *)&model->arch + rest,
                     sizeof(vgg_arch) - rest);
    vgg_metadata_free(back);
    vgg_model_free(model);
    vgg_model_free(other);
    vgg_model_free(third);
}
END_TEST

/* A file's own strings are not handed on to a model that they don't describe. */
START_TEST(foreign_metadata)
{
    vgg_model *model = build(NULL, 1), *linear = build_linear();
    vgg_metadata *metadata, *back;
    ck_ok(vgg_weights_save(model, path, NULL));
    ck_ok(vgg_weights_load(model, path, NULL, &metadata));
    ck_assert_ptr_nonnull(vgg_metadata_get(metadata, "vgg.arch"));
    ck_ok(vgg_weights_save(linear, path, metadata));
    ck_ok(vgg_weights_load(linear, path, NULL, &back));
    ck_assert_ptr_null(vgg_metadata_get(back, "vgg.arch"));
    ck_assert_str_eq(vgg_metadata_get(back, "format"), "pt");
    vgg_metadata_free(metadata);
    vgg_metadata_free(back);
    vgg_model_free(model);
    vgg_model_free(linear);
}
END_TEST

/* Data begins at a multiple of 64; keys are torchvision's, in the layers' order. */
START_TEST(layout)
{
    static const char *const keys[] = {
        "\"features.0.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,3,3]",
        "\"features.0.bias\"",
        "\"features.1.weight\"",
        "\"features.1.bias\"",
        "\"features.1.running_mean\"",
        "\"features.1.running_var\"",
        ("\"features.1.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],"
         "\"data_offsets\":[0,8]}"),
        "\"classifier.0.weight\":{\"dtype\":\"F32\",\"shape\":[5,8]",
        "\"classifier.0.bias\"",
        "\"classifier.3.weight\"",
        "\"classifier.3.bias\"",
        "\"classifier.6.weight\"",
        "\"classifier.6.bias\"",
    };
    vgg_model *model = build(NULL, 1);
    ck_ok(vgg_weights_save(model, path, NULL));
    size_t size;
    uint8_t *file = (uint8_t *)read_file(path, &size);
    const size_t length = (size_t)file[0] | (size_t)file[1] << 8;
    ck_assert_uint_eq((8 + length) % 64, 0);
    file[8 + length - 1] = '\0';
    const char *at = (const char *)file + 8;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *found = strstr(at, keys[i]);
        ck_assert_msg(found != NULL, "%s is not after the one before", keys[i]);
        at = found + 1;
    }
    free(file);
    vgg_model_free(model);
}
END_TEST

/* Every prefix of a file, and every byte of its header changed. */
START_TEST(broken_files)
{
    vgg_model *model = build(NULL, 1), *made;
    ck_ok(vgg_weights_save(model, path, NULL));
    size_t size;
    uint8_t *file = (uint8_t *)read_file(path, &size);
    const size_t length = (size_t)file[0] | (size_t)file[1] << 8;
    const struct state before = state_of(model);
    for (size_t part = 0; part < size; part++) {
        uint8_t *copy = malloc(part > 0 ? part : 1);
        memcpy(copy, file, part);
        ck_fails(vgg_weights_load_memory(model, copy, part, NULL, NULL),
                 VGG_ETRUNCATED);
        free(copy);
    }
    for (size_t i = 0; i < 8 + length; i++)
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (uint8_t)(1 << bit);
            const vgg_status status =
                vgg_weights_load_memory(model, file, size, NULL, NULL);
            const struct state after = state_of(model);
            ck_assert_msg(same(&before, &after) || status == VGG_OK, "byte %zu", i);
            if (bit == 0) { /* from a file, which takes longer */
                FILE *out = fopen(path, "wb");
                ck_assert_uint_eq(fwrite(file, 1, size, out), size);
                fclose(out);
                if (vgg_model_load(NULL, path, NULL, &made) == VGG_OK)
                    vgg_model_free(made);
                else
                    ck_assert_ptr_null(made);
            }
            file[i] ^= (uint8_t)(1 << bit);
        }
    free(file);
    vgg_model_free(model);
}
END_TEST

START_TEST(metadata)
{
    vgg_metadata *m;
    char key[300], value[65537], name[16];
    ck_ok(vgg_metadata_create(NULL, &m));
    ck_assert_ptr_null(vgg_metadata_get(m, "a"));
    ck_ok(vgg_metadata_set(m, "a", "1"));
    ck_ok(vgg_metadata_set(m, "a", "2"));
    ck_assert_str_eq(vgg_metadata_get(m, "a"), "2");
    ck_assert_ptr_null(vgg_metadata_get(m, NULL));
    ck_assert_ptr_null(vgg_metadata_get(NULL, "a"));
    ck_fails(vgg_metadata_set(NULL, "a", "1"), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, NULL, "1"), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, "a", NULL), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, "", "1"), VGG_EINVAL);
    ck_fails_with(vgg_metadata_set(m, "vgg.arch", "1"), VGG_EINVAL, "the library's");
    ck_fails_with(vgg_metadata_set(m, "\xff", "1"), VGG_EINVAL, "UTF-8");
    ck_fails_with(vgg_metadata_set(m, "a", "\xc3"), VGG_EINVAL, "UTF-8");
    memset(key, 'k', sizeof key);
    key[256] = '\0';
    ck_fails(vgg_metadata_set(m, key, "1"), VGG_EINVAL);
    key[255] = '\0';
    ck_ok(vgg_metadata_set(m, key, "1"));
    memset(value, 'v', sizeof value);
    value[65536] = '\0';
    ck_fails(vgg_metadata_set(m, "a", value), VGG_EINVAL);
    value[65535] = '\0';
    ck_ok(vgg_metadata_set(m, "a", value));
    for (int i = 0; i < 1022; i++) {
        snprintf(name, sizeof name, "key %d", i);
        ck_ok(vgg_metadata_set(m, name, name));
    }
    ck_fails_with(vgg_metadata_set(m, "one more", ""), VGG_ELIMIT, "1024 keys");
    ck_ok(vgg_metadata_set(m, "key 7", "again"));
    ck_assert_str_eq(vgg_metadata_get(m, "key 7"), "again");
    ck_assert_str_eq(vgg_metadata_get(m, "key 1021"), "key 1021");
    vgg_metadata_free(m);
    vgg_metadata_free(NULL);
    ck_fails(vgg_metadata_create(NULL, NULL), VGG_EINVAL);
}
END_TEST

/* As many keys as can be set can be saved, read and saved again. */
START_TEST(most_keys)
{
    vgg_model *model = build(NULL, 1), *loaded;
    vgg_metadata *m, *again;
    char name[16];
    ck_ok(vgg_metadata_create(NULL, &m));
    for (int i = 0; i < 1024; i++) {
        snprintf(name, sizeof name, "key %d", i);
        ck_ok(vgg_metadata_set(m, name, name));
    }
    ck_ok(vgg_metadata_set(m, "format", "pt"));
    ck_fails(vgg_metadata_set(m, "one more", ""), VGG_ELIMIT);
    ck_ok(vgg_weights_save(model, path, m));
    ck_ok(vgg_model_load(NULL, path, &again, &loaded));
    ck_assert_str_eq(vgg_metadata_get(again, "key 1023"), "key 1023");
    ck_assert_ptr_nonnull(vgg_metadata_get(again, "vgg.arch"));
    ck_fails_with(vgg_metadata_set(again, "one more", ""), VGG_ELIMIT, "1024 keys");
    ck_ok(vgg_weights_save(loaded, path, again));
    vgg_metadata_free(again);
    vgg_metadata_free(m);
    vgg_model_free(loaded);
    vgg_model_free(model);
}
END_TEST

START_TEST(refused)
{
    vgg_model *model = build_linear(), *made = model;
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    ck_fails(vgg_weights_save(NULL, path, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, "", NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, base, NULL), VGG_EIO);
    ck_fails(vgg_weights_load(NULL, path, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load(model, NULL, NULL, NULL), VGG_EINVAL);
    ck_fails_with(vgg_weights_load(model, "", NULL, NULL), VGG_EIO, "\"\": can't open");
    ck_fails_with(vgg_weights_load(model, path, NULL, NULL), VGG_EIO, "No such file");
    ck_fails(vgg_weights_load(model, base, NULL, NULL), VGG_EIO);
    ck_fails(vgg_weights_load(model, "/dev/zero", NULL, NULL), VGG_EIO);
    ck_fails(vgg_weights_load_memory(model, NULL, 5, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load_memory(model, "x", SIZE_MAX, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load_memory(model, NULL, 0, NULL, NULL), VGG_ETRUNCATED);
    opts.allow_reshaped = 2;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    opts.allow_reshaped = 0;
    opts.allow_extra = 2;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    opts.size = 3;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    ck_fails(vgg_model_load(NULL, path, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_model_load(NULL, NULL, NULL, &made), VGG_EINVAL);
    ck_assert_ptr_null(made);
    ck_fails_with(vgg_weights_load(model, "bad\nname\x1b", NULL, NULL), VGG_EIO,
                  "bad\\x0aname\\x1b");
    ck_ok(vgg_weights_save(model, path, NULL)); /* not from an architecture */
    ck_fails_with(vgg_model_load(NULL, path, NULL, &made), VGG_EMISMATCH, "vgg.arch");
    ck_ok(vgg_weights_load(model, path, NULL, NULL));
    vgg_model_free(model);
}
END_TEST

static const enum fault kinds[] = {FAULT_EIO, FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT,
                                   FAULT_STOP};

START_TEST(save_faults)
{
    vgg_model *old = build(NULL, 1), *new = build(NULL, 2), *reader = build(NULL, 3);
    const struct state old_state = state_of(old), new_state = state_of(new);
    for (long n = 1;; n++) {
        ck_ok(vgg_weights_save(old, path, NULL));
        const int descriptors = faults_descriptors();
        faults_begin(kinds[_i], n);
        const vgg_status status = vgg_weights_save(new, path, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        ck_assert(status == VGG_OK || status == VGG_EIO);
        ck_ok(vgg_weights_load(reader, path, NULL, NULL));
        const struct state found = state_of(reader);
        ck_assert(same(&found, &new_state) ||
                  (status != VGG_OK && same(&found, &old_state)));
        ck_ok(vgg_weights_save(old, path, NULL));
        ck_assert_int_eq(faults_entries(base, ""), 1);
        if (n > calls) break;
    }
    vgg_model_free(old);
    vgg_model_free(new);
    vgg_model_free(reader);
}
END_TEST

START_TEST(load_faults)
{
    vgg_model *saved = build(NULL, 1), *model = build(NULL, 2), *made;
    const struct state before = state_of(model);
    ck_ok(vgg_weights_save(saved, path, NULL));
    long failures = 0;
    for (long n = 1;; n++) {
        const int descriptors = faults_descriptors();
        faults_begin(FAULT_EIO, n);
        const vgg_status status = vgg_weights_load(model, path, NULL, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        const struct state after = state_of(model);
        failures += status != VGG_OK;
        if (status != VGG_OK) ck_assert(status == VGG_EIO && same(&before, &after));
        faults_begin(FAULT_EIO, n);
        if (vgg_model_load(NULL, path, NULL, &made) == VGG_OK) vgg_model_free(made);
        faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        if (status == VGG_OK || n > calls) break;
    }
    ck_assert_int_gt(failures, 10);
    vgg_model_free(saved);
    vgg_model_free(model);
}
END_TEST

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

/* Memory that runs out at the n-th allocation, for all n: nothing leaks, nothing
 * changes, no file is left. */
START_TEST(no_memory)
{
    const vgg_allocator allocator = {NULL, scarce_alloc, scarce_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx;
    memory_left = 1000000;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg_model *model = build(ctx, 1), *made;
    const uint64_t bytes = vgg_context_bytes(ctx);
    const struct state before = state_of(model);
    for (int job = 0; job < 3; job++) {
        vgg_status status = VGG_ENOMEM;
        long n = 0;
        for (; status == VGG_ENOMEM && n < 1000; n++) {
            made = NULL;
            memory_left = n;
            if (job == 0) status = vgg_weights_save(model, path, NULL);
            if (job == 1) status = vgg_weights_load(model, path, NULL, NULL);
            if (job == 2) status = vgg_model_load(ctx, path, NULL, &made);
            ck_assert(status == VGG_OK || made == NULL);
            vgg_model_free(made);
            const struct state after = state_of(model);
            ck_assert(same(&before, &after));
            ck_assert_uint_eq(vgg_context_bytes(ctx), bytes);
            ck_assert_int_eq(faults_entries(base, ""), job > 0 || status == VGG_OK);
        }
        ck_ok(status);
        ck_assert_int_gt(n, 5);
    }
    vgg_model_free(model);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tests = tcase_create("weights");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, round_trip);
    tcase_add_test(tests, foreign_metadata);
    tcase_add_test(tests, layout);
    tcase_add_test(tests, broken_files);
    tcase_add_test(tests, metadata);
    tcase_add_test(tests, most_keys);
    tcase_add_test(tests, refused);
    tcase_add_loop_test(tests, save_faults, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tests, load_faults);
    tcase_add_test(tests, no_memory);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
