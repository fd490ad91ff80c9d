/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, and the crew of them that a context's engines share.
 *
 * A job is a counter that caller and workers draw tasks from. A worker joins a job only
 * while it is open; the caller closes it when no task is left and then waits for those
 * who joined. So a worker that wakes late delays nobody, and on a busy machine the
 * caller does the work itself. Which worker draws a task depends on timing, what the
 * task computes must not. */
#include "core/context.h"

#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "core/state.h"

#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* A waiter looks so long before it sleeps: the gap between stages. */
#define SPIN_NS 20000

/* ---- One thread ------------------------------------------------------------------ */

/* What a new thread is told; on its parent's stack until it says `taken`. */
struct start {
    const char *name;
    void (*run)(void *arg);
    void *arg;
    sem_t taken;
};

static void *thread_main(void *arg)
{
    struct start *start = arg;
    void (*run)(void *arg) = start->run;
    void *run_arg = start->arg;
    pthread_setname_np(pthread_self(), start->name);
    sem_post(&start->taken);
    vgg__fpmode_enter(); /* a thread inherits its parent's mode */
    run(run_arg);
    return NULL;
}

vgg_status vgg__thread_start(struct vgg__thread *thread, const char *name,
                             void (*run)(void *arg), void *arg)
{
    struct start start = {.name = name, .run = run, .arg = arg};
    sem_init(&start.taken, 0, 0);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the thread */
    pthread_t id;
    const int error = pthread_create(&id, NULL, thread_main, &start);
    if (error == 0)
        while (sem_wait(&start.taken) != 0) continue;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sem_destroy(&start.taken);
    thread->handle = error == 0 ? (void *)id : NULL;
    if (error != 0)
        return vgg__fail_errno(VGG_EDEVICE, error, "can't start thread %s", name);
    return VGG_OK;
}

void vgg__thread_join(struct vgg__thread *thread)
{
    pthread_join((pthread_t)thread->handle, NULL);
    thread->handle = NULL;
}

/* ---- The crew -------------------------------------------------------------------- */

struct worker {
    struct vgg__crew *crew;
    struct vgg__thread thread;
    uint32_t index; /* from 1; the caller is 0 */
};

struct vgg__crew {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;  /* a job was opened, or `stop` */
    pthread_cond_t idle;  /* the last worker left the job */
    bool open, stop;
    uint32_t joined;    /* workers within the job */
    uint32_t asleep;    /* workers that wait for `wake` */
    atomic_uint number; /* counts jobs; written under the lock, watched without */
    atomic_uint busy;   /* `joined`, to be watched without the lock */
    /* The job: written before it opens, constant until the last one left. */
    vgg__task_fn run;
    void *arg;
    uint32_t tasks;
    _Atomic uint64_t next; /* the first task that nobody has drawn */
    uint32_t count;        /* workers, without the caller */
    struct worker workers[];
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Watch a counter until it is (or, with `until_not`, is not) `value`, at most
 * SPIN_NS. */
static void spin(const atomic_uint *counter, unsigned value, bool until_not)
{
    const uint64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 32; i++) {
            const unsigned seen = atomic_load_explicit(counter, memory_order_acquire);
            if ((seen == value) != until_not) return;
            relax();
        }
    } while (now_ns() < end);
}

static void draw_tasks(struct vgg__crew *crew, uint32_t worker)
{
    for (;;) {
        const uint64_t task =
            atomic_fetch_add_explicit(&crew->next, 1, memory_order_relaxed);
        if (task >= crew->tasks) return;
        crew->run(crew->arg, (uint32_t)task, worker);
    }
}

static void worker_main(void *arg)
{
    const struct worker *self = arg;
    struct vgg__crew *crew = self->crew;
    unsigned seen = 0;
    pthread_mutex_lock(&crew->lock);
    while (!crew->stop) {
        const unsigned number =
            atomic_load_explicit(&crew->number, memory_order_relaxed);
        if (number == seen) {
            crew->asleep++;
            pthread_cond_wait(&crew->wake, &crew->lock);
            crew->asleep--;
            continue;
        }
        seen = number;
        if (crew->open) {
            atomic_store_explicit(&crew->busy, ++crew->joined, memory_order_relaxed);
            pthread_mutex_unlock(&crew->lock);
            draw_tasks(crew, self->index);
            pthread_mutex_lock(&crew->lock);
            atomic_store_explicit(&crew->busy, --crew->joined, memory_order_relaxed);
            if (crew->joined == 0) pthread_cond_signal(&crew->idle);
        }
        pthread_mutex_unlock(&crew->lock);
        spin(&crew->number, seen, true);
        pthread_mutex_lock(&crew->lock);
    }
    pthread_mutex_unlock(&crew->lock);
}

/* End and join the first `started` workers, and give the crew back. */
static void crew_end(struct vgg__crew *crew, uint32_t started)
{
    pthread_mutex_lock(&crew->lock);
    crew->stop = true;
    atomic_fetch_add_explicit(&crew->number, 1, memory_order_relaxed);
    pthread_cond_broadcast(&crew->wake);
    pthread_mutex_unlock(&crew->lock);
    for (uint32_t i = 0; i < started; i++) vgg__thread_join(&crew->workers[i].thread);
    pthread_cond_destroy(&crew->idle);
    pthread_cond_destroy(&crew->wake);
    pthread_mutex_destroy(&crew->lock);
    vgg__free(crew);
}

