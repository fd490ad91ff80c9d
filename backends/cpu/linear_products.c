/* SPDX-License-Identifier: Apache-2.0 */
/* The products of linear layers; see linear_products.h.
 *
 * Forward reads weights where they lie, in long runs of a few neighbouring rows, which
 * the processor's own look-ahead recognises; the kernel fetches what comes next as
 * well. bf16 is expanded to a small area. dx needs short pieces of many rows: a block
 * of weights is laid down in panels while the kernel works on the one before. dweight
 * reads and writes where the weights lie: the kernel asks for its block of C when it
 * begins, which is early enough, and fetches what all tasks take from the third-level
 * cache, the panels of x.
 *
 * An element of a result is a sum over k in ascending order, cut in the same places
 * whatever is computed beside it. */
#include "cpu/linear_products.h"

#define DEPTH          512        /* steps of k between two visits of y */
#define DEPTH_ROW      (512 + 16) /* rows must not fall on the same sets of the cache */
#define RESIDENT       (384 << 10) /* bytes of packed x that stay in the cache */
#define DX_PANELS      16          /* panels of inputs of a block of dx */
#define DX_DEPTH       128         /* outputs of one */
#define GRADIENTS      128         /* outputs of a task of dweight */
#define DWEIGHT_PANELS 8           /* panels of inputs that its rows meet in turn */
#define K_MOST         512         /* samples between two visits of a gradient */
#define NEAR_ROWS      8           /* rows of far ones that the cache holds at once */
#define MOST_COLS      32
#define MOST_ROWS      14

_Static_assert(VGG__LINEAR_SCRATCH == MOST_ROWS * DEPTH_ROW, "an area of weights");

static size_t up(size_t count, size_t unit)
{
    return (count + unit - 1) / unit;
}

/* ---- Sizes ----------------------------------------------------------------- */

/* Samples of a row of forward's result: whole panels, or half a one. */
static size_t padded(const struct vgg__gemm *g, size_t count)
{
    const size_t half = g->kernels->cols / 2;
    return vgg__size_mul(up(count, half), half);
}

size_t vgg__linear_scratch(const struct vgg__gemm *gemm, size_t count)
{
    const size_t out = vgg__size_mul(VGG__LINEAR_OUTPUTS, padded(gemm, count));
    const size_t forward = vgg__size_add(MOST_ROWS * DEPTH_ROW, vgg__cpu_floats(out));
    const size_t dx = 2 * DX_PANELS * DX_DEPTH * MOST_COLS;
    const size_t dweight = (GRADIENTS + MOST_ROWS) * vgg__size_min(count, K_MOST) * 2;
    const size_t backward = dx > dweight ? dx : dweight;
    return forward > backward ? forward : backward;
}

size_t vgg__linear_packed_x(const struct vgg__gemm *gemm, size_t count, size_t ins)
{
    const size_t cols = gemm->kernels->cols;
    const size_t forward = vgg__size_mul(vgg__size_mul(up(count, cols), cols), ins);
    const size_t dweight = vgg__size_mul(vgg__size_mul(up(ins, cols), cols), count);
    return vgg__cpu_floats(forward > dweight ? forward : dweight);
}

size_t vgg__linear_packed_dy(const struct vgg__gemm *gemm, size_t count, size_t outs)
{
    const size_t rows = gemm->kernels->rows;
    return vgg__cpu_floats(vgg__size_mul(vgg__size_mul(up(count, rows), rows), outs));
}

/* Rows at multiples of 4 KiB share a few sets of the first-level cache. */
static bool is_far(const struct vgg__linear *l)
{
    return l->ins % 1024 == 0;
}

/* ---- Forward --------------------------------------------------------------- */

size_t vgg__linear_forward_packs(const struct vgg__linear *l)
{
    return up(l->count, l->gemm->kernels->cols) * up(l->ins, DEPTH);
}

