/* SPDX-License-Identifier: Apache-2.0 */
/* IDX files: good ones, and every way of being wrong that has a name.
 *
 * The good pair here is 4 images of 2 x 3 pixels with values 0 to 23, and labels 3 1 0
 * 2. A case replaces one of the two files. */
#include "harness.h"

#include "files.h"

#include <stdio.h>
#include <string.h>
#include <vgg/data.h>

#define BE(n) (char)((n) >> 24), (char)((n) >> 16), (char)((n) >> 8), (char)(n)

static const char good_images[] = {0,  0,  8,  3,  BE(4), BE(2), BE(3), 0,  1,  2,  3,
                                   4,  5,  6,  7,  8,     9,     10,    11, 12, 13, 14,
                                   15, 16, 17, 18, 19,    20,    21,    22, 23};
static const char good_labels[] = {0, 0, 8, 1, BE(4), 3, 1, 0, 2};

static char dir[64];

static void setup(void)
{
    harness_mkdtemp(dir);
}

static void teardown(void)
{
    harness_rmdir(dir);
}

/* Open a pair of files with these bytes; a data set that opens is looked at and
   freed. */
static vgg_status open_pair(const void *images, size_t images_size, const void *labels,
                            size_t labels_size)
{
    char paths[2][256];
    file_write(dir, "images", images, images_size, paths[0]);
    file_write(dir, "labels", labels, labels_size, paths[1]);
    vgg_dataset *data = (vgg_dataset *)dir;
    const vgg_status status = vgg_dataset_open_idx(NULL, paths[0], paths[1], 4, &data);
    ck_assert((status == VGG_OK) == (data != NULL));
    vgg_dataset_free(data);
    return status;
}

static vgg_status open_images(const void *images, size_t size)
{
    return open_pair(images, size, good_labels, sizeof good_labels);
}

static vgg_status open_labels(const void *labels, size_t size)
{
    return open_pair(good_images, sizeof good_images, labels, size);
}

static void check_good(const char *images, const char *labels)
{
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open_idx(NULL, images, labels, 4, &data));
    ck_assert_uint_eq(vgg_dataset_count(data), 4);
    ck_assert_uint_eq(vgg_dataset_classes(data), 4);
    const vgg_shape *const shape = vgg_dataset_shape(data);
    ck_assert(shape->rank == 3 && shape->dim[0] == 1 && shape->dim[1] == 2 &&
              shape->dim[2] == 3);
    for (uint32_t i = 0; i < 4; i++) {
        uint8_t image[6];
        uint32_t label;
        ck_ok(vgg_dataset_read(data, i, image, &label));
        ck_assert_uint_eq(label, (unsigned char)good_labels[8 + i]);
        ck_assert_mem_eq(image, good_images + 16 + 6 * i, 6);
    }
    ck_assert_str_eq(vgg_dataset_class_name(data, 3), "3");
    ck_assert_ptr_null(vgg_dataset_class_name(data, 4));
    vgg_dataset_free(data);
}

START_TEST(good_pairs)
{
    struct bytes zipped[2] = {{0}, {0}};
    bytes_gzip(&zipped[0], good_images, sizeof good_images);
    bytes_gzip(&zipped[1], good_labels, sizeof good_labels);
    char paths[4][256];
    file_write(dir, "images", good_images, sizeof good_images, paths[0]);
    file_write(dir, "labels", good_labels, sizeof good_labels, paths[1]);
    file_write(dir, "images-zipped", zipped[0].at, zipped[0].size, paths[2]);
    file_write(dir, "labels-zipped", zipped[1].at, zipped[1].size, paths[3]);
    check_good(paths[0], paths[1]);
    check_good(paths[2], paths[3]);
    check_good(paths[0], paths[3]); /* what a file is follows from its bytes alone */
    bytes_free(&zipped[0]);
    bytes_free(&zipped[1]);
}
END_TEST

