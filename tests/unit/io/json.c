/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is read, what is refused and why, and that numbers come back as they went.
 */
#include "io/json.h"
#include "core/error.h"
#include "harness.h"

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static vgg_status walk(const char *text, size_t size)
{
    struct vgg__json json;
    vgg__json_begin(&json, "x.json", text, size);
    do VGG_TRY(vgg__json_next(&json));
    while (json.kind != VGG_JSON_END);
    return VGG_OK;
}

/* `size` 0: strlen. */
static const struct {
    const char *text;
    size_t size;
    vgg_status status;
    const char *fragment;
} documents[] = {
    {"{}", 0, VGG_OK, NULL},
    {"[]", 0, VGG_OK, NULL},
    {" \t\r\n{ \"a\" : [ 1 , -2.5e+3 , true , false , null , \"x\" , {} , [] ] } \n", 0,
     VGG_OK, NULL},
    {"0", 0, VGG_OK, NULL},
    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\"", 0, VGG_OK, NULL},
    {"\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", 0,
     VGG_OK, NULL},
    {"", 0, VGG_EFORMAT, "ends early"},
    {"   ", 0, VGG_EFORMAT, "ends early"},
    {"\xef\xbb\xbf{}", 0, VGG_EFORMAT, "found byte 0xef"},
    {"{} x", 0, VGG_EFORMAT, "something follows"},
    {"{}{}", 0, VGG_EFORMAT, "something follows"},
    {"{}\0", 3, VGG_EFORMAT, "something follows"},
    {"{}}", 0, VGG_EFORMAT, "something follows"},
    {"[1,]", 0, VGG_EFORMAT, "expected a value, found byte 0x5d"},
    {"[,1]", 0, VGG_EFORMAT, "expected a value"},
    {"[1 2]", 0, VGG_EFORMAT, "expected a comma or ']'"},
    {"[1}", 0, VGG_EFORMAT, "expected a comma or ']'"},
    {"{\"a\":1]", 0, VGG_EFORMAT, "expected a comma or '}'"},
    {"{\"a\":1,}", 0, VGG_EFORMAT, "expected a key"},
    {"{,}", 0, VGG_EFORMAT, "expected a key"},
    {"{\"a\" 1}", 0, VGG_EFORMAT, "expected a colon"},
    {"{\"a\":}", 0, VGG_EFORMAT, "expected a value"},
    {"{\"a\":1 \"b\":2}", 0, VGG_EFORMAT, "expected a comma"},
    {"{a:1}", 0, VGG_EFORMAT, "expected a key"},
    {"{'a':1}", 0, VGG_EFORMAT, "expected a key"},
    {"{1:1}", 0, VGG_EFORMAT, "expected a key"},
    {"// x\n{}", 0, VGG_EFORMAT, "expected a value"},
    {"{/* x */}", 0, VGG_EFORMAT, "expected a key"},
    {"]", 0, VGG_EFORMAT, "expected a value"},
    {"tru", 0, VGG_EFORMAT, "expected a value"},
    {"True", 0, VGG_EFORMAT, "expected a value"},
    {"truex", 0, VGG_EFORMAT, "something follows"},
    {"NaN", 0, VGG_EFORMAT, "expected a value"},
    {"Infinity", 0, VGG_EFORMAT, "expected a value"},
    {"-Infinity", 0, VGG_EFORMAT, "malformed number"},
    {"+1", 0, VGG_EFORMAT, "expected a value"},
    {"01", 0, VGG_EFORMAT, "malformed number"},
    {"-", 0, VGG_EFORMAT, "malformed number"},
    {"-01", 0, VGG_EFORMAT, "malformed number"},
    {"1.", 0, VGG_EFORMAT, "malformed number"},
    {".5", 0, VGG_EFORMAT, "expected a value"},
    {"1e", 0, VGG_EFORMAT, "malformed number"},
    {"1e+", 0, VGG_EFORMAT, "malformed number"},
    {"1.2.3", 0, VGG_EFORMAT, "malformed number"},
    {"0x10", 0, VGG_EFORMAT, "something follows"},
    {"\"a", 0, VGG_EFORMAT, "string without end"},
    {"\"a\\\"", 0, VGG_EFORMAT, "string without end"},
    {"\"\\", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\x\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\u12\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\u12g4\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\ud800\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\ud800\\u0041\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\udc00\"", 0, VGG_EFORMAT, "bad escape"},
    {"\"\\\0\"", 4, VGG_EFORMAT, "bad escape"},
    {"\"\t\"", 0, VGG_EFORMAT, "control character 0x09"},
    {"\"\0\"", 3, VGG_EFORMAT, "control character 0x00"},
    {"\"\x80\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xc0\x80\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xc1\xbf\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xe0\x9f\xbf\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xed\xa0\x80\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xf0\x8f\xbf\xbf\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xf4\x90\x80\x80\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xf5\x80\x80\x80\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xe2\x82\"", 0, VGG_EFORMAT, "invalid UTF-8"},
    {"\"\xe2\x82", 0, VGG_EFORMAT, "invalid UTF-8"},
};

