/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON writer: text that grows, and numbers that don't depend on the locale. */
#include "io/json.h"

#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"

#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void vgg__json_out_begin(struct vgg__json_out *out, vgg_context *ctx, bool compact)
{
    memset(out, 0, sizeof *out);
    out->ctx = ctx;
    out->compact = compact;
    out->empty = true;
}

void vgg__json_out_free(struct vgg__json_out *out)
{
    vgg__free(out->text);
    out->text = NULL;
}

/* Room for `more` bytes and a final zero. */
static bool reserve(struct vgg__json_out *out, size_t more)
{
    if (out->status != VGG_OK) return false;
    if (more < out->capacity - out->size) return true;
    const size_t capacity = 2 * out->capacity + more + 256;
    char *text = vgg__alloc(out->ctx, capacity);
    if (text == NULL) {
        out->status = VGG_ENOMEM;
        return false;
    }
    if (out->size > 0) memcpy(text, out->text, out->size);
    vgg__free(out->text);
    out->text = text;
    out->capacity = capacity;
    return true;
}

static void put(struct vgg__json_out *out, const char *text, size_t size)
{
    if (!reserve(out, size)) return;
    memcpy(out->text + out->size, text, size);
    out->size += size;
    out->text[out->size] = '\0';
}

static void put_string(struct vgg__json_out *out, const char *text)
{
    put(out, "\"", 1);
    for (const char *p = text; *p != '\0'; p++) {
        const unsigned char c = (unsigned char)*p;
        char escape[8];
        if (c == '"' || c == '\\') {
            const char pair[2] = {'\\', *p};
            put(out, pair, 2);
        } else if (c < 0x20 || c == 0x7f) {
            snprintf(escape, sizeof escape, "\\u%04x", c);
            put(out, escape, 6);
        } else {
            put(out, p, 1);
        }
    }
    put(out, "\"", 1);
}

static void put_break(struct vgg__json_out *out)
{
    if (out->compact) return;
    put(out, "\n", 1);
    for (uint32_t i = 0; i < out->depth; i++) put(out, "  ", 2);
}

/* What goes before a value. */
static void put_lead(struct vgg__json_out *out, const char *key)
{
    if (!out->empty) put(out, ",", 1);
    if (out->depth > 0) put_break(out);
    out->empty = false;
    if (key == NULL) return;
    put_string(out, key);
    put(out, ": ", out->compact ? 1 : 2);
}

void vgg__json_open(struct vgg__json_out *out, const char *key, char bracket)
{
    put_lead(out, key);
    put(out, &bracket, 1);
    out->depth++;
    out->empty = true;
}

void vgg__json_close(struct vgg__json_out *out, char bracket)
{
    out->depth--;
    if (!out->empty) put_break(out);
    put(out, &bracket, 1);
    out->empty = false;
    if (out->depth == 0 && !out->compact) put(out, "\n", 1);
}

void vgg__json_put_text(struct vgg__json_out *out, const char *key, const char *text)
{
    put_lead(out, key);
    put_string(out, text);
}

void vgg__json_put_u64(struct vgg__json_out *out, const char *key, uint64_t value)
{
    char text[24];
    put_lead(out, key);
    put(out, text, (size_t)snprintf(text, sizeof text, "%" PRIu64, value));
}

void vgg__json_put_double(struct vgg__json_out *out, const char *key, double value)
{
    char text[40];
    const locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!isfinite(value) && out->status == VGG_OK)
        out->status = vgg__fail(VGG_EINVAL, "%s: JSON has no number that is not finite",
                                key != NULL ? key : "value");
    if (c == (locale_t)0 && out->status == VGG_OK)
        out->status = vgg__fail(VGG_ENOMEM, "no memory for the C locale");
    if (out->status != VGG_OK) return;
    const locale_t before = uselocale(c);
    const uint64_t mode = vgg__fpmode_enter(); /* both ways round to nearest */
    int digits = 1, length;
    do length = snprintf(text, sizeof text, "%.*g", digits, value);
    while (strtod(text, NULL) != value && digits++ < 17);
    vgg__fpmode_leave(mode);
    uselocale(before);
    freelocale(c);
    put_lead(out, key);
    put(out, text, (size_t)length);
}

void vgg__json_put_exact(struct vgg__json_out *out, const char *key, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    const char *sign = bits >> 63 != 0 ? "-" : "";
    const int exponent = (int)(bits >> 52 & 0x7ff);
    const uint64_t fraction = bits & ((UINT64_C(1) << 52) - 1);
    char text[40];
    if (isnan(value)) {
        snprintf(text, sizeof text, "nan");
    } else if (isinf(value)) {
        snprintf(text, sizeof text, "%sinf", sign);
    } else {
        char digits[16]; /* of the fraction, without zeros at its end */
        int count = snprintf(digits, sizeof digits, "%013" PRIx64, fraction);
        while (count > 0 && digits[count - 1] == '0') digits[--count] = '\0';
        const int power = exponent > 0 ? exponent - 1023 : fraction > 0 ? -1022 : 0;
        snprintf(text, sizeof text, "%s0x%d%s%sp%+d", sign, exponent > 0,
                 count > 0 ? "." : "", digits, power);
    }
    vgg__json_put_text(out, key, text);
}
