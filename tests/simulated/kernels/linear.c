/* SPDX-License-Identifier: Apache-2.0 */
/* dropout.cu, linear.cu and loss.cu against plain loops; which elements are dropped,
 * against common/dropout.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "buffers.h"
#include "common/dropout.h"
#include "core/random.h"
#include "harness.h"

static struct vgg__grid some_grid(int i, size_t count)
{
    return i % 2 == 0 ? vgg__grid_elements(count) : grid_1d(2, 256);
}

/* What common/dropout.c keeps of `count` elements, of samples of c x h x w. */
static uint8_t *kept(struct vgg__step step, vgg_extent extent, uint32_t layer,
                     float rate, size_t count)
{
    const vgg_stage stage = {.out = extent, .dropout = rate, .dropout_layer = layer};
    const vgg_run run = {.seed = step.seed, .step = step.step, .first = step.first};
    uint8_t *const keep = malloc(count);
    vgg__dropout_keep(&stage, &run, 0, count, keep);
    return keep;
}

static const struct vgg__step drawn = {
    .seed = 0x123456789abcdef0, .step = 0xfedc87654321, .first = 96, .count = 3};

/* ---- Dropout --------------------------------------------------------------------- */

static void check_dropout(enum vgg__type type, uint32_t n, vgg_extent e, float rate)
{
    const size_t pixels = (size_t)e.h * e.w, count = n * e.c * pixels;
    const struct vgg__dropout_args args = {.x = numbers(type, count, 1),
                                           .y = output(count * type_bytes(type)),
                                           .n = n,
                                           .c = e.c,
                                           .h = e.h,
                                           .w = e.w,
                                           .layer = 5,
                                           .rate = rate,
                                           .step = step_of(drawn)};
    launch(&vgg__kernel_dropout[type], some_grid((int)n, count), &args);
    uint8_t *const keep = kept(drawn, e, 5, rate, count);
    const float scale = (float)(1 / (1 - (double)rate));
    for (size_t i = 0; i < count; i++) {
        const size_t c = i / pixels % e.c,
                     at = (i / pixels / e.c * pixels + i % pixels);
        const size_t last = at * e.c + c; /* in [n][h][w][c] */
        const float x = number(1, last);
        expect_same(type, args.y, last,
                    keep[i] ? round_to(type, (double)(x * scale)) : 0);
    }
    free(keep);
    buffers_free();
}

START_TEST(dropout)
{
    static const vgg_extent extents[] = {{4096, 1, 1}, {10, 1, 1}, {24, 1, 1},
                                         {3, 5, 7},    {16, 4, 4}, {1, 1, 9}};
    for (int k = 0; k < VGG__TYPES; k++) {
        check_dropout((enum vgg__type)k, 2, extents[_i], 0.5f);
        check_dropout((enum vgg__type)k, 3, extents[_i], 0.1f);
    }
}
END_TEST

/* A number that is the rate is not below it. */
START_TEST(dropout_at_the_rate)
{
    uint32_t words[4];
    vgg__random(drawn.seed, VGG_RANDOM_DROPOUT + 5, drawn.step, drawn.first, words);
    const float rate = vgg__uniform(words[0]);
    for (int type = 0; type < VGG__TYPES; type++) {
        check_dropout((enum vgg__type)type, 1, (vgg_extent){4, 1, 1}, rate);
        check_dropout((enum vgg__type)type, 1, (vgg_extent){8, 1, 1}, rate + 0x1p-24f);
    }
}
END_TEST

/* ---- Behind the product ---------------------------------------------------------- */

struct finishing {
    enum vgg__type type;
    uint32_t n, c;
    bool single_out, bias, relu;
    float rate;
};

static void check_finish(struct finishing f)
{
    const size_t count = (size_t)f.n * f.c;
    const enum vgg__type out = f.single_out ? VGG__F32 : f.type;
    const struct vgg__linear_finish_args args = {
        .acc = numbers(VGG__F32, count, 1),
        .y = output(count * type_bytes(out)),
        .bias = f.bias ? numbers(VGG__F32, f.c, 2) : NULL,
        .n = f.n,
        .c = f.c,
        .relu = f.relu,
        .out_f32 = f.single_out,
        .rate = f.rate,
        .layer = 1,
        .step = step_of(drawn)};
    launch(&vgg__kernel_linear_finish[f.type], some_grid((int)f.n, count), &args);
    uint8_t *const keep = kept(drawn, (vgg_extent){f.c, 1, 1}, 1, f.rate, count);
    const float scale = (float)(1 / (1 - (double)f.rate));
    for (size_t i = 0; i < count; i++) {
        float v = args.acc[i] + (f.bias ? args.bias[i % f.c] : 0);
        if (f.relu && v <= 0) v = 0;
        if (f.rate != 0) v = keep[i] ? v * scale : 0;
        expect_same(out, args.y, i, round_to(out, (double)v));
    }
    free(keep);
    buffers_free();
}

