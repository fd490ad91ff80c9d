/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets that stay: written from the words of backend.h and the headers of lib/data,
 * pixel by pixel, sharing nothing with the loader that it is compared with. */
#include <stdlib.h>
#include <string.h>

#include "remote.h"

struct axis {
    uint32_t in, out, taps;
    uint32_t *at;
    int32_t *weight;
};

struct data {
    vgg_extent stored, shown;
    uint32_t rule, top, left;
    struct axis x, y;
    float *table;    /* [c][256] */
    uint8_t *images; /* [count][c][h][w] */
};

static void *copy(const void *from, size_t size)
{
    void *to = malloc(size > 0 ? size : 1);
    if (to != NULL && size > 0) memcpy(to, from, size);
    return to;
}

static struct axis copy_axis(const vgg_axis *from)
{
    const size_t count = (size_t)from->out * from->taps;
    return (struct axis){from->in, from->out, from->taps,
                         copy(from->at, count * sizeof *from->at),
                         copy(from->weight, count * sizeof *from->weight)};
}

void remote_data_free(void *data)
{
    struct data *d = data;
    if (d == NULL) return;
    free(d->x.at);
    free(d->x.weight);
    free(d->y.at);
    free(d->y.weight);
    free(d->table);
    free(d->images);
    free(d);
    remote.data_freed++;
}

vgg_status remote_data_create(void *device, const vgg_data_desc *desc, void **data)
{
    const size_t image = (size_t)desc->stored.c * desc->stored.h * desc->stored.w;
    *data = NULL;
    if (desc->count * image > remote.room)
        return remote.host->fail(VGG_ENOMEM, "no room for %zu bytes",
                                 (size_t)desc->count * image);
    struct data *d = calloc(1, sizeof *d);
    *d = (struct data){desc->stored,
                       desc->shown,
                       desc->resize_rule,
                       desc->top,
                       desc->left,
                       .table = copy(desc->table, desc->stored.c * 256 * sizeof(float)),
                       .images = malloc(desc->count * image)};
    if (desc->resize_rule != VGG_NO_RESIZE) {
        d->x = copy_axis(&desc->x);
        d->y = copy_axis(&desc->y);
    }
    remote.data_made++;
    for (uint64_t i = 0; i < desc->count; i++) {
        const vgg_status status = desc->read(desc->cookie, i, d->images + i * image);
        if (status != VGG_OK) {
            remote_data_free(d);
            return status;
        }
        remote.images_read++;
    }
    *data = d;
    return VGG_OK;
}

size_t remote_data_sample(const void *data)
{
    const struct data *d = data;
    return (size_t)d->shown.c * d->shown.h * d->shown.w;
}

/* ---- Resizing, a pixel at a time ------------------------------------------------- */

static int64_t sum_x(const struct axis *x, const uint8_t *row, uint32_t column)
{
    int64_t sum = 0;
    for (uint32_t k = 0; k < x->taps; k++)
        sum +=
            (int64_t)row[x->at[column * x->taps + k]] * x->weight[column * x->taps + k];
    return sum;
}

static int64_t rounded(int64_t sum)
{
    const int64_t value = (sum + (1 << 21)) >> 22;
    return value > 255 ? 255 : value;
}

static uint8_t resized(const struct data *d, const uint8_t *plane, uint32_t row,
                       uint32_t column)
{
    const uint32_t *at = d->y.at + (size_t)row * d->y.taps;
    const int32_t *weight = d->y.weight + (size_t)row * d->y.taps;
    int64_t sum = 0;
    for (uint32_t k = 0; k < d->y.taps; k++) {
        const int64_t inner = sum_x(&d->x, plane + (size_t)at[k] * d->stored.w, column);
        if (d->rule == VGG_RESIZE_OPENCV)
            sum += ((inner >> 4) * weight[k]) >> 16;
        else if (d->rule == VGG_RESIZE_EXACT)
            sum += inner * weight[k];
        else
            sum += rounded(inner) * weight[k];
    }
    const int64_t one = INT64_C(4) * d->x.out * d->y.out;
    if (d->rule == VGG_RESIZE_OPENCV) return (uint8_t)((sum + 2) >> 2);
    if (d->rule == VGG_RESIZE_EXACT) return (uint8_t)((2 * sum + one) / (2 * one));
    return (uint8_t)rounded(sum);
}

/* ---- One input ------------------------------------------------------------------- */

/* The pixel that output (y, x) shows, 0 from outside the crop. */
static uint8_t pixel(const struct data *d, const uint8_t *plane,
                     const vgg_sample *sample, uint32_t y, uint32_t x)
{
    if (sample->flip) x = d->shown.w - 1 - x;
    const int64_t row = (int64_t)y + sample->down, column = (int64_t)x + sample->right;
    if (row < 0 || row >= d->shown.h || column < 0 || column >= d->shown.w) return 0;
    const uint32_t top = d->top + (uint32_t)row, left = d->left + (uint32_t)column;
    if (d->rule == VGG_NO_RESIZE) return plane[(size_t)top * d->stored.w + left];
    return resized(d, plane, top, left);
}

static bool erased(const vgg_sample *s, uint32_t y, uint32_t x)
{
    return y >= s->erase_top && y - s->erase_top < s->erase_height &&
           x >= s->erase_left && x - s->erase_left < s->erase_width;
}

void remote_data_show(const void *data, const vgg_sample *sample, float *out)
{
    const struct data *d = data;
    const size_t plane = (size_t)d->stored.h * d->stored.w;
    const uint8_t *image = d->images + sample->index * d->stored.c * plane;
    for (uint32_t c = 0; c < d->shown.c; c++)
        for (uint32_t y = 0; y < d->shown.h; y++)
            for (uint32_t x = 0; x < d->shown.w; x++)
                *out++ =
                    erased(sample, y, x)
                        ? 0.0f
                        : d->table[c * 256 + pixel(d, image + c * plane, sample, y, x)];
}
