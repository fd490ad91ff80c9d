/* SPDX-License-Identifier: Apache-2.0 */
#include "arrays.h"

#include <string.h>

uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float bf16_value(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

float small(uint32_t sequence, size_t index, int span, float unit)
{
    uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u + sequence * 0xd1342543de82ef95u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 29) >> 20;
    return (float)((int)(x % (uint64_t)(2 * span + 1)) - span) * unit;
}

void *smalls(enum vgg__type type, size_t count, uint32_t sequence, int span, float unit)
{
    void *const to = array(count * (type == VGG__BF16 ? 2 : 4));
    for (size_t i = 0; i < count; i++) {
        const float x = small(sequence, i, span, unit);
        if (type == VGG__BF16)
            ((uint16_t *)to)[i] = bf16_of(x);
        else
            ((float *)to)[i] = x;
    }
    return to;
}

float element(const void *array, enum vgg__type type, size_t index)
{
    return type == VGG__BF16 ? bf16_value(((const uint16_t *)array)[index])
                             : ((const float *)array)[index];
}
