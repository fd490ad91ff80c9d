/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures brought to one size: to the bit as torchvision does (make_fit_fixtures.py),
 * and in the middle where it has no word for it. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <vgg/data.h>
#include <zlib.h>

#include "fit_fixture.h"

#define FIXTURES (sizeof fixtures / sizeof fixtures[0])

static vgg_tensor *make(uint32_t channels, uint32_t height, uint32_t width)
{
    const vgg_shape shape = {3, {channels, height, width}};
    vgg_tensor *tensor = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &shape, &tensor));
    return tensor;
}

/* The same picture as the script's pixels(). */
static vgg_tensor *noise(uint32_t height, uint32_t width)
{
    vgg_tensor *const tensor = make(3, height, width);
    uint8_t *const data = vgg_tensor_data(tensor);
    uint32_t state = height << 16 | width;
    for (size_t i = 0; i < (size_t)3 * height * width; i++) {
        state = state * 1664525 + 1013904223;
        data[i] = (uint8_t)(state >> 24);
    }
    return tensor;
}

START_TEST(same_as_torchvision)
{
    const uint32_t height = fixtures[_i].to_height, width = fixtures[_i].to_width;
    vgg_tensor *const in = noise(fixtures[_i].height, fixtures[_i].width);
    vgg_tensor *const out = make(3, height, width);
    ck_ok(vgg_image_fit(in, fixtures[_i].fit, VGG_RESIZE_PILLOW, out));
    const uint32_t crc = (uint32_t)crc32(0, vgg_tensor_data(out), 3 * height * width);
    ck_assert_msg(crc == fixtures[_i].crc, "%ux%u to %ux%u: CRC %08x, not %08x",
                  fixtures[_i].height, fixtures[_i].width, height, width, crc,
                  fixtures[_i].crc);
    vgg_tensor_free(in);
    vgg_tensor_free(out);
}
END_TEST

/* A target that is no square is covered too, and what is cut off is the same on both
 * sides: here nothing is resized, so that pixels can be told apart. */
START_TEST(covers_the_middle)
{
    static const struct {
        uint32_t height, width, to_height, to_width, top, left;
    } cases[] = {
        {6, 10, 6, 4, 0, 3}, {10, 6, 4, 6, 3, 0},
        {5, 9, 5, 9, 0, 0},  {8, 5, 3, 5, 2, 0}, /* 2.5 to even */
        {8, 5, 1, 5, 4, 0},                      /* 3.5 likewise */
        {4, 11, 4, 6, 0, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (uint32_t rule = 0; rule < 3; rule++) {
            vgg_tensor *const in = noise(cases[i].height, cases[i].width);
            vgg_tensor *const out = make(3, cases[i].to_height, cases[i].to_width);
            ck_ok(vgg_image_fit(in, VGG_FIT_COVER, rule, out));
            const uint8_t *const from = vgg_tensor_data(in), *to = vgg_tensor_data(out);
            for (uint32_t c = 0; c < 3; c++)
                for (uint32_t y = 0; y < cases[i].to_height; y++)
                    for (uint32_t x = 0; x < cases[i].to_width; x++, to++)
                        ck_assert_msg(
                            *to == from[(c * cases[i].height + y + cases[i].top) *
                                            cases[i].width +
                                        x + cases[i].left],
                            "case %zu, rule %u: %u %u %u", i, rule, c, y, x);
            vgg_tensor_free(in);
            vgg_tensor_free(out);
        }
}
END_TEST

/* Stretching is what a transform's resize does, by every rule. */
START_TEST(stretches_as_a_transform)
{
    vgg_tensor *const in = noise(31, 57), *const out = make(3, 20, 64);
    const vgg_shape shape = {3, {3, 20, 64}};
    vgg_tensor *wanted = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &shape, &wanted));
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = 20;
    transform.resize_width = 64;
    for (uint32_t rule = 0; rule < 3; rule++) {
        transform.resize_rule = rule;
        ck_ok(vgg_image_fit(in, VGG_FIT_STRETCH, rule, out));
        ck_ok(vgg_transform_apply(&transform, in, 0, 0, 0, 0, wanted));
        const uint8_t *const got = vgg_tensor_data(out);
        const float *const expected = vgg_tensor_data(wanted);
        for (int i = 0; i < 3 * 20 * 64; i++)
            ck_assert(expected[i] == (float)got[i] / 255.0f);
    }
    vgg_tensor_free(in);
    vgg_tensor_free(out);
    vgg_tensor_free(wanted);
}
END_TEST