START_TEST(colour_images)
{
    static const char colour[] = {0, 0, 8, 4, BE(1), BE(3), BE(2), BE(2), 0,  1,
                                  2, 3, 4, 5, 6,     7,     8,     9,     10, 11};
    static const char label[] = {0, 0, 8, 1, BE(1), 3};
    char paths[2][256];
    file_write(dir, "images", colour, sizeof colour, paths[0]);
    file_write(dir, "labels", label, sizeof label, paths[1]);
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open_idx(NULL, paths[0], paths[1], 4, &data));
    const vgg_shape *const shape = vgg_dataset_shape(data);
    ck_assert(shape->dim[0] == 3 && shape->dim[1] == 2 && shape->dim[2] == 2);
    uint8_t image[12];
    uint32_t which;
    ck_ok(vgg_dataset_read(data, 0, image, &which));
    ck_assert_mem_eq(image, colour + 20, 12);
    vgg_dataset_free(data);
}
END_TEST

/* `header` and then `payload` bytes of value 1. */
struct bad_file {
    const char *name;
    const char *header;
    size_t header_size;
    size_t payload;
    vgg_status expected;
    const char *text;
};

#define HEADER(...) (const char[]){__VA_ARGS__}, sizeof((const char[]){__VA_ARGS__})

static const struct bad_file bad_images[] = {
    {"empty", "", 0, 0, VGG_ETRUNCATED, "IDX magic number: 0 of 4"},
    {"three bytes", HEADER(0, 0, 8), 0, VGG_ETRUNCATED, "3 of 4"},
    {"first byte not 0", HEADER(1, 0, 8, 3, BE(4), BE(2), BE(3)), 24, VGG_EFORMAT,
     "expected an IDX file"},
    {"second byte not 0", HEADER(0, 1, 8, 3, BE(4), BE(2), BE(3)), 24, VGG_EFORMAT,
     "expected an IDX file"},
    {"type 07", HEADER(0, 0, 7, 3, BE(4), BE(2), BE(3)), 24, VGG_EFORMAT, "type is 07"},
    {"type 0a", HEADER(0, 0, 0x0a, 3, BE(4), BE(2), BE(3)), 24, VGG_EFORMAT,
     "type is 0a"},
    {"type 0f", HEADER(0, 0, 0x0f, 3, BE(4), BE(2), BE(3)), 24, VGG_EFORMAT,
     "type is 0f"},
    {"signed bytes", HEADER(0, 0, 9, 3, BE(4), BE(2), BE(3)), 24, VGG_EUNSUPPORTED,
     "i8"},
    {"i16", HEADER(0, 0, 0x0b, 3, BE(4), BE(2), BE(3)), 48, VGG_EUNSUPPORTED, "i16"},
    {"i32", HEADER(0, 0, 0x0c, 3, BE(4), BE(2), BE(3)), 96, VGG_EUNSUPPORTED, "i32"},
    {"f32", HEADER(0, 0, 0x0d, 3, BE(4), BE(2), BE(3)), 96, VGG_EUNSUPPORTED, "f32"},
    {"f64", HEADER(0, 0, 0x0e, 3, BE(4), BE(2), BE(3)), 192, VGG_EUNSUPPORTED, "f64"},
    {"rank 0", HEADER(0, 0, 8, 0), 24, VGG_EFORMAT, "0 axes"},
    {"rank 1: labels", HEADER(0, 0, 8, 1, BE(4)), 4, VGG_EMISMATCH,
     "seem to be labels"},
    {"rank 2", HEADER(0, 0, 8, 2, BE(4), BE(6)), 24, VGG_EMISMATCH, "2 axes"},
    {"rank 5", HEADER(0, 0, 8, 5, BE(4), BE(2), BE(3), BE(1), BE(1)), 24, VGG_EMISMATCH,
     "5 axes"},
    {"rank 255", HEADER(0, 0, 8, (char)255, BE(4)), 24, VGG_EMISMATCH, "255 axes"},
    {"cut in the extents", HEADER(0, 0, 8, 3, BE(4), BE(2), 0, 0), 0, VGG_ETRUNCATED,
     "IDX extents: 10 of 12"},
    {"little-endian header", HEADER(3, 8, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0), 24,
     VGG_EFORMAT, "little-endian"},
    {"little-endian extents", HEADER(0, 0, 8, 3, 4, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0),
     24, VGG_ELIMIT, "axis 1 is 33554432"},
    {"no images", HEADER(0, 0, 8, 3, BE(0), BE(2), BE(3)), 0, VGG_EFORMAT,
     "axis 0 is 0"},
    {"height 0", HEADER(0, 0, 8, 3, BE(4), BE(0), BE(3)), 0, VGG_EFORMAT,
     "axis 1 is 0"},
    {"width 0", HEADER(0, 0, 8, 3, BE(4), BE(2), BE(0)), 0, VGG_EFORMAT, "axis 2 is 0"},
    {"2^31 images", HEADER(0, 0, 8, 3, BE(0x80000000u), BE(2), BE(3)), 24, VGG_ELIMIT,
     "axis 0 is 2147483648"},
    {"height over the limit", HEADER(0, 0, 8, 3, BE(4), BE(32769), BE(3)), 24,
     VGG_ELIMIT, "axis 1 is 32769"},
    {"width over the limit", HEADER(0, 0, 8, 3, BE(4), BE(2), BE(32769)), 24,
     VGG_ELIMIT, "axis 2 is 32769"},
    {"65536 x 65536", HEADER(0, 0, 8, 3, BE(1), BE(65536), BE(65536)), 24, VGG_ELIMIT,
     "axis 1 is 65536"},
    {"product over 32 bits", HEADER(0, 0, 8, 3, BE(4), BE(32768), BE(32768)), 24,
     VGG_ETRUNCATED, "= 4294967296 bytes, file has 24"},
    {"product over 32 bits wraps to 24",
     HEADER(0, 0, 8, 4, BE(24), BE(32768), BE(32768), BE(4)), 24, VGG_ETRUNCATED,
     "24x32768x32768x4"},
    {"product over 64 bits",
     HEADER(0, 0, 8, 4, BE(0x7fffffff), BE(32768), BE(32768), BE(32768)), 24,
     VGG_ELIMIT, "too large to multiply"},
    {"one byte short", HEADER(0, 0, 8, 3, BE(4), BE(2), BE(3)), 23, VGG_ETRUNCATED,
     "header says 4x2x3 = 24 bytes, file has 23"},
    {"one byte long", HEADER(0, 0, 8, 3, BE(4), BE(2), BE(3)), 25, VGG_EFORMAT,
     "header says 4x2x3 = 24 bytes, file has 25"},
    {"more images than labels", HEADER(0, 0, 8, 3, BE(5), BE(2), BE(3)), 30,
     VGG_EMISMATCH, "images has 5 images, labels has 4 labels"},
    {"CSV", "label,pixel1,pixel2\n", 20, 60, VGG_EUNSUPPORTED, "a CSV text"},
    {"npz", "PK\x03\x04npz", 7, 60, VGG_EUNSUPPORTED, "a zip archive"},
    {"web page", "<!DOCTYPE html><html>", 21, 60, VGG_EUNSUPPORTED, "a web page"},
    {"git-LFS pointer", "version https://git-lfs.github.com/spec/v1\n", 43, 60,
     VGG_EUNSUPPORTED, "a git-LFS pointer"},
};

