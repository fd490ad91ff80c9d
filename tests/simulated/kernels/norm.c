/* SPDX-License-Identifier: Apache-2.0 */
/* norm.cu against plain loops in double: a forward and a backward, as the engine queues
 * them. */
#include <math.h>
#include <stdlib.h>

#include "buffers.h"
#include "harness.h"

/* A batch of n, of which `count` samples are there. */
static const struct shape {
    uint32_t n, count, hw, c;
} shapes[] = {{4, 4, 30, 8},  {5, 3, 12, 3},   {1, 1, 1, 16}, {6, 5, 50, 20},
              {2, 2, 1, 300}, {3, 2, 70, 264}, {2, 1, 9, 1}};
#define SHAPES (int)(sizeof shapes / sizeof shapes[0])

struct layer {
    enum vgg__type type;
    struct shape s;
    struct vgg__grid rows; /* the grid of sums */
    const struct vgg__step *step;
    void *x;
    float *mean, *inverse, *offset, *running_mean, *running_var;
    const float *gamma, *beta;
};

static const double epsilon = 1e-5, momentum = 0.1;

/* Far from 0 in one channel, so that sums of squares alone would lose the spread. */
static struct layer make(enum vgg__type type, struct shape s)
{
    const size_t count = (size_t)s.n * s.hw * s.c;
    struct layer l = {.type = type,
                      .s = s,
                      .rows = vgg__grid_rows((uint64_t)s.n * s.hw, s.c),
                      .step = step_of((struct vgg__step){.count = s.count}),
                      .x = input(count * type_bytes(type)),
                      .mean = output(s.c * sizeof(float)),
                      .inverse = output(s.c * sizeof(float)),
                      .offset = output(s.c * sizeof(float)),
                      .running_mean = output(s.c * sizeof(float)),
                      .running_var = output(s.c * sizeof(float)),
                      .gamma = numbers(VGG__F32, s.c, 2),
                      .beta = numbers(VGG__F32, s.c, 3)};
    for (size_t i = 0; i < count; i++) {
        const bool padding = i >= (size_t)s.count * s.hw * s.c;
        const float far = i % s.c == 0 ? 96 : 0;
        set(type, l.x, i, padding ? NAN : far + number(1, i));
    }
    for (size_t c = 0; c < s.c; c++) {
        l.running_mean[c] = number(4, c);
        l.running_var[c] = 1.5f + number(5, c);
    }
    return l;
}

/* The grid for sums down columns, or too few blocks. */
static struct vgg__grid some_columns(uint32_t c)
{
    return c % 5 == 0 ? grid_1d(2, 256) : vgg__grid_columns(c);
}

static size_t live(const struct layer *l)
{
    return (size_t)l->s.count * l->s.hw;
}

/* ---- Forward --------------------------------------------------------------------- */

static void queue_statistics(struct layer *l, bool batch)
{
    double *const partial =
        output((size_t)l->rows.blocks[0] * 2 * l->s.c * sizeof(double));
    const struct vgg__norm_sums_args sums = {l->x,    partial, l->s.n,
                                             l->s.hw, l->s.c,  l->step};
    if (batch) launch(&vgg__kernel_norm_sums[l->type], l->rows, &sums);
    const struct vgg__norm_finish_args finish = {.x = l->x,
                                                 .partial = partial,
                                                 .mean = l->mean,
                                                 .inverse = l->inverse,
                                                 .offset = l->offset,
                                                 .running_mean = l->running_mean,
                                                 .running_var = l->running_var,
                                                 .rows = l->rows.blocks[0],
                                                 .hw = l->s.hw,
                                                 .c = l->s.c,
                                                 .batch = batch,
                                                 .epsilon = epsilon,
                                                 .momentum = momentum,
                                                 .step = l->step};
    launch(&vgg__kernel_norm_finish[l->type], some_columns(l->s.c), &finish);
}

/* Mean and sum of squared distances to it. */
static void statistics(const struct layer *l, size_t c, double out[2])
{
    out[0] = out[1] = 0;
    for (size_t i = 0; i < live(l); i++)
        out[0] += (double)get(l->type, l->x, i * l->s.c + c) / (double)live(l);
    for (size_t i = 0; i < live(l); i++)
        out[1] += pow((double)get(l->type, l->x, i * l->s.c + c) - out[0], 2);
}

