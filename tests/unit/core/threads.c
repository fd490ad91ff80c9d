/* SPDX-License-Identifier: Apache-2.0 */
/* Worker threads: every task once, workers apart, callers beside each other, life and
 * death of the crew, and what a thread looks like to its host. Check's assertions take
 * a lock of their own, so tasks and children of fork() set flags instead. */
#include "core/context.h"
#include "harness.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#if defined(__SANITIZE_THREAD__)
enum { WITH_TSAN = 1 }; /* which can't start threads in a child of fork() */
#else
enum { WITH_TSAN = 0 };
#endif

#define MOST_TASKS   5000
#define MOST_WORKERS 16

/* What the tasks of one call left behind. */
struct record {
    atomic_uint runs[MOST_TASKS];
    atomic_uint inside[MOST_WORKERS]; /* tasks that a worker is in, 0 or 1 */
    atomic_uint most_worker;
    pthread_t caller;
    atomic_bool wrong; /* two tasks in one worker, or worker 0 is not the caller */
};

static void record_task(void *arg, uint32_t task, uint32_t worker)
{
    struct record *record = arg;
    if ((worker == 0) != (pthread_equal(pthread_self(), record->caller) != 0) ||
        worker >= MOST_WORKERS || atomic_fetch_add(&record->inside[worker], 1) != 0) {
        atomic_store(&record->wrong, true);
        return;
    }
    unsigned most = atomic_load(&record->most_worker);
    while (worker > most &&
           !atomic_compare_exchange_weak(&record->most_worker, &most, worker))
        continue;
    atomic_fetch_add(&record->runs[task], 1);
    atomic_fetch_sub(&record->inside[worker], 1);
}

/* Did one call run each task once, by workers of the context? */
static bool runs_once(vgg_context *ctx, struct record *record, uint32_t tasks)
{
    memset(record, 0, sizeof *record);
    record->caller = pthread_self();
    vgg__parallel(ctx, tasks, record_task, record);
    for (uint32_t i = 0; i < MOST_TASKS; i++)
        if (atomic_load(&record->runs[i]) != (i < tasks ? 1 : 0)) return false;
    return !record->wrong && record->most_worker < vgg_context_threads(ctx);
}

static vgg_context *context_of(uint32_t threads)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = threads;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

/* Threads of this process now. */
static int thread_count(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* The kernel lists a joined thread for a moment longer. */
static void check_thread_count(int expected)
{
    for (int i = 0; i < 1000 && thread_count() != expected; i++) usleep(1000);
    ck_assert_int_eq(thread_count(), expected);
}

static void set_flag(void *arg)
{
    *(bool *)arg = true;
}

/* Threads of this process at first. A sanitizer starts one of its own with the first
 * thread, so let there have been one. */
static int first_thread_count(void)
{
    bool ran = false;
    struct vgg__thread thread;
    ck_ok(vgg__thread_start(&thread, "vgg-first", set_flag, &ran));
    vgg__thread_join(&thread);
    usleep(1000);
    return thread_count();
}

START_TEST(every_task_once)
{
    static const uint32_t counts[] = {0, 1, 2, 3, 7, 16, 100, MOST_TASKS};
    static struct record record;
    for (uint32_t threads = 1; threads <= 9; threads += 2) {
        vgg_context *ctx = context_of(threads);
        ck_ok(vgg__pool_acquire(ctx));
        for (int repeat = 0; repeat < 10; repeat++)
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
                ck_assert(runs_once(ctx, &record, counts[i]));
        vgg__pool_release(ctx);
        ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
        vgg_context_free(ctx);
    }
}
END_TEST

START_TEST(not_acquired)
{
    static struct record record;
    vgg_context *ctx = context_of(4);
    ck_assert(runs_once(ctx, &record, 100));
    ck_assert_uint_eq(record.most_worker, 0);
    vgg_context_free(ctx);
}
END_TEST

/* All workers do take part: each task waits until every worker has one. */
struct meeting {
    atomic_uint arrived;
    uint32_t expected;
};

static void meet(void *arg, uint32_t task, uint32_t worker)
{
    struct meeting *meeting = arg;
    atomic_fetch_add(&meeting->arrived, 1);
    while (atomic_load(&meeting->arrived) < meeting->expected) sched_yield();
}

START_TEST(all_workers_at_once)
{
    vgg_context *ctx = context_of(6);
    ck_ok(vgg__pool_acquire(ctx));
    for (int repeat = 0; repeat < 50; repeat++) {
        struct meeting meeting = {0, 6};
        vgg__parallel(ctx, 6, meet, &meeting);
        ck_assert_uint_eq(meeting.arrived, 6);
        if (repeat % 10 == 0) usleep(2000); /* so that they sleep, not spin */
    }
    vgg__pool_release(ctx);
    vgg_context_free(ctx);
}
END_TEST

/* Run a function on so many threads at once; each returns NULL if it found a fault. */
static void run_together(int count, void *(*run)(void *arg), void *arg)
{
    pthread_t threads[8];
    for (int i = 0; i < count; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run, arg), 0);
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        ck_assert_ptr_nonnull(result);
    }
}

