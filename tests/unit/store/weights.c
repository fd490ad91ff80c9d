/* SPDX-License-Identifier: Apache-2.0 */
/* Weights: what binds a file to a model, with the exact status of every misfit; saving,
 * and building a model from a file that is not trusted. */
#include "core/error.h"
#include "faults.h"
#include "harness.h"
#include "model/model.h"

#include <vgg/vgg.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char base[64], path[128];

static void setup(void)
{
    faults_end();
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/x.safetensors", base);
}

static void teardown(void)
{
    harness_rmdir(base);
}

/* y = W x + b with W [1][2], b [1]: "fc.weight", "fc.bias". */
static vgg_model *build_linear(void)
{
    const vgg_shape shape = {1, {2}};
    vgg_model *model;
    ck_ok(vgg_model_create_empty(NULL, &shape, &model));
    ck_ok(vgg_model_add_linear(model, 1, "fc"));
    return model;
}

static vgg_model *build(vgg_context *ctx, uint64_t seed)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 1;
    arch.height = arch.width = 4;
    arch.hidden = 5;
    arch.classes = 3;
    arch.batch_norm = 1;
    arch.dropout = 0.3f;
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    vgg_model *model;
    ck_ok(vgg_model_create(ctx, &arch, 32, &opts, &model));
    return model;
}

struct state {
    float values[1000];
    uint64_t count, batches;
};

static struct state state_of(vgg_model *model)
{
    struct state state;
    memset(&state, 0, sizeof state);
    ck_ok(vgg__model_refresh(model));
    for (uint32_t i = 0; i < model->param_count; i++) {
        ck_assert(state.count + model->params[i]->count <= 1000);
        memcpy(state.values + state.count, model->params[i]->value,
               model->params[i]->count * sizeof(float));
        state.count += model->params[i]->count;
    }
    state.batches = model->batches_tracked;
    return state;
}

static bool same(const struct state *a, const struct state *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

static uint8_t *pack(const char *header, const void *data, size_t size, size_t *total)
{
    const size_t length = strlen(header);
    *total = 8 + length + size;
    uint8_t *file = malloc(*total);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, size);
    return file;
}

#define ENTRY(name, dtype, shape, begin, end)                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                           \
    ",\"data_offsets\":[" #begin "," #end "]}"
#define WEIGHT ENTRY("fc.weight", "F32", "[1,2]", 0, 8)
#define BIAS   ENTRY("fc.bias", "F32", "[1]", 8, 12)

#define ONE  "\0\0\x80\x3f"
#define TWO  "\0\0\0\x40"
#define NAN_ "\0\0\xc0\x7f"
#define INF_ "\0\0\x80\x7f"

