/* SPDX-License-Identifier: Apache-2.0 */
/* CIFAR binary files: good ones, and every way of being wrong that has a name. */
#include "harness.h"

#include "files.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vgg/data.h>

#define PIXELS 3072

static char dir[64];

static void setup(void)
{
    harness_mkdtemp(dir);
}

static void teardown(void)
{
    harness_rmdir(dir);
}

static uint8_t pixel_at(uint32_t record, uint32_t i)
{
    return (uint8_t)(record * 7 + i * i / 5);
}

/* Records of CIFAR-10 (label_bytes 1) or CIFAR-100 (2) with valid, varied labels. */
static void add_records(struct bytes *file, uint32_t label_bytes, uint32_t count)
{
    for (uint32_t r = 0; r < count; r++) {
        if (label_bytes == 2) bytes_fill(file, (uint8_t)(r % 20), 1);
        bytes_fill(file, (uint8_t)(r * 3 % (label_bytes == 2 ? 100 : 10)), 1);
        for (uint32_t i = 0; i < PIXELS; i++) bytes_fill(file, pixel_at(r, i), 1);
    }
}

static vgg_status open_bytes(uint32_t classes, const void *at, size_t size)
{
    char path[256];
    file_write(dir, "batch.bin", at, size, path);
    const char *const files[1] = {path};
    vgg_dataset *data = (vgg_dataset *)dir;
    const vgg_status status = vgg_dataset_open_cifar(NULL, files, 1, classes, &data);
    ck_assert((status == VGG_OK) == (data != NULL));
    vgg_dataset_free(data);
    return status;
}

/* Two files, the second of them gzip, in the order in which they are given. */
static void check_two_files(uint32_t label_bytes, uint32_t classes)
{
    struct bytes file = {0}, more = {0}, zipped = {0};
    add_records(&file, label_bytes, 3);
    add_records(&more, label_bytes, 5);
    bytes_gzip(&zipped, more.at, more.size);
    char paths[2][256];
    file_write(dir, "a.bin", file.at, file.size, paths[0]);
    file_write(dir, "b.bin", zipped.at, zipped.size, paths[1]);
    const char *const files[2] = {paths[0], paths[1]};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open_cifar(NULL, files, 2, classes, &data));
    ck_assert_uint_eq(vgg_dataset_count(data), 8);
    ck_assert_uint_eq(vgg_dataset_classes(data), classes);
    const vgg_shape *const shape = vgg_dataset_shape(data);
    ck_assert(shape->rank == 3 && shape->dim[0] == 3 && shape->dim[1] == 32 &&
              shape->dim[2] == 32);
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t record = i < 3 ? i : i - 3;
        uint8_t image[PIXELS];
        uint32_t label;
        ck_ok(vgg_dataset_read(data, i, image, &label));
        ck_assert_uint_eq(label, record * 3 % classes); /* of CIFAR-100, the fine one */
        uint32_t same = 0;
        while (same < PIXELS && image[same] == pixel_at(record, same)) same++;
        ck_assert_uint_eq(same, PIXELS);
    }
    vgg_dataset_free(data);
    bytes_free(&file);
    bytes_free(&more);
    bytes_free(&zipped);
}

START_TEST(good_files)
{
    check_two_files(1, 10);
    check_two_files(2, 100);
}
END_TEST

