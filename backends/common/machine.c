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
