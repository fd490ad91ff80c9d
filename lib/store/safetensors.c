/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the table of a safetensors file: see safetensors.h.
 *
 * Two passes over the header: the first checks its text and counts, the second fills
 * the table, which is then checked as a whole. */
#include "store/safetensors.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/sort.h"
#include "io/json.h"
#include "io/sniff.h"
#include "store/arch.h"

#include <inttypes.h>
#include <string.h>

#define MOST_ELEMENTS ((uint64_t)1 << 62)
#define LARGEST_SIDE  INT32_MAX /* of a tensor's axis: what a matrix product can take */

/* Every type of the format, so that tensors of a foreign type can be checked, and
 * skipped if the caller wants that. */
static const struct {
    const char *name;
    uint32_t bits;
} dtypes[] = {{"F32", 32},        {"F64", 64},       {"F16", 16},    {"BF16", 16},
              {"I64", 64},        {"I32", 32},       {"I16", 16},    {"I8", 8},
              {"U64", 64},        {"U32", 32},       {"U16", 16},    {"U8", 8},
              {"BOOL", 8},        {"F8_E4M3", 8},    {"F8_E5M2", 8}, {"F8_E8M0", 8},
              {"F6_E2M3", 6},     {"F6_E3M2", 6},    {"F4", 4},      {"C64", 64},
              {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};

/* A walk over the header. */
struct walk {
    struct vgg__json json;
    struct vgg__safetensors *st;
    bool fill;         /* second pass: store what is found */
    uint32_t count;    /* tensors so far */
    size_t name_bytes; /* of their names, with final zeros */
    bool metadata;     /* was there */
    uint64_t size;     /* of the data */
};

static vgg_status read_dtype(struct walk *walk, uint32_t *dtype)
{
    const uint32_t count = sizeof dtypes / sizeof dtypes[0];
    VGG_TRY(vgg__json_expect(&walk->json, VGG_JSON_STRING));
    for (*dtype = 0; *dtype < count; ++*dtype)
        if (vgg__json_is(&walk->json, dtypes[*dtype].name)) return VGG_OK;
    return vgg__json_fail(&walk->json, VGG_EFORMAT, "dtype is not one of the format");
}

static vgg_status read_shape(struct walk *walk, struct vgg__st_tensor *tensor)
{
    struct vgg__json *json = &walk->json;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_ARRAY));
    tensor->count = 1;
    for (;;) {
        struct vgg__json ahead = *json;
        VGG_TRY(vgg__json_next(&ahead));
        if (ahead.kind == VGG_JSON_ARRAY_END) return vgg__json_next(json);
        uint64_t side = 0;
        VGG_TRY(vgg__json_read_u64(json, &side));
        if (tensor->shape.rank == VGG_MAX_RANK)
            return vgg__json_fail(json, VGG_ELIMIT, "shape has more than %d axes",
                                  VGG_MAX_RANK);
        if (side > LARGEST_SIDE)
            return vgg__json_fail(json, VGG_ELIMIT, "an axis of %" PRIu64 " elements",
                                  side);
        tensor->shape.dim[tensor->shape.rank++] = (uint32_t)side;
        if (__builtin_mul_overflow(tensor->count, side, &tensor->count) ||
            tensor->count > MOST_ELEMENTS)
            return vgg__json_fail(json, VGG_ELIMIT, "shape has over 2^62 elements");
    }
}

static vgg_status read_offsets(struct walk *walk, struct vgg__st_tensor *tensor)
{
    struct vgg__json *json = &walk->json;
    VGG_TRY(vgg__json_expect(json, VGG_JSON_ARRAY));
    VGG_TRY(vgg__json_read_u64(json, &tensor->begin));
    VGG_TRY(vgg__json_read_u64(json, &tensor->end));
    return vgg__json_expect(json, VGG_JSON_ARRAY_END);
}

/* What one entry says must agree with itself. */
static vgg_status check_entry(const struct walk *walk, const char *name, uint32_t dtype,
                              const struct vgg__st_tensor *tensor)
{
    uint64_t bits;
    if (__builtin_mul_overflow(tensor->count, (uint64_t)dtypes[dtype].bits, &bits))
        return vgg__json_fail(&walk->json, VGG_ELIMIT, "\"%s\": over 2^64 bits", name);
    if (bits % 8 != 0)
        return vgg__json_fail(&walk->json, VGG_EFORMAT, "\"%s\": not whole bytes",
                              name);
    if (tensor->begin > tensor->end)
        return vgg__json_fail(&walk->json, VGG_EFORMAT, "\"%s\": ends before it begins",
                              name);
    if (tensor->end - tensor->begin != bits / 8)
        return vgg__json_fail(&walk->json, VGG_EFORMAT,
                              "\"%s\": shape and dtype take %" PRIu64
                              " bytes, offsets have %" PRIu64,
                              name, bits / 8, tensor->end - tensor->begin);
    if (tensor->end > walk->size)
        return vgg__json_fail(&walk->json, VGG_ETRUNCATED,
                              "\"%s\": ends at byte %" PRIu64
                              " of the data, which has %" PRIu64,
                              name, tensor->end, walk->size);
    return VGG_OK;
}

