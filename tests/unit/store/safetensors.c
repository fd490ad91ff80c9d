/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of safetensors files: every way in which one can be wrong, by name, with the
 * exact status and a part of the text. */
#include "store/safetensors.h"
#include "core/memory.h"
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A file in memory of exactly its size: length, header, `data` bytes. */
static uint8_t *pack(const char *header, size_t size, size_t data, size_t *total)
{
    *total = 8 + size + data;
    uint8_t *file = calloc(1, *total);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)size >> 8 * i);
    memcpy(file + 8, header, size);
    for (size_t i = 0; i < data; i++) file[8 + size + i] = (uint8_t)i;
    return file;
}

static vgg_status open_bytes(const void *bytes, size_t size, uint32_t *count)
{
    struct vgg__input input;
    struct vgg__safetensors st;
    vgg__input_memory(&input, bytes, size, "x.safetensors");
    const vgg_status status = vgg__safetensors_open(&st, NULL, &input, true);
    if (status != VGG_OK) {
        ck_assert_ptr_null(st.tensors);
        ck_assert_ptr_null(st.metadata);
        return status;
    }
    if (count != NULL) *count = st.count;
    vgg__safetensors_close(&st);
    return VGG_OK;
}

static vgg_status open_header(const char *header, size_t size, size_t data)
{
    size_t total;
    uint8_t *file = pack(header, size, data, &total);
    const vgg_status status = open_bytes(file, total, NULL);
    free(file);
    return status;
}

#define F32(name, shape, begin, end)                                                   \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #begin    \
    "," #end "]}"
#define ONE F32("a", "[1]", 0, 4)
#define SHAPE(shape)                                                                   \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[0,4]}}"
#define DTYPE(dtype)                                                                   \
    "{\"a\":{\"dtype\":" dtype ",\"shape\":[1],\"data_offsets\":[0,4]}}"
#define OFFSETS(offsets)                                                               \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":" offsets "}}"

