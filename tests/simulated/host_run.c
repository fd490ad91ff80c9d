/* SPDX-License-Identifier: Apache-2.0 */
#include "host_run.h"

#include "host_switch.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MOST_THREADS 1024 /* of a block */
#define WARP         32
#define STACK        (128 * 1024)
#define MOST_ARGS    4096
#define STATIC       (48 * 1024)  /* most of declared shared memory */
#define SHARED       (227 * 1024) /* most of all of it */
#define GUARD        64           /* bytes after each variable */
#define VARIABLES    32
#define POISON       0xff /* a NaN of every type */
#define GUARDED      0xa5

#define NAMED 15 /* barriers of groups */

enum state { READY, AT_BARRIER, AT_GROUP, AT_WARP, ENDED };

struct thread {
    struct vgg__host_dim place;
    enum state state;
    struct vgg__host_fiber *fiber; /* NULL: has not begun */
    uint32_t stack;
    const char *file, *what; /* of the barrier */
    int line;
    uint32_t mask;           /* of the warp barrier */
    uint32_t number, others; /* of the group's: which one, and how many wait */
    vgg__host_words words;
    const vgg__host_words *result;
    uint32_t tables; /* of exchanges that it was the first lane of */
};

struct variable {
    const void *key;
    size_t offset, size;
};

/* Of the launch that runs; one at a time. */
static struct {
    const struct vgg__kernel *kernel;
    struct thread threads[MOST_THREADS];
    uint16_t order[MOST_THREADS], stacks[MOST_THREADS];
    vgg__host_words tables[MOST_THREADS][2][WARP]; /* results of exchanges */
    uint32_t count, living, current, free_stacks;
    size_t dynamic;
    struct variable variables[VARIABLES];
    uint32_t variable_count;
    size_t used; /* of `declared` */
    bool failed;
    char text[512];
    const char *site; /* of the text */
    uint64_t random;
    uint8_t args[MOST_ARGS];
} run = {.random = 0x9e3779b97f4a7c15};

static _Alignas(128) uint8_t declared[STATIC + VARIABLES * (GUARD + 16)];
static _Alignas(1024) uint8_t dynamic[SHARED + GUARD];

static pthread_mutex_t one_launch = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local char result[512];
static _Thread_local const char *result_site;

struct vgg__host_place vgg__host_now;

/* ---- Chance ---------------------------------------------------------------------- */

static uint32_t below(uint32_t bound)
{
    run.random ^= run.random << 13;
    run.random ^= run.random >> 7;
    run.random ^= run.random << 17;
    return (uint32_t)((run.random >> 32) * bound >> 32);
}

static void shuffle(uint16_t *list, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = below(i);
        const uint16_t other = list[i - 1];
        list[i - 1] = list[j];
        list[j] = other;
    }
}

void vgg__host_seed(uint64_t seed)
{
    pthread_mutex_lock(&one_launch);
    run.random = (seed + 1) * 0x9e3779b97f4a7c15;
    if (run.random == 0) run.random = 1;
    pthread_mutex_unlock(&one_launch);
}

/* ---- Faults ---------------------------------------------------------------------- */

static void say(const char *site, const char *format, va_list list)
{
    if (run.failed) return; /* the first is the cause */
    run.failed = true;
    run.site = site;
    const struct vgg__host_dim block = vgg__host_now.block;
    const int length = snprintf(run.text, sizeof run.text,
                                "%s: block (%u, %u, %u): ", run.kernel->name, block.x,
                                block.y, block.z);
    vsnprintf(run.text + length, sizeof run.text - (size_t)length, format, list);
}

#define fail_block(...) fail_block_at(VGG__SITE, __VA_ARGS__)
__attribute__((format(printf, 2, 3))) static void fail_block_at(const char *site,
                                                                const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(site, format, list);
    va_end(list);
}

