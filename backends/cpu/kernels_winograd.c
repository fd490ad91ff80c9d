/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's transforms; compiled once per instruction set. A vector holds one pixel's
 * neighbouring channels. A tile is transformed column by column, then row by row; where
 * it is not there as it lies in memory (edges, ReLU, pooling), it is gathered first. */
#include "cpu/winograd.h"

#include "cpu/kernels_finish.h"

#define MOST_N 6

/* ---- One dimension --------------------------------------------------------- */

/* B^T d, from n to n. For m = 4 as differences, which are exactly 0 where all pixels
 * are equal: a single frequency is left then, and its outputs are equal, be products
 * rounded (SSE2) or not (FMA). A maximum behind it sees the ties that there are. */
INLINE void window_1d(const int m, const vec *d, vec *r)
{
    if (m == 2) {
        r[0] = d[0] - d[2];
        r[1] = d[1] + d[2];
        r[2] = d[2] - d[1];
        r[3] = d[1] - d[3];
        return;
    }
    const vec even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1];
    const vec far = d[4] - d[2], step = d[3] - d[1];
    r[0] = far + 4 * (d[0] - d[2]);
    r[1] = even + odd;
    r[2] = even - odd;
    r[3] = far + 2 * step;
    r[4] = far - 2 * step;
    r[5] = (d[5] - d[3]) - 4 * step;
}

/* A d, from m to n. */
INLINE void gradient_1d(const int m, const vec *d, vec *r)
{
    if (m == 2) {
        r[0] = d[0];
        r[1] = d[0] + d[1];
        r[2] = d[0] - d[1];
        r[3] = -d[1];
        return;
    }
    const vec even = d[0] + d[2], odd = d[1] + d[3];
    const vec even4 = d[0] + 4 * d[2], odd4 = d[1] + 4 * d[3];
    r[0] = d[0];
    r[1] = even + odd;
    r[2] = even - odd;
    r[3] = even4 + 2 * odd4;
    r[4] = even4 - 2 * odd4;
    r[5] = d[3];
}

/* A^T r, from n to m. */
INLINE void finish_1d(const int m, const vec *r, vec *y)
{
    const vec sum = r[1] + r[2], difference = r[1] - r[2];
    if (m == 2) {
        y[0] = r[0] + sum;
        y[1] = difference - r[3];
        return;
    }
    const vec sum2 = r[3] + r[4], difference2 = r[3] - r[4];
    y[0] = r[0] + sum + sum2;
    y[1] = difference + 2 * difference2;
    y[2] = sum + 4 * sum2;
    y[3] = difference + 8 * difference2 + r[5];
}

/* ---- Gathering a tile -------------------------------------------------------- */

/* `rows` x `rows` pixels from (top, left) on, of `channels` channels from channel i on
 * or as many as fill a vector. */
struct patch {
    const struct vgg__source *source;
    ptrdiff_t top, left;
    size_t i, channels;
    int reach; /* pixels before the tile's own */
};

/* Whether pixels first .. first + rows - 1 are all among `size`. */
INLINE bool is_among(ptrdiff_t first, const int rows, size_t size)
{
    return first >= 0 && first + rows <= (ptrdiff_t)size;
}

INLINE bool is_inner(const struct patch *p, const int rows)
{
    return p->channels >= LANES && is_among(p->top, rows, p->source->h) &&
           is_among(p->left, rows, p->source->w);
}

INLINE void gather_masked(const struct patch *p, const int rows, vec *d)
{
    const struct vgg__source *s = p->source;
    const size_t row = s->w * s->c;
    const size_t at = (size_t)p->top * row + (size_t)p->left * s->c + p->i;
    const float *x = s->x + at, *y = s->y + at;
    for (int r = 0; r < rows; r++, x += row, y += row)
#pragma GCC unroll 6
        for (int c = 0; c < rows; c++)
            d[r * rows + c] =
                masked(load(x + (size_t)c * s->c), load(y + (size_t)c * s->c));
}

/* At the edges of a map. */
INLINE void gather_edge(const struct patch *p, const int rows, vec *d)
{
    const struct vgg__source *s = p->source;
    for (int i = 0; i < rows * rows; i++) {
        const ptrdiff_t y = p->top + i / rows, x = p->left + i % rows;
        d[i] = (vec){0};
        if (y < 0 || y >= (ptrdiff_t)s->h || x < 0 || x >= (ptrdiff_t)s->w) continue;
        const size_t at = ((size_t)y * s->w + (size_t)x) * s->c + p->i;
        d[i] = load_some(s->x + at, p->channels);
        if (s->kind == VGG__MASKED)
            d[i] = masked(d[i], load_some(s->y + at, p->channels));
    }
}

/* What pooling has left of the four pixels of a window, with what it kept. */
struct window {
    vec x;
    mask kept;
};