START_TEST(document)
{
    const size_t size =
        documents[_i].size > 0 ? documents[_i].size : strlen(documents[_i].text);
    /* A copy of the exact size, so that reading beyond it is seen. */
    char *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, documents[_i].text, size);
    if (documents[_i].status == VGG_OK)
        ck_ok(walk(copy, size));
    else
        ck_fails_with(walk(copy, size), documents[_i].status, documents[_i].fragment);
    free(copy);
}
END_TEST

START_TEST(every_prefix_fails)
{
    static const char text[] = "{\"a\": [1, -2.5e3, true, null, "
                               "\"\\u00e9\\ud83d\\ude00\xc3\xa9\"], \"b\": {}}";
    const size_t size = sizeof text - 1;
    for (size_t i = 0; i < size; i++) {
        char *copy = malloc(i > 0 ? i : 1);
        memcpy(copy, text, i);
        ck_fails(walk(copy, i), VGG_EFORMAT);
        free(copy);
    }
    ck_ok(walk(text, size));
}
END_TEST

START_TEST(depth)
{
    char text[3 * VGG_JSON_DEPTH];
    memset(text, '[', VGG_JSON_DEPTH);
    memset(text + VGG_JSON_DEPTH, ']', VGG_JSON_DEPTH);
    ck_ok(walk(text, 2 * VGG_JSON_DEPTH));
    memset(text, '[', VGG_JSON_DEPTH + 1);
    ck_fails_with(walk(text, VGG_JSON_DEPTH + 1), VGG_ELIMIT, "nested deeper");
    char *deep = malloc(1000000);
    memset(deep, '[', 1000000);
    ck_fails(walk(deep, 1000000), VGG_ELIMIT);
    free(deep);
}
END_TEST

static const struct {
    const char *text;
    vgg_status status;
    uint64_t value;
} integers[] = {
    {"0", VGG_OK, 0},
    {"9007199254740993", VGG_OK, 9007199254740993u}, /* 2^53 + 1 */
    {"9223372036854775808", VGG_OK, 9223372036854775808u},
    {"18446744073709551615", VGG_OK, UINT64_MAX},
    {"18446744073709551616", VGG_ELIMIT, 0},
    {"99999999999999999999999999999999999999999", VGG_ELIMIT, 0},
    {"-1", VGG_EFORMAT, 0},
    {"-0", VGG_EFORMAT, 0},
    {"1.0", VGG_EFORMAT, 0},
    {"1e3", VGG_EFORMAT, 0},
    {"\"1\"", VGG_EFORMAT, 0},
    {"true", VGG_EFORMAT, 0},
    {"[1]", VGG_EFORMAT, 0},
};

START_TEST(integer)
{
    struct vgg__json json;
    uint64_t value = 0;
    vgg__json_begin(&json, "x.json", integers[_i].text, strlen(integers[_i].text));
    const vgg_status status = vgg__json_read_u64(&json, &value);
    ck_assert_int_eq(status, integers[_i].status);
    if (status == VGG_OK) ck_assert_uint_eq(value, integers[_i].value);
}
END_TEST

