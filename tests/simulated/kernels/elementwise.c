/* SPDX-License-Identifier: Apache-2.0 */
/* elementwise.cu and step.cu against plain loops. */
#include <math.h>
#include <stdlib.h>

#include "buffers.h"
#include "harness.h"

/* Rows and channels: vectors of both types, one of them, none; more channels than a
 * block has threads; fewer rows than it has. */
static const struct shape {
    uint32_t rows, c;
} shapes[] = {{1, 1},   {300, 8},  {77, 3},    {500, 16}, {130, 24}, {5, 4096},
              {3, 300}, {1000, 4}, {40, 2056}, {33, 10},  {2, 2060}, {9, 96}};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

/* Few blocks, so that every thread has several rows, and those that grids.c says. */
static struct vgg__grid some_grid(int i, uint64_t count)
{
    return i % 2 == 0 ? vgg__grid_elements(count) : grid_1d(3, 256);
}

/* ---- Bias and ReLU --------------------------------------------------------------- */

static void check_bias_relu(enum vgg__type type, struct shape s, int how, int grid)
{
    const size_t count = (size_t)s.rows * s.c;
    float *const x = numbers(type, count, 1);
    set(type, x, count / 2, NAN);
    struct vgg__bias_relu_args args = {.x = x,
                                       .y = output(count * type_bytes(type)),
                                       .bias =
                                           how & 1 ? numbers(VGG__F32, s.c, 2) : NULL,
                                       .rows = s.rows,
                                       .c = s.c,
                                       .relu = how >> 1 & 1};
    launch(&vgg__kernel_bias_relu[type], some_grid(grid, count), &args);
    for (size_t i = 0; i < count; i++) {
        float v = get(type, x, i) + (args.bias != NULL ? args.bias[i % s.c] : 0);
        if (args.relu && v <= 0) v = 0;
        expect_same(type, args.y, i, round_to(type, (double)v));
    }
    buffers_free();
}

START_TEST(bias_relu)
{
    for (int type = 0; type < VGG__TYPES; type++)
        for (int how = 0; how < 4; how++)
            check_bias_relu((enum vgg__type)type, shapes[_i], how, how);
}
END_TEST

START_TEST(bias_relu_in_place)
{
    float *const x = output(40 * sizeof *x);
    for (size_t i = 0; i < 40; i++) x[i] = number(1, i);
    const struct vgg__bias_relu_args args = {
        .x = x, .y = x, .rows = 5, .c = 8, .relu = 1};
    launch(&vgg__kernel_bias_relu[VGG__F32], vgg__grid_elements(40), &args);
    for (size_t i = 0; i < 40; i++)
        expect_same(VGG__F32, x, i, number(1, i) <= 0 ? 0 : number(1, i));
    buffers_free();
}
END_TEST

/* ---- Mask and sums --------------------------------------------------------------- */

struct masking {
    enum vgg__type type;
    struct shape s;
    bool masks, writes, sums;
};

static void check_mask(struct masking m)
{
    const size_t count = (size_t)m.s.rows * m.s.c;
    const struct vgg__grid grid = vgg__grid_rows(m.s.rows, m.s.c);
    ck_assert_uint_le(grid.blocks[0], VGG__MAX_PARTIAL);
    void *const y = numbers(m.type, count, 2);
    set(m.type, y, count / 3, NAN);
    const struct vgg__mask_args args = {
        .dy = numbers(m.type, count, 1),
        .y = m.masks ? y : NULL,
        .dz = m.writes ? output(count * type_bytes(m.type)) : NULL,
        .partial = m.sums ? output((size_t)grid.blocks[0] * m.s.c * 4) : NULL,
        .rows = m.s.rows,
        .c = m.s.c,
        .scale = 0.75f};
    launch(&vgg__kernel_mask[m.type], grid, &args);
    double *const sums = calloc(m.s.c, sizeof *sums);
    for (size_t i = 0; i < count; i++) {
        const bool off = m.masks && get(m.type, y, i) <= 0;
        const float d = off ? 0 : get(m.type, args.dy, i) * args.scale;
        sums[i % m.s.c] += (double)d;
        if (m.writes) expect_same(m.type, args.dz, i, round_to(m.type, (double)d));
    }
    for (size_t c = 0; m.sums && c < m.s.c; c++) {
        double found = 0;
        for (size_t b = 0; b < grid.blocks[0]; b++)
            found += (double)args.partial[b * m.s.c + c];
        expect_within(found, sums[c], 1e-5 * (1 + m.s.rows / 100), c);
    }
    free(sums);
    buffers_free();
}

