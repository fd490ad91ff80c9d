/* SPDX-License-Identifier: Apache-2.0 */
/* A loader that names samples: the same order, labels and draws as in its batches, the
 * same pixels where somebody else does what it names (tests/remote/data.c), and no
 * image made meanwhile. */
#include "data/loader.h"

#include "data/resize.h"
#include "harness.h"
#include "remote.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COUNT = 23, BATCH = 5, BATCHES = 5, CLASSES = 4, CHANNELS = 2 };
enum { HEIGHT = 17, WIDTH = 14, IMAGE = CHANNELS * HEIGHT * WIDTH };

static atomic_int reads;

static void make_image(uint64_t index, uint8_t *image)
{
    for (uint32_t i = 0; i < IMAGE; i++)
        image[i] = (uint8_t)((index * 131 + i * i * 7 + i * 13) % 256);
}

static int read_sample(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    atomic_fetch_add(&reads, 1);
    make_image(index, image);
    *label = (uint32_t)(index * 3 % CLASSES);
    return 0;
}

static vgg_status read_image(void *cookie, uint64_t index, uint8_t *image)
{
    make_image(index, image);
    return VGG_OK;
}

static uint32_t labels[COUNT];

static vgg_loader *open_loader(const vgg_transform *transform, uint32_t train,
                               uint32_t prefetch)
{
    const vgg_source source = {.count = COUNT,
                               .channels = CHANNELS,
                               .height = HEIGHT,
                               .width = WIDTH,
                               .classes = CLASSES,
                               .read = read_sample};
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    vgg_dataset *data;
    vgg_loader *loader;
    opts.transform = transform;
    opts.batch = BATCH;
    opts.train = train;
    opts.prefetch = prefetch;
    opts.seed = 11;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    ck_ok(vgg_loader_create(data, &opts, &loader));
    vgg_dataset_free(data);
    ck_ok(vgg__loader_prepare_names(loader));
    for (uint32_t i = 0; i < COUNT; i++) labels[i] = i * 3 % CLASSES;
    return loader;
}

/* What an engine would have of the loader's data set. */
static void *keep(const vgg_loader *loader)
{
    vgg_data_desc desc;
    void *data;
    remote_begin(&vgg__engine_ref);
    ck_ok(vgg__loader_describe(loader, &desc));
    ck_assert_uint_eq(desc.count, COUNT);
    desc.read = read_image;
    ck_ok(remote_data_create(NULL, &desc, &data));
    vgg__axis_free(&desc.x);
    vgg__axis_free(&desc.y);
    return data;
}

static vgg_transform moved(void)
{
    vgg_transform t = VGG_TRANSFORM_INIT;
    t.shift = 3;
    t.flip = t.erase = 0.5f;
    t.mean[0] = 0.25f;
    t.mean[1] = 0.5f;
    t.std[1] = 0.3f;
    return t;
}

static vgg_transform resized(uint32_t height, uint32_t width, uint32_t rule)
{
    vgg_transform t = moved();
    t.resize_height = height;
    t.resize_width = width;
    t.resize_rule = rule;
    return t;
}

static vgg_transform cropped(vgg_transform t, uint32_t height, uint32_t width)
{
    t.crop_height = height;
    t.crop_width = width;
    return t;
}

enum { CASES = 12 };

static vgg_transform case_of(int number)
{
    switch (number) {
    case 0:
        return moved();
    case 1:
        return cropped(moved(), 12, 9);
    case 2:
        return resized(31, 29, VGG_RESIZE_OPENCV);
    case 3:
        return resized(31, 29, VGG_RESIZE_EXACT);
    case 4:
        return resized(31, 29, VGG_RESIZE_PILLOW);
    case 5:
        return resized(7, 9, VGG_RESIZE_OPENCV);
    case 6:
        return resized(7, 9, VGG_RESIZE_EXACT);
    case 7:
        return resized(7, 9, VGG_RESIZE_PILLOW);
    case 8:
        return cropped(resized(HEIGHT, 40, VGG_RESIZE_PILLOW), 16, 30);
    case 9:
        return cropped(resized(40, WIDTH, VGG_RESIZE_EXACT), 31, 11);
    case 10:
        return cropped(resized(50, 5, VGG_RESIZE_OPENCV), 8, 4);
    default:
        return cropped(resized(6, 50, VGG_RESIZE_PILLOW), 5, 28);
    }
}

