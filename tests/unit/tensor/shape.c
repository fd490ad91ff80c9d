/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and shapes. */
#include "harness.h"

#include <string.h>
#include <vgg/tensor.h>

START_TEST(dtypes)
{
    static const struct {
        vgg_dtype dtype;
        size_t size;
        const char *name;
    } rows[] = {
        {VGG_F32, 4, "f32"},     {VGG_F64, 8, "f64"},
        {VGG_U8, 1, "u8"},       {VGG_I32, 4, "i32"},
        {VGG_I64, 8, "i64"},     {(vgg_dtype)5, 0, "?"},
        {(vgg_dtype)-1, 0, "?"}, {(vgg_dtype)INT32_MAX, 0, "?"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_uint_eq(vgg_dtype_size(rows[i].dtype), rows[i].size);
        ck_assert_str_eq(vgg_dtype_name(rows[i].dtype), rows[i].name);
    }
}
END_TEST

#define MOST UINT32_MAX

static const struct {
    vgg_shape shape;
    vgg_status status;
    uint64_t count;
    const char *text;
} shapes[] = {
    {{0, {0}}, VGG_OK, 1, "scalar"},
    {{0, {7, 7}}, VGG_OK, 1, "scalar"}, /* axes from rank on are ignored */
    {{1, {5, 0}}, VGG_OK, 5, "5"},
    {{4, {128, 64, 3, 3}}, VGG_OK, 73728, "128x64x3x3"},
    {{7, {1, 2, 3, 4, 5, 6, 7}}, VGG_OK, 5040, "1x2x3x4x5x6x7"},
    {{2, {0, 5}}, VGG_OK, 0, "0x5"},
    {{7, {MOST, MOST, MOST, MOST, MOST, MOST, 0}},
     VGG_OK,
     0,
     "4294967295x4294967295x4294967295x4294967295x4294967295x4294967295x0"},
    {{2, {1u << 31, 1u << 31}}, VGG_OK, 1ull << 62, "2147483648x2147483648"},
    {{3, {1u << 31, 1u << 31, 1}}, VGG_OK, 1ull << 62, "2147483648x2147483648x1"},
    {{3, {1u << 31, 1u << 31, 2}}, VGG_ELIMIT, 0, "2147483648x2147483648x2"},
    {{2, {MOST, MOST}}, VGG_ELIMIT, 0, "4294967295x4294967295"},
    {{3, {1u << 31, 1u << 31, 4}}, VGG_ELIMIT, 0, "2147483648x2147483648x4"}, /* 2^64 */
    {{7, {MOST, MOST, MOST, MOST, MOST, MOST, MOST}},
     VGG_ELIMIT,
     0,
     "4294967295x4294967295x4294967295x4294967295x4294967295x4294967295x4294967295"},
};

START_TEST(count_and_text)
{
    uint64_t count = 99;
    if (shapes[_i].status == VGG_OK)
        ck_ok(vgg_shape_count(&shapes[_i].shape, &count));
    else
        ck_fails_with(vgg_shape_count(&shapes[_i].shape, &count), shapes[_i].status,
                      shapes[_i].text);
    ck_assert_uint_eq(count, shapes[_i].count);

    const size_t length = strlen(shapes[_i].text);
    char text[128];
    for (size_t size = 0; size <= length + 2; size++) {
        memset(text, '#', sizeof text);
        ck_assert_uint_eq(vgg_shape_text(&shapes[_i].shape, text, size), length);
        ck_assert_int_eq(text[size], '#');
        if (size == 0) continue;
        const size_t shown = size <= length ? size - 1 : length;
        ck_assert_uint_eq(strlen(text), shown);
        ck_assert_mem_eq(text, shapes[_i].text, shown);
    }
    ck_assert_uint_eq(vgg_shape_text(&shapes[_i].shape, NULL, 0), length);
}
END_TEST

START_TEST(refused)
{
    const vgg_shape wide = {8, {1, 1, 1, 1, 1, 1, 1}};
    uint64_t count = 99;
    ck_fails_with(vgg_shape_count(&wide, &count), VGG_EINVAL, "found 8");
    ck_assert_uint_eq(count, 0);
    count = 99;
    ck_fails(vgg_shape_count(NULL, &count), VGG_EINVAL);
    ck_assert_uint_eq(count, 0);
    ck_fails(vgg_shape_count(&wide, NULL), VGG_EINVAL);
    char text[8];
    ck_assert_uint_eq(vgg_shape_text(&wide, text, sizeof text), 1);
    ck_assert_str_eq(text, "?");
    ck_assert_uint_eq(vgg_shape_text(NULL, text, sizeof text), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tensor/shape");
    TCase *tcase = tcase_create("shape");
    tcase_add_test(tcase, dtypes);
    tcase_add_loop_test(tcase, count_and_text, 0, sizeof shapes / sizeof *shapes);
    tcase_add_test(tcase, refused);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