static vgg_status read_entry(struct walk *walk, const char *name)
{
    static const char *const fields[] = {"dtype", "shape", "data_offsets"};
    struct vgg__st_tensor tensor = {.name = NULL};
    uint32_t seen = 0, which, dtype = 0;
    VGG_TRY(vgg__json_expect(&walk->json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(&walk->json, fields, 3, &seen, &which));
        if (which == 3) break;
        if (which == 0) VGG_TRY(read_dtype(walk, &dtype));
        if (which == 1) VGG_TRY(read_shape(walk, &tensor));
        if (which == 2) VGG_TRY(read_offsets(walk, &tensor));
    }
    VGG_TRY(vgg__json_complete(&walk->json, fields, 3, seen, name));
    VGG_TRY(check_entry(walk, name, dtype, &tensor));
    if (walk->count == VGG_ST_TENSORS)
        return vgg__json_fail(&walk->json, VGG_ELIMIT, "more than %d tensors",
                              VGG_ST_TENSORS);
    const size_t size = strlen(name) + 1;
    if (walk->fill) {
        tensor.name = memcpy(walk->st->names + walk->name_bytes, name, size);
        tensor.dtype = dtypes[dtype].name;
        walk->st->tensors[walk->count] = tensor;
    }
    walk->count++;
    walk->name_bytes += size;
    return VGG_OK;
}

static vgg_status read_pair(struct walk *walk, char *value)
{
    struct vgg__json *json = &walk->json;
    vgg_metadata *metadata = walk->st->metadata;
    char key[VGG_METADATA_KEY];
    if (!walk->st->strings && !vgg__json_is(json, VGG_ARCH_KEY))
        return vgg__json_expect(json, VGG_JSON_STRING);
    VGG_TRY(vgg__json_text(json, key, sizeof key));
    if (key[0] == '\0') return vgg__json_fail(json, VGG_EFORMAT, "an empty key");
    if (vgg_metadata_get(metadata, key) != NULL)
        return vgg__json_fail(json, VGG_EFORMAT, "\"%s\" is there twice", key);
    VGG_TRY(vgg__json_read_text(json, value, VGG_METADATA_VALUE));
    const vgg_status status = vgg__metadata_put(metadata, key, value);
    return status == VGG_ELIMIT ? vgg__json_fail(json, status, "%s", vgg_last_error())
                                : status;
}

static vgg_status read_metadata(struct walk *walk)
{
    if (walk->metadata)
        return vgg__json_fail(&walk->json, VGG_EFORMAT,
                              "\"__metadata__\" is there twice");
    walk->metadata = true;
    if (walk->fill) return vgg__json_skip(&walk->json);
    VGG_TRY(vgg__json_expect(&walk->json, VGG_JSON_OBJECT));
    char *value = vgg__alloc(walk->st->ctx, VGG_METADATA_VALUE);
    if (value == NULL) return VGG_ENOMEM;
    vgg_status status = vgg__json_next(&walk->json);
    while (status == VGG_OK && walk->json.kind == VGG_JSON_KEY) {
        status = read_pair(walk, value);
        if (status == VGG_OK) status = vgg__json_next(&walk->json);
    }
    vgg__free(value);
    return status;
}

