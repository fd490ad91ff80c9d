/* SPDX-License-Identifier: Apache-2.0 */
/* The convolutions of conv_mma.h against plain loops, bit for bit: by the tiles that
 * vgg__conv_mma_fit chooses, and by others. */
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "conv.h"
#include "harness.h"

static const struct conv_layer layers[] = {
    {1, 8, 8, 16, 32, 0},    {2, 5, 7, 16, 16, 0},   {1, 9, 17, 32, 64, 0},
    {1, 3, 22, 64, 16, 0},   {1, 9, 10, 64, 128, 0}, {1, 7, 9, 128, 32, 0},
    {1, 1, 1, 32, 32, 0},    {3, 14, 14, 16, 32, 1}, {2, 6, 10, 32, 16, 1},
    {1, 10, 20, 64, 64, 1},  {1, 2, 2, 16, 64, 1},   {1, 6, 6, 128, 128, 1},
    {1, 10, 18, 32, 128, 1},
};
#define LAYERS (int)(sizeof layers / sizeof layers[0])

typedef void check_fn(const struct vgg__conv_mma_args *args);

static void try(enum vgg__conv_mma_what what, struct vgg__conv_mma_args *args)
{
    static check_fn *const checks[] = {conv_check_forward, conv_check_data,
                                       conv_check_weights};
    conv_run(what, args);
    checks[what](args);
}

/* By the tile that should be the fastest and those of warp groups; the smallest layers
 * by all of them. A tile but for the number of blocks is tried once. */
START_TEST(fitted)
{
    const enum vgg__conv_mma_what what = (enum vgg__conv_mma_what)(_i % 3);
    const struct conv_layer layer = layers[_i / 3];
    const uint32_t ranks = layer.ic * layer.oc > 2048 ? 1 : 8;
    struct vgg__conv_mma_tile tried[16];
    uint32_t count = 0, wide = 0;
    for (uint32_t i = 0; i < 16; i++) {
        struct vgg__conv_mma_args args = conv_make(layer);
        args.rank = i / 2;
        bool fresh = vgg__conv_mma_fit(what, &conv_devices[i % 2], &args) != 0;
        fresh = fresh && (args.rank < ranks || args.tile.wide);
        for (uint32_t j = 0; j < count; j++)
            fresh &= memcmp(&tried[j], &args.tile,
                            offsetof(struct vgg__conv_mma_tile, blocks)) != 0;
        if (fresh) {
            tried[count++] = args.tile;
            wide += args.tile.wide;
            try(what, &args);
        }
        arrays_free();
    }
    ck_assert_uint_gt(count, 0);
    if (conv_devices[0].wide) /* Hopper's */
        ck_assert(wide > 0 || (what == VGG__CONV_MMA_WEIGHTS && layer.oc < 32));
}
END_TEST

/* Tiles for a layer of 64 channels: regions of several spots and a block's several
 * regions, warps that have nothing to do; for weights shares of a region. */
struct try_tile {
    uint32_t whats; /* bits */
    struct vgg__conv_mma_tile tile;
};

static const struct try_tile tiles[] = {
    {3, {8, 8, 32, 1, 1, 0, 1}},    {3, {8, 16, 32, 4, 2, 0, 2}},
    {3, {16, 8, 64, 3, 1, 0, 3}},   {3, {16, 24, 64, 5, 2, 0, 1}},
    {3, {8, 8, 64, 2, 2, 0, 100}},  {3, {24, 24, 64, 16, 1, 0, 1}},
    {3, {8, 8, 64, 4, 1, 1, 1}},    {3, {8, 8, 64, 12, 2, 1, 1}},
    {4, {8, 8, 64, 12, 3, 1, 1}},   {4, {8, 8, 64, 12, 3, 1, 4}},
    {3, {8, 8, 64, 24, 1, 1, 2}},   {3, {8, 8, 64, 8, 2, 1, 100}},
    {4, {8, 8, 16, 4, 1, 0, 1}},    {4, {8, 24, 16, 12, 2, 0, 2}},
    {4, {16, 16, 32, 16, 1, 0, 3}}, {4, {8, 32, 64, 16, 1, 0, 100}},
    {4, {24, 8, 32, 8, 2, 0, 2}},
};
#define TILES (int)(sizeof tiles / sizeof tiles[0])

