/* SPDX-License-Identifier: Apache-2.0 */
/* Memory and conversion for the toolkit. */
#include "common/machine.h"

#include <string.h>

void *vgg__machine_calloc(const struct vgg__machine *machine, size_t count, size_t size)
{
    const size_t bytes = vgg__size_mul(count, size);
    if (bytes == SIZE_MAX) {
        machine->host.fail(
            VGG_ENOMEM, "%zu elements of %zu bytes: more than an address", count, size);
        return NULL;
    }
    void *memory = machine->host.alloc(machine->host.ctx, bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

static void widen(double *restrict out, const float *restrict in, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = in[i];
}

static void narrow(float *restrict out, const double *restrict in, size_t count)
{
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i];
}

void vgg__convert(void *out, vgg_dtype out_type, const void *in, vgg_dtype in_type,
                  size_t count)
{
    if (out_type == in_type)
        memcpy(out, in, count * (in_type == VGG_F64 ? sizeof(double) : sizeof(float)));
    else if (out_type == VGG_F64)
        widen(out, in, count);
    else
        narrow(out, in, count);
}

bool vgg__samples_differ(const struct vgg__machine *machine, vgg_extent extent)
{
    return machine->channels_last && extent.c > 1 && (extent.h > 1 || extent.w > 1);
}

/* [n][rows][cols] of float to [n][cols][rows] of either type. */
static void transpose(const struct vgg__samples *s, size_t rows, size_t cols)
{
    const float *in = s->in;
    for (size_t n = 0, first = 0; n < s->count; n++, first += rows * cols)
        for (size_t j = 0; j < cols; j++)
            for (size_t i = 0; i < rows; i++) {
                const float value = in[first + i * cols + j];
                const size_t to = first + j * rows + i;
                if (s->out_type == VGG_F64)
                    ((double *)s->out)[to] = value;
                else
                    ((float *)s->out)[to] = value;
            }
}

void vgg__samples_in(const struct vgg__machine *machine, const struct vgg__samples *s)
{
    if (vgg__samples_differ(machine, s->extent))
        transpose(s, s->extent.c, (size_t)s->extent.h * s->extent.w);
    else
        vgg__convert(s->out, s->out_type, s->in, s->in_type,
                     s->count * vgg__extent_count(s->extent));
}

void vgg__samples_out(const struct vgg__machine *machine, const struct vgg__samples *s)
{
    if (vgg__samples_differ(machine, s->extent))
        transpose(s, (size_t)s->extent.h * s->extent.w, s->extent.c);
    else
        vgg__convert(s->out, s->out_type, s->in, s->in_type,
                     s->count * vgg__extent_count(s->extent));
}