START_TEST(strings)
{
    static const char text[] = "\"\\u0061\\ud83d\\ude00\\n\" \"a\\u0000b\"";
    struct vgg__json json;
    char out[16];
    vgg__json_begin(&json, "x.json", text, sizeof text - 1);
    ck_ok(vgg__json_expect(&json, VGG_JSON_STRING));
    ck_assert_uint_eq(json.length, 6);
    ck_assert(vgg__json_is(&json, "a\xf0\x9f\x98\x80\n"));
    ck_assert(!vgg__json_is(&json, "a\xf0\x9f\x98\x80 "));
    ck_fails(vgg__json_text(&json, out, 6), VGG_ELIMIT);
    ck_ok(vgg__json_text(&json, out, 7));
    ck_assert_str_eq(out, "a\xf0\x9f\x98\x80\n");
    vgg__json_begin(&json, "x.json", text + 22, sizeof text - 1 - 22);
    ck_ok(vgg__json_expect(&json, VGG_JSON_STRING));
    ck_fails_with(vgg__json_text(&json, out, sizeof out), VGG_EFORMAT,
                  "zero character");
    ck_assert(!vgg__json_is(&json, "a"));
}
END_TEST

static vgg_status read_pair(const char *text, uint32_t *a)
{
    static const char *const names[] = {"a", "b"};
    struct vgg__json json;
    uint32_t seen = 0, which;
    vgg__json_begin(&json, "x.json", text, strlen(text));
    VGG_TRY(vgg__json_expect(&json, VGG_JSON_OBJECT));
    for (;;) {
        VGG_TRY(vgg__json_field(&json, names, 2, &seen, &which));
        if (which == 2) break;
        if (which == 0)
            VGG_TRY(vgg__json_read_u32(&json, a));
        else
            VGG_TRY(vgg__json_skip(&json));
    }
    VGG_TRY(vgg__json_complete(&json, names, 2, seen, "pair"));
    return vgg__json_expect(&json, VGG_JSON_END);
}

START_TEST(fields)
{
    uint32_t a = 0;
    ck_ok(read_pair("{\"b\": {\"x\": [[1], {}]}, \"\\u0061\": 7}", &a));
    ck_assert_uint_eq(a, 7);
    ck_fails_with(read_pair("{\"a\": 1}", &a), VGG_EFORMAT, "pair lacks \"b\"");
    ck_fails_with(read_pair("{\"a\": 1, \"a\": 2}", &a), VGG_EFORMAT, "twice");
    ck_fails_with(read_pair("{\"a\": 1, \"\\u0061\": 2}", &a), VGG_EFORMAT, "twice");
    ck_fails_with(read_pair("{\"c\": 1}", &a), VGG_EFORMAT, "not known");
    ck_fails_with(read_pair("{\"a\": 4294967296}", &a), VGG_ELIMIT, "32 bits");
    ck_fails_with(read_pair("[]", &a), VGG_EFORMAT,
                  "expected an object, found an array");
}
END_TEST

static const double doubles[] = {
    0.0,     -0.0,     1.0,  0.1,   1.0 / 3.0,    5e-324,     -2.5e-310,  DBL_MIN,
    DBL_MAX, -DBL_MAX, 1e22, 0.005, 0.9999999999, 123456789., DBL_EPSILON};

/* Written and read back in the locale `name`, both ways, every bit. */
static void round_trip(double value)
{
    struct vgg__json_out out;
    struct vgg__json json;
    double decimal = 7, exact = 7;
    vgg__json_out_begin(&out, NULL, false);
    vgg__json_open(&out, NULL, '[');
    if (isfinite(value)) vgg__json_put_double(&out, NULL, value);
    vgg__json_put_exact(&out, NULL, value);
    vgg__json_close(&out, ']');
    ck_ok(out.status);
    vgg__json_begin(&json, "x.json", out.text, out.size);
    ck_ok(vgg__json_expect(&json, VGG_JSON_ARRAY));
    if (isfinite(value)) {
        ck_ok(vgg__json_read_double(&json, &decimal));
        ck_assert_msg(memcmp(&decimal, &value, sizeof value) == 0, "%s", out.text);
    }
    ck_ok(vgg__json_read_exact(&json, &exact));
    ck_assert_msg(memcmp(&exact, &value, sizeof value) == 0 ||
                      (isnan(exact) && isnan(value)),
                  "%s", out.text);
    ck_ok(vgg__json_expect(&json, VGG_JSON_ARRAY_END));
    ck_ok(vgg__json_expect(&json, VGG_JSON_END));
    vgg__json_out_free(&out);
}

