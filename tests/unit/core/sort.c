/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting: every count up to 300, with equal elements, and bounded work in any
   order. */
#include "core/sort.h"
#include "harness.h"

#include <stdlib.h>
#include <string.h>

static long comparisons;

static int compare(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    comparisons++;
    return (x > y) - (x < y);
}

START_TEST(sorts)
{
    uint32_t values[300], random = 1;
    for (uint32_t range = 1; range < 1000; range *= 7)
        for (size_t count = 0; count <= 300; count++) {
            uint64_t sum = 0, after = 0;
            for (size_t i = 0; i < count; i++) {
                random = random * 1664525 + 1013904223;
                sum += values[i] = (random >> 16) % range;
            }
            vgg__sort(values, count, sizeof values[0], compare);
            for (size_t i = 0; i < count; i++) {
                after += values[i];
                ck_assert(i == 0 || values[i - 1] <= values[i]);
            }
            ck_assert_uint_eq(sum, after);
        }
}
END_TEST

START_TEST(hostile_orders)
{
    enum { COUNT = 1 << 15 };
    uint32_t *values = malloc(COUNT * sizeof *values);
    for (int order = 0; order < 4; order++) {
        for (uint32_t i = 0; i < COUNT; i++)
            values[i] = order == 0   ? i
                        : order == 1 ? COUNT - i
                        : order == 2 ? 7
                                     : i ^ 0x2aaa;
        comparisons = 0;
        vgg__sort(values, COUNT, sizeof *values, compare);
        ck_assert_int_le(comparisons, 2L * COUNT * 15 + 2L * COUNT);
        for (uint32_t i = 1; i < COUNT; i++) ck_assert(values[i - 1] <= values[i]);
    }
    free(values);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sort");
    TCase *tests = tcase_create("sort");
    tcase_add_test(tests, sorts);
    tcase_add_test(tests, hostile_orders);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
