/* SPDX-License-Identifier: Apache-2.0 */
/* Winograd's transforms at every instruction set that this machine runs, against the
 * matrices of the paper multiplied out in double. Numbers are small and whole, so that
 * every result is exact; matrices' zeros are skipped, so that what is not finite must
 * come out exactly where it belongs. */
#include "harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/conv.h"
#include "maps.h"

#define MOST_N        6
#define MOST_CHANNELS 67

static const double window2[6][6] = {
    {1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}};
static const double window4[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0},
                                     {0, 4, -4, -1, 1, 0}, {0, -2, -1, 2, 1, 0},
                                     {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
static const double finish2[6][6] = {{1, 1, 1, 0}, {0, 1, -1, -1}};
static const double finish4[6][6] = {
    {1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};

/* B^T, n x n, and A^T, m x n. */
static const double (*window_matrix(uint32_t m))[6]
{
    return m == 2 ? window2 : window4;
}

static const double (*finish_matrix(uint32_t m))[6]
{
    return m == 2 ? finish2 : finish4;
}

/* Maps: single pixels, odd ones, whole numbers of tiles, with tiles that touch no
 * edge. */
static const size_t maps[][2] = {{1, 1}, {2, 3}, {5, 4}, {9, 13}, {14, 11}};
enum { MAPS = sizeof(maps) / sizeof(maps[0]) };

/* How numbers of tiles may lie; whole vectors are in one group. */
enum { BY_FREQUENCY, BY_TILE, BY_TILE_WIDE, LAYOUTS };

static struct vgg__tiles layout_of(int layout, uint32_t m, size_t tiles,
                                   size_t channels, size_t cols)
{
    const size_t row = (channels + cols - 1) / cols * cols;
    if (layout == BY_TILE) return vgg__winograd_by_tile(m, tiles, channels, 16);
    if (layout == BY_TILE_WIDE) return vgg__winograd_by_tile(m, tiles, channels, row);
    return vgg__winograd_by_frequency(m, tiles, channels, cols);
}

static size_t place_of(const struct vgg__strides *at, size_t f, size_t tile, size_t i)
{
    return i / at->width * at->group + f * at->frequency + tile * at->stride +
           i % at->width;
}

static size_t tiles_of(size_t size, uint32_t m)
{
    return (size + m - 1) / m;
}

/* A row of tiles: all of it, or what is left without its ends. */
static struct vgg__run run_of(size_t row, size_t cols, bool inner)
{
    return (struct vgg__run){row, inner, inner ? cols - 2 : cols};
}

/* ---- The matrices themselves ----------------------------------------------- */

/* In one dimension: A^T [(G g) * (B^T d)] is the correlation of d and g, for every
 * pair of unit vectors. */
START_TEST(test_matrices)
{
    for (uint32_t m = 2; m <= 4; m += 2) {
        const uint32_t n = m + 2;
        const double(*G)[3] = vgg__winograd_filters(m);
        for (uint32_t tap = 0; tap < 3; tap++)
            for (uint32_t d = 0; d < n; d++)
                for (uint32_t y = 0; y < m; y++) {
                    double sum = 0;
                    for (uint32_t f = 0; f < n; f++)
                        sum +=
                            finish_matrix(m)[y][f] * G[f][tap] * window_matrix(m)[f][d];
                    ck_assert_double_eq_tol(sum, d == y + tap, 1e-15);
                }
    }
}
END_TEST

/* ---- From maps to frequencies ------------------------------------------------ */

struct transform {
    const struct vgg__kernels *kernels;
    uint32_t m;
    bool gradient;
};

/* Frequency f of a tile's channel: rows of the matrix on both sides of the pixels. */
static double frequency_of(const struct transform *t, const double *pixels, uint32_t f)
{
    const uint32_t n = t->m + 2, rows = t->gradient ? t->m : n;
    const double(*matrix)[6] = t->gradient ? finish_matrix(t->m) : window_matrix(t->m);
    double sum = 0;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c < rows; c++) {
            const double factor = t->gradient ? matrix[r][f / n] * matrix[c][f % n]
                                              : matrix[f / n][r] * matrix[f % n][c];
            if (factor != 0) sum += factor * pixels[r * rows + c];
        }
    return sum;
}

/* What the run should make of channel i, of its zeros behind the last one too. */
static void expect_channel(const struct transform *t, const struct vgg__source *source,
                           const struct vgg__run *run,
                           const struct vgg__transformed *want, size_t i)
{
    const uint32_t n = t->m + 2, rows = t->gradient ? t->m : n;
    const ptrdiff_t reach = t->gradient ? 0 : 1;
    double pixels[MOST_N * MOST_N];
    for (size_t tile = 0; tile < run->count; tile++) {
        const ptrdiff_t top = (ptrdiff_t)(run->row * t->m) - reach;
        const ptrdiff_t left = (ptrdiff_t)((run->col + tile) * t->m) - reach;
        for (uint32_t p = 0; p < rows * rows && i < source->channels; p++)
            pixels[p] = map_pixel(source, i, top + p / rows, left + p % rows);
        for (uint32_t f = 0; f < n * n; f++)
            want->out[place_of(&want->at, f, tile, i)] =
                i < source->channels ? (float)frequency_of(t, pixels, f) : 0;
    }
}

static void check_run(const struct transform *t, const struct vgg__source *source,
                      const struct vgg__run *run, int layout)
{
    const size_t cols = t->kernels->cols, lanes = cols / 2;
    const struct vgg__tiles tiles =
        layout_of(layout, t->m, run->count, source->channels, cols);
    struct vgg__transformed to = {map_guards(tiles.floats), tiles.at};
    const struct vgg__transformed want = {map_guards(tiles.floats), tiles.at};
    for (size_t i = 0; i < (source->channels + lanes - 1) / lanes * lanes; i++)
        expect_channel(t, source, run, &want, i);
    if (t->gradient)
        t->kernels->winograd->gradient(t->m, source, run, &to);
    else
        t->kernels->winograd->window(t->m, source, run, &to);
    map_same(t->gradient ? "gradient" : "window", to.out, want.out, tiles.floats);
    free(to.out);
    free(want.out);
}

/* Every row of a map's tiles; where there is room, also from the second tile on. */
static void check_map(const struct transform *t, const struct vgg__source *source,
                      int layout)
{
    const size_t cols = tiles_of(source->w, t->m);
    for (size_t row = 0; row < tiles_of(source->h, t->m); row++) {
        struct vgg__run run = run_of(row, cols, false);
        check_run(t, source, &run, layout);
        run = run_of(row, cols, true);
        if (cols > 2) check_run(t, source, &run, layout);
    }
}

/* Channels from the first on, and from a later one; every second map where they are
 * many. */
static void check_transform(const struct transform *t, uint32_t kind, size_t channels)
{
    for (size_t i = 0; i < MAPS; i++) {
        if (channels > 20 && (i + channels / 2) % 2) continue;
        const size_t skip = i % 2 * 3,
                     hwc[] = {maps[i][0], maps[i][1], channels + skip};
        struct map map = map_create(kind, hwc, (channels + i) % 2);
        const struct vgg__source source = vgg__source_from(&map.source, skip);
        check_map(t, &source, (int)(channels + i) % LAYOUTS);
        map_free(&map);
    }
}

static void check_transforms(int set, bool gradient)
{
    struct transform t = {.kernels = map_kernels(set), .gradient = gradient};
    if (t.kernels == NULL) return;
    map_seed(1);
    for (t.m = 2; t.m <= 4; t.m += 2)
        for (uint32_t kind = VGG__PLAIN; kind <= VGG__AVERAGE_POOLED; kind++)
            for (size_t channels = 1; channels <= MOST_CHANNELS; channels++)
                check_transform(&t, kind, channels);
}

START_TEST(test_window)
{
    check_transforms(_i, false);
}
END_TEST

START_TEST(test_gradient)
{
    check_transforms(_i, true);
}
END_TEST

/* ---- From frequencies to maps ---------------------------------------------- */

/* Products of a row of tiles: whole numbers, or mostly zeros, which give outputs that
 * are equal or zero. What lies between tiles is not to be read: NaN. */
static void draw_products(const struct vgg__tiles *tiles, uint32_t m, size_t count,
                          size_t channels, float *in)
{
    const bool sparse = map_next() % 2, wild = map_next() % 4 == 0;
    for (size_t i = 0; i < tiles->floats; i++) in[i] = NAN;
    for (size_t t = 0; t < count; t++)
        for (size_t f = 0; f < (m + 2) * (m + 2); f++)
            for (size_t i = 0; i < channels; i++)
                in[place_of(&tiles->at, f, t, i)] =
                    sparse && map_next() % 8 ? 0 : map_draw(wild);
}

/* A^T M A of a pixel within its tile. */
static double pixel_of(uint32_t m, const struct vgg__finish *f, size_t tile, size_t i,
                       const size_t pixel[2])
{
    const double(*matrix)[6] = finish_matrix(m);
    const uint32_t n = m + 2;
    double sum = 0;
    for (uint32_t k = 0; k < n * n; k++) {
        const double factor = matrix[pixel[0]][k / n] * matrix[pixel[1]][k % n];
        if (factor != 0) sum += factor * f->in[place_of(&f->at, k, tile, i)];
    }
    return sum;
}

static void expect_run(uint32_t m, const struct vgg__finish *f,
                       const struct vgg__run *run, struct map_output *out)
{
    const struct vgg__output *to = &f->to;
    double *sums = malloc(to->h * to->w * to->width * sizeof *sums);
    const size_t top = run->row * m, left = run->col * m, right = left + run->count * m;
    const struct map_part part = {top, left, top + m, right};
    for (size_t r = top; r < top + m && r < to->h; r++)
        for (size_t s = left; s < right && s < to->w; s++)
            for (size_t i = 0; i < to->width; i++)
                sums[(r * to->w + s) * to->width + i] =
                    pixel_of(m, f, s / m - run->col, i, (size_t[]){r % m, s % m});
    map_output_expect(out, &part, sums);
    free(sums);
}

/* A map's rows of tiles, one after the other: what one call has written, the next must
 * leave alone. */
static void check_finish(const struct vgg__kernels *kernels, uint32_t m,
                         struct map_output *out, int layout)
{
    const size_t cols = tiles_of(out->to.w, m), width = kernels->cols;
    const struct vgg__tiles tiles =
        layout == BY_FREQUENCY ? vgg__winograd_by_frequency(m, cols, width, width)
                               : vgg__winograd_by_tile(m, cols, width, width);
    float *in = map_guards(tiles.floats);
    for (size_t row = tiles_of(out->to.h, m); row-- > 0;) {
        const struct vgg__run run = run_of(row, cols, cols > 2 && row % 2);
        const struct vgg__finish f = {.in = in, .at = tiles.at, .to = out->to};
        const size_t vectors = (out->to.width + width / 2 - 1) / (width / 2);
        draw_products(&tiles, m, run.count, vectors * (width / 2), in);
        expect_run(m, &f, &run, out);
        kernels->winograd->finish(m, &f, &run);
        map_output_check(out);
    }
    free(in);
}

/* Every width of a panel's channels, in maps with others beside them. */
START_TEST(test_finish)
{
    const struct vgg__kernels *kernels = map_kernels(_i);
    size_t ties = 0, zeros = 0;
    map_seed(2);
    if (kernels == NULL) return;
    for (uint32_t m = 2; m <= 4; m += 2)
        for (uint32_t pool = VGG_NO_POOL; pool <= VGG_AVERAGE_POOL; pool++)
            for (size_t width = 1; width <= kernels->cols; width++)
                for (int way = 0; way < 8; way++) {
                    const size_t *map = maps[((size_t)way + width) % MAPS];
                    const size_t hwc[] = {map[0], map[1], width + width % 5};
                    struct map_output out =
                        map_output_create(pool, hwc, width % 5 / 2, width, way);
                    check_finish(kernels, m, &out, way % 2);
                    ties += out.ties;
                    zeros += out.zeros;
                    map_output_free(&out);
                }
    ck_assert_uint_gt(ties, 300);
    ck_assert_uint_gt(zeros, 300);
}
END_TEST

static Suite *winograd_suite(void)
{
    Suite *suite = suite_create("winograd");
    TCase *transforms = tcase_create("transforms");
    tcase_set_timeout(transforms, 120);
    tcase_add_test(transforms, test_matrices);
    tcase_add_loop_test(transforms, test_window, 0, MAP_SETS);
    tcase_add_loop_test(transforms, test_gradient, 0, MAP_SETS);
    tcase_add_loop_test(transforms, test_finish, 0, MAP_SETS);
    suite_add_tcase(suite, transforms);
    return suite;
}

int main(void)
{
    Suite *suites[] = {winograd_suite()};
    return harness_main(suites, 1);
}
