/* SPDX-License-Identifier: Apache-2.0 */
/* Loading OpenBLAS without risk to the host; see blas.h for what could go wrong.
 *
 * The one OpenBLAS of a process is a fact about the process: it is kept here, under a
 * lock, with the answer to who loaded it. It is never unloaded. */
#include "cpu/blas.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/kernels.h"

#define LIBRARY      "libopenblas.so.0"
#define BUFFER       ((size_t)128 << 20) /* address space that it takes a caller */
#define MOST_THREADS 1024
#define WARM_UP      256 /* smaller products take no buffer */

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
enum { SERIAL = 0, PTHREAD = 1, OPENMP = 2 }; /* openblas_get_parallel() */

struct vgg__blas {
    void *handle;
    bool ours;      /* loaded here, not by the host */
    uint32_t users; /* of a host's own */
    int threads;    /* what a host's own had before the first user */
    uint32_t warm;  /* callers at once for whom it has its buffers */
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta,
                  float *c, int ldc);
    void (*set_threads)(int count);
    int (*get_threads)(void);
    char *(*config)(void);
    char *(*core)(void);
    int (*parallel)(void);
    /* Of the OpenMP build, whose number of threads is the calling thread's own. */
    void (*omp_set)(int count);
    int (*omp_get)(void);
    bool alone; /* only one thread may call it at a time */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* of a build without locks */
static struct vgg__blas loaded;

/* ---- Threads at once ------------------------------------------------------- */

/* A number of threads that wait for each other before each does its part. */
struct party {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    void (*part)(void *arg, uint32_t place);
    void *arg;
    uint32_t places;
};

static void *party_main(void *arg)
{
    struct party *party = arg;
    pthread_mutex_lock(&party->lock);
    const uint32_t place = party->places++;
    while (!party->open) pthread_cond_wait(&party->changed, &party->lock);
    pthread_mutex_unlock(&party->lock);
    if (party->part != NULL) party->part(party->arg, place);
    return NULL;
}

/* Start up to `count` threads of a party that block all signals. */
static uint32_t start_party(struct party *party, pthread_t *threads, uint32_t count)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the threads */
    uint32_t started = 0;
    while (started < count &&
           pthread_create(&threads[started], NULL, party_main, party) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* Whether `count` more threads can live at once; each does `part` if there is one. */
static bool run_party(uint32_t count, void (*part)(void *, uint32_t), void *arg)
{
    struct party party = {.part = part, .arg = arg};
    pthread_t threads[MOST_THREADS];
    pthread_mutex_init(&party.lock, NULL);
    pthread_cond_init(&party.changed, NULL);
    const uint32_t started = start_party(&party, threads, count);
    pthread_mutex_lock(&party.lock);
    party.open = true;
    if (started < count) party.part = NULL;
    pthread_cond_broadcast(&party.changed);
    pthread_mutex_unlock(&party.lock);
    for (uint32_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&party.changed);
    pthread_mutex_destroy(&party.lock);
    return started == count;
}

/* ---- Probes ---------------------------------------------------------------- */

/* Threads that its constructor starts: one a processor of the affinity mask but one. */
static uint32_t constructor_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0) return MOST_THREADS;
    const uint32_t count = (uint32_t)CPU_COUNT(&set);
    return count < MOST_THREADS ? count : MOST_THREADS;
}

/* Whether `count` buffers can be mapped at once. */
static bool probe_memory(uint32_t count)
{
    const size_t size = count * BUFFER;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    munmap(memory, size);
    return true;
}

/* ---- What it chose --------------------------------------------------------- */

/* "OpenBLAS 0.3.21, pthread build, core Zen": its configuration begins with name and
 * version. */
static void describe(const struct vgg__blas *blas, char text[VGG_BLAS_TEXT])
{
    static const char *const builds[] = {"serial", "pthread", "openmp"};
    const int parallel = blas->parallel();
    const char *config = blas->config();
    if (strncmp(config, "OpenBLAS ", 9) == 0) config += 9;
    snprintf(text, VGG_BLAS_TEXT, "OpenBLAS %.*s, %s build, core %.24s%s",
             (int)strcspn(config, " "), config,
             parallel >= 0 && parallel <= 2 ? builds[parallel] : "unknown",
             blas->core(), blas->alone ? ", one product at a time" : "");
}

/* ---- Loading --------------------------------------------------------------- */

static bool find_symbols(struct vgg__blas *blas)
{
    const struct {
        const char *name;
        void *place;
    } symbols[] = {
        {"cblas_sgemm", &blas->sgemm},
        {"openblas_set_num_threads", &blas->set_threads},
        {"openblas_get_num_threads", &blas->get_threads},
        {"openblas_get_config", &blas->config},
        {"openblas_get_corename", &blas->core},
        {"openblas_get_parallel", &blas->parallel},
    };
    for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
        void *symbol = dlsym(blas->handle, symbols[i].name);
        if (symbol == NULL) return false;
        memcpy(symbols[i].place, &symbol, sizeof(symbol));
    }
    /* Only the build with threads of its own takes its buffers under a lock. */
    blas->alone = blas->parallel() != PTHREAD;
    if (blas->parallel() != OPENMP) return true;
    void *set = dlsym(blas->handle, "omp_set_num_threads");
    void *get = dlsym(blas->handle, "omp_get_max_threads");
    memcpy(&blas->omp_set, &set, sizeof(set));
    memcpy(&blas->omp_get, &get, sizeof(get));
    return set != NULL && get != NULL;
}

/* The OpenMP build's number is the calling thread's, which may be the host's: it is set
 * for each product alone. */
