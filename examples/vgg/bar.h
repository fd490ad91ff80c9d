/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr: a live bar on a terminal, a plain line an epoch everywhere. */
#ifndef BAR_H
#define BAR_H

#include "app.h"

struct bar {
    bool live;   /* there is a terminal to draw on */
    bool lines;  /* say something at all */
    bool screen; /* lines go to a terminal */
    bool colour; /* NO_COLOR is not set */
    bool utf8;
    bool drawn;  /* the bar is on the last line of the screen */
    double last; /* when it was drawn */
};

/* What a bar shows. */
struct bar_state {
    uint64_t epoch, epochs; /* epoch from 1 */
    uint64_t batch, batches;
    double loss, accuracy; /* means of the epoch so far */
    double rate;           /* images/s; 0: not known yet */
    double eta;            /* seconds to the end; negative: not known */
    bool evaluating;       /* the epoch's batches are done, its test is not */
};

void bar_init(struct bar *bar, bool quiet, bool no_bar);

/* Draw, at most ten times a second; `now` in seconds, `force` draws in any case. */
void bar_draw(struct bar *bar, const struct bar_state *state, double now, bool force);

/* Take the bar off the screen, so that a line can be printed. */
void bar_clear(struct bar *bar);

/* Columns of the terminal that lines go to; plenty where it is none. */
unsigned bar_columns(const struct bar *bar);

/* A plain line, above the bar if there is one; nothing when quiet. */
void bar_line(struct bar *bar, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
