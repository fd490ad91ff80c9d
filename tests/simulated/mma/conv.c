/* SPDX-License-Identifier: Apache-2.0 */
#include "conv.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>

struct vgg__conv_mma_args conv_make(struct conv_layer l)
{
    const size_t pixels = (size_t)l.n * l.h * l.w, out = l.pool ? pixels / 4 : pixels;
    struct vgg__conv_mma_args a = {
        .x = smalls(VGG__BF16, pixels * l.ic, 1, 2, 0.5f),
        .w = smalls(VGG__BF16, (size_t)l.oc * 9 * l.ic, 2, 3, 0.25f),
        .bias = smalls(VGG__F32, l.oc, 3, 9, 0.375f),
        .y = array(out * l.oc * 2),
        .winner = array(out * l.oc),
        .dy = smalls(VGG__BF16, out * l.oc, 4, 3, 0.5f),
        .dx = array(pixels * l.ic * 2),
        .n = l.n,
        .h = l.h,
        .wd = l.w,
        .ic = l.ic,
        .oc = l.oc,
        .relu = 1,
        .pool = l.pool,
    };
    for (size_t i = 0; i < out * l.oc; i++)
        a.winner[i] = (uint8_t)((int)small(5, i, 50, 1) & 3);
    return a;
}

void conv_run(enum vgg__conv_mma_what what, struct vgg__conv_mma_args *args)
{
    const size_t columns = (size_t)args->oc * 9 * args->ic + args->oc;
    if (what == VGG__CONV_MMA_WEIGHTS)
        args->partial = array(args->tile.blocks * columns * sizeof(float));
    launch(vgg__conv_mma_kernel(what, args), vgg__conv_mma_grid(what, args),
           vgg__conv_mma_shared(what, args), args);
}

static double pixel_of_x(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                         uint32_t c)
{
    if (y < 0 || y >= (int)a->h || x < 0 || x >= (int)a->wd) return 0;
    const size_t at = (((size_t)n * a->h + (size_t)y) * a->wd + (size_t)x) * a->ic + c;
    return (double)element(a->x, VGG__BF16, at);
}

static double weight(const struct vgg__conv_mma_args *a, uint32_t oc, int tap,
                     uint32_t ic)
{
    const size_t at = ((size_t)oc * 9 + (size_t)tap) * a->ic + ic;
    return (double)element(a->w, VGG__BF16, at);
}

double conv_sum(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                uint32_t oc)
{
    double sum = 0;
    for (int tap = 0; tap < 9; tap++)
        for (uint32_t c = 0; c < a->ic; c++)
            sum += pixel_of_x(a, n, y + tap / 3 - 1, x + tap % 3 - 1, c) *
                   weight(a, oc, tap, c);
    return sum;
}

double conv_gradient(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                     uint32_t oc)
{
    if (y < 0 || y >= (int)a->h || x < 0 || x >= (int)a->wd) return 0;
    const size_t scale = a->pool ? 2 : 1;
    const size_t row = (size_t)n * (a->h / scale) + (size_t)y / scale;
    const size_t at = (row * (a->wd / scale) + (size_t)x / scale) * a->oc + oc;
    if (a->pool && a->winner[at] != y % 2 * 2 + x % 2) return 0;
    return (double)element(a->dy, VGG__BF16, at);
}

static void same(const void *array, size_t at, float expected, const char *what)
{
    const uint16_t found = ((const uint16_t *)array)[at];
    if (isnan(expected) && isnan(bf16_value(found))) return;
    ck_assert_msg(found == bf16_of(expected), "%s %zu: %a, expected %a", what, at,
                  (double)bf16_value(found), (double)bf16_value(bf16_of(expected)));
}

static float activation(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                        uint32_t oc)
{
    float value = (float)conv_sum(a, n, y, x, oc);
    if (a->bias) value += a->bias[oc];
    return a->relu && value <= 0 ? 0 : value;
}

