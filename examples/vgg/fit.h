/* SPDX-License-Identifier: Apache-2.0 */
/* The part of `vgg train` between two checkpoints: callbacks of the library's trainer,
 * which log, draw, save and decide when to stop. */
#ifndef FIT_H
#define FIT_H

#include "bar.h"
#include "run.h"
#include "session.h"

enum stop { STOP_COMPLETE, STOP_STEPS, STOP_SIGNAL };

/* A training of this process. Everything in it is owned but `s`. */
struct training {
    const struct settings *s;
    struct session it;
    struct run run;
    struct bar bar;
    vgg_trainer *trainer;
    char title[144]; /* of the run, for people */

    enum stop stop;
    int signal;    /* that stopped it, or 0 */
    int status;    /* of a callback that failed, or 0 */
    uint64_t step; /* optimiser steps at the last row */
    uint64_t seen; /* images of the epoch at the last batch */
    double mark;   /* clock when the present batch began */
    double saved;  /* clock at the last save */

    /* of batches since the last row */
    double row_loss, row_seconds;
    uint64_t row_batches, row_images;
    /* of this epoch, and of all, in this process; training alone */
    double epoch_seconds, all_seconds, test_seconds;
    uint64_t epoch_images, all_images, all_batches;
};

/* Train to the end, --steps or a signal, from where the trainer stands. */
int fit(struct training *t);

/* Save a checkpoint of the run: "last" or "best". */
int fit_save(struct training *t, const char *name);

/* Write the picture of the run. */
int fit_draw(struct training *t);

#endif