/* With weight (1, 2) and bias 1, unless the row says something else. */
static const struct {
    const char *name, *header, *data;
    size_t size;
    uint32_t missing, extra, infinite;
    vgg_status status;
    const char *fragment;
    float expected[3];
} bindings[] = {
    {"sound", "{" WEIGHT "," BIAS "}", ONE TWO ONE, 12, 0, 0, 0, VGG_OK, "", {1, 2, 1}},
    {"st63_other_order",
     "{" ENTRY("fc.bias", "F32", "[1]", 0, 4) "," ENTRY("fc.weight", "F32", "[1,2]", 4,
                                                        12) "}",
     TWO ONE TWO,
     12,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, 2, 2}},
    {"st72_not_aligned",
     "{" WEIGHT "," BIAS "}   ",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, 2, 1}},
    {"st72_u8_first",
     "{" ENTRY("x", "U8", "[1]", 0, 1) "," ENTRY("fc.weight", "F32", "[1,2]", 1,
                                                 9) "," ENTRY("fc.bias", "F32", "[1]",
                                                              9, 13) "}",
     "\x07" ONE TWO ONE,
     13,
     0,
     1,
     0,
     VGG_OK,
     "",
     {1, 2, 1}},
    {"f64",
     "{" ENTRY("fc.weight", "F64", "[1,2]", 0, 16) "," ENTRY("fc.bias", "F32", "[1]",
                                                             16, 20) "}",
     "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40" ONE,
     20,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, 2, 1}},
    {"f64_rounds_to_even",
     "{" ENTRY("fc.weight", "F64", "[1,2]", 0, 16) "," ENTRY("fc.bias", "F32", "[1]",
                                                             16, 20) "}",
     "\0\0\0\x10\0\0\xf0\x3f\0\0\0\x30\0\0\xf0\x3f" ONE,
     20,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, 0x1.000004p0f, 1}},
    {"f16",
     "{" ENTRY("fc.weight", "F16", "[1,2]", 0, 4) "," ENTRY("fc.bias", "F16", "[1]", 4,
                                                            6) "}",
     "\0\x3c\x01\x80\xff\x7b",
     6,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, -0x1p-24f, 65504}},
    {"bf16",
     "{" ENTRY("fc.weight", "BF16", "[1,2]", 0, 4) "," ENTRY("fc.bias", "BF16", "[1]",
                                                             4, 6) "}",
     "\x80\x3f\0\x40\x01\x80",
     6,
     0,
     0,
     0,
     VGG_OK,
     "",
     {1, 2, -0x1p-133f}},
    {"st67_missing",
     "{" ENTRY("fc.weight", "F32", "[1,2]", 0, 8) "}",
     ONE TWO,
     8,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "lacks 1 of the model's 2 tensors: classifier.0.bias",
     {0}},
    {"st67_all_missing",
     "{}",
     "",
     0,
     0,
     1,
     0,
     VGG_EMISMATCH,
     "lacks 2 of the model's 2 tensors: classifier.0.weight, classifier.0.bias",
     {0}},
    {"st67_missing_allowed",
     "{" ENTRY("fc.weight", "F32", "[1,2]", 0, 8) "}",
     ONE TWO,
     8,
     1,
     0,
     0,
     VGG_OK,
     "",
     {1, 2, 7}},
    {"st68_extra",
     "{" WEIGHT "," BIAS "," ENTRY("x", "I32", "[1]", 12, 16) "}",
     ONE TWO ONE ONE,
     16,
     1,
     0,
     0,
     VGG_EMISMATCH,
     "has 1 tensors that the model lacks: x",
     {0}},
    {"st68_extra_allowed",
     "{" WEIGHT "," BIAS "," ENTRY("x", "I32", "[1]", 12, 16) "}",
     ONE TWO ONE ONE,
     16,
     0,
     1,
     0,
     VGG_OK,
     "",
     {1, 2, 1}},
    {"st67_and_68",
     "{" WEIGHT "," ENTRY("y", "F32", "[1]", 8, 12) "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "classifier.0.bias; has 1 that the model lacks: y",
     {0}},
    {"st69_transposed",
     "{" ENTRY("fc.weight", "F32", "[2,1]", 0, 8) "," BIAS "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "fc.weight (fc): file has 2x1, model needs 1x2",
     {0}},
    {"st69_rank",
     "{" ENTRY("fc.weight", "F32", "[2]", 0, 8) "," BIAS "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has 2, model needs 1x2",
     {0}},
    {"st69_more_classes",
     "{" ENTRY("fc.weight", "F32", "[2,2]", 0, 16) "," ENTRY("fc.bias", "F32", "[2]",
                                                             16, 24) "}",
     ONE TWO ONE TWO ONE ONE,
     24,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has 2x2, model needs 1x2",
     {0}},
    {"st48_scalar",
     "{" WEIGHT "," ENTRY("fc.bias", "F32", "[]", 8, 12) "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has scalar, model needs 1",
     {0}},
    {"st49_empty",
     "{" ENTRY("fc.weight", "F32", "[1,0]", 0, 0) "," ENTRY("fc.bias", "F32", "[1]", 0,
                                                            4) "}",
     ONE,
     4,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has 1x0",
     {0}},
    {"st38_i32",
     "{" ENTRY("fc.weight", "I32", "[1,2]", 0, 8) "," BIAS "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has I32, expected F32, F64, F16 or BF16",
     {0}},
    {"st70_f64_too_large",
     "{" ENTRY("fc.weight", "F64", "[1,2]", 0, 16) "," ENTRY("fc.bias", "F32", "[1]",
                                                             16, 20) "}",
     "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\xf0\x47" ONE,
     20,
     0,
     0,
     0,
     VGG_ENONFINITE,
     "fc.weight: element 1 is not a finite f32",
     {0}},
    {"st71_nan",
     "{" WEIGHT "," BIAS "}",
     ONE TWO NAN_,
     12,
     0,
     0,
     0,
     VGG_ENONFINITE,
     "fc.bias: element 0 is not a finite",
     {0}},
    {"st71_infinite",
     "{" WEIGHT "," BIAS "}",
     INF_ TWO ONE,
     12,
     0,
     0,
     0,
     VGG_ENONFINITE,
     "fc.weight: element 0",
     {0}},
    {"st71_infinite_allowed",
     "{" WEIGHT "," BIAS "}",
     INF_ TWO ONE,
     12,
     0,
     0,
     1,
     VGG_OK,
     "",
     {INFINITY, 2, 1}},
    {"st71_f16_nan",
     "{" ENTRY("fc.weight", "F16", "[1,2]", 0, 4) "," ENTRY("fc.bias", "F16", "[1]", 4,
                                                            6) "}",
     "\0\x3c\x01\x7c\xff\x7b",
     6,
     0,
     0,
     0,
     VGG_ENONFINITE,
     "fc.weight: element 1",
     {0}},
    {"st22_twice",
     "{" WEIGHT "," BIAS "," ENTRY("fc.weight", "F32", "[1,2]", 12, 20) "}",
     ONE TWO ONE ONE TWO,
     20,
     0,
     1,
     0,
     VGG_EFORMAT,
     "\"fc.weight\" is there twice",
     {0}},
};

