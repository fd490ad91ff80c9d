/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of the CPU engine at every instruction set that this machine runs,
 * against plain loops: bit for bit, since they only move, compare and add in a stated
 * order, or multiply small whole numbers. */
#include "harness.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "cpu/gemm.h"
#include "cpu/kernels.h"

static const uint32_t sets[] = {VGG_ISA_BASE, VGG_ISA_AVX2, VGG_ISA_AVX512};
enum { SETS = sizeof(sets) / sizeof(sets[0]) };

/* Channels: below, at, and beyond the vectors of every set. */
static const size_t channels[] = {1, 3, 4, 7, 8, 16, 19, 32, 53};
enum { CHANNELS = sizeof(channels) / sizeof(channels[0]) };

static uint32_t state;

static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Numbers with ties, zeros of both signs and now and then a NaN. */
static float *draw(size_t count)
{
    static const float values[8] = {-2, -1, -0.0f, 0, 0.5f, 1, 1, 3};
    float *x = malloc((count + 1) * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = next() % 31 ? values[next() % 8] : NAN;
    x[count] = 77; /* guard */
    return x;
}

static const struct vgg__kernels *kernels_of(int index)
{
    const struct vgg__kernels *kernels = vgg__kernels_choose(sets[index]);
    return kernels->isa == sets[index] ? kernels : NULL;
}

static void check_same(const float *got, const float *expected, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (got[i] != expected[i] && !(isnan(got[i]) && isnan(expected[i])))
            ck_abort_msg("%zu of %zu: %g, expected %g", i, count, (double)got[i],
                         (double)expected[i]);
    ck_assert_float_eq(got[count], 77);
}

/* ---- Columns --------------------------------------------------------------- */

static float pixel(const struct vgg__columns *m, size_t y, size_t x, size_t c)
{
    const size_t pad = m->kernel / 2; /* y and x are this much too large */
    if (y < pad || x < pad || y - pad >= m->h || x - pad >= m->w) return 0;
    return m->x[((y - pad) * m->w + x - pad) * m->c + c];
}

static void check_columns(const struct vgg__kernels *kernels, struct vgg__columns m)
{
    const size_t k = m.kernel * m.kernel * m.c, pixels = m.rows * m.cols;
    float *out = malloc((pixels * m.stride + 1) * sizeof(float));
    for (size_t i = 0; i <= pixels * m.stride; i++) out[i] = 77;
    m.out = out;
    kernels->columns(&m);
    for (size_t p = 0; p < pixels; p++)
        for (size_t i = 0; i < m.stride; i++) {
            const size_t tap = i / m.c;
            const float expected =
                i < k ? pixel(&m, m.top + p / m.cols + tap / m.kernel,
                              m.left + p % m.cols + tap % m.kernel, i % m.c)
                      : 77;
            const float got = out[p * m.stride + i];
            if (got != expected && !(isnan(got) && isnan(expected)))
                ck_abort_msg("pixel %zu, %zu: %g, expected %g", p, i, (double)got,
                             (double)expected);
        }
    ck_assert_float_eq(out[pixels * m.stride], 77);
    free(out);
}

/* Every rectangle of small maps. */
START_TEST(test_columns)
{
    const struct vgg__kernels *kernels = kernels_of(_i);
    if (kernels == NULL) return;
    for (int c = 0; c < CHANNELS; c++)
        for (size_t size = 1; size < 7; size++)
            for (size_t left = 0; left < size; left++)
                for (size_t cols = 1; left + cols <= size; cols++) {
                    float *x = draw(5 * size * channels[c]);
                    struct vgg__columns m = {.x = x,
                                             .h = 5,
                                             .w = size,
                                             .c = channels[c],
                                             .top = left % 3,
                                             .left = left,
                                             .rows = 5 - left % 3,
                                             .cols = cols};
                    m.kernel = 3;
                    m.stride = 9 * m.c + (left == 1 ? 16 : 0);
                    check_columns(kernels, m);
                    m.kernel = 1;
                    m.stride = m.c;
                    check_columns(kernels, m);
                    free(x);
                }
}
END_TEST

/* ---- Elementwise ----------------------------------------------------------- */

static float relu(float v)
{
    return v <= 0 ? 0 : v;
}

START_TEST(test_bias_relu)
{
    const struct vgg__kernels *kernels = kernels_of(_i);
    for (int c = 0; c < CHANNELS && kernels; c++)
        for (int way = 0; way < 4; way++) {
            const size_t count = 5 * channels[c];
            float *x = draw(count), *bias = draw(channels[c]), *y = draw(count);
            for (size_t i = 0; i < count; i++) {
                y[i] = way & 1 ? x[i] + bias[i % channels[c]] : x[i];
                if (way & 2) y[i] = relu(y[i]);
            }
            kernels->bias_relu(x, 5, channels[c], way & 1 ? bias : NULL, way & 2);
            check_same(x, y, count);
            free(x);
            free(bias);
            free(y);
        }
}
END_TEST

START_TEST(test_mask_and_sums)
{
    const struct vgg__kernels *kernels = kernels_of(_i);
    for (int c = 0; c < CHANNELS && kernels; c++) {
        const size_t width = channels[c], count = 7 * width;
        float *d = draw(count), *y = draw(count), *got = draw(count);
        float *expected = draw(count);
        for (size_t i = 0; i < count; i++) expected[i] = y[i] <= 0 ? 0 : d[i];
        kernels->relu_mask(got, d, y, count);
        check_same(got, expected, count);
        for (size_t i = 0; i < count; i++) expected[i] = got[i] + y[i];
        kernels->add(got, y, count);
        check_same(got, expected, count);
        float *sum = draw(width), *total = malloc(width * sizeof(float));
        memcpy(total, sum, width * sizeof(float));
        for (size_t i = 0; i < count; i++) total[i % width] += d[i];
        kernels->add_rows(sum, d, 7, width);
        check_same(sum, total, width);
        free(d);
        free(y);
        free(got);
        free(expected);
        free(sum);
        free(total);
    }
}
END_TEST

/* Blocks around the place where an index' low word is full; a NaN that is not kept
 * gives zero. */
START_TEST(test_dropout)
{
    const struct vgg__kernels *kernels = kernels_of(_i);
    for (size_t blocks = 0; blocks < 40 && kernels; blocks++) {
        uint8_t keep[160];
        const size_t count = 4 * blocks;
        const struct vgg__draw d = {.seed = 0x123456789abcdef0,
                                    .step = 77,
                                    .index = 0xffffffff - blocks / 2,
                                    .purpose = VGG_RANDOM_DROPOUT + 1,
                                    .rate = 0.4f,
                                    .blocks = blocks,
                                    .keep = keep};
        float *x = draw(count), *got = draw(count), *expected = draw(count);
        kernels->draw(&d);
        for (size_t i = 0; i < count; i++) {
            uint32_t words[4];
            vgg__random(d.seed, d.purpose, d.step, d.index + i / 4, words);
            ck_assert_uint_eq(keep[i], vgg__uniform(words[i % 4]) >= d.rate);
            expected[i] = keep[i] ? x[i] * 1.25f : 0;
        }
        kernels->drop(got, x, keep, 1.25f, count);
        check_same(got, expected, count);
        free(x);
        free(got);
        free(expected);
    }
}
END_TEST

/* ---- Pooling --------------------------------------------------------------- */

#define WINDOWS 3

/* Value at place 0..3 of window w, channel j. */
static float value_at(const struct vgg__windows *r, size_t w, size_t j, size_t place)
{
    return (place < 2 ? r->top : r->bottom)[(2 * w + place % 2) * r->c + j];
}

static void check_max_pool(const struct vgg__kernels *kernels,
                           const struct vgg__windows *r)
{
    kernels->max_pool(r);
    for (size_t w = 0; w < r->count; w++)
        for (size_t j = 0; j < r->c; j++) {
            uint8_t best = 0;
            for (uint8_t i = 1; i < 4; i++)
                if (value_at(r, w, j, i) > value_at(r, w, j, best) ||
                    isnan(value_at(r, w, j, i)))
                    best = i;
            const float got = r->y[w * r->c + j], expected = value_at(r, w, j, best);
            ck_assert(got == expected || (isnan(got) && isnan(expected)));
            if (r->kept) ck_assert_uint_eq(r->kept[w * r->c + j], best);
        }
}

static void check_average_pool(const struct vgg__kernels *kernels,
                               const struct vgg__windows *r, bool with_relu)
{
    kernels->average_pool(r, with_relu);
    for (size_t w = 0; w < r->count; w++)
        for (size_t j = 0; j < r->c; j++) {
            float sum = 0; /* exact: small multiples of a half */
            unsigned passed = 0;
            for (unsigned i = 0; i < 4; i++) {
                const float v = value_at(r, w, j, i);
                sum += with_relu ? relu(v) : v;
                passed |= (unsigned)(!with_relu || !(v <= 0)) << i;
            }
            const float got = r->y[w * r->c + j];
            ck_assert(got == sum / 4 || (isnan(got) && isnan(sum)));
            if (r->kept) ck_assert_uint_eq(r->kept[w * r->c + j], passed);
        }
}

/* Both rows of the windows' gradients, for columns begin .. end. */
static void check_unpool(const struct vgg__kernels *kernels,
                         const struct vgg__windows *r, bool maximum)
{
    const size_t c = r->c;
    float *dy = draw(r->count * c);
    for (size_t begin = 0; begin < 3; begin++)
        for (uint8_t row = 0; row < 2; row++) {
            const size_t end = 2 * r->count - begin % 2;
            float *out = draw((end - begin) * c), *expected = draw((end - begin) * c);
            for (size_t i = 0; i < (end - begin) * c; i++) {
                const size_t x = begin + i / c, at = x / 2 * c + i % c;
                const int place = 2 * row + (int)(x & 1);
                expected[i] = dy[at];
                if (!maximum) expected[i] *= 0.25f;
                if (maximum ? r->kept[at] != place : !(r->kept[at] >> place & 1))
                    expected[i] = 0;
            }
            const struct vgg__unpool unpool = {.dy = dy,
                                               .kept = r->kept,
                                               .c = c,
                                               .begin = begin,
                                               .end = end,
                                               .row = row,
                                               .out = out};
            (maximum ? kernels->max_unpool : kernels->average_unpool)(&unpool);
            check_same(out, expected, (end - begin) * c);
            free(out);
            free(expected);
        }
    free(dy);
}

/* Bias and ReLU behind the pooling: windows that they make zero have no winner. */
static void check_relu_kept(const struct vgg__kernels *kernels,
                            const struct vgg__windows *r)
{
    const size_t c = r->c, count = r->count * c;
    float *bias = draw(c), *expected = malloc(count * sizeof *expected);
    uint8_t *kept = malloc(count);
    for (int way = 0; way < 2; way++) {
        for (size_t i = 0; i < count; i++) {
            const float v = way ? r->y[i] + bias[i % c] : r->y[i];
            kept[i] = v <= 0 ? VGG__NONE : r->kept[i];
            expected[i] = relu(v);
        }
        kernels->bias_relu_kept(r->y, r->count, c, way ? bias : NULL, r->kept);
        check_same(r->y, expected, count);
        ck_assert_mem_eq(r->kept, kept, count);
    }
    free(bias);
    free(expected);
    free(kept);
}

START_TEST(test_pooling)
{
    const struct vgg__kernels *kernels = kernels_of(_i);
    for (int i = 0; i < CHANNELS && kernels; i++) {
        const size_t c = channels[i], count = WINDOWS * c;
        float *top = draw(2 * count), *bottom = draw(2 * count), *y = draw(count);
        uint8_t *kept = malloc(count + 1);
        kept[count] = 99;
        struct vgg__windows r = {.top = top,
                                 .bottom = bottom,
                                 .count = WINDOWS,
                                 .c = c,
                                 .y = y,
                                 .kept = kept};
        check_max_pool(kernels, &r);
        check_unpool(kernels, &r, true);
        check_relu_kept(kernels, &r);
        check_unpool(kernels, &r, true);
        check_average_pool(kernels, &r, true);
        check_unpool(kernels, &r, false);
        r.kept = NULL;
        check_average_pool(kernels, &r, false);
        check_max_pool(kernels, &r);
        ck_assert_float_eq(y[count], 77);
        ck_assert_uint_eq(kept[count], 99);
        free(top);
        free(bottom);
        free(y);
        free(kept);
    }
}
END_TEST

/* ---- Blocks of a product --------------------------------------------------- */

/* Whole numbers -4 .. 4: their sums are exact. */
static float *draw_whole(size_t count)
{
    float *x = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = (float)(next() % 9) - 4;
    return x;
}

/* Where step l of a row of A is: a skip after every sixteenth. */
static size_t step_at(const struct vgg__tile *t, size_t l)
{
    return l * t->a_col + l / 16 * t->a_skip;
}

/* Element (i, j) of A times B. What lies in the skips is NaN. */
static float element_of(const struct vgg__tile *t, size_t i, size_t j)
{
    float sum = 0;
    for (size_t l = 0; l < t->k; l++)
        sum += t->a[i * t->a_row + step_at(t, l)] * t->b[l * t->b_row + j];
    return sum;
}

/* Rows of A with their steps where `tile` says, and NaN everywhere else. */
static float *draw_a(const struct vgg__tile *t, size_t rows)
{
    const size_t count = rows * t->a_row + step_at(t, t->k);
    float *a = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) a[i] = NAN;
    for (size_t i = 0; i < rows; i++)
        for (size_t l = 0; l < t->k; l++)
            a[i * t->a_row + step_at(t, l)] = (float)(next() % 9) - 4;
    return a;
}

