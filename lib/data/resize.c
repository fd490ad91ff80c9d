/* SPDX-License-Identifier: Apache-2.0 */
/* Bilinear resizing of u8 planes.
 *
 * To make m pixels of n, output pixel d looks at place (d + 1/2) n/m - 1/2 of the
 * input: a sample s and a fraction w between s and s + 1. An output row mixes two input
 * rows, each of which is mixed along x first. Neighbouring output rows need the same
 * input rows, so the last two mixed rows are kept: to make an image larger costs one
 * mix an input row.
 *
 * OPENCV  cv::resize INTER_LINEAR on 8 bits: weights are multiples of 1/2048, and the
 *         sums are cut at two places on the way.
 * EXACT   the rational value, rounded half up.
 * PILLOW  is another method, see pillow.c. */
#include "data/resize.h"

#include "core/error.h"
#include "core/memory.h"
#include "data/dataset.h"

#include <math.h>
#include <string.h>

#define OPENCV_ONE 2048 /* a weight of 1 */
#define NO_ROW     UINT32_MAX

/* An output pixel is weight[0] * sample at[0] + weight[1] * sample at[1]. */
struct pair {
    uint32_t at[2];
    int32_t weight[2];
};

/* The arithmetic of a rule. A mixed row has `width` elements of a type of its own. */
struct rule {
    void (*plan)(struct pair *pairs, uint32_t from, uint32_t to, bool vertical);
    size_t element; /* bytes */
    void (*mix)(const struct pair *pairs, uint32_t width, const uint8_t *from,
                void *row);
    void (*blend)(struct vgg__size size, const struct pair *rows,
                  const void *const mixed[2], uint8_t *restrict to);
};

struct vgg__resize {
    struct vgg__pillow *pillow; /* if it's that rule, and nothing below is used */
    const struct rule *rule;
    struct vgg__size from, to;
    struct pair *x, *y; /* [to.width], [to.height] */
    void *mixed[2];     /* rows kept: input row r in mixed[r % 2] */
    uint32_t held[2];   /* which row that is, or NO_ROW */
};

static uint32_t clamp(int64_t sample, uint32_t count)
{
    return sample < 0 ? 0 : sample >= count ? count - 1 : (uint32_t)sample;
}

/* ---- OpenCV: places in float, weights of 11 bits --------------------------------- */

/* The scale is the inverse of a quotient and the place is cut to float, as there, so
 * that roundings agree at any size. Along x, a place outside the samples has its weight
 * on the border sample; along y, it mixes the border row with itself by the weights as
 * they are, which the cuts below make different. */
static void opencv_plan(struct pair *pairs, uint32_t from, uint32_t to, bool vertical)
{
    const double scale = 1.0 / ((double)to / from);
    for (uint32_t d = 0; d < to; d++) {
        float place = (float)((d + 0.5) * scale - 0.5);
        const int64_t sample = (int64_t)floorf(place);
        float fraction = place - (float)sample;
        const bool outside = sample < 0 || sample >= (int64_t)from - 1;
        if (outside && !vertical) fraction = 0.0f;
        pairs[d] = (struct pair){
            {clamp(sample, from), clamp(sample + 1, from)},
            {(int32_t)rintf((1.0f - fraction) * OPENCV_ONE),
             (int32_t)rintf(fraction * OPENCV_ONE)},
        };
    }
}

/* First cut: 4 bits of the mixed row, after which it fits 16 bits. */
static void opencv_mix(const struct pair *pairs, uint32_t width, const uint8_t *from,
                       void *row)
{
    int16_t *const to = row;
    for (uint32_t x = 0; x < width; x++) {
        const struct pair *const p = &pairs[x];
        to[x] =
            (int16_t)((from[p->at[0]] * p->weight[0] + from[p->at[1]] * p->weight[1]) >>
                      4);
    }
}

/* Second cut: 16 bits of each product, then 2 bits of the sum with rounding. */
static void opencv_blend(struct vgg__size size, const struct pair *rows,
                         const void *const mixed[2], uint8_t *restrict to)
{
    const int16_t *const top = mixed[0], *const bottom = mixed[1];
    const int16_t w0 = (int16_t)rows->weight[0], w1 = (int16_t)rows->weight[1];
    for (uint32_t x = 0; x < size.width; x++) {
        const int16_t high0 = (int16_t)((top[x] * w0) >> 16);
        const int16_t high1 = (int16_t)((bottom[x] * w1) >> 16);
        to[x] = (uint8_t)((int16_t)(high0 + high1 + 2) >> 2);
    }
}

/* ---- Exact: places and weights as fractions over 2 m ----------------------------- */

/* (d + 1/2) n/m - 1/2 = ((2 d + 1) n - m) / 2 m. A weight of 1 is 2 m. */
static void exact_plan(struct pair *pairs, uint32_t from, uint32_t to, bool vertical)
{
    (void)vertical;
    const int64_t n = from, m = to;
    for (uint32_t d = 0; d < to; d++) {
        const int64_t place =
            (2 * (int64_t)d + 1) * n - m; /* over 2 m; may be negative */
        const int64_t sample = place < 0 ? -1 : place / (2 * m);
        const int64_t fraction = place - sample * 2 * m;
        pairs[d] = (struct pair){
            {clamp(sample, from), clamp(sample + 1, from)},
            {(int32_t)(2 * m - fraction), (int32_t)fraction},
        };
    }
}

static void exact_mix(const struct pair *pairs, uint32_t width, const uint8_t *from,
                      void *row)
{
    int32_t *const to = row; /* at most 255 * 2 m, below 2^24 */
    for (uint32_t x = 0; x < width; x++) {
        const struct pair *const p = &pairs[x];
        to[x] = from[p->at[0]] * p->weight[0] + from[p->at[1]] * p->weight[1];
    }
}