START_TEST(finish)
{
    static const uint32_t sizes[][2] = {{2, 4096}, {3, 10}, {5, 264}, {7, 9}, {1, 4}};
    for (int k = 0; k < 32; k++)
        check_finish((struct finishing){k & 1 ? VGG__BF16 : VGG__F32, sizes[_i][0],
                                        sizes[_i][1], (k & 2) != 0, (k & 4) != 0,
                                        (k & 8) != 0, k & 16 ? 0.4f : 0});
}
END_TEST

/* ---- Before the product ---------------------------------------------------------- */

struct masking {
    enum vgg__type type;
    uint32_t n, c;
    bool single_in, masks, sums;
};

static void check_mask(struct masking m, struct vgg__grid grid)
{
    const size_t count = (size_t)m.n * m.c;
    const enum vgg__type in = m.single_in ? VGG__F32 : m.type;
    void *const y = numbers(m.type, count, 2);
    set(m.type, y, count - 1, NAN);
    float *const db = m.sums ? output(m.c * 4) : NULL;
    for (size_t i = 0; m.sums && i < m.c; i++) db[i] = number(4, i);
    const struct vgg__linear_mask_args args = {.dy = numbers(in, count, 1),
                                               .y = m.masks ? y : NULL,
                                               .dz = output(count * type_bytes(m.type)),
                                               .db = db,
                                               .n = m.n,
                                               .c = m.c,
                                               .in_f32 = m.single_in,
                                               .scale = 0.5f};
    launch(&vgg__kernel_linear_mask[m.type], grid, &args);
    for (size_t c = 0; c < m.c; c++) {
        double sum = (double)number(4, c);
        for (size_t i = c; i < count; i += m.c) {
            const bool off = m.masks && get(m.type, y, i) <= 0;
            const float d = off ? 0 : number(1, i) / 2;
            sum += (double)d;
            expect_same(m.type, args.dz, i, round_to(m.type, (double)d));
        }
        if (m.sums) expect_same(VGG__F32, db, c, (float)sum); /* exact */
    }
    buffers_free();
}

START_TEST(mask)
{
    static const uint32_t sizes[][2] = {
        {128, 40}, {3, 10}, {33, 9}, {1, 300}, {100, 2}};
    for (int k = 0; k < 16; k++)
        check_mask((struct masking){k & 1 ? VGG__BF16 : VGG__F32, sizes[_i][0],
                                    sizes[_i][1], (k & 2) != 0, (k & 4) != 0,
                                    (k & 8) != 0},
                   k % 3 == 0 ? grid_1d(2, 256) : vgg__grid_columns(sizes[_i][1]));
}
END_TEST

/* ---- Loss ------------------------------------------------------------------------ */

struct scoring {
    enum vgg__type type;
    uint32_t n, count, classes;
    bool single, gradient;
    float smoothing;
};

/* Numbers of the definition, in long double. */
struct expected {
    double loss;
    size_t best;
    long double total; /* log of the sum of exp z */
};

static struct expected expect_of(const float *z, size_t classes, size_t label,
                                 double smoothing)
{
    struct expected e = {0, 0, 0};
    for (size_t c = 1; c < classes; c++)
        if (z[c] > z[e.best]) e.best = c;
    for (size_t c = 0; c < classes; c++)
        e.total += expl((long double)z[c] - (long double)z[e.best]);
    e.total = (long double)z[e.best] + logl(e.total);
    for (size_t c = 0; c < classes; c++) {
        const double q = smoothing / (double)classes + (c == label ? 1 - smoothing : 0);
        if (q > 0) e.loss += q * (double)(e.total - (long double)z[c]);
    }
    return e;
}

static void check_sample(const struct vgg__loss_args *a, const struct scoring *s,
                         size_t n)
{
    float *const z = malloc(s->classes * sizeof *z);
    for (size_t c = 0; c < s->classes; c++)
        z[c] = get(s->single ? VGG__F32 : s->type, a->logits, n * s->classes + c);
    const double smoothing = (double)s->smoothing;
    const struct expected e = expect_of(z, s->classes, a->labels[n], smoothing);
    expect_within(a->loss[n], e.loss, 1e-12 * fmax(1, e.loss), n);
    expect_within(a->correct[n], e.best == a->labels[n], 0, n);
    for (size_t c = 0; s->gradient && c < s->classes; c++) {
        const double q =
            smoothing / s->classes + (c == a->labels[n] ? 1 - smoothing : 0);
        const double p = (double)expl((long double)z[c] - e.total);
        expect_near((struct near){VGG__F32, 1e-12, 1}, a->dlogits, n * s->classes + c,
                    (p - q) * 2 / s->count);
    }
    free(z);
}