void vgg__host_fault_at(const char *site, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say(site, format, list);
    va_end(list);
    vgg__host_fiber_end(run.threads[run.current].fiber);
}

/* ---- Shared memory --------------------------------------------------------------- */

static void reset_shared(void)
{
    memset(declared, POISON, run.used + GUARD);
    memset(dynamic, POISON, run.dynamic);
    memset(dynamic + run.dynamic, GUARDED, GUARD);
    run.variable_count = 0;
    run.used = 0;
}

void *vgg__host_shared(const void *key, size_t size)
{
    for (uint32_t i = 0; i < run.variable_count; i++)
        if (run.variables[i].key == key) return declared + run.variables[i].offset;
    size_t total = size;
    for (uint32_t i = 0; i < run.variable_count; i++) total += run.variables[i].size;
    if (total > STATIC || total + run.dynamic > SHARED)
        vgg__host_fault("%zu bytes of shared memory declared beside %zu, at most %d",
                        total, run.dynamic, STATIC);
    if (run.variable_count == VARIABLES)
        vgg__host_fault("more than %d shared variables", VARIABLES);
    const size_t offset = run.used;
    run.variables[run.variable_count++] = (struct variable){key, offset, size};
    memset(declared + offset, POISON, size);
    memset(declared + offset + size, GUARDED, GUARD);
    run.used = (offset + size + GUARD + 15) / 16 * 16;
    return declared + offset;
}

void *vgg__host_dynamic_shared(void)
{
    if (run.dynamic == 0)
        vgg__host_fault("dynamic shared memory, of which it has none");
    return dynamic;
}

static bool intact(const uint8_t *guard)
{
    for (int i = 0; i < GUARD; i++)
        if (guard[i] != GUARDED) return false;
    return true;
}

static void check_shared(void)
{
    for (uint32_t i = 0; i < run.variable_count; i++) {
        const struct variable *const v = &run.variables[i];
        if (!intact(declared + v->offset + v->size))
            fail_block("written behind a shared variable of %zu bytes", v->size);
    }
    if (!intact(dynamic + run.dynamic))
        fail_block("written behind %zu bytes of dynamic shared memory", run.dynamic);
}

/* ---- Waiting --------------------------------------------------------------------- */

static void wait_as(enum state state)
{
    struct thread *const t = &run.threads[run.current];
    t->state = state;
    vgg__host_fiber_pause(t->fiber);
}

void vgg__host_barrier(const char *file, int line)
{
    struct thread *const t = &run.threads[run.current];
    t->file = file;
    t->line = line;
    wait_as(AT_BARRIER);
}

void vgg__host_group_barrier(uint32_t number, uint32_t threads, const char *file,
                             int line)
{
    struct thread *const t = &run.threads[run.current];
    if (number < 1 || number > NAMED || threads % WARP != 0)
        vgg__host_fault("barrier %u of %u threads", number, threads);
    t->number = number;
    t->others = threads;
    t->file = file;
    t->line = line;
    wait_as(AT_GROUP);
}

void vgg__host_warp_barrier(uint32_t mask, const char *what)
{
    struct thread *const t = &run.threads[run.current];
    if (!(mask >> run.current % WARP & 1))
        vgg__host_fault("%s: thread %u is not in its own mask %08x", what, run.current,
                        mask);
    t->what = what;
    t->mask = mask;
    wait_as(AT_WARP);
}

const vgg__host_words *vgg__host_exchange(uint32_t mask, const uint32_t *words,
                                          uint32_t count, const char *what)
{
    struct thread *const t = &run.threads[run.current];
    if (count > VGG__HOST_WORDS)
        vgg__host_fault("%s: %u words, at most %d", what, count, VGG__HOST_WORDS);
    memset(t->words, POISON, sizeof t->words);
    memcpy(t->words, words, count * sizeof *words);
    vgg__host_warp_barrier(mask, what);
    return t->result;
}

/* Give the lanes that have come together what they have handed over: a table of the
 * first one's, where all the others are poison. */
