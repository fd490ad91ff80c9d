/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr. A frame is one write: carriage return, the text cut to the
 * terminal's width, clear to the end of the line; so nothing flickers. */
#include "bar.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FRAME_SECONDS 0.1

static bool says_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    for (unsigned i = 0; i < 3; i++) {
        const char *value = getenv(names[i]);
        if (!value || !value[0]) continue;
        return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

void bar_init(struct bar *bar, bool quiet, bool no_bar)
{
    const char *term = getenv("TERM");
    const char *no_colour = getenv("NO_COLOR");
    const bool terminal =
        isatty(STDERR_FILENO) && term && term[0] && strcmp(term, "dumb") != 0;
    *bar = (struct bar){
        .live = terminal && !quiet && !no_bar,
        .lines = !quiet,
        .screen = isatty(STDERR_FILENO) != 0,
        .colour = !(no_colour && no_colour[0]),
        .utf8 = says_utf8(),
        .last = -1.0,
    };
}

static unsigned terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return 80;
}

unsigned bar_columns(const struct bar *bar)
{
    return bar->screen ? terminal_width() : 10000;
}

/* Seconds as 4:05 or 1:02:07. */
static void clock_text(double seconds, char *text, size_t size)
{
    const unsigned long all = (unsigned long)(seconds + 0.5);
    if (all >= 3600)
        snprintf(text, size, "%lu:%02lu:%02lu", all / 3600, all / 60 % 60, all % 60);
    else
        snprintf(text, size, "%lu:%02lu", all / 60, all % 60);
}

/* The gauge of `cells` columns, `share` of it full. */
static void gauge(const struct bar *bar, unsigned cells, double share, FILE *out)
{
    const unsigned full = (unsigned)(share * cells + 0.5);
    const char *const on = bar->utf8 ? "━" : "=";
    const char *const off = bar->utf8 ? "─" : "-";
    if (bar->colour) fputs("\033[36m", out);
    for (unsigned i = 0; i < full; i++) fputs(on, out);
    if (bar->colour) fputs("\033[2m", out);
    for (unsigned i = full; i < cells; i++) fputs(off, out);
    if (bar->colour) fputs("\033[0m", out);
}

/* The text right of the gauge, the least important parts left out until it fits. */
static int figures(const struct bar_state *state, unsigned room, char *text,
                   size_t size)
{
    char eta[32] = "", rate[32] = "", marks[64], place[64];
    if (state->eta >= 0.0) {
        char clock[24];
        clock_text(state->eta, clock, sizeof clock);
        snprintf(eta, sizeof eta, "  eta %s", clock);
    }
    if (state->rate > 0.0 && !state->evaluating)
        snprintf(rate, sizeof rate, "  %.*f img/s", state->rate < 100 ? 1 : 0,
                 state->rate);
    snprintf(marks, sizeof marks, "  loss %.3f  acc %.3f", state->loss,
             state->accuracy);
    /* As wide as it will become, so that the gauge keeps its length. */
    const int digits =
        snprintf(place, sizeof place, "%llu", (unsigned long long)state->batches);
    snprintf(place, sizeof place, " %*llu/%llu", digits,
             (unsigned long long)state->batch, (unsigned long long)state->batches);
    const char *const doing = state->evaluating ? "  evaluating" : "";
    const char *const parts[] = {place, doing, marks, eta, rate};
    int length = 0;
    for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if ((unsigned)length + strlen(parts[i]) > room) break;
        length += snprintf(text + length, size - (size_t)length, "%s", parts[i]);
    }
    return length;
}

void bar_draw(struct bar *bar, const struct bar_state *state, double now, bool force)
{
    if (!bar->live || (!force && now - bar->last < FRAME_SECONDS)) return;
    char frame[4096], head[64], text[256] = "";
    FILE *out = fmemopen(frame, sizeof frame, "w");
    if (!out) return;
    const unsigned width = terminal_width() - 1; /* the last column would wrap */
    const int head_length =
        snprintf(head, sizeof head, "epoch %llu/%llu ",
                 (unsigned long long)state->epoch, (unsigned long long)state->epochs);
    const unsigned room =
        width > (unsigned)head_length ? width - (unsigned)head_length : 0;
    const int length = figures(state, room, text, sizeof text);
    unsigned cells = room - (unsigned)length;
    if (cells > 30) cells = 30;
    fprintf(out, "\r%.*s", (int)width, head);
    if (cells >= 5)
        gauge(bar, cells,
              state->batches ? (double)state->batch / (double)state->batches : 0.0,
              out);
    fprintf(out, "%s\033[K", text);
    fclose(out);
    fputs(frame, stderr);
    fflush(stderr);
    bar->drawn = true;
    bar->last = now;
}

void bar_clear(struct bar *bar)
{
    if (!bar->drawn) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    bar->drawn = false;
    bar->last = -1.0;
}

void bar_line(struct bar *bar, const char *format, ...)
{
    if (!bar->lines) return;
    char text[2048] = "", line[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* One write, so that lines of several programs do not mix. */
    printable(text, line, sizeof line - 1);
    memcpy(line + strlen(line), "\n", 2);
    bar_clear(bar);
    fputs(line, stderr);
    fflush(stderr);
}
