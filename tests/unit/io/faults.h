/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that fail on demand: the n-th of a run, in one of several ways. */
#ifndef VGG_TEST_FAULTS_H
#define VGG_TEST_FAULTS_H

#include <stdbool.h>

enum fault {
    FAULT_NONE,        /* count only */
    FAULT_EIO,         /* the n-th call fails */
    FAULT_ENOSPC,      /* the same, another reason */
    FAULT_EINTR,       /* interrupted once */
    FAULT_SHORT,       /* all reads and writes from the n-th on do one byte */
    FAULT_NO_EXCHANGE, /* renaming with flags is not supported; the n-th call fails */
    /* As if the process was killed: from the n-th on nothing happens (but close). */
    FAULT_STOP,
    FAULT_STOP_NO_EXCHANGE
};

/* Put the failing table in place; counting starts anew. n counts from 1. */
void faults_begin(enum fault kind, long n);

/* Nothing fails any more, but nothing is flushed to disk either; returns how many calls
 * there were. A test may begin with this. */
long faults_end(void);

/* Open descriptors of this process. */
int faults_descriptors(void);

/* Entries of a folder whose names contain `part`. */
int faults_entries(const char *folder, const char *part);

#endif
