/* SPDX-License-Identifier: Apache-2.0 */
/* An architecture as text: see arch.h. */
#include "store/arch.h"

#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "io/json.h"

#include <stdio.h>
#include <string.h>

static const char *const heads[] = {"flatten", "adaptive", "gap", "none"};
static const char *const pools[] = {"max", "average"};

enum {
    BLOCKS,
    CHANNELS,
    HEIGHT,
    WIDTH,
    CLASSES,
    HIDDEN,
    DROPOUT,
    HEAD,
    POOL,
    BATCH_NORM,
    RATIO,
    FIELDS
};

static const char *const fields[FIELDS] = {"blocks",  "channels",   "height",  "width",
                                           "classes", "hidden",     "dropout", "head",
                                           "pool",    "batch_norm", "ratio"};

/* Where the fields that are plain integers are. */
static uint32_t *integer(vgg_arch *arch, uint32_t *ratio, uint32_t field)
{
    switch (field) {
    case CHANNELS:
        return &arch->channels;
    case HEIGHT:
        return &arch->height;
    case WIDTH:
        return &arch->width;
    case CLASSES:
        return &arch->classes;
    case HIDDEN:
        return &arch->hidden;
    case BATCH_NORM:
        return &arch->batch_norm;
    case RATIO:
        return ratio;
    default:
        return NULL;
    }
}

/* A float as the shortest decimal that gives the same float. */
static double shortest(float value)
{
    double result = value, scale = 1.0;
    const uint64_t mode = vgg__fpmode_enter();
    for (int digits = 0; digits < 9; digits++, scale *= 10.0) {
        const double decimal = (double)(int64_t)((double)value * scale + 0.5) / scale;
        if ((float)decimal != value) continue;
        result = decimal;
        break;
    }
    vgg__fpmode_leave(mode);
    return result;
}

static void put_field(struct vgg__json_out *json, vgg_arch *arch, uint32_t ratio,
                      uint32_t field)
{
    const uint32_t *number = integer(arch, &ratio, field);
    if (number != NULL) vgg__json_put_u64(json, fields[field], *number);
    if (field == DROPOUT)
        vgg__json_put_double(json, "dropout", shortest(arch->dropout));
    if (field == HEAD) vgg__json_put_text(json, "head", heads[arch->head]);
    if (field == POOL) vgg__json_put_text(json, "pool", pools[arch->pool]);
    if (field != BLOCKS) return;
    vgg__json_open(json, "blocks", '[');
    for (uint32_t i = 0; i < arch->block_count; i++) {
        vgg__json_open(json, NULL, '[');
        vgg__json_put_u64(json, NULL, arch->blocks[i].convs);
        vgg__json_put_u64(json, NULL, arch->blocks[i].channels);
        vgg__json_put_u64(json, NULL, arch->blocks[i].pointwise);
        vgg__json_close(json, ']');
    }
    vgg__json_close(json, ']');
}

vgg_status vgg__arch_write(vgg_context *ctx, const vgg_arch *arch, uint32_t ratio,
                           char **text)
{
    struct vgg__json_out json;
    vgg_arch copy = *arch;
    *text = NULL;
    vgg__json_out_begin(&json, ctx, true);
    vgg__json_open(&json, NULL, '{');
    for (uint32_t i = 0; i < FIELDS; i++) put_field(&json, &copy, ratio, i);
    vgg__json_close(&json, '}');
    if (json.status == VGG_OK)
        *text = json.text;
    else
        vgg__json_out_free(&json);
    return json.status;
}

static vgg_status read_blocks(struct vgg__json *json, vgg_arch *arch)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_ARRAY));
    for (arch->block_count = 0;; arch->block_count++) {
        VGG_TRY(vgg__json_next(json));
        if (json->kind == VGG_JSON_ARRAY_END) return VGG_OK;
        if (json->kind != VGG_JSON_ARRAY)
            return vgg__json_fail(json, VGG_EFORMAT,
                                  "a block is [convs, channels, pointwise]");
        if (arch->block_count == VGG_MAX_BLOCKS)
            return vgg__json_fail(json, VGG_ELIMIT, "more than %d blocks",
                                  VGG_MAX_BLOCKS);
        vgg_block *block = &arch->blocks[arch->block_count];
        VGG_TRY(vgg__json_read_u32(json, &block->convs));
        VGG_TRY(vgg__json_read_u32(json, &block->channels));
        VGG_TRY(vgg__json_read_u32(json, &block->pointwise));
        VGG_TRY(vgg__json_expect(json, VGG_JSON_ARRAY_END));
    }
}

