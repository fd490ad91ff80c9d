/* SPDX-License-Identifier: Apache-2.0 */
/* The list of cases, timed. */
#ifndef VGG_TEST_BENCH_H
#define VGG_TEST_BENCH_H

/* Print a line a case: milliseconds a sample, GFLOP/s and GB/s forward and backward.
 * The exit status of main(). */
int bench_main(const char *engine);

#endif