static const struct {
    const char *name;
    const char *header;
    size_t size; /* of the header; 0: strlen */
    size_t data;
    vgg_status status;
    const char *fragment;
} headers[] = {
    /* Sound ones. */
    {"one", "{" ONE "}", 0, 4, VGG_OK, ""},
    {"padded", "{" ONE "}     ", 0, 4, VGG_OK, ""},
    {"no_tensor", "{}", 0, 0, VGG_OK, ""},
    {"space_within", "{ \n\t" ONE "\r\n}", 0, 4, VGG_OK, ""},
    {"scalar", "{" F32("a", "[]", 0, 4) "}", 0, 4, VGG_OK, ""},
    {"metadata", "{\"__metadata__\":{\"a\":\"b\",\"c\":\"\"}," ONE "}", 0, 4, VGG_OK,
     ""},
    {"metadata_looks_like_tensor", "{\"__metadata__\":{\"dtype\":\"F32\"}," ONE "}", 0,
     4, VGG_OK, ""},
    {"unsorted_offsets", "{" F32("a", "[1]", 4, 8) "," F32("b", "[1]", 0, 4) "}", 0, 8,
     VGG_OK, ""},
    {"empty_at_boundary", "{" ONE "," F32("b", "[0]", 4, 4) "}", 0, 4, VGG_OK, ""},
    {"empty_at_start", "{" F32("b", "[7,0]", 0, 0) "," ONE "}", 0, 4, VGG_OK, ""},
    {"escaped_name",
     "{\"\\u0061\\/\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":"
     "[0,4]}}",
     0, 4, VGG_OK, ""},
    {"escaped_key",
     "{\"a\":{\"d\\u0074ype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4,
     VGG_OK, ""},
    {"foreign_dtype", DTYPE("\"U32\""), 0, 4, VGG_OK, ""},
    {"f4_whole", "{\"a\":{\"dtype\":\"F4\",\"shape\":[8],\"data_offsets\":[0,4]}}", 0,
     4, VGG_OK, ""},
    {"rank_7", "{" F32("a", "[1,1,1,1,1,1,1]", 0, 4) "}", 0, 4, VGG_OK, ""},
    /* Text. */
    {"st03_one_byte", "{", 0, 0, VGG_EFORMAT, "ends early"},
    {"st08_bom", "\xef\xbb\xbf{" ONE "}", 0, 4, VGG_EFORMAT, "must begin with {"},
    {"st09_space_first", " {" ONE "}", 0, 4, VGG_EFORMAT, "must begin with {"},
    {"st10_array", "[]", 0, 0, VGG_EFORMAT, "must begin with {"},
    {"st10_string", "\"a\"", 0, 0, VGG_EFORMAT, "must begin with {"},
    {"st10_null", "null", 0, 0, VGG_EFORMAT, "must begin with {"},
    {"st10_number", "1", 0, 0, VGG_EFORMAT, "must begin with {"},
    {"st11_utf8_stray", "{\"\x80\":1}", 0, 4, VGG_EFORMAT, "invalid UTF-8"},
    {"st11_utf8_overlong", "{\"\xc0\x80\":1}", 0, 4, VGG_EFORMAT, "invalid UTF-8"},
    {"st11_utf8_surrogate", "{\"\xed\xa0\x80\":1}", 0, 4, VGG_EFORMAT, "invalid UTF-8"},
    {"st11_utf8_beyond", "{\"\xf5\x80\x80\x80\":1}", 0, 4, VGG_EFORMAT,
     "invalid UTF-8"},
    {"st11_utf8_cut", "{\"\xe2\x82", 0, 0, VGG_EFORMAT, "invalid UTF-8"},
    {"st12_nul", "{\0}", 3, 0, VGG_EFORMAT, "expected a key"},
    {"st13_control", "{\"a\nb\":1}", 0, 4, VGG_EFORMAT, "control character 0x0a"},
    {"st14_byte_after", "{" ONE "}x", 0, 4, VGG_EFORMAT, "only spaces may follow"},
    {"st14_brace_after", "{" ONE "}}", 0, 4, VGG_EFORMAT, "only spaces may follow"},
    {"st14_zero_after", "{}\0", 3, 0, VGG_EFORMAT, "only spaces may follow"},
    {"st14_newline_after", "{" ONE "}\n", 0, 4, VGG_EFORMAT, "only spaces may follow"},
    {"st14_second_object", "{" ONE "} {}", 0, 4, VGG_EFORMAT, "only spaces may follow"},
    {"st16_trailing_comma", "{" ONE ",}", 0, 4, VGG_EFORMAT, "expected a key"},
    {"st16_no_comma", "{" ONE " " F32("b", "[1]", 4, 8) "}", 0, 8, VGG_EFORMAT,
     "a comma"},
    {"st16_no_colon", "{\"a\" {}}", 0, 4, VGG_EFORMAT, "expected a colon"},
    {"st16_comment", "{/*x*/" ONE "}", 0, 4, VGG_EFORMAT, "expected a key"},
    {"st16_single_quotes", "{'a':1}", 0, 4, VGG_EFORMAT, "expected a key"},
    {"st16_bare_key", "{a:1}", 0, 4, VGG_EFORMAT, "expected a key"},
    {"st17_nan", SHAPE("[NaN]"), 0, 4, VGG_EFORMAT, "expected a value"},
    {"st17_infinity", SHAPE("[Infinity]"), 0, 4, VGG_EFORMAT, "expected a value"},
    {"st17_hex", SHAPE("[0x1]"), 0, 4, VGG_EFORMAT, "expected a comma"},
    {"st17_plus", SHAPE("[+1]"), 0, 4, VGG_EFORMAT, "expected a value"},
    {"st17_leading_zero", SHAPE("[01]"), 0, 4, VGG_EFORMAT, "malformed number"},
    {"st17_fraction", SHAPE("[1.0]"), 0, 4, VGG_EFORMAT, "an integer without"},
    {"st17_exponent", SHAPE("[1e0]"), 0, 4, VGG_EFORMAT, "an integer without"},
    {"st17_minus_zero", SHAPE("[-0]"), 0, 4, VGG_EFORMAT, "an integer without"},
    {"st17_minus_one", SHAPE("[-1]"), 0, 4, VGG_EFORMAT, "an integer without"},
    {"st17_point", SHAPE("[1.]"), 0, 4, VGG_EFORMAT, "malformed number"},
    {"st18_2_64", OFFSETS("[0,18446744073709551616]"), 0, 4, VGG_ELIMIT, "64 bits"},
    {"st18_2_63", OFFSETS("[0,9223372036854775808]"), 0, 4, VGG_EFORMAT,
     "offsets have 9223372036854775808"},
    {"st18_2_53_and_1", OFFSETS("[0,9007199254740993]"), 0, 4, VGG_EFORMAT,
     "offsets have 9007199254740993"},
    {"st18_many_digits",
     OFFSETS(
         "[0,444444444444444444444444444444444444444444444444444444444444444444444]"),
     0, 4, VGG_ELIMIT, "64 bits"},
    {"st20_bad_escape", "{\"\\x\":1}", 0, 4, VGG_EFORMAT, "bad escape"},
    {"st20_cut_escape", "{\"\\u12\":1}", 0, 4, VGG_EFORMAT, "bad escape"},
    {"st20_lone_surrogate", "{\"\\ud800\":1}", 0, 4, VGG_EFORMAT, "bad escape"},
    {"st20_zero_in_name", "{\"a\\u0000b\":1}", 0, 4, VGG_EFORMAT, "zero character"},
    /* Keys. */
    {"st22_name_twice", "{" ONE "," F32("a", "[1]", 4, 8) "}", 0, 8, VGG_EFORMAT,
     "\"a\" is there twice"},
    {"st23_name_twice_escaped", "{" ONE "," F32("\\u0061", "[1]", 4, 8) "}", 0, 8,
     VGG_EFORMAT, "\"a\" is there twice"},
    {"st24_dtype_twice",
     "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"
     "}",
     0, 4, VGG_EFORMAT, "\"dtype\" is there twice"},
    {"st24_shape_twice",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}",
     0, 4, VGG_EFORMAT, "\"shape\" is there twice"},
    {"st24_offsets_twice",
     "{\"a\":{\"data_offsets\":[0,4],\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":["
     "0,4]}}",
     0, 4, VGG_EFORMAT, "\"data_offsets\" is there twice"},
    {"st25_metadata_twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, 0,
     VGG_EFORMAT, "\"__metadata__\" is there twice"},
    {"st26_metadata_key_twice", "{\"__metadata__\":{\"k\":\"1\",\"\\u006b\":\"2\"}}", 0,
     0, VGG_EFORMAT, "\"k\" is there twice"},
    {"st27_no_dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 0, 4,
     VGG_EFORMAT, "a lacks \"dtype\""},
    {"st27_no_shape", "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 0, 4,
     VGG_EFORMAT, "a lacks \"shape\""},
    {"st27_no_offsets", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 0, 4, VGG_EFORMAT,
     "a lacks \"data_offsets\""},
    {"st28_unknown_key",
     "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 0, 4,
     VGG_EFORMAT, "a key that is not known"},
    {"st29_tensor_is_number", "{\"a\":1}", 0, 4, VGG_EFORMAT,
     "expected an object, found a number"},
    {"st29_tensor_is_array", "{\"a\":[]}", 0, 4, VGG_EFORMAT, "found an array"},
    {"st30_metadata_is_array", "{\"__metadata__\":[]}", 0, 0, VGG_EFORMAT,
     "expected an object, found an array"},
    {"st30_metadata_is_null", "{\"__metadata__\":null}", 0, 0, VGG_EFORMAT,
     "found null"},
    {"st31_metadata_number", "{\"__metadata__\":{\"k\":1}}", 0, 0, VGG_EFORMAT,
     "expected a string, found a number"},
    {"st31_metadata_null", "{\"__metadata__\":{\"k\":null}}", 0, 0, VGG_EFORMAT,
     "found null"},
    {"st31_metadata_object", "{\"__metadata__\":{\"k\":{}}}", 0, 0, VGG_EFORMAT,
     "found an object"},
    {"st32_metadata_empty_key", "{\"__metadata__\":{\"\":\"v\"}}", 0, 0, VGG_EFORMAT,
     "an empty key"},
    {"st33_empty_name", "{" F32("", "[1]", 0, 4) "}", 0, 4, VGG_EFORMAT,
     "without a name"},
    {"st35_control_in_name", "{" F32("a\\u001bb", "[1]", 0, 4) "}", 0, 4, VGG_EFORMAT,
     "control character in the name"},
    {"st35_newline_in_name", "{" F32("a\\nb", "[1]", 0, 4) "}", 0, 4, VGG_EFORMAT,
     "control character in the name"},
    {"st36_metadata_tensor",
     "{\"__metadata__\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 0,
     4, VGG_EFORMAT, "expected a string, found an array"},
    /* Types and shapes. */
    {"st37_dtype_number", DTYPE("1"), 0, 4, VGG_EFORMAT, "expected a string"},
    {"st37_dtype_unknown", DTYPE("\"F33\""), 0, 4, VGG_EFORMAT, "dtype is not one"},
    {"st37_dtype_lower", DTYPE("\"f32\""), 0, 4, VGG_EFORMAT, "dtype is not one"},
    {"st37_dtype_empty", DTYPE("\"\""), 0, 4, VGG_EFORMAT, "dtype is not one"},
    {"st39_not_whole_bytes",
     "{\"a\":{\"dtype\":\"F4\",\"shape\":[7],\"data_offsets\":[0,4]}}", 0, 4,
     VGG_EFORMAT, "not whole bytes"},
    {"st40_shape_number", SHAPE("1"), 0, 4, VGG_EFORMAT, "expected an array"},
    {"st40_shape_object", SHAPE("{}"), 0, 4, VGG_EFORMAT, "expected an array"},
    {"st41_side_string", SHAPE("[\"1\"]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st41_side_bool", SHAPE("[true]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st41_side_null", SHAPE("[null]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st41_side_nested", SHAPE("[[1]]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st42_rank_8", SHAPE("[1,1,1,1,1,1,1,1]"), 0, 4, VGG_ELIMIT, "more than 7 axes"},
    {"st43_product", SHAPE("[2,18446744073709551614]"), 0, 4, VGG_ELIMIT, "an axis of"},
    {"st44_bytes", SHAPE("[2,9223372036854775807]"), 0, 4, VGG_ELIMIT, "an axis of"},
    {"st45_wraps_to_4", SHAPE("[4194305,4194305,211106198978564]"), 0, 4, VGG_ELIMIT,
     "an axis of 211106198978564"},
    {"st45_wraps_small_sides", SHAPE("[2147483647,2147483647,2147483647]"), 0, 4,
     VGG_ELIMIT, "over 2^62 elements"},
    {"st44_bits_wrap",
     "{\"a\":{\"dtype\":\"F64\",\"shape\":[2147483647,2147483646],"
     "\"data_offsets\":[0,4]}}",
     0, 4, VGG_ELIMIT, "over 2^64 bits"},
    {"st46_hidden_by_zero_last", SHAPE("[18446744073709551615,18446744073709551615,0]"),
     0, 4, VGG_ELIMIT, "an axis of"},
    {"st46_hidden_by_zero_first",
     SHAPE("[0,18446744073709551615,18446744073709551615]"), 0, 4, VGG_ELIMIT,
     "an axis of"},
    {"st47_side_2_31", SHAPE("[2147483648]"), 0, 4, VGG_ELIMIT,
     "an axis of 2147483648"},
    /* Offsets. */
    {"st50_offsets_0", OFFSETS("[]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st50_offsets_1", OFFSETS("[0]"), 0, 4, VGG_EFORMAT, "expected a number"},
    {"st50_offsets_3", OFFSETS("[0,4,8]"), 0, 8, VGG_EFORMAT,
     "expected the array's end"},
    {"st51_backwards", OFFSETS("[4,0]"), 0, 4, VGG_EFORMAT, "ends before it begins"},
    {"st52_beyond", OFFSETS("[4,8]"), 0, 4, VGG_ETRUNCATED, "ends at byte 8"},
    {"st53_too_short", OFFSETS("[0,3]"), 0, 4, VGG_EFORMAT,
     "take 4 bytes, offsets have 3"},
    {"st53_too_long", OFFSETS("[0,5]"), 0, 5, VGG_EFORMAT,
     "take 4 bytes, offsets have 5"},
    {"st54_first_not_0", OFFSETS("[4,8]"), 0, 8, VGG_EFORMAT, "ends at byte 0"},
    {"st55_hole", "{" ONE "," F32("b", "[1]", 8, 12) "}", 0, 12, VGG_EFORMAT,
     "\"b\" begins at byte 8"},
    {"st56_trailing_data", "{" ONE "}", 0, 5, VGG_EFORMAT, "the tensors end at byte 4"},
    {"st57_tail_missing", "{" ONE "}", 0, 3, VGG_ETRUNCATED, "which has 3"},
    {"st58_same_range", "{" ONE "," F32("b", "[1]", 0, 4) "," F32("c", "[1]", 0, 4) "}",
     0, 4, VGG_EFORMAT, "begins at byte 0"},
    {"st59_partial_overlap", "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 4, 12) "}",
     0, 12, VGG_EFORMAT, "\"b\" begins at byte 4"},
    {"st59_nested_overlap", "{" F32("a", "[3]", 0, 12) "," F32("b", "[1]", 4, 8) "}", 0,
     12, VGG_EFORMAT, "\"b\" begins at byte 4"},
    {"st60_empty_inside", "{" F32("a", "[2]", 0, 8) "," F32("b", "[0]", 4, 4) "}", 0, 8,
     VGG_EFORMAT, "\"b\" begins at byte 4"},
    {"st61_empty_beyond", "{" ONE "," F32("b", "[0]", 8, 8) "}", 0, 4, VGG_ETRUNCATED,
     "ends at byte 8"},
    {"st62_data_without_tensors", "{}", 0, 4, VGG_EFORMAT, "end at byte 0"},
};

START_TEST(any_header)
{
    const size_t size =
        headers[_i].size > 0 ? headers[_i].size : strlen(headers[_i].header);
    const vgg_status status = open_header(headers[_i].header, size, headers[_i].data);
    ck_assert_msg(status == headers[_i].status, "%s: %s, expected %s: %s",
                  headers[_i].name, vgg_status_name(status),
                  vgg_status_name(headers[_i].status), vgg_last_error());
    if (status != VGG_OK)
        ck_assert_msg(strstr(vgg_last_error(), headers[_i].fragment) != NULL,
                      "%s: text lacks \"%s\": %s", headers[_i].name,
                      headers[_i].fragment, vgg_last_error());
}
END_TEST

static const struct {
    const char *name;
    uint64_t length; /* what the first eight bytes say */
    size_t size;     /* of the file */
    vgg_status status;
    const char *fragment;
} lengths[] = {
    {"g01_empty", 0, 0, VGG_ETRUNCATED, "found 0 bytes"},
    {"st01_1_byte", 2, 1, VGG_ETRUNCATED, "found 1 bytes"},
    {"st01_7_bytes", 2, 7, VGG_ETRUNCATED, "found 7 bytes"},
    {"st02_n_0", 0, 8, VGG_EFORMAT, "must begin with {"},
    {"st02_n_0_data", 0, 64, VGG_EFORMAT, "must begin with {"},
    {"st04_over_default", (16 << 20) + 1, 64, VGG_ELIMIT, "at most 16777216"},
    {"st04_format_limit", 100000001, 64, VGG_ELIMIT, "at most"},
    {"st05_2_64", UINT64_MAX, 64, VGG_ELIMIT, "at most"},
    {"st05_2_64_less_8", UINT64_MAX - 7, 64, VGG_ELIMIT, "at most"},
    {"st05_2_63", UINT64_C(1) << 63, 64, VGG_ELIMIT, "at most"},
    {"st06_beyond_file", 57, 64, VGG_ETRUNCATED, "57 bytes in a file of 64"},
    {"st07_big_endian", UINT64_C(2) << 56, 64, VGG_ELIMIT, "at most"},
};

START_TEST(wrong_length)
{
    uint8_t *file = calloc(1, lengths[_i].size + 1);
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)(lengths[_i].length >> 8 * i);
    memcpy(file, prefix, lengths[_i].size < 8 ? lengths[_i].size : 8);
    ck_fails_with(open_bytes(file, lengths[_i].size, NULL), lengths[_i].status,
                  lengths[_i].fragment);
    free(file);
}
END_TEST

/* Files that are something else are called by their name. */
START_TEST(other_formats)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *fragment;
    } files[] = {{"PK\3\4\24\0\0\0\10\10\0\0\0\0", 14, "zip"},
                 {"\x80\x02\x8a\nl\xfc\x9c\x46\xf9", 9, "pickle"},
                 {"\x89HDF\r\n\x1a\n\0\0\0\0", 12, "HDF5"},
                 {"version https://git-lfs.github.com/spec/v1\n", 43, "LFS"}};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        ck_fails_with(open_bytes(files[i].bytes, files[i].size, NULL), VGG_EFORMAT,
                      files[i].fragment);
}
END_TEST

static const char golden[] = "{\"__metadata__\":{\"format\":\"pt\"}," F32(
    "features.0.weight", "[2,1,3,3]", 0,
    72) ","
        "\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[72,80]}}   ";

START_TEST(every_prefix)
{
    size_t total;
    uint8_t *file = pack(golden, sizeof golden - 1, 80, &total);
    ck_ok(open_bytes(file, total, NULL));
    for (size_t size = 0; size < total; size++) {
        uint8_t *part = malloc(size > 0 ? size : 1);
        memcpy(part, file, size);
        const vgg_status status = open_bytes(part, size, NULL);
        ck_assert_msg(status == VGG_ETRUNCATED || status == VGG_EFORMAT,
                      "%zu bytes: %s", size, vgg_status_name(status));
        free(part);
    }
    /* The header cut at each byte, with its true length. */
    for (size_t size = 1; size < strlen(golden) - 3; size++)
        ck_fails(open_header(golden, size, 80), VGG_EFORMAT);
    free(file);
}
END_TEST

/* Any byte of the header replaced by any other: a status, not a crash; and what is
 * accepted is consistent. */
START_TEST(every_byte_changed)
{
    size_t total;
    uint8_t *file = pack(golden, sizeof golden - 1, 80, &total);
    for (size_t i = 0; i < total - 80; i++) {
        const uint8_t before = file[i];
        for (int value = 0; value < 256; value++) {
            file[i] = (uint8_t)value;
            uint32_t count = 0;
            if (open_bytes(file, total, &count) == VGG_OK) ck_assert_uint_eq(count, 2);
        }
        file[i] = before;
    }
    free(file);
}
END_TEST

START_TEST(deep_nesting)
{
    const size_t size = 1000000;
    char *text = malloc(size);
    memcpy(text, "{\"a\":", 5);
    memset(text + 5, '[', size - 5);
    ck_fails(open_header(text, size, 0), VGG_EFORMAT); /* a tensor is an object */
    memcpy(text, "{\"a\":{\"shape\":", 14);
    ck_fails(open_header(text, size, 0), VGG_EFORMAT);
    free(text);
}
END_TEST

START_TEST(long_strings)
{
    static char text[70000], name[300];
    memset(name, 'n', sizeof name);
    for (int length = 256; length < 258; length++) {
        const int size = snprintf(text, sizeof text,
                                  "{\"%.*s\":{\"dtype\":\"F32\",\"shape\":[1],"
                                  "\"data_offsets\":[0,4]}}",
                                  length, name);
        if (length == 256)
            ck_ok(open_header(text, (size_t)size, 4));
        else
            ck_fails_with(open_header(text, (size_t)size, 4), VGG_ELIMIT, "257 bytes");
    }
    for (int length = 255; length < 257; length++) {
        const int size = snprintf(text, sizeof text,
                                  "{\"__metadata__\":{\"%.*s\":\"\"}}", length, name);
        if (length == 255)
            ck_ok(open_header(text, (size_t)size, 0));
        else
            ck_fails(open_header(text, (size_t)size, 0), VGG_ELIMIT);
    }
    for (int length = 65535; length < 65537; length++) {
        memset(text, 'v', sizeof text);
        memcpy(text, "{\"__metadata__\":{\"k\":\"", 22);
        memcpy(text + 22 + length, "\"}}", 3);
        if (length == 65535)
            ck_ok(open_header(text, 22 + (size_t)length + 3, 0));
        else
            ck_fails(open_header(text, 22 + (size_t)length + 3, 0), VGG_ELIMIT);
    }
}
END_TEST

/* `count` tensors of 4 bytes with names that begin alike. */
static char *many(uint32_t count, uint32_t same, size_t *size)
{
    char *text = malloc((size_t)count * 160 + 16);
    char *p = text;
    *p++ = '{';
    for (uint32_t i = 0; i < count; i++)
        p += sprintf(
            p,
            "%s\"features.a.rather.long.name.that.all.have.%07u\":{\"dtype\":\"F32\","
            "\"shape\":[1],\"data_offsets\":[%u,%u]}",
            i > 0 ? "," : "", i == same ? 0 : i, 4 * i, 4 * i + 4);
    p += sprintf(p, "}");
    *size = (size_t)(p - text);
    return text;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

START_TEST(many_tensors)
{
    size_t size;
    const double start = seconds();
    char *text = many(VGG_ST_TENSORS, 0, &size);
    ck_ok(open_header(text, size, 4 * VGG_ST_TENSORS));
    free(text);
    text = many(VGG_ST_TENSORS, VGG_ST_TENSORS - 1, &size);
    ck_fails_with(open_header(text, size, 4 * VGG_ST_TENSORS), VGG_EFORMAT, "twice");
    free(text);
    /* Some 0.3 s without a sanitizer; a quadratic check would take minutes. */
    ck_assert_double_lt(seconds() - start, 20.0);
    text = many(VGG_ST_TENSORS + 1, 0, &size);
    ck_fails_with(open_header(text, size, 4 * VGG_ST_TENSORS + 4), VGG_ELIMIT,
                  "more than 100000 tensors");
    free(text);
}
END_TEST

START_TEST(many_keys)
{
    static char text[40000];
    for (int count = 1024; count < 1026; count++) {
        char *p = text + sprintf(text, "{\"__metadata__\":{");
        for (int i = 0; i < count; i++)
            p += sprintf(p, "%s\"key%d\":\"value\"", i > 0 ? "," : "", i);
        p += sprintf(p, "}}");
        if (count == 1024)
            ck_ok(open_header(text, (size_t)(p - text), 0));
        else
            ck_fails_with(open_header(text, (size_t)(p - text), 0), VGG_ELIMIT,
                          "more than 1024 keys");
    }
}
END_TEST

/* All memory that runs out, at each place. */
static int memory_left;

static void *scarce_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    return memory_left-- > 0 ? aligned_alloc(align, (size + align - 1) / align * align)
                             : NULL;
}

static void scarce_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

START_TEST(no_memory)
{
    const vgg_allocator allocator = {NULL, scarce_alloc, scarce_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx;
    memory_left = 100;
    ck_ok(vgg_context_create(&opts, &ctx));
    const uint64_t before = vgg_context_bytes(ctx);
    size_t total;
    uint8_t *file = pack(golden, sizeof golden - 1, 80, &total);
    struct vgg__input input;
    vgg__input_memory(&input, file, total, "x.safetensors");
    vgg_status status = VGG_ENOMEM;
    int limit = 0;
    for (; limit < 100 && status == VGG_ENOMEM; limit++) {
        struct vgg__safetensors st;
        memory_left = limit;
        status = vgg__safetensors_open(&st, ctx, &input, true);
        if (status == VGG_OK) vgg__safetensors_close(&st);
        ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    }
    ck_ok(status);
    ck_assert_int_gt(limit, 5);
    free(file);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tests = tcase_create("safetensors");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, any_header, 0, sizeof headers / sizeof headers[0]);
    tcase_add_loop_test(tests, wrong_length, 0, sizeof lengths / sizeof lengths[0]);
    tcase_add_test(tests, other_formats);
    tcase_add_test(tests, every_prefix);
    tcase_add_test(tests, every_byte_changed);
    tcase_add_test(tests, deep_nesting);
    tcase_add_test(tests, long_strings);
    tcase_add_test(tests, many_tensors);
    tcase_add_test(tests, many_keys);
    tcase_add_test(tests, no_memory);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
