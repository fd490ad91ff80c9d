/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops in portable vector extensions; compiled once per instruction set, with
 * VGG_KERNELS naming the table. Contraction is on here and only here: a * b + c is one
 * instruction where the set has it. Every element is computed in one order, whatever
 * the block it falls in, so a result does not depend on how callers cut their work. */
#include "core/random.h"
#include "cpu/kernels_linear.h"
#include "cpu/vector.h"

/* Part `chunk` of what a tile fetches ahead, `lines` of each row a chunk. */
static inline void fetch(const struct vgg__tile *g, size_t chunk, size_t lines)
{
    const size_t first = chunk * lines, row = g->ahead_row;
    const char *at = g->ahead + first * 64;
    if (first >= g->ahead_lines) return;
    if (lines > g->ahead_lines - first) lines = g->ahead_lines - first;
    for (; lines > 0; lines--, at += 64) {
        const char *line = at;
        for (uint32_t i = g->ahead_rows; i > 0; i--, line += row)
            __builtin_prefetch(line);
    }
}

#define CHUNK 16 /* steps of k between two looks ahead, and two skips in A */

/* `rows` and `vecs` are constants at every call, so that the sums live in registers.
 * Rows of A are reached from every third one: base, base + row, base + 2 row are
 * addressing modes, and fourteen pointers would not fit. x - 0 is a splat that costs
 * nothing. */
INLINE void tile_of(const int rows, const int vecs, const struct vgg__tile *g)
{
    vec sum[ROWS][2];
    const float *a[(ROWS + 2) / 3];
    const float *b = g->b;
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) sum[i][0] = sum[i][1] = (vec){0};
#pragma GCC unroll 16
    for (int i = 0; i < (rows + 2) / 3; i++) a[i] = g->a + 3 * (size_t)i * g->a_row;
    const size_t a_row = g->a_row, a_col = g->a_col, b_row = g->b_row;
    if (g->accumulate)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vecs; v++)
                __builtin_prefetch(g->c + (size_t)i * g->c_row + v * LANES, 1);
    const size_t chunks = (g->k + CHUNK - 1) / CHUNK;
    const size_t lines = chunks > 0 ? (g->ahead_lines + chunks - 1) / chunks : 0;
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        const size_t left = g->k - chunk * CHUNK;
        if (lines > 0) fetch(g, chunk, lines);
        for (size_t l = left < CHUNK ? left : CHUNK; l > 0; l--) {
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
        for (int i = 0; i < (rows + 2) / 3; i++) a[i] += g->a_skip;
    }
    if (g->descent) {
        const float rate = g->descent->rate, decay = g->descent->decay;
        float *c = g->c;
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++, c += g->c_row)
#pragma GCC unroll 2
            for (int v = 0; v < vecs; v++) {
                const vec old = load(c + v * LANES);
                const vec slope = decay != 0 ? sum[i][v] + decay * old : sum[i][v];
                store(c + v * LANES, old - rate * slope);
            }
        return;
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

INLINE void tile_rows(uint32_t rows, const int vecs, const struct vgg__tile *g)
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

static inline void copy(float *to, const float *from, size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, load(from + i));
    for (; i < count; i++) to[i] = from[i];
}

static inline void clear(float *to, size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) store(to + i, (vec){0});
    for (; i < count; i++) to[i] = 0;
}

/* One row of the kernel (its pixels lie side by side in x) for a row of pixels. */
static void columns_row(const struct vgg__columns *m, size_t y, bool inside, float *out)
{
    const size_t c = m->c, width = m->kernel * c, pad = m->kernel / 2;
    for (size_t i = 0; i < m->cols; i++, out += m->stride) {
        const size_t x = m->left + i;
        if (!inside) {
            clear(out, width);
        } else if (x >= pad && x + pad < m->w) {
            const float *from = m->x + (y * m->w + x - pad) * c;
            copy(out, from, width);
        } else {
            clear(out, width);
            const size_t skip = x < pad, past = x + pad >= m->w;
            copy(out + skip * c, m->x + (y * m->w + x - pad + skip) * c,
                 (m->kernel - skip - past) * c);
        }
    }
}

