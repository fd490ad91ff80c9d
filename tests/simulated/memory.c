/* SPDX-License-Identifier: Apache-2.0 */
/* Device and page-locked memory: every allocation in pages of its own, between two that
 * nobody may touch, at addresses that are never used again. Device memory is readable
 * only while queued work is carried out; whoever touches it at another time, or what
 * was released, or beyond an end, gets SIGSEGV, and the handler says what it was.
 *
 * New memory is 0xFF bytes. The bytes between an allocation's end and its guard page
 * stay so, or somebody wrote there. */
#include "inside.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, POISON = 0xff, CHUNK = 8 << 20 };
static const size_t reserved = (size_t)1 << 40;
/* No address has less than this in its lower half, and arrays begin at multiples of 4:
 * a small number, or a field of ones, beside bytes of padding that happen to hold the
 * upper half of an address, is none. */
static const uint64_t least_low = (uint64_t)1 << 30;

/* [guard page][base: pages .. start: size ..][guard page]; no two share one. */
struct block {
    uint8_t *base, *start;
    size_t pages, size; /* bytes */
    int device;
    bool pinned, live;
};

static struct block *blocks;
static uint32_t block_count, block_room, opened;
static uint8_t *region, *next_free;
static const char *running;

void sim_memory_running(const char *what)
{
    running = what;
}

/* ---- Finding --------------------------------------------------------------------- */

static bool in_region(const void *memory)
{
    return region && (const uint8_t *)memory >= region &&
           (const uint8_t *)memory < region + reserved;
}

/* The allocation, live or not, whose pages or guards hold this address. */
static const struct block *block_near(const void *memory)
{
    const uint8_t *at = memory;
    for (uint32_t i = block_count; i-- > 0;)
        if (at >= blocks[i].base - PAGE && at < blocks[i].base + blocks[i].pages + PAGE)
            return &blocks[i];
    return NULL;
}

static bool range_in(const struct block *block, const void *memory, size_t size)
{
    const uint8_t *at = memory;
    return at >= block->start && at <= block->start + block->size &&
           size <= (size_t)(block->start + block->size - at);
}

/* Where an address lies, in words. */
static void say_where(const void *memory, char *text, size_t room)
{
    const struct block *block = block_near(memory);
    if (!in_region(memory) || !block) {
        snprintf(text, room, "%p, which is no device memory", memory);
        return;
    }
    const long at = (long)((const uint8_t *)memory - block->start);
    snprintf(text, room, "byte %ld of %s of %zu bytes", at,
             !block->live    ? "released memory"
             : block->pinned ? "page-locked memory"
                             : "device memory",
             block->size);
}

bool sim_device_range(const void *memory, size_t size, char *why, size_t room)
{
    const struct block *block = in_region(memory) ? block_near(memory) : NULL;
    if (block && block->live && !block->pinned && range_in(block, memory, size))
        return true;
    char where[96];
    say_where(memory, where, sizeof where);
    snprintf(why, room, "%zu bytes from %s", size, where);
    return false;
}

bool sim_pinned_range(const void *memory, size_t size)
{
    const struct block *block = in_region(memory) ? block_near(memory) : NULL;
    return block && block->live && block->pinned && range_in(block, memory, size);
}

bool sim_bad_pointer(uint64_t word, char *why, size_t room)
{
    const void *memory = (const void *)(uintptr_t)word;
    if ((uint32_t)word < least_low || word % 4 != 0) return false;
    if (in_region(memory)) {
        const struct block *block = block_near(memory);
        if (block && block->live && range_in(block, memory, 0)) return false;
    } else {
        /* Memory of the host, if it is mapped at all: mincore() tells. */
        unsigned char resident;
        void *page = (void *)(uintptr_t)(word / PAGE * PAGE);
        if (word < PAGE || mincore(page, 1, &resident) != 0) return false;
    }
    say_where(memory, why, room);
    return true;
}

/* ---- Opening --------------------------------------------------------------------- */

static void protect(const struct block *block, int how)
{
    mprotect(block->base, block->pages, how);
}

void sim_memory_open(void)
{
    if (opened++ > 0) return;
    for (uint32_t i = 0; i < block_count; i++)
        if (blocks[i].live && !blocks[i].pinned)
            protect(&blocks[i], PROT_READ | PROT_WRITE);
}

/* Nobody may have written between the allocation and its guard pages. */
static void check_slack(const struct block *block)
{
    const uint8_t *end = block->start + block->size;
    for (const uint8_t *at = block->base; at < block->start; at++)
        if (*at != POISON)
            sim_violate("written before memory of %zu bytes", block->size);
    for (const uint8_t *at = end; at < block->base + block->pages; at++)
        if (*at != POISON)
            sim_violate("written %zu bytes after the end of memory of %zu bytes",
                        (size_t)(at - end), block->size);
}

void sim_memory_close(void)
{
    if (--opened > 0) return;
    for (uint32_t i = 0; i < block_count; i++) {
        if (!blocks[i].live) continue;
        check_slack(&blocks[i]);
        if (!blocks[i].pinned) protect(&blocks[i], PROT_NONE);
    }
}