static void share_words(uint32_t first, uint32_t there)
{
    const uint32_t leader = first + (uint32_t)__builtin_ctz(there);
    vgg__host_words *const table = run.tables[leader][run.threads[leader].tables++ % 2];
    memset(table, POISON, sizeof run.tables[leader][0]);
    for (uint32_t lane = 0; lane < WARP; lane++) {
        if (!(there >> lane & 1)) continue;
        memcpy(table[lane], run.threads[first + lane].words, sizeof table[lane]);
        run.threads[first + lane].result = (const vgg__host_words *)table;
    }
}

/* Lanes of the warp that wait with the same mask for the same thing as lane `like`. */
static uint32_t waiting_like(uint32_t first, uint32_t lanes, const struct thread *like)
{
    uint32_t found = 0;
    for (uint32_t lane = 0; lane < lanes; lane++) {
        const struct thread *const t = &run.threads[first + lane];
        if (t->state == AT_WARP && t->mask == like->mask && t->what == like->what)
            found |= 1u << lane;
    }
    return found;
}

/* Let go on who waits for nobody any more. */
static bool release_warp(uint32_t first)
{
    const uint32_t rest = run.count - first, lanes = rest < WARP ? rest : WARP;
    bool released = false;
    uint32_t living = 0;
    for (uint32_t lane = 0; lane < lanes; lane++)
        living |= (uint32_t)(run.threads[first + lane].state != ENDED) << lane;
    for (uint32_t lane = 0; lane < lanes; lane++) {
        const struct thread *const t = &run.threads[first + lane];
        if (t->state != AT_WARP) continue;
        const uint32_t there = waiting_like(first, lanes, t);
        if (there != (t->mask & living)) continue;
        share_words(first, there);
        for (uint32_t i = 0; i < lanes; i++)
            if (there >> i & 1) run.threads[first + i].state = READY;
        released = true;
    }
    return released;
}

static bool release_warps(void)
{
    bool released = false;
    for (uint32_t first = 0; first < run.count; first += WARP)
        released |= release_warp(first);
    return released;
}

/* Let go on who waits at a group's barrier, if they are as many as they should be. */
static bool release_groups(void)
{
    bool released = false;
    for (uint32_t number = 1; number <= NAMED; number++) {
        uint32_t there = 0, expected = 0;
        for (uint32_t i = 0; i < run.count; i++) {
            const struct thread *const t = &run.threads[i];
            if (t->state != AT_GROUP || t->number != number) continue;
            if (there++ > 0 && t->others != expected)
                fail_block("barrier %u of %u and of %u threads", number, t->others,
                           expected);
            expected = t->others;
        }
        if (there == 0 || there != expected) continue;
        for (uint32_t i = 0; i < run.count; i++)
            if (run.threads[i].state == AT_GROUP && run.threads[i].number == number)
                run.threads[i].state = READY;
        released = true;
    }
    return released;
}

/* A thread that waits for others of its warp or its group. */
static void fail_stuck(uint32_t index)
{
    const struct thread *const t = &run.threads[index];
    if (t->state == AT_WARP)
        fail_block("thread %u waits in %s with mask %08x for threads of its warp that "
                   "are elsewhere",
                   index, t->what, t->mask);
    else
        fail_block("thread %u waits at %s:%d for %u threads at barrier %u", index,
                   t->file, t->line, t->others, t->number);
}

/* Nobody runs: all at one barrier, or they wait for ever. */
static bool release_block(void)
{
    uint32_t at = 0, stuck = 0, last = 0;
    for (uint32_t i = 0; i < run.count; i++) {
        if (run.threads[i].state == AT_WARP || run.threads[i].state == AT_GROUP)
            stuck = i + 1;
        if (run.threads[i].state != AT_BARRIER) continue;
        const struct thread *const t = &run.threads[i], *const l = &run.threads[last];
        if (at++ > 0 && (t->line != l->line || strcmp(t->file, l->file) != 0)) {
            fail_block("thread %u waits at %s:%d, thread %u at %s:%d", last, l->file,
                       l->line, i, t->file, t->line);
            return false;
        }
        last = i;
    }
    if (stuck > 0) {
        fail_stuck(stuck - 1);
        return false;
    }
    for (uint32_t i = 0; i < run.count; i++)
        if (run.threads[i].state == AT_BARRIER) run.threads[i].state = READY;
    return true;
}