START_TEST(binding)
{
    vgg_model *model = build_linear();
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    opts.allow_missing = bindings[_i].missing;
    opts.allow_extra = bindings[_i].extra;
    opts.allow_infinite = bindings[_i].infinite;
    model->params[0]->value[0] = model->params[0]->value[1] = 7;
    model->params[1]->value[0] = 7;
    size_t total;
    uint8_t *file =
        pack(bindings[_i].header, bindings[_i].data, bindings[_i].size, &total);
    const struct state before = state_of(model);
    const uint64_t version = model->version;
    const vgg_status status = vgg_weights_load_memory(model, file, total, &opts, NULL);
    const struct state after = state_of(model);
    ck_assert_msg(status == bindings[_i].status, "%s: %s, expected %s: %s",
                  bindings[_i].name, vgg_status_name(status),
                  vgg_status_name(bindings[_i].status), vgg_last_error());
    if (status == VGG_OK) {
        ck_assert_msg(memcmp(after.values, bindings[_i].expected, 12) == 0,
                      "%s: %g %g %g", bindings[_i].name, (double)after.values[0],
                      (double)after.values[1], (double)after.values[2]);
        ck_assert_uint_gt(model->version, version);
    } else {
        ck_assert_msg(strstr(vgg_last_error(), bindings[_i].fragment) != NULL,
                      "%s: text lacks \"%s\": %s", bindings[_i].name,
                      bindings[_i].fragment, vgg_last_error());
        ck_assert(same(&before, &after));
    }
    free(file);
    vgg_model_free(model);
}
END_TEST

