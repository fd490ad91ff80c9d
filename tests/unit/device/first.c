/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of a network's first convolution at every instruction set that this
 * machine runs, against plain sums in double; all numbers are small and whole, so that
 * results are exact. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/first.h"
#include "maps.h"

/* Odd and even, smaller than a block of pixels and larger. */
static const size_t maps[][2] = {{1, 1}, {2, 2}, {3, 5}, {4, 8}, {5, 3}, {2, 11}};
enum { MAPS = sizeof(maps) / sizeof(maps[0]) };

/* A map's rows y - 1 .. y + 2 with their margins, as struct vgg__first has them. */
struct strip {
    struct vgg__first first;
    float *rows;
};

static struct strip strip_create(const struct vgg__source *x, size_t y)
{
    const size_t block = VGG__FIRST_BLOCK, ic = x->c;
    struct strip strip = {
        .first = {
            .row = ((x->w + block - 1) / block * block + 2) * ic, .ic = ic, .y = y}};
    const size_t pixels = strip.first.row / ic;
    strip.rows = malloc(4 * strip.first.row * sizeof(float));
    for (size_t r = 0; r < 4; r++)
        for (size_t s = 0; s < pixels; s++)
            for (size_t i = 0; i < ic; i++)
                strip.rows[(r * pixels + s) * ic + i] =
                    (float)map_pixel(x, i, (ptrdiff_t)(y + r) - 1, (ptrdiff_t)s - 1);
    strip.first.x = strip.rows;
    return strip;
}

/* ---- Forward --------------------------------------------------------------- */

/* [kh][kw][ic][w_row]: zeros up to a full vector, behind it what is not to be read. */
static float *draw_weight(size_t ic, size_t width, size_t lanes, size_t w_row)
{
    float *weight = malloc(9 * ic * w_row * sizeof(float));
    const size_t full = (width + lanes - 1) / lanes * lanes;
    for (size_t i = 0; i < 9 * ic * w_row; i++) {
        const size_t o = i % w_row;
        weight[i] = o < width ? map_draw(false) : o < full ? 0 : NAN;
    }
    return weight;
}

/* Sums of the two rows, from the definition of a convolution. */
static void sum_rows(const struct vgg__source *x, size_t y, const float *weight,
                     size_t w_row, const struct map_output *out, double *sums)
{
    const size_t width = out->to.width;
    for (size_t r = y; r < y + 2 && r < x->h; r++)
        for (size_t s = 0; s < x->w; s++)
            for (size_t o = 0; o < width; o++) {
                double sum = 0;
                for (size_t t = 0; t < 9; t++)
                    for (size_t i = 0; i < x->c; i++)
                        sum += map_pixel(x, i, (ptrdiff_t)(r + t / 3) - 1,
                                         (ptrdiff_t)(s + t % 3) - 1) *
                               weight[(t * x->c + i) * w_row + o];
                sums[(r * x->w + s) * width + o] = sum;
            }
}

static void check_forward(const struct vgg__kernels *kernels, const size_t hwc[3],
                          struct map_output *out, bool wild)
{
    const size_t lanes = kernels->cols / 2, width = out->to.width;
    const size_t w_row = (width + lanes - 1) / lanes * lanes + width % 3;
    struct map map = map_create(VGG__PLAIN, hwc, wild);
    float *weight = draw_weight(hwc[2], width, lanes, w_row);
    double *sums = malloc(hwc[0] * hwc[1] * width * sizeof *sums);
    for (size_t y = 0; y < hwc[0]; y += 2) {
        struct strip strip = strip_create(&map.source, y);
        const struct map_part part = {y, 0, y + 2, hwc[1]};
        sum_rows(&map.source, y, weight, w_row, out, sums);
        map_output_expect(out, &part, sums);
        kernels->first->forward(&strip.first, weight, w_row, &out->to);
        map_output_check(out);
        free(strip.rows);
    }
    free(sums);
    free(weight);
    map_free(&map);
}