/* A row of pixels of a map of one channel, away from its edges: four floats at a time,
 * of which the fourth is overwritten by what comes next. */
static void columns_of_one(const struct vgg__columns *m, size_t y, size_t begin,
                           size_t end, float *out)
{
    typedef float quad __attribute__((vector_size(16), aligned(4)));
    const float *from = m->x + (y - 1) * m->w - 1;
    for (size_t x = begin; x < end; x++, out += m->stride) {
        *(quad *)out = *(const quad *)(from + x);
        *(quad *)(out + 3) = *(const quad *)(from + m->w + x);
        const float *last = from + 2 * m->w + x;
        out[6] = last[0], out[7] = last[1], out[8] = last[2];
    }
}

static void columns_rows(const struct vgg__columns *m, size_t r, size_t first,
                         size_t count)
{
    const size_t pad = m->kernel / 2;
    struct vgg__columns part = *m;
    part.left += first;
    part.cols = count;
    for (size_t kh = 0; kh < m->kernel; kh++) {
        const size_t y = m->top + r + kh; /* one pad too large */
        columns_row(&part, y - pad, y >= pad && y - pad < m->h,
                    m->out + (r * m->cols + first) * m->stride + kh * m->kernel * m->c);
    }
}

static void columns(const struct vgg__columns *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        const size_t y = m->top + r, right = m->left + m->cols;
        const size_t begin = m->left > 0 ? m->left : 1;
        const size_t end =
            right + 2 < m->w ? right : m->w - 2; /* reads x - 1 .. x + 2 */
        const bool inner = m->c == 1 && m->kernel == 3 && m->w > 3 && y > 0 &&
                           y + 1 < m->h && begin < end;
        if (!inner) {
            columns_rows(m, r, 0, m->cols);
            continue;
        }
        columns_rows(m, r, 0, begin - m->left);
        columns_of_one(m, y, begin, end,
                       m->out + (r * m->cols + begin - m->left) * m->stride);
        columns_rows(m, r, end - m->left, right - end);
    }
}

static void bias_relu(float *x, size_t rows, size_t c, const float *bias, bool relu)
{
    for (size_t i = 0; i < rows; i++, x += c) {
        size_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            const vec v = bias ? load(x + j) + load(bias + j) : load(x + j);
            store(x + j, relu ? positive(v) : v);
        }
        for (; j < c; j++) {
            const float v = bias ? x[j] + bias[j] : x[j];
            x[j] = relu && v <= 0 ? 0 : v;
        }
    }
}

static void bias_relu_kept(float *x, size_t rows, size_t c, const float *bias,
                           uint8_t *kept)
{
    for (size_t i = 0; i < rows; i++, x += c, kept += c)
        for (size_t j = 0; j < c; j += LANES) {
            const size_t left = c - j;
            vec v = load_some(x + j, left);
            if (bias) v += load_some(bias + j, left);
            narrow_some(kept + j, widen_some(kept + j, left) | (v <= 0), left);
            store_some(x + j, positive(v), left);
        }
}

/* The first of equals wins, and NaN over numbers, the last over the others. */
static void max_pool(const struct vgg__windows *r)
{
    const size_t c = r->c;
    for (size_t x = 0; x < r->count; x++) {
        const float *from[4] = {r->top + 2 * x * c, r->top + (2 * x + 1) * c,
                                r->bottom + 2 * x * c, r->bottom + (2 * x + 1) * c};
        float *y = r->y + x * c;
        uint8_t *kept = r->kept ? r->kept + x * c : NULL;
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
            if (kept) *(bytes *)(kept + j) = __builtin_convertvector(place, bytes);
        }
        for (; j < c; j++) {
            uint8_t best = 0;
            for (uint8_t i = 1; i < 4; i++)
                if (from[i][j] > from[best][j] || from[i][j] != from[i][j]) best = i;
            y[j] = from[best][j];
            if (kept) kept[j] = best;
        }
    }
}

