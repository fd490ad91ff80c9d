/* SPDX-License-Identifier: Apache-2.0 */
/* Architectures: the known ones as a table, and the check of any.
 *
 * The table is the paper's table 1 (arXiv 1409.1556) without A-LRN. The check walks the
 * layers that build.c would add, with the same rules (spec.h), and allocates
 * nothing. */
#include "core/error.h"
#include "core/options.h"
#include "model/spec.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { D2L, A, B, C, D, E, CONFIG_COUNT };

/* Convolutions of the five blocks; the last `pointwise` of blocks 3 to 5 are 1x1. */
static const struct {
    uint32_t convs[5];
    uint32_t pointwise;
} configs[CONFIG_COUNT] = {
    [D2L] = {{1, 1, 2, 2, 2}, 0}, [A] = {{1, 1, 2, 2, 2}, 0},
    [B] = {{2, 2, 2, 2, 2}, 0},   [C] = {{2, 2, 3, 3, 3}, 1},
    [D] = {{2, 2, 3, 3, 3}, 0},   [E] = {{2, 2, 4, 4, 4}, 0},
};

static const uint32_t block_channels[5] = {64, 128, 256, 512, 512};

static const struct {
    const char *name;
    uint32_t config;
    uint32_t batch_norm;
} presets[] = {
    {"d2l", D2L, 0},  {"d2l_bn", D2L, 1},  {"vgg11", A, 0}, {"vgg11_bn", A, 1},
    {"vgg13", B, 0},  {"vgg13_bn", B, 1},  {"vgg16", D, 0}, {"vgg16_bn", D, 1},
    {"vgg16c", C, 0}, {"vgg16c_bn", C, 1}, {"vgg19", E, 0}, {"vgg19_bn", E, 1},
    {"A", A, 0},      {"B", B, 0},         {"C", C, 0},     {"D", D, 0},
    {"E", E, 0},
};

#define PRESET_COUNT (sizeof presets / sizeof presets[0])

/* Bytes of vgg_arch in its first release. */
#define FIRST_SIZE VGG_SIZE_UP_TO(vgg_arch, batch_norm)

const char *vgg_arch_preset_name(uint32_t index)
{
    return index < PRESET_COUNT ? presets[index].name : NULL;
}

static vgg_status refuse_preset(const char *name)
{
    char known[256] = "";
    size_t length = 0;
    for (size_t i = 0; i < PRESET_COUNT && length < sizeof known; i++)
        length += (size_t)snprintf(known + length, sizeof known - length, "%s%s",
                                   i > 0 ? ", " : "", presets[i].name);
    return vgg__fail(VGG_EINVAL, "architecture \"%.40s\" is not known; known are %s",
                     name, known);
}

vgg_status vgg_arch_preset(const char *name, vgg_arch *out)
{
    VGG_REQUIRE(name != NULL);
    VGG_REQUIRE(out != NULL);
    size_t i = 0;
    while (i < PRESET_COUNT && strcmp(presets[i].name, name) != 0) i++;
    if (i == PRESET_COUNT) return refuse_preset(name);

    vgg_arch arch = VGG_ARCH_INIT; /* the chapter's head, input and dropout */
    const uint32_t config = presets[i].config;
    for (uint32_t b = 0; b < 5; b++)
        arch.blocks[b] = (vgg_block){configs[config].convs[b], block_channels[b],
                                     b >= 2 ? configs[config].pointwise : 0};
    arch.batch_norm = presets[i].batch_norm;
    if (config != D2L) {
        arch.channels = 3;
        arch.classes = 1000;
        arch.head = VGG_HEAD_ADAPTIVE;
    }
    return vgg__options_write("vgg_arch", &arch, sizeof arch, FIRST_SIZE, out);
}

/* ---- Checking -------------------------------------------------------------------- */

/* A field that has a smallest and a largest value. */
struct range {
    const char *name;
    uint32_t value, least, most;
};

