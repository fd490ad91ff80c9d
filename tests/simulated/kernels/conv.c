/* SPDX-License-Identifier: Apache-2.0 */
/* conv_plain.cu, and conv_first*.cu both ways, against the definition. Numbers
 * are such that every sum is exact in f32, in any order: results are compared bit for
 * bit. */
#include <math.h>
#include <stdlib.h>

#include "buffers.h"
#include "harness.h"

/* x [n][h][w][ic], weights [oc][k][k][ic], y [n][h][w][oc]. */
struct conv {
    size_t n, h, w, ic, oc, k;
};

/* Element of x that tap (kh, kw) of an output pixel sees; -1: outside. */
static int64_t seen(const struct conv *v, size_t pixel, size_t kh, size_t kw, size_t ic)
{
    const int64_t pad = (int64_t)v->k / 2;
    const int64_t w = (int64_t)(pixel % v->w + kw) - pad;
    const int64_t h = (int64_t)(pixel / v->w % v->h + kh) - pad;
    const int64_t n = (int64_t)(pixel / v->w / v->h);
    if (h < 0 || h >= (int64_t)v->h || w < 0 || w >= (int64_t)v->w) return -1;
    return ((n * (int64_t)v->h + h) * (int64_t)v->w + w) * (int64_t)v->ic + (int64_t)ic;
}

/* For all output elements y and taps: what(y's element, weight's, x's). */
typedef void (*visit_fn)(void *arg, size_t y, size_t w, size_t x);

static void visit(const struct conv *v, visit_fn what, void *arg)
{
    for (size_t pixel = 0; pixel < v->n * v->h * v->w; pixel++)
        for (size_t tap = 0; tap < v->k * v->k * v->ic; tap++) {
            const size_t ic = tap % v->ic, kw = tap / v->ic % v->k,
                         kh = tap / v->ic / v->k;
            const int64_t x = seen(v, pixel, kh, kw, ic);
            for (size_t oc = 0; x >= 0 && oc < v->oc; oc++)
                what(arg, pixel * v->oc + oc, oc * v->k * v->k * v->ic + tap,
                     (size_t)x);
        }
}

struct product {
    const double *a, *b;
    double *out;
};

static void add_forward(void *arg, size_t y, size_t w, size_t x)
{
    const struct product *const p = arg;
    p->out[y] += p->a[x] * p->b[w];
}

static void add_data(void *arg, size_t y, size_t w, size_t x)
{
    const struct product *const p = arg;
    p->out[x] += p->a[y] * p->b[w];
}

static void add_weights(void *arg, size_t y, size_t w, size_t x)
{
    const struct product *const p = arg;
    p->out[w] += p->a[y] * p->b[x];
}

static double *doubles(enum vgg__type type, const void *from, size_t count)
{
    double *const to = calloc(count, sizeof *to);
    for (size_t i = 0; from != NULL && i < count; i++)
        to[i] = (double)get(type, from, i);
    return to;
}

static size_t x_count(const struct conv *v)
{
    return v->n * v->h * v->w * v->ic;
}

static size_t y_count(const struct conv *v)
{
    return v->n * v->h * v->w * v->oc;
}

static size_t w_count(const struct conv *v)
{
    return v->oc * v->k * v->k * v->ic;
}

/* ---- The plain one --------------------------------------------------------------- */

static const struct conv plains[] = {{2, 5, 7, 3, 10, 3},
                                     {1, 4, 4, 16, 8, 1},
                                     {3, 1, 6, 2, 5, 3},
                                     {1, 9, 2, 5, 1, 3},
                                     {2, 20, 20, 1, 2, 3}};
#define PLAINS (int)(sizeof plains / sizeof plains[0])

