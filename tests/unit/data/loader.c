/* SPDX-License-Identifier: Apache-2.0 */
/* The loader: order, batches, seeking, errors at their place, threads that end; and the
 * shuffle. Sample i of the source here is a 2 x 2 image of i % 251, of class i % 7. */
#include "harness.h"

#include "data/shuffle.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vgg/data.h>

#define COUNT 23
#define BATCH 5
#define NONE  UINT64_MAX

struct numbers {
    _Atomic uint64_t fails_at; /* sample that can't be read, or NONE */
    atomic_int reads, closed;
    atomic_int delay_us;      /* a slow disk */
    _Atomic uint64_t highest; /* sample read */
    atomic_bool signals_open;
};

static struct numbers numbers;

static int read_number(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    struct numbers *const n = cookie;
    n->reads++;
    if (index > n->highest) n->highest = index;
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    if (!sigismember(&blocked, SIGINT)) n->signals_open = true;
    const struct timespec delay = {0, (long)n->delay_us * 1000};
    if (n->delay_us > 0) nanosleep(&delay, NULL);
    if (index == n->fails_at) return -1;
    memset(image, (int)(index % 251), 4);
    *label = (uint32_t)(index % 7);
    return 0;
}

static void close_numbers(void *cookie)
{
    ((struct numbers *)cookie)->closed++;
}

static vgg_dataset *make_data(uint64_t count)
{
    atomic_store(&numbers.fails_at, NONE);
    numbers.reads = numbers.closed = numbers.delay_us = 0;
    numbers.signals_open = false;
    const vgg_source source = {&numbers, count, 1, 2, 2, 7, read_number, close_numbers};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    return data;
}

/* A loader that keeps the data set to itself. */
static vgg_loader *make_loader(uint64_t count, vgg_loader_options opts)
{
    vgg_dataset *const data = make_data(count);
    vgg_loader *loader = NULL;
    ck_ok(vgg_loader_create(data, &opts, &loader));
    vgg_dataset_free(data);
    ck_assert_int_eq(numbers.closed, 0);
    return loader;
}

static vgg_loader_options options(uint32_t train, uint32_t prefetch)
{
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.batch = BATCH;
    opts.train = train;
    opts.prefetch = prefetch;
    opts.seed = 99;
    return opts;
}

/* Sample numbers of a batch, read off its pixels. */
static void batch_numbers(const vgg_batch *batch, uint32_t *out)
{
    const float *const pixels = vgg_tensor_data_const(batch->images);
    for (uint32_t i = 0; i < batch->count; i++) {
        out[i] = (uint32_t)(pixels[4 * i] * 255.0f + 0.5f);
        ck_assert_uint_eq(batch->labels[i], out[i] % 7);
    }
}

START_TEST(in_order)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, (uint32_t)_i));
    ck_assert_uint_eq(vgg_loader_batches(loader), 5);
    ck_assert_uint_eq(vgg_loader_batch_size(loader), BATCH);
    ck_assert_uint_eq(vgg_dataset_count(vgg_loader_dataset(loader)), COUNT);
    const vgg_shape *const shape = vgg_loader_shape(loader);
    ck_assert(shape->rank == 3 && shape->dim[0] == 1 && shape->dim[1] == 2);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        for (uint64_t index = 0; index < 5; index++) {
            vgg_batch batch;
            uint32_t found[BATCH];
            ck_ok(vgg_loader_next(loader, &batch));
            ck_assert_uint_eq(batch.epoch, epoch);
            ck_assert_uint_eq(batch.index, index);
            ck_assert_uint_eq(batch.count, index < 4 ? BATCH : 3);
            const vgg_shape *const s = vgg_tensor_shape(batch.images);
            ck_assert(s->rank == 4 && s->dim[0] == batch.count && s->dim[1] == 1 &&
                      s->dim[2] == 2 && s->dim[3] == 2);
            batch_numbers(&batch, found);
            for (uint32_t i = 0; i < batch.count; i++)
                ck_assert_uint_eq(found[i], index * BATCH + i);
        }
        vgg_batch end;
        ck_ok(vgg_loader_next(loader, &end));
        ck_assert(end.count == 0 && end.images == NULL && end.epoch == epoch &&
                  end.index == 5);
    }
    vgg_loader_free(loader);
    ck_assert_int_eq(numbers.closed, 1);
}
END_TEST