INLINE struct window read_window(const struct patch *p, const bool inner, ptrdiff_t row,
                                 ptrdiff_t col)
{
    const struct vgg__source *s = p->source;
    const size_t h = s->h / 2, w = s->w / 2;
    struct window out = {{0}, {0}};
    if (!inner && (row < 0 || row >= (ptrdiff_t)h || col < 0 || col >= (ptrdiff_t)w))
        return out;
    const size_t at = ((size_t)row * w + (size_t)col) * s->c + p->i;
    out.x = inner ? load(s->x + at) : load_some(s->x + at, p->channels);
    out.kept = inner ? widen(s->kept + at) : widen_some(s->kept + at, p->channels);
    return out;
}

/* A patch that reaches out begins in the second row and column of a window. */
INLINE void gather_pooled(const struct patch *p, const int rows, const bool maximum,
                          const bool inner, vec *d)
{
    const int odd = p->reach, windows = (rows + odd + 1) / 2;
    const ptrdiff_t top = p->top >> 1, left = p->left >> 1;
    for (int i = 0; i < windows * windows; i++) {
        const int row = i / windows, col = i % windows;
        struct window w = read_window(p, inner, top + row, left + col);
        if (!maximum) w.x *= 0.25f;
#pragma GCC unroll 4
        for (int place = 0; place < 4; place++) {
            const int r = 2 * row - odd + place / 2, c = 2 * col - odd + place % 2;
            if (r < 0 || r >= rows || c < 0 || c >= rows) continue;
            const mask take = maximum ? w.kept == place : (w.kept & (1 << place)) != 0;
            d[r * rows + c] = (vec)((mask)w.x & take);
        }
    }
}

INLINE void gather(const struct patch *p, const int rows, vec *d)
{
    const struct vgg__source *s = p->source;
    const bool maximum = s->kind == VGG__MAX_POOLED;
    if (s->kind >= VGG__MAX_POOLED) {
        /* One window more on each side, so that those cut in two are there. */
        const bool inner = p->channels >= LANES &&
                           is_among(p->top - 1, rows + 2, s->h / 2 * 2) &&
                           is_among(p->left - 1, rows + 2, s->w / 2 * 2);
        if (maximum && inner)
            gather_pooled(p, rows, true, true, d);
        else if (inner)
            gather_pooled(p, rows, false, true, d);
        else
            gather_pooled(p, rows, maximum, false, d);
    } else if (s->kind == VGG__MASKED && is_inner(p, rows)) {
        gather_masked(p, rows, d);
    } else {
        gather_edge(p, rows, d);
    }
}

/* ---- From maps to frequencies ------------------------------------------------ */

typedef void transform_1d(const int m, const vec *in, vec *out);

/* Pixel (r, c) at x + r * row + c * col, to out + f * frequency. */
INLINE void transform_tile(const int m, const int rows, transform_1d *transform,
                           const float *x, const size_t strides[3], float *out)
{
    const int n = m + 2;
    const size_t row = strides[0], col = strides[1], frequency = strides[2];
    vec half[MOST_N][MOST_N];
#pragma GCC unroll 6
    for (int c = 0; c < rows; c++) {
        vec d[MOST_N], r[MOST_N];
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++)
            d[i] = load(x + (size_t)i * row + (size_t)c * col);
        transform(m, d, r);
#pragma GCC unroll 6
        for (int i = 0; i < n; i++) half[i][c] = r[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; i++) {
        vec v[MOST_N];
        transform(m, half[i], v);
#pragma GCC unroll 6
        for (int s = 0; s < n; s++) store(out + (size_t)(i * n + s) * frequency, v[s]);
    }
}

/* `reach`: pixels that a tile's window has before its first row and column. */
INLINE void transform_run(const int m, const int reach, transform_1d *transform,
                          const struct vgg__source *source, const struct vgg__run *run,
                          const struct vgg__transformed *to)
{
    const int rows = m + 2 * reach;
    const size_t c = source->c;
    struct patch p = {
        .source = source, .top = (ptrdiff_t)(m * run->row) - reach, .reach = reach};
    for (size_t t = 0; t < run->count; t++) {
        p.left = (ptrdiff_t)(m * (run->col + t)) - reach;
        for (p.i = 0; p.i < source->channels; p.i += LANES) {
            const uint32_t i = (uint32_t)p.i;
            float *out = to->out + t * to->at.stride + i / to->at.width * to->at.group +
                         i % to->at.width;
            p.channels = source->channels - p.i;
            if (source->kind == VGG__PLAIN && is_inner(&p, rows)) {
                const size_t at = ((size_t)p.top * source->w + (size_t)p.left) * c;
                transform_tile(m, rows, transform, source->x + at + p.i,
                               (size_t[]){source->w * c, c, to->at.frequency}, out);
            } else {
                vec d[MOST_N * MOST_N];
                gather(&p, rows, d);
                transform_tile(
                    m, rows, transform, (const float *)d,
                    (size_t[]){(size_t)rows * LANES, LANES, to->at.frequency}, out);
            }
        }
    }
}