/* Panel [ins][cols] of x^T, DEPTH rows of it a task; zeros fill the last one up. */
void vgg__linear_forward_pack(const struct vgg__linear *l, const float *x, size_t task)
{
    const size_t cols = l->gemm->kernels->cols, parts = up(l->ins, DEPTH);
    const size_t first = task / parts * cols, begin = task % parts * DEPTH;
    const size_t end = vgg__size_min(begin + DEPTH, l->ins);
    const size_t width = vgg__size_min(cols, l->count - first);
    float *out = l->packed + first * l->ins;
    for (size_t i = begin; i < end; i += 16) /* a line of each sample at a time */
        for (size_t n = 0; n < cols; n++) {
            const float *from = x + (first + n) * l->ins;
            const size_t until = vgg__size_min(i + 16, end);
            for (size_t j = i; j < until; j++)
                out[j * cols + n] = n < width ? from[j] : 0;
        }
}

/* Where forward is: rows of a block of the weights, DEPTH columns of them. */
struct place {
    size_t row, rows; /* of all weights */
    size_t l;         /* column */
};

/* A task of forward: rows first .. end in blocks, columns in ranges of `range`. */
struct walk {
    size_t first, end, blocks, range;
};

static struct walk walk_of(const struct vgg__linear *l, size_t task)
{
    const size_t height = l->half || !is_far(l)
                              ? l->gemm->kernels->rows
                              : vgg__size_min(NEAR_ROWS, l->gemm->kernels->rows);
    const size_t resident = RESIDENT / sizeof(float) / padded(l->gemm, l->count);
    struct walk w = {.first = task * VGG__LINEAR_OUTPUTS};
    w.end = vgg__size_min(w.first + VGG__LINEAR_OUTPUTS, l->outs);
    w.blocks = up(w.end - w.first, height);
    w.range = resident < DEPTH ? DEPTH : resident / DEPTH * DEPTH;
    return w;
}

static void set_block(const struct walk *w, size_t block, struct place *at)
{
    at->row = w->first + vgg__cpu_part(w->end - w->first, block, w->blocks);
    at->rows =
        w->first + vgg__cpu_part(w->end - w->first, block + 1, w->blocks) - at->row;
}

/* What comes after column l of a block: the columns behind it, else the next block's
 * first ones in this range, else the next range's of the first block. */
static struct place after(const struct vgg__linear *l, const struct walk *w,
                          size_t block, size_t at)
{
    struct place next = {.l = at + DEPTH};
    const size_t from = at / w->range * w->range;
    if (next.l == from + w->range || next.l >= l->ins) {
        next.l = block + 1 < w->blocks ? from : from + w->range;
        block = block + 1 < w->blocks ? block + 1 : 0;
    }
    set_block(w, block, &next);
    if (next.l >= l->ins) next.rows = 0;
    return next;
}

static const char *weights_at(const struct vgg__linear *l, const struct place *at,
                              size_t *row)
{
    const struct vgg__linear_kernels *kernels = l->gemm->kernels->linear;
    *row = l->half ? vgg__bf16_row(kernels, l->ins) : l->ins * sizeof(float);
    return (const char *)l->w + at->row * *row + at->l * (l->half ? 2 : sizeof(float));
}

/* The weights of a place by all samples, while those of the next are fetched. */
static void forward_tiles(const struct vgg__linear *l, const struct place *at,
                          const struct place *next, float *out, float *area)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols, row = padded(l->gemm, l->count);
    const size_t panels = up(row, cols);
    struct vgg__tile t = {.k = vgg__size_min(DEPTH, l->ins - at->l),
                          .a_row = l->ins,
                          .a_col = 1,
                          .b_row = cols,
                          .c_row = row,
                          .accumulate = at->l > 0};
    size_t bytes; /* of a row */
    const char *w = weights_at(l, at, &bytes), *ahead = weights_at(l, next, &bytes);
    t.a = (const float *)w;
    if (l->half) {
        const struct vgg__slice piece = {.w = w,
                                         .w_row = bytes,
                                         .rows = at->rows,
                                         .width = t.k,
                                         .out = area,
                                         .out_row = DEPTH_ROW,
                                         .segment = t.k};
        kernels->linear->lay_bf16(&piece);
        t.a = area;
        t.a_row = DEPTH_ROW;
    }
    t.ahead_row = bytes;
    t.ahead_lines =
        (uint32_t)up(vgg__size_min(DEPTH, l->ins - next->l), l->half ? 32 : 16);
    for (size_t p = 0; p < panels; p++) {
        const size_t begin = vgg__cpu_part(next->rows, p, panels);
        t.ahead = ahead + begin * bytes;
        t.ahead_rows = (uint32_t)(vgg__cpu_part(next->rows, p + 1, panels) - begin);
        t.b = l->packed + p * cols * l->ins + at->l * cols;
        t.c = out + p * cols;
        kernels->tile((uint32_t)at->rows, row - p * cols >= cols, &t);
    }
}

