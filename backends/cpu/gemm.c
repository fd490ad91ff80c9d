/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products: the choice of the provider, and the driver of the own kernel.
 *
 * The kernel holds a block of C in registers over up to DEPTH steps of k and reads A
 * where it lies; B is read from panels, [n / cols][k][cols] with the last one padded by
 * zeros, so that its rows come from consecutive lines. Measured on a Zen 4, the kernel
 * reaches 99 % of the FMA peak with both operands in the second-level cache, so nothing
 * but k is blocked for a cache. An element of C is a sum over k in ascending order, cut
 * every DEPTH steps, whatever m and n are. */
#include "cpu/gemm.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/machine.h"

#define DEPTH     512 /* steps of k between two visits of C */
#define HEIGHT    168 /* rows of A that are copied at once; a multiple of 14 and of 6 */
#define MOST_ROWS 14
/* 16: rows of a copy must not fall on the same sets of the cache. */
#define COPY_ROW (DEPTH + 16)

_Static_assert(VGG__GEMM_SCRATCH == DEPTH * VGG__MOST_COLS + HEIGHT * COPY_ROW,
               "a panel of B and a block of A");

/* ---- Packing --------------------------------------------------------------- */

/* A panel's columns of b, `depth` rows from l0 on. */
static void pack_panel(const struct vgg__product *p, size_t l0, size_t depth,
                       const struct vgg__panel *panel)
{
    const size_t width = panel->width, row = panel->row;
    const float *b = p->b + l0 * p->b_row + panel->first * p->b_col;
    float *out = panel->out;
    for (size_t l = 0; l < depth && panel->zeros > 0; l++)
        memset(out + l * row + width, 0, panel->zeros * sizeof(float));
    if (p->b_col == 1) {
        for (size_t l = 0; l < depth; l++)
            memcpy(out + l * row, b + l * p->b_row, width * sizeof(float));
        return;
    }
    for (size_t l = 0; l < depth; l += 16) /* a cache line of each column at a time */
        for (size_t i = 0; i < width; i++) {
            const float *from = b + l * p->b_row + i * p->b_col;
            const size_t steps = vgg__size_min(16, depth - l);
            for (size_t s = 0; s < steps; s++)
                out[(l + s) * row + i] = from[s * p->b_row];
        }
}

size_t vgg__gemm_panels(const struct vgg__gemm *g, size_t n)
{
    return n / g->kernels->cols + (n % g->kernels->cols != 0);
}

size_t vgg__gemm_packed_count(const struct vgg__gemm *g, size_t k, size_t n)
{
    size_t count;
    if (!g->blas &&
        __builtin_mul_overflow(vgg__gemm_panels(g, n), g->kernels->cols, &n))
        return SIZE_MAX;
    return __builtin_mul_overflow(k, n, &count) ? SIZE_MAX : count;
}

/* OpenBLAS takes the plain row-major matrix: its panels lie side by side. */
struct vgg__panel vgg__gemm_panel(const struct vgg__gemm *g, size_t k, size_t n,
                                  size_t index, float *packed)
{
    const size_t cols = g->kernels->cols, first = index * cols;
    const size_t width = vgg__size_min(cols, n - first);
    if (g->blas) return (struct vgg__panel){first, width, packed + first, n, 0};
    return (struct vgg__panel){first, width, packed + first * k, cols, cols - width};
}

void vgg__gemm_pack(const struct vgg__gemm *g, const struct vgg__product *p,
                    size_t index, float *packed)
{
    const struct vgg__panel panel = vgg__gemm_panel(g, p->k, p->n, index, packed);
    pack_panel(p, 0, p->k, &panel);
}

/* ---- The own kernel -------------------------------------------------------- */

/* Rows of A at multiples of 4 KiB share a few sets of the first-level cache, and far
 * rows share a few entries of the TLB: such blocks are copied before use. */
static bool must_copy(const struct vgg__product *p)
{
    const size_t stride = p->a_col == 1 ? p->a_row : p->a_col;
    return stride % 1024 == 0 || stride > 8192;
}

