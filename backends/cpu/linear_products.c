/* SPDX-License-Identifier: Apache-2.0 */
/* The products of linear layers; see linear_products.h.
 *
 * Forward and dx read the weights block by block. A block is laid down anew, small
 * enough to stay in the cache and free of its strides; while the kernel works on one,
 * the next is brought in by pieces: each call of the kernel fetches a piece from
 * memory, which is laid down after the next call. So memory is never waited for, and
 * never asked for all at once. dweight reads and writes where the weights lie, and
 * fetches a few blocks ahead.
 *
 * An element of a result is a sum over k in ascending order, cut in the same places
 * whatever is computed beside it. */
#include "cpu/linear_products.h"

#define DEPTH     512         /* steps of k of a forward block */
#define DEPTH_ROW (512 + 16)  /* rows must not fall on the same sets of the cache */
#define DX_DEPTH  256         /* outputs of a block of dx */
#define DX_PANELS 8           /* panels of inputs of a block of dx */
#define GRADIENTS 128         /* outputs of a task of dweight */
#define K_MOST    512         /* samples between two visits of a gradient */
#define RESIDENT  (384 << 10) /* bytes of packed x that stay in the cache */
#define FAR       512         /* steps of the kernel that memory takes to answer */
#define MOST_COLS 32
#define MOST_ROWS 14

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
    const size_t forward =
        vgg__size_add(2 * VGG__LINEAR_OUTPUTS * DEPTH_ROW, vgg__cpu_floats(out));
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

/* ---- Bringing in weights --------------------------------------------------- */

/* A block of the weights on its way, a piece a call of the kernel. */
struct delivery {
    const struct vgg__linear_kernels *kernels;
    struct vgg__piece block; /* all of its rows */
    bool half;
    size_t calls, call; /* of the kernel meanwhile */
};

/* The rows of piece `i`; none behind the last. */
static struct vgg__piece piece_of(const struct delivery *d, size_t i)
{
    struct vgg__piece piece = d->block;
    if (i >= d->calls) {
        piece.rows = 0;
        return piece;
    }
    const size_t begin = vgg__cpu_part(d->block.rows, i, d->calls);
    piece.rows = vgg__cpu_part(d->block.rows, i + 1, d->calls) - begin;
    piece.w = (const char *)piece.w + begin * piece.w_row;
    piece.out += begin * piece.out_row;
    return piece;
}

static void lay(const struct delivery *d, const struct vgg__piece *piece)
{
    if (piece->rows == 0) return;
    (d->half ? d->kernels->lay_bf16 : d->kernels->lay)(piece);
}

/* Before a call of the kernel: it shall fetch the piece behind the one that is laid
 * down after it. */
static void fetch_next(const struct delivery *d, struct vgg__tile *tile)
{
    const struct vgg__piece piece = piece_of(d, d->call + 1);
    tile->ahead = piece.w;
    tile->ahead_row = piece.w_row;
    tile->ahead_rows = (uint32_t)piece.rows;
    tile->ahead_lines = (uint32_t)up(piece.width, d->half ? 32 : 16);
}