const float *vgg__linear_forward_task(const struct vgg__linear *l, size_t task,
                                      uint32_t worker, size_t *stride)
{
    float *area = l->workers + worker * l->worker_floats;
    float *out = area + MOST_ROWS * DEPTH_ROW;
    const struct walk w = walk_of(l, task);
    *stride = padded(l->gemm, l->count);
    for (size_t from = 0; from < l->ins; from += w.range)
        for (size_t block = 0; block < w.blocks; block++) {
            const size_t to = vgg__size_min(from + w.range, l->ins);
            struct place at;
            set_block(&w, block, &at);
            for (at.l = from; at.l < to; at.l += DEPTH) {
                const struct place next = after(l, &w, block, at.l);
                forward_tiles(l, &at, &next, out + (at.row - w.first) * *stride, area);
            }
        }
    return out;
}

/* ---- dx -------------------------------------------------------------------- */

/* Outputs of a task that packs dy. */
#define DX_PACK 256

size_t vgg__linear_dx_packs(const struct vgg__linear *l)
{
    return up(l->outs, DX_PACK);
}

/* Blocks [outs][rows] of about equal numbers of samples; DX_PACK outputs of all. */
void vgg__linear_dx_pack(const struct vgg__linear *l, const float *dy, size_t task)
{
    const size_t rows = l->gemm->kernels->rows, blocks = up(l->count, rows);
    const size_t begin = task * DX_PACK;
    const size_t end = vgg__size_min(begin + DX_PACK, l->outs);
    for (size_t b = 0; b < blocks; b++) {
        float *out = l->packed + b * rows * l->outs;
        const size_t first = vgg__cpu_part(l->count, b, blocks);
        const size_t height = vgg__cpu_part(l->count, b + 1, blocks) - first;
        for (size_t o = begin; o < end; o++)
            for (size_t i = 0; i < height; i++)
                out[o * rows + i] = dy[(first + i) * l->outs + o];
    }
}

/* As many strips as can be shared out evenly, none wider than DX_PANELS. */
size_t vgg__linear_dx_tasks(const struct vgg__linear *l)
{
    const size_t panels = up(l->ins, l->gemm->kernels->cols);
    const size_t strips = up(panels, DX_PANELS), even = up(strips, 8) * 8;
    return even <= panels ? even : strips;
}

/* A block of the weights on its way into panels [outputs][cols], by pieces: each call
 * of the kernel fetches a piece from memory, which is laid down after the next call. So
 * memory is never waited for, and never asked for all at once. */
struct delivery {
    const struct vgg__linear_kernels *kernels;
    struct vgg__slice block; /* all of its rows */
    size_t calls, call;      /* of the kernel meanwhile */
};

/* The rows of piece `i`; none behind the last. */
static struct vgg__slice piece_of(const struct delivery *d, size_t i)
{
    struct vgg__slice piece = d->block;
    const size_t begin = vgg__cpu_part(d->block.rows, i, d->calls);
    piece.rows =
        i < d->calls ? vgg__cpu_part(d->block.rows, i + 1, d->calls) - begin : 0;
    piece.w = (const char *)piece.w + begin * piece.w_row;
    piece.out += begin * piece.out_row;
    return piece;
}