/* Rows i0 .. of A, steps l0 .., to rows of their own; the strides are set in *t. */
static void take_a(const struct vgg__product *p, size_t i0, size_t height, size_t l0,
                   struct vgg__tile *t, float *copy)
{
    const float *a = p->a + i0 * p->a_row + l0 * p->a_col;
    t->a = a;
    t->a_row = p->a_row;
    t->a_col = p->a_col;
    if (!must_copy(p)) return;
    const bool rows = p->a_col == 1;
    const size_t lines = rows ? height : t->k, length = rows ? t->k : height;
    const size_t stride = rows ? p->a_row : p->a_col, row = rows ? COPY_ROW : height;
    for (size_t i = 0; i < lines; i++)
        memcpy(copy + i * row, a + i * stride, length * sizeof(float));
    t->a = copy;
    t->a_row = rows ? row : 1;
    t->a_col = rows ? 1 : row;
}

/* A block whose columns do not fill the vectors goes through a block of its own. */
static void edge_tile(const struct vgg__kernels *kernels, uint32_t rows, size_t width,
                      const struct vgg__tile *tile)
{
    float block[MOST_ROWS * VGG__MOST_COLS];
    struct vgg__tile t = *tile;
    t.c = block;
    t.c_row = kernels->cols;
    t.accumulate = false;
    t.descent = NULL;
    kernels->tile(rows, width > kernels->cols / 2, &t);
    for (uint32_t i = 0; i < rows; i++)
        for (size_t j = 0; j < width; j++) {
            float *c = tile->c + i * tile->c_row + j;
            float v = block[i * kernels->cols + j];
            if (tile->descent && tile->descent->decay != 0)
                v += tile->descent->decay * *c;
            if (tile->descent)
                *c -= tile->descent->rate * v;
            else
                *c = tile->accumulate ? *c + v : v;
        }
}

void vgg__gemm_tile(const struct vgg__kernels *kernels, uint32_t rows, size_t width,
                    const struct vgg__tile *tile)
{
    if (width == kernels->cols || width == kernels->cols / 2)
        kernels->tile(rows, width == kernels->cols, tile);
    else
        edge_tile(kernels, rows, width, tile);
}

void vgg__gemm_block(const struct vgg__kernels *kernels, size_t height, size_t width,
                     const struct vgg__tile *first)
{
    struct vgg__tile t = *first;
    const size_t blocks = (height + kernels->rows - 1) / kernels->rows;
    for (size_t block = 0, done = 0; block < blocks; block++) {
        const size_t until = height * (block + 1) / blocks;
        t.a = first->a + done * t.a_row;
        t.c = first->c + done * t.c_row;
        if (first->ahead_rows == 1) { /* each block its share */
            const size_t line = first->ahead_lines * block / blocks;
            t.ahead = first->ahead + 64 * line;
            t.ahead_lines =
                (uint32_t)(first->ahead_lines * (block + 1) / blocks - line);
        }
        vgg__gemm_tile(kernels, (uint32_t)(until - done), width, &t);
        done = until;
    }
}

static void run_own(const struct vgg__kernels *kernels, float *scratch,
                    const struct vgg__product *p)
{
    const uint32_t cols = kernels->cols;
    float *panel = scratch, *copy = scratch + DEPTH * VGG__MOST_COLS;
    const size_t height = must_copy(p) ? HEIGHT : p->m;
    const struct vgg__descent later = {/* decay counts once */
                                       .rate = p->descent ? p->descent->rate : 0};
    for (size_t l = 0; l < p->k; l += DEPTH) {
        struct vgg__tile t = {.k = vgg__size_min(DEPTH, p->k - l),
                              .c_row = p->c_row,
                              .accumulate = p->accumulate || l > 0,
                              .descent = l > 0 && p->descent ? &later : p->descent};
        for (size_t i = 0; i < p->m; i += height) {
            const size_t rows = vgg__size_min(height, p->m - i);
            take_a(p, i, rows, l, &t, copy);
            for (size_t j = 0; j < p->n; j += cols) {
                const size_t width = vgg__size_min(cols, p->n - j);
                t.b_row = cols;
                t.b = panel;
                if (p->packed) {
                    t.b = p->b + j * p->k + l * cols;
                } else if (p->b_col == 1 && p->b_row < 1024 &&
                           (width == cols || width == cols / 2)) {
                    t.b = p->b + l * p->b_row + j;
                    t.b_row = p->b_row;
                } else {
                    const struct vgg__panel to = {j, width, panel, cols, cols - width};
                    pack_panel(p, l, t.k, &to);
                }
                t.c = p->c + i * p->c_row + j;
                vgg__gemm_block(kernels, rows, width, &t);
            }
        }
    }
}

static void clear(const struct vgg__product *p)
{
    for (size_t i = 0; i < p->m && !p->accumulate; i++)
        memset(p->c + i * p->c_row, 0, p->n * sizeof(float));
}