/* Nothing but async-signal-safe work is certain here, and the process ends anyway. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    (void)context;
    char where[96], text[256];
    say_where(info->si_addr, where, sizeof where);
    const int length = snprintf(text, sizeof text, "simulated device: %s touches %s\n",
                                running ? running : "host code", where);
    if (in_region(info->si_addr) && length > 0 &&
        write(STDERR_FILENO, text, (size_t)length) < 0)
        _exit(2);
    signal(number, SIG_DFL);
}

static bool begin(void)
{
    if (region) return true;
    void *memory = mmap(NULL, reserved, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    region = memory;
    next_free = region + PAGE;
    static uint8_t stack[65536]; /* kernels run on small stacks */
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(SIGSEGV, &action, NULL);
    return true;
}

/* ---- Taking and giving back ------------------------------------------------------ */

/* Pages of poison at `base`: copies, made when they are written to, of one piece that
 * is a file's, so that large memory costs nothing where nobody uses it. */
static bool map_poison(uint8_t *base, size_t size)
{
    static int file = -1;
    if (file < 0) {
        file = memfd_create("poison", MFD_CLOEXEC);
        if (file < 0 || ftruncate(file, CHUNK) != 0) return false;
        void *piece = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (piece == MAP_FAILED) return false;
        memset(piece, POISON, CHUNK);
        munmap(piece, CHUNK);
    }
    for (size_t at = 0; at < size; at += CHUNK) {
        const size_t part = size - at < CHUNK ? size - at : CHUNK;
        if (mmap(base + at, part, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file,
                 0) == MAP_FAILED)
            return false;
    }
    return true;
}

static struct block *new_block(size_t size, bool pinned)
{
    if (!begin()) return NULL;
    if (block_count == block_room) {
        block_room = block_room ? 2 * block_room : 64;
        struct block *larger = sim_new(block_room * sizeof *larger);
        if (blocks) memcpy(larger, blocks, block_count * sizeof *larger);
        free(blocks);
        blocks = larger;
    }
    const uint64_t low = (uint32_t)(uintptr_t)next_free;
    if (low < least_low) next_free += least_low - low;
    if (low + size > UINT32_MAX - least_low)
        next_free += ((uint64_t)1 << 32) - (uint32_t)(uintptr_t)next_free + least_low;
    struct block *block = &blocks[block_count];
    *block = (struct block){.base = next_free,
                            .pages = (size + PAGE - 1) / PAGE * PAGE,
                            .size = size,
                            .device = sim_device(),
                            .pinned = pinned,
                            .live = true};
    if (size > (size_t)(region + reserved - next_free) - 2 * PAGE ||
        !map_poison(block->base, block->pages))
        return NULL;
    next_free += block->pages + 2 * PAGE;
    /* At the end of its pages, unless that is not as aligned as cudaMalloc promises;
     * `flush` takes what kernels need, 16 bytes. */
    const size_t align = vgg__simulated.flush ? 16 : 256;
    block->start = block->base + (block->pages - size) / align * align;
    block_count++;
    return block;
}

static void release(struct block *block)
{
    sim_memory_open();
    check_slack(block);
    sim_memory_close();
    mmap(block->base, block->pages, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    block->live = false;
}

static struct block *live_block(const void *memory, bool pinned)
{
    for (uint32_t i = 0; i < block_count; i++)
        if (blocks[i].start == memory && blocks[i].live && blocks[i].pinned == pinned)
            return &blocks[i];
    return NULL;
}

static cudaError_t take(void **memory, size_t size, bool pinned)
{
    *memory = NULL;
    if (size == 0) return cudaSuccess;
    const struct cudaDeviceProp *prop = sim_properties(sim_device());
    if (!prop) return cudaErrorNoDevice;
    const uint64_t cap =
        vgg__simulated.memory ? vgg__simulated.memory : prop->totalGlobalMem;
    const uint64_t used = sim_memory_used(sim_device());
    if (!pinned && (used > cap || size > cap - used)) return cudaErrorMemoryAllocation;
    const struct block *block = new_block(size, pinned);
    if (!block) return cudaErrorMemoryAllocation;
    if (!pinned && opened == 0) protect(block, PROT_NONE);
    const uint64_t now = sim_memory_used(sim_device());
    if (now > vgg__simulated.peak) vgg__simulated.peak = now;
    *memory = block->start;
    return cudaSuccess;
}

static cudaError_t take_device(void **memory, size_t size)
{
    cudaError_t error = sim_enter_outside_capture("malloc");
    if (!error) error = take(memory, size, false);
    return sim_leave(error);
}

static cudaError_t take_host(void **memory, size_t size)
{
    cudaError_t error = sim_enter_outside_capture("mallocHost");
    if (!error) error = take(memory, size, true);
    return sim_leave(error);
}

/* A lost device keeps nothing, and an injected failure is an earlier one's: both
 * release. */
static cudaError_t give_back(const char *name, void *memory, bool pinned)
{
    cudaError_t error = sim_enter(name);
    const cudaError_t forbidden = sim_capture_forbids(name);
    if (forbidden) return sim_leave(forbidden);
    if (!memory) return sim_leave(error);
    if (!pinned || sim_lost()) sim_finish_all();
    struct block *block = live_block(memory, pinned);
    if (!block) {
        char where[96];
        say_where(memory, where, sizeof where);
        return sim_leave(sim_refuse(cudaErrorInvalidValue, "%s: %s", name, where));
    }
    if (pinned && sim_host_in_use(memory, block->size))
        sim_violate("%s: queued work still uses it", name);
    release(block);
    return sim_leave(error);
}

static cudaError_t free_device(void *memory)
{
    return give_back("free", memory, false);
}

static cudaError_t free_host(void *memory)
{
    return give_back("freeHost", memory, true);
}

uint64_t sim_memory_used(int device)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < block_count; i++)
        if (blocks[i].live && !blocks[i].pinned && blocks[i].device == device)
            used += blocks[i].pages;
    return used;
}