START_TEST(other_tiles)
{
    const enum vgg__conv_mma_what what = (enum vgg__conv_mma_what)(_i % 3);
    const struct try_tile *const tile = &tiles[_i / 3];
    for (uint32_t pool = 0; pool < 2 && tile->whats >> what & 1; pool++) {
        struct vgg__conv_mma_args args =
            conv_make((struct conv_layer){2, 12, 18, 64, 64, pool});
        args.tile = tile->tile;
        if (what == VGG__CONV_MMA_DATA && pool) args.tile.buffers = 1;
        const uint32_t regions = 2 * ((12 + args.tile.rows - 1) / args.tile.rows) *
                                 ((18 + args.tile.cols - 1) / args.tile.cols);
        if (args.tile.blocks > regions) args.tile.blocks = regions;
        try(what, &args);
        arrays_free();
    }
}
END_TEST

/* What is optional left out. */
START_TEST(bare)
{
    for (uint32_t pool = 0; pool < 2; pool++) {
        struct vgg__conv_mma_args args =
            conv_make((struct conv_layer){1, 10, 12, 32, 32, pool});
        const enum vgg__conv_mma_what what = (enum vgg__conv_mma_what)_i;
        ck_assert(vgg__conv_mma_fit(what, &conv_devices[0], &args));
        if (what == VGG__CONV_MMA_FORWARD) {
            args.bias = NULL;
            args.winner = NULL;
            args.relu = pool; /* pooling is fused only behind a ReLU */
        } else if (what == VGG__CONV_MMA_DATA) {
            args.x = NULL;
        }
        try(what, &args);
        arrays_free();
    }
}
END_TEST

/* NaN, -0 and an infinity in the input: of several NaN in a window the last wins, a NaN
 * of x lets the gradient pass, and what is multiplied by one is NaN, were it 0. */
START_TEST(odd_numbers)
{
    for (uint32_t pool = 0; pool < 2; pool++) {
        struct vgg__conv_mma_args args =
            conv_make((struct conv_layer){1, 8, 12, 16, 32, pool});
        const enum vgg__conv_mma_what what = (enum vgg__conv_mma_what)(_i % 3);
        args.rank = _i / 3;
        if (!vgg__conv_mma_fit(what, &conv_devices[0], &args)) {
            arrays_free();
            continue;
        }
        uint16_t *const x = (uint16_t *)args.x;
        x[(3 * 12 + 5) * 16 + 2] = 0x7fc0;
        x[(6 * 12 + 8) * 16 + 9] = 0xffc0;
        x[7] = 0x8000;
        x[(2 * 12 + 10) * 16 + 4] = 0x7f80;
        /* a window with NaN at places 0, 1 and 2 */
        x[(5 * 12 + 3) * 16] = x[(7 * 12 + 1) * 16] = 0x7fc0;
        try(what, &args);
        arrays_free();
    }
}
END_TEST

#ifndef ON_GPU /* which does not tell */
/* Wherever rows are read, none waits for a bank. */
START_TEST(banks)
{
    static const uint32_t channels[] = {16, 32, 64, 128};
    const struct conv_layer layer = {1, 8, 9, channels[_i], channels[_i], 0};
    for (int what = 0; what < 3; what++) {
        struct vgg__conv_mma_args args = conv_make(layer);
        do /* warp groups read cores, which can't meet in a bank */
            ck_assert(vgg__conv_mma_fit((enum vgg__conv_mma_what)what, &conv_devices[0],
                                        &args));
        while (args.tile.wide && ++args.rank);
        uint64_t loads[2], conflicts[2];
        launch_counts(&loads[0], &conflicts[0]);
        conv_run((enum vgg__conv_mma_what)what, &args);
        launch_counts(&loads[1], &conflicts[1]);
        ck_assert_uint_gt(loads[1], loads[0]);
        ck_assert_uint_eq(conflicts[1], conflicts[0]);
        arrays_free();
    }
}
END_TEST
#endif