START_TEST(drop_last_and_whole_batches)
{
    vgg_loader_options opts = options(0, 2);
    opts.drop_last = 1;
    vgg_loader *loader = make_loader(COUNT, opts);
    ck_assert_uint_eq(vgg_loader_batches(loader), 4);
    vgg_batch batch;
    for (int i = 0; i < 4; i++) {
        ck_ok(vgg_loader_next(loader, &batch));
        ck_assert_uint_eq(batch.count, BATCH);
    }
    ck_ok(vgg_loader_next(loader, &batch));
    ck_assert_uint_eq(batch.count, 0);
    vgg_loader_free(loader);
    for (uint32_t drop = 0; drop < 2; drop++) { /* 20 samples are 4 full batches */
        opts.drop_last = drop;
        loader = make_loader(20, opts);
        ck_assert_uint_eq(vgg_loader_batches(loader), 4);
        for (int i = 0; i < 4; i++) {
            ck_ok(vgg_loader_next(loader, &batch));
            ck_assert_uint_eq(batch.count, BATCH);
        }
        vgg_loader_free(loader);
    }
}
END_TEST

/* All sample numbers of the epochs, one after the other. */
static void read_epochs(vgg_loader *loader, int epochs, uint32_t *out)
{
    while (epochs > 0) {
        vgg_batch batch;
        ck_ok(vgg_loader_next(loader, &batch));
        if (batch.count == 0) epochs--;
        if (batch.count > 0) batch_numbers(&batch, out);
        out += batch.count;
    }
}

/* Each sample once an epoch, in an order that differs by epoch and seed and follows
 * from them alone, whatever is made ahead. */
START_TEST(shuffled)
{
    uint32_t expected[3 * COUNT], found[3 * COUNT];
    vgg_loader *loader = make_loader(COUNT, options(1, 0));
    read_epochs(loader, 3, expected);
    vgg_loader_free(loader);
    for (int epoch = 0; epoch < 3; epoch++) {
        uint32_t order[COUNT], seen = 0;
        vgg__shuffle(99, (uint64_t)epoch, order, COUNT);
        ck_assert_mem_eq(order, expected + epoch * COUNT, sizeof order);
        for (int i = 0; i < COUNT; i++) seen |= 1u << order[i];
        ck_assert_uint_eq(seen, (1u << COUNT) - 1);
    }
    ck_assert(memcmp(expected, expected + COUNT, COUNT * sizeof *expected) != 0);
    for (uint32_t prefetch = 1; prefetch < 20; prefetch += 6) {
        loader = make_loader(COUNT, options(1, prefetch));
        read_epochs(loader, 3, found);
        ck_assert_mem_eq(found, expected, sizeof found);
        vgg_loader_free(loader);
    }
    vgg_loader_options opts = options(1, 2);
    opts.seed = 100;
    loader = make_loader(COUNT, opts);
    read_epochs(loader, 3, found);
    ck_assert(memcmp(found, expected, COUNT * sizeof *found) != 0);
    vgg_loader_free(loader);
}
END_TEST