START_TEST(mask)
{
    static const bool how[][3] = {{1, 1, 1}, {0, 0, 1}, {1, 1, 0}, {1, 0, 1}};
    for (int type = 0; type < VGG__TYPES; type++)
        for (int i = 0; i < 4; i++)
            check_mask((struct masking){(enum vgg__type)type, shapes[_i], how[i][0],
                                        how[i][1], how[i][2]});
}
END_TEST

START_TEST(mask_in_place)
{
    float *const d = output(64 * sizeof *d);
    for (size_t i = 0; i < 64; i++) d[i] = number(1, i);
    const struct vgg__mask_args args = {
        .dy = d, .y = numbers(VGG__F32, 64, 2), .dz = d, .rows = 8, .c = 8, .scale = 1};
    launch(&vgg__kernel_mask[VGG__F32], vgg__grid_rows(8, 8), &args);
    for (size_t i = 0; i < 64; i++)
        expect_same(VGG__F32, d, i, number(2, i) <= 0 ? 0 : number(1, i));
    buffers_free();
}
END_TEST

START_TEST(sum_rows)
{
    static const struct shape of[] = {{1, 1}, {1056, 16}, {33, 37}, {100, 300}, {7, 9}};
    for (size_t k = 0; k < sizeof of / sizeof of[0]; k++)
        for (uint32_t add = 0; add < 2; add++) {
            const uint32_t rows = of[k].rows, c = of[k].c;
            float *const out = output(c * sizeof *out);
            for (size_t i = 0; add && i < c; i++) out[i] = number(5, i);
            const struct vgg__sum_rows_args args = {
                numbers(VGG__F32, (size_t)rows * c, 1), out, rows, c, .add = add};
            launch(&vgg__kernel_sum_rows,
                   k % 2 == 0 ? vgg__grid_columns(c) : grid_1d(2, 256), &args);
            for (size_t i = 0; i < c; i++) {
                double sum = add ? (double)number(5, i) : 0;
                for (size_t r = 0; r < rows; r++) sum += (double)number(1, r * c + i);
                expect_same(VGG__F32, out, i, (float)sum); /* all sums are exact */
            }
            buffers_free();
        }
}
END_TEST

/* Columns from 21 on go elsewhere; one of the two places may not be wanted. */
START_TEST(sum_rows_apart)
{
    enum { ROWS = 33, C = 37, SPLIT = 21 };
    float *const out = _i & 1 ? NULL : output(SPLIT * sizeof *out);
    float *const rest = _i & 2 ? NULL : output((C - SPLIT) * sizeof *rest);
    for (size_t i = 0; i < C; i++) {
        float *const to = i < SPLIT ? out : rest;
        if (to) to[i < SPLIT ? i : i - SPLIT] = number(5, i);
    }
    const struct vgg__sum_rows_args args = {.partial =
                                                numbers(VGG__F32, (size_t)ROWS * C, 1),
                                            .out = out,
                                            .rows = ROWS,
                                            .c = C,
                                            .add = 1,
                                            .split = SPLIT,
                                            .rest = rest};
    launch(&vgg__kernel_sum_rows, vgg__grid_columns(C), &args);
    for (size_t i = 0; i < C; i++) {
        double sum = (double)number(5, i);
        for (size_t r = 0; r < ROWS; r++) sum += (double)number(1, r * C + i);
        if (i < SPLIT && out) expect_same(VGG__F32, out, i, (float)sum);
        if (i >= SPLIT && rest) expect_same(VGG__F32, rest, i - SPLIT, (float)sum);
    }
    buffers_free();
}
END_TEST

/* ---- Flat arrays ----------------------------------------------------------------- */

static const size_t counts[] = {1, 3, 8, 31, 1024, 5000, 20003};
#define COUNTS (int)(sizeof counts / sizeof counts[0])

START_TEST(add)
{
    for (int type = 0; type < VGG__TYPES; type++) {
        const enum vgg__type kind = (enum vgg__type)type;
        const size_t count = counts[_i];
        const size_t bytes = count * (kind == VGG__BF16 ? 2 : 4);
        const void *const before = numbers(kind, count, 3);
        void *const out = output(bytes), *const sum = output(bytes);
        memcpy(sum, before, bytes);
        const struct vgg__add_args args = {numbers(kind, count, 1), sum, out, count};
        launch(&vgg__kernel_add[type], some_grid(type, count), &args);
        for (size_t i = 0; i < count; i++) {
            expect_same(kind, out, i, number(1, i) + number(3, i));
            expect_same(kind, sum, i, number(1, i) + number(3, i));
        }
        buffers_free();
    }
}
END_TEST

