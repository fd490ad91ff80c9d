/* SPDX-License-Identifier: Apache-2.0 */
/* pool.cu and adaptive_pool.cu against plain loops. */
#include <math.h>
#include <stdlib.h>

#include "buffers.h"
#include "harness.h"

static const struct map {
    uint32_t n, h, w, c;
} maps[] = {{1, 2, 2, 1},  {2, 7, 5, 3},   {1, 4, 6, 8},  {3, 9, 8, 16},
            {2, 5, 4, 24}, {1, 6, 7, 260}, {2, 2, 3, 10}, {1, 3, 2, 2056}};
#define MAPS (int)(sizeof maps / sizeof maps[0])

static size_t count_of(struct map m)
{
    return (size_t)m.n * m.h * m.w * m.c;
}

static struct vgg__grid some_grid(int i, size_t count)
{
    return i % 2 == 0 ? vgg__grid_elements(count) : grid_1d(2, 256);
}

/* Few different values, so that there are equal ones; some NaN. */
static void *levels(enum vgg__type type, size_t count, uint32_t sequence)
{
    void *const to = input(count * type_bytes(type));
    for (size_t i = 0; i < count; i++) {
        const float x = number(sequence, i);
        set(type, to, i, x > 0.9f ? NAN : floorf(x * 4) / 4);
    }
    return to;
}

/* ---- Forward --------------------------------------------------------------------- */

struct pooling {
    enum vgg__type type;
    struct map m;
    bool maximum, relu, bias, keeps;
};

/* The window's four values before pooling. */
static void window_of(const struct vgg__pool_args *a, enum vgg__type type, size_t out,
                      float v[4])
{
    const size_t c = out % a->c, w = out / a->c % a->w, h = out / a->c / a->w % a->h;
    const size_t n = out / a->c / a->w / a->h;
    for (size_t i = 0; i < 4; i++) {
        const size_t pixel = (n * a->ih + 2 * h + i / 2) * a->iw + 2 * w + i % 2;
        v[i] = get(type, a->x, pixel * a->c + c) + (a->bias != NULL ? a->bias[c] : 0);
        if (a->relu && v[i] <= 0) v[i] = 0;
    }
}

static size_t winner_of(const float v[4])
{
    size_t best = 0;
    for (size_t i = 1; i < 4; i++)
        if (v[i] > v[best] || isnan(v[i])) best = i;
    return best;
}

static void check_pool(struct pooling p, struct vgg__grid grid)
{
    const size_t out = (size_t)p.m.n * (p.m.h / 2) * (p.m.w / 2) * p.m.c;
    const struct vgg__pool_args args = {.x = levels(p.type, count_of(p.m), 1),
                                        .y = output(out * type_bytes(p.type)),
                                        .winner = p.keeps ? output(out) : NULL,
                                        .bias =
                                            p.bias ? numbers(VGG__F32, p.m.c, 2) : NULL,
                                        .n = p.m.n,
                                        .ih = p.m.h,
                                        .iw = p.m.w,
                                        .h = p.m.h / 2,
                                        .w = p.m.w / 2,
                                        .c = p.m.c,
                                        .maximum = p.maximum,
                                        .relu = p.relu};
    launch(&vgg__kernel_pool[p.type], grid, &args);
    for (size_t i = 0; i < out; i++) {
        float v[4];
        window_of(&args, p.type, i, v);
        const size_t best = winner_of(v);
        const float mean = (v[0] + v[1] + v[2] + v[3]) / 4;
        expect_same(p.type, args.y, i,
                    round_to(p.type, (double)(p.maximum ? v[best] : mean)));
        if (p.keeps) expect_within(args.winner[i], (double)best, 0, i);
    }
    buffers_free();
}

START_TEST(pool)
{
    for (int k = 0; k < 8; k++) {
        const struct map m = maps[_i];
        const struct pooling p = {.type = k & 1 ? VGG__BF16 : VGG__F32,
                                  .m = m,
                                  .maximum = (k & 2) != 0,
                                  .keeps = (k & 2) != 0 && k != 3,
                                  .relu = (k & 4) != 0,
                                  .bias = (k & 4) != 0};
        check_pool(p, some_grid(k, count_of(m) / 4));
    }
}
END_TEST

/* ---- Backward -------------------------------------------------------------------- */

struct unpooling {
    enum vgg__type type;
    struct map m;
    bool maximum, masks, sums;
};

/* What pixel (h, w) of channel c gets. */
static float gradient_of(const struct vgg__unpool_args *a, enum vgg__type type,
                         size_t pixel, size_t c)
{
    const size_t w = pixel % a->iw, h = pixel / a->iw % a->ih,
                 n = pixel / a->iw / a->ih;
    if (h / 2 >= a->h || w / 2 >= a->w) return 0;
    const size_t from = ((n * a->h + h / 2) * a->w + w / 2) * a->c + c;
    const float d = get(type, a->dy, from);
    if (a->maximum && a->winner[from] != h % 2 * 2 + w % 2) return 0;
    if (a->y != NULL && get(type, a->y, a->maximum ? from : pixel * a->c + c) <= 0)
        return 0;
    return a->maximum ? d : d / 4;
}

