/* SPDX-License-Identifier: Apache-2.0 */
/* Files that other programs wrote for another purpose: heads of other classes, strings
 * beyond the library's limits. */
#include "harness.h"
#include "models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vgg/vgg.h>

#define TENSORS                                                                        \
    "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"        \
    "\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}"

/* ---- Another head ---------------------------------------------------------------- */

static vgg_model *build_sized(vgg_context *ctx, uint32_t hidden, uint32_t classes,
                              uint64_t seed)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = 4;
    arch.hidden = hidden;
    arch.classes = classes;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    vgg_model *model;
    ck_ok(vgg_model_create(ctx, &arch, 32, &opts, &model));
    return model;
}

static void write_ones(vgg_model *model, const char *name)
{
    float ones[3] = {1.0f, 1.0f, 1.0f};
    vgg_param *param = vgg_model_find_param(model, name);
    vgg_tensor *value;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param), ones, NULL, NULL,
                          &value));
    ck_ok(vgg_param_write(param, value));
    vgg_tensor_free(value);
}

/* Counts the lines on the last layer. */
static void count_lines(void *cookie, vgg_log_level level, const char *line)
{
    if (level == VGG_LOG_INFO && strstr(line, "classifier.6.") != NULL &&
        strstr(line, "the layer stays as it is") != NULL)
        ++*(int *)cookie;
}

static int equal(vgg_model *a, vgg_model *b, const char *name)
{
    float values[2][400];
    for (int i = 0; i < 2; i++) {
        vgg_param *param = vgg_model_find_param(i == 0 ? a : b, name);
        vgg_tensor *value;
        ck_assert_ptr_nonnull(param);
        memset(values[i], 0, sizeof values[i]);
        ck_ok(vgg_tensor_wrap(NULL, VGG_F32, vgg_param_shape(param), values[i], NULL,
                              NULL, &value));
        ck_ok(vgg_param_read(param, value));
        vgg_tensor_free(value);
    }
    return memcmp(values[0], values[1], sizeof values[0]) == 0;
}

/* Wherever a tensor of a layer has another shape, all of it stays. */
START_TEST(another_width)
{
    vgg_model *from = build_sized(NULL, 5, 3, 1), *to = build_sized(NULL, 6, 3, 2),
              *fresh = build_sized(NULL, 6, 3, 2);
    char base[64], path[128];
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/x.safetensors", base);
    write_ones(from, "classifier.6.bias");
    ck_ok(vgg_weights_save(from, path, NULL));
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    opts.allow_reshaped = 1;
    ck_ok(vgg_weights_load(to, path, &opts, NULL));
    ck_assert(equal(to, from, "features.0.weight"));
    ck_assert(equal(to, fresh, "classifier.6.weight"));
    ck_assert(equal(to, fresh, "classifier.6.bias")); /* of the file's shape */
    vgg_model *linear = build_linear();
    static const char other[] =
        "{\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
        "\"fc.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}";
    size_t total;
    uint8_t *file = pack_file(other, "\0\0\0\0\0\0\0\0\0\0\0", 12, &total);
    ck_fails_with(vgg_weights_load_memory(linear, file, total, &opts, NULL),
                  VGG_EMISMATCH, "no layer has the model's shapes");
    free(file);
    vgg_model_free(linear);
    ck_assert(!equal(from, fresh, "classifier.6.bias"));
    vgg_model_free(fresh);
    vgg_model_free(to);
    vgg_model_free(from);
    harness_rmdir(base);
}
END_TEST

START_TEST(another_head)
{
    char base[64], path[128];
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/x.safetensors", base);
    int lines = 0;
    vgg_logger logger = {&lines, count_lines};
    vgg_context_options with = VGG_CONTEXT_OPTIONS_INIT;
    with.logger = &logger;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&with, &ctx));
    vgg_model *from = build_sized(NULL, 5, 7, 1), *to = build_sized(ctx, 5, 3, 2),
              *fresh = build_sized(NULL, 5, 3, 2);
    ck_ok(vgg_weights_save(from, path, NULL));

    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    ck_fails_with(vgg_weights_load(to, path, &opts, NULL), VGG_EMISMATCH,
                  "file has 7x5, model needs 3x5");
    ck_assert(equal(to, fresh, "features.0.weight"));
    ck_fails(vgg_weights_load(to, "none", NULL, NULL), VGG_EIO);
    opts.allow_reshaped = 1;
    ck_ok(vgg_weights_load(to, path, &opts, NULL));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "none")); /* as it was */
    ck_assert_int_eq(lines, 1);
    ck_assert(equal(to, from, "features.0.weight"));
    ck_assert(equal(to, from, "classifier.3.weight"));
    ck_assert(equal(to, fresh, "classifier.6.weight"));
    ck_assert(!equal(from, fresh, "features.0.weight"));

    vgg_model_free(fresh);
    vgg_model_free(to);
    vgg_model_free(from);
    vgg_context_free(ctx);
    harness_rmdir(base);
}
END_TEST

/* ---- Strings --------------------------------------------------------------------- */

#define MANY 1000000
static char text[14 * MANY];

static vgg_status load(vgg_metadata **metadata)
{
    static const float data[3] = {1.0f, 2.0f, 3.0f};
    size_t total;
    uint8_t *file = pack_file(text, data, sizeof data, &total);
    vgg_model *model = build_linear();
    const vgg_status status =
        vgg_weights_load_memory(model, file, total, NULL, metadata);
    vgg_model_free(model);
    free(file);
    return status;
}

/* What nobody asks for may be of any size, of any number; and is checked as JSON. */
START_TEST(strings_beyond_the_limits)
{
    static char large[70001];
    memset(large, 'v', sizeof large - 1);
    vgg_metadata *metadata;
    for (int which = 0; which < 3; which++) {
        char *at = text + sprintf(text, "{\"__metadata__\":{\"k\":\"v\"");
        if (which == 0) at += sprintf(at, ",\"value\":\"%s\"", large);
        if (which == 1) at += sprintf(at, ",\"%.300s\":\"key\"", large);
        for (int i = 0; which == 2 && i < 2000; i++)
            at += sprintf(at, ",\"key%d\":\"value\"", i);
        sprintf(at, "}," TENSORS);
        ck_ok(load(NULL));
        ck_fails_with(load(&metadata), VGG_ELIMIT, "memory: byte ");
        ck_assert_ptr_null(metadata);
    }
    /* So many that comparing each with all would take half a minute. */
    char *at = text + sprintf(text, "{\"__metadata__\":{\"k\":\"\"");
    for (int i = 0; i < MANY; i++) at += sprintf(at, ",\"%07d\":\"\"", i);
    sprintf(at, "}," TENSORS);
    const clock_t start = clock();
    ck_ok(load(NULL));
    ck_assert_int_lt((clock() - start) / CLOCKS_PER_SEC, 5);
    sprintf(text, "{\"__metadata__\":{\"%.300s\":1}," TENSORS, large);
    ck_fails(load(NULL), VGG_EFORMAT);
    sprintf(text, "{\"__metadata__\":{\"k\":\"%s\\x\"}," TENSORS, large);
    ck_fails(load(NULL), VGG_EFORMAT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("foreign");
    TCase *tests = tcase_create("foreign");
    tcase_add_test(tests, another_head);
    tcase_add_test(tests, another_width);
    tcase_add_test(tests, strings_beyond_the_limits);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