/* From any batch of any epoch, the rest is what an uninterrupted run gives. */
START_TEST(seek_anywhere)
{
    uint32_t expected[4 * COUNT + 1], found[4 * COUNT + 1];
    vgg_loader *loader = make_loader(COUNT, options(1, 0));
    read_epochs(loader, 4, expected);
    vgg_loader_free(loader);
    loader = make_loader(COUNT, options(1, (uint32_t)_i));
    for (int turn = 0; turn < 40; turn++) {
        const uint64_t epoch = (uint64_t)turn * 7 % 3, first = (uint64_t)turn * 5 % 6;
        ck_ok(vgg_loader_seek(loader, epoch, first));
        const uint64_t skipped = first < 5 ? first * BATCH : COUNT;
        const uint64_t start = epoch * COUNT + skipped;
        if (turn % 3 == 0) { /* seek again while batches are being made */
            vgg_batch batch;
            ck_ok(vgg_loader_next(loader, &batch));
            ck_ok(vgg_loader_seek(loader, epoch, first));
        }
        read_epochs(loader, turn % 2 ? 1 : 2, found);
        const uint64_t size = (turn % 2 ? COUNT : 2 * COUNT) - skipped;
        if (size > 0) ck_assert_mem_eq(found, expected + start, size * sizeof *found);
    }
    ck_fails(vgg_loader_seek(loader, 0, 6), VGG_EINVAL);
    ck_fails(vgg_loader_seek(loader, (uint64_t)1 << 48, 0), VGG_EINVAL);
    ck_fails(vgg_loader_seek(NULL, 0, 0), VGG_EINVAL);
    vgg_loader_free(loader);
}
END_TEST

/* The batches before come first; the failing one fails until the source works again. */
START_TEST(errors_at_their_batch)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, (uint32_t)_i));
    atomic_store(&numbers.fails_at, 12);
    vgg_batch batch;
    ck_ok(vgg_loader_seek(loader, 0, 1)); /* drop what was made before the change */
    ck_ok(vgg_loader_seek(loader, 0, 0));
    for (uint64_t i = 0; i < 2; i++) {
        ck_ok(vgg_loader_next(loader, &batch));
        ck_assert_uint_eq(batch.index, i);
    }
    for (int i = 0; i < 3; i++) {
        ck_fails_with(vgg_loader_next(loader, &batch), VGG_EIO, "sample 12");
        ck_assert(batch.count == 0 && batch.images == NULL && batch.labels == NULL);
    }
    ck_ok(vgg_loader_seek(loader, 0, 3)); /* past it */
    ck_ok(vgg_loader_next(loader, &batch));
    ck_assert_uint_eq(batch.index, 3);
    ck_ok(vgg_loader_seek(loader, 0, 2));
    ck_fails(vgg_loader_next(loader, &batch), VGG_EIO);
    atomic_store(&numbers.fails_at, NONE);
    /* One batch may have failed ahead of time once more. */
    if (vgg_loader_next(loader, &batch) != VGG_OK)
        ck_ok(vgg_loader_next(loader, &batch));
    uint32_t found[BATCH];
    ck_assert_uint_eq(batch.index, 2);
    batch_numbers(&batch, found);
    ck_assert_uint_eq(found[2], 12);
    vgg_loader_free(loader);
}
END_TEST

/* After a failure the source isn't asked on: sample 5 is the last one read. */
START_TEST(nothing_is_read_behind_an_error)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, 3));
    vgg_batch batch;
    atomic_store(&numbers.fails_at, 5);
    for (int turn = 0; turn < 3; turn++) {
        ck_ok(vgg_loader_seek(loader, 0, 1));
        ck_fails(vgg_loader_next(loader, &batch), VGG_EIO);
        usleep(20000); /* the maker has tried again, and waits */
        if (turn > 0) ck_assert_uint_eq(numbers.highest, 5);
        numbers.highest = 0;
    }
    vgg_loader_free(loader);
}
END_TEST

/* A batch that is being made when the loader goes elsewhere is thrown away. */
START_TEST(seek_while_a_batch_is_made)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, 2));
    numbers.delay_us = 200; /* a sample; a millisecond a batch */
    for (uint64_t turn = 0; turn < 60; turn++) {
        const uint64_t first = turn * 3 % 4;
        vgg_batch batch;
        uint32_t found[BATCH];
        ck_ok(vgg_loader_seek(loader, turn, first));
        usleep((useconds_t)(turn % 5) * 300);
        if (turn % 2 == 0) continue; /* seek again at once */
        for (uint64_t i = first; i < 4; i++) {
            ck_ok(vgg_loader_next(loader, &batch));
            ck_assert(batch.epoch == turn && batch.index == i);
            batch_numbers(&batch, found);
            for (uint32_t k = 0; k < BATCH; k++)
                ck_assert_uint_eq(found[k], i * BATCH + k);
        }
    }
    vgg_loader_free(loader);
}
END_TEST

