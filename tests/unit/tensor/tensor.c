/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: zeros, wrapped memory, views that outlive what they were made of, counting
 * from many threads, and everything that is refused. */
#include "harness.h"

#include <pthread.h>
#include <string.h>
#include <vgg/tensor.h>

static const vgg_shape images = {4, {6, 3, 4, 5}}; /* [n][c][h][w] */

static vgg_context *small_context(uint64_t max_bytes)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = max_bytes;
    opts.threads = 1;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

START_TEST(created)
{
    vgg_context *ctx = small_context(0);
    vgg_shape shape = images;
    shape.dim[6] = 77; /* ignored, and not kept */
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_create(ctx, VGG_F64, &shape, &tensor));
    vgg_context_free(ctx); /* the tensor keeps it */
    ck_assert_int_eq(vgg_tensor_dtype(tensor), VGG_F64);
    ck_assert_uint_eq(vgg_tensor_shape(tensor)->rank, 4);
    ck_assert_mem_eq(vgg_tensor_shape(tensor)->dim, images.dim, sizeof images.dim);
    ck_assert_uint_eq(vgg_tensor_bytes(tensor), 6 * 3 * 4 * 5 * 8);
    const double *data = vgg_tensor_data_const(tensor);
    ck_assert_ptr_eq(data, vgg_tensor_data(tensor));
    ck_assert_uint_eq((uintptr_t)data % 64, 0);
    for (int i = 0; i < 360; i++) ck_assert(data[i] == 0.0);
    vgg_tensor_free(tensor);
}
END_TEST

START_TEST(scalars_and_empty)
{
    const vgg_shape scalar = {0, {0}}, empty = {2, {0, 5}};
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_create(NULL, VGG_I64, &scalar, &tensor));
    ck_assert_uint_eq(vgg_tensor_bytes(tensor), 8);
    vgg_tensor *view;
    ck_fails_with(vgg_tensor_view(tensor, 0, 0, &view), VGG_EINVAL, "scalar");
    ck_assert_ptr_null(view);
    vgg_tensor_free(tensor);
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &empty, &tensor));
    ck_assert_uint_eq(vgg_tensor_bytes(tensor), 0);
    ck_assert_ptr_nonnull(vgg_tensor_data(tensor));
    ck_ok(vgg_tensor_view(tensor, 0, 0, &view));
    vgg_tensor_free(view);
    ck_fails(vgg_tensor_view(tensor, 0, 1, &view), VGG_EINVAL);
    vgg_tensor_free(tensor);
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
}
END_TEST

static void count_release(void *cookie)
{
    ++*(int *)cookie;
}

START_TEST(wrapped)
{
    static float data[360];
    int released = 0;
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &images, data, count_release, &released,
                          &tensor));
    ck_assert_ptr_eq(vgg_tensor_data(tensor), data);
    ck_assert_ptr_eq(vgg_tensor_ref(tensor), tensor);
    vgg_tensor *view;
    ck_ok(vgg_tensor_view(tensor, 1, 2, &view));
    vgg_tensor_free(tensor);
    vgg_tensor_free(tensor);
    ck_assert_int_eq(released, 0); /* the view holds it */
    vgg_tensor_free(view);
    ck_assert_int_eq(released, 1);
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &images, data, NULL, NULL, &tensor));
    vgg_tensor_free(tensor);
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
}
END_TEST

START_TEST(views)
{
    vgg_context *ctx = small_context(0);
    vgg_tensor *tensor, *view, *inner;
    ck_ok(vgg_tensor_create(ctx, VGG_U8, &images, &tensor));
    uint8_t *data = vgg_tensor_data(tensor);
    for (int i = 0; i < 360; i++) data[i] = (uint8_t)i;
    ck_ok(vgg_tensor_view(tensor, 2, 3, &view));
    ck_assert_ptr_eq(vgg_tensor_data(view), data + 2 * 60);
    ck_assert_uint_eq(vgg_tensor_bytes(view), 180);
    ck_assert_uint_eq(vgg_tensor_shape(view)->dim[0], 3);
    ck_assert_uint_eq(vgg_tensor_shape(view)->dim[3], 5);
    ck_ok(vgg_tensor_view(view, 1, 2, &inner)); /* a view of a view */
    ck_assert_ptr_eq(vgg_tensor_data(inner), data + 3 * 60);
    vgg_tensor_free(tensor);
    const uint64_t held = vgg_context_bytes(ctx);
    vgg_tensor_free(view); /* goes at once: the inner one holds the tensor, not it */
    ck_assert_uint_lt(vgg_context_bytes(ctx), held);
    const uint8_t *rows = vgg_tensor_data(inner); /* memory is still there */
    for (int i = 0; i < 120; i++) ck_assert_uint_eq(rows[i], (uint8_t)(180 + i));
    vgg_tensor_free(inner);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}
END_TEST

START_TEST(view_bounds)
{
    static const struct {
        uint32_t first, count;
        int fits;
    } rows[] = {
        {0, 6, 1},
        {5, 1, 1},
        {6, 0, 1},
        {0, 0, 1},
        {0, 7, 0},
        {6, 1, 0},
        {7, 0, 0},
        {1, 6, 0},
        {UINT32_MAX, 1, 0},
        {1, UINT32_MAX, 0},
        {3, UINT32_MAX - 2, 0},
    };
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_create(NULL, VGG_F32, &images, &tensor));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        vgg_tensor *view = tensor;
        if (rows[i].fits) {
            ck_ok(vgg_tensor_view(tensor, rows[i].first, rows[i].count, &view));
            ck_assert_uint_eq(vgg_tensor_bytes(view), rows[i].count * 240);
        } else {
            ck_fails_with(vgg_tensor_view(tensor, rows[i].first, rows[i].count, &view),
                          VGG_EINVAL, "the tensor has 6");
            ck_assert_ptr_null(view);
        }
        vgg_tensor_free(view);
    }
    vgg_tensor_free(tensor);
}
END_TEST