static vgg_status read_word(struct vgg__json *json, const char *const *words,
                            uint32_t count, uint32_t *out)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_STRING));
    for (*out = 0; *out < count; ++*out)
        if (vgg__json_is(json, words[*out])) return VGG_OK;
    return vgg__json_fail(json, VGG_EFORMAT, "expected \"%s\" or the like", words[0]);
}

static vgg_status read_field(struct vgg__json *json, vgg_arch *arch, uint32_t *ratio,
                             uint32_t field)
{
    double dropout = 0.0;
    switch (field) {
    case BLOCKS:
        return read_blocks(json, arch);
    case HEAD:
        return read_word(json, heads, 4, &arch->head);
    case POOL:
        return read_word(json, pools, 2, &arch->pool);
    case DROPOUT:
        VGG_TRY(vgg__json_read_double(json, &dropout));
        if (!(dropout >= 0.0 && dropout < 1.0))
            return vgg__json_fail(json, VGG_EFORMAT, "expected 0 <= dropout < 1");
        arch->dropout = (float)dropout;
        return VGG_OK;
    default:
        return vgg__json_read_u32(json, integer(arch, ratio, field));
    }
}

/* The architecture is one that can be built. */
static vgg_status check(const char *shown, const vgg_arch *arch, uint32_t ratio)
{
    const vgg_status status = vgg_arch_check(arch, ratio);
    if (status == VGG_OK || status == VGG_ENOMEM) return status;
    char why[VGG_ERROR_SIZE];
    snprintf(why, sizeof why, "%s", vgg_last_error());
    return vgg__fail(VGG_EFORMAT, "%s: %s: %s", shown, VGG_ARCH_KEY, why);
}

vgg_status vgg__arch_parse(const char *shown, const char *text, vgg_arch *arch,
                           uint32_t *ratio)
{
    struct vgg__json json;
    char name[300];
    uint32_t seen = 0, field;
    memset(arch, 0, sizeof *arch);
    arch->size = sizeof *arch;
    *ratio = 0;
    const size_t length = strlen(shown);
    const char *end = length > 200 ? shown + length - 200 : shown;
    snprintf(name, sizeof name, "%s: %s", end, VGG_ARCH_KEY);
    vgg__json_begin(&json, name, text, strlen(text));
    VGG_TRY(vgg__json_expect(&json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(&json, fields, FIELDS, &seen, &field));
        if (field == FIELDS) break;
        VGG_TRY(read_field(&json, arch, ratio, field));
    }
    VGG_TRY(vgg__json_complete(&json, fields, FIELDS, seen, "the architecture"));
    VGG_TRY(vgg__json_expect(&json, VGG_JSON_END));
    return check(shown, arch, *ratio);
}

/* Saturating: a huge architecture is only compared with a file's size. */
static uint64_t product(uint64_t a, uint64_t b)
{
    uint64_t out;
    return __builtin_mul_overflow(a, b, &out) ? UINT64_MAX : out;
}

static uint64_t sum(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static uint64_t linear(uint64_t in, uint64_t out)
{
    return sum(product(in, out), out);
}

uint64_t vgg__arch_values(const vgg_arch *arch, uint32_t ratio)
{
    uint64_t total = 0, channels = arch->channels;
    uint64_t height = arch->height, width = arch->width;
    for (uint32_t b = 0; b < arch->block_count; b++, height /= 2, width /= 2) {
        const vgg_block *block = &arch->blocks[b];
        const uint64_t out = block->channels / ratio;
        for (uint32_t i = 0; i < block->convs; i++, channels = out) {
            const uint64_t taps = i < block->convs - block->pointwise ? 9 : 1;
            total = sum(total, linear(product(channels, taps), out));
            if (arch->batch_norm) total = sum(total, product(4, out));
        }
    }
    if (arch->head == VGG_HEAD_NONE) return total;
    uint64_t features = product(channels, product(height, width));
    if (arch->head == VGG_HEAD_ADAPTIVE) features = product(channels, 49);
    if (arch->head == VGG_HEAD_GAP) features = channels;
    if (arch->head != VGG_HEAD_GAP && arch->hidden > 0) {
        total = sum(total, linear(features, arch->hidden));
        total = sum(total, linear(arch->hidden, arch->hidden));
        features = arch->hidden;
    }
    return sum(total, linear(features, arch->classes));
}
