/* SPDX-License-Identifier: Apache-2.0 */
/* boundary.cu against the definition of the two orders. */
#include "buffers.h"
#include "harness.h"

/* Thin ones, whole tiles, tiles that are cut off on both sides. */
static const struct shape {
    uint32_t n, c, h, w;
} shapes[] = {{1, 1, 1, 1},  {3, 1, 5, 7},   {2, 3, 9, 4},   {2, 32, 8, 4},
              {3, 40, 7, 5}, {2, 8, 2, 4},   {5, 10, 1, 1},  {1, 65, 3, 11},
              {2, 9, 1, 9},  {1, 300, 2, 2}, {70, 33, 1, 33}};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

static size_t count_of(struct shape s)
{
    return (size_t)s.n * s.c * s.h * s.w;
}

/* Element i of [n][c][h][w] in [n][h][w][c]. */
static size_t channels_last(struct shape s, size_t i)
{
    const size_t pixels = (size_t)s.h * s.w;
    const size_t pixel = i % pixels, c = i / pixels % s.c, n = i / pixels / s.c;
    return (n * pixels + pixel) * s.c + c;
}

static struct vgg__grid some_grid(int i, size_t count)
{
    return i % 2 == 0 ? vgg__grid_elements(count) : grid_1d(2, 256);
}

START_TEST(take_in)
{
    const struct shape s = shapes[_i];
    const size_t count = count_of(s);
    for (int type = 0; type < VGG__TYPES; type++)
        for (uint32_t live = 1; live <= s.n; live += s.n > 2 ? s.n - 2 : 1) {
            const struct vgg__take_in_args args = {
                .in = numbers(VGG__F32, count, 1),
                .out = output(count * type_bytes((enum vgg__type)type)),
                .n = s.n,
                .c = s.c,
                .h = s.h,
                .w = s.w,
                .step = step_of((struct vgg__step){.count = live})};
            launch(&vgg__kernel_take_in[type], some_grid(type, count), &args);
            for (size_t i = 0; i < count; i++)
                expect_same((enum vgg__type)type, args.out, channels_last(s, i),
                            i < count / s.n * live ? args.in[i] : 0);
            buffers_free();
        }
}
END_TEST

START_TEST(give_out)
{
    const struct shape s = shapes[_i];
    const size_t count = count_of(s);
    for (int type = 0; type < VGG__TYPES; type++) {
        const struct vgg__give_out_args args = {numbers((enum vgg__type)type, count, 1),
                                                output(count * 4),
                                                s.n,
                                                s.c,
                                                s.h,
                                                s.w};
        launch(&vgg__kernel_give_out[type], some_grid(type, count), &args);
        for (size_t i = 0; i < count; i++)
            expect_same(VGG__F32, args.out, i, number(1, channels_last(s, i)));
        buffers_free();
    }
}
END_TEST

START_TEST(flatten)
{
    const struct shape s = shapes[_i];
    const size_t count = count_of(s);
    for (int k = 0; k < 4 * VGG__TYPES; k++) {
        const enum vgg__type type = (enum vgg__type)(k / 4);
        const bool masks = k / 2 % 2 != 0;
        const struct vgg__flatten_args args = {numbers(type, count, 1),
                                               output(count * type_bytes(type)),
                                               s.n,
                                               s.c,
                                               s.h,
                                               s.w,
                                               .back = (uint32_t)k % 2,
                                               .mask = masks ? numbers(type, count, 2)
                                                             : NULL};
        launch(&vgg__kernel_flatten[type], some_grid(k, count), &args);
        for (size_t i = 0; i < count; i++) {
            const size_t last = channels_last(s, i), to = args.back ? last : i;
            const bool passes = !masks || number(2, to) > 0;
            expect_same(type, args.out, to,
                        passes ? number(1, args.back ? i : last) : 0);
        }
        buffers_free();
    }
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("boundary");
    TCase *const all = tcase_create("boundary");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, take_in, 0, SHAPES);
    tcase_add_loop_test(all, give_out, 0, SHAPES);
    tcase_add_loop_test(all, flatten, 0, SHAPES);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
