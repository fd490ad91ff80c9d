/* SPDX-License-Identifier: Apache-2.0 */
/* The result of an evaluation, for people and for programs. */
#ifndef REPORT_H
#define REPORT_H

#include "app.h"

/* Everything borrowed. */
struct report {
    const vgg_metrics *metrics;
    const vgg_dataset *data; /* names of the classes */
    const char *dataset, *split, *device, *precision, *linear_weights;
    const char *folder;  /* of the data's files */
    const char *weights; /* the file */
    const char *epochs;  /* that they were trained, NULL: not known */
    const char *place;   /* the device in a few words */
    uint32_t classes;
    double seconds;
};

void report_text(const struct report *r);
void report_json(const struct report *r);

#endif
