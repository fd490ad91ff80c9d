/* SPDX-License-Identifier: Apache-2.0 */
#include "buffers.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../host_run.h"

#define MOST    48
#define ALIGN   16
#define UNTOLD  0xff /* what is not written: NaN of every type */
#define GUARDED 0x5a

struct buffer {
    uint8_t *map, *at;
    size_t mapped, bytes;
    bool changes;
    uint8_t *before, *after; /* of the launch */
};

static struct buffer buffers[MOST];
static size_t buffer_count;

/* ---- Memory ---------------------------------------------------------------------- */

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void *make(size_t bytes, bool changes)
{
    ck_assert_uint_lt(buffer_count, MOST);
    struct buffer *const b = &buffers[buffer_count++];
    const size_t room = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    const size_t pages = (room + ALIGN + page() - 1) / page() * page();
    b->mapped = pages + 2 * page();
    b->map = mmap(NULL, b->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                  -1, 0);
    ck_assert_ptr_ne(b->map, MAP_FAILED);
    ck_assert_int_eq(mprotect(b->map, page(), PROT_NONE), 0);
    ck_assert_int_eq(mprotect(b->map + page() + pages, page(), PROT_NONE), 0);
    memset(b->map + page(), GUARDED, pages);
    b->at = b->map + page() + pages - room;
    b->bytes = bytes;
    b->changes = changes;
    memset(b->at, UNTOLD, bytes);
    return b->at;
}

void *input(size_t bytes)
{
    return make(bytes, false);
}

void *output(size_t bytes)
{
    return make(bytes, true);
}

void buffers_free(void)
{
    for (size_t i = 0; i < buffer_count; i++) munmap(buffers[i].map, buffers[i].mapped);
    buffer_count = 0;
}

static void check_guards(const struct buffer *b, const char *kernel)
{
    const uint8_t *const first = b->map + page(), *const end =
                                                      b->map + b->mapped - page();
    for (const uint8_t *at = first; at < end; at++) {
        if (at == b->at) at += b->bytes;
        if (at == end) break;
        if (*at != GUARDED)
            ck_abort_msg("%s: byte %td of a buffer of %zu was written", kernel,
                         at - b->at, b->bytes);
    }
}

/* ---- Numbers --------------------------------------------------------------------- */

float number(uint32_t sequence, size_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t)(sequence + 1) << 32;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (float)((int)(x >> 40 & 0xff) - 127) / 128;
}

void *numbers(enum vgg__type type, size_t count, uint32_t sequence)
{
    void *const to = input(count * type_bytes(type));
    for (size_t i = 0; i < count; i++) set(type, to, i, number(sequence, i));
    return to;
}

size_t type_bytes(enum vgg__type type)
{
    return type == VGG__BF16 ? 2 : 4;
}

static float bf16_value(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Rounded in steps that are exact: no table of halves, no bit tricks. */
static uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint16_t low = (uint16_t)(bits >> 16);
    if (isnan(x)) return 0x7fff;
    if (isinf(x) || bf16_value(low) == x) return low;
    const uint16_t high = (uint16_t)(low + 1);
    const double below = fabs((double)x - (double)bf16_value(low));
    const double next = isinf(bf16_value(high)) ? copysign(0x1p128, (double)x)
                                                : (double)bf16_value(high);
    const double above = fabs(next - (double)x);
    return below < above || (below == above && low % 2 == 0) ? low : high;
}

float get(enum vgg__type type, const void *array, size_t i)
{
    return type == VGG__BF16 ? bf16_value(((const uint16_t *)array)[i])
                             : ((const float *)array)[i];
}

void set(enum vgg__type type, void *array, size_t i, float value)
{
    if (type == VGG__BF16)
        ((uint16_t *)array)[i] = bf16_of(value);
    else
        ((float *)array)[i] = value;
}

float round_to(enum vgg__type type, double value)
{
    return type == VGG__BF16 ? bf16_value(bf16_of((float)value)) : (float)value;
}

void *copy_of(const void *memory, size_t bytes)
{
    void *const copy = malloc(bytes > 0 ? bytes : 1);
    ck_assert_ptr_ne(copy, NULL);
    memcpy(copy, memory, bytes);
    return copy;
}

const struct vgg__step *step_of(struct vgg__step step)
{
    struct vgg__step *const to = input(sizeof step);
    *to = step;
    return to;
}

/* ---- Launches -------------------------------------------------------------------- */

struct vgg__grid grid_1d(uint32_t blocks, uint32_t threads)
{
    return (struct vgg__grid){{blocks, 1, 1}, {threads, 1, 1}};
}

static void run(const struct vgg__kernel *kernel, struct vgg__grid grid, size_t shared,
                const void *args, uint64_t seed)
{
    vgg__host_seed(seed);
    const char *const wrong = vgg__host_launch(kernel, grid, shared, args);
    ck_assert_msg(wrong == NULL, "%s", wrong);
}

static void check_buffer(const struct buffer *b, const char *kernel)
{
    check_guards(b, kernel);
    ck_assert_msg(memcmp(b->at, b->after, b->bytes) == 0,
                  "%s: a buffer of %zu bytes depends on the order of threads", kernel,
                  b->bytes);
    ck_assert_msg(b->changes || memcmp(b->at, b->before, b->bytes) == 0,
                  "%s: an input of %zu bytes was written", kernel, b->bytes);
}

void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, const void *args)
{
    launch_shared(kernel, grid, 0, args);
}

void launch_shared(const struct vgg__kernel *kernel, struct vgg__grid grid,
                   size_t shared, const void *args)
{
    for (size_t i = 0; i < buffer_count; i++)
        buffers[i].before = copy_of(buffers[i].at, buffers[i].bytes);
    run(kernel, grid, shared, args, 1);
    for (size_t i = 0; i < buffer_count; i++) {
        buffers[i].after = copy_of(buffers[i].at, buffers[i].bytes);
        memcpy(buffers[i].at, buffers[i].before, buffers[i].bytes);
    }
    run(kernel, grid, shared, args, 2);
    for (size_t i = 0; i < buffer_count; i++) {
        check_buffer(&buffers[i], kernel->name);
        free(buffers[i].before);
        free(buffers[i].after);
    }
}

/* ---- Comparisons ----------------------------------------------------------------- */

void expect_near(struct near how, const void *array, size_t i, double expected)
{
    const double found = (double)get(how.type, array, i);
    const double rounding = how.type == VGG__BF16 ? 0x1p-8 : 0x1p-24;
    const double size = fmax(fabs(expected), how.scale);
    if (isnan(expected) && isnan(found)) return;
    if (found == expected) return; /* infinities, too */
    expect_within(found, expected, how.tolerance * size + rounding * fabs(expected), i);
}

void expect_within(double found, double expected, double tolerance, size_t i)
{
    if (!(fabs(found - expected) <= tolerance))
        ck_abort_msg("element %zu: %.17g, expected %.17g", i, found, expected);
}

void expect_same(enum vgg__type type, const void *array, size_t i, float expected)
{
    const float found = get(type, array, i);
    if (isnan(expected) && isnan(found)) return;
    if (memcmp(&found, &expected, sizeof found) != 0)
        ck_abort_msg("element %zu: %a, expected %a", i, (double)found,
                     (double)expected);
}