/* Before a call: it shall fetch the piece behind the one that is laid down after it. */
static void fetch_piece(const struct delivery *d, struct vgg__tile *tile)
{
    const struct vgg__slice piece = piece_of(d, d->call + 1);
    tile->ahead = piece.w;
    tile->ahead_row = piece.w_row;
    tile->ahead_rows = (uint32_t)piece.rows;
    tile->ahead_lines = (uint32_t)up(piece.width, 16);
}

static void lay_piece(struct delivery *d)
{
    const struct vgg__slice piece = piece_of(d, d->call++);
    if (piece.rows > 0) d->kernels->lay(&piece);
}

/* Columns `first` .. first + width of the weights, outputs from `o` on. */
static struct vgg__slice dx_block(const struct vgg__linear *l, size_t first,
                                  size_t width, size_t o, float *to)
{
    const size_t cols = l->gemm->kernels->cols;
    return (struct vgg__slice){.w = (const float *)l->w + o * l->ins + first,
                               .w_row = l->ins * sizeof(float),
                               .rows = vgg__size_min(DX_DEPTH, l->outs - o),
                               .width = width,
                               .out = to,
                               .out_row = cols,
                               .segment = cols,
                               .segment_size = DX_DEPTH * cols};
}

/* A block of weights, laid down, by all samples, while the next comes in. */
static void dx_tiles(const struct vgg__linear *l, const struct vgg__slice *block,
                     size_t o, float *dx, struct delivery *next)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols, rows = kernels->rows;
    const size_t blocks = up(l->count, rows);
    struct vgg__tile t = {.k = block->rows,
                          .a_row = 1,
                          .a_col = rows,
                          .b_row = cols,
                          .c_row = l->ins,
                          .accumulate = o > 0};
    for (size_t j = 0; j < block->width; j += cols)
        for (size_t b = 0; b < blocks; b++) {
            const size_t begin = vgg__cpu_part(l->count, b, blocks);
            const size_t end = vgg__cpu_part(l->count, b + 1, blocks);
            t.a = l->packed + (b * l->outs + o) * rows;
            t.b = block->out + j / cols * block->segment_size;
            t.c = dx + begin * l->ins + j;
            fetch_piece(next, &t);
            vgg__gemm_tile(kernels, (uint32_t)(end - begin),
                           vgg__size_min(cols, block->width - j), &t);
            lay_piece(next);
        }
}

void vgg__linear_dx_task(const struct vgg__linear *l, float *dx, size_t task,
                         uint32_t worker)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t panels = up(l->ins, kernels->cols), tasks = vgg__linear_dx_tasks(l);
    const size_t first = vgg__cpu_part(panels, task, tasks) * kernels->cols;
    const size_t end = vgg__cpu_part(panels, task + 1, tasks) * kernels->cols;
    const size_t width = vgg__size_min(end, l->ins) - first;
    float *blocks = l->workers + worker * l->worker_floats;
    struct delivery next = {.kernels = kernels->linear};
    next.block = dx_block(l, first, width, 0, blocks);
    next.calls = up(width, kernels->cols) * up(l->count, kernels->rows);
    next.kernels->lay(&next.block);
    for (size_t o = 0, turn = 0; o < l->outs; o += DX_DEPTH) {
        const struct vgg__slice block = next.block;
        turn ^= DX_PANELS * DX_DEPTH * MOST_COLS;
        if (o + DX_DEPTH < l->outs)
            next.block = dx_block(l, first, width, o + DX_DEPTH, blocks + turn);
        else
            next.block.rows = 0;
        next.call = 0;
        dx_tiles(l, &block, o, dx + first, &next);
    }
}

/* ---- dweight --------------------------------------------------------------- */

size_t vgg__linear_dweight_packs(const struct vgg__linear *l)
{
    return up(l->ins, l->gemm->kernels->cols);
}

/* Panel [n][cols] of x. */
void vgg__linear_dweight_pack(const struct vgg__linear *l, const float *x, size_t task)
{
    const size_t cols = l->gemm->kernels->cols, first = task * cols;
    const struct vgg__slice panel = {.w = x + first,
                                     .w_row = l->ins * sizeof(float),
                                     .rows = l->count,
                                     .width = vgg__size_min(cols, l->ins - first),
                                     .out = l->packed + first * l->count,
                                     .out_row = cols,
                                     .segment = cols};
    l->gemm->kernels->linear->lay(&panel);
}

