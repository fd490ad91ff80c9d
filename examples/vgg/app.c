/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, clock and numbers for people. */
#include "app.h"

#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

const char *verb_name = "";

static bool muted;

void mute(bool on)
{
    muted = on;
}

unsigned utf8_length(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    if (at[0] < 0x80) return 1;
    const unsigned length = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
    for (unsigned i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    /* overlong, a surrogate, or past the last character */
    if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
        (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
        return 0;
    return length;
}

const char *printable(const char *text, char *out, size_t size)
{
    size_t length = 0;
    while (*text) {
        char piece[8] = "";
        const unsigned char c = (unsigned char)*text;
        const unsigned char next = (unsigned char)text[1];
        unsigned bytes = utf8_length(text);
        /* C1 controls are two bytes: c2 80 to c2 9f. */
        if (bytes == 0 || c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0)) {
            bytes = 1;
            snprintf(piece, sizeof piece, "\\x%02x", c);
        } else {
            memcpy(piece, text, bytes);
        }
        const size_t more = strlen(piece);
        if (length + more + 1 > size) break;
        memcpy(out + length, piece, more);
        length += more;
        text += bytes;
    }
    out[length] = '\0';
    return out;
}

/* May a character stand in a command as it is? */
static bool is_plain(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("_./:=@%+,-", c) != NULL);
}

/* A character within quotes; within $'...' (`odd`) bytes may be given as \\xNN. */
static int quote(char *out, size_t size, unsigned char c, bool odd)
{
    if (odd && (c < 0x20 || c >= 0x7f)) return snprintf(out, size, "\\x%02x", c);
    if (odd && (c == '\'' || c == '\\')) return snprintf(out, size, "\\%c", c);
    return snprintf(out, size, c == '\'' ? "'\\''" : "%c", c);
}

const char *shell_word(const char *text)
{
    static char buffers[4][4 * TEXT_SIZE + 16];
    static unsigned turn;
    const size_t size = sizeof buffers[0];
    char *out = buffers[turn++ % 4], shown[sizeof buffers[0]];
    const char *dash = text[0] == '-' ? "./" : ""; /* else it would be a flag */
    size_t plain = 0;
    while (is_plain(text[plain])) plain++;
    if (text[plain] == '\0' && plain > 0) {
        snprintf(out, size, "%s%s", dash, text);
        return out;
    }
    const bool odd = strcmp(printable(text, shown, size), text) != 0;
    size_t length = (size_t)snprintf(out, size, "%s'%s", odd ? "$" : "", dash);
    for (; *text && length + 8 < size; text++)
        length += (size_t)quote(out + length, 8, (unsigned char)*text, odd);
    snprintf(out + length, size - length, "'");
    return out;
}

/* One write a line, so that lines of several processes do not mix. */
static void say(const char *format, va_list args, const char *tail)
{
    char text[2048] = "", shown[2048], line[sizeof shown + 128];
    if (muted) return;
    vsnprintf(text, sizeof text, format, args);
    for (char *at = text; *at; at++)
        if (*at == '\n' || *at == '\r') *at = ' ';
    snprintf(line, sizeof line, "vgg: %s%s\n", printable(text, shown, sizeof shown),
             tail);
    fputs(line, stderr);
    fflush(stderr);
}

int fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args, "");
    va_end(args);
    return STATUS_RUN;
}

int misuse(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char hint[64];
    snprintf(hint, sizeof hint, " (see vgg %s%s--help)", verb_name,
             verb_name[0] ? " " : "");
    say(format, args, hint);
    va_end(args);
    return STATUS_USAGE;
}

/* What takes the memory that there was not. */
static const char *less_memory(const char *what)
{
    if (what && strcmp(what, "network") == 0)
        return "; fewer --hidden or a larger --ratio take less";
    if (what && strcmp(what, "data") == 0) return "; a smaller --resize takes less";
    return "; a smaller --batch takes less";
}

int fail_vgg(const char *what)
{
    const char *error = vgg_last_error();
    const bool named = !what || strncmp(error, what, strlen(what)) == 0;
    const char *remedy = strstr(error, "out of memory") ? less_memory(what) : "";
    return named ? fail("%s%s", error, remedy) : fail("%s: %s%s", what, error, remedy);
}

double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

uint64_t peak_rss_bytes(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
    return (uint64_t)usage.ru_maxrss * 1024; /* Linux counts KiB */
}

static char *next_buffer(void)
{
    static char buffers[4][32];
    static unsigned turn;
    return buffers[turn++ % 4];
}

const char *grouped(uint64_t count)
{
    char digits[24];
    char *out = next_buffer();
    char *at = out;
    const int length =
        snprintf(digits, sizeof digits, "%llu", (unsigned long long)count);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0) *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return out;
}

const char *readable_bytes(uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1000.0 && unit < 4) {
        value /= 1000.0;
        unit++;
    }
    char *out = next_buffer();
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}
