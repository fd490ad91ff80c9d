/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets of arrays and sources, what they keep alive, and wrong arguments. */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <vgg/data.h>

#define COUNT 6

static uint8_t pixels[COUNT][2][3][4]; /* [n][c][h][w] */
static const uint32_t labels[COUNT] = {4, 0, 3, 3, 1, 2};
static int released;

static void release(void *cookie)
{
    *(int *)cookie += 1;
}

/* Images that count in `released` when the last reference goes. */
static vgg_tensor *make_images(vgg_context *ctx)
{
    for (size_t i = 0; i < sizeof pixels; i++)
        ((uint8_t *)pixels)[i] = (uint8_t)(i * 5);
    const vgg_shape shape = {4, {COUNT, 2, 3, 4}};
    vgg_tensor *images = NULL;
    ck_ok(vgg_tensor_wrap(ctx, VGG_U8, &shape, pixels, release, &released, &images));
    released = 0;
    return images;
}

START_TEST(arrays)
{
    vgg_tensor *const images = make_images(NULL);
    uint32_t mine[COUNT];
    memcpy(mine, labels, sizeof mine);
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_arrays(NULL, images, mine, 5, &data));
    memset(mine, 0, sizeof mine); /* labels are copied */
    vgg_tensor_free(images);
    ck_assert_int_eq(released, 0); /* images are referenced */
    ck_assert_uint_eq(vgg_dataset_count(data), COUNT);
    ck_assert_uint_eq(vgg_dataset_classes(data), 5);
    const vgg_shape *const shape = vgg_dataset_shape(data);
    ck_assert(shape->rank == 3 && shape->dim[0] == 2 && shape->dim[1] == 3 &&
              shape->dim[2] == 4);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t image[24];
        uint32_t label;
        ck_ok(vgg_dataset_read(data, i, image, &label));
        ck_assert_mem_eq(image, pixels[i], sizeof image);
        ck_assert_uint_eq(label, labels[i]);
    }
    ck_assert_str_eq(vgg_dataset_class_name(data, 0), "0");
    ck_assert_str_eq(vgg_dataset_class_name(data, 4), "4");
    ck_assert_ptr_null(vgg_dataset_class_name(data, 5));
    vgg_dataset_free(data);
    ck_assert_int_eq(released, 1);
}
END_TEST