/* A block of any height, of `width` columns, that also fetches `lines` of some rows
 * ahead; what it does with these can't be seen, but must not matter. */
static void check_block(const struct vgg__kernels *kernels, size_t height, size_t width,
                        struct vgg__tile t)
{
    const size_t row = kernels->cols + 3;
    float *a = draw_a(&t, height), *b = draw_whole(t.k * kernels->cols + 1);
    float *c = malloc(height * row * sizeof(float)), *ahead = draw_whole(4096);
    t.a = a;
    t.b = b;
    t.b_row = kernels->cols;
    t.c = c;
    t.c_row = row;
    t.ahead = (const char *)ahead;
    for (int round = 0; round < 2; round++, t.accumulate = true) {
        for (size_t i = 0; i < height * row && round == 0; i++) c[i] = 77;
        vgg__gemm_block(kernels, height, width, &t);
        for (size_t i = 0; i < height * row; i++) {
            const float expected =
                i % row < width ? (float)(round + 1) * element_of(&t, i / row, i % row)
                                : 77;
            if (c[i] != expected)
                ck_abort_msg("%zux%zux%zu, %zu between steps, at %zu: %g, expected %g",
                             height, width, t.k, t.a_skip, i, (double)c[i],
                             (double)expected);
        }
    }
    free(a);
    free(b);
    free(c);
    free(ahead);
}