static void check_statistics(const struct layer *l)
{
    const struct near near = {VGG__F32, 1e-7, 1e-3};
    const double values = (double)live(l);
    for (size_t c = 0; c < l->s.c; c++) {
        double of[2];
        statistics(l, c, of);
        const double before[2] = {(double)number(4, c), 1.5 + (double)number(5, c)};
        const double unbiased = values > 1 ? of[1] / (values - 1) : before[1];
        const double inverse = 1 / sqrt(of[1] / values + epsilon);
        const double left = (of[0] - (double)l->mean[c]) * inverse;
        expect_near(near, l->mean, c, of[0]);
        expect_near(near, l->inverse, c, inverse);
        expect_within((double)l->offset[c], left, 1e-10 * inverse, c);
        expect_near(near, l->running_mean, c, 0.9 * before[0] + 0.1 * of[0]);
        expect_near(near, l->running_var, c, 0.9 * before[1] + 0.1 * unbiased);
    }
}

static double xhat(const struct layer *l, size_t i)
{
    const size_t c = i % l->s.c;
    const double distance = (double)get(l->type, l->x, i) - (double)l->mean[c];
    return distance * (double)l->inverse[c] - (double)l->offset[c];
}

/* With ReLU, or without. */
static void *check_apply(const struct layer *l, bool relu)
{
    const size_t count = live(l) * l->s.c, all = (size_t)l->s.n * l->s.hw * l->s.c;
    const struct vgg__norm_apply_args args = {.x = l->x,
                                              .y = output(all * type_bytes(l->type)),
                                              .mean = l->mean,
                                              .inverse = l->inverse,
                                              .offset = l->offset,
                                              .gamma = l->gamma,
                                              .beta = l->beta,
                                              .rows = (uint64_t)l->s.n * l->s.hw,
                                              .c = l->s.c,
                                              .relu = relu};
    launch(&vgg__kernel_norm_apply[l->type],
           relu ? vgg__grid_elements(all) : grid_1d(2, 256), &args);
    for (size_t i = 0; i < count; i++) {
        const size_t c = i % l->s.c;
        const double y = xhat(l, i) * (double)l->gamma[c] + (double)l->beta[c];
        expect_near((struct near){l->type, 1e-6, 1}, args.y, i, relu ? fmax(y, 0) : y);
    }
    return args.y;
}

START_TEST(forward)
{
    for (int type = 0; type < VGG__TYPES; type++) {
        struct layer l = make((enum vgg__type)type, shapes[_i]);
        queue_statistics(&l, true);
        check_statistics(&l);
        check_apply(&l, true);
        check_apply(&l, false);
        buffers_free();
    }
}
END_TEST

START_TEST(running)
{
    struct layer l = make(VGG__F32, shapes[_i]);
    queue_statistics(&l, false);
    for (size_t c = 0; c < l.s.c; c++) {
        expect_same(VGG__F32, l.mean, c, number(4, c));
        expect_same(VGG__F32, l.offset, c, 0);
        expect_same(VGG__F32, l.running_mean, c, number(4, c));
        expect_same(VGG__F32, l.running_var, c, 1.5f + number(5, c));
        expect_near((struct near){VGG__F32, 1e-7, 0}, l.inverse, c,
                    1 / sqrt(1.5 + (double)number(5, c) + epsilon));
    }
    check_apply(&l, false);
    buffers_free();
}
END_TEST

/* What is not finite stays out of the running statistics, channel by channel; a sum of
 * squares that no float holds does not matter. */
START_TEST(not_finite)
{
    struct layer l = make(VGG__F32, (struct shape){3, 3, 4, 8});
    set(VGG__F32, l.x, 8 * 5 + 1, INFINITY);
    set(VGG__F32, l.x, 2, NAN);
    set(VGG__F32, l.x, 3, 3e38f);
    set(VGG__F32, l.x, 4, 4e19f); /* of a variance of 1.3e38 */
    queue_statistics(&l, true);
    for (size_t c = 0; c < 8; c++) {
        const bool bad = c == 1 || c == 2 || c == 3;
        if (c == 4) ck_assert_float_gt(l.running_var[c], 1e37f);
        ck_assert_int_eq(l.running_mean[c] == number(4, c), bad);
        ck_assert_int_eq(l.running_var[c] == 1.5f + number(5, c), bad);
        ck_assert(isfinite(l.running_mean[c]) && isfinite(l.running_var[c]));
    }
    ck_assert(!isfinite(l.mean[1]) && isnan(l.mean[2]) && isnan(l.inverse[1]));
    buffers_free();
}
END_TEST

/* ---- Backward -------------------------------------------------------------------- */

struct gradient {
    const void *dy, *y;
    double *total;
    float *dgamma, *dbeta;
};

static double masked(const struct layer *l, const struct gradient *g, size_t i)
{
    if (g->y != NULL && get(l->type, g->y, i) <= 0) return 0;
    return (double)get(l->type, g->dy, i);
}