static void check_plain(const struct conv *v, enum vgg__type type, uint32_t what)
{
    static const visit_fn adds[] = {add_forward, add_data, add_weights};
    const size_t counts[] = {y_count(v), x_count(v), w_count(v)}, count = counts[what];
    const enum vgg__type out = what == 2 ? VGG__F32 : type;
    struct vgg__conv_plain_args args = {.x = numbers(type, x_count(v), 1),
                                        .w = numbers(type, w_count(v), 2),
                                        .dy = numbers(type, y_count(v), 3),
                                        .out = output(count * type_bytes(out)),
                                        .n = (uint32_t)v->n,
                                        .h = (uint32_t)v->h,
                                        .wd = (uint32_t)v->w,
                                        .ic = (uint32_t)v->ic,
                                        .oc = (uint32_t)v->oc,
                                        .kernel = (uint32_t)v->k,
                                        .what = what};
    double *const x = doubles(type, args.x, x_count(v));
    double *const w = doubles(type, args.w, w_count(v));
    double *const dy = doubles(type, args.dy, y_count(v));
    double *const expected = doubles(out, NULL, count);
    struct product p = {what == 0 ? x : dy, what == 2 ? x : w, expected};
    visit(v, adds[what], &p);
    if (what == 0) args.dy = NULL;
    if (what == 1) args.x = NULL;
    if (what == 2) args.w = NULL;
    launch(&vgg__kernel_conv_plain[type],
           v->n == 2 ? grid_1d(2, 256) : vgg__conv_plain_grid(&args), &args);
    for (size_t i = 0; i < count; i++)
        expect_same(out, args.out, i, round_to(out, expected[i]));
    free(x);
    free(w);
    free(dy);
    free(expected);
    buffers_free();
}

START_TEST(plain)
{
    for (int k = 0; k < 6; k++)
        check_plain(&plains[_i], k & 1 ? VGG__BF16 : VGG__F32, (uint32_t)k / 2);
}
END_TEST

/* ---- The first layer ------------------------------------------------------------- */

/* Every number of channels, chunks of 16 with a half of one behind them, tiles that end
 * within the image, more than one in both directions, odd sides; lines that may be
 * copied 16 bytes at a time, rows of several parts, and warps that go from one image to
 * the next. */
static const struct conv firsts[] = {
    {1, 2, 2, 1, 8, 3},     {2, 19, 21, 1, 16, 3}, {1, 5, 133, 1, 24, 3},
    {2, 18, 6, 2, 16, 3},   {1, 33, 10, 3, 64, 3}, {2, 7, 9, 3, 8, 3},
    {1, 4, 140, 4, 16, 3},  {1, 6, 5, 4, 40, 3},   {1, 1, 40, 3, 16, 3},
    {3, 16, 128, 1, 16, 3}, {1, 3, 530, 1, 16, 3}, {1, 4, 260, 1, 8, 3},
    {2, 6, 224, 1, 16, 3},  {1, 5, 552, 1, 24, 3}, {2, 7, 16, 1, 40, 3},
    {40, 3, 16, 1, 8, 3},
};
#define FIRSTS (int)(sizeof firsts / sizeof firsts[0])

struct first {
    struct conv v;
    enum vgg__type type;
    bool pool, relu, bias, winner, masks;
    bool tiles; /* even where rows go */
};

/* The kernel that goes by tiles instead, some number of its blocks. */
static void take_tiles(struct vgg__first_launch *how, const struct vgg__kernel *kernel)
{
    how->kernel = kernel;
    how->shared = 0;
}

static struct conv pooled(const struct conv *v)
{
    return (struct conv){v->n, v->h / 2, v->w / 2, v->ic, v->oc, v->k};
}

/* Element of the full map that is place i of the window of a pooled element. */
static size_t place_of(const struct conv *v, size_t out, size_t i)
{
    const struct conv p = pooled(v);
    const size_t oc = out % v->oc, w = out / v->oc % p.w, h = out / v->oc / p.w % p.h;
    const size_t n = out / v->oc / p.w / p.h;
    return ((n * v->h + 2 * h + i / 2) * v->w + 2 * w + i % 2) * v->oc + oc;
}