/* Every width of a panel's channels, in maps with others beside them. */
START_TEST(test_forward)
{
    const struct vgg__kernels *kernels = map_kernels(_i);
    size_t ties = 0, zeros = 0;
    map_seed(3);
    if (kernels == NULL) return;
    for (size_t ic = 1; ic <= VGG__FIRST_CHANNELS; ic++)
        for (uint32_t pool = VGG_NO_POOL; pool <= VGG_AVERAGE_POOL; pool++)
            for (size_t width = 1; width <= kernels->cols; width++)
                for (int way = 0; way < 8; way++) {
                    const size_t *map = maps[((size_t)way + width) % MAPS];
                    const size_t in[] = {map[0], map[1], ic};
                    const size_t hwc[] = {map[0], map[1], width + width % 5};
                    struct map_output out =
                        map_output_create(pool, hwc, width % 5 / 2, width, way);
                    check_forward(kernels, in, &out, width % 3 == 0);
                    ties += out.ties;
                    zeros += out.zeros;
                    map_output_free(&out);
                }
    ck_assert_uint_gt(ties, 100);
    ck_assert_uint_gt(zeros, 100);
}
END_TEST

/* ---- Gradients of the weights ---------------------------------------------- */

/* Line `line` of the sums: a tap and an input channel, or dY itself. */
static double line_of(const struct vgg__source *x, const struct vgg__source *dy,
                      size_t y, size_t line, size_t o)
{
    double sum = 0;
    for (size_t r = y; r < y + 2; r++)
        for (size_t s = 0; s < x->w; s++) {
            const double d = map_pixel(dy, o, (ptrdiff_t)r, (ptrdiff_t)s);
            const size_t tap = line / x->c;
            sum += tap == 9
                       ? d
                       : d * map_pixel(x, line % x->c, (ptrdiff_t)(r + tap / 3) - 1,
                                       (ptrdiff_t)(s + tap % 3) - 1);
        }
    return sum;
}

static void check_pair(const struct vgg__kernels *kernels, const struct vgg__source *x,
                       const struct vgg__source *dy, size_t y)
{
    const size_t lanes = kernels->cols / 2, count = (9 * x->c + 1) * lanes;
    struct strip strip = strip_create(x, y);
    float *sums = map_guards(count), *want = map_guards(count);
    for (size_t i = 0; i < count; i++)
        want[i] = i % lanes < dy->channels
                      ? (float)line_of(x, dy, y, i / lanes, i % lanes)
                      : 0;
    kernels->first->weights(&strip.first, dy, sums);
    map_same("sums", sums, want, count);
    free(strip.rows);
    free(sums);
    free(want);
}

/* The first vector of 1 .. 67 channels. dY may be wild; zeros of it meet finite x. */
START_TEST(test_weights)
{
    const struct vgg__kernels *kernels = map_kernels(_i);
    map_seed(4);
    if (kernels == NULL) return;
    for (size_t ic = 1; ic <= VGG__FIRST_CHANNELS; ic++)
        for (uint32_t kind = VGG__PLAIN; kind <= VGG__AVERAGE_POOLED; kind++)
            for (size_t oc = 1; oc <= 67; oc++) {
                const size_t *hw = maps[oc % MAPS], skip = oc % 4;
                const size_t in[] = {hw[0], hw[1], ic};
                const size_t out[] = {hw[0], hw[1], oc + skip};
                struct map x = map_create(VGG__PLAIN, in, false);
                struct map dy = map_create(kind, out, oc % 3 == 0);
                const struct vgg__source from = vgg__source_from(&dy.source, skip);
                for (size_t y = 0; y < hw[0]; y += 2)
                    check_pair(kernels, &x.source, &from, y);
                map_free(&x);
                map_free(&dy);
            }
}
END_TEST

static Suite *first_suite(void)
{
    Suite *suite = suite_create("first");
    TCase *loops = tcase_create("loops");
    tcase_set_timeout(loops, 120);
    tcase_add_loop_test(loops, test_forward, 0, MAP_SETS);
    tcase_add_loop_test(loops, test_weights, 0, MAP_SETS);
    suite_add_tcase(suite, loops);
    return suite;
}

int main(void)
{
    Suite *suites[] = {first_suite()};
    return harness_main(suites, 1);
}