/* The batch that the caller looks at stays as it is while others are made. */
START_TEST(borrowed_batch_stays)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, (uint32_t)_i));
    vgg_batch batch;
    ck_ok(vgg_loader_next(loader, &batch));
    for (int turn = 0; turn < 20; turn++) {
        uint32_t before[BATCH], after[BATCH];
        batch_numbers(&batch, before);
        usleep(2000); /* time for the ring to fill */
        batch_numbers(&batch, after);
        ck_assert_mem_eq(before, after, batch.count * sizeof *before);
        ck_ok(vgg_loader_next(loader, &batch));
    }
    vgg_loader_free(loader);
}
END_TEST

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Freeing waits for one sample at most, not for the batches that are being made. */
START_TEST(free_while_working)
{
    for (int turn = 0; turn < 20; turn++) {
        vgg_loader_options opts = options(1, 4);
        opts.batch = 1000;
        vgg_loader *const loader = make_loader(100000, opts);
        numbers.delay_us = 1000; /* a batch takes more than a second */
        usleep((useconds_t)turn * 500);
        const double start = seconds();
        vgg_loader_free(loader);
        ck_assert(seconds() - start < 0.5);
        ck_assert_int_eq(numbers.closed, 1);
    }
}
END_TEST

START_TEST(signals_are_blocked)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, 2));
    vgg_batch batch;
    ck_ok(vgg_loader_next(loader, &batch));
    ck_assert(!numbers.signals_open);
    vgg_loader_free(loader);
}
END_TEST

/* A child process has no maker: it is told, and can give the loader back. */
START_TEST(fork_is_refused)
{
    vgg_loader *const loader = make_loader(COUNT, options(0, 2));
    const pid_t child = fork();
    if (child == 0) {
        vgg_batch batch;
        const vgg_status status = vgg_loader_next(loader, &batch);
        const vgg_status sought = vgg_loader_seek(loader, 0, 0);
        vgg_loader_free(loader);
        _exit(status == VGG_ESTATE && sought == VGG_ESTATE ? 0 : 1);
    }
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
    vgg_batch batch;
    ck_ok(vgg_loader_next(loader, &batch));
    vgg_loader_free(loader);
}
END_TEST

/* A batch is what vgg_transform_apply() makes of its samples, in training too. */
START_TEST(transforms)
{
    static uint8_t pixels[6][1][4][4];
    static const uint32_t labels[6] = {0, 1, 2, 3, 4, 5};
    for (size_t i = 0; i < sizeof pixels; i++)
        ((uint8_t *)pixels)[i] = (uint8_t)(i * 37);
    const vgg_shape shape = {4, {6, 1, 4, 4}}, one = {3, {1, 4, 4}},
                    big = {3, {1, 9, 9}};
    vgg_tensor *images = NULL, *input = NULL, *output = NULL;
    ck_ok(vgg_tensor_wrap(NULL, VGG_U8, &shape, pixels, NULL, NULL, &images));
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_arrays(NULL, images, labels, 6, &data));
    vgg_tensor_free(images);
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = transform.resize_width = 9;
    transform.flip = transform.erase = 0.5f;
    transform.shift = 2;
    ck_ok(vgg_transform_normalize(&transform, "fashion-mnist"));
    vgg_loader_options opts = options(1, 2);
    opts.transform = &transform;
    opts.batch = 4;
    vgg_loader *loader = NULL;
    ck_ok(vgg_loader_create(data, &opts, &loader));
    memset(&transform.mean, 0, sizeof transform.mean); /* copied */
    ck_ok(vgg_transform_normalize(&transform, "fashion-mnist"));
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &big, &output));
    for (int i = 0; i < 9; i++) { /* three epochs of 4 + 2 + end */
        vgg_batch batch;
        ck_ok(vgg_loader_next(loader, &batch));
        for (uint32_t k = 0; k < batch.count; k++) {
            const uint32_t sample = batch.labels[k];
            ck_ok(vgg_tensor_wrap(NULL, VGG_U8, &one, pixels[sample], NULL, NULL,
                                  &input));
            ck_ok(vgg_transform_apply(&transform, input, 1, opts.seed, batch.epoch,
                                      sample, output));
            const float *const rows = vgg_tensor_data_const(batch.images);
            ck_assert_mem_eq(rows + k * 81, vgg_tensor_data(output), 81 * sizeof *rows);
            vgg_tensor_free(input);
        }
    }
    vgg_tensor_free(output);
    vgg_loader_free(loader);
    vgg_dataset_free(data);
}
END_TEST

