/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's transforms; compiled once per instruction set. A vector holds one pixel's
 * neighbouring channels; a run of tiles is transformed column by column into a strip,
 * where neighbouring tiles share what they overlap, then row by row. */
#include "cpu/winograd.h"

#include "cpu/kernels_finish.h"

#define MOST_N     6
#define MOST_STRIP (4 * VGG__MOST_RUN + 2)

/* ---- One dimension --------------------------------------------------------- */

/* B^T d, from n to n. */
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
    r[0] = 4 * d[0] + (d[4] - 5 * d[2]);
    r[1] = even + odd;
    r[2] = even - odd;
    r[3] = far + 2 * step;
    r[4] = far - 2 * step;
    r[5] = 4 * d[1] + (d[5] - 5 * d[3]);
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

/* ---- From maps to strips --------------------------------------------------- */

/* A run's strip in the making: `cols` columns from pixel (top, left) on, LANES channels
 * or fewer from channel i on. */
struct strip {
    const struct vgg__source *source;
    ptrdiff_t top, left;
    size_t cols, i, channels;
    vec at[MOST_N][MOST_STRIP]; /* [n][cols] */
};

typedef void transform_1d(const int m, const vec *in, vec *out);

/* `rows` pixels of a column to n numbers. */
INLINE void put_column(const int m, transform_1d *transform, const vec *d, size_t col,
                       struct strip *strip)
{
    vec r[MOST_N];
    transform(m, d, r);
#pragma GCC unroll 6
    for (int i = 0; i < m + 2; i++) strip->at[i][col] = r[i];
}

/* Whether rows first .. first + rows - 1 are among h, and channels fill a vector. */
INLINE bool is_inner(const struct strip *strip, ptrdiff_t first, int rows, size_t h)
{
    return strip->channels >= LANES && first >= 0 && first + rows <= (ptrdiff_t)h;
}

/* The pixel at `p`, or nothing; `whole`: a full vector that is there. */
INLINE vec pixel(const struct strip *strip, const bool masked, const bool whole,
                 size_t p)
{
    const struct vgg__source *s = strip->source;
    const vec v = whole ? load(s->x + p) : load_some(s->x + p, strip->channels);
    if (!masked) return v;
    const vec y = whole ? load(s->y + p) : load_some(s->y + p, strip->channels);
    return (vec)((mask)v & ~(y <= 0));
}

INLINE void fill_plain(const int m, const int rows, const bool masked,
                       transform_1d *transform, struct strip *strip)
{
    const struct vgg__source *s = strip->source;
    const bool inner = is_inner(strip, strip->top, rows, s->h);
    for (size_t col = 0; col < strip->cols; col++) {
        const ptrdiff_t x = strip->left + (ptrdiff_t)col;
        vec d[MOST_N];
        for (int r = 0; r < rows; r++) d[r] = (vec){0};
        if (x >= 0 && x < (ptrdiff_t)s->w && inner) {
            const size_t at = ((size_t)strip->top * s->w + (size_t)x) * s->c + strip->i;
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++)
                d[r] = pixel(strip, masked, true, at + (size_t)r * s->w * s->c);
        } else if (x >= 0 && x < (ptrdiff_t)s->w) {
            for (int r = 0; r < rows; r++) {
                const ptrdiff_t y = strip->top + r;
                if (y < 0 || y >= (ptrdiff_t)s->h) continue;
                d[r] = pixel(strip, masked, false,
                             ((size_t)y * s->w + (size_t)x) * s->c + strip->i);
            }
        }
        put_column(m, transform, d, col, strip);
    }
}

/* A column of what pooling has left, with what it says about the pixels. */
struct pooled {
    vec x[MOST_N / 2 + 1];
    mask kept[MOST_N / 2 + 1];
};

INLINE void read_pooled(const struct strip *strip, const bool maximum, const int count,
                        ptrdiff_t column, struct pooled *out)
{
    const struct vgg__source *s = strip->source;
    const size_t h = s->h / 2, w = s->w / 2;
    const ptrdiff_t top = strip->top >> 1;
    const bool there = column >= 0 && column < (ptrdiff_t)w;
    const bool inner = there && is_inner(strip, top, count, h);
#pragma GCC unroll 4
    for (int r = 0; r < count; r++) {
        const size_t p = ((size_t)(top + r) * w + (size_t)column) * s->c + strip->i;
        out->x[r] = (vec){0};
        out->kept[r] = (mask){0};
        if (inner) {
            out->x[r] = load(s->x + p);
            out->kept[r] = widen(s->kept + p);
        } else if (there && top + r >= 0 && top + r < (ptrdiff_t)h) {
            out->x[r] = load_some(s->x + p, strip->channels);
            out->kept[r] = widen_some(s->kept + p, strip->channels);
        }
        if (!maximum) out->x[r] *= 0.25f;
    }
}