START_TEST(not_taken)
{
    static const struct conv_layer others[] = {
        {1, 8, 8, 8, 32, 0},  {1, 8, 8, 48, 32, 0}, {1, 8, 8, 32, 256, 0},
        {1, 7, 8, 32, 32, 1}, {1, 8, 9, 32, 32, 1},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const struct conv_layer l = others[i];
        struct vgg__conv_mma_args args = {.n = l.n,
                                          .h = l.h,
                                          .wd = l.w,
                                          .ic = l.ic,
                                          .oc = l.oc,
                                          .relu = 1,
                                          .pool = l.pool};
        ck_assert(
            !vgg__conv_mma_fit((enum vgg__conv_mma_what)_i, &conv_devices[0], &args));
    }
    struct vgg__conv_mma_args args = {.n = 1, .h = 8, .wd = 8, .ic = 32, .oc = 32};
    const struct vgg__conv_mma_device old = {75, 40, 65536, 65536, 0};
    ck_assert(!vgg__conv_mma_fit((enum vgg__conv_mma_what)_i, &old, &args));
    ck_assert(vgg__conv_mma_fit((enum vgg__conv_mma_what)_i, &conv_devices[0], &args));
}
END_TEST

/* What is chosen can be launched: blocks, threads and memory within the limits. */
START_TEST(within_limits)
{
    static const uint32_t sizes[] = {1, 7, 14, 28, 56, 112, 224};
    for (size_t s = 0; s < 7; s++)
        for (uint32_t c = 0; c < 16; c++) {
            struct vgg__conv_mma_args args = {
                .n = 128, .h = sizes[s], .wd = sizes[s], .relu = 1};
            args.ic = 16u << c % 4;
            args.oc = 16u << c / 4;
            args.pool = sizes[s] % 2 == 0;
            const enum vgg__conv_mma_what what = (enum vgg__conv_mma_what)(_i % 3);
            const struct vgg__conv_mma_device *const device = &conv_devices[_i / 3];
            args.rank = s % 6;
            if (!vgg__conv_mma_fit(what, device, &args)) {
                args.rank = 0;
                if (!vgg__conv_mma_fit(what, device, &args)) {
                    ck_assert_uint_lt(device->shared_block, 200000);
                    continue;
                }
            }
            const size_t shared = vgg__conv_mma_shared(what, &args);
            ck_assert_uint_le(shared + 128, device->shared_block);
            const struct vgg__grid grid = vgg__conv_mma_grid(what, &args);
            ck_assert_uint_le(grid.threads[0],
                              vgg__conv_mma_kernel(what, &args)->threads);
            ck_assert_uint_ge(grid.threads[0], 32);
            ck_assert_uint_ge(grid.blocks[0], 1);
            const struct vgg__conv_mma_tile t = args.tile;
            const uint32_t regions = args.n * ((args.h + t.rows - 1) / t.rows) *
                                     ((args.wd + t.cols - 1) / t.cols);
            ck_assert_uint_le(grid.blocks[0], regions);
        }
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("conv_mma");
    TCase *const fit = tcase_create("fit");
    tcase_set_timeout(fit, 300);
    tcase_add_loop_test(fit, fitted, 0, LAYERS * 3);
    suite_add_tcase(suite, fit);
    TCase *const exact = tcase_create("exact");
    tcase_set_timeout(exact, 300);
    tcase_add_loop_test(exact, other_tiles, 0, TILES * 3);
    tcase_add_loop_test(exact, bare, 0, 2);
    tcase_add_loop_test(exact, odd_numbers, 0, 18);
#ifndef ON_GPU
    tcase_add_loop_test(exact, banks, 0, 4);
#endif
    suite_add_tcase(suite, exact);
    TCase *const choice = tcase_create("choice");
    tcase_add_loop_test(choice, not_taken, 0, 3);
    tcase_add_loop_test(choice, within_limits, 0, 6);
    suite_add_tcase(suite, choice);
    return harness_main(&suite, 1);
}
