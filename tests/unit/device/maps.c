/* SPDX-License-Identifier: Apache-2.0 */
/* See maps.h. */
#include "maps.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_GUARD 99

const struct vgg__kernels *map_kernels(int index)
{
    static const uint32_t sets[MAP_SETS] = {VGG_ISA_BASE, VGG_ISA_AVX2, VGG_ISA_AVX512};
    const struct vgg__kernels *kernels = vgg__kernels_choose(sets[index]);
    return kernels->isa == sets[index] ? kernels : NULL;
}

/* ---- Numbers --------------------------------------------------------------- */

static uint32_t state;

void map_seed(uint32_t seed)
{
    state = seed;
}

uint32_t map_next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

float map_draw(bool wild)
{
    static const float values[3] = {NAN, INFINITY, -INFINITY};
    if (wild && map_next() % 61 == 0) return values[map_next() % 3];
    return (float)(map_next() % 9) - 4;
}

float *map_floats(size_t count, bool wild)
{
    float *x = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = map_draw(wild);
    return x;
}

float *map_guards(size_t count)
{
    float *x = malloc(count * sizeof(float));
    for (size_t i = 0; i < count; i++) x[i] = MAP_GUARD;
    return x;
}

void map_same(const char *what, const float *got, const float *expected, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (got[i] != expected[i] && !(isnan(got[i]) && isnan(expected[i])))
            ck_abort_msg("%s: %zu of %zu: %g, expected %g", what, i, count,
                         (double)got[i], (double)expected[i]);
}

/* ---- Sources --------------------------------------------------------------- */

struct map map_create(uint32_t kind, const size_t hwc[3], bool wild)
{
    const bool pooled = kind >= VGG__MAX_POOLED;
    const size_t h = hwc[0], w = hwc[1], c = hwc[2];
    const size_t count = pooled ? h / 2 * (w / 2) * c : h * w * c;
    struct map map = {.x = map_floats(count, wild)};
    if (kind == VGG__MASKED) map.y = map_floats(count, wild);
    if (pooled) map.kept = malloc(count);
    for (size_t i = 0; i < count && pooled; i++) {
        map.kept[i] = (uint8_t)(map_next() % (kind == VGG__MAX_POOLED ? 5 : 16));
        if (kind == VGG__MAX_POOLED && map.kept[i] == 4) map.kept[i] = VGG__NONE;
    }
    map.source = (struct vgg__source){.kind = kind,
                                      .x = map.x,
                                      .y = map.y,
                                      .kept = map.kept,
                                      .h = h,
                                      .w = w,
                                      .c = c,
                                      .channels = c};
    return map;
}

void map_free(struct map *map)
{
    free(map->x);
    free(map->y);
    free(map->kept);
}

double map_pixel(const struct vgg__source *s, size_t i, ptrdiff_t row, ptrdiff_t col)
{
    if (row < 0 || col < 0 || row >= (ptrdiff_t)s->h || col >= (ptrdiff_t)s->w)
        return 0;
    const size_t r = (size_t)row, c = (size_t)col;
    if (s->kind == VGG__PLAIN) return s->x[(r * s->w + c) * s->c + i];
    if (s->kind == VGG__MASKED) {
        const size_t at = (r * s->w + c) * s->c + i;
        return s->y[at] > 0 || isnan(s->y[at]) ? s->x[at] : 0;
    }
    if (r / 2 >= s->h / 2 || c / 2 >= s->w / 2) return 0;
    const size_t at = (r / 2 * (s->w / 2) + c / 2) * s->c + i;
    const unsigned place = (unsigned)(2 * (r % 2) + c % 2);
    if (s->kind == VGG__MAX_POOLED) return s->kept[at] == place ? s->x[at] : 0;
    return s->kept[at] >> place & 1 ? s->x[at] / 4.0 : 0;
}

/* ---- Outputs --------------------------------------------------------------- */

