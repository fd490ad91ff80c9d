/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes as text, and the last error of each thread.
 *
 * The text lives in thread-local storage, so setting it can't fail and needs no memory.
 * Whatever a caller or a file put in it, it comes out as one printable line. errno is
 * as it was after a call. */
#include "core/error.h"

#include "core/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[VGG_ERROR_SIZE];

static const struct {
    vgg_status status;
    const char *name;
    const char *text;
} statuses[] = {
#define STATUS_ROW(name, value, text) {name, #name, text},
    VGG_STATUS_MAP(STATUS_ROW)
#undef STATUS_ROW
};

const char *vgg_status_name(vgg_status status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status) return statuses[i].name;
    return "VGG_?";
}

const char *vgg_status_text(vgg_status status)
{
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status) return statuses[i].text;
    return "unknown status";
}

const char *vgg_last_error(void)
{
    return last_error;
}

size_t vgg__utf8_length(const char *text, size_t left)
{
    const unsigned char *s = (const unsigned char *)text;
    const unsigned char a = left > 0 ? s[0] : 0, b = left > 1 && a != 0 ? s[1] : 0;
    if (a < 0x80) return 1;
    if (a < 0xc2 || a > 0xf4) return 0;
    const unsigned char low = a == 0xe0 ? 0xa0 : a == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = a == 0xed ? 0x9f : a == 0xf4 ? 0x8f : 0xbf;
    if (b < low || b > high) return 0;
    const size_t length = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
    for (size_t i = 2; i < length; i++)
        if (i >= left || (s[i] & 0xc0) != 0x80) return 0;
    return length;
}

/* Is the character at `s`, of `length` bytes, safe to show? Not: C0, DEL and C1
 * controls, U+2028 and U+2029 (ends of lines), U+202A-202E and U+2066-2069
 * (direction). */
static bool is_printable(const unsigned char *s, size_t length)
{
    if (length == 1) return s[0] >= 0x20 && s[0] != 0x7f;
    if (length == 2) return s[0] != 0xc2 || s[1] >= 0xa0;
    if (length != 3 || s[0] != 0xe2) return true;
    if (s[1] == 0x80) return s[2] < 0xa8 || s[2] > 0xae;
    return s[1] != 0x81 || s[2] < 0xa6 || s[2] > 0xa9;
}

void vgg__text_escape(const char *in, int cut, char *out, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)in;
    size_t used = 0, mark = 0; /* up to `mark` there is room for "..." behind */
    while (*s != '\0') {
        const size_t length = vgg__utf8_length((const char *)s, SIZE_MAX);
        const bool plain = length > 0 && is_printable(s, length);
        const size_t take = plain ? length : 1, need = plain ? length : 4;
        if (used + need >= size) break;
        if (plain) {
            memcpy(out + used, s, length);
        } else {
            const char escape[4] = {'\\', 'x', digits[*s >> 4], digits[*s & 15]};
            memcpy(out + used, escape, sizeof escape);
        }
        used += need;
        s += take;
        if (used + 4 <= size) mark = used;
    }
    if (*s != '\0' || cut) {
        memcpy(out + mark, "...", 3);
        used = mark + 3;
    }
    out[used] = '\0';
}

const char *vgg__text_path(const char *path)
{
    enum { LONGEST = 320 };
    const size_t length = strlen(path);
    if (length == 0) return "\"\"";
    return length <= LONGEST ? path : path + length - LONGEST;
}

static const char *errno_text(int errnum, char *text, size_t size)
{
#if defined(__GLIBC__)
    return strerror_r(errnum, text, size); /* may return a constant instead */
#else
    if (strerror_r(errnum, text, size) != 0) snprintf(text, size, "error %d", errnum);
    return text;
#endif
}

/* Format, add ": <reason>" unless it is NULL, and store. A raw byte becomes at least
 * one byte of the text, so what is cut here would not have fitted. */
__attribute__((format(printf, 1, 0))) static void
store_error(const char *format, va_list args, const char *reason)
{
    char raw[2 * VGG_ERROR_SIZE];
    int length = vsnprintf(raw, sizeof raw, format, args);
    if (length < 0) length = snprintf(raw, sizeof raw, "%s", format);
    bool cut = (size_t)length >= sizeof raw;
    if (!cut && reason != NULL) {
        const size_t room = sizeof raw - (size_t)length;
        cut = (size_t)snprintf(raw + length, room, ": %s", reason) >= room;
    }
    vgg__text_escape(raw, cut, last_error, sizeof last_error);
}

vgg_status vgg__fail(vgg_status status, const char *format, ...)
{
    const int saved = errno;
    va_list args;
    va_start(args, format);
    store_error(format, args, NULL);
    va_end(args);
    errno = saved;
    return status;
}

vgg_status vgg__fail_errno(vgg_status status, int errnum, const char *format, ...)
{
    const int saved = errno;
    char text[128];
    va_list args;
    va_start(args, format);
    store_error(format, args, errno_text(errnum, text, sizeof text));
    va_end(args);
    errno = saved;
    return status;
}

void vgg__error_keep(struct vgg__error *kept)
{
    memcpy(kept->text, last_error, sizeof last_error);
}

void vgg__error_restore(const struct vgg__error *kept)
{
    memcpy(last_error, kept->text, sizeof last_error);
}