static void set_threads(const struct vgg__blas *blas, int count)
{
    if (blas->omp_set == NULL) blas->set_threads(count);
}

/* The threads that its constructor starts must not take the host's signals. */
static void *open_library(const char *library)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by the threads */
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return handle;
}

/* OpenBLAS stays when libvgg is unloaded. A libvgg that is loaded later must know that
 * it is not the host's, so this one stays with it. A program's own copy does anyway. */
static void stay_loaded(void)
{
    Dl_info info;
    if (dladdr(&loaded, &info) != 0 && info.dli_fname != NULL)
        dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

/* Load it into *blas; otherwise say why not. */
static bool load(const char *library, uint32_t workers, struct vgg__blas *blas,
                 char text[128])
{
    struct vgg__blas found = {.handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD)};
    if (found.handle == NULL) {
        const uint32_t threads = constructor_threads();
        if (!run_party(threads, NULL, NULL)) {
            snprintf(text, 128, "OpenBLAS not loaded: %u threads can't be started",
                     threads);
            return false;
        }
        /* Its threads take a buffer each as they start, and wait for it for ever. */
        if (!probe_memory(threads + workers)) {
            snprintf(text, 128, "OpenBLAS not loaded: no address space for %u buffers",
                     threads + workers);
            return false;
        }
        found.ours = true;
        found.handle = open_library(library);
    }
    if (found.handle == NULL) {
        snprintf(text, 128, "no OpenBLAS: can't load %.60s", library);
        return false;
    }
    if (!find_symbols(&found)) {
        snprintf(text, 128, "no OpenBLAS: %.60s lacks its functions", library);
        return false;
    }
    if (found.ours) stay_loaded();
    *blas = found;
    return true;
}

/* ---- Use ------------------------------------------------------------------- */

struct warm_up {
    const struct vgg__blas *blas;
    float *memory; /* a and b, shared, then a c for each */
};

static void warm_part(void *arg, uint32_t place)
{
    const struct warm_up *w = arg;
    const size_t size = (size_t)WARM_UP * WARM_UP;
    const struct vgg__blas_product product = {
        false,     false,   WARM_UP,   WARM_UP, WARM_UP,
        w->memory, WARM_UP, w->memory, WARM_UP, w->memory + (1 + place) * size,
        WARM_UP,   false};
    vgg__blas_run(w->blas, &product);
}

/* Products of `workers` threads at once, so that every buffer is taken now: later, out
 * of memory, it would wait for one for ever. */
static bool warm_up(struct vgg__blas *blas, uint32_t workers)
{
    if (workers <= blas->warm) return true;
    if (!probe_memory(workers)) return false;
    const size_t size = (1 + (size_t)workers) * WARM_UP * WARM_UP * sizeof(float);
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return false;
    struct warm_up arg = {blas, memory};
    const bool done = run_party(workers, warm_part, &arg);
    munmap(memory, size);
    if (done) blas->warm = workers;
    return done;
}

static vgg_status take(const char *library, uint32_t policy, uint32_t workers,
                       char text[VGG_BLAS_TEXT])
{
    struct vgg__blas *blas = &loaded;
    if (blas->handle == NULL && !load(library, workers, blas, text)) return VGG_EDEVICE;
    if (!blas->ours && policy != VGG_BLAS_TAKE) {
        snprintf(text, VGG_BLAS_TEXT,
                 "OpenBLAS belongs to the host program, left alone without "
                 "VGG_BLAS_TAKE");
        return VGG_EDEVICE;
    }
    if (blas->users == 0) {
        blas->threads = blas->get_threads();
        set_threads(blas, 1);
    }
    if (!warm_up(blas, workers)) {
        if (blas->users == 0 && !blas->ours) set_threads(blas, blas->threads);
        snprintf(text, VGG_BLAS_TEXT,
                 "OpenBLAS needs %u buffers of 128 MiB and as many threads", workers);
        return VGG_ENOMEM;
    }
    blas->users++;
    describe(blas, text);
    return VGG_OK;
}

vgg_status vgg__blas_take(const char *library, uint32_t policy, uint32_t workers,
                          const struct vgg__blas **out, char text[VGG_BLAS_TEXT])
{
    text[0] = '\0';
    pthread_mutex_lock(&lock);
    const vgg_status status =
        take(library != NULL ? library : LIBRARY, policy, workers, text);
    *out = status == VGG_OK ? &loaded : NULL;
    pthread_mutex_unlock(&lock);
    return status;
}

void vgg__blas_leave(const struct vgg__blas *blas)
{
    pthread_mutex_lock(&lock);
    if (blas == &loaded && --loaded.users == 0 && !loaded.ours)
        set_threads(&loaded, loaded.threads);
    pthread_mutex_unlock(&lock);
}

static void run(const struct vgg__blas *blas, const struct vgg__blas_product *p)
{
    blas->sgemm(ROW_MAJOR, p->ta ? TRANS : NO_TRANS, p->tb ? TRANS : NO_TRANS, p->m,
                p->n, p->k, p->alpha, p->a, p->lda, p->b, p->ldb, p->beta, p->c,
                p->ldc);
}

void vgg__blas_run(const struct vgg__blas *blas, const struct vgg__blas_product *p)
{
    if (!blas->alone) {
        run(blas, p);
        return;
    }
    const int threads = blas->omp_get != NULL ? blas->omp_get() : 1;
    if (threads != 1) blas->omp_set(1);
    pthread_mutex_lock(&turn);
    run(blas, p);
    pthread_mutex_unlock(&turn);
    if (threads != 1) blas->omp_set(threads);
}