size_t vgg__linear_dweight_tasks(const struct vgg__linear *l)
{
    return up(l->outs, GRADIENTS);
}

/* What a task of dweight has in hand: outputs first .. , samples n .. n + k. */
struct strip {
    size_t first, outs, n, k;
    float *dy; /* [block][k][rows] */
    float *dw; /* of output `first` */
};

static void take_dy(const struct vgg__linear *l, const float *dy, const struct strip *s)
{
    const size_t rows = l->gemm->kernels->rows, blocks = up(s->outs, rows);
    for (size_t b = 0; b < blocks; b++) {
        const size_t begin = vgg__cpu_part(s->outs, b, blocks);
        const size_t height = vgg__cpu_part(s->outs, b + 1, blocks) - begin;
        for (size_t n = 0; n < s->k; n++)
            for (size_t i = 0; i < height; i++)
                s->dy[(b * s->k + n) * rows + i] =
                    dy[(s->n + n) * l->outs + s->first + begin + i];
    }
}

/* The kernel shall fetch part `part` of `parts` of these floats. */
static void fetch_floats(const float *from, size_t count, size_t part, size_t parts,
                         struct vgg__tile *tile)
{
    const size_t lines = up(count, 16), first = vgg__cpu_part(lines, part, parts);
    tile->ahead = (const char *)(from + 16 * first);
    tile->ahead_rows = 1;
    tile->ahead_lines = (uint32_t)(vgg__cpu_part(lines, part + 1, parts) - first);
}

/* A strip's columns from j on, some panels of them; meanwhile the next panels of x are
 * fetched. */
static void dweight_tiles(const struct vgg__linear *l, const struct strip *s, size_t j,
                          const struct vgg__tile *like)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols, width = DWEIGHT_PANELS * cols;
    const size_t to = vgg__size_min(j + width, l->ins);
    const size_t blocks = up(s->outs, kernels->rows);
    for (size_t b = 0; b < blocks; b++) {
        const size_t begin = vgg__cpu_part(s->outs, b, blocks);
        const size_t end = vgg__cpu_part(s->outs, b + 1, blocks);
        for (size_t at = j; at < to; at += cols) {
            struct vgg__tile t = *like;
            t.a = s->dy + b * s->k * kernels->rows;
            t.b = l->packed + at * l->count + s->n * cols;
            t.c = s->dw + begin * l->ins + at;
            if (at + width < l->ins)
                fetch_floats(t.b + width * l->count, s->k * cols, b, blocks, &t);
            vgg__gemm_tile(kernels, (uint32_t)(end - begin),
                           vgg__size_min(cols, l->ins - at), &t);
        }
    }
}

void vgg__linear_dweight_task(const struct vgg__linear *l,
                              const struct vgg__linear_target *target, size_t task,
                              uint32_t worker)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols;
    struct strip s = {.first = task * GRADIENTS,
                      .dy = l->workers + worker * l->worker_floats};
    struct vgg__descent later; /* decay counts once */
    s.outs = vgg__size_min(GRADIENTS, l->outs - s.first);
    s.dw = target->dw + s.first * l->ins;
    struct vgg__tile t = {.a_row = 1,
                          .a_col = kernels->rows,
                          .b_row = cols,
                          .c_row = l->ins,
                          .accumulate = true,
                          .descent = target->descent};
    for (s.n = 0; s.n < l->count; s.n += K_MOST) {
        s.k = t.k = vgg__size_min(K_MOST, l->count - s.n);
        take_dy(l, target->dy, &s);
        for (size_t j = 0; j < l->ins; j += DWEIGHT_PANELS * cols)
            dweight_tiles(l, &s, j, &t);
        if (t.descent) {
            later = (struct vgg__descent){.rate = target->descent->rate};
            t.descent = &later;
        }
    }
}
