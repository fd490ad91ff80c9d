/* SPDX-License-Identifier: Apache-2.0 */
/* The context as the library sees it: options, a counted lifetime, log, worker threads.
 *
 * Every object holds a reference to its context. The default context (NULL in the
 * public interface) is a static object whose threads live only while a device is
 * open. */
#ifndef VGG_CORE_CONTEXT_H
#define VGG_CORE_CONTEXT_H

#include <stdbool.h>
#include <vgg/context.h>

#define VGG_FOLDER_SIZE 1024 /* bytes of a plugin folder's name, with its final zero */

/* One more reference; NULL gives the default context. Never fails. */
vgg_context *vgg__context_ref(vgg_context *ctx);

/* One reference less. */
void vgg__context_unref(vgg_context *ctx);

/* The options it was made with (threads resolved to a number). NULL: the default's. */
const vgg_context_options *vgg__context_options(const vgg_context *ctx);

/* A log line; does nothing without a logger. */
void vgg__log(vgg_context *ctx, vgg_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Worker threads, counted: the first call starts them, the last release ends them. They
 * block all signals and run in the default floating-point mode.
 * VGG_EDEVICE when a thread can't be started (then none is left running). */
vgg_status vgg__pool_acquire(vgg_context *ctx);
void vgg__pool_release(vgg_context *ctx);

/* Work cut in `tasks` pieces. `worker` is below the context's thread count, and no two
 * calls of one vgg__parallel() run at once with the same worker. */
typedef void (*vgg__task_fn)(void *arg, uint32_t task, uint32_t worker);

/* Run task 0 .. tasks - 1 and wait for all. Which worker takes which task is not fixed,
 * so tasks must write to places of their own; a result must not depend on the worker.
 * If the threads are busy for another caller, or not acquired, the caller runs all
 * tasks itself as worker 0. Must not be called from within a task. */
void vgg__parallel(vgg_context *ctx, uint32_t tasks, vgg__task_fn run, void *arg);

/* A thread with all signals blocked. VGG_EDEVICE with the reason when there is none.
 * `name` (at most 15 bytes) is what debuggers show. */
struct vgg__thread {
    void *handle;
};
vgg_status vgg__thread_start(struct vgg__thread *thread, const char *name,
                             void (*run)(void *arg), void *arg);
void vgg__thread_join(struct vgg__thread *thread);

#endif