static void lay_next(struct delivery *d)
{
    const struct vgg__piece piece = piece_of(d, d->call++);
    lay(d, &piece);
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

/* Where depth l0 of the rows from `first` on lies, and where it goes. */
static struct vgg__piece forward_block(const struct vgg__linear *l, size_t first,
                                       size_t l0, float *to)
{
    const struct vgg__linear_kernels *kernels = l->gemm->kernels->linear;
    const size_t row =
        l->half ? vgg__bf16_row(kernels, l->ins) : l->ins * sizeof(float);
    const size_t depth = vgg__size_min(DEPTH, l->ins - l0);
    return (struct vgg__piece){
        .w = (const char *)l->w + first * row + l0 * (l->half ? 2 : sizeof(float)),
        .w_row = row,
        .rows = vgg__size_min(VGG__LINEAR_OUTPUTS, l->outs - first),
        .width = depth,
        .out = to,
        .out_row = DEPTH_ROW,
        .segment = depth,
        .segment_size = depth};
}

/* A block of weights, laid down, by all samples. */
static void forward_tiles(const struct vgg__linear *l, const struct vgg__piece *block,
                          size_t l0, float *out, struct delivery *next)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols, row = padded(l->gemm, l->count);
    const size_t blocks = up(block->rows, kernels->rows);
    struct vgg__tile t = {.k = block->width,
                          .a_row = DEPTH_ROW,
                          .a_col = 1,
                          .b_row = cols,
                          .c_row = row,
                          .accumulate = l0 > 0};
    for (size_t n = 0; n < row; n += cols)
        for (size_t i = 0; i < blocks; i++) {
            const size_t begin = vgg__cpu_part(block->rows, i, blocks);
            const size_t end = vgg__cpu_part(block->rows, i + 1, blocks);
            t.a = block->out + begin * DEPTH_ROW;
            t.b = l->packed + n * l->ins + l0 * cols;
            t.c = out + begin * row + n;
            fetch_next(next, &t);
            kernels->tile((uint32_t)(end - begin), row - n >= cols, &t);
            lay_next(next);
        }
}

const float *vgg__linear_forward_task(const struct vgg__linear *l, size_t task,
                                      uint32_t worker, size_t *stride)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t first = task * VGG__LINEAR_OUTPUTS;
    float *blocks = l->workers + worker * l->worker_floats;
    float *out = blocks + 2 * VGG__LINEAR_OUTPUTS * DEPTH_ROW;
    *stride = padded(l->gemm, l->count);
    struct delivery next = {.kernels = kernels->linear, .half = l->half};
    next.block = forward_block(l, first, 0, blocks);
    next.calls = up(*stride, kernels->cols) * up(next.block.rows, kernels->rows);
    lay(&next, &next.block);
    for (size_t l0 = 0, turn = 0; l0 < l->ins; l0 += DEPTH) {
        const struct vgg__piece block = next.block;
        turn ^= VGG__LINEAR_OUTPUTS * DEPTH_ROW;
        if (l0 + DEPTH < l->ins)
            next.block = forward_block(l, first, l0 + DEPTH, blocks + turn);
        else
            next.block.rows = 0;
        next.call = 0;
        forward_tiles(l, &block, l0, out, &next);
    }
    return out;
}

/* ---- dx -------------------------------------------------------------------- */

size_t vgg__linear_dx_packs(const struct vgg__linear *l)
{
    return up(l->outs, DX_DEPTH);
}

/* Blocks [outs][rows] of about equal numbers of samples; DX_DEPTH outputs of all. */
void vgg__linear_dx_pack(const struct vgg__linear *l, const float *dy, size_t task)
{
    const size_t rows = l->gemm->kernels->rows, blocks = up(l->count, rows);
    const size_t begin = task * DX_DEPTH;
    const size_t end = vgg__size_min(begin + DX_DEPTH, l->outs);
    for (size_t b = 0; b < blocks; b++) {
        float *out = l->packed + b * rows * l->outs;
        const size_t first = vgg__cpu_part(l->count, b, blocks);
        const size_t height = vgg__cpu_part(l->count, b + 1, blocks) - first;
        for (size_t o = begin; o < end; o++)
            for (size_t i = 0; i < height; i++)
                out[o * rows + i] = dy[(first + i) * l->outs + o];
    }
}

/* As many strips as can be shared out evenly, none wider than a block. */
size_t vgg__linear_dx_tasks(const struct vgg__linear *l)
{
    const size_t panels = up(l->ins, l->gemm->kernels->cols);
    const size_t strips = up(panels, DX_PANELS), even = up(strips, 8) * 8;
    return even <= panels ? even : strips;
}

