/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON reader: one state, one bit per level for "object or array", no recursion.
 * A string is checked while it is scanned, so decoding it can't meet anything bad. */
#include "io/json.h"

#include "core/error.h"
#include "core/fpmode.h"
#include "core/text.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may come next. */
enum {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* after [ */
    EXPECT_KEY,          /* after a comma in an object */
    EXPECT_KEY_OR_END,   /* after { */
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING
};

void vgg__json_begin(struct vgg__json *json, const char *file, const char *text,
                     size_t size)
{
    memset(json, 0, sizeof *json);
    json->file = file;
    json->text = text;
    json->size = size;
    json->expect = EXPECT_VALUE;
}

vgg_status vgg__json_fail(const struct vgg__json *json, vgg_status status,
                          const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return vgg__fail(status, "%s: byte %zu: %s", json->file, json->start, text);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The byte `ahead` of the present place; 0 past the end (where no token has a zero). */
static unsigned char peek(const struct vgg__json *json, size_t ahead)
{
    return ahead < json->size - json->at ? (unsigned char)json->text[json->at + ahead]
                                         : 0;
}

bool vgg__json_can_hold(const char *text)
{
    struct vgg__json json;
    vgg__json_begin(&json, "", text, strlen(text));
    while (json.at < json.size) {
        const size_t length =
            vgg__utf8_length(json.text + json.at, json.size - json.at);
        if (length == 0) return false;
        json.at += length;
    }
    return true;
}

static int hex_value(unsigned char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits of a \u escape at `p`, -1 if they are not. */
static int32_t hex4(const char *p)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_value((unsigned char)p[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

static bool is_high_surrogate(int32_t code)
{
    return code >= 0xd800 && code < 0xdc00;
}

static bool is_low_surrogate(int32_t code)
{
    return code >= 0xdc00 && code < 0xe000;
}

/* Write a code point as UTF-8; returns its bytes. `out` may be NULL. */
static size_t put_utf8(uint32_t code, char *out)
{
    char bytes[4];
    size_t n;
    if (code < 0x80) {
        bytes[0] = (char)code;
        n = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xc0 | code >> 6);
        n = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xe0 | code >> 12);
        n = 3;
    } else {
        bytes[0] = (char)(0xf0 | code >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        bytes[i] = (char)(0x80 | (code >> 6 * (n - 1 - i) & 0x3f));
    if (out != NULL) memcpy(out, bytes, n);
    return n;
}

/* Bytes of a valid escape's text at `p` (after its backslash), its code point in *code;
 * 0: not valid. `left` bytes are there. */
static size_t read_escape(const char *p, size_t left, uint32_t *code)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (left == 0) return 0;
    const char *simple = *p == '\0' ? NULL : strchr(from, *p);
    if (simple != NULL) {
        *code = (unsigned char)to[simple - from];
        return 1;
    }
    if (*p != 'u' || left < 5) return 0;
    const int32_t first = hex4(p + 1);
    if (first < 0 || is_low_surrogate(first)) return 0;
    *code = (uint32_t)first;
    if (!is_high_surrogate(first)) return 5;
    if (left < 11 || p[5] != '\\' || p[6] != 'u') return 0;
    const int32_t second = hex4(p + 7);
    if (second < 0 || !is_low_surrogate(second)) return 0;
    *code = 0x10000 + (((uint32_t)first - 0xd800) << 10) + ((uint32_t)second - 0xdc00);
    return 11;
}

/* Scan a string that begins at `at` with its quote. */
static vgg_status scan_string(struct vgg__json *json)
{
    json->first = ++json->at;
    json->length = 0;
    while (json->at < json->size) {
        const unsigned char c = peek(json, 0);
        if (c == '"') {
            json->at++;
            return VGG_OK;
        }
        size_t length, decoded;
        if (c == '\\') {
            uint32_t code;
            length = read_escape(json->text + json->at + 1, json->size - json->at - 1,
                                 &code);
            if (length == 0)
                return vgg__json_fail(json, VGG_EFORMAT, "bad escape at byte %zu",
                                      json->at);
            decoded = put_utf8(code, NULL);
            length++;
        } else if (c < 0x20) {
            return vgg__json_fail(json, VGG_EFORMAT,
                                  "control character 0x%02x in a string", c);
        } else {
            decoded = length =
                vgg__utf8_length(json->text + json->at, json->size - json->at);
            if (length == 0)
                return vgg__json_fail(json, VGG_EFORMAT, "invalid UTF-8 at byte %zu",
                                      json->at);
        }
        json->at += length;
        json->length += decoded;
    }
    return vgg__json_fail(json, VGG_EFORMAT, "string without end");
}

/* Skip digits; false if there is none. */
static bool scan_digits(struct vgg__json *json)
{
    const size_t start = json->at;
    while (is_digit((char)peek(json, 0))) json->at++;
    return json->at > start;
}

static vgg_status scan_number(struct vgg__json *json)
{
    bool good = true;
    if (peek(json, 0) == '-') json->at++;
    if (peek(json, 0) == '0')
        json->at++;
    else
        good = scan_digits(json);
    if (peek(json, 0) == '.') {
        json->at++;
        good = scan_digits(json) && good;
    }
    if (peek(json, 0) == 'e' || peek(json, 0) == 'E') {
        json->at++;
        if (peek(json, 0) == '+' || peek(json, 0) == '-') json->at++;
        good = scan_digits(json) && good;
    }
    json->length = json->at - json->start;
    /* A digit or point here is the rest of something like 01 or 1.2.3. */
    if (!good || is_digit((char)peek(json, 0)) || peek(json, 0) == '.')
        return vgg__json_fail(json, VGG_EFORMAT, "malformed number");
    return VGG_OK;
}

static vgg_status scan_word(struct vgg__json *json)
{
    static const struct {
        const char *text;
        enum vgg__json_kind kind;
    } words[] = {
        {"true", VGG_JSON_TRUE}, {"false", VGG_JSON_FALSE}, {"null", VGG_JSON_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const size_t length = strlen(words[i].text);
        if (json->size - json->at < length ||
            memcmp(json->text + json->at, words[i].text, length) != 0)
            continue;
        json->kind = words[i].kind;
        json->at += length;
        return VGG_OK;
    }
    const unsigned char c = peek(json, 0);
    return vgg__json_fail(json, VGG_EFORMAT, "expected a value, found byte 0x%02x", c);
}

static bool in_object(const struct vgg__json *json)
{
    return json->depth > 0 && (json->objects >> (json->depth - 1) & 1) != 0;
}

/* A value, or an array or object, is complete. */
static void finish_value(struct vgg__json *json)
{
    json->expect = json->depth > 0 ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static vgg_status open_level(struct vgg__json *json, bool object)
{
    if (json->depth == VGG_JSON_DEPTH)
        return vgg__json_fail(json, VGG_ELIMIT, "nested deeper than %d levels",
                              VGG_JSON_DEPTH);
    const uint32_t bit = UINT32_C(1) << json->depth++;
    json->objects = object ? json->objects | bit : json->objects & ~bit;
    json->at++;
    json->kind = object ? VGG_JSON_OBJECT : VGG_JSON_ARRAY;
    json->expect = object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return VGG_OK;
}

static vgg_status close_level(struct vgg__json *json)
{
    json->kind = in_object(json) ? VGG_JSON_OBJECT_END : VGG_JSON_ARRAY_END;
    json->at++;
    json->depth--;
    finish_value(json);
    return VGG_OK;
}

static void skip_space(struct vgg__json *json)
{
    while (json->at < json->size && is_space(json->text[json->at])) json->at++;
}

static vgg_status scan_key(struct vgg__json *json)
{
    if (peek(json, 0) != '"')
        return vgg__json_fail(json, VGG_EFORMAT, "expected a key in double quotes");
    VGG_TRY(scan_string(json));
    skip_space(json);
    if (peek(json, 0) != ':')
        return vgg__json_fail(json, VGG_EFORMAT, "expected a colon after the key");
    json->at++;
    json->kind = VGG_JSON_KEY;
    json->expect = EXPECT_VALUE;
    return VGG_OK;
}

static vgg_status scan_value(struct vgg__json *json)
{
    const char c = (char)peek(json, 0);
    if (c == '{' || c == '[') return open_level(json, c == '{');
    if (c == '"') {
        json->kind = VGG_JSON_STRING;
        VGG_TRY(scan_string(json));
    } else if (c == '-' || is_digit(c)) {
        json->kind = VGG_JSON_NUMBER;
        VGG_TRY(scan_number(json));
    } else {
        VGG_TRY(scan_word(json));
    }
    finish_value(json);
    return VGG_OK;
}

vgg_status vgg__json_next(struct vgg__json *json)
{
    skip_space(json);
    json->start = json->at;
    json->length = 0;
    if (json->at == json->size) {
        if (json->expect != EXPECT_NOTHING)
            return vgg__json_fail(json, VGG_EFORMAT, "the text ends early");
        json->kind = VGG_JSON_END;
        return VGG_OK;
    }
    const char close = in_object(json) ? '}' : ']';
    switch (json->expect) {
    case EXPECT_COMMA_OR_END:
        if ((char)peek(json, 0) == close) return close_level(json);
        if (peek(json, 0) != ',')
            return vgg__json_fail(json, VGG_EFORMAT, "expected a comma or '%c'", close);
        json->at++;
        skip_space(json);
        json->start = json->at;
        return in_object(json) ? scan_key(json) : scan_value(json);
    case EXPECT_KEY_OR_END:
        if (peek(json, 0) == '}') return close_level(json);
        return scan_key(json);
    case EXPECT_VALUE_OR_END:
        if (peek(json, 0) == ']') return close_level(json);
        return scan_value(json);
    case EXPECT_NOTHING:
        return vgg__json_fail(json, VGG_EFORMAT, "something follows the end");
    default:
        return scan_value(json);
    }
}

vgg_status vgg__json_expect(struct vgg__json *json, enum vgg__json_kind kind)
{
    static const char *const names[] = {
        "an object", "the object's end", "an array", "the array's end", "a key",
        "a string",  "a number",         "true",     "false",           "null",
        "the end"};
    VGG_TRY(vgg__json_next(json));
    if (json->kind != kind)
        return vgg__json_fail(json, VGG_EFORMAT, "expected %s, found %s", names[kind],
                              names[json->kind]);
    return VGG_OK;
}

vgg_status vgg__json_skip(struct vgg__json *json)
{
    const uint32_t depth = json->depth;
    do VGG_TRY(vgg__json_next(json));
    while (json->depth > depth);
    return VGG_OK;
}

vgg_status vgg__json_text(const struct vgg__json *json, char *out, size_t size)
{
    if (json->length >= size)
        return vgg__json_fail(json, VGG_ELIMIT,
                              "a string of %zu bytes, at most %zu here", json->length,
                              size - 1);
    const char *p = json->text + json->first;
    char *const end = out + json->length;
    while (out < end) {
        if (*p != '\\') {
            *out++ = *p++;
            continue;
        }
        uint32_t code = 0;
        p += 1 + read_escape(p + 1, (size_t)(json->text + json->size - p - 1), &code);
        if (code == 0)
            return vgg__json_fail(json, VGG_EFORMAT, "a zero character in a string");
        out += put_utf8(code, out);
    }
    *out = '\0';
    return VGG_OK;
}

bool vgg__json_is(const struct vgg__json *json, const char *text)
{
    char decoded[128];
    const size_t length = strlen(text);
    if (json->length != length || length >= sizeof decoded) return false;
    const char *p = json->text + json->first;
    if (memchr(p, '\\', length) == NULL) return memcmp(p, text, length) == 0;
    for (size_t i = 0; i < length;) {
        uint32_t code = 0;
        if (*p == '\\') {
            p += 1 +
                 read_escape(p + 1, (size_t)(json->text + json->size - p - 1), &code);
            i += put_utf8(code, decoded + i);
        } else {
            decoded[i++] = *p++;
        }
    }
    return memcmp(decoded, text, length) == 0;
}

vgg_status vgg__json_field(struct vgg__json *json, const char *const *names,
                           uint32_t count, uint32_t *seen, uint32_t *which)
{
    VGG_TRY(vgg__json_next(json));
    *which = count;
    if (json->kind == VGG_JSON_OBJECT_END) return VGG_OK;
    uint32_t i = 0;
    while (i < count && !vgg__json_is(json, names[i])) i++;
    if (i == count) return vgg__json_fail(json, VGG_EFORMAT, "a key that is not known");
    if ((*seen >> i & 1) != 0)
        return vgg__json_fail(json, VGG_EFORMAT, "\"%s\" is there twice", names[i]);
    *seen |= UINT32_C(1) << i;
    *which = i;
    return VGG_OK;
}

vgg_status vgg__json_complete(const struct vgg__json *json, const char *const *names,
                              uint32_t count, uint32_t seen, const char *what)
{
    for (uint32_t i = 0; i < count; i++)
        if ((seen >> i & 1) == 0)
            return vgg__json_fail(json, VGG_EFORMAT, "%s lacks \"%s\"", what, names[i]);
    return VGG_OK;
}

vgg_status vgg__json_read_u64(struct vgg__json *json, uint64_t *out)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_NUMBER));
    uint64_t value = 0;
    for (size_t i = 0; i < json->length; i++) {
        const char c = json->text[json->start + i];
        if (!is_digit(c))
            return vgg__json_fail(
                json, VGG_EFORMAT,
                "expected an integer without sign, point or exponent");
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value))
            return vgg__json_fail(json, VGG_ELIMIT, "an integer beyond 64 bits");
    }
    *out = value;
    return VGG_OK;
}

vgg_status vgg__json_read_u32(struct vgg__json *json, uint32_t *out)
{
    uint64_t value = 0;
    VGG_TRY(vgg__json_read_u64(json, &value));
    if (value > UINT32_MAX)
        return vgg__json_fail(json, VGG_ELIMIT, "an integer beyond 32 bits");
    *out = (uint32_t)value;
    return VGG_OK;
}

vgg_status vgg__json_read_double(struct vgg__json *json, double *out)
{
    char text[64];
    VGG_TRY(vgg__json_expect(json, VGG_JSON_NUMBER));
    if (json->length >= sizeof text)
        return vgg__json_fail(json, VGG_ELIMIT,
                              "a number of %zu digits, at most %zu here", json->length,
                              sizeof text - 1);
    memcpy(text, json->text + json->start, json->length);
    text[json->length] = '\0';
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c == (locale_t)0) return vgg__fail(VGG_ENOMEM, "no memory for the C locale");
    const int saved = errno;
    const uint64_t mode = vgg__fpmode_enter();
    *out = strtod_l(text, NULL, c);
    vgg__fpmode_leave(mode);
    errno = saved;
    freelocale(c);
    if (*out - *out != 0)
        return vgg__json_fail(json, VGG_ELIMIT, "a number beyond a double");
    return VGG_OK;
}

