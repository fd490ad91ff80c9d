/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers of the CPU engine at every instruction set that this machine runs:
 * inner loops, and the blocked products, with whole numbers, so that sums are exact in
 * any order. Operands end where their memory ends, so that AddressSanitizer sees what
 * is read beyond. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/linear_products.h"

static const uint32_t sets[] = {VGG_ISA_BASE, VGG_ISA_AVX2, VGG_ISA_AVX512};
enum { SETS = sizeof(sets) / sizeof(sets[0]) };

static uint32_t state;

static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static float *draw(size_t count)
{
    float *x = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = (float)(next() % 9) - 4;
    return x;
}

static float *filled(size_t count, float value)
{
    float *x = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = value;
    return x;
}

/* The own kernel of a set, NULL: this machine lacks it. */
static const struct vgg__gemm *gemm_of(int index)
{
    static struct vgg__gemm gemm;
    gemm = (struct vgg__gemm){.kernels = vgg__kernels_choose(sets[index])};
    return gemm.kernels->isa == sets[index] ? &gemm : NULL;
}

/* Rows of `ins` floats as the copy in bf16. */
static void *copy_of(const struct vgg__linear_kernels *kernels, const float *w,
                     size_t outs, size_t ins)
{
    const size_t row = vgg__bf16_row(kernels, ins);
    char *copy = malloc(outs * row);
    for (size_t o = 0; o < outs; o++)
        kernels->pack_bf16(w + o * ins, ins, (uint32_t *)(copy + o * row));
    return copy;
}

/* ---- Inner loops ----------------------------------------------------------------- */

static void check_dots(const struct vgg__linear_kernels *kernels, struct vgg__dots d,
                       const float *w, bool half)
{
    float *out = filled(d.samples * (size_t)5, 77);
    void *copy = half ? copy_of(kernels, w, d.rows, d.k) : NULL;
    d.w = half ? copy : w;
    d.w_row = half ? vgg__bf16_row(kernels, d.k) : d.k * sizeof(float);
    d.out = out;
    d.out_row = 5;
    (half ? kernels->dots_bf16 : kernels->dots)(&d);
    for (size_t n = 0; n < d.samples; n++)
        for (size_t i = 0; i < 5; i++) {
            float sum = i < d.rows ? 0 : 77;
            for (size_t l = 0; l < d.k && i < d.rows; l++)
                sum += w[i * d.k + l] * d.x[n * d.x_row + l];
            ck_assert_float_eq(out[n * 5 + i], sum);
        }
    free(copy);
    free(out);
}

START_TEST(dots)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (size_t k = 1; k < 140 && gemm; k += 3)
        for (uint32_t rows = 1; rows <= VGG__DOTS; rows++)
            for (uint32_t samples = 1; samples <= VGG__DOTS; samples++) {
                float *w = draw(rows * k), *x = draw(samples * (k + 2) - 2);
                const struct vgg__dots d = {
                    .rows = rows, .samples = samples, .x = x, .x_row = k + 2, .k = k};
                check_dots(gemm->kernels->linear, d, w, false);
                check_dots(gemm->kernels->linear, d, w, true);
                free(w);
                free(x);
            }
}
END_TEST

/* A dot product has the same bits in every block. */
START_TEST(dots_alike)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    if (gemm == NULL) return;
    const size_t k = 1003;
    float *w = draw(4 * k), *x = draw(4 * k), all[16], one;
    for (size_t i = 0; i < 4 * k; i++) w[i] /= 3, x[i] /= 7;
    struct vgg__dots d = {4, 4, w, k * sizeof(float), x, k, k, all, 4};
    gemm->kernels->linear->dots(&d);
    for (size_t n = 0; n < 4; n++)
        for (size_t i = 0; i < 4; i++) {
            d = (struct vgg__dots){1, 1,    w + i * k, k * sizeof(float), x + n * k, k,
                                   k, &one, 1};
            gemm->kernels->linear->dots(&d);
            ck_assert_mem_eq(&one, &all[n * 4 + i], sizeof one);
        }
    free(w);
    free(x);
}
END_TEST

