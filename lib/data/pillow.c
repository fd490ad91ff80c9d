/* SPDX-License-Identifier: Apache-2.0 */
/* Bilinear resizing as Pillow does it: a triangle filter that widens with the scale
 * when the image is made smaller, so that every input pixel counts (antialiasing).
 * First along x, then along y, each pass rounded to 8 bits; weights are fractions of 22
 * bits, which leaves 8 bits for a pixel and 2 for sign and carry. */
#include "core/error.h"
#include "core/memory.h"
#include "data/resize.h"

#include <math.h>

#define WEIGHT_BITS 22

/* Output pixel d is the sum of weights[d * most + k] * sample (first[d] + k). */
struct axis {
    uint32_t from, to;
    uint32_t most; /* weights a pixel */
    uint32_t *first, *count;
    int32_t *weights;
};

struct vgg__pillow {
    struct axis x, y;
    uint8_t *narrow; /* [from.height][to.width]: between the passes */
    int32_t *sums;   /* [to.width]: of one output row */
};

static double triangle(double distance)
{
    distance = fabs(distance);
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

/* Weights of output pixel d, whose sum is made 1 before they are rounded. */
static void plan_pixel(struct axis *axis, uint32_t d, double support, double *exact)
{
    const double scale = (double)axis->from / axis->to;
    const double center = (d + 0.5) * scale, inverse = 1.0 / support;
    const int64_t low = (int64_t)(center - support + 0.5);
    const int64_t high = (int64_t)(center + support + 0.5);
    const uint32_t first = low < 0 ? 0 : (uint32_t)low;
    const uint32_t end = high > axis->from ? axis->from : (uint32_t)high;
    double sum = 0.0;
    for (uint32_t k = 0; k < end - first; k++) {
        exact[k] = triangle(((double)(k + first) - center + 0.5) * inverse);
        sum += exact[k];
    }
    int32_t *const weights = axis->weights + (size_t)d * axis->most;
    for (uint32_t k = 0; k < end - first; k++)
        weights[k] = (int32_t)(0.5 + exact[k] / sum * (1 << WEIGHT_BITS));
    axis->first[d] = first;
    axis->count[d] = end - first;
}

static vgg_status make_axis(vgg_context *ctx, struct axis *axis, uint32_t from,
                            uint32_t to)
{
    const double scale = (double)from / to;
    const double support =
        scale < 1.0 ? 1.0 : scale; /* of the filter, to either side */
    axis->from = from;
    axis->to = to;
    axis->most = 2 * (uint32_t)ceil(support) + 1;
    axis->first = vgg__calloc(ctx, to, sizeof *axis->first);
    axis->count = vgg__calloc(ctx, to, sizeof *axis->count);
    axis->weights = vgg__calloc(ctx, (size_t)to * axis->most, sizeof *axis->weights);
    double *const exact = vgg__calloc(ctx, axis->most, sizeof *exact);
    const bool made = axis->first != NULL && axis->count != NULL &&
                      axis->weights != NULL && exact != NULL;
    for (uint32_t d = 0; made && d < to; d++) plan_pixel(axis, d, support, exact);
    vgg__free(exact);
    return made ? VGG_OK : VGG_ENOMEM;
}

static void free_axis(struct axis *axis)
{
    vgg__free(axis->first);
    vgg__free(axis->count);
    vgg__free(axis->weights);
}

vgg_status vgg__pillow_create(vgg_context *ctx, struct vgg__size from,
                              struct vgg__size to, struct vgg__pillow **out)
{
    *out = NULL;
    struct vgg__pillow *const pillow = vgg__calloc(ctx, 1, sizeof *pillow);
    if (pillow == NULL) return VGG_ENOMEM;
    vgg_status status = make_axis(ctx, &pillow->x, from.width, to.width);
    if (status == VGG_OK) status = make_axis(ctx, &pillow->y, from.height, to.height);
    if (status != VGG_OK) goto fail;
    status = VGG_ENOMEM;
    pillow->narrow = vgg__alloc(ctx, (size_t)from.height * to.width);
    if (pillow->narrow == NULL) goto fail;
    pillow->sums = vgg__calloc(ctx, to.width, sizeof *pillow->sums);
    if (pillow->sums == NULL) goto fail;
    *out = pillow;
    return VGG_OK;
fail:
    vgg__pillow_free(pillow);
    return status;
}

void vgg__pillow_free(struct vgg__pillow *pillow)
{
    if (pillow == NULL) return;
    free_axis(&pillow->x);
    free_axis(&pillow->y);
    vgg__free(pillow->narrow);
    vgg__free(pillow->sums);
    vgg__free(pillow);
}

/* A sum that began with one half. Rounded weights may add up to a little over 1. */
static uint8_t rounded(int32_t sum)
{
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

static void pass_x(const struct axis *axis, const uint8_t *from, uint8_t *to)
{
    for (uint32_t d = 0; d < axis->to; d++) {
        const uint8_t *const samples = from + axis->first[d];
        const int32_t *const weights = axis->weights + (size_t)d * axis->most;
        int32_t sum = 1 << (WEIGHT_BITS - 1);
        for (uint32_t k = 0; k < axis->count[d]; k++) sum += samples[k] * weights[k];
        to[d] = rounded(sum);
    }
}

/* One output row: whole rows are added up, so that the inner loop is along x. */
static void pass_y(struct vgg__pillow *pillow, uint32_t d, uint8_t *to)
{
    const struct axis *const axis = &pillow->y;
    const uint32_t width = pillow->x.to;
    int32_t *const sums = pillow->sums;
    for (uint32_t x = 0; x < width; x++) sums[x] = 1 << (WEIGHT_BITS - 1);
    for (uint32_t k = 0; k < axis->count[d]; k++) {
        const int32_t weight = axis->weights[(size_t)d * axis->most + k];
        const uint8_t *const row =
            pillow->narrow + (size_t)(axis->first[d] + k) * width;
        for (uint32_t x = 0; weight != 0 && x < width; x++) sums[x] += row[x] * weight;
    }
    for (uint32_t x = 0; x < width; x++) to[x] = rounded(sums[x]);
}

void vgg__pillow_plane(struct vgg__pillow *pillow, const uint8_t *from, uint8_t *to)
{
    const uint32_t width = pillow->x.to;
    for (uint32_t y = 0; y < pillow->y.from; y++)
        pass_x(&pillow->x, from + (size_t)y * pillow->x.from,
               pillow->narrow + (size_t)y * width);
    for (uint32_t d = 0; d < pillow->y.to; d++)
        pass_y(pillow, d, to + (size_t)d * width);
}

/* Every pixel gets as many taps; those that it does not have weigh nothing, and look at
 * its last one. */
static vgg_status export_axis(vgg_context *ctx, const struct axis *axis, vgg_axis *out)
{
    uint32_t *at;
    int32_t *weight;
    *out = (vgg_axis){.in = axis->from, .out = axis->to, .taps = axis->most};
    VGG_TRY(vgg__axis_create(ctx, out, &at, &weight));
    for (uint32_t d = 0; d < axis->to; d++)
        for (uint32_t k = 0; k < axis->most; k++) {
            const uint32_t last = axis->count[d] - 1;
            const size_t i = (size_t)d * axis->most + k;
            at[i] = axis->first[d] + (k < last ? k : last);
            weight[i] = k <= last ? axis->weights[i] : 0;
        }
    return VGG_OK;
}

vgg_status vgg__pillow_axes(vgg_context *ctx, const struct vgg__pillow *pillow,
                            vgg_axis *x, vgg_axis *y)
{
    VGG_TRY(export_axis(ctx, &pillow->x, x));
    return export_axis(ctx, &pillow->y, y);
}