vgg_status vgg__json_read_text(struct vgg__json *json, char *out, size_t size)
{
    VGG_TRY(vgg__json_expect(json, VGG_JSON_STRING));
    return vgg__json_text(json, out, size);
}

/* Digits after "0x" to a double; false if it is not what vgg__json_put_exact()
 * writes. */
static bool parse_exact(const char *p, double *out)
{
    const uint64_t sign = *p == '-';
    p += sign;
    uint64_t bits;
    if (strcmp(p, "nan") == 0) {
        bits = UINT64_C(0x7ff8) << 48;
    } else if (strcmp(p, "inf") == 0) {
        bits = UINT64_C(0x7ff) << 52;
    } else {
        if (p[0] != '0' || p[1] != 'x' || (p[2] != '0' && p[2] != '1')) return false;
        const bool normal = p[2] == '1';
        p += 3;
        uint64_t fraction = 0;
        int digits = 0;
        if (*p == '.')
            for (p++; digits < 13 && hex_value((unsigned char)*p) >= 0; p++, digits++)
                fraction = fraction << 4 | (uint64_t)hex_value((unsigned char)*p);
        fraction <<= 4 * (13 - digits);
        if (*p++ != 'p') return false;
        const bool negative = *p == '-';
        if (*p == '-' || *p == '+') p++;
        int exponent = 0, width = 0;
        for (; is_digit(*p) && width < 4; p++, width++)
            exponent = exponent * 10 + *p - '0';
        if (*p != '\0' || width == 0) return false;
        if (negative) exponent = -exponent;
        if (normal ? exponent < -1022 || exponent > 1023
                   : exponent != (fraction == 0 ? 0 : -1022))
            return false;
        bits = normal ? (uint64_t)(exponent + 1023) << 52 | fraction : fraction;
    }
    bits |= sign << 63;
    memcpy(out, &bits, sizeof bits);
    return true;
}

vgg_status vgg__json_read_exact(struct vgg__json *json, double *out)
{
    char text[32];
    VGG_TRY(vgg__json_read_text(json, text, sizeof text));
    if (!parse_exact(text, out))
        return vgg__json_fail(json, VGG_EFORMAT, "expected a number like \"0x1.8p+1\"");
    return VGG_OK;
}