/* In parts of k as in one, wherever the parts end; f32 and bf16, every block. */
START_TEST(dots_in_parts)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (int way = 0; way < 2 * 16 && gemm; way++) {
        const struct vgg__linear_kernels *kernels = gemm->kernels->linear;
        const bool half = way % 2;
        const size_t k = 500, part = 2 * kernels->group;
        float *w = draw(4 * k), *x = draw(4 * k), whole[16], parts[16];
        float sums[VGG__DOTS_SUMS];
        for (size_t i = 0; i < 4 * k; i++) w[i] /= 3, x[i] /= 7;
        void *copy = copy_of(kernels, w, 4, k);
        struct vgg__dots d = {.rows = 1 + (uint32_t)way / 2 % 4,
                              .samples = 1 + (uint32_t)way / 8,
                              .w = half ? copy : w,
                              .w_row = half ? vgg__bf16_row(kernels, k) : k * 4,
                              .x = x,
                              .x_row = k,
                              .k = k,
                              .out = whole,
                              .out_row = 4};
        (half ? kernels->dots_bf16 : kernels->dots)(&d);
        d.out = parts;
        d.sums = sums;
        for (size_t l = 0; l < k; l += part) {
            d.begins = l == 0;
            d.ends = l + part >= k;
            d.k = d.ends ? k - l : part;
            (half ? kernels->dots_bf16 : kernels->dots)(&d);
            d.w = (const char *)d.w + part * (half ? 2 : 4);
            d.x += part;
        }
        for (uint32_t n = 0; n < d.samples; n++)
            ck_assert_mem_eq(parts + 4 * n, whole + 4 * n, d.rows * sizeof(float));
        free(copy);
        free(w);
        free(x);
    }
}
END_TEST

/* Rounding to bf16, seen through a dot product with 1: what the bits above become. */
START_TEST(rounding)
{
    static const struct {
        uint32_t bits, expected;
    } cases[] = {
        {0x00000000, 0x00000000}, {0x80000000, 0x80000000}, {0x3f800000, 0x3f800000},
        {0x3f807fff, 0x3f800000}, {0x3f808000, 0x3f800000}, {0x3f808001, 0x3f810000},
        {0x3f818000, 0x3f820000}, {0xbf818000, 0xbf820000}, {0x3fffffff, 0x40000000},
        {0x7f7fffff, 0x7f800000}, {0x7f800000, 0x7f800000}, {0xff800000, 0xff800000},
        {0x00010000, 0x00010000}, {0x00018000, 0x00020000}};
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (size_t i = 0; i < sizeof cases / sizeof *cases && gemm; i++) {
        float w, out[64];
        uint32_t word[32] = {0}, got; /* a group of the widest set */
        memcpy(&w, &cases[i].bits, sizeof w);
        gemm->kernels->linear->pack_bf16(&w, 1, word);
        const struct vgg__slice piece = {
            .w = word, .rows = 1, .width = 1, .out = out, .segment = 1};
        gemm->kernels->linear->lay_bf16(&piece);
        memcpy(&got, out, sizeof got);
        ck_assert_uint_eq(got, cases[i].expected);
    }
    if (gemm == NULL) return;
    const float nan = NAN;
    uint32_t word[32];
    gemm->kernels->linear->pack_bf16(&nan, 1, word);
    ck_assert_uint_gt(word[0] & 0x7fff, 0x7f80);
}
END_TEST

/* Both halves of every group, in order, with zeros behind the last. */
START_TEST(copies)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (size_t ins = 1; ins < 100 && gemm; ins += 7) {
        const struct vgg__linear_kernels *kernels = gemm->kernels->linear;
        const size_t row = vgg__bf16_row(kernels, ins), full = row / 2;
        float *w = draw(3 * ins), *out = filled(3 * full, 77);
        void *copy = copy_of(kernels, w, 3, ins);
        const struct vgg__slice piece = {.w = copy,
                                         .w_row = row,
                                         .rows = 3,
                                         .width = ins,
                                         .out = out,
                                         .out_row = full,
                                         .segment = ins};
        kernels->lay_bf16(&piece);
        for (size_t i = 0; i < 3 * full; i++)
            ck_assert_float_eq(out[i],
                               i % full < ins ? w[i / full * ins + i % full] : 0);
        free(w);
        free(out);
        free(copy);
    }
}
END_TEST