/* A file of `records` records, `extra` bytes more or fewer, and one byte changed. */
static const struct {
    const char *name;
    uint32_t label_bytes, classes, records;
    int extra;
    size_t at;
    uint8_t value;
    int change;
    vgg_status expected;
    const char *text;
} cases[] = {
    {"good CIFAR-10", 1, 10, 3, 0, 0, 0, 0, VGG_OK, NULL},
    {"good CIFAR-100", 2, 100, 3, 0, 0, 0, 0, VGG_OK, NULL},
    {"empty", 1, 10, 0, 0, 0, 0, 0, VGG_ETRUNCATED, "is empty"},
    {"one byte", 1, 10, 0, 1, 0, 0, 0, VGG_ETRUNCATED, "record 0: 1 of 3073"},
    {"last record cut", 1, 10, 3, -1, 0, 0, 0, VGG_ETRUNCATED,
     "record 2: 3072 of 3073"},
    {"one byte too many", 1, 10, 3, 1, 0, 0, 0, VGG_ETRUNCATED, "record 3: 1 of 3073"},
    {"CIFAR-100 cut", 2, 100, 3, -1, 0, 0, 0, VGG_ETRUNCATED, "record 2: 3073 of 3074"},
    {"CIFAR-100 as 10", 2, 10, 3, 0, 0, 0, 0, VGG_EMISMATCH,
     "size of a CIFAR-100 file"},
    {"CIFAR-10 as 100", 1, 100, 3, 0, 0, 0, 0, VGG_EMISMATCH,
     "size of a CIFAR-10 file"},
    {"label 9", 1, 10, 3, 0, 3073, 9, 1, VGG_OK, NULL},
    {"label 10", 1, 10, 3, 0, 3073, 10, 1, VGG_EMISMATCH,
     "label of record 1 is 10, expected below 10"},
    {"coarse label 19", 2, 100, 3, 0, 3074, 19, 1, VGG_OK, NULL},
    {"coarse label 20", 2, 100, 3, 0, 3074, 20, 1, VGG_EMISMATCH,
     "coarse label of record 1 is 20"},
    {"fine label 99", 2, 100, 3, 0, 6149, 99, 1, VGG_OK, NULL},
    {"fine label 100", 2, 100, 3, 0, 6149, 100, 1, VGG_EMISMATCH,
     "fine label of record 2 is 100"},
};

START_TEST(wrong_files)
{
    struct bytes file = {0}, zipped = {0};
    add_records(&file, cases[_i].label_bytes, cases[_i].records);
    if (cases[_i].extra > 0) bytes_fill(&file, 0, (size_t)cases[_i].extra);
    if (cases[_i].extra < 0) file.size -= (size_t)-cases[_i].extra;
    if (cases[_i].change) file.at[cases[_i].at] = cases[_i].value;
    bytes_gzip(&zipped, file.at, file.size);
    for (int gzip = 0; gzip < 2; gzip++) {
        const struct bytes *const bytes = gzip ? &zipped : &file;
        const vgg_status status = open_bytes(cases[_i].classes, bytes->at, bytes->size);
        ck_assert_msg(status == cases[_i].expected, "%s, gzip %d: %s, expected %s: %s",
                      cases[_i].name, gzip, vgg_status_name(status),
                      vgg_status_name(cases[_i].expected), vgg_last_error());
        if (status != VGG_OK)
            ck_assert_msg(strstr(vgg_last_error(), cases[_i].text) != NULL,
                          "%s: text lacks \"%s\": %s", cases[_i].name, cases[_i].text,
                          vgg_last_error());
    }
    bytes_free(&file);
    bytes_free(&zipped);
}
END_TEST

/* Other versions and wrappings of CIFAR, of a size that may be a multiple of a
   record's. */