/* ---- A block --------------------------------------------------------------------- */

static void thread_main(void)
{
    run.kernel->host(run.args);
    struct thread *const t = &run.threads[run.current];
    t->state = ENDED;
    vgg__host_fiber_end(t->fiber);
}

static void resume(uint32_t index)
{
    struct thread *const t = &run.threads[index];
    run.current = index;
    vgg__host_now.thread = t->place;
    vgg__host_now.lane = index % WARP;
    if (t->fiber == NULL) {
        t->stack = run.stacks[--run.free_stacks];
        t->fiber = vgg__host_fiber_start(t->stack, thread_main);
    }
    vgg__host_fiber_resume(t->fiber);
    if (t->state != ENDED) return;
    run.living--;
    run.stacks[run.free_stacks++] = (uint16_t)t->stack;
}

/* Every thread of a list that can go on, once. */
static bool resume_each(uint16_t *list, uint32_t count)
{
    bool resumed = false;
    shuffle(list, count);
    for (uint32_t i = 0; i < count && !run.failed; i++) {
        if (run.threads[list[i]].state != READY) continue;
        resume(list[i]);
        resumed = true;
    }
    return resumed;
}

/* One warp after the other, each to the next barrier of the block: the first have got
 * there before the last have done anything. */
static bool resume_warps(void)
{
    const uint32_t warps = (run.count + WARP - 1) / WARP;
    uint16_t order[MOST_THREADS / WARP], lanes[WARP];
    bool resumed = false;
    for (uint32_t i = 0; i < warps; i++) order[i] = (uint16_t)i;
    shuffle(order, warps);
    for (uint32_t i = 0; i < warps; i++) {
        const uint32_t first = order[i] * WARP;
        const uint32_t count = run.count - first < WARP ? run.count - first : WARP;
        for (uint32_t j = 0; j < count; j++) lanes[j] = (uint16_t)(first + j);
        while (!run.failed && (resume_each(lanes, count) || release_warp(first)))
            resumed = true;
    }
    return resumed;
}

static void drop_all(void)
{
    for (uint32_t i = 0; i < run.count; i++)
        if (run.threads[i].fiber != NULL) vgg__host_fiber_drop(run.threads[i].fiber);
}

static void reset_threads(void)
{
    run.living = run.count;
    run.free_stacks = run.count;
    for (uint32_t i = 0; i < run.count; i++) {
        run.threads[i].state = READY;
        run.threads[i].fiber = NULL;
        run.order[i] = run.stacks[i] = (uint16_t)i;
    }
}

static void run_block(void)
{
    vgg__host_now.serial++;
    reset_shared();
    reset_threads();
    while (run.living > 0 && !run.failed) {
        const bool together = below(2) != 0; /* or warps far apart */
        if (together ? resume_each(run.order, run.count) : resume_warps()) continue;
        if (run.failed) continue;
        if (!release_warps() && !release_groups()) release_block();
    }
    if (!run.failed) check_shared();
    if (run.failed) drop_all();
}

/* ---- A launch -------------------------------------------------------------------- */

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* All blocks, in an order that a step without common divisor gives. */
static void run_blocks(const uint32_t blocks[3])
{
    const uint64_t count = (uint64_t)blocks[0] * blocks[1] * blocks[2];
    const uint32_t bound = (uint32_t)count;
    uint32_t step = 1 + below(bound);
    while (common_divisor(step, bound) != 1) step = 1 + below(bound);
    uint64_t at = below(bound);
    for (uint64_t i = 0; i < count && !run.failed; i++, at = (at + step) % count) {
        vgg__host_now.block = (struct vgg__host_dim){
            (uint32_t)(at % blocks[0]), (uint32_t)(at / blocks[0] % blocks[1]),
            (uint32_t)(at / blocks[0] / blocks[1])};
        run_block();
    }
}