static void window(uint32_t m, const struct vgg__source *source,
                   const struct vgg__run *run, const struct vgg__transformed *to)
{
    if (m == 4)
        transform_run(4, 1, window_1d, source, run, to);
    else
        transform_run(2, 1, window_1d, source, run, to);
}

static void gradient(uint32_t m, const struct vgg__source *source,
                     const struct vgg__run *run, const struct vgg__transformed *to)
{
    if (m == 4)
        transform_run(4, 0, gradient_1d, source, run, to);
    else
        transform_run(2, 0, gradient_1d, source, run, to);
}

/* ---- From frequencies to maps ---------------------------------------------- */

INLINE void finish_tile(const int m, const uint32_t pool, const struct place *at,
                        const float *in, size_t frequency)
{
    const int n = m + 2;
    vec half[4][MOST_N], y[4][4];
#pragma GCC unroll 6
    for (int s = 0; s < n; s++) {
        vec r[MOST_N], column[4];
#pragma GCC unroll 6
        for (int i = 0; i < n; i++) r[i] = load(in + (size_t)(i * n + s) * frequency);
        finish_1d(m, r, column);
#pragma GCC unroll 4
        for (int i = 0; i < m; i++) half[i][s] = column[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < m; i++) finish_1d(m, half[i], y[i]);
    put_tile(m, pool, at, y);
}

INLINE void finish_run(const int m, const uint32_t pool, const struct vgg__finish *f,
                       const struct vgg__run *run)
{
    for (size_t i = 0; i < f->to.width; i += LANES) {
        struct place at = place_of(&f->to, i);
        at.top = (size_t)m * run->row;
        at.rows = least((size_t)m, f->to.h - at.top);
        const float *in = f->in + i;
        for (size_t t = 0; t < run->count; t++, in += f->at.stride) {
            at.left = (size_t)m * (run->col + t);
            at.cols = least((size_t)m, f->to.w - at.left);
            if (at.channels >= LANES && at.rows == (size_t)m && at.cols == (size_t)m) {
                struct place full = at;
                full.rows = full.cols = (size_t)m;
                full.channels = LANES;
                finish_tile(m, pool, &full, in, f->at.frequency);
            } else {
                finish_tile(m, pool, &at, in, f->at.frequency);
            }
        }
    }
}

INLINE void finish_of(const int m, const struct vgg__finish *f,
                      const struct vgg__run *run)
{
    switch (f->to.pool) {
    case VGG_NO_POOL:
        finish_run(m, VGG_NO_POOL, f, run);
        break;
    case VGG_MAX_POOL:
        finish_run(m, VGG_MAX_POOL, f, run);
        break;
    default:
        finish_run(m, VGG_AVERAGE_POOL, f, run);
        break;
    }
}

static void finish(uint32_t m, const struct vgg__finish *f, const struct vgg__run *run)
{
    if (m == 4)
        finish_of(4, f, run);
    else
        finish_of(2, f, run);
}

/* ---- Filters ------------------------------------------------------------------ */

/* In double: what is lost here would be lost in every product. Loops over columns are
 * the compiler's to make vectors of. */
#define COLS (2 * LANES)

static void filters(const struct vgg__filters *f, const double (*g)[VGG__MOST_COLS],
                    float *u)
{
    const double(*G)[3] = f->G;
    const uint32_t n = f->m + 2;
    for (uint32_t i = 0; i < n; i++) {
        double half[3][COLS];
        for (uint32_t s = 0; s < 3; s++)
            for (size_t j = 0; j < COLS; j++)
                half[s][j] =
                    G[i][0] * g[s][j] + G[i][1] * g[3 + s][j] + G[i][2] * g[6 + s][j];
        for (uint32_t k = 0; k < n; k++) {
            float *to = u + (i * n + k) * f->stride;
            for (size_t j = 0; j < COLS; j++)
                to[j] = (float)(half[0][j] * G[k][0] + half[1][j] * G[k][1] +
                                half[2][j] * G[k][2]);
        }
    }
}

static void unfilter(const struct vgg__filters *f, const float *p,
                     double (*dg)[VGG__MOST_COLS])
{
    const double(*G)[3] = f->G;
    const uint32_t n = f->m + 2;
    for (uint32_t t = 0; t < 9; t++)
        for (size_t j = 0; j < COLS; j++) dg[t][j] = 0;
    for (uint32_t k = 0; k < n; k++) {
        double half[3][COLS] = {{0}};
        for (uint32_t i = 0; i < n; i++) {
            const float *from = p + (i * n + k) * f->stride;
            for (uint32_t r = 0; r < 3; r++)
                for (size_t j = 0; j < COLS; j++)
                    half[r][j] += G[i][r] * (double)from[j];
        }
        for (uint32_t t = 0; t < 9; t++)
            for (size_t j = 0; j < COLS; j++) dg[t][j] += half[t / 3][j] * G[k][t % 3];
    }
}

const struct vgg__winograd_kernels VGG_WINOGRAD_KERNELS = {.filters = filters,
                                                           .unfilter = unfilter,
                                                           .window = window,
                                                           .gradient = gradient,
                                                           .finish = finish};
