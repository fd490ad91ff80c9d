/* SPDX-License-Identifier: Apache-2.0 */
/* The training curves as a picture: train loss, train accuracy and test accuracy over
 * epochs, with a point every fifth of an epoch, as the chapter draws them. */
#ifndef CURVES_H
#define CURVES_H

#include "app.h"

struct curve_point {
    double epoch; /* where on the axis: 1.5 is half through the second epoch */
    double loss, accuracy;
    double test; /* NaN but at the end of an epoch */
};

struct curves {
    struct curve_point *points; /* owned */
    size_t count, room;
    uint64_t batches; /* an epoch; set before the first point */
};

/* Take the running means after a batch (both from 1), if it falls on a point. */
void curves_step(struct curves *curves, uint64_t epoch, uint64_t batch, double loss,
                 double accuracy);

/* The test accuracy after an epoch. */
void curves_test(struct curves *curves, uint64_t epoch, double accuracy);

/* Write the picture; `epochs` is the length of the axis. */
int curves_write(const struct curves *curves, const char *path, const char *title,
                 uint64_t epochs);

void curves_free(struct curves *curves);

#endif
