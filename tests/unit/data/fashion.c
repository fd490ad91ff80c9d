/* SPDX-License-Identifier: Apache-2.0 */
/* The real Fashion-MNIST, where Debian's package dataset-fashion-mnist has put it;
 * skipped (exit status 77) elsewhere. */
#include "harness.h"

#include <stdio.h>
#include <unistd.h>
#include <vgg/data.h>

#define PACKAGE "/usr/share/datasets/fashion-mnist"

/* Facts about the published files, added up in Python. */
static void check_fashion(const char *split, uint64_t count, const uint32_t first[5],
                          uint64_t expected_sum)
{
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_open(NULL, "fashion-mnist", PACKAGE, split, &data));
    ck_assert_uint_eq(vgg_dataset_count(data), count);
    const vgg_shape *const shape = vgg_dataset_shape(data);
    ck_assert(shape->dim[0] == 1 && shape->dim[1] == 28 && shape->dim[2] == 28);
    uint64_t sum = 0, of_class[10] = {0};
    for (uint64_t i = 0; i < count; i++) {
        uint8_t image[784];
        uint32_t label;
        ck_ok(vgg_dataset_read(data, i, image, &label));
        if (i < 5) ck_assert_uint_eq(label, first[i]);
        of_class[label]++;
        for (int k = 0; k < 784; k++) sum += image[k];
    }
    ck_assert_uint_eq(sum, expected_sum);
    for (int c = 0; c < 10; c++) ck_assert_uint_eq(of_class[c], count / 10);
    ck_assert_str_eq(vgg_dataset_class_name(data, 0), "t-shirt");
    ck_assert_str_eq(vgg_dataset_class_name(data, 9), "ankle boot");
    vgg_dataset_free(data);
}

START_TEST(real_fashion_mnist)
{
    check_fashion("train", 60000, (const uint32_t[5]){9, 0, 0, 3, 0}, 3431114169u);
    check_fashion("test", 10000, (const uint32_t[5]){9, 2, 1, 1, 6}, 573469082u);
}
END_TEST

int main(void)
{
    if (access(PACKAGE "/train-images-idx3-ubyte.gz", R_OK) != 0) {
        puts("skipped: " PACKAGE " is not there (package dataset-fashion-mnist)");
        return 77;
    }
    Suite *const suite = suite_create("fashion");
    TCase *const tcase = tcase_create("fashion");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, real_fashion_mnist);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
