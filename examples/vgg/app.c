/* SPDX-License-Identifier: Apache-2.0 */
/* Messages, clock and numbers for people. */
#include "app.h"

#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

const char *verb_name = "";

/* One write a line, so that lines of several processes do not mix. */
static void say(const char *format, va_list args, const char *tail)
{
    char line[2048];
    const size_t room = sizeof line - 128; /* the tail always fits */
    size_t length = (size_t)snprintf(line, sizeof line, "vgg: ");
    const int text = vsnprintf(line + length, room - length, format, args);
    length += text < 0 ? 0 : (size_t)text;
    if (length > room - 1) length = room - 1;
    for (size_t i = 0; i < length; i++)
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    snprintf(line + length, sizeof line - length, "%s\n", tail);
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

int fail_vgg(const char *what)
{
    return what ? fail("%s: %s", what, vgg_last_error()) : fail("%s", vgg_last_error());
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