/* The counters of a batch normalisation, with the rest of its layer. */
START_TEST(counters)
{
    static const struct {
        const char *entry;
        int64_t value;
        vgg_status status;
        const char *fragment;
    } rows[] = {
        {"\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":["
         "16,24]}",
         INT64_C(9007199254740993), VGG_OK, ""},
        {"\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":["
         "16,24]}",
         -1, VGG_EMISMATCH, "is -1, expected at least 0"},
        {"\"bn.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":"
         "[16,24]}",
         1, VGG_EMISMATCH, "file has I64 1, expected I64 scalar"},
        {"\"bn.num_batches_tracked\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":["
         "16,24]}",
         1, VGG_EMISMATCH, "file has F64 scalar, expected I64 scalar"},
        {"\"other.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],\"data_"
         "offsets\":[16,24]"
         "}",
         1, VGG_EMISMATCH, "other.num_batches_tracked"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const vgg_shape shape = {3, {1, 2, 2}};
        vgg_model *model;
        ck_ok(vgg_model_create_empty(NULL, &shape, &model));
        ck_ok(vgg_model_add_batch_norm(model, "bn"));
        char header[1000];
        snprintf(header, sizeof header,
                 "{" ENTRY("bn.weight", "F32", "[1]", 0, 4) "," ENTRY(
                     "bn.bias", "F32", "[1]", 4,
                     8) "," ENTRY("bn.running_mean", "F32", "[1]", 8,
                                  12) "," ENTRY("bn.running_var", "F32", "[1]", 12,
                                                16) ",%s}",
                 rows[i].entry);
        uint8_t data[24] = ONE TWO TWO ONE;
        memcpy(data + 16, &rows[i].value, 8);
        size_t total;
        uint8_t *file = pack(header, data, sizeof data, &total);
        const vgg_status status =
            vgg_weights_load_memory(model, file, total, NULL, NULL);
        ck_assert_msg(status == rows[i].status, "%zu: %s", i, vgg_last_error());
        ck_assert_uint_eq(model->batches_tracked,
                          status == VGG_OK ? (uint64_t)rows[i].value : 0);
        if (status != VGG_OK)
            ck_assert_msg(strstr(vgg_last_error(), rows[i].fragment) != NULL, "%s",
                          vgg_last_error());
        file[total - 9] |= 0x80; /* the sign of the variance */
        if (i == 0)
            ck_fails_with(vgg_weights_load_memory(model, file, total, NULL, NULL),
                          VGG_EMISMATCH, "a variance is not negative");
        free(file);
        vgg_model_free(model);
    }
}
END_TEST

START_TEST(round_trip)
{
    vgg_model *model = build(NULL, 1), *other = build(NULL, 2), *third;
    vgg_metadata *metadata, *back;
    model->batches_tracked = 12345;
    ck_ok(vgg_metadata_create(NULL, &metadata));
    ck_ok(vgg_metadata_set(metadata, "classes", "shirt\n\"bag\"\\\xc3\xa9"));
    ck_ok(vgg_weights_save(model, path, metadata));
    vgg_metadata_free(metadata);
    const struct state saved = state_of(model);
    ck_ok(vgg_weights_load(other, path, NULL, &back));
    const struct state loaded = state_of(other);
    ck_assert(same(&saved, &loaded));
    ck_assert_str_eq(vgg_metadata_get(back, "classes"), "shirt\n\"bag\"\\\xc3\xa9");
    ck_assert_str_eq(vgg_metadata_get(back, "format"), "pt");
    ck_assert_str_eq(
        vgg_metadata_get(back, "vgg.arch"),
        "{\"blocks\":[[1,64,0]],\"channels\":1,\"height\":4,\"width\":4,\"classes\":3,"
        "\"hidden\":5,\"dropout\":0.3,\"head\":\"flatten\",\"pool\":\"max\",\"batch_"
        "norm\":1,"
        "\"ratio\":32}");
    /* Onto the file that was loaded, with what was loaded. */
    ck_ok(vgg_weights_save(other, path, back));
    vgg_metadata_free(back);
    ck_ok(vgg_model_load(NULL, path, &back, &third));
    const struct state built = state_of(third);
    ck_assert(same(&saved, &built));
    ck_assert_str_eq(vgg_metadata_get(back, "classes"), "shirt\n\"bag\"\\\xc3\xa9");
    ck_assert_uint_eq(third->ratio, 32);
    ck_assert(third->arch.dropout == 0.3f);
    ck_assert_uint_eq(third->arch.block_count, 1);
    ck_assert_mem_eq(&third->arch.blocks[0], &model->arch.blocks[0], sizeof(vgg_block));
    const size_t rest = offsetof(vgg_arch, channels);
    ck_assert_mem_eq((char *)&third->arch + rest, (char *)&model->arch + rest,
                     sizeof(vgg_arch) - rest);
    vgg_metadata_free(back);
    vgg_model_free(model);
    vgg_model_free(other);
    vgg_model_free(third);
}
END_TEST

static uint8_t *read_file(size_t *size)
{
    FILE *file = fopen(path, "rb");
    ck_assert_ptr_nonnull(file);
    uint8_t *bytes = malloc(1 << 16);
    *size = fread(bytes, 1, 1 << 16, file);
    fclose(file);
    return bytes;
}

/* Data begins at a multiple of 64; keys are torchvision's, in the order of the layers. */
START_TEST(layout)
{
    static const char *const keys[] = {
        "\"features.0.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,3,3]",
        "\"features.0.bias\"",
        "\"features.1.weight\"",
        "\"features.1.bias\"",
        "\"features.1.running_mean\"",
        "\"features.1.running_var\"",
        "\"features.1.num_batches_tracked\":{\"dtype\":\"I64\",\"shape\":[],"
        "\"data_offsets\":[0,8]}",
        "\"classifier.0.weight\":{\"dtype\":\"F32\",\"shape\":[5,8]",
        "\"classifier.0.bias\"",
        "\"classifier.3.weight\"",
        "\"classifier.3.bias\"",
        "\"classifier.6.weight\"",
        "\"classifier.6.bias\"",
    };
    vgg_model *model = build(NULL, 1);
    ck_ok(vgg_weights_save(model, path, NULL));
    size_t size;
    uint8_t *file = read_file(&size);
    const size_t length = (size_t)file[0] | (size_t)file[1] << 8;
    ck_assert_uint_eq((8 + length) % 64, 0);
    file[8 + length - 1] = '\0';
    const char *at = (const char *)file + 8;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *found = strstr(at, keys[i]);
        ck_assert_msg(found != NULL, "%s is not after the one before", keys[i]);
        at = found + 1;
    }
    free(file);
    vgg_model_free(model);
}
END_TEST

/* Every prefix of a file, and every byte of its header changed. */
START_TEST(broken_files)
{
    vgg_model *model = build(NULL, 1), *made;
    ck_ok(vgg_weights_save(model, path, NULL));
    size_t size;
    uint8_t *file = read_file(&size);
    const size_t length = (size_t)file[0] | (size_t)file[1] << 8;
    const struct state before = state_of(model);
    for (size_t part = 0; part < size; part++) {
        uint8_t *copy = malloc(part > 0 ? part : 1);
        memcpy(copy, file, part);
        ck_fails(vgg_weights_load_memory(model, copy, part, NULL, NULL),
                 VGG_ETRUNCATED);
        free(copy);
    }
    for (size_t i = 0; i < 8 + length; i++)
        for (int bit = 0; bit < 8; bit++) {
            file[i] ^= (uint8_t)(1 << bit);
            const vgg_status status =
                vgg_weights_load_memory(model, file, size, NULL, NULL);
            const struct state after = state_of(model);
            ck_assert_msg(same(&before, &after) || status == VGG_OK, "byte %zu", i);
            if (bit == 0) { /* from a file, which takes longer */
                FILE *out = fopen(path, "wb");
                ck_assert_uint_eq(fwrite(file, 1, size, out), size);
                fclose(out);
                if (vgg_model_load(NULL, path, NULL, &made) == VGG_OK)
                    vgg_model_free(made);
                else
                    ck_assert_ptr_null(made);
            }
            file[i] ^= (uint8_t)(1 << bit);
        }
    free(file);
    vgg_model_free(model);
}
END_TEST

/* What "vgg.arch" can say, in a file that has one value. */
static const struct {
    const char *name, *arch;
    vgg_status status;
    const char *fragment;
} archs[] = {
#define ARCH(blocks, side, hidden, ratio)                                              \
    "{'blocks':" blocks ",'channels':1,'height':" side ",'width':" side                \
    ",'classes':10,'hidden':" hidden ",'dropout':0.5,'head':'flatten','pool':'max',"   \
    "'batch_norm':0,'ratio':" ratio "}"
    {"absent", NULL, VGG_EMISMATCH, "does not say its architecture"},
    {"empty", "", VGG_EFORMAT, "vgg.arch: byte 0: the text ends early"},
    {"not_object", "[]", VGG_EFORMAT, "expected an object"},
    {"no_field", "{}", VGG_EFORMAT, "lacks \"blocks\""},
    {"unknown_field", "{'x':1}", VGG_EFORMAT, "not known"},
    {"more_after", ARCH("[[1,64,0]]", "8", "16", "1") "x", VGG_EFORMAT,
     "something follows"},
    {"too_large_for_file", ARCH("[[1,64,0]]", "8", "16", "1"), VGG_EMISMATCH,
     "its architecture has"},
    {"huge_hidden", ARCH("[[1,64,0]]", "8", "2147483647", "1"), VGG_EFORMAT, ""},
    {"huge_channels", ARCH("[[1,2147483647,0]]", "8", "16", "1"), VGG_EFORMAT, ""},
    {"huge_convs", ARCH("[[4294967295,64,0]]", "8", "16", "1"), VGG_EFORMAT, ""},
    {"huge_side", ARCH("[[1,64,0]]", "4294967295", "16", "1"), VGG_EFORMAT, ""},
    {"no_blocks", ARCH("[]", "8", "16", "1"), VGG_EFORMAT, ""},
    {"blocks_17",
     ARCH("[[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,"
          "1,0],"
          "[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0],[1,1,0]]",
          "8", "16", "1"),
     VGG_ELIMIT, "more than 16 blocks"},
    {"block_of_2", ARCH("[[1,64]]", "8", "16", "1"), VGG_EFORMAT, "expected a number"},
    {"block_is_number", ARCH("[1]", "8", "16", "1"), VGG_EFORMAT, "a block is"},
    {"pointwise_above", ARCH("[[1,64,2]]", "8", "16", "1"), VGG_EFORMAT, ""},
    {"ratio_0", ARCH("[[1,64,0]]", "8", "16", "0"), VGG_EFORMAT, ""},
    {"ratio_too_large", ARCH("[[1,64,0]]", "8", "16", "65"), VGG_EFORMAT, ""},
    {"side_too_small", ARCH("[[1,64,0]]", "1", "16", "1"), VGG_EFORMAT, ""},
    {"side_beyond_32_bits", ARCH("[[1,64,0]]", "4294967296", "16", "1"), VGG_ELIMIT,
     "32 bits"},
    {"dropout_1", "{'dropout':1.0}", VGG_EFORMAT, "expected 0 <= dropout < 1"},
    {"dropout_minus", "{'dropout':-0.5}", VGG_EFORMAT, "expected 0 <= dropout < 1"},
    {"dropout_large", "{'dropout':1e999}", VGG_ELIMIT, "beyond a double"},
    {"head_unknown", "{'head':'tail'}", VGG_EFORMAT, "or the like"},
    {"head_number", "{'head':1}", VGG_EFORMAT, "expected a string"},
    {"pool_unknown", "{'pool':'Max'}", VGG_EFORMAT, "or the like"},
    {"twice", "{'ratio':1,'ratio':1}", VGG_EFORMAT, "\"ratio\" is there twice"},
    {"deep", "{'blocks':[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", VGG_EFORMAT, ""},
};

START_TEST(hostile_arch)
{
    char header[2000] = "{";
    char *p = header + 1;
    if (archs[_i].arch != NULL) {
        p += sprintf(p, "\"__metadata__\":{\"vgg.arch\":\"");
        for (const char *c = archs[_i].arch; *c != '\0'; c++)
            p += sprintf(p, *c == '\'' ? "\\\"" : "%c", *c);
        p += sprintf(p, "\"},");
    }
    sprintf(p, "%s", ENTRY("x", "F32", "[1]", 0, 4) "}");
    size_t total;
    uint8_t *file = pack(header, ONE, 4, &total);
    FILE *out = fopen(path, "wb");
    ck_assert_uint_eq(fwrite(file, 1, total, out), total);
    fclose(out);
    free(file);
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = 1 << 20; /* nothing large may be taken on the way */
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg_model *model;
    vgg_metadata *metadata;
    ck_fails_with(vgg_model_load(ctx, path, &metadata, &model), archs[_i].status,
                  archs[_i].fragment);
    ck_assert_ptr_null(model);
    ck_assert_ptr_null(metadata);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}
END_TEST

START_TEST(metadata)
{
    vgg_metadata *m;
    char key[300], value[65537], name[16];
    ck_ok(vgg_metadata_create(NULL, &m));
    ck_assert_ptr_null(vgg_metadata_get(m, "a"));
    ck_ok(vgg_metadata_set(m, "a", "1"));
    ck_ok(vgg_metadata_set(m, "a", "2"));
    ck_assert_str_eq(vgg_metadata_get(m, "a"), "2");
    ck_assert_ptr_null(vgg_metadata_get(m, NULL));
    ck_assert_ptr_null(vgg_metadata_get(NULL, "a"));
    ck_fails(vgg_metadata_set(NULL, "a", "1"), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, NULL, "1"), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, "a", NULL), VGG_EINVAL);
    ck_fails(vgg_metadata_set(m, "", "1"), VGG_EINVAL);
    ck_fails_with(vgg_metadata_set(m, "vgg.arch", "1"), VGG_EINVAL, "the library's");
    ck_fails_with(vgg_metadata_set(m, "\xff", "1"), VGG_EINVAL, "UTF-8");
    ck_fails_with(vgg_metadata_set(m, "a", "\xc3"), VGG_EINVAL, "UTF-8");
    memset(key, 'k', sizeof key);
    key[256] = '\0';
    ck_fails(vgg_metadata_set(m, key, "1"), VGG_EINVAL);
    key[255] = '\0';
    ck_ok(vgg_metadata_set(m, key, "1"));
    memset(value, 'v', sizeof value);
    value[65536] = '\0';
    ck_fails(vgg_metadata_set(m, "a", value), VGG_EINVAL);
    value[65535] = '\0';
    ck_ok(vgg_metadata_set(m, "a", value));
    for (int i = 0; i < 1022; i++) {
        snprintf(name, sizeof name, "key %d", i);
        ck_ok(vgg_metadata_set(m, name, name));
    }
    ck_fails_with(vgg_metadata_set(m, "one more", ""), VGG_ELIMIT, "1024 keys");
    ck_ok(vgg_metadata_set(m, "key 7", "again"));
    ck_assert_str_eq(vgg_metadata_get(m, "key 7"), "again");
    ck_assert_str_eq(vgg_metadata_get(m, "key 1021"), "key 1021");
    vgg_metadata_free(m);
    vgg_metadata_free(NULL);
    ck_fails(vgg_metadata_create(NULL, NULL), VGG_EINVAL);
}
END_TEST

START_TEST(refused)
{
    vgg_model *model = build_linear(), *made = model;
    vgg_weights_options opts = VGG_WEIGHTS_OPTIONS_INIT;
    ck_fails(vgg_weights_save(NULL, path, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, "", NULL), VGG_EINVAL);
    ck_fails(vgg_weights_save(model, base, NULL), VGG_EIO);
    ck_fails(vgg_weights_load(NULL, path, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load(model, NULL, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load(model, "", NULL, NULL), VGG_EIO);
    ck_fails_with(vgg_weights_load(model, path, NULL, NULL), VGG_EIO, "No such file");
    ck_fails(vgg_weights_load(model, base, NULL, NULL), VGG_EIO);
    ck_fails(vgg_weights_load(model, "/dev/zero", NULL, NULL), VGG_EIO);
    ck_fails(vgg_weights_load_memory(model, NULL, 5, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load_memory(model, "x", SIZE_MAX, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_weights_load_memory(model, NULL, 0, NULL, NULL), VGG_ETRUNCATED);
    opts.reserved = 1;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    opts.reserved = 0;
    opts.allow_extra = 2;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    opts.size = 3;
    ck_fails(vgg_weights_load(model, path, &opts, NULL), VGG_EINVAL);
    ck_fails(vgg_model_load(NULL, path, NULL, NULL), VGG_EINVAL);
    ck_fails(vgg_model_load(NULL, NULL, NULL, &made), VGG_EINVAL);
    ck_assert_ptr_null(made);
    ck_fails_with(vgg_weights_load(model, "bad\nname\x1b", NULL, NULL), VGG_EIO,
                  "bad\\x0aname\\x1b");
    ck_ok(vgg_weights_save(model, path, NULL)); /* not from an architecture */
    ck_fails_with(vgg_model_load(NULL, path, NULL, &made), VGG_EMISMATCH, "vgg.arch");
    ck_ok(vgg_weights_load(model, path, NULL, NULL));
    vgg_model_free(model);
}
END_TEST

static const enum fault kinds[] = {FAULT_EIO, FAULT_ENOSPC, FAULT_EINTR, FAULT_SHORT,
                                   FAULT_STOP};

START_TEST(save_faults)
{
    vgg_model *old = build(NULL, 1), *new = build(NULL, 2), *reader = build(NULL, 3);
    const struct state old_state = state_of(old), new_state = state_of(new);
    for (long n = 1;; n++) {
        ck_ok(vgg_weights_save(old, path, NULL));
        const int descriptors = faults_descriptors();
        faults_begin(kinds[_i], n);
        const vgg_status status = vgg_weights_save(new, path, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        ck_assert(status == VGG_OK || status == VGG_EIO);
        ck_ok(vgg_weights_load(reader, path, NULL, NULL));
        const struct state found = state_of(reader);
        ck_assert(same(&found, &new_state) ||
                  (status != VGG_OK && same(&found, &old_state)));
        ck_ok(vgg_weights_save(old, path, NULL));
        ck_assert_int_eq(faults_entries(base, ""), 1);
        if (n > calls) break;
    }
    vgg_model_free(old);
    vgg_model_free(new);
    vgg_model_free(reader);
}
END_TEST

START_TEST(load_faults)
{
    vgg_model *saved = build(NULL, 1), *model = build(NULL, 2), *made;
    const struct state before = state_of(model);
    ck_ok(vgg_weights_save(saved, path, NULL));
    long failures = 0;
    for (long n = 1;; n++) {
        const int descriptors = faults_descriptors();
        faults_begin(FAULT_EIO, n);
        const vgg_status status = vgg_weights_load(model, path, NULL, NULL);
        const long calls = faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        const struct state after = state_of(model);
        failures += status != VGG_OK;
        if (status != VGG_OK) ck_assert(status == VGG_EIO && same(&before, &after));
        faults_begin(FAULT_EIO, n);
        if (vgg_model_load(NULL, path, NULL, &made) == VGG_OK) vgg_model_free(made);
        faults_end();
        ck_assert_int_eq(faults_descriptors(), descriptors);
        if (status == VGG_OK || n > calls) break;
    }
    ck_assert_int_gt(failures, 10);
    vgg_model_free(saved);
    vgg_model_free(model);
}
END_TEST

static long memory_left;

static void *scarce_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    if (memory_left-- <= 0) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void scarce_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

/* Memory that runs out at the n-th allocation, for all n: nothing leaks, nothing changes,
 * no file is left. */
START_TEST(no_memory)
{
    const vgg_allocator allocator = {NULL, scarce_alloc, scarce_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx;
    memory_left = 1000000;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg_model *model = build(ctx, 1), *made;
    const uint64_t bytes = vgg_context_bytes(ctx);
    const struct state before = state_of(model);
    for (int job = 0; job < 3; job++) {
        vgg_status status = VGG_ENOMEM;
        long n = 0;
        for (; status == VGG_ENOMEM && n < 1000; n++) {
            made = NULL;
            memory_left = n;
            if (job == 0) status = vgg_weights_save(model, path, NULL);
            if (job == 1) status = vgg_weights_load(model, path, NULL, NULL);
            if (job == 2) status = vgg_model_load(ctx, path, NULL, &made);
            ck_assert(status == VGG_OK || made == NULL);
            vgg_model_free(made);
            const struct state after = state_of(model);
            ck_assert(same(&before, &after));
            ck_assert_uint_eq(vgg_context_bytes(ctx), bytes);
            ck_assert_int_eq(faults_entries(base, ""), job > 0 || status == VGG_OK);
        }
        ck_ok(status);
        ck_assert_int_gt(n, 5);
    }
    vgg_model_free(model);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *tests = tcase_create("weights");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, binding, 0, sizeof bindings / sizeof bindings[0]);
    tcase_add_test(tests, counters);
    tcase_add_test(tests, round_trip);
    tcase_add_test(tests, layout);
    tcase_add_test(tests, broken_files);
    tcase_add_loop_test(tests, hostile_arch, 0, sizeof archs / sizeof archs[0]);
    tcase_add_test(tests, metadata);
    tcase_add_test(tests, refused);
    tcase_add_loop_test(tests, save_faults, 0, sizeof kinds / sizeof kinds[0]);
    tcase_add_test(tests, load_faults);
    tcase_add_test(tests, no_memory);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
