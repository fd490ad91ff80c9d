/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of networks that engines are tested and timed on. */
#ifndef VGG_TEST_CASES_H
#define VGG_TEST_CASES_H

#include <stdint.h>

struct test_case {
    const char *net;      /* see net.h */
    uint32_t batch;       /* samples of a test */
    uint32_t bench_batch; /* samples of a timing; 0: not timed */
};

extern const struct test_case test_cases[];
extern const uint32_t test_case_count;

#endif
