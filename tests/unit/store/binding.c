/* SPDX-License-Identifier: Apache-2.0 */
/* What binds a weights file to a model: every misfit by name, with the exact status
 * and a part of the text; and architectures in files that are not trusted. */
#include "faults.h"
#include "harness.h"
#include "model/model.h"
#include "models.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char base[64], path[128];

static void setup(void)
{
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/x.safetensors", base);
}

static void teardown(void)
{
    harness_rmdir(base);
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
    {"st69_rank_3",
     "{" ENTRY("fc.weight", "F32", "[1,2,1]", 0, 8) "," BIAS "}",
     ONE TWO ONE,
     12,
     0,
     0,
     0,
     VGG_EMISMATCH,
     "file has 1x2x1, model needs 1x2",
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
        pack_file(bindings[_i].header, bindings[_i].data, bindings[_i].size, &total);
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
        uint8_t *file = pack_file(header, data, sizeof data, &total);
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
    uint8_t *file = pack_file(header, ONE, 4, &total);
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

int main(void)
{
    Suite *suite = suite_create("binding");
    TCase *tests = tcase_create("binding");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, binding, 0, sizeof bindings / sizeof bindings[0]);
    tcase_add_test(tests, counters);
    tcase_add_loop_test(tests, hostile_arch, 0, sizeof archs / sizeof archs[0]);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
