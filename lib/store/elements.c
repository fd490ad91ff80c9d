/* SPDX-License-Identifier: Apache-2.0 */
/* The elements of safetensors files: read and converted through a bounded buffer, and
 * written. */
#include "core/error.h"
#include "core/memory.h"
#include "io/json.h"
#include "store/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define BUFFER ((size_t)1 << 16) /* elements converted at a time */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float from_f32(const uint8_t *p)
{
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Rounds to nearest; a value that f32 has no room for becomes infinite. */
static float from_f64(const uint8_t *p)
{
    double value;
    memcpy(&value, p, sizeof value);
    return (float)value;
}

static float from_bf16(const uint8_t *p)
{
    return from_bits((uint32_t)p[0] << 16 | (uint32_t)p[1] << 24);
}

/* IEEE binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. Exact in f32. */
static float from_f16(const uint8_t *p)
{
    const uint32_t half = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    const uint32_t sign = (half & 0x8000) << 16, exponent = half >> 10 & 31;
    const uint32_t fraction = half & 0x3ff;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent > 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float value = (float)fraction * 0x1p-24f; /* denormal, or zero */
    return sign != 0 ? -value : value;
}

static const struct {
    const char *name;
    size_t size;
    float (*convert)(const uint8_t *p);
} readable[] = {{"F32", 4, from_f32},
                {"F64", 8, from_f64},
                {"F16", 2, from_f16},
                {"BF16", 2, from_bf16}};

/* Convert one buffer; false and the index in *count when a value is not finite. */
static bool convert(const uint8_t *bytes, uint32_t type, size_t *count, float *out)
{
    bool finite = true;
    const size_t size = readable[type].size;
    for (size_t i = 0; i < *count; i++) {
        out[i] = readable[type].convert(bytes + i * size);
        if (finite && !isfinite(out[i])) {
            finite = false;
            *count = i;
            break;
        }
    }
    return finite;
}

static vgg_status read_converted(const struct vgg__safetensors *st,
                                 const struct vgg__st_tensor *tensor, uint32_t type,
                                 bool allow_infinite, float *out)
{
    const size_t size = readable[type].size;
    uint8_t *bytes = vgg__alloc(st->ctx, BUFFER * size);
    if (bytes == NULL) return VGG_ENOMEM;
    vgg_status status = VGG_OK;
    for (uint64_t at = 0; status == VGG_OK && at < tensor->count;) {
        const uint64_t left = tensor->count - at;
        const size_t part = left < BUFFER ? (size_t)left : BUFFER;
        status = vgg__input_read(st->input, st->data + tensor->begin + at * size, bytes,
                                 part * size);
        for (size_t done = 0, count; status == VGG_OK && done < part;) {
            count = part - done;
            if (convert(bytes + done * size, type, &count, out + at + done)) break;
            if (!allow_infinite)
                status = vgg__fail(VGG_ENONFINITE,
                                   "%s: %s: element %" PRIu64 " is not a finite f32",
                                   st->input->shown, tensor->name, at + done + count);
            done += count + 1;
        }
        at += part;
    }
    vgg__free(bytes);
    return status;
}

vgg_status vgg__safetensors_read_f32(const struct vgg__safetensors *st,
                                     const struct vgg__st_tensor *tensor,
                                     bool allow_infinite, float *out)
{
    for (uint32_t i = 0; i < sizeof readable / sizeof readable[0]; i++)
        if (strcmp(tensor->dtype, readable[i].name) == 0)
            return read_converted(st, tensor, i, allow_infinite, out);
    return vgg__fail(VGG_EMISMATCH,
                     "%s: %s: file has %s, expected F32, F64, F16 or BF16",
                     st->input->shown, tensor->name, tensor->dtype);
}

vgg_status vgg__safetensors_read_i64(const struct vgg__safetensors *st,
                                     const struct vgg__st_tensor *tensor, int64_t *out)
{
    if (strcmp(tensor->dtype, "I64") != 0 || tensor->shape.rank != 0) {
        char text[96];
        vgg_shape_text(&tensor->shape, text, sizeof text);
        return vgg__fail(VGG_EMISMATCH, "%s: %s: file has %s %s, expected I64 scalar",
                         st->input->shown, tensor->name, tensor->dtype, text);
    }
    return vgg__input_read(st->input, st->data + tensor->begin, out, sizeof *out);
}

/* ---- Writing --------------------------------------------------------------------- */

static uint64_t item_bytes(const struct vgg__st_item *item)
{
    return item->shape != NULL ? item->count * sizeof(float) : sizeof(int64_t);
}

static void put_item(struct vgg__json_out *json, const struct vgg__st_item *item,
                     uint64_t begin)
{
    vgg__json_open(json, item->name, '{');
    vgg__json_put_text(json, "dtype", item->shape != NULL ? "F32" : "I64");
    vgg__json_open(json, "shape", '[');
    for (uint32_t i = 0; item->shape != NULL && i < item->shape->rank; i++)
        vgg__json_put_u64(json, NULL, item->shape->dim[i]);
    vgg__json_close(json, ']');
    vgg__json_open(json, "data_offsets", '[');
    vgg__json_put_u64(json, NULL, begin);
    vgg__json_put_u64(json, NULL, begin + item_bytes(item));
    vgg__json_close(json, ']');
    vgg__json_close(json, '}');
}

/* The header's text. I64 tensors are first in the data, so that all are aligned. */
static vgg_status build_header(struct vgg__json_out *json,
                               const struct vgg__st_item *items, uint32_t count,
                               const vgg_metadata *metadata)
{
    uint64_t next[2] = {0, 0}; /* of I64, of F32 */
    for (uint32_t i = 0; i < count; i++)
        if (items[i].shape == NULL) next[1] += sizeof(int64_t);
    vgg__json_open(json, NULL, '{');
    if (metadata != NULL && metadata->count > 0) {
        vgg__json_open(json, "__metadata__", '{');
        for (uint32_t i = 0; i < metadata->count; i++)
            vgg__json_put_text(json, metadata->pairs[i].key, metadata->pairs[i].value);
        vgg__json_close(json, '}');
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t *place = &next[items[i].shape != NULL];
        put_item(json, &items[i], *place);
        *place += item_bytes(&items[i]);
    }
    vgg__json_close(json, '}');
    return json->status;
}

static vgg_status write_header(struct vgg__out *out, const struct vgg__json_out *json)
{
    static const char spaces[VGG_ALIGN + 1] =
        "                                                                ";
    const size_t padding = (VGG_ALIGN - (8 + json->size) % VGG_ALIGN) % VGG_ALIGN;
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((json->size + padding) >> 8 * i);
    VGG_TRY(vgg__out_write(out, length, sizeof length));
    VGG_TRY(vgg__out_write(out, json->text, json->size));
    return vgg__out_write(out, spaces, padding);
}

vgg_status vgg__safetensors_write(struct vgg__out *out, vgg_context *ctx,
                                  const struct vgg__st_item *items, uint32_t count,
                                  const vgg_metadata *metadata)
{
    struct vgg__json_out json;
    vgg__json_out_begin(&json, ctx, true);
    vgg_status status = build_header(&json, items, count, metadata);
    if (status == VGG_OK && json.size > VGG_ST_HEADER - VGG_ALIGN)
        status = vgg__fail(VGG_ELIMIT,
                           "%s: a header of %zu bytes, at most %" PRIu64
                           " (names and metadata together)",
                           out->shown, json.size, VGG_ST_HEADER - VGG_ALIGN);
    if (status == VGG_OK) status = write_header(out, &json);
    vgg__json_out_free(&json);
    for (int floats = 0; floats < 2; floats++)
        for (uint32_t i = 0; i < count && status == VGG_OK; i++)
            if ((items[i].shape != NULL) == floats)
                status = vgg__out_write(out, items[i].data, item_bytes(&items[i]));
    return status;
}
