/* SPDX-License-Identifier: Apache-2.0 */
/* What programs share that time an engine. */
#ifndef VGG_TEST_TIMING_H
#define VGG_TEST_TIMING_H

#include <check.h>

/* Seconds of a clock that only goes forward. */
double timing_now(void);

/* The value in the middle, of the mean of the two there; sorts. */
double timing_median(double *seconds, int count);

/* Run one test in this process, so that what fails says so as in any other; the exit
 * status of main(). */
int timing_run(const TTest *test);

#endif