static struct vgg__piece dx_block(const struct vgg__linear *l, size_t first,
                                  size_t width, size_t o, float *to)
{
    const size_t cols = l->gemm->kernels->cols;
    const size_t row = l->ins * sizeof(float);
    return (struct vgg__piece){.w =
                                   (const char *)l->w + o * row + first * sizeof(float),
                               .w_row = row,
                               .rows = vgg__size_min(DX_DEPTH, l->outs - o),
                               .width = width,
                               .out = to,
                               .out_row = cols,
                               .segment = cols,
                               .segment_size = DX_DEPTH * cols};
}

static void dx_tiles(const struct vgg__linear *l, const struct vgg__piece *block,
                     size_t o, float *dx, struct delivery *next)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols, rows = kernels->rows,
                 blocks = up(l->count, rows);
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
            fetch_next(next, &t);
            vgg__gemm_tile(kernels, (uint32_t)(end - begin),
                           vgg__size_min(cols, block->width - j), &t);
            lay_next(next);
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
    lay(&next, &next.block);
    for (size_t o = 0, turn = 0; o < l->outs; o += DX_DEPTH) {
        const struct vgg__piece block = next.block;
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
    const struct vgg__piece panel = {.w = x + first,
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

/* What a task of dweight has in hand: outputs first .. , samples n .. n + k, columns
 * from .. to. */
struct strip {
    size_t first, outs, n, k, from, to;
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

/* Rows of block `b` of a strip: *height of them, from its row `begin` on. */
static size_t strip_rows(const struct vgg__linear *l, const struct strip *s, size_t b,
                         uint32_t *height)
{
    const size_t blocks = up(s->outs, l->gemm->kernels->rows);
    const size_t begin = vgg__cpu_part(s->outs, b, blocks);
    *height =
        b < blocks ? (uint32_t)(vgg__cpu_part(s->outs, b + 1, blocks) - begin) : 0;
    return begin;
}

/* What will be computed FAR steps after column j of block b: of the same rows, else
 * from the next ones' beginning on. */
static void fetch_far(const struct vgg__linear *l, const struct strip *s, size_t b,
                      size_t j, struct vgg__tile *t)
{
    size_t at = j + up(FAR, s->k) * l->gemm->kernels->cols;
    if (at >= s->to) {
        at = s->from + vgg__size_min(at - s->to, s->to - s->from - 1);
        b++;
    }
    const size_t begin = strip_rows(l, s, b, &t->ahead_rows);
    t->ahead = (const char *)(s->dw + begin * l->ins + at);
}

/* Row block `b` of a strip. */
static void dweight_row(const struct vgg__linear *l, const struct strip *s, size_t b,
                        const struct vgg__tile *like)
{
    const struct vgg__kernels *kernels = l->gemm->kernels;
    const size_t cols = kernels->cols;
    struct vgg__tile t = *like;
    uint32_t height;
    const size_t begin = strip_rows(l, s, b, &height);
    t.a = s->dy + b * s->k * kernels->rows;
    for (size_t j = s->from; j < s->to; j += cols) {
        t.b = l->packed + j * l->count + s->n * cols;
        t.c = s->dw + begin * l->ins + j;
        fetch_far(l, s, b, j, &t);
        vgg__gemm_tile(kernels, height, vgg__size_min(cols, l->ins - j), &t);
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
                          .descent = target->descent,
                          .ahead_row = l->ins * sizeof(float),
                          .ahead_lines = (uint32_t)(cols * sizeof(float) / 64)};
    for (s.n = 0; s.n < l->count; s.n += K_MOST) {
        s.k = t.k = vgg__size_min(K_MOST, l->count - s.n);
        take_dy(l, target->dy, &s);
        const size_t chunk = up(RESIDENT / sizeof(float) / s.k, cols) * cols;
        for (s.from = 0; s.from < l->ins; s.from = s.to) {
            s.to = vgg__size_min(s.from + chunk, l->ins);
            for (size_t b = 0; b < up(s.outs, kernels->rows); b++)
                dweight_row(l, &s, b, &t);
        }
        if (t.descent) {
            later = (struct vgg__descent){.rate = target->descent->rate};
            t.descent = &later;
        }
    }
}