static void *call_often(void *arg)
{
    struct record *record = calloc(1, sizeof *record);
    bool ok = true;
    for (int i = 0; i < 200; i++) ok &= runs_once(arg, record, (uint32_t)(i % 40));
    free(record);
    return ok ? arg : NULL;
}

START_TEST(many_callers)
{
    vgg_context *ctx = context_of(4);
    ck_ok(vgg__pool_acquire(ctx));
    run_together(8, call_often, ctx);
    vgg__pool_release(ctx);
    vgg_context_free(ctx);
}
END_TEST

static void *come_and_go(void *arg)
{
    struct record *record = calloc(1, sizeof *record);
    bool ok = true;
    for (int i = 0; i < 50; i++) {
        ok &= vgg__pool_acquire(arg) == VGG_OK;
        ok &= runs_once(arg, record, 20);
        vgg__pool_release(arg);
        ok &= runs_once(arg, record, 3);
    }
    free(record);
    return ok ? arg : NULL;
}

START_TEST(acquired_and_released_at_once)
{
    const int before = first_thread_count();
    vgg_context *ctx = context_of(3);
    run_together(6, come_and_go, ctx);
    check_thread_count(before);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}
END_TEST

START_TEST(threads_are_counted)
{
    const int before = first_thread_count();
    vgg_context *ctx = context_of(5);
    ck_assert_int_eq(thread_count(), before);
    ck_ok(vgg__pool_acquire(ctx));
    ck_assert_int_eq(thread_count(), before + 4);
    ck_ok(vgg__pool_acquire(ctx));
    ck_assert_int_eq(thread_count(), before + 4);
    vgg__pool_release(ctx);
    ck_assert_int_eq(thread_count(), before + 4);
    vgg__pool_release(ctx);
    check_thread_count(before);
    vgg_context_free(ctx);
    ck_ok(vgg__pool_acquire(NULL));
    ck_assert_int_eq(thread_count(), before + (int)vgg_context_threads(NULL) - 1);
    vgg__pool_release(NULL);
    check_thread_count(before);
}
END_TEST

/* The thread's floating-point mode without its status flags, and the default. */
static unsigned fp_mode(void)
{
#if defined(__SSE__)
    return _mm_getcsr() & ~0x3fu;
#else
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return (unsigned)mode;
#endif
}

static void set_fp_mode(unsigned mode)
{
#if defined(__SSE__)
    _mm_setcsr(mode);
#else
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)mode));
#endif
}

#if defined(__SSE__)
enum { DEFAULT_MODE = 0x1f80, ODD_MODE = 0xff80 }; /* flush to zero, round to zero */
#else
enum { DEFAULT_MODE = 0, ODD_MODE = 0x1c00000 };
#endif

/* What a worker finds: signals blocked, default floating-point mode, its name. */
struct look {
    struct meeting meeting;
    atomic_uint blocked, modes, named;
};