/* Rows to panels, the last one filled up with zeros. */
START_TEST(panels)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (size_t width = 1; width < 70 && gemm; width += 3) {
        const size_t segments = (width + 15) / 16;
        float *w = draw(5 * width), *out = filled(segments * 80, 77);
        const struct vgg__slice piece = {.w = w,
                                         .w_row = width * sizeof(float),
                                         .rows = 5,
                                         .width = width,
                                         .out = out,
                                         .out_row = 16,
                                         .segment = 16,
                                         .segment_size = 80};
        gemm->kernels->linear->lay(&piece);
        for (size_t i = 0; i < segments * 80; i++) {
            const size_t column = i / 80 * 16 + i % 16, row = i % 80 / 16;
            ck_assert_float_eq(out[i], column < width ? w[row * width + column] : 0);
        }
        free(w);
        free(out);
    }
}
END_TEST

/* ---- Products -------------------------------------------------------------------- */

static const struct {
    size_t count, ins, outs;
} sizes[] = {{5, 1, 1},       {1, 40, 20},   {8, 33, 65},     {16, 100, 70},
             {33, 1100, 130}, {14, 17, 300}, {128, 300, 140}, {600, 70, 30},
             {3, 2100, 15},   {17, 2048, 64}};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct problem {
    struct vgg__linear l;
    float *x, *w, *dy;
};

static struct problem make(const struct vgg__gemm *gemm, int size)
{
    struct problem q = {.l = {.gemm = gemm,
                              .count = sizes[size].count,
                              .ins = sizes[size].ins,
                              .outs = sizes[size].outs}};
    const size_t count = q.l.count, ins = q.l.ins, outs = q.l.outs;
    q.x = draw(count * ins);
    q.w = draw(outs * ins);
    q.dy = draw(count * outs);
    q.l.w = q.w;
    const size_t x = vgg__linear_packed_x(gemm, count, ins);
    const size_t dy = vgg__linear_packed_dy(gemm, count, outs);
    q.l.packed = filled(x > dy ? x : dy, NAN);
    q.l.worker_floats = vgg__linear_scratch(gemm, count);
    q.l.workers = filled(q.l.worker_floats, NAN);
    return q;
}

static void drop(struct problem *q)
{
    free(q->x);
    free(q->w);
    free(q->dy);
    free(q->l.packed);
    free(q->l.workers);
}

static void check_forward(struct problem *q)
{
    struct vgg__linear *l = &q->l;
    for (size_t i = vgg__linear_forward_packs(l); i-- > 0;)
        vgg__linear_forward_pack(l, q->x, i);
    for (size_t first = 0; first < l->outs; first += VGG__LINEAR_OUTPUTS) {
        size_t stride;
        const float *out =
            vgg__linear_forward_task(l, first / VGG__LINEAR_OUTPUTS, 0, &stride);
        for (size_t o = first; o < first + VGG__LINEAR_OUTPUTS && o < l->outs; o++)
            for (size_t n = 0; n < l->count; n++) {
                float sum = 0;
                for (size_t i = 0; i < l->ins; i++)
                    sum += q->x[n * l->ins + i] * q->w[o * l->ins + i];
                ck_assert_float_eq(out[(o - first) * stride + n], sum);
            }
    }
}

START_TEST(forward)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (int size = 0; size < SIZES && gemm; size++) {
        struct problem q = make(gemm, size);
        check_forward(&q);
        void *copy = copy_of(gemm->kernels->linear, q.w, q.l.outs, q.l.ins);
        q.l.w = copy;
        q.l.half = true;
        check_forward(&q);
        free(copy);
        drop(&q);
    }
}
END_TEST