START_TEST(test_blocks)
{
    static const size_t depths[] = {1, 15, 16, 17, 32, 33, 67};
    static const struct {
        uint32_t rows, lines;
    } fetched[] = {{0, 0}, {1, 1}, {1, 200}, {1, 7}, {3, 5}, {2, 64}};
    const struct vgg__kernels *kernels = kernels_of(_i);
    for (size_t height = 1; height <= 30 && kernels; height++)
        for (size_t d = 0; d < sizeof(depths) / sizeof(depths[0]); d++)
            for (size_t way = 0; way < 6; way++) {
                struct vgg__tile t = {.k = depths[d],
                                      .a_col = way < 3 ? 1 : height + 2,
                                      .a_skip = way % 3 * 20,
                                      .ahead_row = 1000,
                                      .ahead_rows = fetched[(way + d) % 6].rows,
                                      .ahead_lines = fetched[(way + d) % 6].lines};
                t.a_row = way < 3 ? step_at(&t, t.k) + 5 : 1;
                check_block(kernels, height, 1 + next() % kernels->cols, t);
                check_block(kernels, height, kernels->cols, t);
                check_block(kernels, height, kernels->cols / 2, t);
            }
}
END_TEST

START_TEST(test_choice)
{
    ck_assert_uint_eq(vgg__kernels_choose(VGG_ISA_BASE)->isa, VGG_ISA_BASE);
    ck_assert_uint_le(vgg__kernels_choose(VGG_ISA_AVX2)->isa, VGG_ISA_AVX2);
    for (int i = 0; i < SETS; i++) {
        const struct vgg__kernels *kernels = kernels_of(i);
        if (kernels) ck_assert_str_eq(kernels->name, vgg__isa_name(kernels->isa));
    }
    char name[64], tiny[4];
    vgg__processor_name(name, sizeof(name));
    vgg__processor_name(tiny, sizeof(tiny));
    ck_assert_uint_gt(strlen(name), 0);
    ck_assert_int_eq(strncmp(name, tiny, 3), 0);
}
END_TEST

static Suite *kernels_suite(void)
{
    Suite *suite = suite_create("kernels");
    TCase *loops = tcase_create("loops");
    tcase_add_loop_test(loops, test_columns, 0, SETS);
    tcase_add_loop_test(loops, test_bias_relu, 0, SETS);
    tcase_add_loop_test(loops, test_mask_and_sums, 0, SETS);
    tcase_add_loop_test(loops, test_dropout, 0, SETS);
    tcase_add_loop_test(loops, test_pooling, 0, SETS);
    tcase_add_loop_test(loops, test_blocks, 0, SETS);
    tcase_add_test(loops, test_choice);
    suite_add_tcase(suite, loops);
    return suite;
}

int main(void)
{
    Suite *suites[] = {kernels_suite()};
    return harness_main(suites, 1);
}
