/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine could do at most: fp32 multiply-adds, and bytes read and copied.
 * scripts/bench-cpu compiles it for the processor it runs on (-O2 -march=native); it is
 * no part of the build.
 *
 *   peak THREADS
 *
 * One JSON object on stdout; each figure is the best of several runs of all threads
 * together. A multiply-add counts as two operations; copying counts what it reads and
 * what it writes. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined __AVX512F__
enum { WIDTH = 64 };
#elif defined __AVX__
enum { WIDTH = 32 };
#else
enum { WIDTH = 16 };
#endif
typedef float vec __attribute__((vector_size(WIDTH)));

enum {
    LANES = WIDTH / sizeof(float),
    CHAINS = 12, /* as many as hide the latency of two units, and fit 16 registers */
    ROUNDS = 20000000 / LANES,
    BYTES = 256 << 20, /* beyond any cache */
    MOST_THREADS = 256,
    RUNS = 7
};

enum work { MULTIPLY_ADD, READ, COPY, WORKS };

static struct {
    enum work work;
    uint32_t threads;
    pthread_barrier_t barrier;
} shared;

struct worker {
    pthread_t thread;
    char *from, *to;
    size_t bytes;
    float sum; /* so that nothing is left out */
    double begin, end;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float multiply_add(void)
{
    vec chain[CHAINS], a, b;
    for (int i = 0; i < LANES; i++) {
        a[i] = 0.999f;
        b[i] = 1e-3f;
    }
    __asm__ volatile("" : "+x"(a), "+x"(b)); /* not constants */
    for (int c = 0; c < CHAINS; c++) chain[c] = a * (float)(c + 1);
    for (int round = 0; round < ROUNDS; round++)
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) chain[c] = chain[c] * a + b;
    float sum = 0;
    for (int c = 0; c < CHAINS; c++) sum += chain[c][0];
    return sum;
}

static float read_all(const char *from, size_t bytes)
{
    vec sum[8] = {{0}};
    for (size_t at = 0; at + sizeof sum <= bytes; at += sizeof sum)
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sum[i] += *(const vec *)(from + at + i * WIDTH);
    float all = 0;
    for (int i = 0; i < 8; i++) all += sum[i][0];
    return all;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    pthread_barrier_wait(&shared.barrier);
    w->begin = now();
    if (shared.work == MULTIPLY_ADD)
        w->sum = multiply_add();
    else if (shared.work == READ)
        w->sum = read_all(w->from, w->bytes);
    else
        memcpy(w->to, w->from, w->bytes);
    w->end = now();
    return NULL;
}

/* Operations or bytes in a second. */
static double best(enum work kind, struct worker *workers)
{
    static const double each[WORKS] = {2.0 * ROUNDS * CHAINS * LANES, BYTES,
                                       2.0 * BYTES};
    const uint32_t threads = shared.threads;
    const double amount = kind == MULTIPLY_ADD ? each[kind] * threads : each[kind];
    double rate = 0;
    shared.work = kind;
    for (int run = 0; run < RUNS; run++) {
        for (uint32_t t = 0; t < threads; t++)
            if (pthread_create(&workers[t].thread, NULL, work, &workers[t]) != 0) {
                fprintf(stderr, "peak: expected %u threads, could start %u\n", threads,
                        t);
                exit(1);
            }
        double begin = 1e300, end = 0;
        for (uint32_t t = 0; t < threads; t++) {
            pthread_join(workers[t].thread, NULL);
            if (workers[t].begin < begin) begin = workers[t].begin;
            if (workers[t].end > end) end = workers[t].end;
        }
        if (amount / (end - begin) > rate) rate = amount / (end - begin);
    }
    return rate;
}

int main(int argc, char **argv)
{
    static struct worker workers[MOST_THREADS];
    const long threads = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    if (threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "usage: peak THREADS (1 to %d)\n", MOST_THREADS);
        return 2;
    }
    char *from = aligned_alloc(4096, BYTES), *to = aligned_alloc(4096, BYTES);
    if (!from || !to ||
        pthread_barrier_init(&shared.barrier, NULL, (unsigned)threads)) {
        fprintf(stderr, "peak: expected memory for two blocks of %d bytes\n", BYTES);
        return 1;
    }
    memset(from, 1, BYTES);
    memset(to, 1, BYTES);
    shared.threads = (uint32_t)threads;
    const size_t part = BYTES / (size_t)threads / 4096 * 4096;
    for (long t = 0; t < threads; t++) {
        workers[t].from = from + (size_t)t * part;
        workers[t].to = to + (size_t)t * part;
        workers[t].bytes = t + 1 < threads ? part : BYTES - (size_t)t * part;
    }
    double rates[WORKS];
    for (int kind = 0; kind < WORKS; kind++) rates[kind] = best(kind, workers);
    printf("{\"threads\": %ld, \"vector_bits\": %d, \"fma_gflops\": %.6g, "
           "\"read_gb_s\": %.6g, \"copy_gb_s\": %.6g}\n",
           threads, 8 * WIDTH, 1e-9 * rates[MULTIPLY_ADD], 1e-9 * rates[READ],
           1e-9 * rates[COPY]);
    free(from);
    free(to);
    return 0;
}
