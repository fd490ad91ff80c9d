/* SPDX-License-Identifier: Apache-2.0 */
/* What `vgg bench` measures, and how it is shown. */
#ifndef BENCH_H
#define BENCH_H

#include "session.h"

/* Sort times, and the middle one of sorted ones. */
void sort_times(double *times, uint64_t count);
double median_time(const double *times, uint64_t count);

/* What a step's time goes to, beside the stages. */
enum { PART_INPUT, PART_PREPARE, PART_LOSS, PART_UPDATE, PART_OTHER, PARTS };

/* Seconds of the steps: of each stage without the loss, and of the parts. Of very many
 * steps the last are kept. */
struct profile {
    const vgg_plan *plan;  /* NULL: the engine times no stages */
    uint32_t stages, tail; /* without the loss, and with it */
    uint64_t room, taken;  /* steps */
    double *seconds;       /* [forward, backward, prepare of each stage; parts][room] */
    vgg_stage_time *before; /* [tail], when the step began */
    vgg_stage_time *now;    /* [tail] */
    vgg_plan_time total;    /* as `before` */
};

/* Begin with a plan that is made and will be run for so many steps. Where its engine
 * times no stages, `plan` stays NULL. */
int profile_open(struct profile *p, const vgg_plan *plan, uint64_t steps);

/* A step begins now. */
void profile_begin(struct profile *p);

/* It has ended, and took so long in all. */
void profile_end(struct profile *p, double seconds);

/* Medians over the steps; 0 for what is not known. profile_sort() before. */
void profile_sort(struct profile *p);
double profile_forward(const struct profile *p, uint32_t stage);
double profile_backward(const struct profile *p, uint32_t stage);
double profile_prepare(const struct profile *p, uint32_t stage);
double profile_part(const struct profile *p, unsigned part);

void profile_close(struct profile *p);

/* What is measured. All owned but the session's and `watched`. */
struct bench {
    struct settings *s;
    struct session it;
    vgg_trainer *trainer;    /* training */
    vgg_plan *plan;          /* inference */
    const vgg_plan *watched; /* either's */
    struct profile profile;
    vgg_tensor *images, *logits;
    uint32_t *labels;
    double *times;  /* seconds of each step, sorted in the end */
    uint64_t seen;  /* images of the measured steps */
    uint64_t done;  /* steps, those of the warm-up included */
    uint64_t batch; /* images of each */
    double mark;    /* when the step before was done */
};

/* What was measured, on stdout: a table and a summary, or JSON. */
void bench_report(const struct bench *b);

#endif