/* ---- OpenBLAS -------------------------------------------------------------- */

/* Its integers have 32 bits. */
static bool fits(const struct vgg__product *p, size_t lda, size_t ldb)
{
    return p->m <= INT_MAX && p->n <= INT_MAX && p->k <= INT_MAX && lda <= INT_MAX &&
           ldb <= INT_MAX && p->c_row <= INT_MAX;
}

static float alpha_of(const struct vgg__product *p)
{
    return p->descent ? -p->descent->rate : 1.0f;
}

static float beta_of(const struct vgg__product *p)
{
    if (p->descent) return (float)(1 - (double)p->descent->rate * p->descent->decay);
    return p->accumulate ? 1.0f : 0.0f;
}

void vgg__gemm_run(const struct vgg__gemm *g, const struct vgg__product *p,
                   float *scratch)
{
    if (p->m == 0 || p->n == 0) return;
    if (p->k == 0) {
        clear(p);
        return;
    }
    const bool ta = p->a_col != 1, tb = !p->packed && p->b_col != 1;
    /* Of one row or column the stride says nothing, and may be less than BLAS asks. */
    const size_t lda = vgg__size_max(ta ? p->a_col : p->a_row, ta ? p->m : p->k);
    const size_t ldb = vgg__size_max(p->packed ? p->n
                                     : tb      ? p->b_col
                                               : p->b_row,
                                     tb ? p->k : p->n);
    if (g->blas && fits(p, lda, ldb)) {
        const struct vgg__blas_product b = {
            ta,   tb,       (int)p->m, (int)p->n,     (int)p->k,   p->a,      (int)lda,
            p->b, (int)ldb, p->c,      (int)p->c_row, alpha_of(p), beta_of(p)};
        vgg__blas_run(g->blas, &b);
        return;
    }
    struct vgg__product plain = *p;
    if (g->blas && p->packed) { /* packed for OpenBLAS: row-major */
        plain.packed = false;
        plain.b_row = p->n;
        plain.b_col = 1;
    }
    run_own(g->kernels, scratch, &plain);
}

/* ---- Choice ---------------------------------------------------------------- */

/* Own under auto: from AVX2 on the own kernel was ahead of OpenBLAS' best core at every
 * shape of a network that was measured, and a library that is not loaded can't
 * disturb its host. Below, OpenBLAS if it can be had. A fixed rule, never timed:
 * results must not change from run to run. */
static bool prefers_own(const struct vgg__gemm *g)
{
    return g->kernels->isa >= VGG_ISA_AVX2;
}

static vgg_status choose(const vgg_host *host, const struct vgg__gemm_options *options,
                         struct vgg__gemm *g)
{
    if (options->gemm == VGG_GEMM_OWN) {
        snprintf(g->text, sizeof(g->text), "gemm own (asked for)");
        return VGG_OK;
    }
    if (options->gemm == VGG_GEMM_AUTO && prefers_own(g)) {
        snprintf(g->text, sizeof(g->text), "gemm own (ahead of OpenBLAS with %s)",
                 vgg__isa_name(g->kernels->isa));
        return VGG_OK;
    }
    char text[VGG_BLAS_TEXT];
    const struct vgg__blas *blas = NULL;
    const vgg_status status =
        vgg__blas_take(options->library, options->blas, options->workers, &blas, text);
    if (blas == NULL && options->gemm == VGG_GEMM_OPENBLAS) {
        if (status == VGG_ENOMEM) return host->fail(VGG_ENOMEM, "%s", text);
        return host->fail(VGG_EDEVICE, "gemm openblas was asked for: %s", text);
    }
    if (blas == NULL)
        snprintf(g->text, sizeof(g->text), "gemm own (%s)", text);
    else
        snprintf(g->text, sizeof(g->text), "gemm %s", text);
    g->blas = blas;
    return VGG_OK;
}

vgg_status vgg__gemm_open(const vgg_host *host, const struct vgg__gemm_options *options,
                          struct vgg__gemm *out)
{
    struct vgg__gemm g = {.kernels = vgg__kernels_choose(options->most)};
    const vgg_status status = choose(host, options, &g);
    if (status == VGG_OK) *out = g;
    return status;
}

void vgg__gemm_close(struct vgg__gemm *gemm)
{
    if (gemm->blas != NULL) vgg__blas_leave(gemm->blas);
    *gemm = (struct vgg__gemm){0};
}