START_TEST(accumulate)
{
    for (int type = 0; type < VGG__TYPES; type++) {
        const size_t count = counts[_i];
        float *const out = output(count * sizeof *out);
        for (size_t i = 0; i < count; i++) out[i] = number(3, i) / 3;
        const struct vgg__accumulate_args args = {
            numbers((enum vgg__type)type, count, 1), out, count};
        launch(&vgg__kernel_accumulate[type], some_grid(type, count), &args);
        for (size_t i = 0; i < count; i++)
            expect_same(VGG__F32, out, i, number(3, i) / 3 + number(1, i));
        buffers_free();
    }
}
END_TEST

START_TEST(scale)
{
    const size_t count = counts[_i];
    float *const value = output(count * sizeof *value);
    for (size_t i = 0; i < count; i++) value[i] = number(3, i);
    const struct vgg__scale_args args = {value, count, 0.3f};
    launch(&vgg__kernel_scale, some_grid(_i, count), &args);
    for (size_t i = 0; i < count; i++)
        expect_same(VGG__F32, value, i, number(3, i) * 0.3f);
    buffers_free();
}
END_TEST

/* Halves, both ways; what overflows; what is subnormal; NaN. */
START_TEST(shadow)
{
    static const float odd[] = {1 + 0x1p-8f, 1 + 0x3p-8f, -1 - 0x1p-8f,
                                0x1.ffp127f, 0x1p-133f,   0x1p-134f,
                                INFINITY,    NAN,         -0.0f,
                                0x1.8p-134f, -INFINITY,   0x1.fffffep127f};
    const size_t count = counts[_i], odds = sizeof odd / sizeof odd[0];
    float *const value = input(count * sizeof *value);
    for (size_t i = 0; i < count; i++)
        value[i] = i % 2 == 0 ? odd[i / 2 % odds] : number(3, i) / 3;
    const struct vgg__shadow_args args = {value, output(count * 2), count};
    launch(&vgg__kernel_shadow, some_grid(_i, count), &args);
    for (size_t i = 0; i < count; i++)
        expect_same(VGG__BF16, args.shadow, i, round_to(VGG__BF16, (double)value[i]));
    buffers_free();
}
END_TEST

START_TEST(permute)
{
    static const uint32_t of[][3] = {{1, 1, 1}, {5, 3, 9}, {16, 8, 9}, {2, 70, 1}};
    for (size_t k = 0; k < sizeof of / sizeof of[0]; k++) {
        const size_t a = of[k][0], b = of[k][1], c = of[k][2];
        const struct vgg__permute_args args = {numbers(VGG__F32, a * b * c, 1),
                                               output(a * b * c * 4), of[k][0],
                                               of[k][1], of[k][2]};
        launch(&vgg__kernel_permute, some_grid((int)k, a * b * c), &args);
        for (size_t i = 0; i < a; i++)
            for (size_t j = 0; j < b; j++)
                for (size_t l = 0; l < c; l++)
                    expect_same(VGG__F32, args.out, (i * c + l) * b + j,
                                number(1, (i * b + j) * c + l));
        buffers_free();
    }
}
END_TEST

START_TEST(set_step)
{
    struct vgg__set_step_args args = {.to = output(sizeof(struct vgg__step)),
                                      .value = {.seed = 1,
                                                .step = 2,
                                                .first = 3,
                                                .count = 4,
                                                .smoothing = 5,
                                                .gradient_scale = 6,
                                                .lr = 7,
                                                .weight_decay = 8}};
    launch(&vgg__kernel_set_step, grid_1d(1, 1), &args);
    const struct vgg__step *const s = args.to;
    ck_assert(s->seed == 1 && s->step == 2 && s->first == 3 && s->count == 4);
    ck_assert(s->smoothing == 5 && s->gradient_scale == 6 && s->lr == 7 &&
              s->weight_decay == 8);
    buffers_free();
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("elementwise");
    TCase *const rows = tcase_create("rows"), *const flat = tcase_create("flat");
    tcase_set_timeout(rows, 120);
    tcase_add_loop_test(rows, bias_relu, 0, SHAPES);
    tcase_add_test(rows, bias_relu_in_place);
    tcase_add_loop_test(rows, mask, 0, SHAPES);
    tcase_add_test(rows, mask_in_place);
    tcase_add_test(rows, sum_rows);
    tcase_add_loop_test(rows, sum_rows_apart, 0, 4);
    tcase_add_loop_test(flat, add, 0, COUNTS);
    tcase_add_loop_test(flat, accumulate, 0, COUNTS);
    tcase_add_loop_test(flat, scale, 0, COUNTS);
    tcase_add_loop_test(flat, shadow, 0, COUNTS);
    tcase_add_test(flat, permute);
    tcase_add_test(flat, set_step);
    suite_add_tcase(suite, rows);
    suite_add_tcase(suite, flat);
    return harness_main(&suite, 1);
}