START_TEST(round_trips)
{
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++)
        round_trip(doubles[i]);
    round_trip(NAN);
    round_trip(INFINITY);
    round_trip(-INFINITY);
    uint64_t bits = 1; /* a walk through all exponents */
    for (int i = 0; i < 20000; i++) {
        double value;
        bits = bits * 6364136223846793005u + 1442695040888963407u;
        memcpy(&value, &bits, sizeof value);
        round_trip(value);
    }
}
END_TEST

START_TEST(shortest)
{
    struct vgg__json_out out;
    vgg__json_out_begin(&out, NULL, true);
    vgg__json_open(&out, NULL, '{');
    vgg__json_put_double(&out, "a", 0.1);
    vgg__json_put_exact(&out, "b", 3.0);
    vgg__json_put_exact(&out, "c", -0.0);
    vgg__json_put_exact(&out, "d", 5e-324);
    vgg__json_put_u64(&out, "e", UINT64_MAX);
    vgg__json_put_text(&out, "f\"\n", "\\\x01\x7f\xc3\xa9");
    vgg__json_close(&out, '}');
    ck_ok(out.status);
    ck_assert_str_eq(out.text, "{\"a\":0.1,\"b\":\"0x1.8p+1\",\"c\":\"-0x0p+0\","
                               "\"d\":\"0x0.0000000000001p-1022\","
                               "\"e\":18446744073709551615,"
                               "\"f\\\"\\u000a\":\"\\\\\\u0001\\u007f\xc3\xa9\"}");
    ck_ok(walk(out.text, out.size));
    vgg__json_out_free(&out);
    vgg__json_out_begin(&out, NULL, true);
    vgg__json_put_double(&out, "lr", NAN);
    ck_fails_with(out.status, VGG_EINVAL, "lr");
    vgg__json_out_free(&out);
}
END_TEST

static const char *const bad_exact[] = {
    "\"\"",           "\"1.0\"",      "\"0x\"",        "\"0x1\"",
    "\"0x1p\"",       "\"0x2p+0\"",   "\"0x1p+1024\"", "\"0x1p-1023\"",
    "\"0x0p+1\"",     "\"0x1.p\"",    "\"0x1p+0 \"",   "\"NaN\"",
    "\"0x1p+00001\"", "\"--0x1p+0\"", "1.0",           "\"0x1.00000000000000p+0\"",
    "\"0x1,8p+0\""};

START_TEST(exact_refused)
{
    struct vgg__json json;
    double value;
    vgg__json_begin(&json, "x.json", bad_exact[_i], strlen(bad_exact[_i]));
    ck_fails(vgg__json_read_exact(&json, &value), VGG_EFORMAT);
}
END_TEST

START_TEST(large_numbers)
{
    struct vgg__json json;
    double value;
    vgg__json_begin(&json, "x.json", "1e999", 5);
    ck_fails(vgg__json_read_double(&json, &value), VGG_ELIMIT);
    char digits[400];
    memset(digits, '1', sizeof digits);
    vgg__json_begin(&json, "x.json", digits, sizeof digits);
    ck_fails(vgg__json_read_double(&json, &value), VGG_ELIMIT);
}
END_TEST

int main(void)
{
    /* A locale whose decimal point is a comma, where the system has one. */
    if (setlocale(LC_ALL, "de_DE.UTF-8") == NULL) setlocale(LC_ALL, "fr_FR.UTF-8");
    Suite *suite = suite_create("json");
    TCase *tests = tcase_create("json");
    tcase_add_loop_test(tests, document, 0, sizeof documents / sizeof documents[0]);
    tcase_add_loop_test(tests, integer, 0, sizeof integers / sizeof integers[0]);
    tcase_add_loop_test(tests, exact_refused, 0,
                        sizeof bad_exact / sizeof bad_exact[0]);
    tcase_add_test(tests, every_prefix_fails);
    tcase_add_test(tests, depth);
    tcase_add_test(tests, strings);
    tcase_add_test(tests, fields);
    tcase_add_test(tests, round_trips);
    tcase_add_test(tests, shortest);
    tcase_add_test(tests, large_numbers);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