bool sim_memory_leak(char *text, size_t room)
{
    for (uint32_t i = 0; i < block_count; i++) {
        if (!blocks[i].live) continue;
        snprintf(text, room, "%zu bytes of %s memory", blocks[i].size,
                 blocks[i].pinned ? "page-locked" : "device");
        return true;
    }
    return false;
}

void sim_memory_reset(void)
{
    for (uint32_t i = 0; i < block_count; i++)
        if (blocks[i].live) release(&blocks[i]);
}

/* ---- Moving ---------------------------------------------------------------------- */

struct move {
    struct sim_op op;
    void *to;
    const void *from; /* NULL: set to `byte` */
    size_t size;
    int byte;
    enum cudaMemcpyKind kind;
};

/* Each side must be what the kind says, when it is queued and when it is done. */
static bool move_is_legal(const struct move *move, char *why, size_t room)
{
    const enum cudaMemcpyKind kind = move->kind;
    const bool to_device = kind != cudaMemcpyDeviceToHost;
    const bool from_device = kind != cudaMemcpyHostToDevice;
    if (to_device && !sim_device_range(move->to, move->size, why, room)) return false;
    if (move->from && from_device &&
        !sim_device_range(move->from, move->size, why, room))
        return false;
    const void *host = to_device ? from_device ? NULL : move->from : move->to;
    if (host && !sim_pinned_range(host, move->size)) {
        snprintf(why, room, "%zu bytes of host memory that is not page-locked",
                 move->size);
        return false;
    }
    return true;
}

static void run_move(struct sim_op *op, uint32_t step, void **state)
{
    (void)step, (void)state;
    const struct move *move = (const struct move *)op;
    char why[160];
    if (!move_is_legal(move, why, sizeof why))
        sim_violate("%s, when carried out: %s", op->name, why);
    else if (move->from)
        memmove(move->to, move->from, move->size);
    else
        memset(move->to, move->byte, move->size);
}

static bool move_uses(const struct sim_op *op, const void *memory, size_t size)
{
    const struct move *move = (const struct move *)op;
    const uint8_t *first = memory, *to = move->to, *from = move->from;
    return (to < first + size && to + move->size > first) ||
           (from && from < first + size && from + move->size > first);
}

static cudaError_t queue_move(const struct move *what, const char *name,
                              cudaStream_t stream)
{
    const cudaError_t error = sim_stream_check(stream, name);
    if (error || what->size == 0) return error;
    char why[160];
    if (what->kind < cudaMemcpyHostToDevice || what->kind > cudaMemcpyDeviceToDevice)
        return sim_refuse(cudaErrorInvalidMemcpyDirection, "%s: kind %d", name,
                          what->kind);
    if (!move_is_legal(what, why, sizeof why))
        return sim_refuse(cudaErrorInvalidValue, "%s: %s", name, why);
    struct move *move = sim_op_new(sizeof *move, name, run_move);
    const struct sim_op op = move->op;
    *move = *what;
    move->op = op;
    move->op.uses = move_uses;
    move->op.cost = 1000 + what->size / 1000;
    return sim_queue(stream, &move->op);
}

static cudaError_t memcpy_async(void *to, const void *from, size_t size,
                                enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t error = sim_enter("memcpyAsync");
    const struct move move = {.to = to, .from = from, .size = size, .kind = kind};
    if (!error && !from && size > 0)
        error = sim_refuse(cudaErrorInvalidValue, "memcpyAsync: from NULL");
    if (!error) error = queue_move(&move, "memcpyAsync", stream);
    return sim_leave(error);
}

static cudaError_t memset_async(void *to, int byte, size_t size, cudaStream_t stream)
{
    cudaError_t error = sim_enter("memsetAsync");
    const struct move move = {
        .to = to, .size = size, .byte = byte, .kind = cudaMemcpyHostToDevice};
    if (!error) error = queue_move(&move, "memsetAsync", stream);
    return sim_leave(error);
}

void sim_memory_table(struct vgg__api *api)
{
    api->malloc = take_device;
    api->free = free_device;
    api->mallocHost = take_host;
    api->freeHost = free_host;
    api->memcpyAsync = memcpy_async;
    api->memsetAsync = memset_async;
}