START_TEST(wrong_arrays)
{
    static const struct {
        const char *name;
        vgg_dtype dtype;
        vgg_shape shape;
        uint32_t classes;
        vgg_status expected;
    } cases[] = {
        {"floats", VGG_F32, {4, {COUNT, 1, 1, 1}}, 5, VGG_EINVAL},
        {"rank 3", VGG_U8, {3, {COUNT, 3, 4}}, 5, VGG_ESHAPE},
        {"rank 5", VGG_U8, {5, {COUNT, 1, 1, 1, 1}}, 5, VGG_ESHAPE},
        {"no images", VGG_U8, {4, {0, 2, 3, 4}}, 5, VGG_EINVAL},
        {"no height", VGG_U8, {4, {COUNT, 2, 0, 4}}, 5, VGG_EINVAL},
        {"label over the classes", VGG_U8, {4, {COUNT, 2, 3, 4}}, 4, VGG_EINVAL},
        {"no classes", VGG_U8, {4, {COUNT, 2, 3, 4}}, 0, VGG_EINVAL},
        {"too many classes", VGG_U8, {4, {COUNT, 2, 3, 4}}, UINT32_MAX, VGG_ELIMIT},
        {"too wide", VGG_U8, {4, {1, 1, 1, 32769}}, 5, VGG_ELIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vgg_tensor *images = NULL;
        ck_ok(vgg_tensor_create(NULL, cases[i].dtype, &cases[i].shape, &images));
        vgg_dataset *data = (vgg_dataset *)&released;
        const vgg_status status =
            vgg_dataset_from_arrays(NULL, images, labels, cases[i].classes, &data);
        ck_assert_msg(status == cases[i].expected, "%s: %s", cases[i].name,
                      vgg_status_name(status));
        ck_assert_ptr_null(data);
        vgg_tensor_free(images);
    }
}
END_TEST

/* A source that gives sample i as i in every pixel and class i % 3. */
struct counting {
    uint64_t fails_at, lies_at;
    int closed;
};

static int read_counting(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    const struct counting *const counting = cookie;
    if (index == counting->fails_at) return 7;
    memset(image, (int)index, 4);
    *label = index == counting->lies_at ? 3 : (uint32_t)(index % 3);
    return 0;
}

static void close_counting(void *cookie)
{
    ((struct counting *)cookie)->closed++;
}

START_TEST(sources)
{
    struct counting counting = {3, 5, 0};
    const vgg_source source = {&counting, 9, 1, 2, 2, 3, read_counting, close_counting};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    uint8_t image[4];
    uint32_t label = 9;
    ck_ok(vgg_dataset_read(data, 8, image, &label));
    ck_assert_uint_eq(image[3], 8);
    ck_assert_uint_eq(label, 2);
    ck_fails_with(vgg_dataset_read(data, 3, image, &label), VGG_EIO, "returned 7");
    ck_assert_uint_eq(label, 0);
    ck_fails_with(vgg_dataset_read(data, 5, image, &label), VGG_EMISMATCH, "class 3");
    ck_assert_uint_eq(label, 0);
    ck_fails_with(vgg_dataset_read(data, 9, image, &label), VGG_EINVAL, "below 9");
    ck_assert_int_eq(counting.closed, 0);
    vgg_dataset_free(data);
    ck_assert_int_eq(counting.closed, 1);
}
END_TEST

/* Why a read failed: said by the source, or by a function of the library that it
 * called; of two reasons the last. Each is told once, and a success tells nothing. */
static int read_explaining(void *cookie, uint64_t index, uint8_t *image,
                           uint32_t *label)
{
    vgg_tensor *const wrong = cookie;
    memset(image, 0, 4);
    *label = 0;
    switch (index) {
    case 0:
        return vgg_source_fail("cat.png: ends\nafter 12 of 224 rows");
    case 1:
        return vgg_image_fit(wrong, 9, 0, wrong) == VGG_OK ? 0 : 3;
    case 2:
        return vgg_source_fail(NULL);
    case 3: /* tries in vain, and succeeds */
        vgg_source_fail("nothing to tell");
        return 0;
    default:
        return 4;
    }
}

START_TEST(sources_that_say_why)
{
    const vgg_shape shape = {3, {1, 2, 2}};
    vgg_tensor *wrong = NULL;
    ck_ok(vgg_tensor_create(NULL, VGG_U8, &shape, &wrong));
    const vgg_source source = {wrong, 5, 1, 2, 2, 3, read_explaining, NULL};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    uint8_t image[4];
    uint32_t label;
    ck_assert_int_eq(vgg_source_fail("left from another time"), -1);
    ck_fails_with(vgg_dataset_read(data, 0, image, &label), VGG_EIO,
                  "sample 0: cat.png: ends\\x0aafter 12 of 224 rows");
    ck_fails_with(vgg_dataset_read(data, 1, image, &label), VGG_EIO,
                  "sample 1: vgg_image_fit: needs fit");
    ck_fails_with(vgg_dataset_read(data, 2, image, &label), VGG_EIO, "returned -1");
    ck_fails_with(vgg_dataset_read(data, 4, image, &label), VGG_EIO, "returned 4");
    ck_ok(vgg_dataset_read(data, 3, image, &label));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "returned 4"));

    /* The thread that makes batches hands it on to the one that asks for them. */
    vgg_loader *loader = NULL;
    vgg_batch batch;
    ck_ok(vgg_loader_create(data, NULL, &loader));
    ck_fails_with(vgg_loader_next(loader, &batch), VGG_EIO,
                  "sample 0: cat.png: ends\\x0aafter 12 of 224 rows");
    vgg_loader_free(loader);
    vgg_dataset_free(data);
    vgg_tensor_free(wrong);
}
END_TEST

START_TEST(named_classes)
{
    struct counting counting = {99, 99, 0};
    const vgg_source source = {&counting, 9, 1, 2, 2, 3, read_counting, NULL};
    vgg_dataset *data = NULL;
    ck_ok(vgg_dataset_from_source(NULL, &source, &data));
    char cat[] = "cat";
    const char *const names[] = {cat, "", "a dog"};
    const char *const missing[] = {"x", "y", NULL};
    ck_ok(vgg_dataset_name_classes(data, names));
    memset(cat, 'x', 3); /* copied */
    ck_assert_str_eq(vgg_dataset_class_name(data, 0), "cat");
    ck_fails_with(vgg_dataset_name_classes(data, missing), VGG_EINVAL,
                  "name of class 2 is NULL, expected 3 names");
    ck_assert_str_eq(vgg_dataset_class_name(data, 1), "");
    ck_assert_str_eq(vgg_dataset_class_name(data, 2), "a dog");
    ck_ok(vgg_dataset_name_classes(data, (const char *const[]){"1", "2", "3"}));
    ck_assert_str_eq(vgg_dataset_class_name(data, 2), "3");
    ck_assert_ptr_null(vgg_dataset_class_name(data, 3));
    ck_fails_with(vgg_dataset_name_classes(data, NULL), VGG_EINVAL, "names");
    ck_fails_with(vgg_dataset_name_classes(NULL, names), VGG_EINVAL, "data");
    vgg_dataset_free(data);
}
END_TEST