static vgg_status check_name(const struct walk *walk, const char *name)
{
    if (name[0] == '\0')
        return vgg__json_fail(&walk->json, VGG_EFORMAT, "a tensor without a name");
    for (const char *p = name; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return vgg__json_fail(&walk->json, VGG_EFORMAT,
                                  "control character in the name \"%s\"", name);
    return VGG_OK;
}

/* One pass over the header's text. */
static vgg_status walk_header(struct walk *walk, const char *text, size_t size)
{
    vgg__json_begin(&walk->json, walk->st->input->shown, text, size);
    VGG_TRY(vgg__json_expect(&walk->json, VGG_JSON_OBJECT));
    for (;;) {
        char name[VGG_ST_NAME];
        VGG_TRY(vgg__json_next(&walk->json));
        if (walk->json.kind == VGG_JSON_OBJECT_END) break;
        VGG_TRY(vgg__json_text(&walk->json, name, sizeof name));
        if (strcmp(name, "__metadata__") == 0) {
            VGG_TRY(read_metadata(walk));
        } else {
            VGG_TRY(check_name(walk, name));
            VGG_TRY(read_entry(walk, name));
        }
    }
    for (size_t i = walk->json.at; i < size; i++)
        if (text[i] != ' ') {
            walk->json.start = i;
            return vgg__json_fail(&walk->json, VGG_EFORMAT,
                                  "only spaces may follow the header's object");
        }
    return VGG_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct vgg__st_tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int compare_names(const void *a, const void *b)
{
    const struct vgg__st_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* The tensors together: no hole, no overlap, no name twice. Leaves them sorted by
 * name. */
static vgg_status check_table(struct vgg__safetensors *st, uint64_t size)
{
    const char *shown = st->input->shown;
    uint64_t at = 0;
    vgg__sort(st->tensors, st->count, sizeof *st->tensors, compare_places);
    for (uint32_t i = 0; i < st->count; i++) {
        const struct vgg__st_tensor *tensor = &st->tensors[i];
        if (tensor->begin != at)
            return vgg__fail(VGG_EFORMAT,
                             "%s: \"%s\" begins at byte %" PRIu64
                             " of the data, the tensor before it ends at byte %" PRIu64,
                             shown, tensor->name, tensor->begin, at);
        at = tensor->end;
    }
    if (at != size)
        return vgg__fail(VGG_EFORMAT,
                         "%s: the tensors end at byte %" PRIu64
                         " of the data, which has %" PRIu64,
                         shown, at, size);
    vgg__sort(st->tensors, st->count, sizeof *st->tensors, compare_names);
    for (uint32_t i = 1; i < st->count; i++)
        if (strcmp(st->tensors[i - 1].name, st->tensors[i].name) == 0)
            return vgg__fail(VGG_EFORMAT, "%s: \"%s\" is there twice", shown,
                             st->tensors[i].name);
    return VGG_OK;
}

/* The header's length. A file of another format is named. */
static vgg_status read_length(const struct vgg__input *input, uint64_t *length)
{
    uint8_t head[VGG_SNIFF_SIZE], bytes[8];
    const size_t size = input->size < sizeof head ? (size_t)input->size : sizeof head;
    VGG_TRY(vgg__input_read(input, 0, head, size));
    const char *guess = vgg__sniff(head, size);
    if (size < sizeof bytes)
        return vgg__fail(
            VGG_ETRUNCATED,
            "%s: expected a safetensors file, which begins with 8 bytes of "
            "length; found %zu bytes",
            input->shown, size);
    memcpy(bytes, head, sizeof bytes);
    *length = 0;
    for (int i = 7; i >= 0; i--) *length = *length << 8 | bytes[i];
    const bool fits = *length <= VGG_ST_HEADER && *length <= input->size - 8;
    if (!fits && guess != NULL)
        return vgg__fail(VGG_EFORMAT,
                         "%s: expected a safetensors file (from PyTorch: "
                         "safetensors.torch.save_file), found %s",
                         input->shown, guess);
    if (*length > VGG_ST_HEADER)
        return vgg__fail(VGG_ELIMIT,
                         "%s: a header of %" PRIu64 " bytes, at most %" PRIu64
                         " allowed",
                         input->shown, *length, VGG_ST_HEADER);
    if (!fits)
        return vgg__fail(VGG_ETRUNCATED,
                         "%s: a header of %" PRIu64 " bytes in a file of %" PRIu64,
                         input->shown, *length, input->size);
    return VGG_OK;
}

static vgg_status read_table(struct vgg__safetensors *st, const char *text,
                             size_t length)
{
    struct walk walk = {.st = st, .size = st->input->size - 8 - length};
    VGG_TRY(walk_header(&walk, text, length));
    st->count = walk.count;
    st->tensors = vgg__calloc(st->ctx, walk.count, sizeof *st->tensors);
    st->names = vgg__alloc(st->ctx, walk.name_bytes);
    if (st->tensors == NULL || st->names == NULL) return VGG_ENOMEM;
    walk = (struct walk){.st = st, .size = walk.size, .fill = true};
    VGG_TRY(walk_header(&walk, text, length));
    return check_table(st, walk.size);
}

vgg_status vgg__safetensors_open(struct vgg__safetensors *st, vgg_context *ctx,
                                 const struct vgg__input *input, bool strings)
{
    memset(st, 0, sizeof *st);
    st->ctx = ctx;
    st->input = input;
    st->strings = strings;
    uint64_t length = 0;
    VGG_TRY(read_length(input, &length));
    st->data = 8 + length;
    char *text = vgg__alloc(ctx, (size_t)length);
    if (text == NULL) return VGG_ENOMEM;
    vgg_status status = vgg__input_read(input, 8, text, (size_t)length);
    if (status == VGG_OK && (length == 0 || text[0] != '{'))
        status =
            vgg__fail(VGG_EFORMAT, "%s: the header must begin with {", input->shown);
    if (status == VGG_OK) status = vgg_metadata_create(ctx, &st->metadata);
    if (status == VGG_OK) status = read_table(st, text, (size_t)length);
    vgg__free(text);
    if (status != VGG_OK) vgg__safetensors_close(st);
    return status;
}

void vgg__safetensors_close(struct vgg__safetensors *st)
{
    vgg__free(st->tensors);
    vgg__free(st->names);
    vgg_metadata_free(st->metadata);
    memset(st, 0, sizeof *st);
}

const struct vgg__st_tensor *vgg__safetensors_find(const struct vgg__safetensors *st,
                                                   const char *name)
{
    uint32_t low = 0, high = st->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const int order = strcmp(name, st->tensors[middle].name);
        if (order == 0) return &st->tensors[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}