static void check_pooled(const struct first *f, const struct vgg__conv_first_args *a,
                         const double *full)
{
    const struct conv p = pooled(&f->v);
    for (size_t out = 0; out < y_count(&p); out++) {
        size_t best = 0;
        double v[4];
        for (size_t i = 0; i < 4; i++) {
            /* Values that are kept alike are equal. */
            v[i] = (double)round_to(f->type, full[place_of(&f->v, out, i)]);
            if (v[i] > v[best]) best = i;
        }
        expect_same(f->type, a->y, out, round_to(f->type, v[best]));
        if (a->winner != NULL) expect_within(a->winner[out], (double)best, 0, out);
    }
}

/* What the layer gives before pooling. */
static double *full_map(const struct first *f, const struct vgg__conv_first_args *a)
{
    double *const x = doubles(f->type, a->x, x_count(&f->v));
    double *const w = doubles(VGG__F32, a->w, w_count(&f->v));
    double *const y = doubles(VGG__F32, NULL, y_count(&f->v));
    const bool rounds = f->type == VGG__BF16 || a->round_weights;
    for (size_t i = 0; i < w_count(&f->v); i++)
        if (rounds) w[i] = (double)round_to(VGG__BF16, w[i]);
    struct product p = {x, w, y};
    visit(&f->v, add_forward, &p);
    for (size_t i = 0; i < y_count(&f->v); i++) {
        if (f->bias) y[i] += (double)a->bias[i % f->v.oc];
        if (f->relu && y[i] <= 0) y[i] = 0;
    }
    free(x);
    free(w);
    return y;
}

static void check_first(const struct first *f)
{
    const struct conv *const v = &f->v, p = pooled(v);
    const size_t out = y_count(f->pool ? &p : v);
    float *const w = input(w_count(v) * sizeof *w); /* not all are bf16 */
    for (size_t i = 0; i < w_count(v); i++) w[i] = number(2, i) + number(9, i) / 4;
    const struct vgg__conv_first_args args = {
        .x = numbers(f->type, x_count(v), 1),
        .w = w,
        .bias = f->bias ? numbers(VGG__F32, v->oc, 3) : NULL,
        .y = output(out * type_bytes(f->type)),
        .winner = f->winner && f->pool ? output(out) : NULL,
        .n = (uint32_t)v->n,
        .h = (uint32_t)v->h,
        .wd = (uint32_t)v->w,
        .ic = (uint32_t)v->ic,
        .oc = (uint32_t)v->oc,
        .relu = f->relu,
        .pool = f->pool,
        .round_weights = f->winner};
    ck_assert(vgg__conv_first_takes(args.ic, args.oc, 3, args.pool));
    struct vgg__first_launch how = vgg__conv_first_launch(&args, f->type);
    if (f->tiles) take_tiles(&how, &vgg__kernel_conv_first[f->type]);
    if (!f->bias || f->winner) how.grid.blocks[0] = 2; /* several tiles each, or none */
    launch_shared(how.kernel, how.grid, how.shared, &args);
    double *const full = full_map(f, &args);
    if (f->pool)
        check_pooled(f, &args, full);
    else
        for (size_t i = 0; i < out; i++)
            expect_same(f->type, args.y, i, round_to(f->type, full[i]));
    free(full);
    buffers_free();
}

START_TEST(first)
{
    for (int k = 0; k < 10; k++) {
        const struct first f = {.v = firsts[_i],
                                .type = k & 1 ? VGG__BF16 : VGG__F32,
                                .pool = (k & 2) != 0 || k > 7,
                                .relu = (k & 4) != 0 || k == 1,
                                .bias = k != 4,
                                .winner = (k & 4) != 0 || k == 9,
                                .tiles = k > 7};
        check_first(&f);
    }
}
END_TEST

/* ---- Its way back ---------------------------------------------------------------- */

/* The gradient of the full map. */
static double *spread_gradient(const struct first *f,
                               const struct vgg__conv_first_back_args *a)
{
    const struct conv *const v = &f->v, p = pooled(v);
    const size_t count = y_count(f->pool ? &p : v);
    double *const full = doubles(VGG__F32, NULL, y_count(v));
    for (size_t i = 0; i < count; i++) {
        const size_t to = f->pool ? place_of(v, i, a->winner[i]) : i;
        if (!f->masks || !(get(f->type, a->y, i) <= 0))
            full[to] = (double)get(f->type, a->dy, i);
    }
    return full;
}