static const struct bad_file bad_labels[] = {
    {"empty", "", 0, 0, VGG_ETRUNCATED, "labels: ends in IDX magic number"},
    {"rank 0", HEADER(0, 0, 8, 0), 4, VGG_EFORMAT, "0 axes"},
    {"rank 2", HEADER(0, 0, 8, 2, BE(4), BE(1)), 4, VGG_EMISMATCH,
     "2 axes, expected 1"},
    {"rank 3: images", HEADER(0, 0, 8, 3, BE(4), BE(2), BE(3)), 24, VGG_EMISMATCH,
     "seem to be images"},
    {"i32", HEADER(0, 0, 0x0c, 1, BE(4)), 16, VGG_EUNSUPPORTED, "i32"},
    {"one byte short", HEADER(0, 0, 8, 1, BE(4)), 3, VGG_ETRUNCATED, "file has 3"},
    {"one byte long", HEADER(0, 0, 8, 1, BE(4)), 5, VGG_EFORMAT, "file has 5"},
    {"fewer labels than images", HEADER(0, 0, 8, 1, BE(3)), 3, VGG_EMISMATCH,
     "images has 4 images, labels has 3 labels"},
    {"label is the number of classes", HEADER(0, 0, 8, 1, BE(4), 0, 3, 4, 0), 0,
     VGG_EMISMATCH, "label of sample 2 is 4, expected below 4"},
    {"label 255", HEADER(0, 0, 8, 1, BE(4), 0, 3, 0, (char)255), 0, VGG_EMISMATCH,
     "label of sample 3 is 255"},
};

