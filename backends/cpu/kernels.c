/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops in portable vector extensions; compiled once per instruction set, with
 * VGG_KERNELS naming the table. Contraction is on here and only here: a * b + c is one
 * instruction where the set has it. Every element is computed in one order, whatever the
 * block it falls in, so a result does not depend on how callers cut their work. */
#include "cpu/kernels.h"

#if defined(__AVX512F__)
#define VEC_BYTES 64
#define ROWS      14 /* 28 sums, two columns of B, one splat: 31 of 32 registers */
#define ISA       VGG_ISA_AVX512
#elif defined(__AVX2__)
#define VEC_BYTES 32
#define ROWS      6 /* 12 + 2 + 1 of 16 registers */
#define ISA       VGG_ISA_AVX2
#elif defined(__aarch64__)
#define VEC_BYTES 16
#define ROWS      14
#define ISA       VGG_ISA_BASE
#else
#define VEC_BYTES 16
#define ROWS      6
#define ISA       VGG_ISA_BASE
#endif
#define LANES (VEC_BYTES / 4)

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef float loose __attribute__((vector_size(VEC_BYTES), aligned(4))); /* in memory */
typedef int32_t mask __attribute__((vector_size(VEC_BYTES)));

static inline vec load(const float *x)
{
    return *(const loose *)x;
}

static inline void store(float *x, vec v)
{
    *(loose *)x = v;
}

/* `rows` and `vecs` are constants at every call, so that the sums live in registers. Rows
 * of A are reached from every third one: base, base + row, base + 2 row are addressing
 * modes, and fourteen pointers would not fit. x - 0 is a splat that costs nothing. */
static inline __attribute__((always_inline)) void
tile_of(const int rows, const int vecs, const struct vgg__tile *g)
{
    vec sum[ROWS][2];
    const float *a[(ROWS + 2) / 3];
    const float *b = g->b;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vec){0};
#pragma GCC unroll 16
    for (int i = 0; i < (rows + 2) / 3; i++) a[i] = g->a + 3 * (size_t)i * g->a_row;
    const size_t a_row = g->a_row, a_col = g->a_col, b_row = g->b_row;
    for (size_t l = g->k; l > 0; l--) {
        const vec b0 = load(b), b1 = vecs > 1 ? load(b + LANES) : b0;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const vec x = a[i / 3][(size_t)(i % 3) * a_row] - (vec){0};
            sum[i][0] += x * b0;
            if (vecs > 1) sum[i][1] += x * b1;
        }
#pragma GCC unroll 16
        for (int i = 0; i < (rows + 2) / 3; i++) a[i] += a_col;
        b += b_row;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        float *c = g->c + (size_t)i * g->c_row;
#pragma GCC unroll 2
        for (int v = 0; v < vecs; v++)
            store(c + v * LANES,
                  g->accumulate ? load(c + v * LANES) + sum[i][v] : sum[i][v]);
    }
}

static inline __attribute__((always_inline)) void
tile_rows(uint32_t rows, const int vecs, const struct vgg__tile *g)
{
    switch (rows) {
#if ROWS == 14
    case 14:
        tile_of(14, vecs, g);
        break;
    case 13:
        tile_of(13, vecs, g);
        break;
    case 12:
        tile_of(12, vecs, g);
        break;
    case 11:
        tile_of(11, vecs, g);
        break;
    case 10:
        tile_of(10, vecs, g);
        break;
    case 9:
        tile_of(9, vecs, g);
        break;
    case 8:
        tile_of(8, vecs, g);
        break;
    case 7:
        tile_of(7, vecs, g);
        break;
#endif
    case 6:
        tile_of(6, vecs, g);
        break;
    case 5:
        tile_of(5, vecs, g);
        break;
    case 4:
        tile_of(4, vecs, g);
        break;
    case 3:
        tile_of(3, vecs, g);
        break;
    case 2:
        tile_of(2, vecs, g);
        break;
    default:
        tile_of(1, vecs, g);
        break;
    }
}

static void tile(uint32_t rows, bool wide, const struct vgg__tile *g)
{
    if (wide)
        tile_rows(rows, 2, g);
    else
        tile_rows(rows, 1, g);
}

static void bias_relu(float *x, size_t rows, size_t c, const float *bias, bool relu)
{
    for (size_t i = 0; i < rows; i++, x += c) {
        size_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            const vec v = load(x + j) + load(bias + j);
            store(x + j, relu ? (vec)((mask)v & ~(v < 0)) : v);
        }
        for (; j < c; j++) {
            const float v = x[j] + bias[j];
            x[j] = relu && v < 0 ? 0 : v;
        }
    }
}

/* The greater one by PyTorch's rule: the first of equals, and NaN wins over all. */
static inline float max_of(float best, float v, uint8_t place, uint8_t *winner)
{
    if (!(v > best || v != v)) return best;
    *winner = place;
    return v;
}

static void max_pool(const struct vgg__pool_row *r)
{
    const size_t c = r->c;
    for (size_t x = 0; x < r->w; x++) {
        const float *from[4] = {r->top + 2 * x * c, r->top + (2 * x + 1) * c,
                                r->bottom + 2 * x * c, r->bottom + (2 * x + 1) * c};
        float *y = r->y + x * c;
        uint8_t *winner = r->winner ? r->winner + x * c : NULL;
        size_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            vec best = load(from[0] + j);
            mask place = {0};
#pragma GCC unroll 4
            for (int i = 1; i < 4; i++) {
                const vec v = load(from[i] + j);
                const mask take = (v > best) | (v != v);
                best = (vec)(((mask)v & take) | ((mask)best & ~take));
                place = ((i - (mask){0}) & take) | (place & ~take);
            }
            store(y + j, best);
            if (winner)
                for (int i = 0; i < LANES; i++)
                    winner[j + (size_t)i] = (uint8_t)place[i];
        }
        for (; j < c; j++) {
            uint8_t place = 0;
            float best = from[0][j];
            for (uint8_t i = 1; i < 4; i++) best = max_of(best, from[i][j], i, &place);
            y[j] = best;
            if (winner) winner[j] = place;
        }
    }
}

static void average_pool(const struct vgg__pool_row *r)
{
    const size_t c = r->c;
    for (size_t x = 0; x < r->w; x++) {
        const float *top = r->top + 2 * x * c, *bottom = r->bottom + 2 * x * c;
        float *y = r->y + x * c;
        for (size_t j = 0; j < c; j++)
            y[j] = (((top[j] + top[j + c]) + bottom[j]) + bottom[j + c]) * 0.25f;
    }
}

static void relu_mask(float *out, const float *d, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = y[i] > 0 ? d[i] : 0;
}

static void add_rows(float *sum, const float *x, size_t rows, size_t c)
{
    for (size_t i = 0; i < rows; i++, x += c)
        for (size_t j = 0; j < c; j++) sum[j] += x[j];
}

static void add(float *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

const struct vgg__kernels VGG_KERNELS = {
    .name = VGG_KERNELS_NAME,
    .isa = ISA,
    .rows = ROWS,
    .cols = 2 * LANES,
    .tile = tile,
    .bias_relu = bias_relu,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .relu_mask = relu_mask,
    .add_rows = add_rows,
    .add = add,
};