static void check_row(const struct first *f, const struct vgg__conv_first_back_args *a,
                      const float *found)
{
    const struct conv *const v = &f->v;
    double *const full = spread_gradient(f, a);
    double *const x = doubles(f->type, a->x, x_count(v));
    double *const dw = doubles(VGG__F32, NULL, w_count(v) + v->oc);
    struct product p = {full, x, dw};
    visit(v, add_weights, &p);
    for (size_t i = 0; i < y_count(v); i++) dw[w_count(v) + i % v->oc] += full[i];
    for (size_t i = 0; i < w_count(v) + v->oc; i++)
        expect_same(VGG__F32, found, i, (float)dw[i]);
    free(full);
    free(x);
    free(dw);
}

static void check_back(const struct first *f)
{
    const struct conv *const v = &f->v, p = pooled(v);
    const size_t count = y_count(f->pool ? &p : v), row = w_count(v) + v->oc;
    uint8_t *const winner = f->pool ? input(count) : NULL;
    for (size_t i = 0; f->pool && i < count; i++)
        winner[i] = (uint8_t)((number(7, i) + 1) * 63) % 4;
    struct vgg__conv_first_back_args args = {.x = numbers(f->type, x_count(v), 1),
                                             .dy = numbers(f->type, count, 2),
                                             .y = f->masks ? numbers(f->type, count, 3)
                                                           : NULL,
                                             .winner = winner,
                                             .n = (uint32_t)v->n,
                                             .h = (uint32_t)v->h,
                                             .wd = (uint32_t)v->w,
                                             .ic = (uint32_t)v->ic,
                                             .oc = (uint32_t)v->oc,
                                             .pool = f->pool};
    struct vgg__first_launch how = vgg__conv_first_back_launch(&args, f->type);
    if (f->tiles) take_tiles(&how, &vgg__kernel_conv_first_back[f->type]);
    if (f->winner) how.grid.blocks[0] = 2; /* several tiles a block, or none */
    const uint32_t rows = how.grid.blocks[0];
    args.partial = output(rows * row * sizeof(float));
    launch_shared(how.kernel, how.grid, how.shared, &args);
    const struct vgg__sum_rows_args sum = {args.partial, output(row * sizeof(float)),
                                           rows, (uint32_t)row, .add = 0};
    launch(&vgg__kernel_sum_rows, vgg__grid_columns(sum.c), &sum);
    check_row(f, &args, sum.out);
    buffers_free();
}

START_TEST(first_back)
{
    for (int k = 0; k < 10; k++) {
        const struct first f = {.v = firsts[_i],
                                .type = k & 1 ? VGG__BF16 : VGG__F32,
                                .pool = (k & 2) != 0 || k > 7,
                                .masks = (k & 4) != 0,
                                .winner = k > 2 && k<6, .tiles = k> 7};
        check_back(&f);
    }
}
END_TEST

START_TEST(takes)
{
    ck_assert(vgg__conv_first_takes(1, 8, 3, 0) && vgg__conv_first_takes(4, 64, 3, 1));
    ck_assert(!vgg__conv_first_takes(5, 8, 3, 0) &&
              !vgg__conv_first_takes(1, 72, 3, 0));
    ck_assert(!vgg__conv_first_takes(1, 12, 3, 0) &&
              !vgg__conv_first_takes(1, 8, 1, 0));
    ck_assert(!vgg__conv_first_takes(1, 8, 3, 2) && !vgg__conv_first_takes(0, 8, 3, 0));
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("conv");
    TCase *const all = tcase_create("conv");
    tcase_set_timeout(all, 240);
    tcase_add_loop_test(all, plain, 0, PLAINS);
    tcase_add_loop_test(all, first, 0, FIRSTS);
    tcase_add_loop_test(all, first_back, 0, FIRSTS);
    tcase_add_test(all, takes);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
