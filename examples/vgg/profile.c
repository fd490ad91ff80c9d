/* SPDX-License-Identifier: Apache-2.0 */
/* Where the time of steps goes: the difference of what a plan says after and before
 * each, and the medians of these. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

enum { STEPS_MOST = 4096 };

/* Rows of a stage. */
enum { FORWARD, BACKWARD, PREPARE, STAGE_ROWS };

static int by_time(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void sort_times(double *times, uint64_t count)
{
    qsort(times, count, sizeof *times, by_time);
}

double median_time(const double *times, uint64_t count)
{
    return count > 0 ? 0.5 * (times[(count - 1) / 2] + times[count / 2]) : 0.0;
}

static size_t row_count(const struct profile *p)
{
    return STAGE_ROWS * (size_t)p->stages + PARTS;
}

static double *row(const struct profile *p, size_t index)
{
    return p->seconds + index * p->room;
}

int profile_open(struct profile *p, const vgg_plan *plan, uint64_t steps)
{
    *p = (struct profile){.room = steps < STEPS_MOST ? steps : STEPS_MOST};
    if (vgg_plan_times(plan, NULL, NULL) != VGG_OK) return 0;
    p->plan = plan;
    p->tail = vgg_plan_stage_count(plan);
    vgg_stage_info last;
    vgg_plan_stage(plan, p->tail - 1, &last);
    p->stages = p->tail - (strcmp(last.kind, "loss") == 0);
    p->seconds = calloc(row_count(p) * p->room, sizeof *p->seconds);
    p->before = calloc(p->tail, sizeof *p->before);
    p->now = calloc(p->tail, sizeof *p->now);
    return p->seconds && p->before && p->now ? 0 : fail("out of memory");
}

void profile_begin(struct profile *p)
{
    if (p->plan) vgg_plan_times(p->plan, &p->total, p->before);
}

void profile_end(struct profile *p, double seconds)
{
    if (!p->plan) return;
    vgg_plan_time total;
    vgg_plan_times(p->plan, &total, p->now);
    const uint64_t at = p->taken++ % p->room;
    double parts[PARTS] = {
        [PART_INPUT] = total.input - p->total.input,
        [PART_PREPARE] = total.prepare - p->total.prepare,
        [PART_LOSS] = total.loss - p->total.loss,
        [PART_UPDATE] = total.update - p->total.update,
        [PART_OTHER] = seconds,
    };
    for (uint32_t i = 0; i < p->stages; i++) {
        const double spent[STAGE_ROWS] = {
            [FORWARD] = p->now[i].forward - p->before[i].forward,
            [BACKWARD] = p->now[i].backward - p->before[i].backward,
            [PREPARE] = p->now[i].prepare - p->before[i].prepare,
        };
        for (unsigned k = 0; k < STAGE_ROWS; k++)
            row(p, STAGE_ROWS * i + k)[at] = spent[k];
        parts[PART_OTHER] -= spent[FORWARD] + spent[BACKWARD];
    }
    for (unsigned i = 0; i < PART_OTHER; i++) parts[PART_OTHER] -= parts[i];
    for (unsigned i = 0; i < PARTS; i++)
        row(p, STAGE_ROWS * p->stages + i)[at] = parts[i];
}

static uint64_t kept(const struct profile *p)
{
    return p->taken < p->room ? p->taken : p->room;
}

void profile_sort(struct profile *p)
{
    for (size_t i = 0; p->plan && i < row_count(p); i++) sort_times(row(p, i), kept(p));
}

static double median(const struct profile *p, size_t index)
{
    return p->plan ? median_time(row(p, index), kept(p)) : 0.0;
}

double profile_forward(const struct profile *p, uint32_t stage)
{
    return median(p, STAGE_ROWS * (size_t)stage + FORWARD);
}

double profile_backward(const struct profile *p, uint32_t stage)
{
    return median(p, STAGE_ROWS * (size_t)stage + BACKWARD);
}

double profile_prepare(const struct profile *p, uint32_t stage)
{
    return median(p, STAGE_ROWS * (size_t)stage + PREPARE);
}

double profile_part(const struct profile *p, unsigned part)
{
    return median(p, STAGE_ROWS * (size_t)p->stages + part);
}

void profile_close(struct profile *p)
{
    free(p->seconds);
    free(p->before);
    free(p->now);
    *p = (struct profile){0};
}