static void place_threads(const uint32_t threads[3])
{
    for (uint32_t i = 0; i < run.count; i++)
        run.threads[i].place = (struct vgg__host_dim){
            i % threads[0], i / threads[0] % threads[1], i / threads[0] / threads[1]};
}

/* What is wrong before anything runs. */
#define FOUND(what) (run.site = VGG__SITE, what)

static const char *check_grid(const struct vgg__kernel *kernel,
                              const struct vgg__grid *grid)
{
    static const uint32_t most_blocks[3] = {INT32_MAX, 65535, 65535};
    static const uint32_t most_threads[3] = {1024, 1024, 64};
    uint64_t blocks = 1, threads = 1;
    for (int i = 0; i < 3; i++) {
        if (grid->blocks[i] == 0 || grid->blocks[i] > most_blocks[i])
            return FOUND("blocks are none or too many");
        if (grid->threads[i] == 0 || grid->threads[i] > most_threads[i])
            return FOUND("threads are none or too many");
        blocks *= grid->blocks[i];
        threads *= grid->threads[i];
    }
    if (blocks > UINT32_MAX) return FOUND("more blocks than a simulation can run");
    if (threads > MOST_THREADS) return FOUND("more than 1024 threads");
    if (threads > kernel->threads)
        return FOUND("more threads than its launch bounds say");
    return NULL;
}

static const char *check_launch(const struct vgg__kernel *kernel,
                                const struct vgg__grid *grid, size_t shared)
{
    if (kernel->host == NULL) return FOUND("was not compiled for the host");
    if (kernel->args > MOST_ARGS) return FOUND("argument has more than 4096 bytes");
    if (shared > SHARED) return FOUND("more than 227 KiB of dynamic shared memory");
    if (!vgg__host_fibers_make(MOST_THREADS, STACK))
        return "no memory for stacks"; /* the host's, and no fault of the kernel */
    return check_grid(kernel, grid);
}

const char *vgg__host_site(void)
{
    return result_site;
}

const char *vgg__host_launch(const struct vgg__kernel *kernel, struct vgg__grid grid,
                             size_t shared, const void *args)
{
    pthread_mutex_lock(&one_launch);
    const char *const wrong = check_launch(kernel, &grid, shared);
    if (wrong != NULL) {
        result_site = run.site;
        pthread_mutex_unlock(&one_launch);
        snprintf(result, sizeof result,
                 "%s: %s: blocks (%u, %u, %u), threads (%u, %u, %u), shared %zu",
                 kernel->name, wrong, grid.blocks[0], grid.blocks[1], grid.blocks[2],
                 grid.threads[0], grid.threads[1], grid.threads[2], shared);
        return result;
    }
    run.kernel = kernel;
    run.failed = false;
    run.count = grid.threads[0] * grid.threads[1] * grid.threads[2];
    run.dynamic = shared;
    run.used = STATIC;
    memcpy(run.args, args, kernel->args);
    vgg__host_now.blocks =
        (struct vgg__host_dim){grid.blocks[0], grid.blocks[1], grid.blocks[2]};
    vgg__host_now.threads =
        (struct vgg__host_dim){grid.threads[0], grid.threads[1], grid.threads[2]};
    place_threads(grid.threads);
    run_blocks(grid.blocks);
    const bool failed = run.failed;
    result_site = failed ? run.site : NULL;
    if (failed) memcpy(result, run.text, sizeof result);
    pthread_mutex_unlock(&one_launch);
    return failed ? result : NULL;
}