static vgg_status check_fields(const vgg_arch *arch, uint32_t ratio)
{
    const uint32_t least_classes = arch->head == VGG_HEAD_NONE ? 0 : 1;
    const struct range ranges[] = {
        {"ratio", ratio, 1, UINT32_MAX},
        {"block_count", arch->block_count, 1, VGG_MAX_BLOCKS},
        {"channels", arch->channels, 1, UINT32_MAX},
        {"height", arch->height, 1, UINT32_MAX},
        {"width", arch->width, 1, UINT32_MAX},
        {"head", arch->head, 0, VGG_HEAD_NONE},
        {"pool", arch->pool, 0, VGG_POOL_AVERAGE},
        {"batch_norm", arch->batch_norm, 0, 1},
        {"classes", arch->classes, least_classes, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        const struct range *r = &ranges[i];
        if (r->value >= r->least && r->value <= r->most) continue;
        if (r->most == UINT32_MAX)
            return vgg__fail(VGG_EINVAL, "%s is %" PRIu32 ", needs at least %" PRIu32,
                             r->name, r->value, r->least);
        return vgg__fail(VGG_EINVAL, "%s is %" PRIu32 ", needs %" PRIu32 " to %" PRIu32,
                         r->name, r->value, r->least, r->most);
    }
    return VGG_OK;
}

static vgg_status check_block(const vgg_arch *arch, uint32_t index, uint32_t ratio)
{
    const vgg_block block = arch->blocks[index];
    const uint32_t number = index + 1;
    if (block.convs == 0)
        return vgg__fail(VGG_EINVAL, "block %" PRIu32 ": 0 convs, needs at least 1",
                         number);
    if (block.pointwise > block.convs)
        return vgg__fail(
            VGG_EINVAL, "block %" PRIu32 ": %" PRIu32 " pointwise of %" PRIu32 " convs",
            number, block.pointwise, block.convs);
    if (block.channels / ratio == 0)
        return vgg__fail(VGG_EINVAL,
                         "block %" PRIu32 ": %" PRIu32 " channels / ratio %" PRIu32
                         " = 0, needs at least 1",
                         number, block.channels, ratio);
    return VGG_OK;
}

/* Layers of the head: its pooling and flattening, twice a linear layer with ReLU and
 * dropout, and the classes. */
static uint32_t head_layers(const vgg_arch *arch)
{
    if (arch->head == VGG_HEAD_NONE) return 0;
    if (arch->head == VGG_HEAD_GAP) return 3;
    return (arch->head == VGG_HEAD_ADAPTIVE) + 2 + (arch->hidden > 0 ? 6 : 0);
}

static vgg_status check_layer_count(const vgg_arch *arch)
{
    uint64_t layers = head_layers(arch);
    for (uint32_t i = 0; i < arch->block_count; i++)
        layers += (uint64_t)arch->blocks[i].convs * (2 + arch->batch_norm) + 1;
    if (layers > VGG_MAX_LAYERS)
        return vgg__fail(VGG_ELIMIT, "%" PRIu64 " layers, limit is %d", layers,
                         VGG_MAX_LAYERS);
    return VGG_OK;
}

/* Every pool halves, rounding down, and needs two pixels a side. */
static vgg_status check_size(const vgg_arch *arch)
{
    uint32_t h = arch->height, w = arch->width;
    for (uint32_t i = 0; i < arch->block_count; i++, h /= 2, w /= 2)
        if (h < 2 || w < 2)
            return vgg__fail(VGG_ESHAPE,
                             "input %" PRIu32 "x%" PRIu32 "x%" PRIu32
                             " is too small for %" PRIu32 " pools: block %" PRIu32
                             " gets %" PRIu32 "x%" PRIu32,
                             arch->channels, arch->height, arch->width,
                             arch->block_count, i + 1, h, w);
    return VGG_OK;
}

/* One layer more of the walk: `shape` goes in and comes out. */
static vgg_status pass(vgg_shape *shape, const char *name, struct vgg__spec spec)
{
    const vgg_shape in = *shape;
    return vgg__spec_infer(&spec, name, &in, shape);
}

static vgg_status walk_blocks(const vgg_arch *arch, uint32_t ratio, vgg_shape *shape)
{
    for (uint32_t b = 0; b < arch->block_count; b++) {
        char name[32];
        snprintf(name, sizeof name, "block %" PRIu32, b + 1);
        const vgg_block block = arch->blocks[b];
        const struct vgg__spec conv = {.kind = VGG_LAYER_CONV,
                                       .width = block.channels / ratio};
        for (uint32_t i = 0; i < block.convs; i++) {
            struct vgg__spec spec = conv;
            spec.kernel = i < block.convs - block.pointwise ? 3 : 1;
            VGG_TRY(pass(shape, name, spec));
        }
        VGG_TRY(pass(shape, name, (struct vgg__spec){.kind = VGG_LAYER_POOL}));
    }
    return VGG_OK;
}

static vgg_status walk_head(const vgg_arch *arch, vgg_shape *shape)
{
    if (arch->head == VGG_HEAD_NONE) return VGG_OK;
    const uint32_t side = arch->head == VGG_HEAD_GAP ? 1 : 7;
    if (arch->head != VGG_HEAD_FLATTEN)
        VGG_TRY(pass(shape, "avgpool",
                     (struct vgg__spec){.kind = VGG_LAYER_ADAPTIVE_POOL,
                                        .height = side,
                                        .columns = side}));
    VGG_TRY(pass(shape, "flatten", (struct vgg__spec){.kind = VGG_LAYER_FLATTEN}));
    if (arch->head != VGG_HEAD_GAP && arch->hidden > 0) {
        const struct vgg__spec hidden = {.kind = VGG_LAYER_LINEAR,
                                         .width = arch->hidden};
        VGG_TRY(pass(shape, "hidden", hidden));
        VGG_TRY(pass(
            shape, "dropout",
            (struct vgg__spec){.kind = VGG_LAYER_DROPOUT, .dropout = arch->dropout}));
        VGG_TRY(pass(shape, "hidden", hidden));
    }
    return pass(shape, "classes",
                (struct vgg__spec){.kind = VGG_LAYER_LINEAR, .width = arch->classes});
}

vgg_status vgg__arch_read(const vgg_arch *source, uint32_t ratio, vgg_arch *out)
{
    if (source == NULL) return vgg__fail(VGG_EINVAL, "vgg_arch: needs one, found NULL");
    VGG_TRY(vgg__options_read("vgg_arch", source, FIRST_SIZE, out, sizeof *out));
    if (!(out->dropout >= 0.0f && out->dropout < 1.0f))
        return vgg__fail(VGG_EINVAL, "dropout is %s, needs 0 <= rate < 1",
                         isnan(out->dropout)   ? "NaN"
                         : out->dropout < 0.0f ? "below 0"
                                               : "1 or more");
    VGG_TRY(check_fields(out, ratio));
    for (uint32_t i = 0; i < out->block_count; i++) VGG_TRY(check_block(out, i, ratio));
    VGG_TRY(check_layer_count(out));
    VGG_TRY(check_size(out));
    vgg_shape shape = {3, {out->channels, out->height, out->width}};
    for (uint32_t i = 0; i < shape.rank; i++)
        if (shape.dim[i] > VGG_MAX_EXTENT)
            return vgg__fail(VGG_ELIMIT,
                             "input %" PRIu32 "x%" PRIu32 "x%" PRIu32
                             ": limit of an extent is %d",
                             shape.dim[0], shape.dim[1], shape.dim[2], VGG_MAX_EXTENT);
    VGG_TRY(vgg__need_elements("input", "a sample", &shape));
    VGG_TRY(walk_blocks(out, ratio, &shape));
    return walk_head(out, &shape);
}

vgg_status vgg_arch_check(const vgg_arch *arch, uint32_t ratio)
{
    vgg_arch known;
    return vgg__arch_read(arch, ratio, &known);
}