static void check_window(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                         uint32_t oc)
{
    float best = 0;
    uint8_t winner = 0;
    for (uint8_t i = 0; i < 4; i++) {
        const float value = activation(a, n, 2 * y + i / 2, 2 * x + i % 2, oc);
        if (i > 0 && !(value > best) && !isnan(value)) continue;
        best = value;
        winner = i;
    }
    const size_t row = (size_t)n * (a->h / 2) + (size_t)y;
    const size_t at = (row * (a->wd / 2) + (size_t)x) * a->oc + oc;
    same(a->y, at, best, "y");
    if (a->winner)
        ck_assert_msg(a->winner[at] == winner, "winner %zu: %u, expected %u", at,
                      a->winner[at], winner);
}

void conv_check_forward(const struct vgg__conv_mma_args *a)
{
    const int scale = a->pool ? 2 : 1;
    for (uint32_t n = 0; n < a->n; n++)
        for (int y = 0; y < (int)a->h / scale; y++)
            for (int x = 0; x < (int)a->wd / scale; x++)
                for (uint32_t c = 0; c < a->oc; c++) {
                    const size_t row = (size_t)n * a->h + (size_t)y;
                    const size_t at = (row * a->wd + (size_t)x) * a->oc + c;
                    if (a->pool)
                        check_window(a, n, y, x, c);
                    else
                        same(a->y, at, activation(a, n, y, x, c), "y");
                }
}

static float input_gradient(const struct vgg__conv_mma_args *a, uint32_t n, int y,
                            int x, uint32_t ic)
{
    double sum = 0;
    for (int tap = 0; tap < 9; tap++)
        for (uint32_t c = 0; c < a->oc; c++)
            sum += conv_gradient(a, n, y + 1 - tap / 3, x + 1 - tap % 3, c) *
                   weight(a, c, tap, ic);
    if (a->x && pixel_of_x(a, n, y, x, ic) <= 0) return 0;
    return (float)sum;
}

void conv_check_data(const struct vgg__conv_mma_args *a)
{
    for (uint32_t n = 0; n < a->n; n++)
        for (int y = 0; y < (int)a->h; y++)
            for (int x = 0; x < (int)a->wd; x++)
                for (uint32_t c = 0; c < a->ic; c++) {
                    const size_t row = (size_t)n * a->h + (size_t)y;
                    const size_t at = (row * a->wd + (size_t)x) * a->ic + c;
                    same(a->dx, at, input_gradient(a, n, y, x, c), "dx");
                }
}

/* The sum over all rows of what blocks have added up. */
static double partial_sum(const struct vgg__conv_mma_args *a, size_t column)
{
    const size_t columns = (size_t)a->oc * 9 * a->ic + a->oc;
    double sum = 0;
    for (size_t row = 0; row < a->tile.blocks; row++)
        sum += (double)a->partial[row * columns + column];
    return sum;
}

static void same_sum(const struct vgg__conv_mma_args *a, size_t column, double expected)
{
    const double found = partial_sum(a, column);
    if (isnan(expected) && isnan(found)) return;
    ck_assert_msg(found == expected, "sum %zu: %a, expected %a", column, found,
                  expected);
}

static void add_pixel(const struct vgg__conv_mma_args *a, uint32_t n, int y, int x,
                      double *sums)
{
    for (uint32_t oc = 0; oc < a->oc; oc++) {
        const double dz = conv_gradient(a, n, y, x, oc);
        sums[(size_t)a->oc * 9 * a->ic + oc] += dz;
        for (int tap = 0; tap < 9; tap++)
            for (uint32_t ic = 0; ic < a->ic; ic++)
                sums[(oc * 9 + (size_t)tap) * a->ic + ic] +=
                    dz * pixel_of_x(a, n, y + tap / 3 - 1, x + tap % 3 - 1, ic);
    }
}

void conv_check_weights(const struct vgg__conv_mma_args *a)
{
    const size_t columns = (size_t)a->oc * 9 * a->ic + a->oc;
    double *const sums = calloc(columns, sizeof *sums);
    ck_assert_ptr_nonnull(sums);
    for (uint32_t n = 0; n < a->n; n++)
        for (int y = 0; y < (int)a->h; y++)
            for (int x = 0; x < (int)a->wd; x++) add_pixel(a, n, y, x, sums);
    for (size_t i = 0; i < columns; i++) same_sum(a, i, sums[i]);
    free(sums);
}