/* Two epochs, seen in two ways. */
static void compare(const vgg_transform *transform, uint32_t train)
{
    vgg_loader *plain = open_loader(transform, train, 2);
    vgg_loader *naming = open_loader(transform, train, 2);
    void *data = keep(naming);
    const size_t size = remote_data_sample(data);
    float *shown = malloc(size * sizeof *shown);
    for (uint32_t i = 0; i < 2 * (BATCHES + 1); i++) {
        vgg_batch batch;
        struct vgg__named_batch named;
        ck_ok(vgg_loader_next(plain, &batch));
        ck_ok(vgg__loader_name(naming, labels, &named));
        ck_assert_uint_eq(named.count, batch.count);
        ck_assert_uint_eq(named.epoch, batch.epoch);
        ck_assert_uint_eq(named.index, batch.index);
        if (batch.count == 0) continue;
        ck_assert_mem_eq(named.labels, batch.labels, batch.count * sizeof(uint32_t));
        const float *images = vgg_tensor_data_const(batch.images);
        for (uint32_t k = 0; k < batch.count; k++) {
            remote_data_show(data, &named.samples[k], shown);
            ck_assert_mem_eq(shown, images + k * size, size * sizeof *shown);
        }
    }
    free(shown);
    remote_data_free(data);
    vgg_loader_free(plain);
    vgg_loader_free(naming);
}

START_TEST(names_say_all_of_the_pixels)
{
    const vgg_transform transform = case_of(_i % CASES);
    compare(&transform, _i >= CASES);
}
END_TEST

static void rest(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 30 * 1000 * 1000}, NULL);
}

/* Whatever is asked for in whatever order, each batch is that of its place. */
START_TEST(both_ways_in_turn)
{
    const vgg_transform transform = moved();
    vgg_loader *plain = open_loader(&transform, 1, 0);
    vgg_loader *mixed = open_loader(&transform, 1, (uint32_t)_i);
    static const char turns[] = "bnnbbnnnnbnbbbn"; /* batch, names */
    for (uint32_t i = 0; i < 3 * (BATCHES + 1); i++) {
        vgg_batch batch, other = {0};
        struct vgg__named_batch named = {0};
        if (i == 9) { /* and from another place */
            ck_ok(vgg_loader_seek(plain, 4, 2));
            ck_ok(vgg_loader_seek(mixed, 4, 2));
        }
        ck_ok(vgg_loader_next(plain, &batch));
        if (turns[i % (sizeof turns - 1)] == 'n') {
            ck_ok(vgg__loader_name(mixed, labels, &named));
            ck_assert_uint_eq(named.count, batch.count);
            ck_assert_uint_eq(named.index, batch.index);
            ck_assert_uint_eq(named.epoch, batch.epoch);
            if (batch.count > 0)
                ck_assert_mem_eq(named.labels, batch.labels, batch.count * 4);
        } else {
            ck_ok(vgg_loader_next(mixed, &other));
            ck_assert_uint_eq(other.count, batch.count);
            ck_assert_uint_eq(other.index, batch.index);
            ck_assert_uint_eq(other.epoch, batch.epoch);
            if (batch.count > 0)
                ck_assert_mem_eq(vgg_tensor_data_const(other.images),
                                 vgg_tensor_data_const(batch.images),
                                 vgg_tensor_bytes(batch.images));
        }
    }
    vgg_loader_free(plain);
    vgg_loader_free(mixed);
}
END_TEST

START_TEST(no_image_is_made)
{
    const vgg_transform transform = moved();
    vgg_loader *loader = open_loader(&transform, 1, (uint32_t)_i);
    struct vgg__named_batch named;
    ck_ok(vgg__loader_name(loader, labels, &named));
    const int before = atomic_load(&reads);
    for (uint32_t i = 0; i < 4 * (BATCHES + 1); i++) {
        if (i % 7 == 0) ck_ok(vgg_loader_seek(loader, i, 1));
        ck_ok(vgg__loader_name(loader, labels, &named));
    }
    rest();
    ck_assert_int_eq(atomic_load(&reads), before);
    /* Until they are wanted again: then also ahead, if it was asked for. */
    vgg_batch batch;
    ck_ok(vgg_loader_seek(loader, 0, 0));
    ck_ok(vgg_loader_next(loader, &batch));
    for (int i = 0; i < 100 && atomic_load(&reads) < before + (1 + _i) * BATCH; i++)
        rest();
    ck_assert_int_eq(atomic_load(&reads), before + (1 + _i) * BATCH);
    vgg_loader_free(loader);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("data/names");
    TCase *tcase = tcase_create("names");
    tcase_add_loop_test(tcase, names_say_all_of_the_pixels, 0, 2 * CASES);
    tcase_add_loop_test(tcase, both_ways_in_turn, 0, 4);
    tcase_add_loop_test(tcase, no_image_is_made, 0, 4);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