static void average_pool(const struct vgg__windows *r, bool relu)
{
    const size_t c = r->c;
    for (size_t x = 0; x < r->count; x++)
        for (size_t j = 0; j < c; j++) {
            const size_t at = 2 * x * c + j;
            float v[4] = {r->top[at], r->top[at + c], r->bottom[at], r->bottom[at + c]};
            unsigned passed = 0;
            for (unsigned i = 0; i < 4; i++) {
                passed |= (unsigned)!(v[i] <= 0) << i;
                if (relu && v[i] <= 0) v[i] = 0;
            }
            r->y[x * c + j] = (v[0] + v[1] + v[2] + v[3]) * 0.25f;
            if (r->kept) r->kept[x * c + j] = (uint8_t)(relu ? passed : 15);
        }
}

static void max_unpool(const struct vgg__unpool *u)
{
    const size_t c = u->c;
    float *out = u->out;
    for (size_t x = u->begin; x < u->end; x++, out += c) {
        const int place = 2 * u->row + (int)(x & 1);
        const size_t at = x / 2 * c;
        size_t j = 0;
        for (; j + LANES <= c; j += LANES) {
            const mask take = widen(u->kept + at + j) == place;
            store(out + j, (vec)((mask)load(u->dy + at + j) & take));
        }
        for (; j < c; j++) {
            out[j] = u->kept[at + j] == place ? u->dy[at + j] : 0;
        }
    }
}

static void average_unpool(const struct vgg__unpool *u)
{
    const size_t c = u->c;
    float *out = u->out;
    for (size_t x = u->begin; x < u->end; x++, out += c) {
        const int place = 2 * u->row + (int)(x & 1);
        const size_t at = x / 2 * c;
        for (size_t j = 0; j < c; j++)
            out[j] = u->kept[at + j] >> place & 1 ? u->dy[at + j] * 0.25f : 0;
    }
}

static void relu_mask(float *out, const float *d, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = y[i] <= 0 ? 0 : d[i];
}

static void add_rows(float *sum, const float *x, size_t rows, size_t c)
{
    size_t j = 0;
    for (; j + LANES <= c; j += LANES) {
        vec v = load(sum + j);
        for (size_t i = 0; i < rows; i++) v += load(x + i * c + j);
        store(sum + j, v);
    }
    for (; j < c; j++)
        for (size_t i = 0; i < rows; i++) sum[j] += x[i * c + j];
}

static void add(float *y, const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

/* Blocks don't depend on each other: compilers take as many at once as lanes allow. */
static void draw(const struct vgg__draw *d)
{
    const struct vgg__draw r = *d;
    for (size_t i = 0; i < r.blocks; i++) {
        uint32_t words[4];
        vgg__random(r.seed, r.purpose, r.step, r.index + i, words);
        for (size_t j = 0; j < 4; j++)
            r.keep[4 * i + j] = vgg__uniform(words[j]) >= r.rate;
    }
}

static void drop(float *out, const float *x, const uint8_t *keep, float scale,
                 size_t count)
{
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const mask take = widen(keep + i) != 0;
        store(out + i, (vec)((mask)(load(x + i) * scale) & take));
    }
    for (; i < count; i++) out[i] = keep[i] ? x[i] * scale : 0;
}

extern const struct vgg__winograd_kernels VGG_WINOGRAD_KERNELS;
extern const struct vgg__first_kernels VGG_FIRST_KERNELS;

const struct vgg__kernels VGG_KERNELS = {
    .name = VGG_KERNELS_NAME,
    .isa = ISA,
    .rows = ROWS,
    .cols = 2 * LANES,
    .winograd = &VGG_WINOGRAD_KERNELS,
    .first = &VGG_FIRST_KERNELS,
    .tile = tile,
    .linear = &VGG_LINEAR_KERNELS,
    .columns = columns,
    .bias_relu = bias_relu,
    .bias_relu_kept = bias_relu_kept,
    .max_pool = max_pool,
    .average_pool = average_pool,
    .max_unpool = max_unpool,
    .average_unpool = average_unpool,
    .relu_mask = relu_mask,
    .add_rows = add_rows,
    .add = add,
    .draw = draw,
    .drop = drop,
};