START_TEST(wrong_options)
{
    vgg_dataset *const data = make_data(COUNT);
    vgg_transform crop = VGG_TRANSFORM_INIT, rule = VGG_TRANSFORM_INIT;
    crop.crop_height = 3;
    rule.resize_rule = 9;
    vgg_loader_options bad[6];
    static const vgg_status expected[6] = {VGG_EINVAL, VGG_EINVAL, VGG_ELIMIT,
                                           VGG_ESHAPE, VGG_EINVAL, VGG_EINVAL};
    for (int i = 0; i < 6; i++) bad[i] = options(1, 2);
    bad[0].batch = 0;
    bad[1].batch = COUNT + 1;
    bad[1].drop_last = 1;
    bad[2].prefetch = 1025;
    bad[3].transform = &crop;
    bad[4].transform = &rule;
    bad[5].size = 3;
    for (int i = 0; i < 6; i++) {
        vgg_loader *loader = (vgg_loader *)bad;
        const vgg_status status = vgg_loader_create(data, &bad[i], &loader);
        ck_assert_msg(status == expected[i], "case %d: %s", i, vgg_status_name(status));
        ck_assert_ptr_null(loader);
    }
    vgg_loader *loader = NULL;
    ck_fails(vgg_loader_create(NULL, NULL, &loader), VGG_EINVAL);
    ck_fails(vgg_loader_create(data, NULL, NULL), VGG_EINVAL);
    ck_ok(vgg_loader_create(data, NULL, &loader));           /* the defaults */
    ck_assert_uint_eq(vgg_loader_batch_size(loader), COUNT); /* not 128 */
    vgg_batch batch;
    ck_ok(vgg_loader_next(loader, &batch));
    ck_assert_uint_eq(batch.count, COUNT);
    ck_fails(vgg_loader_next(loader, NULL), VGG_EINVAL);
    ck_fails(vgg_loader_next(NULL, &batch), VGG_EINVAL);
    vgg_loader_free(loader);
    vgg_loader_free(NULL);
    vgg_dataset_free(data);
    ck_assert_uint_eq(vgg_loader_batches(NULL), 0);
    ck_assert_uint_eq(vgg_loader_batch_size(NULL), 0);
    ck_assert_ptr_null(vgg_loader_shape(NULL));
    ck_assert_ptr_null(vgg_loader_dataset(NULL));
}
END_TEST

START_TEST(sizes_over_the_limits)
{
    static const vgg_source sources[2] = {
        {&numbers, UINT64_C(1) << 33, 1, 2, 2, 7, read_number, NULL},
        {&numbers, 8, 5, 2, 2, 7, read_number, NULL},
    };
    for (int i = 0; i < 2; i++) { /* too many to shuffle; too many channels */
        vgg_dataset *data = NULL;
        vgg_loader *loader = NULL;
        const vgg_loader_options opts = options(1, 2);
        ck_ok(vgg_dataset_from_source(NULL, &sources[i], &data));
        ck_fails(vgg_loader_create(data, &opts, &loader), VGG_ELIMIT);
        vgg_dataset_free(data);
    }
}
END_TEST

/* ---- Memory ---------------------------------------------------------------------- */

static _Atomic int left, asked;

static void *scarce_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    asked++;
    if (left-- <= 0) return NULL;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void scarce_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