START_TEST(wrong_pictures)
{
    static const struct {
        const char *name;
        vgg_dtype dtype;
        vgg_shape in, out;
        uint32_t fit, rule;
        vgg_status expected;
        const char *text;
    } cases[] = {
        {"floats", VGG_F32, {3, {1, 2, 2}}, {3, {1, 4, 4}}, 0, 0, VGG_EINVAL, "f32"},
        {"a batch",
         VGG_U8,
         {4, {1, 1, 2, 2}},
         {3, {1, 4, 4}},
         0,
         0,
         VGG_ESHAPE,
         "1x1x2x2"},
        {"no rows", VGG_U8, {3, {1, 0, 2}}, {3, {1, 4, 4}}, 0, 0, VGG_ESHAPE, "1x0x2"},
        {"no output",
         VGG_U8,
         {3, {1, 2, 2}},
         {3, {1, 4, 0}},
         0,
         0,
         VGG_ESHAPE,
         "output is 1x4x0"},
        {"channels",
         VGG_U8,
         {3, {1, 2, 2}},
         {3, {3, 4, 4}},
         0,
         0,
         VGG_ESHAPE,
         "3 channels"},
        {"too wide",
         VGG_U8,
         {3, {1, 1, 32769}},
         {3, {1, 4, 4}},
         1,
         0,
         VGG_ELIMIT,
         "1x32769"},
        {"too wide between",
         VGG_U8,
         {3, {1, 2, 20000}},
         {3, {1, 4, 4}},
         0,
         0,
         VGG_ELIMIT,
         "4x40000"},
        {"too high between",
         VGG_U8,
         {3, {1, 20000, 2}},
         {3, {1, 4, 4}},
         0,
         0,
         VGG_ELIMIT,
         "40000x4"},
        {"fit", VGG_U8, {3, {1, 2, 2}}, {3, {1, 4, 4}}, 2, 0, VGG_EINVAL, "fit"},
        {"rule", VGG_U8, {3, {1, 2, 2}}, {3, {1, 4, 4}}, 0, 3, VGG_EINVAL, "rule"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vgg_tensor *in = NULL, *out = NULL;
        ck_ok(vgg_tensor_create(NULL, cases[i].dtype, &cases[i].in, &in));
        ck_ok(vgg_tensor_create(NULL, VGG_U8, &cases[i].out, &out));
        const vgg_status status = vgg_image_fit(in, cases[i].fit, cases[i].rule, out);
        ck_assert_msg(status == cases[i].expected &&
                          strstr(vgg_last_error(), cases[i].text) != NULL,
                      "%s: %s, %s", cases[i].name, vgg_status_name(status),
                      vgg_last_error());
        vgg_tensor_free(in);
        vgg_tensor_free(out);
    }
    vgg_tensor *const one = make(1, 2, 2);
    ck_fails_with(vgg_image_fit(NULL, 0, 0, one), VGG_EINVAL, "input");
    ck_fails_with(vgg_image_fit(one, 0, 0, NULL), VGG_EINVAL, "output");
    ck_fails_with(vgg_image_fit(one, 0, 0, one), VGG_EINVAL, "memory of its own");
    vgg_tensor_free(one);
}
END_TEST

/* The longest side that there may be between resize and cut, and the smallest one. */
START_TEST(extremes)
{
    static const uint32_t sizes[][2] = {{1, 8192}, {8192, 1}, {32768, 2}, {1, 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        vgg_tensor *const in = make(1, sizes[i][0], sizes[i][1]);
        vgg_tensor *const out = make(1, 2, 4);
        memset(vgg_tensor_data(in), 200, vgg_tensor_bytes(in));
        for (uint32_t rule = 0; rule < 3; rule++) {
            memset(vgg_tensor_data(out), 0, 8);
            const vgg_status status = vgg_image_fit(in, VGG_FIT_COVER, rule, out);
            if (sizes[i][0] == 32768) { /* twice as high when it covers */
                ck_assert_int_eq(status, VGG_ELIMIT);
                continue;
            }
            ck_ok(status);
            const uint8_t *const data = vgg_tensor_data(out);
            for (int k = 0; k < 8; k++) ck_assert_uint_eq(data[k], 200);
        }
        vgg_tensor_free(in);
        vgg_tensor_free(out);
    }
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("fit");
    TCase *const tcase = tcase_create("fit");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, same_as_torchvision, 0, FIXTURES);
    tcase_add_test(tcase, covers_the_middle);
    tcase_add_test(tcase, stretches_as_a_transform);
    tcase_add_test(tcase, wrong_pictures);
    tcase_add_test(tcase, extremes);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