/* Every case plain and as gzip: where the plain file's size gives it away before
 * anything is read, gzip's content does. */
static void run_case(const struct bad_file *bad,
                     vgg_status (*open)(const void *, size_t))
{
    struct bytes file = {0}, zipped = {0};
    bytes_add(&file, bad->header, bad->header_size);
    bytes_fill(&file, 1, bad->payload);
    vgg_status status = open(file.at, file.size);
    ck_assert_msg(status == bad->expected, "%s: %s, expected %s: %s", bad->name,
                  vgg_status_name(status), vgg_status_name(bad->expected),
                  vgg_last_error());
    ck_assert_msg(strstr(vgg_last_error(), bad->text) != NULL,
                  "%s: text lacks \"%s\": %s", bad->name, bad->text, vgg_last_error());
    bytes_gzip(&zipped, file.at, file.size);
    status = open(zipped.at, zipped.size);
    ck_assert_msg(status == bad->expected, "%s, gzip: %s, expected %s: %s", bad->name,
                  vgg_status_name(status), vgg_status_name(bad->expected),
                  vgg_last_error());
    bytes_free(&file);
    bytes_free(&zipped);
}

START_TEST(wrong_images)
{
    run_case(&bad_images[_i], open_images);
}
END_TEST

START_TEST(wrong_labels)
{
    run_case(&bad_labels[_i], open_labels);
}
END_TEST

START_TEST(swapped_files)
{
    ck_fails_with(
        open_pair(good_labels, sizeof good_labels, good_images, sizeof good_images),
        VGG_EMISMATCH, "images: has 1 axes");
}
END_TEST

START_TEST(every_prefix)
{
    struct bytes zipped = {0};
    for (size_t size = 0; size < sizeof good_images; size++)
        ck_fails(open_images(good_images, size), VGG_ETRUNCATED);
    for (size_t size = 0; size < sizeof good_labels; size++)
        ck_fails(open_labels(good_labels, size), VGG_ETRUNCATED);
    bytes_gzip(&zipped, good_images, sizeof good_images);
    for (size_t size = 0; size < zipped.size; size++)
        ck_fails(open_images(zipped.at, size), VGG_ETRUNCATED);
    bytes_free(&zipped);
}
END_TEST

/* Every header byte with each bit flipped, all bits, and set to a few other values:
 * none may be taken for the good file. */
static void change_header(char paths[2][256], int which, const char *good, size_t size)
{
    static const uint8_t changes[] = {1,   2,   4, 8, 16, 32, 64,
                                      128, 255, 3, 5, 9,  10, 12};
    for (size_t i = 0; i < size; i++) {
        for (size_t k = 0; k < sizeof changes; k++) {
            vgg_dataset *data = NULL;
            file_poke(paths[which], i, (uint8_t)good[i] ^ changes[k]);
            const vgg_status status =
                vgg_dataset_open_idx(NULL, paths[0], paths[1], 4, &data);
            ck_assert_msg(status != VGG_OK, "byte %zu changed by %02x", i, changes[k]);
        }
        file_poke(paths[which], i, (uint8_t)good[i]);
    }
}