/* Every allocation of creating a loader fails once; then a run allocates nothing. */
START_TEST(out_of_memory)
{
    const vgg_allocator allocator = {NULL, scarce_alloc, scarce_release};
    vgg_context_options context = VGG_CONTEXT_OPTIONS_INIT;
    context.allocator = &allocator;
    left = 1000;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&context, &ctx));
    atomic_store(&numbers.fails_at, NONE);
    const vgg_source source = {&numbers, COUNT, 1, 2, 2, 7, read_number, NULL};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_source(ctx, &source, &data));
    const uint64_t before = vgg_context_bytes(ctx);
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = 5;
    transform.resize_rule = _i ? VGG_RESIZE_PILLOW : VGG_RESIZE_OPENCV;
    vgg_loader_options opts = options(1, 2);
    opts.transform = &transform;
    vgg_loader *loader = NULL;
    int failures = 0;
    for (left = 0; vgg_loader_create(data, &opts, &loader) != VGG_OK;
         left = ++failures) {
        ck_assert_ptr_null(loader);
        ck_assert_uint_eq(vgg_context_bytes(ctx), before);
        ck_assert_int_lt(failures, 100);
    }
    ck_assert_int_gt(failures, 15);
    const int asked_at_start = asked;
    vgg_batch batch;
    for (int i = 0; i < 18; i++) ck_ok(vgg_loader_next(loader, &batch));
    ck_ok(vgg_loader_seek(loader, 1, 1));
    ck_assert_int_eq(asked, asked_at_start);
    vgg_loader_free(loader);
    ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    vgg_dataset_free(data);
    vgg_context_free(ctx);
}
END_TEST

/* ---- Shuffle --------------------------------------------------------------------- */

/* All 24 orders of 4 equally often: chi-square with 23 degrees of freedom, 0.1 %
   level. */
START_TEST(shuffle_has_no_preference)
{
    enum { ROUNDS = 24000 };
    int seen[256] = {0};
    for (uint64_t epoch = 0; epoch < ROUNDS; epoch++) {
        uint32_t order[4];
        vgg__shuffle(5, epoch, order, 4);
        seen[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    double chi = 0;
    int orders = 0;
    for (int i = 0; i < 256; i++) {
        if (seen[i] == 0) continue;
        orders++;
        chi += (seen[i] - 1000.0) * (seen[i] - 1000.0) / 1000.0;
    }
    ck_assert_int_eq(orders, 24);
    ck_assert(chi < 49.7);
}
END_TEST

START_TEST(shuffle_of_few)
{
    uint32_t order[3] = {7, 7, 7};
    vgg__shuffle(1, 0, order, 0);
    ck_assert_uint_eq(order[0], 7);
    vgg__shuffle(1, 0, order, 1);
    ck_assert_uint_eq(order[0], 0);
    ck_assert_uint_eq(order[1], 7);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("loader");
    TCase *const tcase = tcase_create("loader");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, in_order, 0, 4); /* batches made ahead */
    tcase_add_test(tcase, drop_last_and_whole_batches);
    tcase_add_test(tcase, shuffled);
    tcase_add_loop_test(tcase, seek_anywhere, 0, 4);
    tcase_add_loop_test(tcase, errors_at_their_batch, 0, 4);
    tcase_add_test(tcase, nothing_is_read_behind_an_error);
    tcase_add_test(tcase, seek_while_a_batch_is_made);
    tcase_add_loop_test(tcase, borrowed_batch_stays, 0, 4);
    tcase_add_test(tcase, free_while_working);
    tcase_add_test(tcase, signals_are_blocked);
    tcase_add_test(tcase, fork_is_refused);
    tcase_add_test(tcase, transforms);
    tcase_add_test(tcase, wrong_options);
    tcase_add_test(tcase, sizes_over_the_limits);
    tcase_add_loop_test(tcase, out_of_memory, 0, 2);
    tcase_add_test(tcase, shuffle_has_no_preference);
    tcase_add_test(tcase, shuffle_of_few);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