static vgg_status crew_start(vgg_context *ctx, uint32_t count, struct vgg__crew **out)
{
    struct vgg__crew *crew =
        vgg__calloc(ctx, 1, sizeof(struct vgg__crew) + count * sizeof(struct worker));
    if (crew == NULL) return VGG_ENOMEM;
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->wake, NULL);
    pthread_cond_init(&crew->idle, NULL);
    crew->count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct worker *worker = &crew->workers[i];
        worker->crew = crew;
        worker->index = i + 1;
        const vgg_status status =
            vgg__thread_start(&worker->thread, "vgg-worker", worker_main, worker);
        if (status != VGG_OK) {
            crew_end(crew, i);
            return status;
        }
    }
    *out = crew;
    return VGG_OK;
}

static void crew_run(struct vgg__crew *crew, uint32_t tasks, vgg__task_fn run,
                     void *arg)
{
    pthread_mutex_lock(&crew->lock);
    crew->run = run;
    crew->arg = arg;
    crew->tasks = tasks;
    atomic_store_explicit(&crew->next, 0, memory_order_relaxed);
    crew->open = true;
    atomic_fetch_add_explicit(&crew->number, 1, memory_order_release);
    const uint32_t asleep = crew->asleep;
    pthread_mutex_unlock(&crew->lock);
    if (asleep > 0 && tasks > crew->count)
        pthread_cond_broadcast(&crew->wake);
    else
        for (uint32_t i = 1; i < tasks && i <= asleep; i++)
            pthread_cond_signal(&crew->wake);

    draw_tasks(crew, 0);

    pthread_mutex_lock(&crew->lock);
    crew->open = false;
    if (crew->joined > 0) {
        pthread_mutex_unlock(&crew->lock);
        spin(&crew->busy, 0, false);
        pthread_mutex_lock(&crew->lock);
    }
    while (crew->joined > 0) pthread_cond_wait(&crew->idle, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
}

/* ---- The pool -------------------------------------------------------------------- */

/* Are the pool's threads those of a parent process? They did not come along, and its
 * locks may have been taken when it forked: nothing may be locked or waited for. */
static bool is_orphan(const struct vgg__pool *pool)
{
    const pid_t owner = atomic_load_explicit(&pool->owner, memory_order_relaxed);
    return owner != 0 && owner != getpid();
}

vgg_status vgg__pool_acquire(vgg_context *ctx)
{
    ctx = vgg__context_get(ctx);
    struct vgg__pool *pool = &ctx->pool;
    if (is_orphan(pool)) {
        pool->users++;
        return VGG_OK;
    }
    pthread_mutex_lock(&pool->lock);
    vgg_status status = VGG_OK;
    if (pool->users == 0 && ctx->opts.threads > 1) {
        struct vgg__crew *crew = NULL;
        status = crew_start(ctx, ctx->opts.threads - 1, &crew);
        pthread_mutex_lock(&pool->busy);
        pool->crew = crew;
        atomic_store_explicit(&pool->owner, crew != NULL ? getpid() : 0,
                              memory_order_relaxed);
        pthread_mutex_unlock(&pool->busy);
    }
    if (status == VGG_OK) pool->users++;
    pthread_mutex_unlock(&pool->lock);
    return status;
}

/* The last user of a parent's pool: forget its threads, and make the locks anew. */
static void orphan_release(struct vgg__pool *pool)
{
    if (--pool->users > 0) return;
    vgg__free(pool->crew);
    pool->crew = NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_mutex_init(&pool->busy, NULL);
    atomic_store_explicit(&pool->owner, 0, memory_order_relaxed);
}

void vgg__pool_release(vgg_context *ctx)
{
    struct vgg__pool *pool = &vgg__context_get(ctx)->pool;
    if (is_orphan(pool)) {
        orphan_release(pool);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (pool->users > 0 && --pool->users == 0 && pool->crew != NULL) {
        pthread_mutex_lock(&pool->busy);
        struct vgg__crew *crew = pool->crew;
        pool->crew = NULL;
        atomic_store_explicit(&pool->owner, 0, memory_order_relaxed);
        pthread_mutex_unlock(&pool->busy);
        crew_end(crew, crew->count);
    }
    pthread_mutex_unlock(&pool->lock);
}

void vgg__parallel(vgg_context *ctx, uint32_t tasks, vgg__task_fn run, void *arg)
{
    struct vgg__pool *pool = &vgg__context_get(ctx)->pool;
    if (tasks > 1 && !is_orphan(pool) && pthread_mutex_trylock(&pool->busy) == 0) {
        if (pool->crew != NULL) {
            crew_run(pool->crew, tasks, run, arg);
            pthread_mutex_unlock(&pool->busy);
            return;
        }
        pthread_mutex_unlock(&pool->busy);
    }
    for (uint32_t task = 0; task < tasks; task++) run(arg, task, 0);
}