START_TEST(dx)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    for (int size = 0; size < SIZES && gemm; size++) {
        struct problem q = make(gemm, size);
        const struct vgg__linear *l = &q.l;
        float *out = filled(l->count * l->ins, NAN);
        for (size_t i = vgg__linear_dx_packs(l); i-- > 0;)
            vgg__linear_dx_pack(l, q.dy, i);
        for (size_t i = vgg__linear_dx_tasks(l); i-- > 0;)
            vgg__linear_dx_task(l, out, i, 0);
        for (size_t n = 0; n < l->count; n++)
            for (size_t i = 0; i < l->ins; i++) {
                float sum = 0;
                for (size_t o = 0; o < l->outs; o++)
                    sum += q.dy[n * l->outs + o] * q.w[o * l->ins + i];
                ck_assert_float_eq(out[n * l->ins + i], sum);
            }
        free(out);
        drop(&q);
    }
}
END_TEST

/* The gradient added to, and taken off the weights with a rate and a decay that keep
 * every number exact. */
START_TEST(dweight)
{
    static const struct vgg__descent descents[] = {{0.5f, 0}, {0.25f, 0.5f}};
    const struct vgg__gemm *gemm = gemm_of(_i / 3);
    const struct vgg__descent *descent = _i % 3 ? &descents[_i % 3 - 1] : NULL;
    for (int size = 0; size < SIZES && gemm; size++) {
        struct problem q = make(gemm, size);
        const struct vgg__linear *l = &q.l;
        float *dw = malloc(l->outs * l->ins * sizeof(float));
        memcpy(dw, q.w, l->outs * l->ins * sizeof(float));
        const struct vgg__linear_target target = {q.dy, dw, descent};
        for (size_t i = vgg__linear_dweight_packs(l); i-- > 0;)
            vgg__linear_dweight_pack(l, q.x, i);
        for (size_t i = vgg__linear_dweight_tasks(l); i-- > 0;)
            vgg__linear_dweight_task(l, &target, i, 0);
        for (size_t o = 0; o < l->outs; o++)
            for (size_t i = 0; i < l->ins; i++) {
                const float old = q.w[o * l->ins + i];
                float sum = 0;
                for (size_t n = 0; n < l->count; n++)
                    sum += q.dy[n * l->outs + o] * q.x[n * l->ins + i];
                ck_assert_float_eq(dw[o * l->ins + i],
                                   descent ? old - descent->rate *
                                                       (sum + descent->decay * old)
                                           : old + sum);
            }
        free(dw);
        drop(&q);
    }
}
END_TEST

/* A weight that is infinite stays so without decay, and is not made a NaN. */
START_TEST(infinite_weight)
{
    const struct vgg__gemm *gemm = gemm_of(_i);
    if (gemm == NULL) return;
    struct problem q = make(gemm, 3);
    const struct vgg__descent descent = {0.5f, 0};
    q.w[3] = INFINITY;                       /* in a whole block */
    q.w[q.l.outs * q.l.ins - 1] = -INFINITY; /* at the edge */
    const struct vgg__linear_target target = {q.dy, q.w, &descent};
    for (size_t i = vgg__linear_dweight_packs(&q.l); i-- > 0;)
        vgg__linear_dweight_pack(&q.l, q.x, i);
    for (size_t i = vgg__linear_dweight_tasks(&q.l); i-- > 0;)
        vgg__linear_dweight_task(&q.l, &target, i, 0);
    ck_assert(q.w[3] == INFINITY);
    ck_assert(q.w[q.l.outs * q.l.ins - 1] == -INFINITY);
    drop(&q);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("linear");
    TCase *tcase = tcase_create("sets");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, dots, 0, SETS);
    tcase_add_loop_test(tcase, dots_alike, 0, SETS);
    tcase_add_loop_test(tcase, dots_in_parts, 0, SETS);
    tcase_add_loop_test(tcase, rounding, 0, SETS);
    tcase_add_loop_test(tcase, copies, 0, SETS);
    tcase_add_loop_test(tcase, panels, 0, SETS);
    tcase_add_loop_test(tcase, forward, 0, SETS);
    tcase_add_loop_test(tcase, dx, 0, SETS);
    tcase_add_loop_test(tcase, dweight, 0, 3 * SETS);
    tcase_add_loop_test(tcase, infinite_weight, 0, SETS);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