START_TEST(wrong_sources)
{
    struct counting counting = {99, 99, 0};
    const vgg_source good = {&counting, 9, 1, 2, 2, 3, read_counting, close_counting};
    vgg_source bad[7] = {good, good, good, good, good, good, good};
    bad[0].count = 0;
    bad[1].channels = 0;
    bad[2].height = 0;
    bad[3].width = 0;
    bad[4].classes = 0;
    bad[5].read = NULL;
    bad[6].height = 32769;
    vgg_dataset *data = NULL;
    for (int i = 0; i < 7; i++) {
        data = (vgg_dataset *)&released;
        ck_fails(vgg_dataset_from_source(NULL, &bad[i], &data),
                 i == 6 ? VGG_ELIMIT : VGG_EINVAL);
        ck_assert_ptr_null(data);
    }
    ck_fails(vgg_dataset_from_source(NULL, NULL, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_from_source(NULL, &good, NULL), VGG_EINVAL);
    ck_assert_int_eq(counting.closed, 0);
}
END_TEST

START_TEST(null_arguments)
{
    vgg_tensor *const images = make_images(NULL);
    vgg_dataset *data = (vgg_dataset *)&released;
    ck_fails(vgg_dataset_from_arrays(NULL, NULL, labels, 5, &data), VGG_EINVAL);
    ck_assert_ptr_null(data);
    ck_fails(vgg_dataset_from_arrays(NULL, images, NULL, 5, &data), VGG_EINVAL);
    ck_fails(vgg_dataset_from_arrays(NULL, images, labels, 5, NULL), VGG_EINVAL);
    ck_ok(vgg_dataset_from_arrays(NULL, images, labels, 5, &data));
    uint8_t image[24];
    uint32_t label = 1;
    ck_fails(vgg_dataset_read(NULL, 0, image, &label), VGG_EINVAL);
    ck_assert_uint_eq(label, 0);
    ck_fails(vgg_dataset_read(data, 0, NULL, &label), VGG_EINVAL);
    ck_fails(vgg_dataset_read(data, 0, image, NULL), VGG_EINVAL);
    vgg_dataset_free(data);
    vgg_tensor_free(images);
    ck_assert_uint_eq(vgg_dataset_count(NULL), 0);
    ck_assert_ptr_null(vgg_dataset_shape(NULL));
    ck_assert_uint_eq(vgg_dataset_classes(NULL), 0);
    ck_assert_ptr_null(vgg_dataset_class_name(NULL, 0));
    vgg_dataset_free(NULL);
}
END_TEST

/* Memory that gives out after `left` allocations. */
static void *scarce_alloc(void *cookie, size_t size, size_t align)
{
    int *const left = cookie;
    if (*left == 0) return NULL;
    --*left;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void scarce_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

START_TEST(out_of_memory)
{
    int left = 100;
    const vgg_allocator allocator = {&left, scarce_alloc, scarce_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx = NULL;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg_tensor *const images = make_images(ctx);
    const uint64_t before = vgg_context_bytes(ctx);
    vgg_dataset *data = NULL;
    int failures = 0;
    for (left = 0; vgg_dataset_from_arrays(ctx, images, labels, 5, &data) != VGG_OK;
         left = ++failures) {
        ck_assert_ptr_null(data);
        ck_assert_uint_eq(vgg_context_bytes(ctx), before);
        ck_assert_int_lt(failures, 20);
    }
    ck_assert_int_ge(failures, 3);
    vgg_dataset_free(data);
    ck_assert_uint_eq(vgg_context_bytes(ctx), before);
    vgg_tensor_free(images);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("dataset");
    TCase *const tcase = tcase_create("dataset");
    tcase_add_test(tcase, arrays);
    tcase_add_test(tcase, wrong_arrays);
    tcase_add_test(tcase, sources);
    tcase_add_test(tcase, sources_that_say_why);
    tcase_add_test(tcase, named_classes);
    tcase_add_test(tcase, wrong_sources);
    tcase_add_test(tcase, null_arguments);
    tcase_add_test(tcase, out_of_memory);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