/* `odd`: whether the strip begins at an odd row and column. */
INLINE void fill_pooled(const int m, const int rows, const bool maximum,
                        transform_1d *transform, struct strip *strip)
{
    const int odd = rows > m, count = (rows + odd + 1) / 2;
    const ptrdiff_t left = strip->left >> 1;
    for (size_t q = 0; 2 * q < strip->cols + (size_t)odd; q++) {
        struct pooled p;
        read_pooled(strip, maximum, count, left + (ptrdiff_t)q, &p);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const size_t col = 2 * q + (size_t)half - (size_t)odd;
            if (col >= strip->cols) continue; /* also one before the first */
            vec d[MOST_N];
#pragma GCC unroll 6
            for (int r = 0; r < rows; r++) {
                const int from = (r + odd) / 2, place = 2 * ((r + odd) & 1) + half;
                const mask take = maximum ? p.kept[from] == place
                                          : (p.kept[from] & (1 << place)) != 0;
                d[r] = (vec)((mask)p.x[from] & take);
            }
            put_column(m, transform, d, col, strip);
        }
    }
}

INLINE void fill(const int m, const int rows, transform_1d *transform,
                 struct strip *strip)
{
    switch (strip->source->kind) {
    case VGG__PLAIN:
        fill_plain(m, rows, false, transform, strip);
        break;
    case VGG__MASKED:
        fill_plain(m, rows, true, transform, strip);
        break;
    case VGG__MAX_POOLED:
        fill_pooled(m, rows, true, transform, strip);
        break;
    default:
        fill_pooled(m, rows, false, transform, strip);
        break;
    }
}

/* ---- From strips to frequencies -------------------------------------------- */

/* `reach`: pixels that a tile's window has before its first row and column. */
INLINE void transform_run(const int m, const int reach, transform_1d *transform,
                          const struct vgg__source *source, const struct vgg__run *run,
                          const struct vgg__transformed *to)
{
    const int n = m + 2, rows = m + 2 * reach;
    struct strip strip = {.source = source,
                          .top = (ptrdiff_t)(m * run->row) - reach,
                          .left = (ptrdiff_t)(m * run->col) - reach,
                          .cols = m * run->count + 2 * reach};
    for (size_t i = 0; i < source->channels; i += LANES) {
        strip.i = i;
        strip.channels = source->channels - i;
        fill(m, rows, transform, &strip);
        float *out = to->out + i / to->width * to->group + i % to->width;
        for (size_t t = 0; t < run->count; t++, out += to->stride) {
#pragma GCC unroll 6
            for (int r = 0; r < n; r++) {
                vec v[MOST_N];
                transform(m, &strip.at[r][m * t], v);
#pragma GCC unroll 6
                for (int s = 0; s < n; s++)
                    store(out + (size_t)(r * n + s) * to->frequency, v[s]);
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
    struct place at = {.to = &f->to, .top = (size_t)m * run->row};
    at.rows = least((size_t)m, f->to.h - at.top);
    for (size_t i = 0; i < f->to.width; i += LANES) {
        at.i = i;
        at.channels = f->to.width - i;
        at.bias = f->to.bias ? load_some(f->to.bias + i, at.channels) : (vec){0};
        const float *in = f->in + i;
        for (size_t t = 0; t < run->count; t++, in += f->stride) {
            at.left = (size_t)m * (run->col + t);
            at.cols = least((size_t)m, f->to.w - at.left);
            if (at.channels >= LANES && at.rows == (size_t)m && at.cols == (size_t)m) {
                struct place full = at;
                full.rows = full.cols = (size_t)m;
                full.channels = LANES;
                finish_tile(m, pool, &full, in, f->frequency);
            } else {
                finish_tile(m, pool, &at, in, f->frequency);
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

const struct vgg__winograd_kernels VGG_WINOGRAD_KERNELS = {
    .window = window, .gradient = gradient, .finish = finish};
