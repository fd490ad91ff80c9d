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
struct transposition {
    const struct vgg__samples *samples;
    size_t rows, cols;
};

static void transpose_f32(float *restrict out, const float *restrict in, size_t rows,
                          size_t cols)
{
    for (size_t j = 0; j < cols; j++)
        for (size_t i = 0; i < rows; i++) out[j * rows + i] = in[i * cols + j];
}

static void transpose_f64(double *restrict out, const float *restrict in, size_t rows,
                          size_t cols)
{
    for (size_t j = 0; j < cols; j++)
        for (size_t i = 0; i < rows; i++) out[j * rows + i] = in[i * cols + j];
}

/* A sample. */
static void transpose_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct transposition *t = arg;
    const size_t first = task * t->rows * t->cols;
    const float *in = (const float *)t->samples->in + first;
    if (t->samples->out_type == VGG_F64)
        transpose_f64((double *)t->samples->out + first, in, t->rows, t->cols);
    else
        transpose_f32((float *)t->samples->out + first, in, t->rows, t->cols);
}

static void transpose(const struct vgg__machine *machine, const struct vgg__samples *s,
                      size_t rows, size_t cols)
{
    struct transposition t = {s, rows, cols};
    machine->parallel(machine, (uint32_t)s->count, transpose_task, &t);
}

void vgg__samples_in(const struct vgg__machine *machine, const struct vgg__samples *s)
{
    if (vgg__samples_differ(machine, s->extent))
        transpose(machine, s, s->extent.c, (size_t)s->extent.h * s->extent.w);
    else
        vgg__convert(s->out, s->out_type, s->in, s->in_type,
                     s->count * vgg__extent_count(s->extent));
}

void vgg__samples_out(const struct vgg__machine *machine, const struct vgg__samples *s)
{
    if (vgg__samples_differ(machine, s->extent))
        transpose(machine, s, (size_t)s->extent.h * s->extent.w, s->extent.c);
    else
        vgg__convert(s->out, s->out_type, s->in, s->in_type,
                     s->count * vgg__extent_count(s->extent));
}