static void check_unpool(struct unpooling p)
{
    const size_t out = (size_t)p.m.n * (p.m.h / 2) * (p.m.w / 2) * p.m.c;
    const size_t in = count_of(p.m);
    const struct vgg__grid grid =
        vgg__grid_rows((uint64_t)p.m.n * p.m.h * p.m.w, p.m.c);
    uint8_t *const winner = p.maximum ? input(out) : NULL;
    for (size_t i = 0; p.maximum && i < out; i++)
        winner[i] = (uint8_t)((number(7, i) + 1) * 63) % 4;
    const struct vgg__unpool_args args = {
        .dy = numbers(p.type, out, 1),
        .y = p.masks ? levels(p.type, p.maximum ? out : in, 2) : NULL,
        .winner = winner,
        .dx = output(in * type_bytes(p.type)),
        .partial = p.sums ? output((size_t)grid.blocks[0] * p.m.c * 4) : NULL,
        .n = p.m.n,
        .ih = p.m.h,
        .iw = p.m.w,
        .h = p.m.h / 2,
        .w = p.m.w / 2,
        .c = p.m.c,
        .maximum = p.maximum};
    launch(&vgg__kernel_unpool[p.type], grid, &args);
    double *const sums = calloc(p.m.c, sizeof *sums);
    for (size_t i = 0; i < in; i++) {
        const float d = gradient_of(&args, p.type, i / p.m.c, i % p.m.c);
        sums[i % p.m.c] += (double)d;
        expect_same(p.type, args.dx, i, round_to(p.type, (double)d));
    }
    for (size_t c = 0; p.sums && c < p.m.c; c++) {
        double found = 0;
        for (size_t b = 0; b < grid.blocks[0]; b++)
            found += (double)args.partial[b * p.m.c + c];
        expect_within(found, sums[c], 0, c); /* all sums are exact */
    }
    free(sums);
    buffers_free();
}

START_TEST(unpool)
{
    for (int k = 0; k < 16; k++)
        check_unpool((struct unpooling){k & 1 ? VGG__BF16 : VGG__F32, maps[_i],
                                        (k & 2) != 0, (k & 4) != 0, (k & 8) != 0});
}
END_TEST

/* ---- Adaptive -------------------------------------------------------------------- */

static const struct adaptive {
    struct map in;
    uint32_t h, w;
} adaptives[] = {{{2, 7, 7, 8}, 7, 7}, {{1, 7, 7, 3}, 1, 1},   {{2, 10, 13, 16}, 7, 7},
                 {{1, 3, 2, 4}, 7, 7}, {{2, 14, 15, 5}, 4, 6}, {{1, 8, 1, 40}, 3, 1}};
#define ADAPTIVES (int)(sizeof adaptives / sizeof adaptives[0])

static bool covers(size_t out, size_t in, size_t outs, size_t ins)
{
    return out * ins / outs <= in && in < ((out + 1) * ins + outs - 1) / outs;
}

/* Share of input pixel (ih, iw) in output pixel (h, w). */
static double share(const struct adaptive *a, const size_t at[4])
{
    const size_t ih = at[0], iw = at[1], h = at[2], w = at[3];
    size_t size[2] = {0, 0};
    if (!covers(h, ih, a->h, a->in.h) || !covers(w, iw, a->w, a->in.w)) return 0;
    for (size_t i = 0; i < a->in.h; i++) size[0] += covers(h, i, a->h, a->in.h);
    for (size_t i = 0; i < a->in.w; i++) size[1] += covers(w, i, a->w, a->in.w);
    return 1.0 / (double)(size[0] * size[1]);
}

/* Add x, elements of one side, to y, elements of the other, by their shares. */
static void spread(const struct adaptive *a, bool backward, const double *x, double *y)
{
    const size_t c = a->in.c, pixels = (size_t)a->in.h * a->in.w;
    const size_t outs = (size_t)a->h * a->w;
    for (size_t n = 0; n < a->in.n; n++)
        for (size_t i = 0; i < pixels; i++)
            for (size_t o = 0; o < outs; o++) {
                const size_t at[4] = {i / a->in.w, i % a->in.w, o / a->w, o % a->w};
                const double s = share(a, at);
                const size_t in = (n * pixels + i) * c, out = (n * outs + o) * c;
                for (size_t k = 0; s > 0 && k < c; k++)
                    y[(backward ? in : out) + k] += s * x[(backward ? out : in) + k];
            }
}

static void check_adaptive(const struct adaptive *a, enum vgg__type type, bool backward)
{
    const size_t in = count_of(a->in), out = (size_t)a->in.n * a->h * a->w * a->in.c;
    const size_t from = backward ? out : in, to = backward ? in : out;
    const struct vgg__adaptive_pool_args args = {.x = numbers(type, from, 1),
                                                 .y = output(to * type_bytes(type)),
                                                 .n = a->in.n,
                                                 .c = a->in.c,
                                                 .ih = a->in.h,
                                                 .iw = a->in.w,
                                                 .h = a->h,
                                                 .w = a->w,
                                                 .backward = backward};
    launch(&vgg__kernel_adaptive_pool[type], some_grid(backward, to), &args);
    double *const x = calloc(from, sizeof *x), *const y = calloc(to, sizeof *y);
    for (size_t i = 0; i < from; i++) x[i] = (double)number(1, i);
    spread(a, backward, x, y);
    for (size_t i = 0; i < to; i++)
        expect_near((struct near){type, 1e-6, 1}, args.y, i, y[i]);
    free(x);
    free(y);
    buffers_free();
}

START_TEST(adaptive)
{
    for (int k = 0; k < 4; k++)
        check_adaptive(&adaptives[_i], k & 1 ? VGG__BF16 : VGG__F32, (k & 2) != 0);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("pool");
    TCase *const all = tcase_create("pool");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, pool, 0, MAPS);
    tcase_add_loop_test(all, unpool, 0, MAPS);
    tcase_add_loop_test(all, adaptive, 0, ADAPTIVES);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