/* floor(sum / one + 1/2) without a division: sum and one are integers, one is at most
 * 2^32 and even, so (sum + one/2 + 1/2) / one is no nearer than 2^-33 to an integer,
 * and the error of a double below 256 is 2^-44. */
static void exact_blend(struct vgg__size size, const struct pair *rows,
                        const void *const mixed[2], uint8_t *restrict to)
{
    const int32_t *const top = mixed[0], *const bottom = mixed[1];
    const double w0 = rows->weight[0], w1 = rows->weight[1];
    const double one = 4.0 * size.width * size.height;
    const double half = one / 2 + 0.5, inverse = 1.0 / one;
    for (uint32_t x = 0; x < size.width; x++)
        to[x] = (uint8_t)(int32_t)((top[x] * w0 + bottom[x] * w1 + half) * inverse);
}

/* ---- All rules ------------------------------------------------------------------- */

static const struct rule rules[] = {
    [VGG_RESIZE_OPENCV] = {opencv_plan, sizeof(int16_t), opencv_mix, opencv_blend},
    [VGG_RESIZE_EXACT] = {exact_plan, sizeof(int32_t), exact_mix, exact_blend},
};

static vgg_status make_tables(vgg_context *ctx, struct vgg__resize *resize)
{
    const struct vgg__size from = resize->from, to = resize->to;
    resize->x = vgg__calloc(ctx, to.width, sizeof *resize->x);
    resize->y = vgg__calloc(ctx, to.height, sizeof *resize->y);
    resize->mixed[0] = vgg__calloc(ctx, to.width, resize->rule->element);
    resize->mixed[1] = vgg__calloc(ctx, to.width, resize->rule->element);
    if (resize->x == NULL || resize->y == NULL || resize->mixed[0] == NULL ||
        resize->mixed[1] == NULL)
        return VGG_ENOMEM;
    resize->rule->plan(resize->x, from.width, to.width, false);
    resize->rule->plan(resize->y, from.height, to.height, true);
    return VGG_OK;
}

vgg_status vgg__resize_create(vgg_context *ctx, vgg_resize_rule rule,
                              struct vgg__size from, struct vgg__size to,
                              struct vgg__resize **out)
{
    *out = NULL;
    struct vgg__resize *const resize = vgg__calloc(ctx, 1, sizeof *resize);
    if (resize == NULL) return VGG_ENOMEM;
    resize->from = from;
    resize->to = to;
    vgg_status status;
    if (rule == VGG_RESIZE_PILLOW) {
        status = vgg__pillow_create(ctx, from, to, &resize->pillow);
    } else {
        resize->rule = &rules[rule];
        status = make_tables(ctx, resize);
    }
    if (status == VGG_OK)
        *out = resize;
    else
        vgg__resize_free(resize);
    return status;
}

void vgg__resize_free(struct vgg__resize *resize)
{
    if (resize == NULL) return;
    vgg__pillow_free(resize->pillow);
    vgg__free(resize->x);
    vgg__free(resize->y);
    vgg__free(resize->mixed[0]);
    vgg__free(resize->mixed[1]);
    vgg__free(resize);
}

/* Input row y mixed along x, now or before. The two rows that an output row needs are
 * neighbours or the same, so they never want the same place. */
static const void *mixed_row(struct vgg__resize *resize, const uint8_t *from,
                             uint32_t y)
{
    const uint32_t place = y % 2;
    if (resize->held[place] != y) {
        resize->rule->mix(resize->x, resize->to.width,
                          from + (size_t)y * resize->from.width, resize->mixed[place]);
        resize->held[place] = y;
    }
    return resize->mixed[place];
}

void vgg__resize_plane(struct vgg__resize *resize, const uint8_t *from, uint8_t *to)
{
    if (resize->pillow != NULL) {
        vgg__pillow_plane(resize->pillow, from, to);
        return;
    }
    resize->held[0] = resize->held[1] = NO_ROW;
    for (uint32_t y = 0; y < resize->to.height; y++) {
        const struct pair *const rows = &resize->y[y];
        const void *const mixed[2] = {mixed_row(resize, from, rows->at[0]),
                                      mixed_row(resize, from, rows->at[1])};
        resize->rule->blend(resize->to, rows, mixed, to + (size_t)y * resize->to.width);
    }
}

/* ---- For engines ----------------------------------------------------------------- */

static vgg_status pair_axis(vgg_context *ctx, const struct pair *pairs, uint32_t from,
                            uint32_t to, vgg_axis *axis)
{
    uint32_t *at;
    int32_t *weight;
    *axis = (vgg_axis){.in = from, .out = to, .taps = 2};
    VGG_TRY(vgg__axis_create(ctx, axis, &at, &weight));
    for (uint32_t i = 0; i < 2 * to; i++) {
        at[i] = pairs[i / 2].at[i % 2];
        weight[i] = pairs[i / 2].weight[i % 2];
    }
    return VGG_OK;
}

vgg_status vgg__resize_axes(vgg_context *ctx, const struct vgg__resize *resize,
                            vgg_axis *x, vgg_axis *y)
{
    *x = *y = (vgg_axis){0};
    vgg_status status;
    if (resize->pillow != NULL) {
        status = vgg__pillow_axes(ctx, resize->pillow, x, y);
    } else {
        status = pair_axis(ctx, resize->x, resize->from.width, resize->to.width, x);
        if (status == VGG_OK)
            status =
                pair_axis(ctx, resize->y, resize->from.height, resize->to.height, y);
    }
    if (status == VGG_OK) return VGG_OK;
    vgg__axis_free(x);
    vgg__axis_free(y);
    return status;
}
