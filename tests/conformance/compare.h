/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing what came out; every function fails the running test with a line that names
 * the array, the element and both values. */
#ifndef VGG_TEST_COMPARE_H
#define VGG_TEST_COMPARE_H

#include "session.h"

/* What the next comparisons are about, printf-formatted; the first words of a
   failure. */
void compare_label(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Equal to the last bit, but for the sign of a zero; a NaN equals a NaN. */
void compare_exact(const char *what, const double *got, const double *want,
                   size_t count);

/* |got - want| over |want|, both as vectors, and element by element against the largest
 * of `want`. */
void compare_close(const char *what, const double *got, const double *want,
                   size_t count, double tolerance);

/* The same without a look at single elements, for errors that are few and large. */
void compare_rough(const char *what, const double *got, const double *want,
                   size_t count, double tolerance);

/* |got[i] - want[i]| <= 2^-bits |want[i]|; a NaN equals a NaN. */
void compare_rounded(const char *what, const double *got, const double *want,
                     size_t count, int bits);

/* |got[i]| <= tolerance, where the exact result is zero and rounding leaves
   something. */
void compare_zero(const char *what, const double *got, size_t count, double tolerance);

/* |got[i] - want[i]| <= factor * bound[i] */
void compare_bounded(const char *what, const double *got, const double *want,
                     const double *bound, size_t count, double factor);

/* An array of zeros would agree with another: fewer than 30 % may be. */
void compare_not_zero(const char *what, const double *got, size_t count);

/* How close two outcomes must be: element by element up to a rounding to so many bits
 * if `bits` is not 0, else by tolerances, where 0 is exactly. Gradients with a
 * tolerance of their own are compared roughly. */
struct closeness {
    double values, gradients;
    int bits;
};

/* What a target may be asked for on random data. */
struct closeness closeness_of(const struct target *target, const struct net *net,
                              const struct data *data, uint32_t mode);

/* All arrays of two outcomes of one network. */
void compare_outcomes(const struct net *net, const struct data *data,
                      const struct outcome *got, const struct outcome *want,
                      struct closeness closeness);

#endif