static void look_around(void *arg, uint32_t task, uint32_t worker)
{
    struct look *look = arg;
    meet(&look->meeting, task, worker);
    if (worker == 0) return;
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    char name[16];
    pthread_getname_np(pthread_self(), name, sizeof name);
    look->blocked += sigismember(&mask, SIGINT) && sigismember(&mask, SIGPROF) &&
                     sigismember(&mask, SIGTERM) && sigismember(&mask, SIGRTMIN);
    look->modes += fp_mode() == DEFAULT_MODE;
    look->named += strcmp(name, "vgg-worker") == 0;
}

START_TEST(what_a_worker_finds)
{
    vgg_context *ctx = context_of(3);
    set_fp_mode(ODD_MODE); /* threads inherit it */
    ck_ok(vgg__pool_acquire(ctx));
    struct look look = {.meeting.expected = 3};
    vgg__parallel(ctx, 3, look_around, &look);
    ck_assert_uint_eq(fp_mode(), ODD_MODE);
    set_fp_mode(DEFAULT_MODE);
    ck_assert_uint_eq(look.blocked, 2);
    ck_assert_uint_eq(look.modes, 2);
    ck_assert_uint_eq(look.named, 2);
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    ck_assert(!sigismember(&mask, SIGINT) && !sigismember(&mask, SIGTERM));
    vgg__pool_release(ctx);
    vgg_context_free(ctx);
}
END_TEST

/* In a child the crew is missing: work goes on without it, and nothing waits for it.
 * The number of the first step that went wrong, 0 if none did. */
static int use_in_child(vgg_context *ctx)
{
    static struct record record;
    if (!runs_once(ctx, &record, 100) || record.most_worker != 0) return 1;
    if (vgg__pool_acquire(ctx) != VGG_OK) return 2;
    if (!runs_once(ctx, &record, 100)) return 3;
    vgg__pool_release(ctx);
    vgg__pool_release(ctx); /* the parent's */
    if (vgg_context_bytes(ctx) != 0) return 4;
    const int before = thread_count(); /* 1, or more where an emulator has some */
    if (vgg__pool_acquire(ctx) != VGG_OK)
        return 5; /* and now with threads of its own */
    if (thread_count() != before + 2) return 6;
    if (!runs_once(ctx, &record, 100)) return 7;
    vgg__pool_release(ctx);
    if (vgg_context_bytes(ctx) != 0) return 8;
    vgg_context_free(ctx);
    return 0;
}

struct busy {
    vgg_context *ctx;
    atomic_bool stop;
};

static void *keep_busy(void *arg)
{
    struct busy *busy = arg;
    static struct record record;
    while (!busy->stop) vgg__parallel(busy->ctx, 4, record_task, &record);
    return NULL;
}

START_TEST(after_fork)
{
    vgg_context *ctx = context_of(3);
    ck_ok(vgg__pool_acquire(ctx));
    struct busy busy = {ctx,
                        false}; /* so that the locks are held at most of the forks */
    pthread_t other;
    ck_assert_int_eq(pthread_create(&other, NULL, keep_busy, &busy), 0);
    for (int i = 0; i < 40; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(10);
            _exit(use_in_child(ctx));
        }
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %d",
                      status);
    }
    busy.stop = true;
    pthread_join(other, NULL);
    static struct record record;
    ck_assert(runs_once(ctx, &record, 100)); /* the parent's are as before */
    vgg__pool_release(ctx);
    vgg_context_free(ctx);
}
END_TEST

START_TEST(one_thread)
{
    bool ran = false;
    struct vgg__thread thread;
    ck_ok(vgg__thread_start(&thread, "vgg-loader", set_flag, &ran));
    vgg__thread_join(&thread);
    ck_assert(ran);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/threads");
    TCase *tcase = tcase_create("threads");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, every_task_once);
    tcase_add_test(tcase, not_acquired);
    tcase_add_test(tcase, all_workers_at_once);
    tcase_add_test(tcase, many_callers);
    tcase_add_test(tcase, acquired_and_released_at_once);
    tcase_add_test(tcase, threads_are_counted);
    tcase_add_test(tcase, what_a_worker_finds);
    if (!WITH_TSAN) tcase_add_test(tcase, after_fork);
    tcase_add_test(tcase, one_thread);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