START_TEST(every_header_byte_changed)
{
    char paths[2][256];
    file_write(dir, "images", good_images, sizeof good_images, paths[0]);
    file_write(dir, "labels", good_labels, sizeof good_labels, paths[1]);
    change_header(paths, 0, good_images, 16);
    change_header(paths, 1, good_labels, 8);
    check_good(paths[0], paths[1]); /* and it was the changes that were refused */
}
END_TEST

/* A gzip file of 1 KiB that claims 1 GiB: refused by what deflate can make of its
   size. */
START_TEST(claim_beyond_deflate)
{
    static const char header[] = {0, 0, 8, 3, BE(1024), BE(1024), BE(1024)};
    struct bytes file = {0}, zipped = {0};
    bytes_add(&file, header, sizeof header);
    bytes_fill(&file, 7, 100000);
    bytes_gzip(&zipped, file.at, file.size);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = 1 << 20; /* an attempt to allocate would be VGG_ENOMEM */
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    char paths[2][256];
    file_write(dir, "images", zipped.at, zipped.size, paths[0]);
    file_write(dir, "labels", good_labels, sizeof good_labels, paths[1]);
    vgg_dataset *data = NULL;
    ck_fails_with(vgg_dataset_open_idx(ctx, paths[0], paths[1], 4, &data),
                  VGG_ETRUNCATED, "at most");
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    bytes_free(&file);
    bytes_free(&zipped);
}
END_TEST

static char logged[256];

static void keep_line(void *cookie, vgg_log_level level, const char *line)
{
    ck_assert_ptr_eq(cookie, logged);
    ck_assert_int_eq(level, VGG_LOG_WARNING);
    snprintf(logged, sizeof logged, "%s", line);
}

START_TEST(one_class_is_a_warning)
{
    static const char labels[] = {0, 0, 8, 1, BE(4), 2, 2, 2, 2};
    const vgg_logger logger = {logged, keep_line};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    char paths[2][256];
    file_write(dir, "images", good_images, sizeof good_images, paths[0]);
    file_write(dir, "labels", labels, sizeof labels, paths[1]);
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open_idx(ctx, paths[0], paths[1], 4, &data));
    ck_assert_str_eq(logged, "data set: all 4 samples are of class 2");
    vgg_context_free(ctx); /* the data set keeps what it needs */
    vgg_dataset_free(data);
}
END_TEST

START_TEST(arguments)
{
    vgg_dataset *data = (vgg_dataset *)dir;
    ck_fails(vgg_dataset_open_idx(NULL, NULL, "x", 10, &data), VGG_EINVAL);
    ck_assert_ptr_null(data);
    ck_fails(vgg_dataset_open_idx(NULL, "x", NULL, 10, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_idx(NULL, "x", "x", 0, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_idx(NULL, "x", "x", UINT32_MAX, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open_idx(NULL, "x", "x", 10, NULL), VGG_EINVAL);
    ck_fails(vgg_dataset_open_idx(NULL, "/nowhere/x", "x", 10, &data), VGG_EIO);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("idx");
    TCase *const tcase = tcase_create("idx");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, good_pairs);
    tcase_add_test(tcase, colour_images);
    tcase_add_loop_test(tcase, wrong_images, 0,
                        sizeof bad_images / sizeof bad_images[0]);
    tcase_add_loop_test(tcase, wrong_labels, 0,
                        sizeof bad_labels / sizeof bad_labels[0]);
    tcase_add_test(tcase, swapped_files);
    tcase_add_test(tcase, every_prefix);
    tcase_add_test(tcase, every_header_byte_changed);
    tcase_add_test(tcase, claim_beyond_deflate);
    tcase_add_test(tcase, one_class_is_a_warning);
    tcase_add_test(tcase, arguments);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
