/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets by name: which files are read, and what is said where they aren't. */
#include "harness.h"

#include "files.h"

#include <stdio.h>
#include <string.h>
#include <vgg/data.h>

static char dir[64];

static void setup(void)
{
    harness_mkdtemp(dir);
}

static void teardown(void)
{
    harness_rmdir(dir);
}

/* A pair of IDX files with one 1 x 1 image of this pixel and label. */
static void write_pair(const char *images, const char *labels, uint8_t pixel,
                       uint8_t label)
{
    uint8_t file[17] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, pixel};
    char path[256];
    file_write(dir, images, file, 17, path);
    const uint8_t other[9] = {0, 0, 8, 1, 0, 0, 0, 1, label};
    file_write(dir, labels, other, 9, path);
}

static uint8_t first_pixel(const char *name, const char *split)
{
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open(NULL, name, dir, split, &data));
    ck_assert_uint_eq(vgg_dataset_count(data), 1);
    uint8_t image[1];
    uint32_t label;
    ck_ok(vgg_dataset_read(data, 0, image, &label));
    vgg_dataset_free(data);
    return image[0];
}

START_TEST(idx_files_by_split)
{
    write_pair("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 11, 9);
    write_pair("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 22, 9);
    ck_assert_uint_eq(first_pixel("fashion-mnist", "train"), 11);
    ck_assert_uint_eq(first_pixel("fashion-mnist", "test"), 22);
    ck_assert_uint_eq(first_pixel("mnist", "train"), 11);
    ck_assert_uint_eq(first_pixel("mnist", "test"), 22);
}
END_TEST

/* Which file is read doesn't depend on chance or dates: the plain one, if it's
   there. */
START_TEST(plain_before_gz)
{
    write_pair("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", 33, 9);
    ck_assert_uint_eq(first_pixel("mnist", "train"), 33);
    write_pair("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 44, 9);
    ck_assert_uint_eq(first_pixel("mnist", "train"), 44);
}
END_TEST

START_TEST(missing_files)
{
    vgg_dataset *data = (vgg_dataset *)dir;
    ck_fails_with(vgg_dataset_open(NULL, "fashion-mnist", dir, "test", &data), VGG_EIO,
                  "dataset-fashion-mnist");
    ck_assert_ptr_null(data);
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "t10k-images-idx3-ubyte"));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), dir));
    write_pair("t10k-images-idx3-ubyte", "unused", 1, 1);
    ck_fails_with(vgg_dataset_open(NULL, "fashion-mnist", dir, "test", &data), VGG_EIO,
                  "t10k-labels-idx1-ubyte");
    ck_fails_with(vgg_dataset_open(NULL, "mnist", dir, "train", &data), VGG_EIO,
                  "train-images-idx3-ubyte");
    ck_fails_with(vgg_dataset_open(NULL, "cifar10", dir, "train", &data), VGG_EIO,
                  "data_batch_1.bin");
    ck_fails_with(vgg_dataset_open(NULL, "cifar100", "/nowhere", "test", &data),
                  VGG_EIO, "test.bin");
}
END_TEST

/* A published CIFAR file has its exact number of records; one that was cut between two
 * records is found by that. */
START_TEST(cifar_record_counts)
{
    struct bytes file = {0};
    char path[256];
    bytes_fill(&file, 3, (size_t)9999 * 3073);
    file_write(dir, "test_batch.bin", file.at, file.size, path);
    vgg_dataset *data = NULL;
    ck_fails_with(vgg_dataset_open(NULL, "cifar10", dir, "test", &data), VGG_EMISMATCH,
                  "test_batch.bin: has 9999 records, expected 10000");
    bytes_fill(&file, 3, 3073);
    file_write(dir, "test_batch.bin", file.at, file.size, path);
    ck_ok(vgg_dataset_open(NULL, "cifar10", dir, "test", &data));
    ck_assert_uint_eq(vgg_dataset_count(data), 10000);
    ck_assert_str_eq(vgg_dataset_class_name(data, 0), "airplane");
    ck_assert_str_eq(vgg_dataset_class_name(data, 9), "truck");
    vgg_dataset_free(data);
    for (int batch = 1; batch <= 4; batch++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", batch);
        file_write(dir, name, file.at, file.size, path);
    }
    ck_fails_with(vgg_dataset_open(NULL, "cifar10", dir, "train", &data), VGG_EIO,
                  "data_batch_5.bin");
    bytes_free(&file);
    bytes_fill(&file, 3, (size_t)10000 * 3074);
    file_write(dir, "test.bin", file.at, file.size, path);
    ck_ok(vgg_dataset_open(NULL, "cifar100", dir, "test", &data));
    ck_assert_uint_eq(vgg_dataset_classes(data), 100);
    ck_assert_str_eq(vgg_dataset_class_name(data, 0), "apple");
    ck_assert_str_eq(vgg_dataset_class_name(data, 1), "aquarium fish");
    ck_assert_str_eq(vgg_dataset_class_name(data, 50), "mouse");
    ck_assert_str_eq(vgg_dataset_class_name(data, 99), "worm");
    vgg_dataset_free(data);
    bytes_free(&file);
}
END_TEST

START_TEST(arguments)
{
    vgg_dataset *data = (vgg_dataset *)dir;
    ck_fails_with(vgg_dataset_open(NULL, "imagenet", dir, "train", &data), VGG_EINVAL,
                  "fashion-mnist, mnist, cifar10 or cifar100");
    ck_assert_ptr_null(data);
    ck_fails_with(vgg_dataset_open(NULL, "mnist", dir, "valid", &data), VGG_EINVAL,
                  "train or test");
    ck_fails(vgg_dataset_open(NULL, NULL, dir, "train", &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open(NULL, "mnist", NULL, "train", &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open(NULL, "mnist", dir, NULL, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_open(NULL, "mnist", dir, "train", NULL), VGG_EINVAL);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("catalog");
    TCase *const tcase = tcase_create("catalog");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, idx_files_by_split);
    tcase_add_test(tcase, plain_before_gz);
    tcase_add_test(tcase, missing_files);
    tcase_add_test(tcase, cifar_record_counts);
    tcase_add_test(tcase, arguments);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