static void queue_sums(const struct layer *l, const struct gradient *g)
{
    double *const partial =
        output((size_t)l->rows.blocks[0] * 2 * l->s.c * sizeof(double));
    const struct vgg__norm_back_sums_args sums = {l->x,       g->dy,   g->y,   l->mean,
                                                  l->inverse, partial, l->s.n, l->s.hw,
                                                  l->s.c,     l->step};
    launch(&vgg__kernel_norm_back_sums[l->type], l->rows, &sums);
    const struct vgg__norm_back_finish_args finish = {
        partial, g->total, l->offset, g->dgamma, g->dbeta, l->rows.blocks[0], l->s.c};
    launch(&vgg__kernel_norm_back_finish, some_columns(l->s.c), &finish);
}

static void check_sums(const struct layer *l, const struct gradient *g)
{
    for (size_t c = 0; c < l->s.c; c++) {
        double sums[2] = {0, 0};
        for (size_t i = c; i < live(l) * l->s.c; i += l->s.c) {
            sums[0] += masked(l, g, i);
            sums[1] += masked(l, g, i) * xhat(l, i);
        }
        const double size = 1 + sqrt((double)live(l));
        expect_within(g->total[c], sums[0], 1e-12 * size, c);
        expect_within(g->total[l->s.c + c], sums[1], 1e-5 * size, c);
        const struct near near = {VGG__F32, 1e-5 * size, 1};
        if (g->dbeta != NULL)
            expect_near(near, g->dbeta, c, (double)number(8, c) + sums[0]);
        if (g->dgamma != NULL)
            expect_near(near, g->dgamma, c, (double)number(9, c) + sums[1]);
    }
}

static void check_dx(const struct layer *l, const struct gradient *g, bool batch)
{
    const size_t count = live(l) * l->s.c, all = (size_t)l->s.n * l->s.hw * l->s.c;
    const struct vgg__norm_back_args args = {.x = l->x,
                                             .dy = g->dy,
                                             .y = g->y,
                                             .dx = output(all * type_bytes(l->type)),
                                             .mean = l->mean,
                                             .inverse = l->inverse,
                                             .offset = l->offset,
                                             .gamma = l->gamma,
                                             .total = g->total,
                                             .n = l->s.n,
                                             .hw = l->s.hw,
                                             .c = l->s.c,
                                             .batch = batch,
                                             .step = l->step};
    launch(&vgg__kernel_norm_back[l->type],
           batch ? vgg__grid_elements(all) : grid_1d(2, 256), &args);
    for (size_t i = 0; i < all; i++) {
        const size_t c = i % l->s.c;
        const double part =
            (g->total[c] + xhat(l, i) * g->total[l->s.c + c]) / (double)live(l);
        const double scale = (double)l->gamma[c] * (double)l->inverse[c];
        const double dx = scale * (masked(l, g, i) - (batch ? part : 0));
        expect_near((struct near){l->type, 2e-6, fabs(scale)}, args.dx, i,
                    i < count ? dx : 0);
    }
}

START_TEST(backward)
{
    for (int k = 0; k < 8; k++) {
        const enum vgg__type type = k & 1 ? VGG__BF16 : VGG__F32;
        struct layer l = make(type, shapes[_i]);
        const size_t all = (size_t)l.s.n * l.s.hw * l.s.c;
        queue_statistics(&l, true);
        struct gradient g = {.dy = numbers(type, all, 6),
                             .y = k & 2 ? numbers(type, all, 7) : NULL,
                             .total = output(2 * l.s.c * sizeof(double))};
        if (k & 4) {
            g.dbeta = output(l.s.c * sizeof(float));
            g.dgamma = output(l.s.c * sizeof(float));
            for (size_t c = 0; c < l.s.c; c++) g.dbeta[c] = number(8, c);
            for (size_t c = 0; c < l.s.c; c++) g.dgamma[c] = number(9, c);
        }
        queue_sums(&l, &g);
        check_sums(&l, &g);
        check_dx(&l, &g, true);
        check_dx(&l, &g, false);
        buffers_free();
    }
}
END_TEST

/* With running statistics what is not finite gets a gradient as all the others. */
START_TEST(backward_not_finite)
{
    struct layer l = make(VGG__F32, (struct shape){2, 2, 3, 8});
    set(VGG__F32, l.x, 8 * 2 + 1, -INFINITY);
    set(VGG__F32, l.x, 2, NAN);
    queue_statistics(&l, false);
    struct gradient g = {.dy = numbers(VGG__F32, 48, 6),
                         .total = output(16 * sizeof(double))};
    queue_sums(&l, &g);
    ck_assert(!isfinite(g.total[8 + 1]) && isnan(g.total[8 + 2]));
    check_dx(&l, &g, false);
    buffers_free();
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("norm");
    TCase *const all = tcase_create("norm");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, forward, 0, SHAPES);
    tcase_add_loop_test(all, running, 0, SHAPES);
    tcase_add_test(all, not_finite);
    tcase_add_loop_test(all, backward, 0, SHAPES);
    tcase_add_test(all, backward_not_finite);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
