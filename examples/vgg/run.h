/* SPDX-License-Identifier: Apache-2.0 */
/* A run directory: args.json, log.jsonl (a row a step, a row an epoch), metrics.csv (a
 * row an epoch), curves.svg, last/ and best/.
 *
 * Rows are written whole and before the checkpoint that covers them. A resumed run
 * drops what is later than its checkpoint, so that the files end as those of a run that
 * was never stopped, but for the timing columns (`images_per_s`, `seconds`). */
#ifndef RUN_H
#define RUN_H

#include "curves.h"
#include "settings.h"

/* A row of metrics.csv, which is also the row of an epoch in log.jsonl. */
struct epoch_row {
    uint64_t epoch, step;
    double loss, accuracy;           /* of training, as the weights moved */
    double test_loss, test_accuracy; /* after the epoch */
    double macro_f1, lr;
    double images_per_s, seconds; /* of training alone */
};

/* A row of log.jsonl. */
struct step_row {
    uint64_t epoch, batch, step; /* from 1 */
    double loss;                 /* of the step's batches */
    double lr;
    double mean_loss, accuracy; /* of the epoch so far */
    double images_per_s, seconds;
};

struct run {
    char dir[TEXT_SIZE];
    FILE *lock, *log, *csv;
    struct curves curves;
    struct epoch_row last_epoch; /* epoch 0: none yet */
};

/* Make and lock a new run directory: `out`, or runs/NAME-DATE-TIME. Anything but a lock
 * in it is refused. */
int run_create(struct run *run, const char *out, const char *name);

/* Lock the directory of an earlier run; "" is the latest in runs/. */
int run_find(struct run *run, const char *dir);

/* Path of a file of the run, one of four static buffers. */
const char *run_path(const struct run *run, const char *name);

/* Open the logs, after dropping every row past a position: `epoch` epochs and `batch`
 * batches of the next. The curves' points come from the rows that stay. */
int run_logs(struct run *run, uint64_t epoch, uint64_t batch);

int run_log_step(struct run *run, const struct step_row *row);
int run_log_epoch(struct run *run, const struct epoch_row *row);

/* Bring the logs to disk, before a checkpoint that they must not lag behind. */
int run_flush(struct run *run);

/* What to do when a file of the run could not be written, to follow the reason in a
 * message; "" while there is nothing to go on with. */
const char *run_remedy(const struct run *run);

void run_close(struct run *run);

#endif
