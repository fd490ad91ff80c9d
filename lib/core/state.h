/* SPDX-License-Identifier: Apache-2.0 */
/* The context's own struct, for lib/core alone. */
#ifndef VGG_CORE_STATE_H
#define VGG_CORE_STATE_H

#include "core/context.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#define VGG_MAX_THREADS 1024

struct vgg__crew; /* threads.c: the running threads and their present job */

/* Worker threads as a context holds them. `lock` guards starting and ending, `busy` the
 * crew's use: who gets it has the threads. `owner` is the process they belong to, 0
 * while there are none: after a fork() the child has the struct, but not the
 * threads. */
struct vgg__pool {
    pthread_mutex_t lock, busy;
    uint32_t users; /* acquired so many times */
    struct vgg__crew *crew;
    _Atomic pid_t owner;
};

struct vgg_context {
    atomic_uint refs; /* unused by the default context, which stays */
    bool is_default;
    vgg_context_options opts; /* its pointers lead to the copies below, and behind */
    vgg_allocator allocator;
    vgg_logger logger;
    _Atomic uint64_t bytes; /* held now, headers of blocks included */
    struct vgg__pool pool;
};

/* The default context for NULL, set up at first use. */
vgg_context *vgg__context_get(const vgg_context *ctx);

/* The allocator of contexts that name none: posix_memalign() and free(). */
extern const vgg_allocator vgg__default_allocator;

/* Processors that this process may use: its affinity, bounded by the quota of its
 * control groups; 1 to VGG_MAX_THREADS. */
uint32_t vgg__processors(void);

/* Processors that a control group quota allows, rounded up; 0: no quota, or not to be
 * found out. `table` is /proc/self/cgroup and `root` is /sys/fs/cgroup, but in
 * tests. */
uint32_t vgg__cgroup_quota(const char *table, const char *root);

#endif