START_TEST(foreign_formats)
{
    static const struct {
        const char *bytes;
        size_t size, offset;
        const char *name;
    } formats[] = {
        {"\x80\x02}q\x01", 5, 0, "a Python pickle"},
        {"MATLAB 5.0 MAT-file", 19, 0, "a MATLAB file"},
        {"ustar", 5, 257, "a tar archive"},
        {"PK\x03\x04", 4, 0, "a zip archive"},
        {"<!DOCTYPE html>", 15, 0, "a web page"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        for (int whole = 0; whole < 2; whole++) {
            struct bytes file = {0}, zipped = {0};
            bytes_fill(&file, 'c', whole ? 2 * 3073 : 5000);
            memcpy(file.at + formats[i].offset, formats[i].bytes, formats[i].size);
            ck_fails_with(open_bytes(10, file.at, file.size), VGG_EUNSUPPORTED,
                          formats[i].name);
            bytes_gzip(&zipped, file.at, file.size);
            ck_fails_with(open_bytes(10, zipped.at, zipped.size), VGG_EUNSUPPORTED,
                          formats[i].name);
            bytes_free(&file);
            bytes_free(&zipped);
        }
}
END_TEST

/* A record more or fewer can't be told from the file alone; everything else can. */
START_TEST(every_prefix)
{
    struct bytes file = {0}, zipped = {0};
    add_records(&file, 1, 2);
    for (size_t size = 0; size < file.size; size += size % 3073 < 5 ? 1 : 97) {
        const vgg_status status = open_bytes(10, file.at, size);
        const bool whole = size == 3073;
        ck_assert_msg(whole ? status == VGG_OK : status != VGG_OK, "prefix of %zu: %s",
                      size, vgg_status_name(status));
    }
    bytes_gzip(&zipped, file.at, file.size);
    for (size_t size = 0; size < zipped.size; size += 1 + zipped.size / 200)
        ck_assert_int_ne(open_bytes(10, zipped.at, size), VGG_OK);
    for (size_t less = 1; less <= 8; less++)
        ck_fails(open_bytes(10, zipped.at, zipped.size - less), VGG_ETRUNCATED);
    bytes_free(&file);
    bytes_free(&zipped);
}
END_TEST

START_TEST(arguments)
{
    struct bytes file = {0};
    add_records(&file, 1, 2);
    char path[256], copy[256], link[256];
    file_write(dir, "data_batch_1.bin", file.at, file.size, path);
    file_write(dir, "data_batch_2.bin", file.at, file.size, copy);
    snprintf(link, sizeof link, "%s/link.bin", dir);
    ck_assert_int_eq(symlink(path, link), 0);
    vgg_dataset *data = NULL;
    const char *const twice[2] = {path, path}, *const null[2] = {path, NULL};
    const char *const missing[2] = {path, "/nowhere/data_batch_3.bin"};
    const char *const linked[1] = {link};
    ck_fails_with(vgg_dataset_open_cifar(NULL, twice, 2, 10, &data), VGG_EINVAL,
                  "twice");
    ck_fails_with(vgg_dataset_open_cifar(NULL, null, 2, 10, &data), VGG_EINVAL, "NULL");
    ck_fails_with(vgg_dataset_open_cifar(NULL, missing, 2, 10, &data), VGG_EIO,
                  "data_batch_3.bin");
    ck_fails(vgg_dataset_open_cifar(NULL, twice, 0, 10, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_cifar(NULL, twice, 1, 20, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_cifar(NULL, NULL, 1, 10, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_cifar(NULL, twice, 1, 10, NULL), VGG_EINVAL);
    ck_assert_ptr_null(data);
    ck_ok(vgg_dataset_open_cifar(NULL, linked, 1, 10, &data)); /* links are followed */
    vgg_dataset_free(data);
    bytes_free(&file);
}
END_TEST

static char logged[512];

static void keep_line(void *cookie, vgg_log_level level, const char *line)
{
    (void)cookie;
    if (level == VGG_LOG_WARNING) snprintf(logged, sizeof logged, "%s", line);
}

START_TEST(copied_batch_is_a_warning)
{
    const vgg_logger logger = {NULL, keep_line};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    struct bytes file = {0};
    add_records(&file, 1, 2);
    char paths[2][256];
    file_write(dir, "a.bin", file.at, file.size, paths[0]);
    file_write(dir, "b.bin", file.at, file.size, paths[1]);
    const char *const files[2] = {paths[0], paths[1]};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open_cifar(ctx, files, 2, 10, &data));
    ck_assert_ptr_nonnull(strstr(logged, "same images"));
    vgg_dataset_free(data);
    vgg_context_free(ctx);
    bytes_free(&file);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("cifar");
    TCase *const tcase = tcase_create("cifar");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, good_files);
    tcase_add_loop_test(tcase, wrong_files, 0, sizeof cases / sizeof cases[0]);
    tcase_add_test(tcase, foreign_formats);
    tcase_add_test(tcase, every_prefix);
    tcase_add_test(tcase, arguments);
    tcase_add_test(tcase, copied_batch_is_a_warning);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