static void *logits_of(const struct scoring *s)
{
    const enum vgg__type type = s->single ? VGG__F32 : s->type;
    const size_t count = (size_t)s->n * s->classes;
    void *const to = input(count * type_bytes(type));
    for (size_t i = 0; i < count; i++) {
        const float x = floorf(number(1, i) * 8); /* some are equal */
        set(type, to, i, i < s->classes ? x * 300 : x);
    }
    return to;
}

static void check_sum(const struct scoring *s, const struct vgg__loss_args *of)
{
    struct vgg__loss_result *const result = output(sizeof *result);
    struct vgg__step *const step = output(sizeof *step);
    *step = *of->step;
    step->lr = 0.5f;
    const struct vgg__loss_sum_args args = {of->loss, of->correct, result, step};
    launch(&vgg__kernel_loss_sum, vgg__grid_blocks(1), &args);
    double sum = 0;
    uint32_t correct = 0;
    for (size_t n = 0; n < s->count; n++) {
        sum += of->loss[n];
        correct += of->correct[n];
    }
    ck_assert_double_eq(result->sum, sum);
    ck_assert_uint_eq(result->correct, correct);
    ck_assert_float_eq(step->lr, 0.5f);
    of->loss[s->count / 2] = s->count % 2 ? (double)INFINITY : (double)NAN;
    launch(&vgg__kernel_loss_sum, vgg__grid_blocks(1), &args);
    ck_assert(!isfinite(result->sum));
    ck_assert_float_eq(step->lr, 0);
    step->lr = of->step->lr; /* nothing else has changed */
    ck_assert_int_eq(memcmp(step, of->step, sizeof *step), 0);
}

static void check_loss(struct scoring s, struct vgg__grid grid)
{
    uint32_t *const labels = input(s.n * sizeof *labels);
    for (uint32_t n = 0; n < s.n; n++) /* those behind the last are no labels */
        labels[n] = n < s.count ? (n * 7 + 3) % s.classes : UINT32_MAX;
    const size_t count = (size_t)s.n * s.classes;
    const struct vgg__loss_args args = {
        .logits = logits_of(&s),
        .labels = labels,
        .loss = output(s.n * sizeof(double)),
        .correct = output(s.n * sizeof(uint32_t)),
        .dlogits = s.gradient ? output(count * sizeof(float)) : NULL,
        .n = s.n,
        .classes = s.classes,
        .in_f32 = s.single,
        .step = step_of((struct vgg__step){
            .count = s.count, .smoothing = s.smoothing, .gradient_scale = 2})};
    launch(&vgg__kernel_loss[s.type], grid, &args);
    for (size_t n = 0; n < s.count; n++) check_sample(&args, &s, n);
    for (size_t i = s.count * s.classes; s.gradient && i < count; i++)
        expect_same(VGG__F32, args.dlogits, i, 0);
    check_sum(&s, &args);
    buffers_free();
}

START_TEST(loss)
{
    static const uint32_t sizes[][3] = {
        {128, 96, 10}, {5, 5, 1000}, {300, 300, 2}, {9, 1, 33}, {3, 2, 1}};
    for (int k = 0; k < 8; k++)
        check_loss((struct scoring){k & 1 ? VGG__BF16 : VGG__F32, sizes[_i][0],
                                    sizes[_i][1], sizes[_i][2], (k & 2) != 0,
                                    (k & 4) != 0, k % 3 == 0 ? 0 : 0.1f},
                   k % 2 == 0 ? vgg__grid_warps(sizes[_i][0]) : grid_1d(1, 256));
}
END_TEST

/* As ref/loss.c has it: a NaN in front is the largest, any other is never. */
START_TEST(loss_of_nan)
{
    float *const logits = input(2 * 40 * sizeof *logits);
    uint32_t *const labels = input(2 * sizeof *labels);
    for (size_t i = 0; i < 80; i++) logits[i] = i == 0 || i == 41 ? NAN : -1;
    logits[39] = 5;
    labels[0] = labels[1] = 0;
    const struct vgg__loss_args args = {
        .logits = logits,
        .labels = labels,
        .loss = output(2 * sizeof(double)),
        .correct = output(2 * sizeof(uint32_t)),
        .n = 2,
        .classes = 40,
        .in_f32 = 1,
        .step = step_of((struct vgg__step){.count = 2, .gradient_scale = 1})};
    launch(&vgg__kernel_loss[VGG__F32], vgg__grid_warps(2), &args);
    ck_assert(args.correct[0] == 1 && args.correct[1] == 1);
    ck_assert(isnan(args.loss[0]) && isnan(args.loss[1]));
    buffers_free();
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("linear");
    TCase *const all = tcase_create("linear");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, dropout, 0, 6);
    tcase_add_test(all, dropout_at_the_rate);
    tcase_add_loop_test(all, finish, 0, 5);
    tcase_add_loop_test(all, mask, 0, 5);
    tcase_add_loop_test(all, loss, 0, 5);
    tcase_add_test(all, loss_of_nan);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