struct map_output map_output_create(uint32_t pool, const size_t hwc[3], size_t first,
                                    size_t width, int way)
{
    const size_t h = hwc[0], w = hwc[1], c = hwc[2];
    struct map_output out = {
        .first = first,
        .floats = pool == VGG_NO_POOL ? h * w * c : h / 2 * (w / 2) * c,
        .to = {.h = h, .w = w, .c = c, .width = width, .pool = pool}};
    out.y = map_guards(out.floats);
    out.want = map_guards(out.floats);
    out.to.y = out.y + first;
    out.to.relu = way & 1;
    if (!(way & 2)) out.to.bias = out.bias = map_floats(width, false);
    if (pool == VGG_NO_POOL || way & 4) return out;
    out.kept = malloc(out.floats);
    out.want_kept = malloc(out.floats);
    memset(out.kept, KEPT_GUARD, out.floats);
    memset(out.want_kept, KEPT_GUARD, out.floats);
    out.to.kept = out.kept + first;
    return out;
}

void map_output_free(struct map_output *out)
{
    free(out->y);
    free(out->want);
    free(out->kept);
    free(out->want_kept);
    free(out->bias);
}

/* A sum with its bias, and after the ReLU if there is one. */
static double biased(const struct map_output *out, const double *sums, size_t pixel,
                     size_t i)
{
    return sums[pixel * out->to.width + i] + (out->bias ? out->bias[i] : 0);
}

static double activated(const struct map_output *out, double v)
{
    return out->to.relu && v <= 0 ? 0 : v;
}

/* The winner's place: of numbers the first of the largest, or the last NaN. */
static uint8_t winner(const double v[4])
{
    uint8_t best = 0;
    for (uint8_t i = 1; i < 4; i++)
        if (isnan(v[i]) || (!isnan(v[best]) && v[i] > v[best])) best = i;
    return best;
}

static void expect_window(struct map_output *out, const double v[4], size_t at)
{
    double sum = 0;
    unsigned passed = 0;
    for (unsigned i = 0; i < 4; i++) {
        sum += activated(out, v[i]);
        if (!out->to.relu || !(v[i] <= 0)) passed |= 1u << i;
    }
    uint8_t best = winner(v);
    const double most = v[best];
    for (int i = 0; i < 4; i++) out->ties += i > best && v[i] == most;
    if (out->to.relu && most <= 0) {
        best = VGG__NONE;
        out->zeros++;
    }
    const bool maximum = out->to.pool == VGG_MAX_POOL;
    out->want[at] = (float)(maximum ? activated(out, most) : sum / 4);
    if (out->want_kept) out->want_kept[at] = maximum ? best : (uint8_t)passed;
}

void map_output_expect(struct map_output *out, const struct map_part *part,
                       const double *sums)
{
    const struct vgg__output *to = &out->to;
    const size_t bottom = part->bottom < to->h ? part->bottom : to->h;
    const size_t right = part->right < to->w ? part->right : to->w;
    const size_t step = to->pool == VGG_NO_POOL ? 1 : 2;
    for (size_t r = part->top; r + step <= bottom; r += step)
        for (size_t s = part->left; s + step <= right; s += step)
            for (size_t i = 0; i < to->width; i++) {
                const size_t at =
                    (r / step * (to->w / step) + s / step) * to->c + out->first + i;
                double v[4];
                for (size_t place = 0; place < step * step; place++)
                    v[place] =
                        biased(out, sums, (r + place / 2) * to->w + s + place % 2, i);
                if (step == 1)
                    out->want[at] = (float)activated(out, v[0]);
                else
                    expect_window(out, v, at);
            }
}

void map_output_check(const struct map_output *out)
{
    map_same("output", out->y, out->want, out->floats);
    for (size_t i = 0; i < out->floats && out->kept; i++)
        if (out->kept[i] != out->want_kept[i])
            ck_abort_msg("kept: %zu of %zu: %u, expected %u", i, out->floats,
                         out->kept[i], out->want_kept[i]);
}
