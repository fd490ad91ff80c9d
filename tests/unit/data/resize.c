/* SPDX-License-Identifier: Apache-2.0 */
/* Resizing is bit for bit that of OpenCV, Pillow and exact arithmetic: see
 * make_resize_fixtures.py. */
#include "harness.h"

#include "data/resize.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "resize_fixture.h"

#define FIXTURES (sizeof fixtures / sizeof fixtures[0])

/* The same image as the script's pixels(). */
static uint8_t *pixels(struct vgg__size size)
{
    uint32_t state = size.height << 16 | size.width;
    uint8_t *const out = malloc((size_t)size.height * size.width);
    for (size_t i = 0; i < (size_t)size.height * size.width; i++) {
        state = state * 1664525 + 1013904223;
        out[i] = (uint8_t)(state >> 24);
    }
    return out;
}

static uint8_t *resized(vgg_resize_rule rule, struct vgg__size from,
                        struct vgg__size to)
{
    uint8_t *const image = pixels(from);
    uint8_t *const out = malloc((size_t)to.height * to.width);
    struct vgg__resize *resize = NULL;
    ck_ok(vgg__resize_create(NULL, rule, from, to, &resize));
    memset(out, 77, (size_t)to.height * to.width);
    vgg__resize_plane(resize, image, out);
    vgg__resize_plane(resize, image, out); /* nothing is left over from the first */
    vgg__resize_free(resize);
    free(image);
    return out;
}

START_TEST(same_as_fixture)
{
    const struct vgg__size from = fixtures[_i].from, to = fixtures[_i].to;
    uint8_t *const out = resized(fixtures[_i].rule, from, to);
    const uint32_t crc = (uint32_t)crc32(0, out, to.height * to.width);
    ck_assert_msg(crc == fixtures[_i].crc,
                  "rule %d, %ux%u to %ux%u: CRC %08x, not %08x", (int)fixtures[_i].rule,
                  from.height, from.width, to.height, to.width, crc, fixtures[_i].crc);
    free(out);
}
END_TEST

START_TEST(same_pixels)
{
    for (int rule = 0; rule < 3; rule++) {
        uint8_t *const out = resized((vgg_resize_rule)rule, (struct vgg__size){5, 7},
                                     (struct vgg__size){11, 3});
        ck_assert_mem_eq(out, shown[rule], sizeof shown[rule]);
        free(out);
    }
}
END_TEST

static bool all_are(const uint8_t *image, struct vgg__size size, int value)
{
    for (size_t i = 0; i < (size_t)size.height * size.width; i++)
        if (image[i] != value) return false;
    return true;
}

/* A constant image stays as it is at any size and by any rule. */
START_TEST(constant_images)
{
    static const struct vgg__size sizes[] = {{1, 1}, {3, 5}, {28, 28}, {57, 200}};
    for (int rule = 0; rule < 3; rule++)
        for (int i = 0; i < 16; i++) {
            const struct vgg__size from = sizes[i / 4], to = sizes[i % 4];
            struct vgg__resize *resize = NULL;
            ck_ok(vgg__resize_create(NULL, (vgg_resize_rule)rule, from, to, &resize));
            uint8_t *const image = malloc((size_t)from.height * from.width);
            uint8_t *const out = malloc((size_t)to.height * to.width);
            for (int value = 0; value < 256; value += 5) {
                memset(image, value, (size_t)from.height * from.width);
                vgg__resize_plane(resize, image, out);
                ck_assert(all_are(out, to, value));
            }
            free(image);
            free(out);
            vgg__resize_free(resize);
        }
}
END_TEST

/* The largest sizes: no sum overflows, white stays white. */
START_TEST(largest_sizes)
{
    static const struct vgg__size sizes[][2] = {
        {{32768, 1}, {1, 64}},
        {{1, 32768}, {4096, 1}},
        {{1, 32768}, {1, 32767}},
        {{3, 3}, {1, 32768}},
    };
    for (int rule = 0; rule < 3; rule++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const struct vgg__size from = sizes[i][0], to = sizes[i][1];
            struct vgg__resize *resize = NULL;
            ck_ok(vgg__resize_create(NULL, (vgg_resize_rule)rule, from, to, &resize));
            uint8_t *const image = malloc((size_t)from.height * from.width);
            uint8_t *const out = malloc((size_t)to.height * to.width);
            memset(image, 255, (size_t)from.height * from.width);
            vgg__resize_plane(resize, image, out);
            ck_assert(all_are(out, to, 255));
            free(image);
            free(out);
            vgg__resize_free(resize);
        }
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("resize");
    TCase *const tcase = tcase_create("resize");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, same_as_fixture, 0, FIXTURES);
    tcase_add_test(tcase, same_pixels);
    tcase_add_test(tcase, constant_images);
    tcase_add_test(tcase, largest_sizes);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