START_TEST(refused)
{
    static float data[360];
    int released = 0;
    const vgg_shape wide = {8, {0}}, huge = {2, {1u << 31, 1u << 31}},
                    over = {3, {1u << 31, 1u << 31, 2}};
    vgg_tensor *tensor = (vgg_tensor *)data;
    ck_fails(vgg_tensor_create(NULL, VGG_F32, NULL, &tensor), VGG_EINVAL);
    ck_assert_ptr_null(tensor);
    ck_fails(vgg_tensor_create(NULL, VGG_F32, &images, NULL), VGG_EINVAL);
    ck_fails_with(vgg_tensor_create(NULL, (vgg_dtype)9, &images, &tensor), VGG_EINVAL,
                  "no vgg_dtype is 9");
    ck_fails(vgg_tensor_create(NULL, VGG_F32, &wide, &tensor), VGG_EINVAL);
    ck_fails(vgg_tensor_create(NULL, VGG_U8, &over, &tensor), VGG_ELIMIT);
    ck_fails_with(vgg_tensor_create(NULL, VGG_F64, &huge, &tensor), VGG_ELIMIT,
                  "2147483648x2147483648 of f64");
    ck_fails(vgg_tensor_create(NULL, VGG_U8, &huge, &tensor), VGG_ENOMEM);
    ck_fails_with(vgg_tensor_wrap(NULL, VGG_F32, &images, NULL, NULL, NULL, &tensor),
                  VGG_EINVAL, "data");
    tensor = (vgg_tensor *)data;
    ck_fails_with(vgg_tensor_wrap(NULL, VGG_F32, &images, (char *)data + 2,
                                  count_release, &released, &tensor),
                  VGG_EINVAL, "aligned to 4");
    ck_assert_ptr_null(tensor);
    ck_fails(
        vgg_tensor_wrap(NULL, VGG_F32, &over, data, count_release, &released, &tensor),
        VGG_ELIMIT);
    ck_fails(vgg_tensor_view(NULL, 0, 1, &tensor), VGG_EINVAL);
    ck_assert_int_eq(released, 0);
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
}
END_TEST

START_TEST(null_is_nothing)
{
    vgg_tensor_free(NULL);
    ck_assert_ptr_null(vgg_tensor_ref(NULL));
    ck_assert_ptr_null(vgg_tensor_shape(NULL));
    ck_assert_ptr_null(vgg_tensor_data(NULL));
    ck_assert_ptr_null(vgg_tensor_data_const(NULL));
    ck_assert_uint_eq(vgg_tensor_bytes(NULL), 0);
}
END_TEST

/* Every cap below what a tensor and its view need: refused, nothing held. */
START_TEST(out_of_memory)
{
    int refusals = 0, released = 0;
    static float data[360];
    for (uint64_t cap = 1;; cap += 16) {
        vgg_context *ctx = small_context(cap);
        vgg_tensor *tensor = NULL, *view = NULL, *third = NULL;
        vgg_status status = vgg_tensor_create(ctx, VGG_F32, &images, &tensor);
        if (status == VGG_OK) status = vgg_tensor_view(tensor, 0, 2, &view);
        if (status == VGG_OK)
            status = vgg_tensor_wrap(ctx, VGG_F32, &images, data, count_release,
                                     &released, &third);
        vgg_tensor_free(tensor);
        vgg_tensor_free(view);
        vgg_tensor_free(third);
        ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
        vgg_context_free(ctx);
        if (status == VGG_OK) break;
        ck_assert_int_eq(status, VGG_ENOMEM);
        ck_assert_int_eq(released, 0);
        refusals++;
    }
    ck_assert_int_gt(refusals, 90);
    ck_assert_int_eq(released, 1);
}
END_TEST

static void *ref_and_free(void *arg)
{
    vgg_tensor *tensor = arg;
    for (int i = 0; i < 10000; i++) {
        vgg_tensor *view;
        vgg_tensor_ref(tensor);
        ck_ok(vgg_tensor_view(tensor, 1, 1, &view));
        vgg_tensor_free(tensor);
        vgg_tensor_free(view);
    }
    vgg_tensor_free(tensor); /* the thread's own reference */
    return NULL;
}

START_TEST(counted_from_many_threads)
{
    static float data[360];
    int released = 0;
    vgg_tensor *tensor;
    ck_ok(vgg_tensor_wrap(NULL, VGG_F32, &images, data, count_release, &released,
                          &tensor));
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, ref_and_free, vgg_tensor_ref(tensor)), 0);
    vgg_tensor_free(tensor);
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    ck_assert_int_eq(released, 1);
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tensor/tensor");
    TCase *tcase = tcase_create("tensor");
    tcase_add_test(tcase, created);
    tcase_add_test(tcase, scalars_and_empty);
    tcase_add_test(tcase, wrapped);
    tcase_add_test(tcase, views);
    tcase_add_test(tcase, view_bounds);
    tcase_add_test(tcase, refused);
    tcase_add_test(tcase, null_is_nothing);
    tcase_add_test(tcase, out_of_memory);
    tcase_add_test(tcase, counted_from_many_threads);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
